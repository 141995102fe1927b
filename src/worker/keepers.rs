//! The snapshots that this process keeps alive, with one keeper per lineage. A keeper imports the snapshot
//! from any living keeper, so a snapshot outlives the daemon that took it. A snapshot that a plan says enough
//! about ([`Snapshots::recalls`]) is found again from the plan; its keeper holds nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::lock;
use crate::context::Context;
use crate::folder::FolderError;
use crate::folder::files::outcome::Owner;
use crate::message::JobId;
use crate::relation::Snapshot;
use crate::source::{Keeper, Prepared, Snapshots, Source, SourceError};

/// How long other daemons get, at least, to import a snapshot, even after the deadline of the shutdown.
const LAST_CHANCE: Duration = Duration::from_secs(3);

/// A source that does not answer within this time is asked again later.
const JOIN_LIMIT: Duration = Duration::from_secs(30);

struct Held {
    keeper: Arc<dyn Keeper>,
    source: Arc<dyn Source>,
    job: JobId,
}

/// How long other daemons get to prepare, before a snapshot is taken.
const PREPARE: Duration = Duration::from_millis(500);

/// How long a server gets to end a transaction whose connection was closed.
const LET_GO: Duration = Duration::from_millis(200);

/// What was prepared to hold the snapshot of a job.
struct Preparation {
    prepared: Prepared,
    source: Arc<dyn Source>,
}

/// The keepers of this process.
pub struct Keepers {
    context: Arc<Context>,
    held: Mutex<BTreeMap<Uuid, Held>>,
    prepared: Mutex<BTreeMap<JobId, Preparation>>,
    joining: Mutex<BTreeMap<Uuid, Arc<tokio::sync::Mutex<()>>>>,
}

impl Keepers {
    /// Keeps no snapshot yet.
    #[must_use]
    pub fn new(context: Arc<Context>) -> Self {
        Self { context, held: Mutex::default(), prepared: Mutex::default(), joining: Mutex::default() }
    }

    /// The lineages that this process keeps alive. A keeper of a source that a reload replaced does not
    /// count, nor one that only knows another process that holds the snapshot.
    #[must_use]
    pub fn lineages(&self) -> Vec<Uuid> {
        let sources = self.context.sources();
        let current = |held: &Held| sources.values().any(|entry| Arc::ptr_eq(&entry.source, &held.source));
        let held = lock(&self.held);
        let counts = |held: &Held| held.keeper.holds() && !held.keeper.lost().is_cancelled() && current(held);
        held.iter().filter(|(_, h)| counts(h)).map(|(l, _)| *l).collect()
    }

    /// A living keeper of exactly this source. A reload makes a new source, which may be another server.
    fn living(&self, lineage: Uuid, source: &Arc<dyn Source>) -> Option<Arc<dyn Keeper>> {
        let held = lock(&self.held);
        let held = held.get(&lineage)?;
        let is_ours = !held.keeper.lost().is_cancelled() && Arc::ptr_eq(&held.source, source);
        is_ours.then(|| Arc::clone(&held.keeper))
    }

    /// The lock of one lineage, so that only one task at a time joins it and no other lineage waits.
    fn joining(&self, lineage: Uuid) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(lock(&self.joining).entry(lineage).or_default())
    }

    /// Takes a new snapshot.
    ///
    /// # Errors
    /// The error of the source.
    pub async fn open(
        &self,
        source: &Arc<dyn Source>,
        lineage: Uuid,
        job: &JobId,
    ) -> Result<Arc<dyn Keeper>, SourceError> {
        let snapshots = snapshots(source)?;
        if snapshots.must_prepare() && matches!(self.context.owner, Owner::Daemons { .. }) {
            tokio::time::sleep(PREPARE).await;
        }
        // This process takes the snapshot itself. What it prepared would be an older transaction, and could keep
        // other processes from holding the snapshot.
        let prepared = lock(&self.prepared).remove(job);
        if prepared.is_some() {
            drop(prepared);
            tokio::time::sleep(LET_GO).await;
        }
        let open = snapshots.open(lineage);
        let keeper = tokio::time::timeout(JOIN_LIMIT, open).await.map_err(|_| slow(source))??;
        self.insert(source, job, &keeper);
        Ok(keeper)
    }

    /// Prepares to hold the snapshot of a job that another process plans soon.
    ///
    /// # Errors
    /// As the source says.
    pub async fn prepare(&self, source: &Arc<dyn Source>, job: &JobId) -> Result<(), SourceError> {
        let prepare = snapshots(source)?.prepare();
        let prepared = tokio::time::timeout(JOIN_LIMIT, prepare).await.map_err(|_| slow(source))??;
        if let Some(prepared) = prepared {
            let preparation = Preparation { prepared, source: Arc::clone(source) };
            lock(&self.prepared).insert(job.clone(), preparation);
        }
        Ok(())
    }

    /// What was prepared for a job of exactly this source.
    fn take_prepared(&self, source: &Arc<dyn Source>, job: &JobId) -> Option<Prepared> {
        let preparation = lock(&self.prepared).remove(job)?;
        Arc::ptr_eq(&preparation.source, source).then_some(preparation.prepared)
    }

    fn insert(&self, source: &Arc<dyn Source>, job: &JobId, keeper: &Arc<dyn Keeper>) {
        let lineage = keeper.snapshot().lineage;
        if source.snapshots().is_some_and(Snapshots::recalls) {
            debug!(%job, %lineage, "reads under the snapshot, which needs no keeper");
        } else if keeper.holds() {
            info!(%job, %lineage, "keeps the snapshot");
        } else {
            info!(%job, %lineage, "reads under the snapshot, which only another daemon keeps");
        }
        let held = Held { keeper: Arc::clone(keeper), source: Arc::clone(source), job: job.clone() };
        lock(&self.held).insert(lineage, held);
    }

    /// Makes sure that this process keeps a snapshot, imported from any living keeper. Returns the keeper for
    /// chunks to read under.
    ///
    /// # Errors
    /// `LineageLost` if no keeper is found for `keeper_wait`; else the error of the source.
    pub async fn ensure(
        &self,
        source: &Arc<dyn Source>,
        lineage: Uuid,
        job: &JobId,
        cancel: &CancellationToken,
    ) -> Result<Arc<dyn Keeper>, SourceError> {
        if let Some(keeper) = self.living(lineage, source) {
            return Ok(keeper);
        }
        let until = Instant::now() + self.context.config.timing.keeper_wait.0;
        loop {
            let joined = tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(cancelled()),
                joined = self.join(source, lineage, job) => joined?,
            };
            if let Some(keeper) = joined {
                return Ok(keeper);
            }
            if Instant::now() >= until {
                return Err(SourceError::lineage_lost(format!(
                    "no session of source {} holds the job's snapshot any more",
                    source.name()
                )));
            }
            debug!(%lineage, "no living keeper is found yet");
            let pause = (self.context.config.timing.keeper_wait.0 / 10).min(Duration::from_secs(3));
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(cancelled()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// What chunks of a plan read under. A snapshot that needs no keeper is found again from the plan; any other
    /// one is kept by this process from now on, as by [`Self::ensure`].
    ///
    /// # Errors
    /// `LineageLost` if the source can no longer show it, or no keeper is found; else the error of the source.
    pub async fn of_plan(
        &self,
        source: &Arc<dyn Source>,
        snapshot: &Snapshot,
        job: &JobId,
        cancel: &CancellationToken,
    ) -> Result<Arc<dyn Keeper>, SourceError> {
        let snapshots = snapshots(source)?;
        if !snapshots.recalls() {
            return self.ensure(source, snapshot.lineage, job, cancel).await;
        }
        if let Some(keeper) = self.living(snapshot.lineage, source) {
            return Ok(keeper);
        }
        let recall = tokio::time::timeout(JOIN_LIMIT, snapshots.recall(snapshot));
        let keeper = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(cancelled()),
            keeper = recall => keeper.map_err(|_| slow(source))??,
        };
        self.insert(source, job, &keeper);
        Ok(keeper)
    }

    /// Imports a snapshot from any living keeper, one task at a time. `None` if there is no keeper.
    async fn join(
        &self,
        source: &Arc<dyn Source>,
        lineage: Uuid,
        job: &JobId,
    ) -> Result<Option<Arc<dyn Keeper>>, SourceError> {
        let join = async {
            let joining = self.joining(lineage);
            let _one_at_a_time = joining.lock().await;
            if let Some(keeper) = self.living(lineage, source) {
                return Ok(Some(keeper));
            }
            let joined = snapshots(source)?.join(lineage, self.take_prepared(source, job)).await?;
            if let Some(keeper) = &joined {
                self.insert(source, job, keeper);
            }
            Ok(joined)
        };
        tokio::time::timeout(JOIN_LIMIT, join).await.map_err(|_| slow(source))?
    }

    /// Releases a lineage.
    pub fn release(&self, lineage: Uuid) {
        lock(&self.held).remove(&lineage);
        lock(&self.joining).remove(&lineage);
    }

    /// Releases the snapshots of a finished job.
    pub fn release_job(&self, job: &JobId) {
        lock(&self.held).retain(|_, h| h.job != *job);
        lock(&self.prepared).remove(job);
        // Keep a lock that a task is holding to join.
        lock(&self.joining).retain(|_, joining| Arc::strong_count(joining) > 1);
    }

    /// Releases the snapshots that nobody needs, as the folder says, and replaces lost keepers.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn tidy(&self) -> Result<(), FolderError> {
        // Check only the root's identity. A missing root says nothing about jobs. A root with files of a
        // newer release still says which jobs are running.
        self.context.folder.identify().await?;
        let mut jobs: Vec<JobId> = lock(&self.held).values().map(|h| h.job.clone()).collect();
        jobs.extend(lock(&self.prepared).keys().cloned());
        for job in jobs {
            let workspace = self.context.folder.job(&job);
            if workspace.is_archived().await? || !workspace.has_request().await? {
                self.release_job(&job);
            }
        }
        let lost: Vec<Uuid> = lock(&self.held)
            .iter()
            .filter(|(_, h)| h.keeper.lost().is_cancelled())
            .map(|(lineage, _)| *lineage)
            .collect();
        for lineage in lost {
            let Some(Held { keeper, source, job }) = lock(&self.held).remove(&lineage) else { continue };
            if keeper.holds() {
                self.context.metrics.snapshot_sessions_lost_total.inc();
            }
            warn!(%job, %lineage, "the snapshot can no longer be read here; looks for another keeper");
            if let Err(error) = self.join(&source, lineage, &job).await {
                debug!(%job, %lineage, %error, "another keeper cannot be joined");
            }
        }
        Ok(())
    }

    /// Whether nobody else keeps one of the lineages of this process.
    async fn is_alone(&self) -> bool {
        let held: Vec<(Uuid, Arc<dyn Source>)> = lock(&self.held)
            .iter()
            .filter(|(_, h)| h.keeper.holds())
            .map(|(l, h)| (*l, Arc::clone(&h.source)))
            .collect();
        for (lineage, source) in held {
            let Some(snapshots) = source.snapshots() else { continue };
            if snapshots.keepers(lineage).await.unwrap_or(0) < 2 {
                return true;
            }
        }
        false
    }

    /// Waits until every lineage of this process has another keeper elsewhere.
    pub async fn hand_over(&self, until: Instant, hurry: &CancellationToken) {
        // Other daemons may have waited for our last chunk before they could begin to join.
        let until = until.max(Instant::now() + LAST_CHANCE);
        let mut alone = true;
        while alone && Instant::now() < until && !hurry.is_cancelled() {
            let look = async {
                if let Err(e) = self.tidy().await {
                    warn!(error = %e, "cannot tell which snapshots are still needed");
                }
                self.is_alone().await
            };
            alone = tokio::select! {
                biased;
                () = hurry.cancelled() => break,
                alone = tokio::time::timeout_at(until, look) => alone.unwrap_or(true),
            };
            if alone {
                debug!("waits for other daemons to take the snapshots over");
                hurry.run_until_cancelled(tokio::time::sleep(Duration::from_millis(300))).await;
            }
        }
        lock(&self.held).clear();
        lock(&self.prepared).clear();
    }
}

fn snapshots(source: &Arc<dyn Source>) -> Result<&dyn Snapshots, SourceError> {
    source.snapshots().ok_or_else(|| {
        SourceError::permanent("snapshot", format!("source {} has no snapshots", source.name()))
            .with_remedy("ask for `\"consistency\": \"none\"`")
    })
}

fn slow(source: &Arc<dyn Source>) -> SourceError {
    SourceError::transient(
        "slow",
        format!("source {} did not answer within {} s", source.name(), JOIN_LIMIT.as_secs()),
    )
}

pub(super) fn cancelled() -> SourceError {
    SourceError::cancelled("the chunk is no longer wanted")
}
