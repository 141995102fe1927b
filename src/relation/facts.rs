//! What a source reports about its relations, for planning.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::{Column, Extent, Frozen};
use crate::message::pattern::TablePattern;
use crate::message::request::OnUnfit;
use crate::message::setting::{ArrayMode, FileTypes, InfinityMode, NumericMode, ReadWay};

/// What a survey looks for.
#[derive(Clone, Debug, Default)]
pub struct SurveyRequest {
    /// Patterns and names. A relation that matches several is reported once.
    pub tables: Vec<TablePattern>,
    /// Schemas that requests may name; empty: all schemas that the role may read.
    pub schemas: Vec<String>,
    /// Names of columns that tables may be split by, besides their primary keys. The survey reads statistics
    /// for these columns and for primary keys only.
    pub statistics_for: Vec<String>,
    /// The ways in which the tables are to be read. The survey asks only what decides about these.
    pub ways: Vec<ReadWay>,
}

/// What kind of relation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationKind {
    /// A plain table (also unlogged, inherited).
    Table,
    /// The root of a partitioned table.
    Partitioned,
    /// A partition, leaf or inner node: reported only when the request names it literally.
    Partition,
    /// A materialized view.
    MaterializedView,
    /// A view: reported only when the request names it literally.
    View,
    /// A foreign table: reported only when the request names it literally.
    Foreign,
}

/// Facts of one relation, all from the catalogue.
#[derive(Clone, Debug)]
pub struct Relation {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// What kind of relation it is.
    pub kind: RelationKind,
    /// Why the role may not read all of it; none if the role may.
    pub unreadable: Option<Unreadable>,
    /// Why this server cannot read the relation, or perhaps cannot, although the role may: some rows, or a
    /// table that a view reads, exist on the primary only.
    pub elsewhere: Option<Unreadable>,
    /// Why the export contains only a part of the rows, although the relation is readable; none if it
    /// contains all.
    pub partial: Option<String>,
    /// Tables that inherit from this one, directly or not, as `schema.table`. A query of this table also
    /// returns their rows. Partitions are not listed.
    pub contains: Vec<String>,
    /// The same relation without the rows of tables that inherit from it, if there are such tables.
    pub alone: Option<Box<Relation>>,
    /// Whether the relation can have rows of its own. Partitioned tables and views cannot.
    pub has_own_rows: bool,
    /// Whether the relation is a foreign table, has a foreign partition or child, or is a view that reads a
    /// foreign table. Rows of foreign tables do not follow a snapshot, so only a single scan is consistent.
    pub foreign: bool,
    /// Estimated number of rows; none without statistics.
    pub estimated_rows: Option<u64>,
    /// Bytes of the table, including values that are stored out of line.
    pub bytes: u64,
    /// Bytes of its pages only.
    pub heap_bytes: u64,
    /// Whether the table has grown so much since its statistics were taken that they do not describe it.
    pub outdated: bool,
    /// What the source numbers of it, so that chunks can be ranges of these numbers; none if it has no such
    /// numbers for this relation, or too few.
    pub extent: Option<Extent>,
    /// Columns of the primary key, in order.
    pub primary_key: Vec<String>,
    /// Columns of the relation, in order.
    pub columns: Vec<SurveyColumn>,
    /// What else the source knows about it, if it splits its tables itself.
    pub own: Option<Facts>,
    /// What decides how it is read, if the source has several ways for tables that it does not split itself.
    pub ways: Option<Facts>,
}

impl Relation {
    /// The facts that apply when the relation is read with or without the rows of tables that inherit from
    /// it.
    #[must_use]
    pub fn read(&self, only: bool) -> &Self {
        self.alone.as_deref().filter(|_| only).unwrap_or(self)
    }
}

/// Why a relation cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The obstacle, e.g. "no SELECT right".
    pub why: String,
    /// What would remove the obstacle.
    pub remedy: String,
}

/// Facts of one column.
#[derive(Clone, Debug)]
pub struct SurveyColumn {
    /// The mapping of the column without any option.
    pub column: Column,
    /// Whether the role may read the column.
    pub readable: bool,
    /// What else the source knows about the column's type.
    pub facts: Facts,
    /// Approximate bytes of a value in the table.
    pub width: u64,
    /// How bounds of a range are compared with the column's values; none if it cannot be a chunk column.
    pub order: Option<Frozen>,
    /// Whether the values can be sorted, so that a request can ask for newer ones.
    pub ordered: bool,
    /// Whether equal values have one text, which is the value: text, integers, dates, booleans, enums, uuids.
    pub canonical: bool,
    /// Whether the column is a number (integer or numeric).
    pub numeric: bool,
    /// Correlation of the physical order with the order of the column; none without statistics.
    pub correlation: Option<f32>,
    /// Number of bounds of the column's histogram in the statistics.
    pub histogram_bounds: u32,
    /// Whether an index begins with this column, so that reading a range of it reads nothing else.
    pub indexed: bool,
    /// Why indexes on this column and bounds of partitions cannot be trusted: nobody knows whether they have
    /// the column's values in the current order. `order` is then another order, and `indexed` is false.
    pub doubt: Option<String>,
    /// Share of rows, 0 to 1, that have one of the most common values of the statistics. The histogram does
    /// not contain these values.
    pub common_share: f32,
}

/// Facts about a type or a relation that only the source that found them understands. It uses them to map a
/// column differently, to compare its values, or to split the relation.
#[derive(Clone)]
pub struct Facts(Arc<dyn Any + Send + Sync>);

impl Facts {
    /// Wraps facts of any type.
    #[must_use]
    pub fn of<T: Any + Send + Sync>(facts: T) -> Self {
        Self(Arc::new(facts))
    }

    /// The facts, if they have this type.
    #[must_use]
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Facts")
    }
}

/// Options that change how a column is mapped.
#[derive(Clone, Debug, Default)]
pub struct MappingOptions<'a> {
    /// For numeric columns without precision.
    pub numeric: Option<NumericMode>,
    /// For infinite dates and timestamps.
    pub infinity: InfinityMode,
    /// For arrays of more than one dimension.
    pub arrays: ArrayMode,
    /// Which types files may have. Portable types override `numeric` and `infinity`.
    pub types: FileTypes,
    /// Text columns to export as bytes.
    pub as_bytes: &'a [String],
    /// What becomes of values that do not fit.
    pub on_unfit: OnUnfit,
    /// Columns whose type is changed because a value did not fit, with the reason.
    pub as_text: Vec<UnfitColumn>,
}

/// A column with a value that does not fit its planned type.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct UnfitColumn {
    /// The column.
    pub column: String,
    /// Why the value does not fit; never the value itself.
    pub reason: String,
    /// How many dimensions the value has, if it is an array and they are the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<u8>,
    /// The first row with such a value: its key, or its position in the chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
}

impl fmt::Debug for UnfitColumn {
    /// Leaves out the row, because it is table data and this text goes into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnfitColumn")
            .field("column", &self.column)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl UnfitColumn {
    /// The reason, with the row if it is known.
    #[must_use]
    pub fn because(&self) -> String {
        match &self.row {
            Some(row) => format!("{}, first at {row}", self.reason),
            None => self.reason.clone(),
        }
    }
}
