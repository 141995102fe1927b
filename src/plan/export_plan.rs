//! The plan of one epoch of a job, as stored in `plans/eN.json`: everything that workers and coordinators
//! need to know, and nothing that changes.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::event::ErrorReport;
use crate::message::output::PARTITIONS_MAX;
use crate::message::request::{OnConflict, OnUnfit, OutputDirectory, Verify};
use crate::message::setting::{Compression, FileTypes, ReadWay, text_or_empty};
use crate::message::{BatchNo, Epoch, JobId, SourceName, TableNo};
use crate::relation::pieces::MostChunks;
use crate::relation::{Column, Frozen, Slice, Snapshot, Strategy};

/// `plans/eN.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExportPlan {
    /// Version of the format.
    pub v: u32,
    /// The job.
    pub job: JobId,
    /// 1 for the first plan.
    pub epoch: Epoch,
    /// The source.
    pub source: SourceName,
    /// When the plan was made.
    pub planned_at: Timestamp,
    /// Names the `ready` directory of this epoch.
    pub ready: Uuid,
    /// Identity of the destination; none for the root of the export folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Uuid>,
    /// W3C trace context of the request. Workers do not read the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The snapshot that all chunks of the plan read; none for an export without a snapshot.
    pub snapshot: Option<Snapshot>,
    /// Session settings of every chunk, in order.
    pub session: Vec<(String, String)>,
    /// How files are written.
    pub writer: WriterSettings,
    /// What to do when a name is taken.
    pub on_conflict: OnConflict,
    /// What to do with values that do not fit.
    pub on_unfit: OnUnfit,
    /// Whether to count the rows of tables.
    pub verify: Verify,
    /// How many chunks the server lets the role run at once, over all jobs; none without such a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_chunks: Option<MostChunks>,
    /// The tables of this epoch, by number.
    pub tables: Vec<PlannedTable>,
    /// Why no table at all could be planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorReport>,
    /// Named tables that cannot be exported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedTable>,
    /// Relations that patterns matched but that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedRelation>,
}

/// How Parquet files are written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WriterSettings {
    /// Compression of pages.
    pub compression: Compression,
    /// Encoded bytes after which a row group is closed.
    pub row_group_bytes: u64,
    /// Bytes at which a part is followed by the next one; none for one part per chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<NonZeroU64>,
    /// Largest number of partitions of a table that is partitioned.
    #[serde(default = "partitions_max", skip_serializing_if = "is_usual")]
    pub partitions_max: u32,
    /// Types and encodings of the files. The columns say which type each of them has.
    #[serde(default, skip_serializing_if = "FileTypes::is_exact")]
    pub types: FileTypes,
}

fn partitions_max() -> u32 {
    PARTITIONS_MAX
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_usual(partitions: &u32) -> bool {
    *partitions == PARTITIONS_MAX
}

/// One table of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedTable {
    /// Number of the table in the first plan of the job. The number never changes.
    pub number: TableNo,
    /// Number of the first table of its batch. A table alone in its batch has its own number here.
    pub batch: BatchNo,
    /// Schema in the source.
    pub schema: String,
    /// Name in the source.
    pub name: String,
    /// Base name of the table's directory.
    pub base: String,
    /// Output directory; none for the destination's root.
    #[serde(default, with = "text_or_empty")]
    pub directory: Option<OutputDirectory>,
    /// Whether the export has every row and column of the table, so that it may become `.latest`.
    pub full: bool,
    /// Whether to leave out the rows of tables that inherit from it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only: bool,
    /// Tables that inherit from it and whose rows the export contains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contains: Vec<String>,
    /// The columns, in the order of the files.
    pub columns: Vec<Column>,
    /// Columns that files do not have: the directories of the files are named after their values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition_by: Vec<String>,
    /// Names of the primary key columns, for reports about rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// The filter, checked and printed by the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Frozen>,
    /// The filter for range chunks, if it differs. It is used when the filter compares the chunk column and
    /// rows where that column is NULL have a chunk of their own. This shorter filter lets an index find the
    /// rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range_filter: Option<Frozen>,
    /// Highest value of the column of `after`, under the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_water_mark: Option<String>,
    /// How the table is split.
    pub strategy: Strategy,
    /// Why the table is split like this.
    pub reason: String,
    /// How its rows are read, if its source has several ways.
    #[serde(default, skip_serializing_if = "ReadWay::is_auto")]
    pub read: ReadWay,
    /// What the owner of the table should know about the exported rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Estimated rows, from statistics.
    pub estimated_rows: u64,
    /// Rows counted under the snapshot, if the request asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_rows: Option<u64>,
    /// Rows that the snapshot showed while the table was planned, if the source can lose rows of a snapshot
    /// without an error. Exported rows of another number are not published: the table is planned again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_rows: Option<u64>,
}

/// A named table that cannot be exported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailedTable {
    /// Number of the table in the job.
    pub number: TableNo,
    /// The name in the request.
    pub table: String,
    /// Why.
    pub error: ErrorReport,
}

/// A relation that a pattern matched and that is left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SkippedRelation {
    /// `schema.table`.
    pub table: String,
    /// Why the relation is left out.
    pub reason: String,
    /// Exported tables whose rows include the rows of this relation, because it inherits from them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<String>,
}

impl PlannedTable {
    /// The filter for a chunk that holds this slice.
    #[must_use]
    pub fn filter_of(&self, slice: Slice<'_>) -> Option<&Frozen> {
        let ranges = self.range_filter.as_ref().filter(|_| slice.order().is_some());
        ranges.or(self.filter.as_ref())
    }
}

impl ExportPlan {
    /// The table with this number.
    #[must_use]
    pub fn table(&self, number: TableNo) -> Option<&PlannedTable> {
        self.tables.binary_search_by_key(&number, |t| t.number).ok().map(|i| &self.tables[i])
    }

    /// The tables grouped by batch. Tables of a batch are exported, recorded and published together.
    #[must_use]
    pub fn batches(&self) -> BTreeMap<BatchNo, Vec<&PlannedTable>> {
        let mut batches: BTreeMap<BatchNo, Vec<&PlannedTable>> = BTreeMap::new();
        for table in &self.tables {
            batches.entry(table.batch).or_default().push(table);
        }
        batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relation::ColumnType;

    /// One table of a plan as earlier releases wrote it, before plans had `reading`.
    const BEFORE: &str = r#"{
        "number": 3, "batch": 3, "schema": "public", "name": "orders", "base": "public_orders", "directory": "",
        "full": false,
        "columns": [
            {"name": "id", "source_type": "bigint", "fetch": "native", "type": "int64", "nullable": false},
            {"name": "n", "source_type": "numeric", "fetch": "as_text", "type": "text", "nullable": true},
            {"name": "d", "source_type": "date", "fetch": "native", "type": "date", "nullable": true, "infinity": "max"},
            {"name": "l", "source_type": "numeric[]", "fetch": "native", "type": {"list": "numeric_text"}, "nullable": true}
        ],
        "key": ["id"],
        "filter": "\"id\" > 5",
        "strategy": {"kind": "range", "column": "id", "cast": "bigint", "bounds": ["10"], "nulls": false},
        "reason": "why", "estimated_rows": 20
    }"#;

    #[test]
    fn tables_of_plans_of_before_are_still_read() {
        let table: PlannedTable = serde_json::from_str(BEFORE).expect("an old table");
        let list = ColumnType::List(Box::new(ColumnType::Text));
        let types: Vec<&ColumnType> = table.columns.iter().map(|c| &c.ty).collect();
        assert_eq!(types, [&ColumnType::Int64, &ColumnType::Text, &ColumnType::Date, &list]);
        assert_eq!(table.filter, Some(Frozen::of(&"\"id\" > 5")));
        let bigint = Frozen::of(&"bigint");
        let first = Slice::Range { column: "id", order: &bigint, from: None, to: Some("10") };
        assert_eq!(table.strategy.slice(0), Some(first));
        let again = serde_json::to_string(&table).expect("JSON");
        assert_eq!(serde_json::from_str::<PlannedTable>(&again).expect("a table"), table);
    }
}
