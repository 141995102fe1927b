//! The archive of a job: its commit point (primitive 3) and all of its metadata. `job::archiving` builds it.
//! Once `.archive/by-id/<id>.json` exists, only three steps are left: the link under the dated name, the
//! final event, and the workspace to the trash.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::outcome::FinishedFile;
use super::timeline::Timeline;
use crate::folder::layout;
use crate::message::event::{ErrorReport, EventType, MAX_CONTAINED, PagesRead, TableReport};
use crate::message::request::{ExportRequest, OutputDirectory};
use crate::message::setting::{FileTypes, text_or_empty};
use crate::message::{Caller, Epoch, JobId, SourceName};
use crate::plan::export_plan::SkippedRelation;

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Every table is exported.
    Completed,
    /// Some tables are exported, others failed.
    Partial,
    /// No table is exported.
    Failed,
    /// A request or a limit ended the job.
    Cancelled,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Completed, Self::Partial, Self::Failed, Self::Cancelled];

    /// The final event of a job that ended like this.
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
    /// How the job ended.
    pub status: Status,
    /// Figures of the whole job.
    pub performance: Performance,
    /// The tables, also those that failed.
    pub tables: Vec<ArchivedTable>,
    /// The source.
    pub source: SourceName,
    /// When the request was stored.
    pub received_at: Timestamp,
    /// When this archive was written.
    pub committed_at: Timestamp,
    /// The times of the snapshots that were read, by lineage.
    pub snapshots: BTreeMap<Uuid, Timestamp>,
    /// Number of epochs that were planned.
    pub epochs: u32,
    /// The parsed request.
    pub request: ExportRequest,
    /// SHA-256 of the request's body.
    pub body_sha256: String,
    /// Who asked, and where the answer goes.
    #[serde(flatten)]
    pub caller: Caller,
    /// Labels of the request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The job whose failed tables this job exported again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<JobId>,
    /// Relations that patterns matched and that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedRelation>,
    /// Why the job as a whole failed or was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorReport>,
    /// Which daemon exported each chunk, and when. Older releases did not keep it.
    #[serde(default, skip_serializing_if = "Timeline::is_empty")]
    pub timeline: Timeline,
}

/// Figures of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Performance {
    /// Seconds from the storing of the request to the commit of the job.
    pub total_duration_seconds: f64,
    /// Number of exported tables.
    pub tables_processed: u32,
    /// Rows of the exported tables.
    pub total_rows_exported: u64,
    /// Bytes of the exported tables' files.
    pub total_bytes: u64,
    /// Rows divided by the duration.
    pub rows_per_second: f64,
    /// What ran at once.
    pub threading_config: ThreadingConfig,
}

/// What ran at once, as measured from the records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadingConfig {
    /// Largest number of tables at once.
    pub table_threads: u32,
    /// Largest number of chunks of one table at once.
    pub chunk_workers: u32,
    /// Largest number of chunks at once.
    pub total_parallel_operations: u32,
}

/// One table of an archive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ArchivedTable {
    /// `schema.table`
    pub table_name: String,
    /// How the table ended.
    pub status: TableStatus,
    /// Rows exported.
    pub rows: u64,
    /// Number of chunks that the table was split into.
    pub chunks: u32,
    /// Seconds from the start of the table's first chunk to the end of its last one.
    pub export_time_seconds: f64,
    /// Rows divided by `export_time_seconds`.
    pub throughput_rows_per_second: f64,
    /// Directory of the table, relative to the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// How the table was split.
    pub strategy: String,
    /// Why the table was split like this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub strategy_reason: Option<String>,
    /// Base name that belongs to the table.
    #[serde(with = "text_or_empty")]
    #[schemars(with = "String")]
    pub base: Option<String>,
    /// Output directory that the table's directory is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub output_directory: Option<OutputDirectory>,
    /// Whether every row and column was exported.
    pub full: bool,
    /// The time of the snapshot: the rows are those that were committed then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_time: Option<Timestamp>,
    /// Lineage of the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Uuid>,
    /// Epoch of the plan that the table was exported by.
    pub epoch: Epoch,
    /// Files of the table, in key order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FinishedFile>,
    /// How many pages were read, if it was read by pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages: Option<PagesRead>,
    /// Columns of the table: exact source type, type in the files, notes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<ArchivedColumn>,
    /// Columns that the files leave out: the directories of the files are named after their values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition_by: Vec<String>,
    /// Which types and encodings the files have.
    #[serde(default, skip_serializing_if = "FileTypes::is_exact")]
    pub types: FileTypes,
    /// Largest value of the `after` column in the same snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_water_mark: Option<String>,
    /// A remark about the rows that the table has or lacks, if this may surprise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Tables that inherit from this one and whose rows are included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contains: Vec<String>,
    /// Why the table failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorReport>,
}

impl Archive {
    /// Path of the archive, relative to the root.
    #[must_use]
    pub fn path(&self) -> String {
        layout::archive_by_id(&self.job_id)
    }
}

impl ArchivedTable {
    /// The table as events and summaries report it.
    #[must_use]
    pub fn report(&self) -> TableReport {
        let completed = self.status == TableStatus::Completed;
        TableReport {
            table: self.table_name.clone(),
            directory: self.directory.clone(),
            rows: self.rows,
            bytes: self.files.iter().map(|f| f.bytes).sum(),
            files: u32::try_from(self.files.len()).unwrap_or(u32::MAX),
            seconds: completed.then_some(self.export_time_seconds),
            strategy: completed.then(|| self.strategy.clone()),
            pages: self.pages,
            high_water_mark: self.high_water_mark.clone(),
            note: self.note.clone(),
            contains: self.contains.iter().take(MAX_CONTAINED).cloned().collect(),
            notes: self.columns.iter().filter_map(|c| Some((c.name.clone(), c.note.clone()?))).collect(),
            error: self.error.clone(),
        }
    }
}

/// How a table ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TableStatus {
    /// The table is exported and at its final place.
    Completed,
    /// The table failed.
    Failed,
    /// The job was cancelled before the table was complete.
    Cancelled,
}

/// The mapping of a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ArchivedColumn {
    /// Name of the column.
    pub name: String,
    /// The type in the source.
    pub source_type: String,
    /// The type in the files (Arrow).
    pub file_type: String,
    /// Why the type in the files is not the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}
