//! The archive of a job: its commit point (primitive 3) and whole metadata.
//! When `.archive/by-id/<id>.json` stands, what is left is to finish: the link
//! that people look for, the final event, the workspace to the trash.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::decide::final_status;
use super::outcome::{CancelMark, FinishedFile, StoredRequest, TableResult};
use super::state::JobState;
use crate::folder::VERSION;
use crate::message::event::{ErrorReport, EventType};
use crate::message::request::ExportRequest;
use crate::message::{JobId, SourceName};
use crate::plan::export_plan::{PlannedTable, SkippedRelation};

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Every table is there.
    Completed,
    /// Some tables are there.
    Partial,
    /// No table is there.
    Failed,
    /// Ended by a request or a limit.
    Cancelled,
}

impl Status {
    /// The final event that tells it.
    #[must_use]
    pub fn event(self) -> EventType {
        match self {
            Self::Completed => EventType::JobCompleted,
            Self::Partial => EventType::JobPartial,
            Self::Failed => EventType::JobFailed,
            Self::Cancelled => EventType::JobCancelled,
        }
    }

    /// The status as text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.event().words().1
    }
}

/// `.archive/by-id/<id>.json`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Archive {
    /// Version of the format.
    pub v: u32,
    /// The job.
    pub job_id: JobId,
    /// How it ended.
    pub status: Status,
    /// Figures of the whole job.
    pub performance: Performance,
    /// The tables, failed ones too.
    pub tables: Vec<ArchivedTable>,
    /// The source.
    pub source: SourceName,
    /// When the request was stored.
    pub received_at: Timestamp,
    /// When this archive was written.
    pub committed_at: Timestamp,
    /// The snapshots that were read, by lineage.
    pub snapshots: BTreeMap<Uuid, Timestamp>,
    /// Epochs that were planned.
    pub epochs: u32,
    /// The parsed request.
    pub request: ExportRequest,
    /// SHA-256 of the request's body.
    pub body_sha256: String,
    /// `message_id` of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Queue that the final event is also sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// The caller's correlation id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Who asked, as the broker validated it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Labels of the request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The job whose failed tables this one exported again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<JobId>,
    /// Relations that patterns matched and that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedRelation>,
    /// Why the job as a whole failed or was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorReport>,
}

/// Figures of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Performance {
    /// From the stored request to the commit.
    pub total_duration_seconds: f64,
    /// Tables in place.
    pub tables_processed: u32,
    /// Their rows.
    pub total_rows_exported: u64,
    /// Their bytes.
    pub total_bytes: u64,
    /// Rows by duration.
    pub rows_per_second: f64,
    /// What ran at once.
    pub threading_config: ThreadingConfig,
}

/// What ran at once, as measured from the records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadingConfig {
    /// Most tables at once.
    pub table_threads: u32,
    /// Most chunks of one table at once.
    pub chunk_workers: u32,
    /// Most chunks at once.
    pub total_parallel_operations: u32,
}

/// One table of an archive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ArchivedTable {
    /// `schema.table`
    pub table_name: String,
    /// How it ended.
    pub status: TableStatus,
    /// Rows exported.
    pub rows: u64,
    /// Chunks it was split into.
    pub chunks: u32,
    /// From its first chunk's start to its last one's end.
    pub export_time_seconds: f64,
    /// Rows by that time.
    pub throughput_rows_per_second: f64,
    /// Directory below the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// How it was split.
    pub strategy: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub strategy_reason: String,
    /// Base name that belongs to the table.
    pub base: String,
    /// Output directory that the table's directory is in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output_directory: String,
    /// Every row and column was exported.
    pub full: bool,
    /// The instant its rows show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_time: Option<Timestamp>,
    /// The lineage of that snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Uuid>,
    /// The epoch whose plan it came from.
    pub epoch: u32,
    /// Its files in key order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FinishedFile>,
    /// Its columns: exact source type, type in the files, notes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<ArchivedColumn>,
    /// Maximum of the `after` column under the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_water_mark: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorReport>,
}

/// How a table ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TableStatus {
    /// It is in place.
    Completed,
    /// It failed.
    Failed,
    /// The job was cancelled before.
    Cancelled,
}

/// The mapping of a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ArchivedColumn {
    /// Its name.
    pub name: String,
    /// The type in the source.
    pub source_type: String,
    /// The type in the files (Arrow).
    pub file_type: String,
    /// Why it is not what its type suggests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Begin and end of a piece of work, as seconds since the epoch.
type Interval = (f64, f64);

/// The archive of a settled job.
#[must_use]
pub fn archive(job: &JobState, now: Timestamp) -> Archive {
    let stored: &StoredRequest = &job.stored;
    let mut tables = Vec::new();
    let mut intervals: Vec<(u32, Interval)> = Vec::new();
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
        intervals.extend(spans.iter().map(|s| (id.first, *s)));
        let begin = spans.iter().map(|s| s.0).fold(f64::INFINITY, f64::min);
        let end = spans.iter().map(|s| s.1).fold(f64::NEG_INFINITY, f64::max);
        let seconds = if spans.is_empty() { 0.0 } else { (end - begin).max(0.001) };
        for table in &outcome.tables {
            let Some(planned) = plan.table(table.table) else { continue };
            let mut archived = of_planned(planned);
            archived.epoch = id.epoch;
            archived.snapshot_time = plan.snapshot.as_ref().map(|s| s.time);
            archived.lineage = plan.snapshot.as_ref().map(|s| s.lineage);
            match &table.result {
                // A later epoch reports it, unless the cancel came first.
                TableResult::Abandoned { .. } if is_planned_later(job, id.epoch, table.table) => continue,
                TableResult::Abandoned { .. } | TableResult::Cancelled => {
                    archived.status = TableStatus::Cancelled;
                }
                TableResult::Failed { error } => {
                    archived.status = TableStatus::Failed;
                    archived.error = Some(error.clone());
                }
                TableResult::Published { directory, files } => {
                    archived.rows = files.iter().map(|f| f.rows).sum();
                    archived.export_time_seconds = seconds;
                    archived.throughput_rows_per_second =
                        if seconds > 0.0 { archived.rows as f64 / seconds } else { 0.0 };
                    archived.directory = Some(directory.clone());
                    archived.files.clone_from(files);
                }
            }
            tables.push((table.table, archived));
        }
    }
    for plan in &job.plans {
        tables.extend(plan.failed.iter().map(|f| {
            let mut archived = blank(&f.table);
            archived.status = TableStatus::Failed;
            archived.error = Some(f.error.clone());
            archived.epoch = plan.epoch;
            (f.number, archived)
        }));
    }
    tables.sort_by_key(|(number, _)| *number);
    let tables: Vec<ArchivedTable> = tables.into_iter().map(|(_, t)| t).collect();
    Archive {
        v: VERSION,
        job_id: stored.job.clone(),
        status: final_status(job),
        performance: performance(stored.received_at, now, &tables, &intervals),
        tables,
        source: stored.source.clone(),
        received_at: stored.received_at,
        committed_at: now,
        snapshots: job
            .plans
            .iter()
            .filter_map(|p| p.snapshot.as_ref().map(|s| (s.lineage, s.time)))
            .collect(),
        epochs: u32::try_from(job.plans.len()).unwrap_or(u32::MAX),
        request: stored.request.clone(),
        body_sha256: stored.body_sha256.clone(),
        message_id: stored.message_id.clone(),
        reply_to: stored.reply_to.clone(),
        correlation_id: stored.correlation_id.clone(),
        traceparent: stored.traceparent.clone(),
        user_id: stored.user_id.clone(),
        labels: stored.request.labels.clone(),
        retry_of: stored.retry_of.clone(),
        skipped: job.plans.iter().flat_map(|p| p.skipped.iter().cloned()).collect(),
        error: job
            .cancel
            .as_ref()
            .map(CancelMark::report)
            .or_else(|| job.plans.iter().find_map(|p| p.error.clone())),
    }
}

fn is_planned_later(job: &JobState, epoch: u32, table: u32) -> bool {
    job.plans
        .iter()
        .skip(epoch as usize)
        .any(|p| p.table(table).is_some() || p.failed.iter().any(|f| f.number == table))
}

fn blank(name: &str) -> ArchivedTable {
    ArchivedTable {
        table_name: name.into(),
        status: TableStatus::Completed,
        rows: 0,
        chunks: 0,
        export_time_seconds: 0.0,
        throughput_rows_per_second: 0.0,
        directory: None,
        strategy: "none".into(),
        strategy_reason: String::new(),
        base: String::new(),
        output_directory: String::new(),
        full: false,
        snapshot_time: None,
        lineage: None,
        epoch: 0,
        files: Vec::new(),
        columns: Vec::new(),
        high_water_mark: None,
        error: None,
    }
}

fn of_planned(planned: &PlannedTable) -> ArchivedTable {
    ArchivedTable {
        chunks: planned.strategy.chunks(),
        strategy: planned.strategy.name().into(),
        strategy_reason: planned.reason.clone(),
        base: planned.base.clone(),
        output_directory: planned.directory.clone(),
        full: planned.full,
        high_water_mark: planned.high_water_mark.clone(),
        columns: planned
            .columns
            .iter()
            .map(|c| ArchivedColumn {
                name: c.name.clone(),
                source_type: c.source_type.clone(),
                file_type: c.ty.data_type().to_string(),
                note: c.note.clone(),
            })
            .collect(),
        ..blank(&crate::message::pattern::qualified(&planned.schema, &planned.name))
    }
}

fn performance(
    received: Timestamp,
    now: Timestamp,
    tables: &[ArchivedTable],
    intervals: &[(u32, Interval)],
) -> Performance {
    let seconds = (now.as_millisecond() - received.as_millisecond()).max(1) as f64 / 1000.0;
    let done = || tables.iter().filter(|t| t.status == TableStatus::Completed);
    let rows: u64 = done().map(|t| t.rows).sum();
    let mut by_table: BTreeMap<u32, Vec<Interval>> = BTreeMap::new();
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
        rows_per_second: rows as f64 / seconds,
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
