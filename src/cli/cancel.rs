//! `adu-export cancel`

use super::ExitCode;
use super::follow::{About, JobArgs};

/// Asks the daemons to cancel the job. With `--wait`, success means that the job was cancelled; a job that
/// ended in another way, before or meanwhile, is a failure.
///
/// # Errors
/// If the configuration or the broker cannot be used.
pub async fn run(args: &JobArgs) -> anyhow::Result<ExitCode> {
    args.ask(About::Cancel).await
}
