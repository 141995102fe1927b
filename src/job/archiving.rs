//! Builds the archive of a settled job from its state. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;

use super::archive::{Archive, ArchivedColumn, ArchivedTable, Performance, TableStatus, ThreadingConfig};
use super::timeline::{MOST_CHUNKS, TimedChunk, Timeline, TimelineDaemon};
use crate::folder::VERSION;
use crate::job::decide::final_status;
use crate::job::outcome::{CancelMark, StoredRequest, TableResult};
use crate::job::state::JobState;
use crate::message::pattern::qualified;
use crate::message::setting::FileTypes;
use crate::message::{BatchNo, ChunkNo, Epoch, TableNo};
use crate::plan::ExportPlan;
use crate::plan::export_plan::{FailedTable, PlannedTable, SkippedRelation};
use crate::relation::Column;

/// Rounds to millionths. Such a number survives JSON unchanged, so an event that is rebuilt from the archive
/// equals the first one.
fn rounded(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

/// Begin and end of a piece of work, as seconds since the epoch.
type Interval = (f64, f64);

impl Archive {
    /// The archive of a settled job.
    #[must_use]
    pub fn of(job: &JobState, now: Timestamp) -> Self {
        let stored: &StoredRequest = &job.stored;
        let mut tables = Vec::new();
        let mut intervals: Vec<(BatchNo, Interval)> = Vec::new();
        for (id, batch) in &job.batches {
            let (Some(outcome), Some(plan)) = (&batch.outcome, job.plan(id.epoch)) else { continue };
            let spans: Vec<Interval> = batch
                .records
                .iter()
                .flatten()
                .map(|r| {
                    let start = r.started_at.as_millisecond() as f64 / 1000.0;
                    (start, start + r.seconds)
                })
                .collect();
            intervals.extend(spans.iter().map(|s| (id.batch, *s)));
            let begin = spans.iter().map(|s| s.0).fold(f64::INFINITY, f64::min);
            let end = spans.iter().map(|s| s.1).fold(f64::NEG_INFINITY, f64::max);
            let seconds = if spans.is_empty() { 0.0 } else { rounded((end - begin).max(0.001)) };
            for table in &outcome.tables {
                let Some(planned) = plan.table(table.table) else { continue };
                let end = match &table.result {
                    // A later epoch reports this table, unless the job was cancelled first.
                    TableResult::Abandoned { .. } if job.is_planned_after(id.epoch, table.table) => continue,
                    TableResult::Abandoned { .. } | TableResult::Cancelled => {
                        ArchivedTable::without_rows(plan, planned, TableStatus::Cancelled)
                    }
                    TableResult::Failed { error } => ArchivedTable {
                        error: Some(error.clone()),
                        ..ArchivedTable::without_rows(plan, planned, TableStatus::Failed)
                    },
                    TableResult::Published { directory, files, pages } => {
                        let rows = files.iter().map(|f| f.rows).sum();
                        ArchivedTable {
                            rows,
                            export_time_seconds: seconds,
                            throughput_rows_per_second: if seconds > 0.0 {
                                rounded(rows as f64 / seconds)
                            } else {
                                0.0
                            },
                            directory: Some(directory.clone()),
                            files: files.clone(),
                            pages: *pages,
                            ..ArchivedTable::without_rows(plan, planned, TableStatus::Completed)
                        }
                    }
                };
                tables.push((table.table, end));
            }
        }
        for plan in &job.plans {
            let unplanned = |f: &FailedTable| (f.number, ArchivedTable::unplanned(plan.epoch(), f));
            tables.extend(plan.failed().iter().map(unplanned));
        }
        tables.sort_by_key(|(number, _)| *number);
        let places = tables.iter().zip(0..).map(|((number, _), place)| (*number, place)).collect();
        let tables: Vec<ArchivedTable> = tables.into_iter().map(|(_, t)| t).collect();
        let skipped = skipped(job, &tables);
        Archive {
            v: VERSION,
            job_id: stored.job.clone(),
            status: final_status(job),
            performance: performance(stored.received_at, now, &tables, &intervals),
            tables,
            source: stored.source.clone(),
            received_at: stored.received_at,
            committed_at: now,
            snapshots: job.plans.iter().filter_map(|p| p.snapshot().map(|s| (s.lineage, s.time))).collect(),
            epochs: u32::try_from(job.plans.len()).unwrap_or(u32::MAX),
            request: stored.request.clone(),
            body_sha256: stored.body_sha256.clone(),
            caller: stored.caller.clone(),
            labels: stored.request.labels.clone(),
            retry_of: stored.retry_of.clone(),
            skipped,
            timeline: timeline(job, &places),
            error: job
                .cancel
                .as_ref()
                .map(CancelMark::report)
                .or_else(|| job.plans.iter().find_map(|p| p.error().cloned())),
        }
    }
}

/// Which daemon exported each chunk, and when. `places` has the place of each table in the archive.
fn timeline(job: &JobState, places: &HashMap<TableNo, u32>) -> Timeline {
    let received = job.stored.received_at.as_millisecond();
    let mut line = Timeline::default();
    for (id, batch) in &job.batches {
        let Some(table) = batch.tables.iter().find_map(|table| places.get(table)) else { continue };
        for (record, chunk) in batch.records.iter().zip((0..).map(ChunkNo)) {
            let Some(record) = record else { continue };
            let daemon = TimelineDaemon { host: record.host.clone(), instance: record.instance };
            let since = record.started_at.as_millisecond().saturating_sub(received);
            let chunk = TimedChunk {
                table: *table,
                epoch: id.epoch,
                chunk,
                daemon: line.place(daemon),
                start: u64::try_from(since).unwrap_or(0),
                // A duration becomes a whole number: negative and endless ones do not occur.
                duration: (record.seconds * 1e3).round() as u64,
            };
            line.chunks.push(chunk);
        }
    }
    line.bound(MOST_CHUNKS);
    line
}

/// The relations that were left out. Where plans differ, the last plan that names a relation is right. A
/// relation that was left out as a child of another table may have been exported on its own since.
fn skipped(job: &JobState, tables: &[ArchivedTable]) -> Vec<SkippedRelation> {
    let exported: HashSet<&str> = tables.iter().map(|t| t.table_name.as_str()).collect();
    let mut told: HashSet<&str> = HashSet::new();
    let mut skipped = Vec::new();
    for plan in job.plans.iter().rev() {
        let new = plan.skipped().iter().filter(|s| !told.contains(s.table.as_str()));
        let apart = new.filter(|s| s.within.is_empty() || !exported.contains(s.table.as_str()));
        skipped.splice(0..0, apart.cloned());
        told.extend(plan.skipped().iter().map(|s| s.table.as_str()));
    }
    skipped
}

impl ArchivedTable {
    /// A table of a plan, without what its export has brought.
    fn without_rows(plan: &ExportPlan, planned: &PlannedTable, status: TableStatus) -> Self {
        let column = |c: &Column| ArchivedColumn {
            name: c.name.clone(),
            source_type: c.source_type.clone(),
            file_type: c.ty.data_type().to_string(),
            note: c.note.clone(),
        };
        Self {
            table_name: qualified(&planned.schema, &planned.name),
            status,
            rows: 0,
            chunks: planned.strategy.chunks(),
            export_time_seconds: 0.0,
            throughput_rows_per_second: 0.0,
            directory: None,
            strategy: planned.strategy.name().into(),
            strategy_reason: Some(planned.reason.clone()),
            base: Some(planned.base.clone()),
            output_directory: planned.directory.clone(),
            full: planned.full,
            snapshot_time: plan.snapshot.as_ref().map(|s| s.time),
            lineage: plan.snapshot.as_ref().map(|s| s.lineage),
            epoch: plan.epoch,
            files: Vec::new(),
            pages: None,
            columns: planned.columns.iter().map(column).collect(),
            partition_by: planned.partition_by.clone(),
            types: plan.writer.types,
            high_water_mark: planned.high_water_mark.clone(),
            note: planned.note.clone(),
            contains: planned.contains.clone(),
            error: None,
        }
    }

    /// A table that could not be planned.
    fn unplanned(epoch: Epoch, failed: &FailedTable) -> Self {
        Self {
            table_name: failed.table.clone(),
            status: TableStatus::Failed,
            rows: 0,
            chunks: 0,
            export_time_seconds: 0.0,
            throughput_rows_per_second: 0.0,
            directory: None,
            strategy: "none".into(),
            strategy_reason: None,
            base: None,
            output_directory: None,
            full: false,
            snapshot_time: None,
            lineage: None,
            epoch,
            files: Vec::new(),
            pages: None,
            columns: Vec::new(),
            partition_by: Vec::new(),
            types: FileTypes::default(),
            high_water_mark: None,
            note: None,
            contains: Vec::new(),
            error: Some(failed.error.clone()),
        }
    }
}

fn performance(
    received: Timestamp,
    now: Timestamp,
    tables: &[ArchivedTable],
    intervals: &[(BatchNo, Interval)],
) -> Performance {
    let seconds = (now.as_millisecond() - received.as_millisecond()).max(1) as f64 / 1000.0;
    let done = || tables.iter().filter(|t| t.status == TableStatus::Completed);
    let rows: u64 = done().map(|t| t.rows).sum();
    let mut by_table: BTreeMap<BatchNo, Vec<Interval>> = BTreeMap::new();
    for (table, interval) in intervals {
        by_table.entry(*table).or_default().push(*interval);
    }
    let hull = |spans: &Vec<Interval>| {
        spans.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |h, s| (h.0.min(s.0), h.1.max(s.1)))
    };
    Performance {
        total_duration_seconds: seconds,
        tables_processed: u32::try_from(done().count()).unwrap_or(u32::MAX),
        total_rows_exported: rows,
        total_bytes: done().flat_map(|t| &t.files).map(|f| f.bytes).sum(),
        rows_per_second: rounded(rows as f64 / seconds),
        threading_config: ThreadingConfig {
            table_threads: peak(by_table.values().map(hull)),
            chunk_workers: by_table.values().map(|v| peak(v.iter().copied())).max().unwrap_or(0),
            total_parallel_operations: peak(intervals.iter().map(|(_, i)| *i)),
        },
    }
}

/// How many intervals overlap at most.
fn peak(intervals: impl Iterator<Item = Interval>) -> u32 {
    let mut edges: Vec<(f64, i32)> = intervals.flat_map(|(a, b)| [(a, 1), (b, -1)]).collect();
    edges.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut now = 0;
    let mut most = 0;
    for (_, step) in edges {
        now += step;
        most = most.max(now);
    }
    u32::try_from(most).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touching_intervals_do_not_overlap() {
        assert_eq!(peak([(0.0, 1.0), (1.0, 2.0), (0.5, 1.5)].into_iter()), 2);
        assert_eq!(peak(std::iter::empty()), 0);
    }
}
