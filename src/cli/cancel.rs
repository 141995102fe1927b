//! `adu-export cancel`

use super::ExitCode;
use super::follow::{About, JobArgs};

/// Asks the daemons to end the job. With `--wait`, a job that was cancelled is
/// a success; one that ended otherwise, before or meanwhile, was not cancelled.
///
/// # Errors
/// When the configuration or the broker is not usable.
pub async fn run(args: &JobArgs) -> anyhow::Result<ExitCode> {
    args.ask(About::Cancel).await
}
