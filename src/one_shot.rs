//! The one-shot export: the same intake, coordinator and worker as the
//! daemon's, in one process over an in-process bus. Its workspace is locked
//! while it runs; a run that was killed is resumed by the next equal one.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::bus::memory::MemoryBus;
use crate::bus::{Bus, BusError, Outgoing, Session};
use crate::config::{Auto, Config};
use crate::context::Context;
use crate::daemon::roles::{self, RoleError, Roles};
use crate::daemon::signals::{Signal, Signals};
use crate::daemon::{self, StartError};
use crate::folder::{Folder, FolderError, VERSION, layout};
use crate::http::Health;
use crate::intake;
use crate::job::archive::Archive;
use crate::job::look::{self, Found};
use crate::job::outcome::{CancelCause, CancelMark, Owner, StoredRequest};
use crate::job::state::JobState;
use crate::message::inbox::Wake;
use crate::message::setting::Span;
use crate::message::{Control, Event, ExportRequest, InboxMessage, JobId, SourceName, Task};
use crate::metrics::Metrics;
use crate::source::{ErrorKind, SourceError};
use crate::worker::Worker;

/// How often the progress is shown.
const FRAME: Duration = Duration::from_millis(250);
/// How long things may take to come to rest at the end.
const REST: Duration = Duration::from_secs(10);

/// Why a one-shot export could not run.
#[derive(Debug, thiserror::Error)]
pub enum OneShotError {
    /// Configuration, folder.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The export folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The source does not answer, or not to us.
    #[error("{0}")]
    Source(SourceError),
    /// A role ended.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// The in-process bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// Another run works on the same tables in the same folder.
    #[error("another export with the same request runs in {0}; wait for it, or use another --out")]
    Running(String),
}

/// What is shown while it runs.
pub struct Frame<'a> {
    /// What the folder says.
    pub job: &'a JobState,
    /// Tasks that run, with rows and bytes so far.
    pub running: Vec<(Task, u64, u64)>,
    /// Since the start.
    pub elapsed: Duration,
}

/// Runs one export to its end.
///
/// # Errors
/// When it cannot start; failures of tables are in the archive.
pub async fn run(
    mut config: Config,
    source: SourceName,
    request: ExportRequest,
    mut show: impl FnMut(Frame<'_>),
) -> Result<Archive, OneShotError> {
    let mut signals = Signals::install().map_err(StartError::from)?;
    hurry(&mut config);
    let sources = daemon::sources(&config)?;
    let group = daemon::group(&config)?;
    if let Some(entry) = sources.get(&source) {
        reachable(&*entry.source).await?;
    }
    let folder = Folder::init(config.export.root.clone(), group).await?;
    let metrics = Arc::new(Metrics::new());
    let context = Context::new(config, folder, Owner::OneShot, sources, metrics);
    let (job, _lock) = adopt(&context, source, request).await?;

    let bus = MemoryBus::new();
    let mut events = bus.events();
    let session = bus.connect().await?;
    let worker = Worker::new(Arc::clone(&context), roles::slots(&context));
    let stop = CancellationToken::new();
    let roles = Roles {
        context: Arc::clone(&context),
        worker: Arc::clone(&worker),
        health: Health::new(),
        stop: stop.clone(),
    };
    let playing = {
        let session = Arc::clone(&session);
        tokio::spawn(async move { roles.play(&session).await })
    };
    let start = Instant::now();
    let mut watch = Watch { context: &context, worker: &worker, job: &job, state: None, start };
    let mut frame = tokio::time::interval(FRAME);
    let mut playing = Some(playing);
    let mut asked = 0;
    let ended = loop {
        tokio::select! {
            _ = frame.tick() => watch.show(&mut show).await?,
            event = events.recv() => {
                // A listener that fell behind finds the end in the folder.
                if event.as_ref().is_ok_and(|e: &Event| e.kind.is_final()) || event.is_err() {
                    if let Some(archive) = end_of(&context, &job).await? {
                        break Ok(archive);
                    }
                }
            }
            signal = signals.next() => {
                asked += 1;
                if signal != Signal::Stop || asked > 1 {
                    stop.cancel();
                    break Err(OneShotError::Role(RoleError::Broken("stopped at once".into())));
                }
                cancel(&context, &*session, &job).await?;
            }
            played = async { match playing.as_mut() { Some(p) => p.await, None => std::future::pending().await } } => {
                playing = None;
                match played {
                    Ok(Err(e)) => break Err(e.into()),
                    Err(panic) => break Err(RoleError::Broken(panic.to_string()).into()),
                    Ok(Ok(())) => {}
                }
            }
        }
    };
    watch.show(&mut show).await?;
    stop.cancel();
    let at_once = CancellationToken::new();
    at_once.cancel();
    worker.shared().keepers.release_job(&job);
    worker.drain(Instant::now() + REST, &at_once).await;
    session.close().await;
    if let Some(playing) = playing {
        let _ = tokio::time::timeout(REST, playing).await;
    }
    for entry in context.sources().values() {
        let _ = tokio::time::timeout(REST, entry.source.close()).await;
    }
    ended
}

/// Nobody else holds anything of this job: what waits for others need not wait long.
fn hurry(config: &mut Config) {
    let timing = &mut config.timing;
    timing.alive_interval = Span(Duration::from_millis(500));
    timing.alive_timeout = Span::seconds(2);
    timing.keeper_wait = Span::seconds(1);
    timing.progress_interval = Span::seconds(1);
    if let Auto::Exactly(workers) = config.export.workers {
        for source in config.sources.values_mut() {
            source.pool_size = source.pool_size.max(workers);
        }
    }
}

/// A person waits: what will not get better by itself is told at once.
async fn reachable(source: &dyn crate::source::Source) -> Result<(), OneShotError> {
    match source.check().await {
        Ok(_) => Ok(()),
        Err(e) if e.kind == ErrorKind::Exhausted => Ok(()),
        Err(e) => Err(OneShotError::Source(e)),
    }
}

/// Resumes an equal run that was killed, or stores the request as a new job.
/// Workspaces of other runs that were killed are trashed.
async fn adopt(
    context: &Context,
    source: SourceName,
    request: ExportRequest,
) -> Result<(JobId, File), OneShotError> {
    let folder = &context.folder;
    for name in folder.store().list(layout::TEMP).await.map_err(FolderError::from)? {
        let Some(job) = layout::job_of_workspace(&name) else { continue };
        let Some(stored) = folder.read::<StoredRequest>(&layout::request(&job)).await? else { continue };
        if stored.owner != Owner::OneShot {
            continue;
        }
        let same = stored.source == source && wanted(&stored.request) == wanted(&request);
        match lock(context, &job)? {
            None if same => return Err(OneShotError::Running(folder.root().display().to_string())),
            None => {}
            Some(lock) if same => {
                info!(job.id = %job, "resumes the export that was killed");
                return Ok((job, lock));
            }
            Some(_lock) => {
                warn!(job.id = %job, "trashes the workspace of another export that was killed");
                folder.discard(&layout::workspace(&job), &format!("job_{job}")).await?;
            }
        }
    }
    let job = request.job_id.clone().unwrap_or_else(|| JobId::from_message_id(None, Uuid::new_v4()));
    let stored = StoredRequest::new(job.clone(), source, request, context.now(), Owner::OneShot);
    intake::store(context, &stored).await?;
    let lock =
        lock(context, &job)?.ok_or_else(|| OneShotError::Running(folder.root().display().to_string()))?;
    Ok((job, lock))
}

/// What tells requests apart: not their id, nor how much runs at once.
fn wanted(request: &ExportRequest) -> ExportRequest {
    ExportRequest { job_id: None, source: None, parallelism: Default::default(), ..request.clone() }
}

/// Locks a workspace; `None` if another process holds it. It is free as soon
/// as this process ends, however it ends.
fn lock(context: &Context, job: &JobId) -> Result<Option<File>, FolderError> {
    use rustix::fs::{FlockOperation, flock};
    let path = context.folder.root().join(layout::request(job));
    let file = File::open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(e) if e == rustix::io::Errno::WOULDBLOCK => Ok(None),
        Err(e) => Err(std::io::Error::from(e).into()),
    }
}

/// The archive, once all that is left of the job is done.
async fn end_of(context: &Context, job: &JobId) -> Result<Option<Archive>, FolderError> {
    let Some(archive) = context.folder.read::<Archive>(&layout::archive_by_id(job)).await? else {
        return Ok(None);
    };
    let until = Instant::now() + REST;
    while context.folder.store().stat(&layout::workspace(job)).await?.is_some() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(Some(archive))
}

async fn cancel(context: &Context, session: &dyn Session, job: &JobId) -> Result<(), OneShotError> {
    let mark =
        CancelMark { v: VERSION, why: CancelCause::Request, by: Some("interrupt".into()), at: context.now() };
    match context.folder.create(&layout::cancel(job), &mark).await {
        Err(e) if e.is_gone() => {}
        other => {
            other?;
        }
    }
    session.publish(Outgoing::Control(Control::Cancel { job: job.clone() })).await?;
    let wake = Wake { job: Some(job.clone()), chunk: None };
    Ok(session.publish(Outgoing::Inbox(InboxMessage::Wake(wake))).await?)
}

/// Follows the job in the folder.
struct Watch<'a> {
    context: &'a Context,
    worker: &'a Worker,
    job: &'a JobId,
    state: Option<Box<JobState>>,
    start: Instant,
}

impl Watch<'_> {
    async fn show(&mut self, show: &mut impl FnMut(Frame<'_>)) -> Result<(), FolderError> {
        let folder = &self.context.folder;
        match &mut self.state {
            Some(state) => look::refresh(folder, state, Duration::ZERO).await?,
            None => {
                if let Found::Job(job) = look::open(folder, self.job, &Owner::OneShot, Duration::ZERO).await?
                {
                    self.state = Some(job);
                }
            }
        }
        if let Some(state) = &self.state {
            let elapsed = self.start.elapsed();
            show(Frame { job: state, running: self.worker.progress(), elapsed });
        }
        Ok(())
    }
}
