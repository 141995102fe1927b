//! Settles batches beside the coordinator's loop, because publishing may take minutes.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Coordinator, CoordinatorError, deal};
use crate::context::Context;
use crate::folder::FolderError;
use crate::job::outcome::{Outcome, TableOutcome, TableResult};
use crate::job::settle::Settlement;
use crate::job::state::BatchId;
use crate::message::JobId;

/// Maximum number of batches that are settled at once.
const BATCHES_AT_ONCE: usize = 8;

/// A settlement that takes longer counts as hanging: the storage neither answers nor fails.
const HANGS_AFTER: Duration = Duration::from_secs(300);
/// How much longer for each of its parts: a slow server of files needs some milliseconds for a link.
const PER_PART: Duration = Duration::from_millis(20);

/// Until when the settlements under way may work.
type Working = Arc<Mutex<BTreeMap<(JobId, BatchId), Instant>>>;

/// A settlement at work.
struct Work {
    working: Working,
    key: (JobId, BatchId),
}

impl Work {
    fn begin(working: Working, key: (JobId, BatchId), parts: usize) -> Self {
        let until = Instant::now() + HANGS_AFTER + PER_PART * u32::try_from(parts).unwrap_or(u32::MAX);
        working.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), until);
        Self { working, key }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.working.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// How the settling of a batch ended.
struct Settled {
    job: JobId,
    id: BatchId,
    began: Timestamp,
    outcome: Result<Arc<Outcome>, FolderError>,
}

/// The batches that are being settled. Their tasks are aborted at the end of the coordinator's term, at any
/// point; the next coordinator continues from there.
pub(super) struct Settling {
    running: JoinSet<Settled>,
    turns: Arc<Semaphore>,
    working: Working,
    ended: Vec<Settled>,
}

impl Default for Settling {
    fn default() -> Self {
        Self {
            running: JoinSet::new(),
            turns: Arc::new(Semaphore::new(BATCHES_AT_ONCE)),
            working: Working::default(),
            ended: Vec::new(),
        }
    }
}

impl Settling {
    /// Begins with a batch.
    pub(super) fn begin(
        &mut self,
        context: &Arc<Context>,
        job: JobId,
        id: BatchId,
        settlement: Settlement,
        now: Timestamp,
    ) {
        let (context, turns) = (Arc::clone(context), Arc::clone(&self.turns));
        let working = Arc::clone(&self.working);
        self.running.spawn(async move {
            let _turn = turns.acquire_owned().await;
            let _work = Work::begin(working, (job.clone(), id), settlement.parts());
            let outcome = settlement.settle(&context.folder, &*context.destination, now).await;
            Settled { job, id, began: now, outcome }
        });
    }

    /// Whether a settlement hangs. Then the coordinator must not count as alive, so that another one takes
    /// over.
    pub(super) fn hangs(&self) -> bool {
        let working = self.working.lock().unwrap_or_else(PoisonError::into_inner);
        working.values().any(|until| *until < Instant::now())
    }

    /// Returns when one batch is settled or has failed.
    pub(super) async fn any(&mut self) {
        match self.running.join_next().await {
            Some(ended) => self.keep(ended),
            None => pending().await,
        }
    }

    /// Returns the batches whose settling has ended.
    fn take(&mut self) -> Vec<Settled> {
        while let Some(ended) = self.running.try_join_next() {
            self.keep(ended);
        }
        std::mem::take(&mut self.ended)
    }

    fn keep(&mut self, ended: Result<Settled, tokio::task::JoinError>) {
        match ended {
            Ok(settled) => self.ended.push(settled),
            // The panic ends this term. Another coordinator continues.
            Err(broken) => std::panic::resume_unwind(broken.into_panic()),
        }
    }
}

/// Waits until the census of a coordinator ends or a batch is settled. Waits for ever if there is neither.
pub(super) async fn due(term: Option<&mut Coordinator>) {
    let Some(coordinator) = term else { return pending().await };
    let census = coordinator.census_ends_in();
    tokio::select! {
        biased;
        () = coordinator.settling.any() => {}
        () = deal::after(census) => {}
    }
}

impl Coordinator {
    /// Takes the outcomes of settled batches into the state.
    pub(super) async fn take_settled(&mut self, touched: &mut Vec<JobId>) -> Result<(), CoordinatorError> {
        for Settled { job, id, began, outcome } in self.settling.take() {
            // Only the coordinator that wrote the outcome counts its tables.
            if let Ok(outcome) = &outcome
                && outcome.at == began
            {
                let published = |t: &&TableOutcome| matches!(t.result, TableResult::Published { .. });
                let organized = outcome.tables.iter().filter(published).count();
                self.context.metrics.tables_organized_total.inc_by(organized as u64);
            }
            let batch = self.jobs.get_mut(&job).and_then(|state| state.batches.get_mut(&id));
            let Some(batch) = batch else { continue };
            (batch.settling, batch.giving_up) = (false, false);
            touched.push(job.clone());
            match outcome {
                Ok(outcome) => batch.outcome = Some(outcome),
                Err(e) if !e.is_unfit() => {
                    self.stumbled(&job, e.to_string());
                    self.postpone(&job).await?;
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{BatchNo, Epoch};

    #[tokio::test(start_paused = true)]
    async fn a_settlement_of_many_parts_may_take_longer_before_it_hangs() {
        let key =
            |batch| (JobId::parse("j").expect("valid"), BatchId { epoch: Epoch(1), batch: BatchNo(batch) });
        let second = Duration::from_secs(1);
        for (parts, longest) in [(0, HANGS_AFTER), (10_000, HANGS_AFTER + second * 200)] {
            let settling = Settling::default();
            let work = Work::begin(Arc::clone(&settling.working), key(0), parts);
            tokio::time::sleep(longest - second).await;
            let other = Work::begin(Arc::clone(&settling.working), key(1), 0);
            assert!(!settling.hangs(), "{parts} parts after {longest:?}");
            tokio::time::sleep(second * 2).await;
            assert!(settling.hangs(), "{parts} parts after {longest:?}");
            drop(work);
            assert!(!settling.hangs(), "the other one has begun later");
            drop(other);
        }
    }
}
