//! `adu-export cancel`

use clap::Args;

use super::input::ConfigArgs;
use super::submit::WaitArgs;
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
