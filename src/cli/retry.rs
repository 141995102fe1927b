//! `adu-export retry`

use super::ExitCode;
use super::follow::JobArgs;
use crate::intake::Wish;

/// Asks the daemons to export again what failed.
///
/// # Errors
/// When the configuration or the broker is not usable.
pub async fn run(args: &JobArgs) -> anyhow::Result<ExitCode> {
    args.ask(&Wish::Retry(args.job.clone()), args.job.retry(args.job.retry_number() + 1)).await
}
