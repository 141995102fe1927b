//! The files that workers write for each chunk: a record, a failure, a start marker.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::event::{ErrorReport, PagesRead};
use crate::message::{ChunkNo, TableNo};
use crate::relation::UnfitColumn;

/// `records/eN/<t>/000017.json`: exclusive; names the winning parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of the format.
    pub v: u32,
    /// The process that wrote it.
    pub instance: Uuid,
    /// Host of the process.
    pub host: String,
    /// The parts of each table of the batch. A failed table has a failure file instead.
    #[serde(rename = "parts")]
    pub tables: Vec<RecordedTable>,
    /// When the work on the winning attempt began.
    pub started_at: Timestamp,
    /// Seconds that the attempt took, fsync included.
    pub seconds: f64,
    /// Number of attempts since the task was delivered.
    pub attempts: u32,
}

impl Record {
    /// The entry of one table.
    #[must_use]
    pub fn of(&self, table: TableNo) -> Option<&RecordedTable> {
        self.tables.iter().find(|t| t.table == table)
    }

    /// Whether both records are of one attempt. Only references of parts are compared: a duration that was
    /// read back from JSON may differ in its last digit.
    #[must_use]
    pub fn is_of_attempt(&self, other: &Self) -> bool {
        let references = |record: &Self| -> Vec<PartReference> {
            record.tables.iter().flat_map(|t| &t.parts).map(|part| part.reference.clone()).collect()
        };
        (self.instance, self.started_at) == (other.instance, other.started_at)
            && references(self) == references(other)
    }
}

/// The parts that a chunk gave for one table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "StoredTable")]
pub struct RecordedTable {
    /// The table's number.
    pub table: TableNo,
    /// The parts, in the order of the rows. A chunk without rows has no part, unless it is the first chunk of
    /// its table.
    pub parts: Vec<RecordedPart>,
    /// How many pages were read, if the chunk was read by pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages: Option<PagesRead>,
}

impl RecordedTable {
    /// Rows of all parts.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.parts.iter().map(|part| part.rows).sum()
    }

    /// Bytes of all parts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }
}

/// A part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedPart {
    /// Path below the table's directory.
    pub path: String,
    /// The destination's own name for the part.
    pub reference: PartReference,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// Hash of the whole file, hexadecimal.
    pub sha256: String,
    /// Row groups.
    pub row_groups: u32,
    /// Time that it took to make the part's bytes durable.
    pub fsync_seconds: f64,
}

/// The destination's own name for a part. Nobody else looks into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartReference(String);

impl PartReference {
    /// A reference as its destination wrote it.
    #[must_use]
    pub fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }

    /// The reference of a file in a batch's directory of parts.
    pub(crate) fn of_file(inode: u64, file: &str) -> Self {
        Self(format!("{inode}:{file}"))
    }

    /// The text that its destination wrote.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The parts that a chunk gave for one table, as any release wrote them.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredTable {
    Parts {
        table: TableNo,
        parts: Vec<RecordedPart>,
        #[serde(default)]
        pages: Option<PagesRead>,
    },
    /// One file per chunk. 0 bytes meant that there is no file.
    File {
        table: TableNo,
        file: String,
        inode: u64,
        rows: u64,
        bytes: u64,
        sha256: String,
        row_groups: u32,
        fsync_seconds: f64,
    },
}

/// Path of a chunk's only part below its table's directory.
#[must_use]
pub fn part_path(chunk: ChunkNo) -> String {
    format!("part-{chunk:06}.parquet")
}

/// Path of one of the parts of a chunk below its table's directory. By name, the parts are in their order.
#[must_use]
pub fn numbered_part_path(chunk: ChunkNo, nth: u32) -> String {
    format!("part-{chunk:06}-{nth:04}.parquet")
}

impl TryFrom<StoredTable> for RecordedTable {
    type Error = String;

    fn try_from(stored: StoredTable) -> Result<Self, String> {
        let (table, parts, pages) = match stored {
            StoredTable::Parts { table, parts, pages } => (table, parts, pages),
            StoredTable::File { table, bytes: 0, .. } => (table, Vec::new(), None),
            StoredTable::File { table, file, inode, rows, bytes, sha256, row_groups, fsync_seconds } => {
                let chunk = file.split('.').next().and_then(|chunk| chunk.parse().ok());
                let chunk = chunk.ok_or_else(|| format!("`{file}` is the name of no part"))?;
                let path = part_path(ChunkNo(chunk));
                let reference = PartReference::of_file(inode, &file);
                let part = RecordedPart { path, reference, rows, bytes, sha256, row_groups, fsync_seconds };
                (table, vec![part], None)
            }
        };
        Ok(Self { table, parts, pages })
    }
}

/// `records/eN/<t>/000017.fail-<uuid>.json`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Version of the format.
    pub v: u32,
    /// The table that failed.
    pub table: TableNo,
    /// What follows from the failure.
    pub cause: Cause,
    /// The error as people read it.
    pub error: ErrorReport,
    /// The process that wrote it.
    pub instance: Uuid,
    /// When the table failed.
    pub at: Timestamp,
}

/// Why a table cannot be finished as planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "cause")]
pub enum Cause {
    /// The table fails.
    Permanent,
    /// The table is planned again on the same snapshot, with these columns as text.
    Unfit {
        /// The columns.
        columns: Vec<UnfitColumn>,
    },
    /// The table is planned again on a new snapshot, because it was changed under the old one.
    Changed,
    /// The table is planned again on a new snapshot, because nobody holds the old one.
    LineageLost,
}

/// `records/eN/<t>/000017.start-<uuid>.json`: written before work on a chunk that may have been started
/// before. An orderly end removes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartMarker {
    /// Version of the format.
    pub v: u32,
    /// The process that started the chunk.
    pub instance: Uuid,
    /// The table of the batch.
    pub table: TableNo,
    /// Whether the chunk ran alone in its process.
    pub alone: bool,
    /// When the start happened.
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_is_known_again_whatever_its_durations_were() {
        let part = |nanos| RecordedPart {
            path: "part-000000.parquet".into(),
            reference: PartReference::of_file(5, "f"),
            rows: 1,
            bytes: 1,
            sha256: String::new(),
            row_groups: 1,
            fsync_seconds: std::time::Duration::new(1, nanos).as_secs_f64(),
        };
        let mut changed = 0;
        for nanos in (0..1000).map(|n| n * 999_983) {
            let record = Record {
                v: 2,
                instance: Uuid::nil(),
                host: "h".into(),
                tables: vec![RecordedTable { table: TableNo(0), parts: vec![part(nanos)], pages: None }],
                started_at: Timestamp::UNIX_EPOCH,
                seconds: 1.0,
                attempts: 1,
            };
            let text = serde_json::to_string(&record).expect("JSON");
            let stands: Record = serde_json::from_str(&text).expect("readable");
            assert!(stands.is_of_attempt(&record), "{text}");
            changed += u32::from(stands != record);
            let mut other = record.clone();
            other.tables[0].parts[0].reference = PartReference::of_file(6, "f");
            assert!(!stands.is_of_attempt(&other));
        }
        assert!(changed > 0, "no duration was changed by JSON: this test shows nothing");
    }

    #[test]
    fn a_record_of_one_file_per_table_reads_as_a_list_of_parts() {
        let file = |table, bytes| {
            json!({"table": table, "file": "000017.6f.parquet", "inode": 5, "rows": bytes / 2, "bytes": bytes,
                "sha256": "ab", "row_groups": 1, "fsync_seconds": 0.5})
        };
        let record: Record = serde_json::from_value(json!({
            "v": 1, "instance": Uuid::nil(), "host": "h", "parts": [file(3, 10), file(4, 0)],
            "started_at": "2026-01-01T00:00:00Z", "seconds": 1.0, "attempts": 1,
        }))
        .expect("readable");
        let part = &record.of(TableNo(3)).expect("there").parts[0];
        assert_eq!(
            (part.path.as_str(), part.reference.as_str()),
            ("part-000017.parquet", "5:000017.6f.parquet")
        );
        assert_eq!(record.of(TableNo(4)).expect("there").parts, []);
        let text = serde_json::to_string(&record).expect("JSON");
        assert_eq!(serde_json::from_str::<Record>(&text).expect("readable"), record, "{text}");
    }
}
