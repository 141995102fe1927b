//! `adu-export cancel`

use super::ExitCode;
use super::follow::JobArgs;
use crate::intake::Wish;

/// Asks the daemons to end the job. With `--wait`, a job that was cancelled is
/// a success; one that ended otherwise, before or meanwhile, was not cancelled.
///
/// # Errors
/// When the configuration or the broker is not usable.
pub async fn run(args: &JobArgs) -> anyhow::Result<ExitCode> {
    args.ask(&Wish::Cancel(args.job.clone()), args.job.clone()).await
}
