//! `adu-export retry`

use clap::Args;

use super::ExitCode;
use super::input::ConfigArgs;
use super::submit::{WaitArgs, send};
use crate::message::JobId;

/// Arguments of `retry`.
#[derive(Clone, Debug, Args)]
pub struct RetryArgs {
    /// The configuration: broker and prefix.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The finished job whose failed tables are exported again, as job <JOB>.rN
    #[arg(value_name = "JOB")]
    pub job: JobId,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Publishes the retry.
///
/// # Errors
/// When the broker does not take it.
pub async fn run(args: RetryArgs) -> anyhow::Result<ExitCode> {
    let body = serde_json::to_vec(&serde_json::json!({"retry": args.job}))?;
    send(&args.config, &args.wait, args.json, args.job.retry(args.job.retry_number() + 1), body).await
}
