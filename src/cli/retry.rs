//! `adu-export retry`

use clap::Args;

use super::input::ConfigArgs;
use super::submit::WaitArgs;
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
