//! `adu-export retry`

use super::ExitCode;
use super::follow::{About, JobArgs};

/// Asks the daemons to export again what failed.
///
/// # Errors
/// When the configuration or the broker is not usable.
pub async fn run(args: &JobArgs) -> anyhow::Result<ExitCode> {
    args.ask(About::Retry).await
}
