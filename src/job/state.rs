//! What the coordinator knows of a job. Everything comes from the folder and can be read again from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::archive::Archive;
use super::outcome::{CancelMark, Outcome, PlanFailure, StoredRequest, TableResult};
use super::plan::EpochPlan;
use super::spread::Spread;
use crate::job::record::{Cause, Failure, Record};
pub use crate::message::BatchId;
use crate::message::event::JobProgress;
use crate::message::{ChunkNo, Epoch, JobId, TableNo};
use crate::plan::ExportPlan;
use crate::plan::export_plan::PlannedTable;
use crate::relation::Snapshot;

/// One batch of a plan.
#[derive(Debug)]
pub struct BatchState {
    /// Numbers of the batch's tables.
    pub tables: Vec<TableNo>,
    /// The record of each chunk that has one.
    pub records: Vec<Option<Arc<Record>>>,
    /// Number of chunks without a record.
    pub missing: u32,
    /// How the parts that the records name are spread, by their tables.
    pub spread: BTreeMap<TableNo, Spread>,
    /// The failures and their chunks, by the id in their file name.
    pub failures: BTreeMap<Uuid, (ChunkNo, Failure)>,
    /// Failures after which the chunk is tried again.
    pub answered: BTreeSet<Uuid>,
    /// The first chunk that was never handed out.
    pub next: ChunkNo,
    /// Whether this coordinator is settling the batch now.
    pub settling: bool,
    /// Whether this coordinator is settling the batch in order to give up some of its tables.
    pub giving_up: bool,
    /// The outcome of the batch, if there is one.
    pub outcome: Option<Arc<Outcome>>,
    /// Whether this coordinator has published the events of the outcome. A successor publishes them again
    /// under the same ids.
    pub told: bool,
}

impl BatchState {
    fn new(tables: &[&PlannedTable]) -> Self {
        let chunks = tables.first().map_or(1, |t| t.strategy.chunks());
        Self {
            tables: tables.iter().map(|t| t.number).collect(),
            records: vec![None; chunks as usize],
            missing: chunks,
            spread: BTreeMap::new(),
            failures: BTreeMap::new(),
            answered: BTreeSet::new(),
            next: ChunkNo(0),
            settling: false,
            giving_up: false,
            outcome: None,
            told: false,
        }
    }

    /// Whether chunks of the batch may be handed out.
    #[must_use]
    pub fn takes_work(&self) -> bool {
        self.is_open() && !self.settling && self.missing > 0
    }

    /// Whether the batch has no outcome yet.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.outcome.is_none()
    }

    /// Adds a record. Returns false if the record was known.
    pub fn record(&mut self, chunk: ChunkNo, record: Record) -> bool {
        match self.records.get_mut(chunk.index()) {
            Some(slot @ None) => {
                for of in &record.tables {
                    self.spread.entry(of.table).or_default().add(&of.parts);
                }
                *slot = Some(Arc::new(record));
                self.missing -= 1;
                true
            }
            _ => false,
        }
    }

    /// Adds a failure. Returns false if the failure was known or answered.
    pub fn fail(&mut self, id: Uuid, chunk: ChunkNo, failure: Failure) -> bool {
        !self.answered.contains(&id) && self.failures.insert(id, (chunk, failure)).is_none()
    }

    /// Forgets a failure, so that its chunk is tried again.
    pub fn answer(&mut self, id: Uuid) {
        self.failures.remove(&id);
        self.answered.insert(id);
    }

    /// The batch's chunks without a record.
    pub fn unrecorded(&self) -> impl Iterator<Item = ChunkNo> {
        self.records.iter().enumerate().filter(|(_, r)| r.is_none()).map(|(i, _)| ChunkNo::at(i))
    }

    /// Whether a chunk has neither record nor failure.
    #[must_use]
    pub fn is_unfinished(&self, chunk: ChunkNo) -> bool {
        if !matches!(self.records.get(chunk.index()), Some(None)) {
            return false;
        }
        let failed = |table: TableNo| {
            let of_chunk = self.failures.values().filter(|(c, _)| *c == chunk);
            of_chunk.into_iter().any(|(_, f)| f.table == table || f.cause == Cause::LineageLost)
        };
        // A worker that died in the middle of a batch may leave failures of only some tables.
        !self.tables.iter().all(|table| failed(*table))
    }
}

/// A job as the coordinator knows it.
#[derive(Debug)]
pub struct JobState {
    /// The request.
    pub stored: Arc<StoredRequest>,
    /// The plans, epoch 1 first.
    pub plans: Vec<EpochPlan>,
    /// Why the next epoch cannot be planned, if a planner said so.
    pub plan_failure: Option<PlanFailure>,
    /// The batches of all plans.
    pub batches: BTreeMap<BatchId, BatchState>,
    /// The cancel, if the job was cancelled.
    pub cancel: Option<CancelMark>,
    /// The job's archive, if the job is committed.
    pub archive: Option<Arc<Archive>>,
    /// When the coordinator last saw a chunk finish, by its own clock.
    pub moved: Duration,
    /// What has been published already.
    pub said: Said,
    /// After an error of the folder, nothing is tried before this time.
    pub not_before: Duration,
}

/// What this coordinator has published of a job. A successor publishes it again under the same ids.
#[derive(Debug, Default)]
pub struct Said {
    /// How many plans were announced: their failed tables as events, the plans themselves to daemons.
    pub plans: usize,
    /// When the last progress report was sent.
    pub progress: Duration,
    /// Finished chunks in that report.
    pub chunks: u64,
    /// When a stall was last reported.
    pub stalled: Option<Duration>,
}

impl JobState {
    /// Whether the job was reported as stalled, and no chunk has ended since.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.said.stalled.is_some_and(|told| told > self.moved)
    }

    /// A job of which only the request is known.
    #[must_use]
    pub fn new(stored: StoredRequest, now: Duration) -> Self {
        Self {
            stored: Arc::new(stored),
            plans: Vec::new(),
            plan_failure: None,
            batches: BTreeMap::new(),
            cancel: None,
            archive: None,
            moved: now,
            said: Said::default(),
            not_before: Duration::ZERO,
        }
    }

    /// The job's id.
    #[must_use]
    pub fn id(&self) -> &JobId {
        &self.stored.job
    }

    /// Adds the next plan.
    pub fn add_plan(&mut self, plan: impl Into<EpochPlan>) {
        let (plan, epoch) = (plan.into(), self.next_epoch());
        debug_assert_eq!(plan.epoch(), epoch);
        for (batch, tables) in plan.export().map(|plan| plan.batches()).into_iter().flatten() {
            self.batches.insert(BatchId { epoch, batch }, BatchState::new(&tables));
        }
        self.plans.push(plan);
        self.plan_failure = None;
    }

    /// The epoch that would be planned next.
    #[must_use]
    pub fn next_epoch(&self) -> Epoch {
        Epoch::after(self.plans.len())
    }

    /// The plan of an epoch, unless it was closed.
    #[must_use]
    pub fn plan(&self, epoch: Epoch) -> Option<&Arc<ExportPlan>> {
        self.plans.get(epoch.index()?)?.export()
    }

    /// Tables that were abandoned and are in no later plan.
    #[must_use]
    pub fn abandoned(&self) -> Vec<Abandoned> {
        let mut list = Vec::new();
        for (id, batch) in &self.batches {
            let Some(outcome) = &batch.outcome else { continue };
            for table in &outcome.tables {
                let TableResult::Abandoned { cause } = &table.result else { continue };
                if !self.is_planned_after(id.epoch, table.table) {
                    list.push(Abandoned { table: table.table, epoch: id.epoch, cause: cause.clone() });
                }
            }
        }
        list
    }

    /// Whether a plan of a later epoch has a table, or lists it as one that could not be planned.
    #[must_use]
    pub fn is_planned_after(&self, epoch: Epoch, table: TableNo) -> bool {
        let has = |p: &EpochPlan| p.table(table).is_some() || p.failed().iter().any(|f| f.number == table);
        self.plans.iter().skip(epoch.0 as usize).any(has)
    }

    /// How often a table was abandoned because it had changed.
    #[must_use]
    pub fn times_changed(&self, table: TableNo) -> usize {
        self.batches
            .values()
            .filter_map(|b| b.outcome.as_ref())
            .flat_map(|o| &o.tables)
            .filter(|t| {
                t.table == table && matches!(t.result, TableResult::Abandoned { cause: Cause::Changed })
            })
            .count()
    }

    /// The snapshot lineages that the job's plans used.
    #[must_use]
    pub fn lineages(&self) -> Vec<Uuid> {
        let mut all: Vec<Uuid> = self.plans.iter().filter_map(|p| p.snapshot().map(|s| s.lineage)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// How many lineages were lost or given up before a table of them was finished. A lineage under which the
    /// job got on does not count towards its limit.
    #[must_use]
    pub fn fruitless_lineages(&self) -> usize {
        let has_fruit = |lineage: &Uuid| {
            self.batches.iter().any(|(id, batch)| {
                let plan = self.plan(id.epoch).and_then(|plan| plan.snapshot.as_ref());
                let published = |outcome: &Arc<Outcome>| {
                    outcome.tables.iter().any(|t| matches!(t.result, TableResult::Published { .. }))
                };
                plan.is_some_and(|s| s.lineage == *lineage) && batch.outcome.as_ref().is_some_and(published)
            })
        };
        self.lineages().iter().filter(|lineage| !has_fruit(lineage)).count()
    }

    /// How many chunks the server lets us run at once, as the newest plan says.
    #[must_use]
    pub fn most_chunks(&self) -> Option<u32> {
        self.plans.iter().rev().find_map(|plan| plan.export())?.most_chunks.as_ref().map(|most| most.chunks)
    }

    /// Whether every table has its last outcome.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !self.plans.is_empty()
            && self.batches.values().all(|b| !b.is_open())
            && (self.cancel.is_some() || self.abandoned().is_empty())
    }

    /// The oldest snapshot that open batches read.
    #[must_use]
    pub fn oldest_snapshot(&self) -> Option<Timestamp> {
        self.open_snapshots().map(|snapshot| snapshot.time).min()
    }

    /// The oldest snapshot that open batches read and that sessions hold.
    #[must_use]
    pub fn oldest_held_snapshot(&self) -> Option<Timestamp> {
        self.open_snapshots().filter(|snapshot| snapshot.needs_keepers()).map(|snapshot| snapshot.time).min()
    }

    /// The lineages that open batches read and that sessions must hold.
    #[must_use]
    pub fn open_lineages(&self) -> BTreeSet<Uuid> {
        self.open_snapshots()
            .filter(|snapshot| snapshot.needs_keepers())
            .map(|snapshot| snapshot.lineage)
            .collect()
    }

    /// The snapshots that open batches read.
    pub fn open_snapshots(&self) -> impl Iterator<Item = &Snapshot> {
        self.batches
            .iter()
            // A batch that is complete and only moves into place reads nothing more.
            .filter(|(_, b)| b.is_open() && !(b.settling && b.missing == 0))
            .filter_map(|(id, _)| self.plan(id.epoch)?.snapshot.as_ref())
    }

    /// The progress of the job.
    #[must_use]
    pub fn progress(&self) -> JobProgress {
        let mut p = JobProgress::default();
        for (id, batch) in &self.batches {
            let replaced = batch
                .outcome
                .as_ref()
                .is_some_and(|o| o.tables.iter().all(|t| matches!(t.result, TableResult::Abandoned { .. })));
            if replaced {
                continue;
            }
            p.chunks += batch.records.len() as u64;
            p.chunks_done += batch.records.len() as u64 - u64::from(batch.missing);
            p.tables += u32::try_from(batch.tables.len()).unwrap_or(u32::MAX);
            for recorded in batch.records.iter().flatten().flat_map(|r| &r.tables) {
                p.rows += recorded.rows();
                p.bytes += recorded.bytes();
            }
            if let Some(plan) = self.plan(id.epoch) {
                p.rows_estimated +=
                    batch.tables.iter().filter_map(|t| plan.table(*t)).map(|t| t.estimated_rows).sum::<u64>();
            }
            if let Some(outcome) = &batch.outcome {
                let published =
                    |t: &&super::outcome::TableOutcome| matches!(t.result, TableResult::Published { .. });
                p.tables_done +=
                    u32::try_from(outcome.tables.iter().filter(published).count()).unwrap_or(u32::MAX);
            }
        }
        p
    }
}

/// A table that waits to be planned again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abandoned {
    /// The table.
    pub table: TableNo,
    /// The epoch in which it was abandoned.
    pub epoch: Epoch,
    /// Why.
    pub cause: Cause,
}
