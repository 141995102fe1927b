//! The roles that every process plays on a session: intake, coordinator, worker, keeper. The daemon and the
//! one-shot export play the same roles.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{ALARM, BROKER};
use crate::bus::{BusError, Outgoing, Queue, Session};
use crate::context::{Context, SourceEntry};
use crate::http::Health;
use crate::intake::{self, IntakeError};
use crate::job::coordinator::{self, CoordinatorError};
use crate::job::outcome::Owner;
use crate::job::window::by_cores;
use crate::message::presence::Pool;
use crate::message::{Control, InboxMessage, Presence};
use crate::source::PoolUse;
use crate::status::{Fleet, Status};
use crate::worker::{Worker, WorkerError};

/// A loop that has not moved for this long counts as hanging.
const LOOP_LIMIT: Duration = Duration::from_secs(120);
/// How often a daemon looks at itself for its status page.
const OBSERVE: Duration = Duration::from_secs(1);
/// The obstacle that keeps a daemon from taking work.
pub(crate) const WORK: &str = "work";
/// The obstacle that keeps a daemon from storing requests.
const INTAKE: &str = "intake";
/// The obstacle that keeps a daemon from coordinating.
const COORDINATION: &str = "coordination";
/// The obstacle that keeps chunks from being written.
const STORAGE: &str = "storage";

/// Why the roles ended.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// The broker.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// Intake.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// The coordinator.
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
    /// The worker.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// A role broke.
    #[error("a role of this process broke: {0}")]
    Broken(String),
}

/// What the roles share.
#[derive(Clone)]
pub struct Roles {
    /// What every role shares.
    pub context: Arc<Context>,
    /// The worker, which outlives sessions.
    pub worker: Arc<Worker>,
    /// Who else is there.
    pub fleet: Arc<Fleet>,
    /// Whether this process is well.
    pub health: Health,
    /// Fires when no more work is to be taken.
    pub stop: CancellationToken,
}

impl Roles {
    /// Plays all roles until one fails, the session ends, or `stop` fires.
    ///
    /// # Errors
    /// The first failure.
    pub async fn play(&self, session: &Arc<dyn Session>) -> Result<(), RoleError> {
        let mut roles: JoinSet<Result<(), RoleError>> = JoinSet::new();
        // The tasks belong to this call: the end of a role stops this session only.
        let (s, this) = (Arc::clone(session), self.clone());
        roles.spawn(async move { this.listen(s).await });
        let (s, this) = (Arc::clone(session), self.clone());
        roles.spawn(async move { this.say_alive(s).await });
        let this = self.clone();
        roles.spawn(async move { this.tidy().await });
        let (s, this) = (Arc::clone(session), self.clone());
        roles.spawn(async move {
            let play = |consumes: CancellationToken| {
                consumes.cancel();
                let (context, session, stop) = (Arc::clone(&this.context), Arc::clone(&s), this.stop.clone());
                async move { Ok(intake::run(context, session, stop).await?) }
            };
            this.steadily(INTAKE, play).await
        });
        let (s, this) = (Arc::clone(session), self.clone());
        roles.spawn(async move {
            let play = |consumes: CancellationToken| {
                consumes.cancel();
                let heart = this.health.watch("the coordinator's loop", LOOP_LIMIT);
                let (context, session, stop) = (Arc::clone(&this.context), Arc::clone(&s), this.stop.clone());
                async move { Ok(coordinator::run(context, session, move || heart.beat(), stop).await?) }
            };
            this.steadily(COORDINATION, play).await
        });
        let (s, this) = (Arc::clone(session), self.clone());
        roles.spawn(async move {
            let play = |consumes: CancellationToken| {
                let heart = this.health.watch("the worker's loop", LOOP_LIMIT);
                let (worker, session, stop) = (Arc::clone(&this.worker), Arc::clone(&s), this.stop.clone());
                async move {
                    let subscribed = move || consumes.cancel();
                    Ok(worker.consume(session, subscribed, move || heart.beat(), stop).await?)
                }
            };
            this.steadily(WORK, play).await
        });
        let closed = session.closed();
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Ok(()),
            () = closed.cancelled() => Err(BusError::Closed.into()),
            ended = roles.join_next() => match ended {
                Some(Ok(Err(e))) => Err(e),
                Some(Err(panic)) => Err(RoleError::Broken(panic.to_string())),
                Some(Ok(Ok(()))) | None if self.stop.is_cancelled() => Ok(()),
                Some(Ok(Ok(()))) | None => Err(BusError::Closed.into()),
            },
        }
    }

    /// Handles the control messages of the coordinator. They are hints only: a missed one costs nothing,
    /// because the folder says the same.
    async fn listen(&self, session: Arc<dyn Session>) -> Result<(), RoleError> {
        let mut control = session.subscribe(Queue::Control, 100).await?;
        let mut joins: JoinSet<()> = JoinSet::new();
        loop {
            let delivery = tokio::select! {
                biased;
                Some(_) = joins.join_next() => continue,
                delivery = control.next() => delivery.ok_or(BusError::Closed)?,
            };
            match serde_json::from_slice(&delivery.body) {
                Ok(Control::Prepare { job, source }) => {
                    if let Some(source) = self.context.source(&source) {
                        let worker = Arc::clone(&self.worker);
                        joins.spawn(async move {
                            if let Err(e) = worker.shared().keepers.prepare(&source, &job).await {
                                debug!(%job, error = %e, "cannot prepare to hold a snapshot: only its own daemon holds it");
                            }
                        });
                    }
                }
                Ok(Control::Planned { job, source, lineage }) => {
                    let source = self.context.source(&source);
                    // Other snapshots are found again from the plan.
                    if let Some(source) = source.filter(|s| s.snapshots().is_some_and(|s| !s.recalls())) {
                        let (worker, stop) = (Arc::clone(&self.worker), self.stop.clone());
                        joins.spawn(async move {
                            let keepers = &worker.shared().keepers;
                            if let Err(e) = keepers.ensure(&source, lineage, &job, &stop).await {
                                debug!(%job, %lineage, error = %e, "could not join the keepers of a snapshot; the first chunk tries again");
                            }
                        });
                    }
                }
                Ok(Control::Cancel { job }) => self.worker.drop_job(&job),
                Ok(Control::Finished { job }) => {
                    self.worker.drop_job(&job);
                    self.worker.shared().keepers.release_job(&job);
                }
                Ok(Control::Alive(presence)) => self.fleet.heard(*presence),
                Ok(Control::Census) => {
                    let alive = self.worker.alive(false);
                    session.publish(Outgoing::Inbox(InboxMessage::Alive(alive))).await?;
                }
                Err(e) => debug!(error = %e, "a control message of another release is ignored"),
            }
            delivery.settle.ack().await?;
        }
    }

    /// Publishes `alive` on connecting and in every interval.
    async fn say_alive(&self, session: Arc<dyn Session>) -> Result<(), RoleError> {
        let mut tick = tokio::time::interval(self.context.config.timing.alive_interval.0);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let alive = self.worker.alive(false);
            session.publish(Outgoing::Inbox(InboxMessage::Alive(alive))).await?;
            self.introduce(&session, self.present(false)).await?;
            // The obstacle ends only here, because a connected daemon may still lack the right to publish.
            if self.health.clear(BROKER) {
                info!("connected to the broker");
            }
            if self.health.clear(ALARM) {
                info!("the broker takes messages again");
            }
            self.context.metrics.broker_blocked.set(0);
            self.measure().await;
        }
    }

    /// Tells all daemons about this one. A one-shot export has no others.
    pub(super) async fn introduce(
        &self,
        session: &Arc<dyn Session>,
        presence: Presence,
    ) -> Result<(), BusError> {
        match self.context.owner {
            Owner::Daemons { .. } => {
                session.publish(Outgoing::Control(Control::Alive(Box::new(presence)))).await
            }
            Owner::OneShot(_) | Owner::UnknownRun => Ok(()),
        }
    }

    /// This daemon as it describes itself. Its own page shows it even without a broker.
    pub(super) fn present(&self, leaving: bool) -> Presence {
        let context = &self.context;
        let pool = |entry: &SourceEntry| {
            let PoolUse { idle, busy, waiting } = entry.source.pool_use();
            Pool { idle: idle as u64, busy: busy as u64, waiting: waiting as u64 }
        };
        let presence = Presence {
            alive: self.worker.alive(leaving),
            host: context.host.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            started_at: Some(context.started_at),
            coordinates: context.metrics.coordinator_active.get() > 0,
            obstacles: self
                .health
                .ready()
                .err()
                .map(|why| why.lines().map(Into::into).collect())
                .unwrap_or_default(),
            doing: self.worker.doing(),
            pools: context.sources().iter().map(|(name, entry)| (name.clone(), pool(entry))).collect(),
            rates: self.fleet.read(context.now(), self.worker.read_so_far()),
        };
        self.fleet.heard(presence.clone());
        presence
    }

    /// Keeps this daemon's own entry of the fleet fresh until `end`.
    pub(super) async fn observe(&self, status: &Status, end: &CancellationToken) {
        let mut tick = tokio::time::interval(OBSERVE);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while end.run_until_cancelled(tick.tick()).await.is_some() {
            self.present(false);
            status.forget();
        }
    }

    /// Releases snapshots that nobody needs. This loop is its own task, so that a source that does not answer
    /// delays nothing else.
    async fn tidy(&self) -> Result<(), RoleError> {
        let mut tick = tokio::time::interval(self.context.config.timing.alive_interval.0);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told = None;
        loop {
            tick.tick().await;
            let trouble = self.worker.shared().keepers.tidy().await.err().map(|e| e.to_string());
            if let Some(error) = trouble.as_ref().filter(|_| trouble != told) {
                warn!(error, "cannot tell which snapshots are still needed");
            }
            told = trouble;
        }
    }

    /// Updates gauges that nobody else updates, and the health that follows from them.
    async fn measure(&self) {
        if self.context.metrics.worker_paused.get() > 0 {
            self.health.obstacle(STORAGE, "the export folder is full; chunks wait for space");
        } else {
            self.health.clear(STORAGE);
        }
        for (name, entry) in self.context.sources().iter() {
            self.context.metrics.set_pool(name, entry.source.pool_use());
        }
        let free = self.context.destination.free().await;
        if let Ok(free) = free {
            self.context.metrics.root_free_bytes.set(free as f64);
        }
    }
}

/// How many chunks a process takes at once: the configured number, else tables × chunks by its cores, capped
/// by its pools and its memory.
#[must_use]
pub fn slots(context: &Context) -> u32 {
    let export = &context.config.export;
    if let Some(workers) = export.workers.exactly() {
        return workers.get();
    }
    let (tables, chunks) = by_cores(context.machine.cores());
    let tables = export.table_threads.exactly().map_or(tables, u32::from);
    let wanted = tables * export.chunk_workers.exactly().map_or(chunks, u32::from);
    let pools: u32 = context.sources().values().map(|e| e.config.pool_size.get()).sum();
    // A worker holds the row group that it encodes, batches, and buffers of a read: about two row groups. If it
    // distributes rows among partitions, these wait within that (`parts/partitions.rs`).
    let per_worker = export.row_group_bytes.get().saturating_mul(2).max(1);
    let by_memory = u32::try_from(memory_limit(export) / per_worker).unwrap_or(u32::MAX);
    wanted.min(pools.max(1)).min(by_memory.max(1))
}

fn memory_limit(export: &crate::config::ExportConfig) -> u64 {
    if let Some(bytes) = export.memory_limit.exactly() {
        return bytes.get();
    }
    let cgroup = cgroup_limit();
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    });
    let whole = cgroup.unwrap_or(u64::MAX).min(machine.unwrap_or(2 << 30));
    whole / 2
}

/// The lowest `memory.max` of this process's cgroup and of those above it. `None` without a limit.
fn cgroup_limit() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let limit = |dir: &Path| {
        let path = Path::new("/sys/fs/cgroup").join(dir.strip_prefix("/").ok()?).join("memory.max");
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    Path::new(own).ancestors().filter_map(limit).min()
}

/// How long closing things may take at the very end.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(5);
