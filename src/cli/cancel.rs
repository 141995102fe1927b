//! `adu-export cancel`

use super::ExitCode;
use super::follow::JobArgs;

/// Asks the daemons to end the job. With `--wait`, a job that was cancelled is
/// a success.
///
/// # Errors
/// When the configuration or the broker is not usable.
pub async fn run(args: &JobArgs) -> anyhow::Result<ExitCode> {
    let code = args.ask("cancel", args.job.clone()).await?;
    Ok(if code == ExitCode::Cancelled { ExitCode::Done } else { code })
}
