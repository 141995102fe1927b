//! `adu-export export`: the same intake, coordinator and worker as the
//! daemon's, over an in-process bus.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;

use super::input::{Overrides, SourceArgs, TableArgs};
use crate::message::setting::Compression;

/// Arguments of `export`.
#[derive(Clone, Debug, Args)]
pub struct ExportArgs {
    /// What is read.
    #[command(flatten)]
    pub source: SourceArgs,
    /// The tables.
    #[command(flatten)]
    pub tables: TableArgs,
    /// Export folder: made if it is missing; a run that was killed is resumed
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// snappy, zstd, zstd:1 to zstd:22, lz4, gzip or none
    #[arg(long, value_name = "C")]
    pub compression: Option<Compression>,
    /// Chunks, and so connections, at once
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroU32>,
    /// Count the rows of every table under the same snapshot
    #[arg(long)]
    pub verify: bool,
    /// Print the archive of the job as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// No progress, only what went wrong
    #[arg(long, short)]
    pub quiet: bool,
}

impl ExportArgs {
    /// What overrides the request's file.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides {
            source: self.source.source.clone(),
            compression: self.compression,
            workers: self.workers,
            verify: self.verify,
            ..Overrides::default()
        }
    }
}
