//! What a message asks for, and what should happen to it: pure functions of the message and of the job's
//! state in the folder.

use uuid::Uuid;

use super::encoding::{decoded, too_large};
use super::known::Known;
use crate::bus::Properties;
use crate::job::archive::{Archive, TableStatus};
use crate::job::outcome::{NewJob, sha256};
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

/// What should happen to a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Make the workspace and store the request. If the request exists already, decide again.
    Store(Box<NewJob>),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::{Folder, layout};
    use crate::job::outcome::Owner;

    fn job() -> JobId {
        JobId::parse("nightly").expect("valid")
    }

    fn actions() -> [RequestedAction; 3] {
        let body = br#"{"job_id": "nightly", "tables": ["s.t", "s.\"odd.name\""]}"#;
        let desk = Desk { sources: vec![SourceName::parse("w").expect("valid")], fresh: Uuid::nil() };
        let export = read(body, &Properties::default(), &desk).expect("valid");
        [export, RequestedAction::Cancel(job()), RequestedAction::Retry(job())]
    }

    /// The archive of the job, in which one table failed.
    fn archive(table: &str) -> Archive {
        let [RequestedAction::Export(new), ..] = actions() else { panic!("an export") };
        let at = "2026-01-01T00:00:00Z";
        let value = serde_json::json!({
            "v": 2, "job_id": new.job, "status": "failed", "source": new.source, "request": new.request,
            "received_at": at, "committed_at": at, "snapshots": {}, "epochs": 1, "body_sha256": new.body_sha256,
            "performance": {
                "total_duration_seconds": 1.0, "tables_processed": 0, "total_rows_exported": 0, "total_bytes": 0,
                "rows_per_second": 0.0,
                "threading_config": {"table_threads": 0, "chunk_workers": 0, "total_parallel_operations": 0},
            },
            "tables": [{
                "table_name": table, "status": "failed", "rows": 0, "chunks": 0, "export_time_seconds": 0.0,
                "throughput_rows_per_second": 0.0, "strategy": "none", "base": "", "full": false, "epoch": 1,
            }],
        });
        serde_json::from_value(value).expect("an archive")
    }

    #[tokio::test]
    async fn a_request_for_a_damaged_job_is_refused_and_names_the_file() {
        let root = std::env::temp_dir().join(format!("adu-decide-{}", Uuid::new_v4()));
        let folder = Folder::init(root.clone(), None).await.expect("initializes");
        let job = job();
        let known = || Known::look(&folder, &job, |_| true);
        assert!(matches!(known().await, Ok(Known::Nothing)));
        let [RequestedAction::Export(new), ..] = actions() else { panic!("an export") };
        let owner = Owner::Daemons { vhost: "/".into(), prefix: "p".into() };
        folder.job(&job).store(&new.taken(owner, jiff::Timestamp::UNIX_EPOCH)).await.expect("stored");
        assert!(matches!(known().await, Ok(Known::Stored { foreign: false, .. })));
        for path in [layout::request(&job), layout::archive_by_id(&job)] {
            std::fs::write(root.join(&path), "{\"v\": 2, ").expect("damaged");
            for action in actions() {
                let Step::Reject(error) = decide(&action, &known().await.expect("looks")) else {
                    panic!("{action:?} is not refused")
                };
                assert!(error.code == "damaged_job" && error.message.starts_with(&path), "{error:?}");
            }
        }
        std::fs::remove_dir_all(root).expect("removed");
    }

    #[test]
    fn a_retry_asks_for_what_failed_and_never_for_a_table_that_it_cannot_name() {
        let [.., retry] = actions();
        let retried = |table: &str| decide(&retry, &Known::Ended(Box::new(archive(table))));
        let Step::Store(new) = retried("s.\"odd.name\"") else { panic!("it can be retried") };
        let tables: Vec<&str> = new.request.tables.iter().map(|t| t.table.as_str()).collect();
        assert_eq!((new.job.as_str(), &tables[..]), ("nightly.r1", &["s.\"odd.name\""][..]));
        let Step::Reject(error) = retried("no name") else { panic!("it names no table") };
        assert!(error.code == "damaged_job" && error.message.contains("\"no name\""), "{error:?}");
    }
}
