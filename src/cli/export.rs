//! `adu-export export`: the same intake, coordinator and worker as the
//! daemon's, over an in-process bus.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::input::{Overrides, SourceArgs, TableArgs};
use super::progress::{ProgressDisplay, TableProgress, TableState};
use super::summary::Summary;
use super::{ExitCode, Usage};
use crate::config::Auto;
use crate::job::outcome::TableResult;
use crate::message::Task;
use crate::message::pattern::qualified;
use crate::message::setting::Compression;
use crate::one_shot::{self, Frame};

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

/// Runs the export, showing how far it is.
///
/// # Errors
/// When it cannot start. What failed in it is in the summary and the exit code.
pub async fn run(args: ExportArgs) -> anyhow::Result<ExitCode> {
    let (mut config, source) = args.source.load(&args.out)?;
    if let Some(workers) = args.workers {
        config.export.workers = Auto::Exactly(workers);
    }
    let request = args.tables.request(&args.overrides()).map_err(|e| Usage(format!("{e:#}")))?;
    let source = match (&request.source, source) {
        (Some(named), _) if config.sources.contains_key(named) => named.clone(),
        (Some(named), None) => {
            return Err(Usage(format!("there is no source `{named}` in the configuration")).into());
        }
        (_, Some(only)) => only,
        (None, None) => {
            return Err(Usage("several sources are configured: name one with --source".into()).into());
        }
    };
    let mut display = ProgressDisplay::on_stderr(args.quiet);
    let archive =
        one_shot::run(config, source, request, |frame| display.update(&tables(&frame), frame.elapsed)).await;
    display.finish();
    let archive = archive?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&archive)?);
    }
    if !args.quiet {
        eprint!("{}", Summary::of_archive(&archive));
    }
    Ok(ExitCode::of(archive.status.event()).unwrap_or(ExitCode::Failed))
}

/// Every table of the newest plan that has it.
fn tables(frame: &Frame<'_>) -> Vec<TableProgress> {
    let job = frame.job;
    let mut shown = std::collections::BTreeMap::new();
    for (id, batch) in &job.batches {
        let Some(plan) = job.plan(id.epoch) else { continue };
        let running: Vec<&(Task, u64, u64)> = frame
            .running
            .iter()
            .filter(|(task, ..)| matches!(task, Task::Chunk(t) if t.epoch == id.epoch && t.table == id.first))
            .collect();
        for (i, number) in batch.tables.iter().enumerate() {
            let Some(table) = plan.table(*number) else { continue };
            let parts =
                || batch.records.iter().flatten().flat_map(|r| &r.parts).filter(|p| p.table == *number);
            let mut rows: u64 = parts().map(|p| p.part.rows).sum();
            let mut bytes: u64 = parts().map(|p| p.part.bytes).sum();
            // What runs for a batch of small tables counts for its first one.
            if i == 0 {
                rows += running.iter().map(|r| r.1).sum::<u64>();
                bytes += running.iter().map(|r| r.2).sum::<u64>();
            }
            let result = batch
                .outcome
                .as_ref()
                .and_then(|o| o.tables.iter().find(|t| t.table == *number))
                .map(|t| &t.result);
            let state = match result {
                Some(TableResult::Published { .. }) => TableState::Done,
                Some(TableResult::Failed { .. }) => TableState::Failed,
                Some(TableResult::Cancelled) => TableState::Cancelled,
                Some(TableResult::Abandoned { .. }) => TableState::Waiting,
                None if running.is_empty() && rows == 0 => TableState::Waiting,
                None => TableState::Running,
            };
            let chunks = table.strategy.chunks();
            let progress = TableProgress {
                table: qualified(&table.schema, &table.name),
                state,
                rows,
                estimated_rows: table.estimated_rows,
                bytes,
                chunks_done: chunks - batch.missing.min(chunks),
                chunks,
            };
            shown.insert(*number, progress);
        }
    }
    shown.into_values().collect()
}
