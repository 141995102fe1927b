//! `adu-export verify`

use std::path::PathBuf;

use clap::Args;

use super::input::ConfigArgs;
use crate::message::JobId;

/// Arguments of `verify`.
#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    /// The configuration: export folder and sources.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The job
    #[arg(value_name = "JOB")]
    pub job: JobId,
    /// Export folder, without a configuration file
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub root: Option<PathBuf>,
    /// Count the rows of the source too; it may have changed since
    #[arg(long, conflicts_with = "root")]
    pub against_source: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
