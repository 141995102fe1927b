//! Translates jobs from the folder for progress display and summary.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::progress::{TableProgress, TableState};
use super::summary::Summary;
use crate::job::archive::{Archive, ArchivedTable, TableStatus};
use crate::job::outcome::TableResult;
use crate::job::state::JobState;
use crate::message::pattern::qualified;
use crate::message::{BatchId, ChunkNo, TableNo, Task};

/// The tables of a running job. `live` has the rows and bytes of the chunks that this process works on.
#[must_use]
pub fn tables(job: &JobState, live: &[(Task, u64, u64)]) -> Vec<TableProgress> {
    let running: HashMap<(BatchId, ChunkNo), (u64, u64)> = live
        .iter()
        .filter_map(|(task, rows, bytes)| match task {
            Task::Chunk(c) if c.job == *job.id() => Some(((c.batch_id(), c.chunk), (*rows, *bytes))),
            Task::Chunk(_) | Task::Plan(_) => None,
        })
        .collect();
    // A later epoch replaces the entry of an earlier one.
    let mut tables: BTreeMap<TableNo, TableProgress> = BTreeMap::new();
    for (id, batch) in &job.batches {
        let Some(plan) = job.plan(id.epoch) else { continue };
        let results: HashMap<TableNo, &TableResult> =
            batch.outcome.iter().flat_map(|o| &o.tables).map(|t| (t.table, &t.result)).collect();
        for planned in batch.tables.iter().filter_map(|t| plan.table(*t)) {
            let parts = batch.records.iter().flatten().filter_map(|r| r.of(planned.number));
            let (rows, bytes) = parts.fold((0, 0), |(r, b), t| (r + t.rows(), b + t.bytes()));
            let chunks = u32::try_from(batch.records.len()).unwrap_or(u32::MAX);
            let chunks_done = chunks.saturating_sub(batch.missing);
            let mut table = TableProgress {
                table: qualified(&planned.schema, &planned.name),
                state: if chunks_done > 0 { TableState::Running } else { TableState::Waiting },
                rows,
                estimated_rows: planned.estimated_rows,
                bytes,
                chunks_done,
                chunks,
            };
            for chunk in (0..chunks).map(ChunkNo).filter(|c| batch.is_unfinished(*c)) {
                if let Some((rows, bytes)) = running.get(&(*id, chunk)) {
                    table.state = TableState::Running;
                    // The live figures of a batch belong to no single table.
                    if batch.tables.len() == 1 {
                        table.rows += rows;
                        table.bytes += bytes;
                    }
                }
            }
            match results.get(&planned.number) {
                Some(TableResult::Published { .. }) => table.state = TableState::Done,
                Some(TableResult::Failed { .. }) => table.state = TableState::Failed,
                Some(TableResult::Cancelled) => table.state = TableState::Cancelled,
                Some(TableResult::Abandoned { .. }) => {
                    table = TableProgress {
                        state: TableState::Waiting,
                        rows: 0,
                        bytes: 0,
                        chunks_done: 0,
                        ..table
                    };
                }
                None => {}
            }
            tables.insert(planned.number, table);
        }
    }
    tables.into_values().collect()
}

impl Summary {
    /// The summary of an archive.
    #[must_use]
    pub fn of_archive(archive: &Archive) -> Self {
        let told = archive.tables.iter().filter(|t| t.status != TableStatus::Cancelled);
        Self {
            job: archive.job_id.to_string(),
            status: archive.status.as_str().into(),
            duration: Duration::try_from_secs_f64(archive.performance.total_duration_seconds).ok(),
            tables: told.map(ArchivedTable::report).collect(),
            skipped: archive.skipped.iter().map(|s| (s.table.clone(), s.reason.clone())).collect(),
            error: archive.error.clone(),
            truncated: false,
        }
    }
}
