//! `adu-export cancel`

use clap::Args;

use super::ExitCode;
use super::follow::{self, Asked, WaitArgs};
use super::input::ConfigArgs;
use crate::message::JobId;

/// Arguments of `cancel`.
#[derive(Clone, Debug, Args)]
pub struct CancelArgs {
    /// The configuration: broker and prefix.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The job
    #[arg(value_name = "JOB")]
    pub job: JobId,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Asks the daemons to end the job. With `--wait`, a job that was cancelled is
/// a success.
///
/// # Errors
/// When the configuration or the broker is not usable.
pub async fn run(args: &CancelArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    let asked = Asked {
        body: serde_json::to_vec(&serde_json::json!({"cancel": args.job}))?,
        message_id: uuid::Uuid::new_v4().to_string(),
        job: args.job.clone(),
    };
    let code = follow::send(&config.broker, &asked, &args.wait, args.json).await?;
    Ok(if code == ExitCode::Cancelled { ExitCode::Done } else { code })
}
