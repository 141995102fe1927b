//! Key-value metadata of every Parquet file: where its rows come from.

use jiff::Timestamp;
use parquet::file::metadata::KeyValue;
use uuid::Uuid;

use crate::message::{JobId, SourceName};
use crate::plan::column::Column;

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

impl Provenance {
    /// The key-value metadata of a file with these columns.
    #[must_use]
    pub fn key_values(&self, columns: &[Column]) -> Vec<KeyValue> {
        let types: serde_json::Map<String, serde_json::Value> =
            columns.iter().map(|c| (c.name.clone(), c.source_type.clone().into())).collect();
        let pair = |key: &str, value: String| KeyValue::new(format!("adu.{key}"), value);
        let mut pairs = vec![
            pair("job", self.job.to_string()),
            pair("source", self.source.to_string()),
            pair("table", self.table.clone()),
            pair("epoch", self.epoch.to_string()),
            pair("chunk", self.chunk.to_string()),
            pair("predicate", self.predicate.clone()),
            pair("source_types", serde_json::Value::Object(types).to_string()),
        ];
        if let Some((time, lineage)) = &self.snapshot {
            pairs.push(pair("snapshot_time", time.to_string()));
            pairs.push(pair("lineage", lineage.to_string()));
        }
        pairs
    }
}
