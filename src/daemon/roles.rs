//! The roles that every process plays on a session: intake, coordinator,
//! worker, keeper. The daemon and the one-shot export play the same ones.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::bus::{BusError, Outgoing, Queue, Session};
use crate::context::Context;
use crate::http::Health;
use crate::intake::{self, IntakeError};
use crate::job::coordinator::{self, CoordinatorError};
use crate::message::{Control, InboxMessage};
use crate::worker::Worker;

/// A loop that has not moved for so long hangs.
const LOOP_LIMIT: Duration = Duration::from_secs(120);
/// The obstacle that keeps a daemon from taking work.
pub(crate) const WORK: &str = "work";

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
        // Children of this call: what one role's end stops is only this session.
        let (s, this) = (Arc::clone(session), self.clone());
        roles.spawn(async move { this.listen(s).await });
        let (s, this) = (Arc::clone(session), self.clone());
        roles.spawn(async move { this.say_alive(s).await });
        let this = self.clone();
        roles.spawn(async move { this.tidy().await });
        let (s, this) = (Arc::clone(session), self.clone());
        roles.spawn(async move { Ok(intake::run(this.context, s, this.stop).await?) });
        let (s, this) = (Arc::clone(session), self.clone());
        roles.spawn(async move {
            let heart = this.health.watch("the coordinator's loop", LOOP_LIMIT);
            Ok(coordinator::run(this.context, s, move || heart.beat(), this.stop).await?)
        });
        let (s, this) = (Arc::clone(session), self.clone());
        roles.spawn(async move {
            let heart = this.health.watch("the worker's loop", LOOP_LIMIT);
            let health = this.health.clone();
            let tell = move |why: Option<String>| match why {
                Some(why) => health.obstacle(WORK, why),
                None => health.clear(WORK),
            };
            this.worker.consume(s, tell, move || heart.beat(), this.stop).await?;
            Ok(())
        });
        let closed = session.closed();
        tokio::select! {
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

    /// Hears what the coordinator tells everybody. Hints only: what is missed
    /// here is found in the folder.
    async fn listen(&self, session: Arc<dyn Session>) -> Result<(), RoleError> {
        let mut control = session.subscribe(Queue::Control, 100).await?;
        let mut joins: JoinSet<()> = JoinSet::new();
        loop {
            let delivery = tokio::select! {
                delivery = control.next() => delivery.ok_or(BusError::Closed)?,
                Some(_) = joins.join_next() => continue,
            };
            match serde_json::from_slice(&delivery.body) {
                Ok(Control::Planned { job, source, lineage }) => {
                    if let Some(source) = self.context.source(&source) {
                        let (worker, stop) = (Arc::clone(&self.worker), self.stop.clone());
                        joins.spawn(async move {
                            let keepers = &worker.shared().keepers;
                            if let Err(e) = keepers.ensure(&source, lineage, &job, &stop).await {
                                debug!(error = %e, "could not join the keepers of a snapshot; the first chunk tries again");
                            }
                        });
                    }
                }
                Ok(Control::Cancel { job }) => self.worker.drop_job(&job),
                Ok(Control::Finished { job }) => {
                    self.worker.drop_job(&job);
                    self.worker.shared().keepers.release_job(&job);
                }
                Ok(Control::Census) => {
                    let alive = self.worker.alive(false);
                    session.publish(Outgoing::Inbox(InboxMessage::Alive(alive))).await?;
                }
                Err(e) => debug!(error = %e, "a control message of another release is ignored"),
            }
            delivery.settle.ack().await?;
        }
    }

    /// Says on connecting and in every interval that this process lives.
    async fn say_alive(&self, session: Arc<dyn Session>) -> Result<(), RoleError> {
        let mut tick = tokio::time::interval(self.context.config.timing.alive_interval.0);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let alive = self.worker.alive(false);
            session.publish(Outgoing::Inbox(InboxMessage::Alive(alive))).await?;
            self.measure().await;
        }
    }

    /// Lets snapshots go that nobody needs; a source that does not answer
    /// holds up nobody else here.
    async fn tidy(&self) -> Result<(), RoleError> {
        let mut tick = tokio::time::interval(self.context.config.timing.alive_interval.0);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Err(e) = self.worker.shared().keepers.tidy().await {
                warn!(error = %e, "cannot tell which snapshots are still needed");
            }
        }
    }

    /// Gauges that nobody else keeps.
    async fn measure(&self) {
        for (name, entry) in self.context.sources().iter() {
            let (used, allowed) = entry.source.pool_use();
            let (used, allowed) = (used as usize, allowed as usize);
            self.context.metrics.set_pool(name, allowed.saturating_sub(used), used.min(allowed), 0);
        }
        let free = self.context.folder.store().free_bytes().await;
        if let Ok(free) = free {
            self.context.metrics.root_free_bytes.set(free as f64);
        }
    }
}

/// Chunks that a process takes at once: what was configured, else tables ×
/// chunks by its cores, capped by its pools and its memory.
#[must_use]
pub fn slots(context: &Context) -> u32 {
    use crate::config::Auto;
    let export = &context.config.export;
    if let Auto::Exactly(workers) = export.workers {
        return workers.get();
    }
    let cores = std::thread::available_parallelism().map_or(2, |n| u32::try_from(n.get()).unwrap_or(2));
    let exactly = |auto, otherwise: u32| match auto {
        Auto::Exactly(n) => std::num::NonZeroU32::get(n),
        Auto::Auto => otherwise.max(2),
    };
    let wanted = exactly(export.table_threads, cores * 3 / 4) * exactly(export.chunk_workers, cores / 2);
    let pools: u32 = context.sources().values().map(|e| e.config.pool_size.get()).sum();
    // A worker holds a row group being encoded, batches and the pages of a read.
    let per_worker = export.row_group_bytes.get().saturating_mul(2).max(1);
    let by_memory = u32::try_from(memory_limit(export) / per_worker).unwrap_or(u32::MAX);
    wanted.min(pools.max(1)).min(by_memory.max(1))
}

fn memory_limit(export: &crate::config::ExportConfig) -> u64 {
    if let crate::config::Auto::Exactly(bytes) = export.memory_limit {
        return bytes.get();
    }
    let cgroup = std::fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    });
    let whole = cgroup.unwrap_or(u64::MAX).min(machine.unwrap_or(2 << 30));
    whole / 2
}

/// How long closing things may take at the very end.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(5);
