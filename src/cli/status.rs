//! `adu-export status`: reads the export folder; no daemon is asked.

use clap::Args;

use super::input::ConfigArgs;
use crate::message::JobId;
use crate::message::pattern::TablePattern;

/// Arguments of `status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// The configuration: the export folder.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Only this job
    #[arg(value_name = "JOB")]
    pub job: Option<JobId>,
    /// Show it again and again until the job ends
    #[arg(long)]
    pub watch: bool,
    /// Print the directory of the newest full export of a table
    #[arg(long, value_name = "TABLE", conflicts_with_all = ["job", "watch"])]
    pub latest: Option<TablePattern>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
