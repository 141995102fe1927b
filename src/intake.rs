//! From a message to a durable request (invariant I2). The message and the folder decide what should happen;
//! one thin layer performs it and acknowledges last.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::field::display;
use tracing::{info, warn};

use crate::bus::{BusError, Delivery, Outgoing, Queue, Session};
use crate::context::Context;
use crate::folder::{Created, FolderError, VERSION};
use crate::job::outcome::{CancelCause, CancelMark, NewJob, sha256};
use crate::job::report::{Rejection, Reporter};
use crate::message::event::ErrorReport;
use crate::message::inbox::Wake;
use crate::message::json::Document;
use crate::message::{Caller, Control, InboxMessage, JobId};
use crate::text::utf8;

mod decide;
mod encoding;
mod known;

pub use decide::{Desk, MAX_BYTES, RequestedAction, Step, decide, read};
pub use known::Known;

/// Prefetch of the requests queue.
const PREFETCH: u16 = 32;

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

/// Takes requests while the session lasts.
///
/// # Errors
/// When the session ends, or when the folder fails as a whole: then others should take the requests for a
/// while.
pub async fn run(
    context: Arc<Context>,
    session: Arc<dyn Session>,
    stop: CancellationToken,
) -> Result<(), IntakeError> {
    let mut requests = session.subscribe(Queue::Requests, PREFETCH).await?;
    // Messages are taken side by side, because one may wait for the job that it names. Messages that are
    // unfinished at the end come again with the next session.
    let mut takes: JoinSet<Result<(), IntakeError>> = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            Some(taken) = takes.join_next() => match taken {
                Ok(Ok(())) => {}
                Ok(Err(e)) => {
                    drop(requests);
                    // The session may go on without this subscription: settle the messages that are in hand,
                    // else nobody gets them before the session ends.
                    while takes.join_next().await.is_some() {}
                    return Err(e);
                }
                Err(broken) => warn!(error = %broken, "the intake of a request panicked; the request comes again"),
            },
            delivery = requests.next() => {
                let delivery = delivery.ok_or(BusError::Closed)?;
                let (context, session, stop) = (Arc::clone(&context), Arc::clone(&session), stop.clone());
                takes.spawn(async move { settle(&context, &*session, delivery, &stop).await });
            }
        }
    }
}

/// Takes one message and acknowledges it last, or gives it back.
async fn settle(
    context: &Context,
    session: &dyn Session,
    delivery: Delivery,
    stop: &CancellationToken,
) -> Result<(), IntakeError> {
    match take(context, session, &delivery).await {
        Ok(()) => Ok(delivery.settle.ack().await?),
        Err(IntakeError::Folder(e)) if e.concerns_all() => {
            delivery.settle.release().await?;
            Err(e.into())
        }
        Err(IntakeError::Bus(e)) => Err(e.into()),
        Err(IntakeError::Folder(e)) => {
            warn!(error = %e, "a request could not be stored; it is released and taken again later");
            let pause = context.config.timing.unfit_retry.0;
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
            Ok(delivery.settle.release().await?)
        }
    }
}

/// Performs what one message asks for. When this returns `Ok`, all of it is durable and confirmed.
///
/// # Errors
/// When the folder or the bus refuses: the message must come again.
pub async fn take(context: &Context, session: &dyn Session, delivery: &Delivery) -> Result<(), IntakeError> {
    context.folder.guard().await?;
    let now = context.now();
    let desk = Desk { sources: context.sources().keys().cloned().collect(), fresh: context.machine.fresh() };
    let action = match read(&delivery.body, &delivery.properties, &desk) {
        Ok(action) => action,
        Err(error) => return reject(context, session, delivery, None, error).await,
    };
    let mut job = match &action {
        RequestedAction::Export(new) => new.job.clone(),
        RequestedAction::Cancel(job) | RequestedAction::Retry(job) => job.clone(),
    };
    let mut seen = match &action {
        RequestedAction::Export(_) => known_anew(context, &job).await?,
        RequestedAction::Cancel(_) | RequestedAction::Retry(_) => known_soon(context, &job).await?,
    };
    let mut step = decide(&action, &seen);
    if let (RequestedAction::Retry(_), Step::Store(new)) = (&action, &mut step) {
        // Keep the trace of the job that is retried.
        let traceparent = new.caller.traceparent.take();
        new.caller = Caller { traceparent, ..delivery.properties.caller() };
        job = new.job.clone();
        // The same retry may be stored already.
        seen = known_anew(context, &job).await?;
        step = decide(&RequestedAction::Export(new.clone()), &seen);
    }
    if let Step::Store(new) = &step {
        let stored = NewJob::clone(new).taken(context.owner.clone(), now);
        if context.folder.job(&job).store(&stored).await? == Created::New {
            info!(%job, source = %stored.source, "a request is stored");
            session.publish(Reporter::new(&context.config).accepted(&stored)).await?;
            session.publish(wake(&job)).await?;
            return Ok(());
        }
        seen = known(context, &job).await?;
        step = decide(&RequestedAction::Export(new.clone()), &seen);
    }
    match step {
        Step::Store(_) => Err(FolderError::Inconsistent("a request appeared and vanished").into()),
        Step::Wake(job) => {
            // The process that stored the request may have died before it published the event, and before the
            // name was durable.
            context.folder.job(&job).sync_request().await?;
            if let Known::Stored { request, .. } = &seen {
                session.publish(Reporter::new(&context.config).accepted(request)).await?;
            }
            Ok(session.publish(wake(&job)).await?)
        }
        Step::TellEnd(_) => {
            if let Known::Ended(archive) = &seen {
                let mut end = Reporter::new(&context.config).finished(archive);
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
            let mark = CancelMark { v: VERSION, why: CancelCause::Request, by, at: now };
            // If the job has just finished, its coordinator publishes the end.
            context.folder.job(&job).cancel_if_there(&mark).await?;
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
    Known::look(&context.folder, job, |owner| *owner == context.owner).await
}

/// What is known of a job before it is stored or refused as unknown. Asks the server itself, because a
/// finished job must not run again.
async fn known_anew(context: &Context, job: &JobId) -> Result<Known, FolderError> {
    let seen = known(context, job).await?;
    if !matches!(seen, Known::Nothing) {
        return Ok(seen);
    }
    context.folder.job(job).revalidate().await?;
    known(context, job).await
}

/// What is known of a job that must have been requested before. Waits a while: another daemon may still hold
/// the request, or NFS may not show it yet.
async fn known_soon(context: &Context, job: &JobId) -> Result<Known, FolderError> {
    let timing = &context.config.timing;
    let until = Instant::now() + timing.plan_wait.0;
    loop {
        let known = known(context, job).await?;
        if !matches!(known, Known::Nothing) {
            return Ok(known);
        }
        if Instant::now() >= until {
            return known_anew(context, job).await;
        }
        tokio::time::sleep(timing.retry_first.0).await;
    }
}

async fn reject(
    context: &Context,
    session: &dyn Session,
    delivery: &Delivery,
    job: Option<JobId>,
    mut error: ErrorReport,
) -> Result<(), IntakeError> {
    error.shorten();
    let message_id = delivery.properties.message_id.as_deref().unwrap_or("(none)");
    let job = job.or_else(|| job_of(delivery));
    let named = job.as_ref().map(display);
    warn!(job = named, message_id, code = error.code, error = error.message, "a request is rejected");
    let rejection = Rejection {
        job,
        source: None,
        caller: delivery.properties.caller(),
        body_sha256: sha256(&delivery.body),
        error,
    };
    Ok(session.publish(Reporter::new(&context.config).rejected(rejection, context.now())).await?)
}

/// The job id of a refused request, if it has exactly one.
fn job_of(delivery: &Delivery) -> Option<JobId> {
    if delivery.body.len() > MAX_BYTES {
        return None;
    }
    let plain = encoding::decoded(&delivery.body, &delivery.properties).ok()?;
    let Document { value, repeated } = Document::read(utf8(&plain).ok()?).ok()?;
    // Only the first repeated field is known. If that is a field of the top level, `job_id` may be repeated
    // too.
    let given = value.get("job_id").filter(|_| repeated.is_none_or(|path| path.contains(['.', '['])));
    JobId::parse(given?.as_str()?).ok()
}
