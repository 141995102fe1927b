//! `adu-export retry`

use clap::Args;

use super::ExitCode;
use super::follow::{self, Asked, WaitArgs};
use super::input::ConfigArgs;
use crate::message::JobId;

/// Arguments of `retry`.
#[derive(Clone, Debug, Args)]
pub struct RetryArgs {
    /// The configuration: broker and prefix.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The finished job whose failed tables are exported again, as job JOB.rN
    #[arg(value_name = "JOB")]
    pub job: JobId,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Asks the daemons to export again what failed.
///
/// # Errors
/// When the configuration or the broker is not usable.
pub async fn run(args: &RetryArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    let asked = Asked {
        body: serde_json::to_vec(&serde_json::json!({"retry": args.job}))?,
        message_id: uuid::Uuid::new_v4().to_string(),
        job: args.job.retry(args.job.retry_number() + 1),
    };
    follow::send(&config.broker, &asked, &args.wait, args.json).await
}
