//! `adu-export cancel`

use clap::Args;

use super::ExitCode;
use super::input::ConfigArgs;
use super::submit::{WaitArgs, send};
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

/// Publishes the cancel.
///
/// # Errors
/// When the broker does not take it.
pub async fn run(args: CancelArgs) -> anyhow::Result<ExitCode> {
    let body = serde_json::to_vec(&serde_json::json!({"cancel": args.job}))?;
    send(&args.config, &args.wait, args.json, args.job.clone(), body).await
}
