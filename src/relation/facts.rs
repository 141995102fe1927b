//! What a source tells of its relations, for planning.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::{Column, Frozen};
use crate::message::pattern::TablePattern;
use crate::message::setting::{FileTypes, InfinityMode, NumericMode};

/// What a survey looks for.
#[derive(Clone, Debug, Default)]
pub struct SurveyRequest {
    /// Patterns and names; a relation that matches any is reported once.
    pub tables: Vec<TablePattern>,
    /// Schemas that requests may name; empty: all that the role may read.
    pub schemas: Vec<String>,
    /// Names of columns that tables may be split by besides their primary
    /// keys: statistics are read for these and for keys only.
    pub statistics_for: Vec<String>,
}

/// What kind of relation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationKind {
    /// A plain table (also unlogged, inherited).
    Table,
    /// The root of a partitioned table.
    Partitioned,
    /// A leaf or inner node of one: reported only when named literally.
    Partition,
    /// A materialized view.
    MaterializedView,
    /// A view: reported only when named literally.
    View,
    /// A foreign table: reported only when named literally.
    Foreign,
}

/// Facts of one relation, all from the catalogue.
#[derive(Clone, Debug)]
pub struct Relation {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// What it is.
    pub kind: RelationKind,
    /// Why the role may not read all of it; none if it may.
    pub unreadable: Option<Unreadable>,
    /// Why the server that is asked cannot read it although it is a table as any other, or may not be able to: some rows of
    /// it, or a table that a view names, are on its primary only.
    pub elsewhere: Option<Unreadable>,
    /// Why only a part of its rows is exported, although it is read whole; none if all are.
    pub partial: Option<String>,
    /// Tables that inherit from it, directly or not, as `schema.table`: its rows are theirs too. Partitions are none.
    pub contains: Vec<String>,
    /// The same relation without the rows of those, if there are such.
    pub alone: Option<Box<Relation>>,
    /// Whether rows can be its own: not of a partitioned table, nor of a view.
    pub has_own_rows: bool,
    /// Whether it is a foreign table, or one of its partitions or children is, or a view that reads one: these do
    /// not follow a snapshot, and only one scan of them is one moment.
    pub foreign: bool,
    /// Estimated rows; none without statistics.
    pub estimated_rows: Option<u64>,
    /// Bytes of the table with what is stored out of line.
    pub bytes: u64,
    /// Bytes of its pages alone.
    pub heap_bytes: u64,
    /// Whether it has grown so much since its statistics were taken that they say little of it.
    pub outdated: bool,
    /// Pages of its heap now; 0 if page ranges cannot be used on it
    /// (server before 14, not a heap, partitioned, a view).
    pub pages: u32,
    /// Columns of the primary key, in order.
    pub primary_key: Vec<String>,
    /// Its columns, in order.
    pub columns: Vec<SurveyColumn>,
}

impl Relation {
    /// As it is read with or without the rows of tables that inherit from it.
    #[must_use]
    pub fn read(&self, only: bool) -> &Self {
        self.alone.as_deref().filter(|_| only).unwrap_or(self)
    }
}

/// Why a relation may not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// What is in the way, e.g. "no SELECT right".
    pub why: String,
    /// What would help.
    pub remedy: String,
}

/// Facts of one column.
#[derive(Clone, Debug)]
pub struct SurveyColumn {
    /// Its mapping, without any option applied.
    pub column: Column,
    /// Whether the role may read it.
    pub readable: bool,
    /// What the source knows of its type besides.
    pub facts: Facts,
    /// Bytes that a value takes in the table, roughly.
    pub width: u64,
    /// How bounds of a range are compared with its values; none: it cannot be a chunk column.
    pub order: Option<Frozen>,
    /// Whether its values have an order, in which one can be asked for what is newer.
    pub ordered: bool,
    /// Whether the key is a number (integer or numeric).
    pub numeric: bool,
    /// Correlation of the physical order with the column's; none without statistics.
    pub correlation: Option<f32>,
    /// Whether the statistics have a histogram of it, with how many bounds.
    pub histogram_bounds: u32,
    /// Whether an index begins with it, so that a range of it is read alone.
    pub indexed: bool,
    /// Why no index of it and no bound of a partition may decide what is read by it: nobody knows whether they have its
    /// values in the order of now. `order` is another one then, and it does not count as indexed.
    pub doubt: Option<String>,
    /// Share of rows that have one of the statistics' most common values, 0 to 1: the histogram leaves
    /// them out.
    pub common_share: f32,
}

/// Facts of a type that only the source which found them understands: what it needs to map a column otherwise, or to
/// compare its values.
#[derive(Clone)]
pub struct Facts(Arc<dyn Any + Send + Sync>);

impl Facts {
    /// Facts of whatever kind the source has.
    #[must_use]
    pub fn of<T: Any + Send + Sync>(facts: T) -> Self {
        Self(Arc::new(facts))
    }

    /// The facts, if they are of this kind.
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
    /// For dates and timestamps.
    pub infinity: InfinityMode,
    /// What files may have: it overrides the two above where they are not portable.
    pub types: FileTypes,
    /// Text columns that are to be bytes.
    pub as_bytes: &'a [String],
    /// Columns that are to be text because a value did not fit, with the reason.
    pub as_text: Vec<UnfitColumn>,
}

/// A column with a value that its planned type cannot hold.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct UnfitColumn {
    /// The column.
    pub column: String,
    /// What about the value does not fit; never the value itself.
    pub reason: String,
    /// The first row with such a value: its key, or its place in the chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
}

impl fmt::Debug for UnfitColumn {
    /// Without the row, which is table data: this comes into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnfitColumn")
            .field("column", &self.column)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl UnfitColumn {
    /// Reason and row.
    #[must_use]
    pub fn because(&self) -> String {
        match &self.row {
            Some(row) => format!("{}, first at {row}", self.reason),
            None => self.reason.clone(),
        }
    }
}
