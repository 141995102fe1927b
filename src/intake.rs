//! From a message to a durable request (invariant I2). What should happen is
//! decided from the message and from what the folder says of its job; one thin
//! layer performs it and acknowledges last.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::bus::{BusError, Delivery, Outgoing, Properties, Queue, Session};
use crate::context::Context;
use crate::folder::{Created, FolderError, VERSION, layout};
use crate::job::archive::{Archive, TableStatus};
use crate::job::outcome::{CancelCause, CancelMark, Owner, StoredRequest};
use crate::job::report::Rejection;
use crate::message::event::ErrorReport;
use crate::message::inbox::Wake;
use crate::message::pattern::TablePattern;
use crate::message::request::{InvalidRequest, RequestMessage};
use crate::message::{Control, ExportRequest, InboxMessage, JobId, SourceName, TableRequest};

/// Largest request.
pub const MAX_BYTES: usize = 1 << 20;
/// Prefetch of the requests queue.
const PREFETCH: u16 = 16;

/// What a message asks for, read without looking at the folder.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
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
    /// Its request, if it has a workspace.
    pub request: Option<StoredRequest>,
    /// Its archive, if it is finished.
    pub archive: Option<Archive>,
    /// Whether somebody cancelled it already.
    pub cancelled: bool,
}

/// What should happen to a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Make the workspace and store the request; if somebody else was first,
    /// decide again.
    Store(Box<StoredRequest>),
    /// Write `cancel.json` and tell everybody.
    Cancel(JobId),
    /// Wake the coordinator: the job goes on.
    Wake(JobId),
    /// Tell its end again.
    TellEnd(JobId),
    /// Refuse it.
    Reject(ErrorReport),
}

/// Facts that reading a request needs.
#[derive(Clone, Debug)]
pub struct Desk {
    /// Sources that the configuration names.
    pub sources: Vec<SourceName>,
    /// Whose jobs they become.
    pub owner: Owner,
    /// The wall clock.
    pub now: jiff::Timestamp,
    /// For a request without any id.
    pub fresh: Uuid,
}

/// Reads a message. The error is what its publisher gets to read.
///
/// # Errors
/// Names the field or object and the remedy.
pub fn read(body: &[u8], properties: &Properties, desk: &Desk) -> Result<Wish, ErrorReport> {
    if body.len() > MAX_BYTES {
        return Err(ErrorReport::permanent(
            "too_large",
            format!("the request has {} bytes, at most 1 MiB is read", body.len()),
            "use patterns such as sales.*, or several requests",
        ));
    }
    let message = RequestMessage::parse(body).map_err(|e| {
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
        RequestMessage::Cancel(job) => Wish::Cancel(job),
        RequestMessage::Retry(job) => Wish::Retry(job),
        RequestMessage::Export(request) => Wish::Export(Box::new(stored(*request, body, properties, desk)?)),
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
        message_id: properties.message_id.clone(),
        reply_to: properties.reply_to.clone(),
        correlation_id: properties.correlation_id.clone(),
        traceparent: properties.traceparent.clone(),
        user_id: properties.user_id.clone(),
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

/// Hexadecimal SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// What should happen, given what the folder says of the job.
#[must_use]
pub fn decide(wish: &Wish, known: &Known) -> Step {
    match wish {
        Wish::Export(stored) => {
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
        Wish::Cancel(job) => match known {
            Known { archive: Some(_), .. } => Step::TellEnd(job.clone()),
            Known { request: Some(_), .. } => Step::Cancel(job.clone()),
            _ => Step::Reject(unknown_job(job)),
        },
        Wish::Retry(job) => match known {
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

/// The request of a retry: the tables that are not in place, as they were asked for.
fn retry(job: &JobId, archive: &Archive) -> Step {
    let missing: Vec<TableRequest> = archive
        .tables
        .iter()
        .filter(|t| t.status != TableStatus::Completed)
        .map(|t| {
            let pattern = TablePattern::parse(&t.table_name);
            let asked = pattern.as_ref().ok().and_then(|p| {
                let (schema, table) = p.literal()?;
                archive.request.tables.iter().find(|r| r.table.matches(&schema, &table))
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
    let stored =
        StoredRequest::new(id, archive.source.clone(), request, archive.committed_at, Owner::OneShot);
    Step::Store(Box::new(StoredRequest {
        traceparent: archive.traceparent.clone(),
        retry_of: Some(job.clone()),
        ..stored
    }))
}

/// What can keep a message from being settled.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The session is over.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The folder refuses.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// Takes requests in while the session lasts.
///
/// # Errors
/// When the session ends. Errors of the folder release the message and wait.
pub async fn run(
    context: Arc<Context>,
    session: Arc<dyn Session>,
    stop: CancellationToken,
) -> Result<(), IntakeError> {
    let mut requests = session.subscribe(Queue::Requests, PREFETCH).await?;
    loop {
        let delivery = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            delivery = requests.next() => delivery.ok_or(BusError::Closed)?,
        };
        match take(&context, &*session, &delivery).await {
            Ok(()) => delivery.settle.ack().await?,
            Err(IntakeError::Bus(e)) => return Err(e.into()),
            Err(IntakeError::Folder(e)) => {
                warn!(error = %e, "a request could not be stored; it is released and taken again later");
                let pause = context.config.timing.unfit_retry.0;
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(pause) => {}
                }
                delivery.settle.release().await?;
            }
        }
    }
}

/// Performs what one message asks for; when it returns `Ok`, all of it is
/// durable and confirmed.
///
/// # Errors
/// When the folder or the bus refuses: the message must come again.
pub async fn take(context: &Context, session: &dyn Session, delivery: &Delivery) -> Result<(), IntakeError> {
    context.folder.guard().await?;
    let desk = Desk {
        sources: context.sources().keys().cloned().collect(),
        owner: context.owner.clone(),
        now: context.now(),
        fresh: Uuid::new_v4(),
    };
    let wish = match read(&delivery.body, &delivery.properties, &desk) {
        Ok(wish) => wish,
        Err(error) => return reject(context, session, delivery, None, error).await,
    };
    let mut job = match &wish {
        Wish::Export(stored) => stored.job.clone(),
        Wish::Cancel(job) | Wish::Retry(job) => job.clone(),
    };
    let mut step = decide(&wish, &known(context, &job).await?);
    if let (Wish::Retry(_), Step::Store(stored)) = (&wish, &mut step) {
        stored.received_at = desk.now;
        stored.owner = desk.owner.clone();
        stored.message_id = delivery.properties.message_id.clone();
        stored.reply_to = delivery.properties.reply_to.clone();
        stored.correlation_id = delivery.properties.correlation_id.clone();
        stored.user_id = delivery.properties.user_id.clone();
        job = stored.job.clone();
        // The same retry may have been stored before.
        step = decide(&Wish::Export(stored.clone()), &known(context, &job).await?);
    }
    if let Step::Store(stored) = &step {
        if store(context, stored).await? == Created::New {
            info!(job.id = %job, source = %stored.source, "a request is stored");
            session.publish(context.reporter.accepted(stored)).await?;
            session.publish(wake(&job)).await?;
            return Ok(());
        }
        step = decide(&Wish::Export(stored.clone()), &known(context, &job).await?);
    }
    match step {
        Step::Store(_) => Err(FolderError::Inconsistent("a request appeared and vanished").into()),
        Step::Wake(job) => Ok(session.publish(wake(&job)).await?),
        Step::TellEnd(job) => {
            if let Some(archive) = context.folder.read::<Archive>(&layout::archive_by_id(&job)).await? {
                let mut end = context.reporter.finished(&archive);
                if let Outgoing::Event { reply_to, correlation_id, .. } = &mut end {
                    reply_to.clone_from(&delivery.properties.reply_to);
                    correlation_id.clone_from(&delivery.properties.correlation_id);
                }
                session.publish(end).await?;
            }
            Ok(())
        }
        Step::Cancel(job) => {
            let by = delivery.properties.user_id.clone();
            let mark = CancelMark { v: VERSION, why: CancelCause::Request, by, at: desk.now };
            match context.folder.create(&layout::cancel(&job), &mark).await {
                // The job has just finished: its end is told by its coordinator.
                Err(e) if e.is_gone() => {}
                other => {
                    other?;
                }
            }
            session.publish(Outgoing::Control(Control::Cancel { job: job.clone() })).await?;
            Ok(session.publish(wake(&job)).await?)
        }
        Step::Reject(error) => reject(context, session, delivery, Some(job), error).await,
    }
}

fn wake(job: &JobId) -> Outgoing {
    Outgoing::Inbox(InboxMessage::Wake(Wake { job: Some(job.clone()), chunk: None }))
}

async fn known(context: &Context, job: &JobId) -> Result<Known, FolderError> {
    // The archive last: a job that is just being finished has one of both.
    let request = context.folder.read(&layout::request(job)).await?;
    let cancelled = context.folder.store().stat(&layout::cancel(job)).await?.is_some();
    let archive = context.folder.read(&layout::archive_by_id(job)).await?;
    Ok(Known { request, archive, cancelled })
}

/// Makes the workspace and stores the request in it.
///
/// # Errors
/// When the folder refuses.
pub async fn store(context: &Context, stored: &StoredRequest) -> Result<Created, FolderError> {
    let folder = &context.folder;
    let workspace = layout::workspace(&stored.job);
    let name = workspace.rsplit('/').next().unwrap_or_default().to_owned();
    folder.store().make_dirs(layout::TEMP, vec![name]).await?;
    let dirs = layout::WORKSPACE_DIRS.iter().map(|d| (*d).to_owned()).collect();
    folder.store().make_dirs(&workspace, dirs).await?;
    folder.create(&layout::request(&stored.job), stored).await
}

async fn reject(
    context: &Context,
    session: &dyn Session,
    delivery: &Delivery,
    job: Option<JobId>,
    error: ErrorReport,
) -> Result<(), IntakeError> {
    warn!(code = error.code, reason = error.message, "a request is rejected");
    let rejection = Rejection {
        job: job.or_else(|| job_of(&delivery.body)),
        source: None,
        message_id: delivery.properties.message_id.clone(),
        reply_to: delivery.properties.reply_to.clone(),
        correlation_id: delivery.properties.correlation_id.clone(),
        body_sha256: sha256(&delivery.body),
        error,
    };
    Ok(session.publish(context.reporter.rejected(rejection, context.now())).await?)
}

/// The job id of a body that could not be read as a whole.
fn job_of(body: &[u8]) -> Option<JobId> {
    let value: serde_json::Value = serde_json::from_slice(body.get(..MAX_BYTES.min(body.len()))?).ok()?;
    JobId::parse(value.get("job_id")?.as_str()?).ok()
}
