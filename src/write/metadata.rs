//! Key-value metadata of every Parquet file: where its rows come from.

use jiff::Timestamp;
use uuid::Uuid;

use crate::message::{JobId, SourceName};

/// Where a file's rows come from.
#[derive(Clone, Debug)]
pub struct Provenance {
    /// The job.
    pub job: JobId,
    /// The source.
    pub source: SourceName,
    /// `schema.table`.
    pub table: String,
    /// Epoch of the plan.
    pub epoch: u32,
    /// Chunk within the table.
    pub chunk: u32,
    /// The chunk's predicate; a filter only as `filtered`, never its literals.
    pub predicate: String,
    /// The instant its snapshot shows, and its lineage.
    pub snapshot: Option<(Timestamp, Uuid)>,
}
