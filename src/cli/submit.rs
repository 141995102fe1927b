//! `adu-export submit`: sends a request and, with `--wait`, waits for the end of its job.

use std::num::NonZeroU64;

use clap::Args;

use super::ExitCode;
use super::follow::{self, Asked, WaitArgs};
use super::input::{ConfigArgs, Overrides, TableArgs};
use crate::message::request::OutputDirectory;
use crate::message::setting::{Compression, FileTypes};
use crate::message::{JobId, SourceName};

/// Arguments of `submit`.
#[derive(Clone, Debug, Args)]
pub struct SubmitArgs {
    /// The configuration: broker and prefix.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The tables.
    #[command(flatten)]
    pub tables: TableArgs,
    /// Source to read [default: the only one]
    #[arg(long, value_name = "NAME")]
    pub source: Option<SourceName>,
    /// Id of the job: the same request with the same id does not run twice
    #[arg(long, value_name = "ID")]
    pub job_id: Option<JobId>,
    /// Directory below the export folder
    #[arg(long, value_name = "DIR", value_parser = OutputDirectory::parse)]
    pub directory: Option<OutputDirectory>,
    /// snappy, zstd, zstd:1 to zstd:22, lz4, gzip or none
    #[arg(long, value_name = "C")]
    pub compression: Option<Compression>,
    /// Bytes at which a file is followed by the next one, at least 1048576
    #[arg(long, value_name = "N")]
    pub file_bytes: Option<NonZeroU64>,
    /// Column that files leave out, with a directory for each value (region=EU); may be repeated
    #[arg(long, value_name = "COLUMN")]
    pub partition_by: Vec<String>,
    /// exact, or portable: only types and encodings that every reader supports
    #[arg(long, value_name = "T")]
    pub types: Option<FileTypes>,
    /// Count the rows of every table in the same snapshot and compare
    #[arg(long)]
    pub verify: bool,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
    /// Print the final event (without --wait: the job id) as JSON
    #[arg(long)]
    pub json: bool,
}

impl SubmitArgs {
    /// The options that override the request file.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides {
            job: self.job_id.clone(),
            source: self.source.clone(),
            directory: self.directory.clone(),
            compression: self.compression,
            file_bytes: self.file_bytes,
            partition_by: self.partition_by.clone(),
            types: self.types,
            verify: self.verify,
            ..Overrides::default()
        }
    }
}

/// Sends the request.
///
/// # Errors
/// If the request, the configuration or the broker cannot be used.
pub async fn run(args: &SubmitArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    let mut request = args.tables.request(&args.overrides())?;
    // A request with an id can be sent again without running twice.
    let job = request.job_id.clone().unwrap_or_else(|| JobId::from_message_id(None, uuid::Uuid::new_v4()));
    request.job_id = Some(job.clone());
    let body = serde_json::to_vec(&request)?;
    let asked = Asked { body, message_id: job.to_string(), job };
    follow::send(&config.broker, &asked, &args.wait, args.json).await
}
