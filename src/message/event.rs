//! Events: CloudEvents 1.0 in structured JSON. Their ids are deterministic, so that receivers recognise a
//! repeated event (invariant I5).

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{JobId, SourceName};

/// Largest size of an event: the limit of 1 MiB for messages, with room for headers.
const MAX_BYTES: usize = 1_000_000;
/// Largest number of tables in `contains` of a table's report.
pub const MAX_CONTAINED: usize = 100;
/// Largest length of an error text, in bytes.
const MAX_TEXT: usize = 4096;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum EventType {
    /// The request is stored. The job will run.
    #[serde(rename = "adu.export.job.accepted")]
    JobAccepted,
    /// How far the job is; sent every `progress_interval`.
    #[serde(rename = "adu.export.job.progress")]
    JobProgress,
    /// No chunk finished for `stalled_after`. The reason is in `data.error`.
    #[serde(rename = "adu.export.job.stalled")]
    JobStalled,
    /// Every table is exported.
    #[serde(rename = "adu.export.job.completed")]
    JobCompleted,
    /// Some tables are exported, others failed.
    #[serde(rename = "adu.export.job.partial")]
    JobPartial,
    /// No table is exported.
    #[serde(rename = "adu.export.job.failed")]
    JobFailed,
    /// A request or a limit ended the job.
    #[serde(rename = "adu.export.job.cancelled")]
    JobCancelled,
    /// The request was refused. Nothing was exported.
    #[serde(rename = "adu.export.job.rejected")]
    JobRejected,
    /// A table is exported and at its final place.
    #[serde(rename = "adu.export.table.completed")]
    TableCompleted,
    /// A table failed.
    #[serde(rename = "adu.export.table.failed")]
    TableFailed,
}

impl EventType {
    /// `job` or `table`, and what happened. These are the first words of the routing key.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::JobAccepted => ("job", "accepted"),
            Self::JobProgress => ("job", "progress"),
            Self::JobStalled => ("job", "stalled"),
            Self::JobCompleted => ("job", "completed"),
            Self::JobPartial => ("job", "partial"),
            Self::JobFailed => ("job", "failed"),
            Self::JobCancelled => ("job", "cancelled"),
            Self::JobRejected => ("job", "rejected"),
            Self::TableCompleted => ("table", "completed"),
            Self::TableFailed => ("table", "failed"),
        }
    }

    /// The `type` of the CloudEvent.
    #[must_use]
    pub fn as_str(self) -> String {
        let (subject, what) = self.words();
        format!("adu.export.{subject}.{what}")
    }

    /// Whether this event is the last of its job.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::JobCompleted | Self::JobPartial | Self::JobFailed | Self::JobCancelled | Self::JobRejected
        )
    }
}

/// An event in the format of CloudEvents 1.0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Always `1.0`.
    pub specversion: String,
    /// Deterministic id: job id, what happened, and the table or the number of the progress report.
    pub id: String,
    /// `/adu-export/<prefix>`.
    pub source: String,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// The job id, or `<job id>/<table>`.
    pub subject: String,
    /// Time at which the reported fact became durable.
    pub time: Timestamp,
    /// Always `application/json`.
    pub datacontenttype: String,
    /// W3C trace context of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The payload.
    pub data: EventData,
}

/// The payload of an event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventData {
    /// The job.
    pub job_id: Option<JobId>,
    /// Its source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceName>,
    /// `message_id` of the request. A publisher recognises by it that its own request was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Labels of the request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The time of the snapshot: the rows are those that were committed then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_time: Option<Timestamp>,
    /// Path of the archive, relative to the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<String>,
    /// Seconds from the storing of the request to the end of the job. Final events have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
    /// The tables. An event about a table has exactly one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableReport>,
    /// Tables were left out because the event became too large. The archive has all of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// How far the job is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<JobProgress>,
    /// Why the job failed, stalled, was rejected or was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorReport>,
}

/// How many pages of a table were read, if it was read by pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PagesRead {
    /// Pages whose rows were taken from them.
    pub read: u64,
    /// Pages whose rows were read by COPY, because they were not marked as visible to all or had values that are stored
    /// elsewhere.
    pub recopied: u64,
}

impl PagesRead {
    /// The pages of all chunks of a table; none if no chunk was read by pages.
    #[must_use]
    pub fn sum(chunks: impl Iterator<Item = Self>) -> Option<Self> {
        chunks.reduce(|a, b| Self { read: a.read + b.read, recopied: a.recopied + b.recopied })
    }
}

/// One table of an event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TableReport {
    /// `schema.table`.
    pub table: String,
    /// Directory of the table, relative to the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Rows exported.
    pub rows: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Number of its files.
    pub files: u32,
    /// Seconds from the start of its first chunk to the end of its last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// How the table was split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    /// How many pages were read, if it was read by pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages: Option<PagesRead>,
    /// Largest value of the `after` column in the same snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_water_mark: Option<String>,
    /// Columns with another file type than their source type suggests, and why: a value did not fit, or the
    /// request asked for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, String>,
    /// A remark about the rows that the table has or lacks, if this may surprise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Tables that inherit from this one and whose rows are included: at most 100 names. The archive has all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contains: Vec<String>,
    /// Why the table failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorReport>,
}

/// How far a job is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobProgress {
    /// Finished tables.
    pub tables_done: u32,
    /// Planned tables.
    pub tables: u32,
    /// Finished chunks.
    pub chunks_done: u64,
    /// Planned chunks.
    pub chunks: u64,
    /// Rows in finished chunks.
    pub rows: u64,
    /// Expected number of rows, from statistics.
    pub rows_estimated: u64,
    /// Bytes of finished files.
    pub bytes: u64,
}

/// An error, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorReport {
    /// A stable code: an SQLSTATE, or a word such as `unknown_table`.
    pub code: String,
    /// What happened, and to which object.
    pub message: String,
    /// What to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Whether the same request may succeed later.
    #[serde(default)]
    pub retryable: bool,
}

impl ErrorReport {
    /// An error that comes again until somebody changes something.
    #[must_use]
    pub fn permanent(code: &str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), remedy: Some(remedy.into()), retryable: false }
    }

    /// Cuts the texts at their largest length: they may quote long values.
    pub fn shorten(&mut self) {
        for text in [&mut self.code, &mut self.message].into_iter().chain(self.remedy.as_mut()) {
            if text.len() > MAX_TEXT {
                let end = (0..=MAX_TEXT).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
                text.truncate(end);
                text.push('…');
            }
        }
    }
}

impl Event {
    /// Builds an event with its deterministic id. `item` is the table or the number of the progress report;
    /// none for events that happen once in a job.
    #[must_use]
    pub fn new(
        prefix: &str,
        kind: EventType,
        subject: &str,
        item: Option<&str>,
        time: Timestamp,
        data: EventData,
    ) -> Self {
        let (noun, what) = kind.words();
        let tail = item.map_or_else(String::new, |item| format!("/{item}"));
        let mut event = Self {
            specversion: "1.0".into(),
            id: format!("{subject}/{noun}.{what}{tail}"),
            source: format!("/adu-export/{prefix}"),
            kind,
            subject: if noun == "table" { format!("{subject}{tail}") } else { subject.into() },
            time,
            datacontenttype: "application/json".into(),
            traceparent: None,
            data,
        };
        event.cut();
        event
    }

    /// Shortens the texts of errors, then leaves tables out until the event is small enough. Failed tables
    /// are left out last.
    fn cut(&mut self) {
        let errors = self.data.tables.iter_mut().filter_map(|t| t.error.as_mut());
        errors.chain(self.data.error.as_mut()).for_each(ErrorReport::shorten);
        let tables = std::mem::take(&mut self.data.tables);
        let rest = serde_json::to_vec(self).map_or(0, |v| v.len());
        self.data.tables = tables;
        let size = |t: &TableReport| serde_json::to_vec(t).map_or(0, |v| v.len() + 1);
        let total: usize = self.data.tables.iter().map(size).sum();
        let mut room = MAX_BYTES.saturating_sub(rest + 4096);
        if total <= room {
            return;
        }
        self.data.truncated = true;
        self.data.tables.sort_by_key(|t| t.error.is_none());
        self.data.tables.retain(|t| match room.checked_sub(size(t)) {
            Some(left) => {
                room = left;
                true
            }
            None => false,
        });
    }

    /// `job.<what>.<source>.<job_id>` or `table.<what>.<source>.<job_id>`.
    #[must_use]
    pub fn routing_key(&self) -> String {
        let (noun, what) = self.kind.words();
        let source = self.data.source.as_ref().map_or("-", SourceName::as_str);
        let job = self.data.job_id.as_ref().map_or("-", JobId::as_str);
        format!("{noun}.{what}.{source}.{job}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_event_is_cut_and_says_so() {
        let table = |i: usize, failed: bool| TableReport {
            table: format!("public.table_{i}"),
            directory: Some("x".repeat(200)),
            rows: 1,
            bytes: 1,
            files: 1,
            error: failed.then(|| ErrorReport::permanent("42P01", "gone", "create it")),
            ..TableReport::default()
        };
        let tables = (0..20_000).map(|i| table(i, i == 19_999)).collect();
        let data = EventData { tables, ..EventData::default() };
        let event = Event::new("p", EventType::JobPartial, "j", None, Timestamp::UNIX_EPOCH, data);
        assert!(serde_json::to_vec(&event).expect("json").len() < MAX_BYTES);
        assert!(event.data.truncated);
        assert!(event.data.tables[0].error.is_some(), "the failure is what must be told");
    }

    #[test]
    fn nothing_that_a_request_says_makes_an_event_too_large() {
        let long = "ä\u{1}".repeat(300_000);
        let error = ErrorReport { retryable: false, ..ErrorReport::permanent(&long, &long, &long) };
        let labels = (0..64).map(|i| (format!("{i}{}", "\u{1}".repeat(120)), "\u{1}".repeat(1024))).collect();
        let table = TableReport { table: "s.t".into(), error: Some(error.clone()), ..TableReport::default() };
        let data = EventData { labels, tables: vec![table], error: Some(error), ..EventData::default() };
        let event = Event::new("p", EventType::JobFailed, "j", None, Timestamp::UNIX_EPOCH, data);
        assert!(serde_json::to_vec(&event).expect("json").len() < MAX_BYTES);
        assert!(!event.data.truncated, "the table itself is told");
        let told = event.data.error.expect("an error").message;
        assert!(told.starts_with("ä\u{1}ä") && told.ends_with('…'), "{}", told.len());
    }

    #[test]
    fn type_names_and_words_agree() {
        let json = serde_json::to_value(EventType::TableFailed).expect("json");
        assert_eq!(json, EventType::TableFailed.as_str());
    }
}
