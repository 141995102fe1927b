//! One table of a request, or a pattern of tables, with its options.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU64;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::pattern::TablePattern;
use super::setting::{ArrayMode, InfinityMode, NumericMode, ReadWay, object, or_default};

/// One table, or a pattern of tables, with its options: in messages an object, or the name alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
#[schemars(rename = "Table")]
pub struct TableRequest {
    /// Name or pattern.
    pub table: TablePattern,
    /// Only the table's own rows, without those of tables that inherit from it (`FROM ONLY`).
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "std::ops::Not::not")]
    pub only: bool,
    /// The columns, in the order that the files will have; all columns if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub columns: Option<Vec<String>>,
    /// A filter: one expression of columns, literals, comparison, boolean, IN, BETWEEN, LIKE, IS NULL, arithmetic and casts.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub where_: Option<String>,
    /// Only rows whose column is greater than a value.
    #[serde(default, deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
    /// How the table is split into chunks.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "StrategyRequest::is_auto")]
    pub strategy: StrategyRequest,
    /// How the rows are read; if left out, the source's `read` applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<ReadWay>,
    /// Column by which `range` splits the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_column: Option<String>,
    /// Number of rows in a chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_rows: Option<NonZeroU64>,
    /// The type that numeric columns without precision get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numeric: Option<NumericMode>,
    /// What happens to infinite dates and timestamps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infinity: Option<InfinityMode>,
    /// What becomes of arrays of more than one dimension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrays: Option<ArrayMode>,
    /// Text columns that are exported as the bytes that the server has, for texts that are not UTF-8.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub as_bytes: Vec<String>,
}

impl TableRequest {
    /// A request for all of a table.
    #[must_use]
    pub fn all_of(table: TablePattern) -> Self {
        Self {
            table,
            only: false,
            columns: None,
            where_: None,
            after: None,
            strategy: StrategyRequest::Auto,
            read: None,
            chunk_column: None,
            chunk_rows: None,
            numeric: None,
            infinity: None,
            arrays: None,
            as_bytes: Vec::new(),
        }
    }

    /// Whether every row and column is wanted, those of child tables aside: only such exports are `.latest`.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.columns.is_none() && self.where_.is_none() && self.after.is_none()
    }
}

impl Serialize for TableRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if *self == Self::all_of(self.table.clone()) {
            return self.table.serialize(serializer);
        }
        // `remote` makes the derive generate a function of this name, which writes the object.
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for TableRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StringOrObject;
        impl<'de> Visitor<'de> for StringOrObject {
            type Value = TableRequest;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table name or an object with `table`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<TableRequest, E> {
                TablePattern::parse(text).map(TableRequest::all_of).map_err(E::custom)
            }
            fn visit_map<M: de::MapAccess<'de>>(self, map: M) -> Result<TableRequest, M::Error> {
                TableRequest::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(StringOrObject)
    }
}

/// The schema of both forms of a table.
pub(super) struct NameOrTable;

impl JsonSchema for NameOrTable {
    fn schema_name() -> Cow<'static, str> {
        "TableRequest".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let name = generator.subschema_for::<TablePattern>();
        let table = generator.subschema_for::<TableRequest>();
        schemars::json_schema!({"anyOf": [name, table]})
    }
}

/// Incremental export: rows whose `column` is greater than `value`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct After {
    /// A column whose values grow, so that new and changed rows have larger ones.
    pub column: String,
    /// The high-water mark of the last export.
    pub value: String,
    /// Rows that are older than `value` by less than this are exported again, because a transaction may
    /// commit late. It is a number if the column is numeric, else a time such as `1 hour`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<String>,
    /// What happens to rows whose `column` is NULL: they are neither older nor newer than any value.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "AfterNulls::is_skip")]
    pub nulls: AfterNulls,
}

/// What happens to rows of an incremental export whose column is NULL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AfterNulls {
    /// No increment contains them. Plan, event and archive say so if the column may be NULL.
    #[default]
    Skip,
    /// Every increment contains them.
    Include,
    /// The table fails if such rows exist.
    Error,
}

impl AfterNulls {
    fn is_skip(&self) -> bool {
        *self == Self::Skip
    }
}

/// How a table is split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StrategyRequest {
    /// The planner chooses from facts about the table. The plan says why.
    #[default]
    Auto,
    /// One chunk.
    Single,
    /// Half-open ranges of a sortable column.
    Range,
    /// Ranges of pages (PostgreSQL 14 or newer, under a snapshot).
    Ctid,
    /// By Greenplum segment.
    Segment,
    /// By hash of the segmentation columns (Vertica).
    Hash,
}

impl StrategyRequest {
    /// Its name in requests and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Single => "single",
            Self::Range => "range",
            Self::Ctid => "ctid",
            Self::Segment => "segment",
            Self::Hash => "hash",
        }
    }

    /// Whether it uses `chunk_column`.
    #[must_use]
    pub fn takes_column(self) -> bool {
        matches!(self, Self::Auto | Self::Range)
    }

    /// The only product whose sources have it; none if any source may have it.
    #[must_use]
    pub fn product(self) -> Option<&'static str> {
        match self {
            Self::Auto | Self::Single | Self::Range => None,
            Self::Ctid => Some("PostgreSQL"),
            Self::Segment => Some("Greenplum"),
            Self::Hash => Some("Vertica"),
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}
