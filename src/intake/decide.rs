//! What a message asks for, and what should happen to it: pure functions of the message and of what the
//! folder knows of the job.

use uuid::Uuid;

use super::encoding::{decoded, too_large};
use crate::bus::Properties;
use crate::folder::{Folder, FolderError};
use crate::job::archive::{Archive, TableStatus};
use crate::job::outcome::{NewJob, Owner, StoredRequest, sha256};
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
    Export(Box<NewJob>),
    /// End a job.
    Cancel(JobId),
    /// Export again what failed in a job.
    Retry(JobId),
}

/// What the folder says of the job that a message names.
#[derive(Clone, Debug, Default)]
pub enum Known {
    /// It has no request and no archive.
    #[default]
    Nothing,
    /// It has a workspace.
    Stored {
        /// Its request.
        request: Box<StoredRequest>,
        /// Whether the workspace belongs to another owner: a one-shot export, or daemons with another broker
        /// or prefix.
        foreign: bool,
    },
    /// It has ended.
    Ended(Box<Archive>),
    /// Its request or its archive cannot be read.
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Known {
    /// Looks at the folder. `is_ours` says of an owner whether this process works on its jobs, or may have it
    /// done.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn look(
        folder: &Folder,
        job: &JobId,
        is_ours: impl Fn(&Owner) -> bool,
    ) -> Result<Self, FolderError> {
        // Read the archive last: a job that is just being finished then has at least one of the two.
        let workspace = folder.job(job);
        let request = workspace.request().await;
        match (workspace.archive().await, request) {
            (Ok(Some(archive)), _) => Ok(Self::Ended(Box::new(archive))),
            (Err(FolderError::Unreadable { path, why }), _)
            | (Ok(None), Err(FolderError::Unreadable { path, why })) => Ok(Self::Damaged { path, why }),
            (Err(error), _) | (Ok(None), Err(error)) => Err(error),
            (Ok(None), Ok(Some(request))) => {
                let foreign = !is_ours(&request.owner);
                Ok(Self::Stored { request: Box::new(request), foreign })
            }
            (Ok(None), Ok(None)) => Ok(Self::Nothing),
        }
    }
}

/// What should happen to a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Make the workspace and store the request. If the request exists already, decide again.
    Store(Box<NewJob>),
    /// Write `cancel.json` and tell all daemons.
    Cancel(JobId),
    /// Wake the coordinator: the job goes on.
    Wake(JobId),
    /// Publish its final event again.
    TellEnd(JobId),
    /// Refuse it.
    Reject(ErrorReport),
}

/// Facts that reading a request needs.
#[derive(Clone, Debug)]
pub struct Desk {
    /// Sources that the configuration names.
    pub sources: Vec<SourceName>,
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
            RequestedAction::Export(Box::new(new_job(*request, body, properties, desk)?))
        }
    })
}

fn new_job(
    request: ExportRequest,
    body: &[u8],
    properties: &Properties,
    desk: &Desk,
) -> Result<NewJob, ErrorReport> {
    let source = resolve(request.source.as_ref(), &desk.sources)?;
    let job = request
        .job_id
        .clone()
        .unwrap_or_else(|| JobId::from_message_id(properties.message_id.as_deref(), desk.fresh));
    Ok(NewJob {
        job,
        source,
        request,
        body_sha256: sha256(body),
        caller: properties.caller(),
        retry_of: None,
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
    match (known, action) {
        (Known::Damaged { path, why }, _) => Step::Reject(damaged(path, why)),
        (Known::Stored { foreign: true, .. }, _) => Step::Reject(ErrorReport {
            retryable: true,
            ..ErrorReport::permanent(
                "job_id_taken",
                "the job id is in use by an export that other daemons or a one-shot command work on in this folder",
                "use another job_id, or wait until that job has ended",
            )
        }),
        (Known::Nothing, RequestedAction::Export(new)) => Step::Store(new.clone()),
        (Known::Stored { request, .. }, RequestedAction::Export(new)) => {
            again(new, (&request.request, &request.source), Step::Wake)
        }
        (Known::Ended(archive), RequestedAction::Export(new)) => {
            again(new, (&archive.request, &archive.source), Step::TellEnd)
        }
        (Known::Nothing, RequestedAction::Cancel(job) | RequestedAction::Retry(job)) => {
            Step::Reject(unknown_job(job))
        }
        (Known::Stored { .. }, RequestedAction::Cancel(job)) => Step::Cancel(job.clone()),
        (Known::Ended(_), RequestedAction::Cancel(job)) => Step::TellEnd(job.clone()),
        (Known::Stored { .. }, RequestedAction::Retry(job)) => Step::Reject(ErrorReport {
            retryable: true,
            ..ErrorReport::permanent(
                "still_running",
                format!("job `{job}` has not finished"),
                "retry it after its final event",
            )
        }),
        (Known::Ended(archive), RequestedAction::Retry(job)) => match retry(job, archive) {
            Ok(new) => Step::Store(Box::new(new)),
            Err(error) => Step::Reject(error),
        },
    }
}

/// What should happen to a request whose job exists: `then`, if the job has the very same request.
fn again(new: &NewJob, seen: (&ExportRequest, &SourceName), then: fn(JobId) -> Step) -> Step {
    if seen == (&new.request, &new.source) {
        return then(new.job.clone());
    }
    Step::Reject(ErrorReport::permanent(
        "job_id_taken",
        format!("job id `{}` belongs to another request already", new.job),
        "use a new job_id, or send the very same request again",
    ))
}

fn damaged(path: &str, why: &str) -> ErrorReport {
    ErrorReport::permanent(
        "damaged_job",
        format!("{path} of the job cannot be read: {why}"),
        "restore the file, or use a new job_id",
    )
}

fn unknown_job(job: &JobId) -> ErrorReport {
    ErrorReport::permanent(
        "unknown_job",
        format!("there is no job `{job}` in this export folder"),
        "see `adu-export status` for the jobs that are known",
    )
}

/// The job of a retry: the tables that were not completed, as they were asked for.
fn retry(job: &JobId, archive: &Archive) -> Result<NewJob, ErrorReport> {
    let mut missing: Vec<TableRequest> = Vec::new();
    for table in archive.tables.iter().filter(|t| t.status != TableStatus::Completed) {
        let pattern = TablePattern::parse(&table.table_name)
            .map_err(|e| damaged(&archive.path(), &format!("table {:?}: {e}", table.table_name)))?;
        let asked = pattern.literal().and_then(|(schema, name)| archive.request.entry_for(&schema, &name));
        missing.push(match asked {
            Some(asked) => TableRequest { table: pattern, ..asked.clone() },
            None => TableRequest::all_of(pattern),
        });
    }
    let whole = archive.tables.is_empty() && archive.error.is_some();
    if missing.is_empty() && !whole {
        return Err(ErrorReport::permanent(
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
    Ok(NewJob {
        caller: Caller { traceparent: archive.caller.traceparent.clone(), ..Caller::default() },
        retry_of: Some(job.clone()),
        ..NewJob::new(id, archive.source.clone(), request)
    })
}
