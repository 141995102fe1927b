//! The coordinator: hears the inbox, looks at the folder, makes decisions and
//! performs them one by one. Whoever consumes the inbox is coordinator, and
//! two at once are harmless (invariant I10): every effect is fenced by what is
//! on disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::decide::{Circumstances, decide};
use super::latest::Latest;
use super::look::{self, Found};
use super::state::JobState;
use super::window::Window;
use crate::bus::{BusError, Delivery, Queue, Session};
use crate::context::Context;
use crate::folder::{Folder, FolderError, layout};
use crate::message::inbox::Wake;
use crate::message::{InboxMessage, JobId};

mod deal;
mod perform;

/// Messages taken out of the inbox before decisions are made.
const INBOX_BATCH: usize = 256;
/// Prefetch of the inbox.
pub const PREFETCH: u16 = 512;
/// Between two deliveries decisions are made at least this often.
const TICK: Duration = Duration::from_millis(500);

/// What can end the coordinator's work on a session.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The session is over.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The folder is of a newer release, or not there.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

impl From<std::io::Error> for CoordinatorError {
    fn from(e: std::io::Error) -> Self {
        Self::Folder(e.into())
    }
}

/// One term as coordinator: from the first delivery to the end of the session.
pub struct Coordinator {
    context: Arc<Context>,
    session: Arc<dyn Session>,
    jobs: BTreeMap<JobId, JobState>,
    window: Window,
    latest: Latest,
    clock: OwnClock,
    last_look: Option<Duration>,
    takeover: Takeover,
}

/// How much is known of what a predecessor handed out.
#[derive(Clone, Copy)]
enum Takeover {
    New,
    Asked(Duration),
    Done,
}

/// Time that this process was running: its own pauses are not counted.
struct OwnClock {
    up: Duration,
    last: Instant,
}

impl OwnClock {
    fn new() -> Self {
        Self { up: Duration::ZERO, last: Instant::now() }
    }

    fn now(&mut self) -> Duration {
        let now = Instant::now();
        self.up += now.duration_since(self.last).min(TICK * 4);
        self.last = now;
        self.up
    }
}

/// Runs as coordinator while this daemon is the active consumer of the inbox.
///
/// # Errors
/// When the session ends or the folder cannot be read.
pub async fn run(
    context: Arc<Context>,
    session: Arc<dyn Session>,
    beat: impl Fn() + Send,
    stop: CancellationToken,
) -> Result<(), CoordinatorError> {
    let mut inbox = session.subscribe(Queue::Coordinator, PREFETCH).await?;
    let mut term: Option<Coordinator> = None;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beat();
        let first = tokio::select! {
            () = stop.cancelled() => break,
            delivery = inbox.next() => Some(delivery.ok_or(BusError::Closed)?),
            _ = tick.tick() => None,
        };
        if term.is_none() && first.is_none() {
            continue;
        }
        let coordinator = term.get_or_insert_with(|| {
            info!(instance = %context.instance, "this daemon coordinates now");
            context.metrics.coordinator_active.set(1);
            Coordinator::new(Arc::clone(&context), Arc::clone(&session))
        });
        let mut deliveries: Vec<Delivery> = first.into_iter().collect();
        while deliveries.len() < INBOX_BATCH {
            match inbox.deliveries.try_recv() {
                Ok(delivery) => deliveries.push(delivery),
                Err(_) => break,
            }
        }
        let result = coordinator.turn(deliveries).await;
        if let Err(e) = result {
            leave(&context);
            return Err(e);
        }
    }
    leave(&context);
    Ok(())
}

/// Another process coordinates from now on, and has the figures.
fn leave(context: &Context) {
    context.metrics.coordinator_active.set(0);
    context.metrics.set_jobs([]);
}

impl Coordinator {
    fn new(context: Arc<Context>, session: Arc<dyn Session>) -> Self {
        Self {
            context,
            session,
            jobs: BTreeMap::new(),
            window: Window::default(),
            latest: Latest::default(),
            clock: OwnClock::new(),
            last_look: None,
            takeover: Takeover::New,
        }
    }

    fn folder(&self) -> &Folder {
        &self.context.folder
    }

    /// Takes messages in, makes and performs decisions until there is nothing
    /// left to decide, then acknowledges (after their effect).
    async fn turn(&mut self, deliveries: Vec<Delivery>) -> Result<(), CoordinatorError> {
        let mut touched: Vec<JobId> = Vec::new();
        for delivery in &deliveries {
            match serde_json::from_slice(&delivery.body) {
                Ok(InboxMessage::Alive(alive)) => {
                    let up = self.clock.now();
                    self.window.heard(alive, up);
                }
                Ok(InboxMessage::Wake(wake)) => touched.extend(self.wake(wake).await?),
                Err(e) => warn!(error = %e, "the inbox holds a message that is none of ours; it is dropped"),
            }
        }
        let up = self.clock.now();
        let look = self.context.config.timing.look_interval.0;
        let whole = self.last_look.is_none_or(|last| up.saturating_sub(last) >= look);
        if whole {
            self.folder().guard().await?;
            self.look().await?;
            self.last_look = Some(self.clock.now());
        }
        let due: Vec<JobId> = if whole || deliveries.is_empty() {
            self.jobs.keys().cloned().collect()
        } else {
            touched.sort_unstable();
            touched.dedup();
            touched
        };
        for job in due {
            self.advance(&job).await?;
        }
        self.deal().await?;
        self.measure();
        for delivery in deliveries {
            delivery.settle.ack().await?;
        }
        Ok(())
    }

    /// Looks where a wake-up points to.
    async fn wake(&mut self, wake: Wake) -> Result<Option<JobId>, CoordinatorError> {
        let Some(job) = wake.job else {
            self.last_look = None;
            return Ok(None);
        };
        let up = self.clock.now();
        let folder = self.context.folder.clone();
        match (self.jobs.get_mut(&job), wake.chunk) {
            (Some(state), Some(chunk)) => look::chunk(&folder, state, chunk, up).await?,
            (Some(state), None) => look::refresh(&folder, state, up).await?,
            (None, _) => self.open(&job).await?,
        }
        Ok(Some(job))
    }

    /// Reads a job that was not known.
    async fn open(&mut self, job: &JobId) -> Result<(), CoordinatorError> {
        let up = self.clock.now();
        match look::open(self.folder(), job, &self.context.owner, up).await? {
            Found::Job(state) => {
                debug!(job.id = %job, "a job is known now");
                self.jobs.insert(job.clone(), *state);
            }
            Found::NotOurs => {}
            Found::Headless => self.trash_headless(job).await?,
        }
        Ok(())
    }

    /// A workspace without request is trashed when it is old: its intake died.
    async fn trash_headless(&self, job: &JobId) -> Result<(), CoordinatorError> {
        let path = layout::workspace(job);
        let Some(stat) = self.folder().store().stat(&path).await? else { return Ok(()) };
        let age = self.context.now().duration_since(stat.modified);
        if Duration::try_from(age).unwrap_or_default() > self.context.config.timing.abandoned_workspace.0 {
            self.folder().discard(&path, &format!("headless_{job}")).await?;
        }
        Ok(())
    }

    /// Looks at the whole folder.
    async fn look(&mut self) -> Result<(), CoordinatorError> {
        let folder = self.context.folder.clone();
        for name in folder.store().list(layout::TEMP).await? {
            let Some(job) = layout::job_of_workspace(&name) else { continue };
            let up = self.clock.now();
            match self.jobs.get_mut(&job) {
                Some(state) => look::refresh(&folder, state, up).await?,
                None => self.open(&job).await?,
            }
        }
        self.latest.repair(&folder).await?;
        folder.empty_trash().await?;
        if let Ok(free) = folder.store().free_bytes().await {
            self.context.metrics.root_free_bytes.set(free as f64);
        }
        Ok(())
    }

    fn circumstances(&mut self, job: &JobId) -> Circumstances {
        let timing = &self.context.config.timing;
        let sources = self.context.sources();
        let entry = self.jobs.get(job).and_then(|j| sources.get(&j.stored.source));
        let up = self.clock.now();
        Circumstances {
            now: self.context.now(),
            up,
            claimed: self.window.claimed(),
            settled: up > timing.alive_timeout.0,
            progress_interval: timing.progress_interval.0,
            stalled_after: timing.stalled_after.0,
            max_snapshot_age: entry.and_then(|e| e.config.max_snapshot_age.0).map(|s| s.0),
        }
    }

    /// Performs what is decided for a job until there is nothing to decide.
    async fn advance(&mut self, job: &JobId) -> Result<(), CoordinatorError> {
        loop {
            let at = self.circumstances(job);
            let Some(state) = self.jobs.get(job) else { return Ok(()) };
            let effects = decide(state, &at);
            if effects.is_empty() {
                return Ok(());
            }
            for effect in effects {
                match self.perform(effect).await {
                    Ok(()) => {}
                    Err(CoordinatorError::Folder(e)) if !matches!(e, FolderError::WrongRoot(_)) => {
                        warn!(job.id = %job, error = %e, "a step of the job failed; it is tried again");
                        self.postpone(job).await?;
                        return Ok(());
                    }
                    Err(e) => return Err(e),
                }
            }
        }
    }

    /// After an error of the folder: not before a while, and with fresh eyes.
    async fn postpone(&mut self, job: &JobId) -> Result<(), CoordinatorError> {
        let up = self.clock.now();
        let gone = self.folder().store().stat(&layout::workspace(job)).await?.is_none();
        if gone {
            // Another coordinator has finished it.
            self.jobs.remove(job);
        } else if let Some(state) = self.jobs.get_mut(job) {
            state.not_before = up + self.context.config.timing.retry_first.0;
        }
        Ok(())
    }

    fn measure(&self) {
        let (mut running, mut waiting) = (0, 0);
        for job in self.jobs.values() {
            if job.plans.is_empty() { waiting += 1 } else { running += 1 }
        }
        self.context.metrics.set_jobs([("running", running), ("waiting", waiting)]);
        let oldest = self.jobs.values().filter_map(JobState::oldest_snapshot).min();
        let age = oldest.map_or(0.0, |t| self.context.now().duration_since(t).as_secs_f64().max(0.0));
        self.context.metrics.oldest_snapshot_age_seconds.set(age);
    }
}
