//! `adu-export retry`

use super::ExitCode;
use super::follow::{About, JobArgs};

/// Asks the daemons to export the failed tables of a job again.
///
/// # Errors
/// If the configuration or the broker cannot be used.
pub async fn run(args: &JobArgs) -> anyhow::Result<ExitCode> {
    args.ask(About::Retry).await
}
