//! What publishers may ask for: an export, a cancel, a retry.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::pattern::TablePattern;
use super::setting::{Compression, NumericMode, Span};
use super::{JobId, SourceName};

/// A request that was read; `job_id` may still be missing.
#[derive(Clone, Debug, PartialEq)]
pub enum RequestMessage {
    /// Export tables.
    Export(Box<ExportRequest>),
    /// End a job.
    Cancel(JobId),
    /// Export again what failed in a finished job.
    Retry(JobId),
}

/// Why a request body was refused; the text names the field.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidRequest {
    /// The body is not a JSON object at all.
    #[error("the request is not JSON: {0}; send one JSON object in UTF-8")]
    NotJson(String),
    /// A field is unknown, missing, of a wrong type or out of bounds.
    #[error("field `{field}`: {why}")]
    Field {
        /// Path of the field, e.g. `tables[2].columns`.
        field: String,
        /// What is wrong with it.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelBody {
    cancel: JobId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryBody {
    retry: JobId,
}

impl RequestMessage {
    /// Reads a message body.
    ///
    /// # Errors
    /// Names the field and what is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidRequest> {
        let value: serde_json::Value =
            serde_json::from_slice(body).map_err(|e| InvalidRequest::NotJson(e.to_string()))?;
        let Some(object) = value.as_object() else {
            return Err(InvalidRequest::NotJson("it is not an object".into()));
        };
        if object.contains_key("cancel") {
            return field_path::<CancelBody>(value).map(|b| Self::Cancel(b.cancel));
        }
        if object.contains_key("retry") {
            return field_path::<RetryBody>(value).map(|b| Self::Retry(b.retry));
        }
        let request: ExportRequest = field_path(value)?;
        request.check()?;
        Ok(Self::Export(Box::new(request)))
    }
}

/// Deserializes and names the path of the field that does not fit.
fn field_path<T: de::DeserializeOwned>(value: serde_json::Value) -> Result<T, InvalidRequest> {
    serde_path_to_error::deserialize(value).map_err(|e| {
        let field = e.path().to_string();
        let why = e.into_inner().to_string();
        InvalidRequest::Field { field: if field == "." { "(request)".into() } else { field }, why }
    })
}

/// A request for an export. Only `tables` is required when one source is configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportRequest {
    /// Identity of the job; else the `message_id`, else a new UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// Which configured source; may be left out when there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceName>,
    /// The tables, by name or pattern; a bare string is a table.
    #[schemars(length(min = 1))]
    pub tables: Vec<TableRequest>,
    /// Patterns of tables to leave out of what patterns matched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<TablePattern>,
    /// Where and how the files are written.
    #[serde(default)]
    pub output: OutputRequest,
    /// Whether all chunks read one snapshot; default: snapshot where the source can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistency: Option<Consistency>,
    /// What becomes of values that do not fit their column.
    #[serde(default)]
    pub on_unfit: OnUnfit,
    /// Whether each table is counted before it is organized.
    #[serde(default)]
    pub verify: Verify,
    /// Bounds of this job's parallelism.
    #[serde(default)]
    pub parallelism: Parallelism,
    /// The job is cancelled when it has not finished this long after its request was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Span>,
    /// Passed on in events and the archive.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl ExportRequest {
    /// Bounds that types alone do not keep.
    fn check(&self) -> Result<(), InvalidRequest> {
        let fail =
            |field: &str, why: &str| Err(InvalidRequest::Field { field: field.into(), why: why.into() });
        if self.tables.is_empty() {
            return fail("tables", "name at least one table");
        }
        if self.labels.len() > 64 || self.labels.iter().any(|(k, v)| k.len() > 128 || v.len() > 1024) {
            return fail("labels", "at most 64 labels, keys up to 128 and values up to 1024 bytes");
        }
        for (i, table) in self.tables.iter().enumerate() {
            if table.columns.as_ref().is_some_and(Vec::is_empty) {
                return fail(
                    &format!("tables[{i}].columns"),
                    "name at least one column, or leave it out for all",
                );
            }
            if table.chunk_column.is_some()
                && !matches!(table.strategy, StrategyRequest::Auto | StrategyRequest::Range)
            {
                return fail(
                    &format!("tables[{i}].chunk_column"),
                    "only the strategies auto and range use it",
                );
            }
        }
        Ok(())
    }
}

/// One table, or a pattern of tables, with its options.
#[derive(Clone, Debug, PartialEq)]
pub struct TableRequest {
    /// Name or pattern.
    pub table: TablePattern,
    /// Columns in the order wanted; all when left out.
    pub columns: Option<Vec<String>>,
    /// A filter: one expression of columns, literals and operators.
    pub where_: Option<String>,
    /// Only rows newer than a value.
    pub after: Option<After>,
    /// How the table is split.
    pub strategy: StrategyRequest,
    /// Column of `range`.
    pub chunk_column: Option<String>,
    /// Rows of a chunk.
    pub chunk_rows: Option<NonZeroU64>,
    /// What becomes of numeric columns without precision.
    pub numeric: Option<NumericMode>,
}

impl TableRequest {
    /// A request for all of a table.
    #[must_use]
    pub fn all_of(table: TablePattern) -> Self {
        TableBody { table, ..TableBody::default_body() }.into()
    }

    /// Whether every row and column is wanted: only such exports are `.latest`.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.columns.is_none() && self.where_.is_none() && self.after.is_none()
    }
}

/// The object form of [`TableRequest`].
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Table")]
struct TableBody {
    /// Name or pattern.
    table: TablePattern,
    /// Columns in the order wanted; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    columns: Option<Vec<String>>,
    /// A filter: one expression of columns, literals, comparison, boolean, IN, BETWEEN, LIKE, IS NULL, arithmetic and casts.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    where_: Option<String>,
    /// Only rows whose column is greater than a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<After>,
    /// How the table is split into chunks.
    #[serde(default, skip_serializing_if = "is_auto")]
    strategy: StrategyRequest,
    /// Column of `range`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chunk_column: Option<String>,
    /// Rows of a chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chunk_rows: Option<NonZeroU64>,
    /// What becomes of numeric columns without precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    numeric: Option<NumericMode>,
}

fn is_auto(strategy: &StrategyRequest) -> bool {
    *strategy == StrategyRequest::Auto
}

impl TableBody {
    fn default_body() -> Self {
        Self {
            table: TablePattern::exact("", ""),
            columns: None,
            where_: None,
            after: None,
            strategy: StrategyRequest::Auto,
            chunk_column: None,
            chunk_rows: None,
            numeric: None,
        }
    }
}

impl From<TableBody> for TableRequest {
    fn from(b: TableBody) -> Self {
        Self {
            table: b.table,
            columns: b.columns,
            where_: b.where_,
            after: b.after,
            strategy: b.strategy,
            chunk_column: b.chunk_column,
            chunk_rows: b.chunk_rows,
            numeric: b.numeric,
        }
    }
}

impl From<TableRequest> for TableBody {
    fn from(b: TableRequest) -> Self {
        Self {
            table: b.table,
            columns: b.columns,
            where_: b.where_,
            after: b.after,
            strategy: b.strategy,
            chunk_column: b.chunk_column,
            chunk_rows: b.chunk_rows,
            numeric: b.numeric,
        }
    }
}

impl Serialize for TableRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if *self == Self::all_of(self.table.clone()) {
            return self.table.serialize(serializer);
        }
        TableBody::from(self.clone()).serialize(serializer)
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
                TableBody::deserialize(MapAccessDeserializer::new(map)).map(Into::into)
            }
        }
        deserializer.deserialize_any(StringOrObject)
    }
}

impl JsonSchema for TableRequest {
    fn schema_name() -> Cow<'static, str> {
        "TableRequest".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let name = generator.subschema_for::<TablePattern>();
        let body = generator.subschema_for::<TableBody>();
        schemars::json_schema!({"anyOf": [name, body]})
    }
}

/// Incremental export: rows whose `column` is greater than `value`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct After {
    /// A column that grows.
    pub column: String,
    /// The high-water mark of the last export.
    pub value: String,
}

/// How a table is split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StrategyRequest {
    /// Chosen from facts; the plan says why.
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

/// Where and how files are written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputRequest {
    /// Directory below the root: relative, without `..`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<OutputDirectory>,
    /// Compression of pages; else the source's preset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// Encoded bytes of a row group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_group_bytes: Option<NonZeroU64>,
    /// What happens when the directory of a table exists.
    #[serde(default)]
    pub on_conflict: OnConflict,
}

/// A directory below the root, in normal form: `a/b`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OutputDirectory(String);

impl OutputDirectory {
    /// Parses a relative directory.
    ///
    /// # Errors
    /// When it is absolute, leaves the root, is hidden or has control characters.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fail =
            |why: &str| Err(format!("directory `{text}` {why}; use a relative directory such as crm/daily"));
        if text.starts_with('/') {
            return fail("is absolute");
        }
        if text.len() > 1024 || text.chars().any(|c| c.is_control() || c == '\\') {
            return fail("is too long or has control characters or a backslash");
        }
        let mut parts = Vec::new();
        for part in text.split('/').filter(|p| !p.is_empty() && *p != ".") {
            match part {
                ".." => return fail("contains `..`"),
                _ if part.starts_with('.') => return fail("has a hidden part"),
                _ if part.len() > 255 => return fail("has a part over 255 bytes"),
                _ => parts.push(part),
            }
        }
        if parts.is_empty() {
            return fail("is empty");
        }
        Ok(Self(parts.join("/")))
    }

    /// The directory, relative to the root.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for OutputDirectory {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<OutputDirectory> for String {
    fn from(directory: OutputDirectory) -> String {
        directory.0
    }
}

impl fmt::Debug for OutputDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for OutputDirectory {
    fn schema_name() -> Cow<'static, str> {
        "OutputDirectory".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({"type": "string", "description": "relative to the root, without .. and hidden parts"})
    }
}

/// What happens when a directory of the table's name exists already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// `_v2`, `_v3`, …
    #[default]
    Version,
    /// `_2025-08-05`, then with the time.
    Timestamp,
    /// The table fails.
    Fail,
}

/// Whether all chunks of a job read one snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// One snapshot for all tables of the job.
    Snapshot,
    /// Each chunk reads what it finds: rows that move between chunks while
    /// the job runs may be missed or read twice.
    None,
}

/// What becomes of values that do not fit the type of their column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnUnfit {
    /// The table is planned again with the column as text.
    #[default]
    Text,
    /// The value becomes NULL.
    Null,
    /// The table fails.
    Error,
}

/// Whether tables are counted before they are organized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// Not counted.
    #[default]
    None,
    /// `count(*)` under the same snapshot must equal the rows exported.
    Count,
}

/// Bounds of a job's parallelism; what is left out follows the fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parallelism {
    /// Tables at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_threads: Option<NonZeroU32>,
    /// Chunks of one table at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_workers: Option<NonZeroU32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> String {
        RequestMessage::parse(body.as_bytes()).expect_err(body).to_string()
    }

    #[test]
    fn a_refusal_names_the_field() {
        assert!(refused("nope").contains("not JSON"));
        assert!(refused(r#"{"tables":["a.b"],"shape":1}"#).contains("shape"));
        assert!(refused(r#"{"tables":["a.b",{"table":"a.c","wher":"x"}]}"#).contains("tables[1]"));
        assert!(refused(r#"{"tables":[{"table":"a.c","columns":3}]}"#).contains("tables[0].columns"));
        assert!(refused(r#"{"tables":"a.b"}"#).contains("`tables`"));
        assert!(refused(r#"{"tables":[]}"#).contains("`tables`"));
        assert!(refused(r#"{"tables":["a.b"],"output":{"directory":"../x"}}"#).contains("output.directory"));
        assert!(refused(r#"{"tables":["a.b"],"output":{"directory":"/x"}}"#).contains("absolute"));
        assert!(refused(r#"{"tables":["a.b"],"job_id":"a/b"}"#).contains("job_id"));
        assert!(refused(r#"{"cancel":"a/b"}"#).contains("cancel"));
    }

    #[test]
    fn a_parsed_request_reads_back_as_itself() {
        let body = r#"{"job_id":"n1","source":"warehouse","tables":["public.orders",
            {"table":"public.events","columns":["id"],"where":"at >= '2026-01-01'","strategy":"range",
             "chunk_column":"id","chunk_rows":5,"numeric":"decimal(38,9)"}],
            "exclude":["sales.tmp_*"],"output":{"directory":"crm//x/","compression":"zstd"},
            "deadline":"12h","labels":{"team":"crm"}}"#;
        let RequestMessage::Export(request) = RequestMessage::parse(body.as_bytes()).expect("valid") else {
            panic!("not an export");
        };
        assert_eq!(request.output.directory.as_ref().map(OutputDirectory::as_str), Some("crm/x"));
        let again = serde_json::to_vec(&request).expect("serializes");
        assert_eq!(RequestMessage::parse(&again).expect("valid"), RequestMessage::Export(request));
    }
}
