//! What workers leave behind for each chunk: a record, a failure, a start marker.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::TableNo;
use crate::message::event::ErrorReport;
use crate::source::UnfitColumn;
use crate::write::PartFile;

/// `records/eN/<t>/000017.json`: exclusive; names the winning parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of the format.
    pub v: u32,
    /// The process that wrote it.
    pub instance: Uuid,
    /// Its host.
    pub host: String,
    /// One part per table of the batch; tables that failed have a failure instead. A chunk without rows has a file only
    /// if it is the table's first.
    pub parts: Vec<RecordedPart>,
    /// When the work on the winning attempt began.
    pub started_at: Timestamp,
    /// Seconds it took, fsync included.
    pub seconds: f64,
    /// Attempts of this delivery.
    pub attempts: u32,
}

/// A part of one table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedPart {
    /// The table's number.
    pub table: TableNo,
    /// The file.
    #[serde(flatten)]
    pub part: PartFile,
}

/// `records/eN/<t>/000017.fail-<uuid>.json`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Version of the format.
    pub v: u32,
    /// The table of the batch that failed.
    pub table: TableNo,
    /// What follows from it.
    pub cause: Cause,
    /// What people read.
    pub error: ErrorReport,
    /// The process that wrote it.
    pub instance: Uuid,
    /// When.
    pub at: Timestamp,
}

/// Why a table cannot be finished as planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "cause")]
pub enum Cause {
    /// It fails.
    Permanent,
    /// Planned again on the same snapshot, with these columns as text.
    Unfit {
        /// The columns.
        columns: Vec<UnfitColumn>,
    },
    /// Planned again on a new snapshot: the table was changed under the old one.
    Changed,
    /// Planned again on a new snapshot: nobody holds the old one.
    LineageLost,
}

/// `records/eN/<t>/000017.start-<uuid>.json`: written before work on a chunk
/// that may have been begun before, removed by an orderly end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartMarker {
    /// Version of the format.
    pub v: u32,
    /// The process.
    pub instance: Uuid,
    /// The table of the batch.
    pub table: TableNo,
    /// Whether the chunk ran alone in its process.
    pub alone: bool,
    /// When.
    pub at: Timestamp,
}
