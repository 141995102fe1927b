//! Requests of publishers: an export, a cancel, a retry.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de};

use super::json::Document;
use super::output::{LEAST_FILE_BYTES, MOST_LEVELS, ROW_GROUP_BYTES};
pub use super::output::{OnConflict, OutputDirectory, OutputRequest};
use super::pattern::TablePattern;
use super::setting::{Span, object_or_default, or_default};
use super::table::NameOrTable;
pub use super::table::{After, AfterNulls, StrategyRequest, TableRequest};
use super::{JobId, SourceName};
use crate::text::{NotUtf8, utf8};

/// A request that was read. Its `job_id` may still be missing.
#[derive(Clone, Debug, PartialEq)]
pub enum RequestMessage {
    /// Export tables.
    Export(Box<ExportRequest>),
    /// Cancel a job.
    Cancel(JobId),
    /// Export again the tables that failed in a finished job.
    Retry(JobId),
}

/// Why a request body was refused. The text names the field.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidRequest {
    /// The body is not a JSON object.
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
        let text = utf8(body).map_err(|e| InvalidRequest::NotJson(not_text(&e)))?;
        let read = Document::read(text).map_err(|e| InvalidRequest::NotJson(e.to_string()))?;
        if let Some(field) = read.repeated {
            return Err(InvalidRequest::Field { field, why: "it is given twice; keep one of them".into() });
        }
        let value = read.value;
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

/// Says why a body is not text, and what to change.
fn not_text(what: &NotUtf8) -> String {
    match what {
        NotUtf8::Compressed(_) => {
            format!("{what}, and no content_encoding says so (gzip and deflate are read, in messages)")
        }
        _ => what.to_string(),
    }
}

/// Deserializes a value. An error names the path of the field that does not fit.
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
    /// Id of the job; else the `message_id`, else a new UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// Name of a configured source. It may be left out if only one source is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceName>,
    /// The tables, by name or pattern. A bare string is a table.
    #[schemars(with = "Vec<NameOrTable>", length(min = 1))]
    pub tables: Vec<TableRequest>,
    /// Patterns of tables to leave out where a pattern of `tables` matched them.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<TablePattern>,
    /// Where and how the files are written.
    #[serde(default, deserialize_with = "object_or_default")]
    pub output: OutputRequest,
    /// Whether all chunks read one snapshot. Default: `snapshot` if the source has snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistency: Option<Consistency>,
    /// What happens to a value that does not fit the type of its column.
    #[serde(default, deserialize_with = "or_default")]
    pub on_unfit: OnUnfit,
    /// Whether the rows of each table are counted before the table is published.
    #[serde(default, deserialize_with = "or_default")]
    pub verify: Verify,
    /// Bounds of this job's parallelism.
    #[serde(default, deserialize_with = "object_or_default")]
    pub parallelism: Parallelism,
    /// The job is cancelled if it has not finished this long after its request was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Span>,
    /// Labels, which are passed on in the events and the archive.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl ExportRequest {
    /// The entry of the request for a table: the one with its name, else the first pattern that matches it.
    #[must_use]
    pub fn entry_for(&self, schema: &str, table: &str) -> Option<&TableRequest> {
        let named = |r: &&TableRequest| r.table.literal().is_some_and(|(s, t)| s == schema && t == table);
        let taken = |r: &&TableRequest| r.table.matches(schema, table);
        self.tables.iter().find(named).or_else(|| self.tables.iter().find(taken))
    }

    /// Checks the bounds that the types do not express.
    fn check(&self) -> Result<(), InvalidRequest> {
        let fail =
            |field: &str, why: &str| Err(InvalidRequest::Field { field: field.into(), why: why.into() });
        if self.tables.is_empty() {
            return fail("tables", "name at least one table");
        }
        if self.output.row_group_bytes.is_some_and(|bytes| !ROW_GROUP_BYTES.contains(&bytes.get())) {
            return fail("output.row_group_bytes", "use 1024 (1 KiB) to 268435456 (256 MiB)");
        }
        if self.output.file_bytes.is_some_and(|bytes| bytes.get() < LEAST_FILE_BYTES) {
            return fail("output.file_bytes", "use at least 1048576 (1 MiB), or leave it out");
        }
        let by = &self.output.partition_by;
        if by.len() > MOST_LEVELS || by.iter().enumerate().any(|(i, name)| by[..i].contains(name)) {
            return fail("output.partition_by", "use at most 8 columns, each of them once");
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
            if table.chunk_column.is_some() && !table.strategy.takes_column() {
                return fail(
                    &format!("tables[{i}].chunk_column"),
                    "only the strategies auto and range use it",
                );
            }
        }
        Ok(())
    }
}

/// Whether all chunks of a job read one snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// One snapshot for all tables of the job.
    Snapshot,
    /// Each chunk reads the rows that are committed when it runs. Rows that move from one chunk's range to
    /// another's meanwhile may be missing or come twice.
    None,
}

/// What happens to values that do not fit the type of their column.
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

/// Whether the rows of tables are counted before the tables are published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// Not counted.
    #[default]
    None,
    /// `count(*)` in the same snapshot must equal the number of exported rows.
    Count,
}

/// Bounds of a job's parallelism. A missing one follows from the number of cores of all daemons.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parallelism {
    /// Largest number of tables that are exported at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_threads: Option<NonZeroU32>,
    /// Largest number of chunks of one table that are exported at once.
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
        assert!(refused(r#"{"tables":["a.b"],"output":{"row_group_bytes":5368709120}}"#).contains("256 MiB"));
        let small = refused(r#"{"tables":["a.b"],"output":{"file_bytes":1048575}}"#);
        assert!(small.contains("output.file_bytes") && small.contains("1 MiB"), "{small}");
        assert!(
            refused(r#"{"tables":["a.b"],"output":{"partition_by":["a","a"]}}"#)
                .contains("each of them once")
        );
        assert!(
            refused(r#"{"tables":["a.b"],"output":{"partition_by":"a"}}"#).contains("output.partition_by")
        );
        assert!(refused(r#"{"tables":["a.b"],"job_id":"a/b"}"#).contains("job_id"));
        assert!(refused(r#"{"cancel":"a/b"}"#).contains("cancel"));
        assert!(refused(r#"{"labels":{"a":null},"tables":["a.b"]}"#).contains("`labels.a`"));
        assert!(refused(r#"{"tables":["a.b",null]}"#).contains("`tables[1]`"));
        assert!(refused(r#"{"tables":null}"#).contains("`tables`"));
    }

    #[test]
    fn a_field_that_is_given_twice_is_refused_wherever_it_stands() {
        for (body, field) in [
            (r#"{"tables":["a.b"],"tables":["a.c"]}"#, "tables"),
            (r#"{"tables":["a.b"],"shape":1,"shape":1}"#, "shape"),
            (r#"{"job_id":"a","tables":["a.b"],"job_id":"a"}"#, "job_id"),
            (r#"{"tables":["a.b",{"table":"a.c","where":"x","where":"y"}]}"#, "tables[1].where"),
            (
                r#"{"tables":[{"table":"a.c","after":{"column":"x","value":"1","value":"2"}}]}"#,
                "tables[0].after.value",
            ),
            (
                r#"{"tables":["a.b"],"output":{"compression":"gzip","compression":"lz4"}}"#,
                "output.compression",
            ),
            (r#"{"tables":["a.b"],"labels":{"a":"x","a":"y"}}"#, "labels.a"),
            (r#"{"cancel":"a","cancel":"b"}"#, "cancel"),
            (r#"{"retry":"a","retry":"a"}"#, "retry"),
        ] {
            assert!(refused(body).contains(&format!("field `{field}`: it is given twice")), "{body}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_skipped_and_other_encodings_are_named() {
        let body = br#"{"tables":["a.b"]}"#;
        let marked = [b"\xEF\xBB\xBF", &body[..]].concat();
        assert_eq!(RequestMessage::parse(&marked), RequestMessage::parse(body));
        let wide: Vec<u8> = body.iter().flat_map(|b| [*b, 0]).collect();
        let said = |body: &[u8]| RequestMessage::parse(body).expect_err("refused").to_string();
        assert!(said(&wide).contains("UTF-16"));
        assert!(said(b"\x1f\x8b\x08\0").contains("content_encoding"));
        assert!(said(b"{\"tables\":[\"a.caf\xe9\"]}").contains("0xe9 at position 17"));
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
