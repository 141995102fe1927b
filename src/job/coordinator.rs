//! The coordinator: reads the inbox, looks at the folder, makes decisions and performs them one by one. The
//! daemon that consumes the inbox is the coordinator. Two at once are harmless (invariant I10): exclusive
//! files and the destination allow each effect once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::decide::{Circumstances, decide, stalled};
use super::headless::{self, AgeLimit};
use super::latest::Latest;
use super::look::{self, OpenedJob};
use super::state::JobState;
use super::window::Window;
use crate::bus::{BusError, Delivery, Outgoing, Queue, Session};
use crate::context::Context;
use crate::folder::{Aside, Folder, FolderError, Standing};
use crate::message::inbox::{Wake, may_be_newer};
use crate::message::{Control, InboxMessage, JobId};

mod clock;
mod deal;
mod perform;
mod settling;
mod stumble;

use clock::OwnClock;
use settling::Settling;

/// Messages taken out of the inbox before decisions are made.
const INBOX_BATCH: usize = 256;
/// Prefetch of the inbox.
pub const PREFETCH: u16 = 512;
/// Decisions are made at least this often, also without deliveries.
const TICK: Duration = Duration::from_millis(500);

/// What can end the coordinator's work on a session.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The session is over.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The folder has a file of a newer release, or is missing.
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
    beat: Beat,
    jobs: BTreeMap<JobId, JobState>,
    window: Window,
    settling: Settling,
    latest: Latest,
    clock: OwnClock,
    /// When to look at the whole folder next, by `clock`.
    next_look: Duration,
    takeover: Takeover,
    /// Why the last step of a job failed, by job.
    stumbles: BTreeMap<JobId, String>,
}

/// Whether the tasks that a predecessor handed out are known.
#[derive(Clone, Copy)]
enum Takeover {
    New,
    Asked(Duration),
    Done,
}

/// Tells the watchdog that the loop moves, also during a long look at many jobs.
type Beat = Arc<dyn Fn() + Send + Sync>;

/// Runs as coordinator while this daemon is the active consumer of the inbox.
///
/// # Errors
/// When the session ends or the folder cannot be read.
pub async fn run(
    context: Arc<Context>,
    session: Arc<dyn Session>,
    beat: impl Fn() + Send + Sync + 'static,
    stop: CancellationToken,
) -> Result<(), CoordinatorError> {
    let hangs = Arc::new(AtomicBool::new(false));
    let alive = Arc::clone(&hangs);
    let beat: Beat = Arc::new(move || {
        if !alive.load(Ordering::Relaxed) {
            beat();
        }
    });
    let _leave = Leave(Arc::clone(&context));
    let mut inbox = session.subscribe(Queue::Coordinator, PREFETCH).await?;
    let mut term: Option<Coordinator> = None;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        hangs.store(term.as_ref().is_some_and(|term| term.settling.hangs()), Ordering::Relaxed);
        beat();
        let first = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            // The tick comes before the inbox, because the inbox may never be empty.
            _ = tick.tick() => None,
            () = settling::due(term.as_mut()) => None,
            delivery = inbox.next() => Some(delivery.ok_or(BusError::Closed)?),
        };
        if term.is_none() && first.is_none() {
            continue;
        }
        let coordinator = term.get_or_insert_with(|| {
            info!("this daemon coordinates now");
            context.metrics.coordinator_active.set(1);
            Coordinator::new(Arc::clone(&context), Arc::clone(&session), Arc::clone(&beat))
        });
        let mut deliveries: Vec<Delivery> = first.into_iter().collect();
        while deliveries.len() < INBOX_BATCH {
            match inbox.deliveries.try_recv() {
                Ok(delivery) => deliveries.push(delivery),
                Err(_) => break,
            }
        }
        coordinator.turn(deliveries).await?;
    }
    Ok(())
}

/// Resets the coordinator's figures on every way out of a term: another process coordinates now and reports
/// them.
struct Leave(Arc<Context>);

impl Drop for Leave {
    fn drop(&mut self) {
        let metrics = &self.0.metrics;
        metrics.coordinator_active.set(0);
        metrics.set_jobs([]);
        metrics.jobs_stalled.set(0);
        metrics.oldest_snapshot_age_seconds.set(0.0);
        metrics.snapshot_holders.set(0);
    }
}

impl Coordinator {
    fn new(context: Arc<Context>, session: Arc<dyn Session>, beat: Beat) -> Self {
        Self {
            context,
            session,
            beat,
            jobs: BTreeMap::new(),
            window: Window::default(),
            settling: Settling::default(),
            latest: Latest::default(),
            clock: OwnClock::new(),
            next_look: Duration::ZERO,
            takeover: Takeover::New,
            stumbles: BTreeMap::new(),
        }
    }

    fn folder(&self) -> &Folder {
        &self.context.folder
    }

    /// Reads messages, then makes and performs decisions until nothing is left to decide. Acknowledges the
    /// messages last, after their effect.
    async fn turn(&mut self, deliveries: Vec<Delivery>) -> Result<(), CoordinatorError> {
        let mut touched: Vec<JobId> = Vec::new();
        for delivery in &deliveries {
            match serde_json::from_slice(&delivery.body) {
                Ok(InboxMessage::Alive(alive)) => {
                    let up = self.clock.now();
                    if self.window.heard(alive, up) {
                        self.introduce().await?;
                    }
                }
                Ok(InboxMessage::Wake(wake)) => match self.wake(wake).await {
                    Ok(job) => touched.extend(job),
                    Err(e) => {
                        self.tolerate(e)?;
                        // The next look finds what the wake-up pointed to. Make it soon.
                        let soon = self.clock.now() + self.context.config.timing.retry_first.0;
                        self.next_look = self.next_look.min(soon);
                    }
                },
                Err(e) if may_be_newer(&delivery.body) => {
                    debug!(error = %e, "a message of another release is ignored");
                }
                Err(e) => {
                    warn!(error = %e, "the inbox holds a message that is no inbox message; it is dropped")
                }
            }
        }
        self.take_settled(&mut touched).await?;
        let whole = self.clock.now() >= self.next_look;
        if whole {
            self.folder().guard().await?;
            self.look().await?;
            self.next_look = self.clock.now() + self.context.config.timing.look_interval.0;
        }
        let due: Vec<JobId> = if whole || (deliveries.is_empty() && touched.is_empty()) {
            self.jobs.keys().cloned().collect()
        } else {
            touched.sort_unstable();
            touched.dedup();
            touched
        };
        for job in due {
            (self.beat)();
            self.advance(&job).await?;
        }
        self.deal().await?;
        self.measure();
        for delivery in deliveries {
            delivery.settle.ack().await?;
        }
        Ok(())
    }

    /// Looks at the job or chunk that a wake-up names.
    async fn wake(&mut self, wake: Wake) -> Result<Option<JobId>, CoordinatorError> {
        let Some(job) = wake.job else {
            self.next_look = Duration::ZERO;
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
            OpenedJob::Job(state) => {
                debug!(%job, "a job became known");
                self.jobs.insert(job.clone(), *state);
            }
            OpenedJob::NotOurs => {}
            OpenedJob::Headless => headless::move_aside(self.folder(), job, self.age_limit()).await?,
        }
        Ok(())
    }

    /// How old a workspace without a request may become.
    fn age_limit(&self) -> AgeLimit {
        AgeLimit { now: self.context.now(), longest: self.context.config.timing.abandoned_workspace.0 }
    }

    /// Decides about a workspace that was moved aside.
    async fn decide_aside(&mut self, aside: &Aside) -> Result<(), CoordinatorError> {
        if headless::put_back_or_trash(self.folder(), aside, self.age_limit()).await? {
            self.jobs.remove(&aside.job);
            self.open(&aside.job).await?;
        }
        Ok(())
    }

    /// Looks at the whole folder.
    async fn look(&mut self) -> Result<(), CoordinatorError> {
        let folder = self.context.folder.clone();
        for standing in folder.standing().await? {
            let job = match standing {
                Standing::Workspace(job) => job,
                Standing::Aside(aside) => {
                    if let Err(e) = self.decide_aside(&aside).await {
                        self.tolerate(e)?;
                    }
                    continue;
                }
            };
            (self.beat)();
            let up = self.clock.now();
            let looked = match self.jobs.get_mut(&job) {
                Some(state) => look::refresh(&folder, state, up).await.map_err(Into::into),
                None => self.open(&job).await,
            };
            if let Err(e) = looked {
                self.tolerate(e)?;
            }
        }
        if let Err(e) = self.latest.repair(&folder, &*self.context.destination, &*self.beat).await {
            self.tolerate(e.into())?;
        }
        perform::beating(&self.beat, folder.empty_trash()).await?;
        if let Ok(free) = self.context.destination.free().await {
            self.context.metrics.root_free_bytes.set(free as f64);
        }
        Ok(())
    }

    /// Tells a new daemon which snapshots to keep.
    async fn introduce(&self) -> Result<(), CoordinatorError> {
        let mut running = Vec::new();
        for job in self.jobs.values().filter(|j| j.archive.is_none()) {
            let Some(plan) = job.plans.last().and_then(|plan| plan.export()) else { continue };
            let Some(snapshot) = &plan.snapshot else { continue };
            running.push(Outgoing::Control(Control::Planned {
                job: job.id().clone(),
                source: plan.source.clone(),
                lineage: snapshot.lineage,
            }));
        }
        Ok(self.session.publish_all(running).await?)
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
            let mut failed = false;
            for effect in effects {
                (self.beat)();
                match self.perform(effect).await {
                    Ok(()) => {}
                    // The job's other tables and its reports do not wait for this step.
                    Err(CoordinatorError::Folder(e)) if !e.is_unfit() => {
                        self.stumbled(job, e.to_string());
                        failed = true;
                    }
                    Err(e) => return Err(e),
                }
            }
            if failed {
                // Report a stall here too: nothing else may be done before the failed step.
                if let Some(word) = self.jobs.get(job).and_then(|state| stalled(state, &at)) {
                    self.perform(word).await?;
                }
                return self.postpone(job).await;
            }
            // Keep the reason while a batch is being settled: that step may fail again.
            if self.jobs.get(job).is_none_or(|state| !state.batches.values().any(|b| b.settling)) {
                self.stumbles.remove(job);
            }
        }
    }

    fn measure(&self) {
        let (mut running, mut waiting) = (0, 0);
        for job in self.jobs.values() {
            if job.plans.is_empty() { waiting += 1 } else { running += 1 }
        }
        self.context.metrics.set_jobs([("running", running), ("waiting", waiting)]);
        let stalled = self.jobs.values().filter(|job| job.is_stalled()).count();
        self.context.metrics.jobs_stalled.set(stalled.try_into().unwrap_or(i64::MAX));
        let oldest = self.jobs.values().filter_map(JobState::oldest_held_snapshot).min();
        let age = oldest.map_or(0.0, |t| self.context.now().duration_since(t).as_secs_f64().max(0.0));
        self.context.metrics.oldest_snapshot_age_seconds.set(age);
        let open = self.jobs.values().flat_map(JobState::open_lineages);
        let holders = open.map(|lineage| self.window.holders(lineage)).min().unwrap_or(0);
        self.context.metrics.snapshot_holders.set(holders.try_into().unwrap_or(i64::MAX));
    }
}
