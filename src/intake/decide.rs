//! What a message asks for, and what should happen to it: pure functions of the message and of the job's
//! state in the folder.

use uuid::Uuid;

use super::encoding::{decoded, too_large};
use crate::bus::Properties;
use crate::job::archive::{Archive, TableStatus};
use crate::job::outcome::{Owner, StoredRequest, sha256};
use crate::message::event::ErrorReport;
use crate::message::pattern::TablePattern;
use crate::message::request::{InvalidRequest, RequestMessage};
use crate::message::{Caller, ExportRequest, JobId, SourceName, TableRequest};

/// Largest request.
pub const MAX_BYTES: usize = crate::bus::body::MAX_BODY;

/// What a message asks for, read without looking at the folder.
#[derive(Clone, Debug, PartialEq)]
pub enum RequestedAction {
    /// Store a job.
    Export(Box<StoredRequest>),
    /// End a job.
    Cancel(JobId),
    /// Export again what failed in a job.
    Retry(JobId),
}

/// What the folder says of the job that a message names.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The job's request, if the job has a workspace.
    pub request: Option<StoredRequest>,
    /// The job's archive, if the job is finished.
    pub archive: Option<Archive>,
    /// Whether the workspace belongs to another owner: a one-shot export, or daemons with another broker or
    /// prefix.
    pub foreign: bool,
}

/// What should happen to a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Make the workspace and store the request. If the request exists already, decide again.
    Store(Box<StoredRequest>),
    /// Write `cancel.json` and tell all daemons.
    Cancel(JobId),
    /// Wake the coordinator: the job goes on.
    Wake(JobId),
    /// Publish the final event of the job again.
    TellEnd(JobId),
    /// Refuse the message.
    Reject(ErrorReport),
}

/// Facts that reading a request needs.
#[derive(Clone, Debug)]
pub struct Desk {
    /// Sources that the configuration names.
    pub sources: Vec<SourceName>,
    /// The owner that the jobs get.
    pub owner: Owner,
    /// The wall clock.
    pub now: jiff::Timestamp,
    /// The id for a request without any id.
    pub fresh: Uuid,
}

/// Reads a message. Its publisher reads the error.
///
/// # Errors
/// The error names the field or object and the remedy.
pub fn read(body: &[u8], properties: &Properties, desk: &Desk) -> Result<RequestedAction, ErrorReport> {
    if let Some(why) = &properties.unreadable {
        return Err(ErrorReport::permanent(
            "unreadable_message",
            format!("the message cannot be read: {why}"),
            "write the properties of a message and the names of its headers in UTF-8",
        ));
    }
    let bytes = properties.left_out.unwrap_or(body.len() as u64);
    if bytes > MAX_BYTES as u64 {
        return Err(too_large(&format!("{bytes} bytes")));
    }
    let plain = decoded(body, properties)?;
    let message = RequestMessage::parse(&plain).map_err(|e| {
        let (code, remedy) = match &e {
            InvalidRequest::NotJson(_) => {
                ("not_json", "send one JSON object as config/schemas/request.schema.json describes")
            }
            InvalidRequest::Field { .. } => {
                ("invalid_field", "correct the field; config/schemas/request.schema.json lists all of them")
            }
        };
        ErrorReport::permanent(code, e.to_string(), remedy)
    })?;
    Ok(match message {
        RequestMessage::Cancel(job) => RequestedAction::Cancel(job),
        RequestMessage::Retry(job) => RequestedAction::Retry(job),
        RequestMessage::Export(request) => {
            RequestedAction::Export(Box::new(stored(*request, body, properties, desk)?))
        }
    })
}

fn stored(
    request: ExportRequest,
    body: &[u8],
    properties: &Properties,
    desk: &Desk,
) -> Result<StoredRequest, ErrorReport> {
    let source = resolve(request.source.as_ref(), &desk.sources)?;
    let job = request
        .job_id
        .clone()
        .unwrap_or_else(|| JobId::from_message_id(properties.message_id.as_deref(), desk.fresh));
    Ok(StoredRequest {
        body_sha256: sha256(body),
        caller: properties.caller(),
        ..StoredRequest::new(job, source, request, desk.now, desk.owner.clone())
    })
}

fn resolve(asked: Option<&SourceName>, sources: &[SourceName]) -> Result<SourceName, ErrorReport> {
    let names = sources.iter().map(SourceName::as_str).collect::<Vec<_>>().join(", ");
    match (asked, sources) {
        (Some(name), _) if sources.contains(name) => Ok(name.clone()),
        (Some(name), _) => Err(ErrorReport::permanent(
            "unknown_source",
            format!("field `source`: there is no source `{name}`"),
            format!("use one of the configured sources: {names}"),
        )),
        (None, [only]) => Ok(only.clone()),
        (None, _) => Err(ErrorReport::permanent(
            "missing_source",
            "field `source` is missing and several sources are configured",
            format!("name one of: {names}"),
        )),
    }
}

/// What should happen, given what the folder says of the job.
#[must_use]
pub fn decide(action: &RequestedAction, known: &Known) -> Step {
    if known.foreign && known.archive.is_none() {
        return Step::Reject(ErrorReport {
            retryable: true,
            ..ErrorReport::permanent(
                "job_id_taken",
                "the job id is in use by an export that other daemons or a one-shot command work on in this folder",
                "use another job_id, or wait until that job has ended",
            )
        });
    }
    match action {
        RequestedAction::Export(stored) => {
            let seen = known
                .archive
                .as_ref()
                .map(|a| (&a.request, &a.source))
                .or_else(|| known.request.as_ref().map(|r| (&r.request, &r.source)));
            match seen {
                None => Step::Store(stored.clone()),
                Some((request, source)) if *request != stored.request || *source != stored.source => {
                    Step::Reject(ErrorReport::permanent(
                        "job_id_taken",
                        format!("job id `{}` belongs to another request already", stored.job),
                        "use a new job_id, or send the very same request again",
                    ))
                }
                Some(_) if known.archive.is_some() => Step::TellEnd(stored.job.clone()),
                Some(_) => Step::Wake(stored.job.clone()),
            }
        }
        RequestedAction::Cancel(job) => match known {
            Known { archive: Some(_), .. } => Step::TellEnd(job.clone()),
            Known { request: Some(_), .. } => Step::Cancel(job.clone()),
            _ => Step::Reject(unknown_job(job)),
        },
        RequestedAction::Retry(job) => match known {
            Known { archive: Some(archive), .. } => retry(job, archive),
            Known { request: Some(_), .. } => Step::Reject(ErrorReport {
                retryable: true,
                ..ErrorReport::permanent(
                    "still_running",
                    format!("job `{job}` has not finished"),
                    "retry it after its final event",
                )
            }),
            _ => Step::Reject(unknown_job(job)),
        },
    }
}

fn unknown_job(job: &JobId) -> ErrorReport {
    ErrorReport::permanent(
        "unknown_job",
        format!("there is no job `{job}` in this export folder"),
        "see `adu-export status` for the jobs that are known",
    )
}

/// The request of a retry: the tables that were not completed, as they were asked for.
fn retry(job: &JobId, archive: &Archive) -> Step {
    let missing: Vec<TableRequest> = archive
        .tables
        .iter()
        .filter(|t| t.status != TableStatus::Completed)
        .map(|t| {
            let pattern = TablePattern::parse(&t.table_name);
            let asked = pattern.as_ref().ok().and_then(|p| {
                let (schema, table) = p.literal()?;
                archive.request.entry_for(&schema, &table)
            });
            match (asked, pattern) {
                (Some(asked), Ok(table)) => TableRequest { table, ..asked.clone() },
                (_, Ok(table)) => TableRequest::all_of(table),
                (_, Err(_)) => TableRequest::all_of(TablePattern::exact("", &t.table_name)),
            }
        })
        .collect();
    let whole = archive.tables.is_empty() && archive.error.is_some();
    if missing.is_empty() && !whole {
        return Step::Reject(ErrorReport::permanent(
            "nothing_failed",
            format!("every table of job `{job}` is in place"),
            "publish a new request to export them again",
        ));
    }
    let mut request = archive.request.clone();
    if !whole {
        request.tables = missing;
        request.exclude.clear();
    }
    let id = job.retry(job.retry_number() + 1);
    request.job_id = Some(id.clone());
    // The process that stores the request sets the owner.
    let stored = StoredRequest::new(id, archive.source.clone(), request, archive.committed_at, Owner::Nobody);
    Step::Store(Box::new(StoredRequest {
        caller: Caller { traceparent: archive.caller.traceparent.clone(), ..Caller::default() },
        retry_of: Some(job.clone()),
        ..stored
    }))
}
