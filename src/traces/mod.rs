//! Traces: what was done for a job, when, and in which process, as spans for a collector of OpenTelemetry.
//! `docs/TRACES.md` lists the spans, their attributes and the variables.
//!
//! A span of work in progress is a span of `tracing` with a target of its own. The log leaves this target out. Only the
//! layer for traces takes it; without that layer the span is disabled and costs nothing. Spans are never entered. The spans
//! of job and tables are sent by the process that commits the job. Their ids follow from the job, so that spans
//! of other processes can name them as their parents before (`ids.rs`).
//!
//! Without the feature `otel` nothing is ever sent.

use jiff::Timestamp;
use tracing::field::Empty;
use tracing::{Span, error_span};
use uuid::Uuid;

use crate::message::task::ChunkTask;
use crate::message::{BatchId, ChunkNo, Epoch, JobId, SourceName, TableNo};

#[cfg(feature = "otel")]
mod client;
#[cfg(feature = "otel")]
mod ids;
#[cfg(feature = "otel")]
mod sender;
#[cfg(feature = "otel")]
mod settings;
#[cfg(not(feature = "otel"))]
mod silent;

#[cfg(feature = "otel")]
use sender as sending;
#[cfg(not(feature = "otel"))]
use silent as sending;

pub(crate) use sending::{end, prepare, start};

/// The target of spans that are sent.
pub(crate) const TARGET: &str = "otel";

/// What takes spans to their collector, as a layer of the subscriber.
pub(crate) type TraceLayer =
    Box<dyn tracing_subscriber::Layer<tracing_subscriber::Registry> + Send + Sync + 'static>;

/// What ties the spans of a job together, in all processes.
#[derive(Clone, Copy, Debug)]
pub struct JobTrace<'a> {
    /// Identity of the export folder, because jobs of two folders may have the same id.
    pub root: Uuid,
    /// The job.
    pub job: &'a JobId,
    /// W3C trace context of the request.
    pub traceparent: Option<&'a str>,
}

/// A span whose id follows from its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// The job.
    Job,
    /// A table of a plan.
    Table(Epoch, TableNo),
}

/// A chunk that begins.
#[derive(Debug)]
pub struct Chunk<'a> {
    /// Its task.
    pub task: &'a ChunkTask,
    /// Its table, if that is the only one of its batch.
    pub alone: Option<TableNo>,
    /// Name of the table, or of the first one and the number of the others.
    pub table: &'a str,
    /// The source.
    pub source: &'a SourceName,
    /// Kind of the source in the configuration.
    pub kind: &'static str,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(u64),
}

/// A span that is over before it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What it is the span of. The job's is the parent of the tables'.
    pub of: Known,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Short code of its error.
    pub error: Option<String>,
    /// Attributes.
    pub attributes: Vec<(&'static str, Value)>,
    /// Whether it began with a message.
    pub consumes: bool,
}

impl JobTrace<'_> {
    /// Begins the span of a plan.
    #[must_use]
    pub fn plan(&self, epoch: Epoch, source: &SourceName, kind: &'static str) -> Span {
        let span = error_span!(
            target: TARGET,
            parent: None,
            "plan",
            job = %self.job,
            epoch = i64::from(epoch.0),
            source = source.as_str(),
            db.system.name = system(kind),
            tables = Empty,
            "error.type" = Empty,
            otel.status_description = Empty,
        );
        sending::adopt(self, &span, Known::Job);
        span
    }

    /// Begins the span of a chunk.
    #[must_use]
    pub fn chunk(&self, chunk: &Chunk<'_>) -> Span {
        let task = chunk.task;
        let span = error_span!(
            target: TARGET,
            parent: None,
            "chunk",
            job = %self.job,
            epoch = i64::from(task.epoch.0),
            table = chunk.table,
            chunk = i64::from(task.chunk.0),
            source = chunk.source.as_str(),
            db.system.name = system(chunk.kind),
            db.collection.name = chunk.alone.map(|_| chunk.table),
            outcome = Empty,
            attempts = Empty,
            rows = Empty,
            bytes = Empty,
            "error.type" = Empty,
            otel.status_description = Empty,
        );
        let above = chunk.alone.map_or(Known::Job, |table| Known::Table(task.epoch, table));
        sending::adopt(self, &span, above);
        span
    }

    /// Begins the span of a batch's publication. `table` names its tables, as in the span of a chunk.
    #[must_use]
    pub fn publish(&self, of: BatchId, table: &str, tables: usize, files: usize) -> Span {
        let span = error_span!(
            target: TARGET,
            parent: None,
            "publish",
            job = %self.job,
            epoch = i64::from(of.epoch.0),
            table,
            tables = number(tables as u64),
            files = number(files as u64),
            "error.type" = Empty,
            otel.status_description = Empty,
        );
        sending::adopt(self, &span, Known::Job);
        span
    }

    /// Sends spans that are over. `ended` is not called if nobody wants them.
    pub fn send(&self, ended: impl FnOnce() -> Vec<Ended>) {
        sending::send(self, ended);
    }
}

/// Begins the span of a part, below that of its chunk.
#[must_use]
pub fn part(above: &Span, table: &str, chunk: ChunkNo, nth: u32) -> Span {
    if above.is_disabled() {
        return Span::none();
    }
    error_span!(
        target: TARGET,
        parent: above,
        "part",
        table,
        chunk = i64::from(chunk.0),
        part = i64::from(nth),
        rows = Empty,
        bytes = Empty,
        row_groups = Empty,
        fsync_seconds = Empty,
        "error.type" = Empty,
        otel.status_description = Empty,
    )
}

/// Notes a number in a span.
pub fn note(span: &Span, field: &'static str, value: u64) {
    span.record(field, number(value));
}

/// Marks a span as failed. `code` is a short code: messages may have values of rows in them.
pub fn fail(span: &Span, code: &str) {
    span.record("error.type", code);
    span.record("otel.status_description", code);
}

/// Attributes of OpenTelemetry have no unsigned numbers.
fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The name of a database system in OpenTelemetry.
fn system(kind: &'static str) -> &'static str {
    match kind {
        "postgres" => "postgresql",
        other => other,
    }
}
