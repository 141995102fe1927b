//! The coordinator: hears the inbox, looks at the folder, makes decisions and
//! performs them one by one. Whoever consumes the inbox is coordinator, and
//! two at once are harmless (invariant I10): every effect is fenced by what is
//! on disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::archive::{Status, archive};
use super::decide::{Circumstances, Effect, decide};
use super::latest::Latest;
use super::look::{self, Found};
use super::outcome::{CancelCause, CancelMark};
use super::settle::settle;
use super::state::{Abandoned, JobState};
use super::window::{SourceLimits, Window, WindowSettings};
use crate::bus::{BusError, Delivery, Outgoing, Queue, Session};
use crate::context::Context;
use crate::folder::{Folder, FolderError, Renamed, VERSION, layout};
use crate::message::event::ErrorReport;
use crate::message::inbox::Wake;
use crate::message::pattern::qualified;
use crate::message::setting::Compression;
use crate::message::{Control, InboxMessage, JobId};
use crate::plan::ExportPlan;
use crate::plan::export_plan::{FailedTable, WriterSettings};

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

    async fn perform(&mut self, effect: Effect) -> Result<(), CoordinatorError> {
        let folder = self.context.folder.clone();
        let now = self.context.now();
        let up = self.clock.now();
        match effect {
            Effect::Cancel(job, why) => self.cancel(&job, why).await?,
            Effect::CloseUnplanned(job, error) => {
                let Some(state) = self.jobs.get_mut(&job) else { return Ok(()) };
                let plan = closing_plan(state, error, now);
                folder.create(&layout::plan(&job, plan.epoch), &plan).await?;
                look::refresh(&folder, state, up).await?;
            }
            Effect::Settle(job, id, dispositions) => {
                let Some(state) = self.jobs.get_mut(&job) else { return Ok(()) };
                let outcome = settle(&folder, state, id, &dispositions, now).await?;
                if let Some(batch) = state.batches.get_mut(&id) {
                    batch.outcome = Some(outcome);
                }
            }
            Effect::TellBatch(job, id) => {
                let Some(state) = self.jobs.get_mut(&job) else { return Ok(()) };
                let told = state.batches.get(&id).and_then(|b| b.outcome.as_ref());
                if let (Some(plan), Some(outcome)) = (state.plan(id.epoch), told) {
                    let events = self.context.reporter.batch(&state.stored, plan, outcome);
                    self.context.metrics.tables_organized_total.inc_by(events.len() as u64);
                    self.session.publish_all(events).await?;
                }
                state.said.batches.insert(id);
            }
            Effect::TellPlan(job, epoch) => self.tell_plan(&job, epoch).await?,
            Effect::Commit(job) => {
                let Some(state) = self.jobs.get_mut(&job) else { return Ok(()) };
                let archive = archive(state, now);
                let archive = folder.create_or_read(&layout::archive_by_id(&job), archive).await?;
                state.archive = Some(Arc::new(archive));
            }
            Effect::Finish(job) => self.finish(&job).await?,
            Effect::TellProgress(job) => {
                let Some(state) = self.jobs.get_mut(&job) else { return Ok(()) };
                let report = self.context.reporter.progress(state, now);
                state.said.progress = up;
                state.said.chunks = state.progress().chunks_done;
                self.session.publish(report).await?;
            }
            Effect::TellStalled(job) => {
                let Some(state) = self.jobs.get_mut(&job) else { return Ok(()) };
                let why = self.window.why_quiet(state);
                warn!(job.id = %job, why, "the job is stalled");
                state.said.stalled = Some(up);
                let report = self.context.reporter.stalled(state, &why, now);
                self.session.publish(report).await?;
            }
            Effect::Retry(job, id, failure) => {
                let Some(state) = self.jobs.get_mut(&job) else { return Ok(()) };
                if let Some(batch) = state.batches.get_mut(&id) {
                    batch.answer(failure);
                }
            }
        }
        Ok(())
    }

    async fn cancel(&mut self, job: &JobId, why: CancelCause) -> Result<(), CoordinatorError> {
        let mark = CancelMark { v: VERSION, why, by: None, at: self.context.now() };
        let mark = self.context.folder.create_or_read(&layout::cancel(job), mark).await?;
        info!(job.id = %job, why = ?mark.why, "the job is cancelled");
        if let Some(state) = self.jobs.get_mut(job) {
            state.cancel = Some(mark);
        }
        self.session.publish(Outgoing::Control(Control::Cancel { job: job.clone() })).await?;
        Ok(())
    }

    async fn tell_plan(&mut self, job: &JobId, epoch: u32) -> Result<(), CoordinatorError> {
        let Some(state) = self.jobs.get_mut(job) else { return Ok(()) };
        let Some(plan) = state.plan(epoch).cloned() else { return Ok(()) };
        let mut out = self.context.reporter.unplanned(&state.stored, &plan);
        if let Some(snapshot) = &plan.snapshot {
            out.push(Outgoing::Control(Control::Planned {
                job: job.clone(),
                source: plan.source.clone(),
                lineage: snapshot.lineage,
            }));
        }
        info!(job.id = %job, epoch, tables = plan.tables.len(), failed = plan.failed.len(), "planned");
        self.session.publish_all(out).await?;
        state.said.plans = epoch as usize;
        Ok(())
    }

    /// What is left when the archive stands. Every step may be done already.
    async fn finish(&mut self, job: &JobId) -> Result<(), CoordinatorError> {
        let Some(archive) = self.jobs.get(job).and_then(|s| s.archive.clone()) else { return Ok(()) };
        let folder = self.context.folder.clone();
        let by_date = layout::archive_by_date(job, archive.committed_at);
        let name = by_date.rsplit('/').next().unwrap_or_default().to_owned();
        folder.store().link(layout::BY_DATE, vec![(layout::archive_by_id(job), name)]).await?;
        self.latest.learn(&archive);
        self.latest.repair(&folder).await?;
        self.session.publish(self.context.reporter.finished(&archive)).await?;
        self.session.publish(Outgoing::Control(Control::Finished { job: job.clone() })).await?;
        let renamed = folder.discard(&layout::workspace(job), &format!("job_{job}")).await?;
        self.jobs.remove(job);
        if renamed == Renamed::Done {
            let metrics = &self.context.metrics;
            metrics.job_duration_seconds.observe(archive.performance.total_duration_seconds);
            if archive.status == Status::Completed {
                metrics.last_success_timestamp_seconds.set(archive.committed_at.as_second() as f64);
            }
        }
        info!(
            job.id = %job,
            status = archive.status.as_str(),
            rows = archive.performance.total_rows_exported,
            seconds = archive.performance.total_duration_seconds,
            "the job is finished"
        );
        Ok(())
    }

    fn window_settings(&self) -> WindowSettings {
        use crate::config::Auto;
        let export = &self.context.config.export;
        let exactly = |auto: Auto<std::num::NonZeroU32>| match auto {
            Auto::Auto => None,
            Auto::Exactly(n) => Some(n.get()),
        };
        let limits = |s: &crate::config::SourceConfig| SourceLimits {
            max_parallel: s.max_parallel.get(),
            max_jobs: s.max_jobs.get(),
            chunk_workers: s.chunk_workers.map(u32::from),
        };
        WindowSettings {
            root: self.context.folder.id(),
            sources: self.context.sources().iter().map(|(n, e)| (n.clone(), limits(&e.config))).collect(),
            table_threads: exactly(export.table_threads),
            chunk_workers: exactly(export.chunk_workers),
            alive_timeout: self.context.config.timing.alive_timeout.0,
        }
    }

    /// Hands out tasks.
    async fn deal(&mut self) -> Result<(), CoordinatorError> {
        let settings = self.window_settings();
        let up = self.clock.now();
        if self.window.wants_depth(up, &settings) && self.session.ready(Queue::Work).await? == 0 {
            self.window.queue_is_empty();
        }
        self.window.tidy(&self.jobs, up, &settings);
        if !self.take_over(up, &settings).await? {
            return Ok(());
        }
        let tasks = self.window.deal(&mut self.jobs, up, &settings);
        if tasks.is_empty() {
            return Ok(());
        }
        self.session.publish_all(tasks.into_iter().map(Outgoing::Task).collect()).await?;
        Ok(())
    }

    /// What a predecessor handed out is not handed out again: what waits in
    /// the queue is taken for out, and the daemons are asked what they hold.
    /// True once that is known.
    async fn take_over(&mut self, up: Duration, settings: &WindowSettings) -> Result<bool, CoordinatorError> {
        match self.takeover {
            Takeover::Done => {}
            Takeover::New if self.jobs.is_empty() => self.takeover = Takeover::Done,
            Takeover::New => {
                self.session.publish(Outgoing::Control(Control::Census)).await?;
                self.takeover = Takeover::Asked(up + self.context.config.timing.alive_interval.0 / 5);
            }
            Takeover::Asked(until) if up >= until && self.window.daemons() > 0 => {
                if self.session.ready(Queue::Work).await? > 0 {
                    let taken = self.window.inherit(&mut self.jobs, up, settings);
                    debug!(taken, "took the window of a predecessor for out");
                }
                self.takeover = Takeover::Done;
            }
            Takeover::Asked(_) => {}
        }
        Ok(matches!(self.takeover, Takeover::Done))
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

/// A plan without tables: the job can end. What waited to be planned fails.
fn closing_plan(state: &JobState, error: Option<ErrorReport>, now: Timestamp) -> ExportPlan {
    let name = |number: u32| {
        let table = state.plans.iter().rev().find_map(|p| p.table(number));
        table.map_or_else(String::new, |t| qualified(&t.schema, &t.name))
    };
    let failed = error.iter().flat_map(|error| {
        let failed =
            |a: Abandoned| FailedTable { number: a.table, table: name(a.table), error: error.clone() };
        state.abandoned().into_iter().map(failed)
    });
    ExportPlan {
        v: VERSION,
        job: state.id().clone(),
        epoch: state.next_epoch(),
        source: state.stored.source.clone(),
        planned_at: now,
        ready: Uuid::nil(),
        snapshot: None,
        session: Vec::new(),
        writer: WriterSettings { compression: Compression::None, row_group_bytes: 1 },
        on_conflict: state.stored.request.output.on_conflict,
        on_unfit: state.stored.request.on_unfit,
        verify: state.stored.request.verify,
        tables: Vec::new(),
        failed: failed.collect(),
        error: error.clone().filter(|_| state.plans.is_empty()),
        skipped: Vec::new(),
    }
}
