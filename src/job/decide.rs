//! What should happen to a job: a pure function of the folder's content and of the living daemons. No I/O, no
//! clock, no channel.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::outcome::{CancelCause, TableResult};
use super::state::{BatchId, BatchState, JobState};
use crate::job::record::{Cause, Failure, RecordedTable};
use crate::message::event::ErrorReport;
use crate::message::{Epoch, JobId, TableNo};
use crate::relation::UnfitColumn;

/// Most snapshot lineages that one job may use.
pub const MAX_LINEAGES: usize = 5;
/// How often one table may be planned again because it changed.
pub const MAX_CHANGED: usize = 3;

/// What is to be done with one table of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Disposition {
    /// Move the table into place.
    Publish,
    /// The table fails.
    Fail(ErrorReport),
    /// The job is cancelled.
    Cancel,
    /// Plan the table again.
    Abandon(Cause),
}

/// What should happen next to a job. The performer does it and updates the state; then the decision is made
/// again.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write `cancel.json`.
    Cancel(JobId, CancelCause),
    /// Write a plan without tables, so that the job can end.
    CloseUnplanned(JobId, Option<ErrorReport>),
    /// Publish or discard the tables of a batch and write its outcome.
    Settle(JobId, BatchId, Vec<(TableNo, Disposition)>),
    /// Publish the events of the tables of a batch.
    TellBatch(JobId, BatchId),
    /// Tell daemons of a plan, and publish events of the tables that could not be planned.
    TellPlan(JobId, Epoch),
    /// Write the archive.
    Commit(JobId),
    /// Link the archive, publish the final event, trash the workspace.
    Finish(JobId),
    /// Publish a progress report.
    TellProgress(JobId),
    /// Publish that the job is stalled.
    TellStalled(JobId),
    /// Forget a failure: its chunk is tried again.
    Retry(JobId, BatchId, Uuid),
}

/// What decisions need to know besides the job.
#[derive(Clone, Debug)]
pub struct Circumstances {
    /// The wall clock.
    pub now: Timestamp,
    /// The coordinator's own clock, its pauses not counted.
    pub up: Duration,
    /// Lineages that some living daemon says it holds.
    pub claimed: BTreeSet<Uuid>,
    /// Whether every daemon has had time, since the coordinator took over, to say what it holds.
    pub settled: bool,
    /// `timing.progress_interval`.
    pub progress_interval: Duration,
    /// `timing.stalled_after`.
    pub stalled_after: Duration,
    /// `max_snapshot_age` of the source.
    pub max_snapshot_age: Option<Duration>,
}

/// Everything that should happen to a job now, in order.
#[must_use]
pub fn decide(job: &JobState, at: &Circumstances) -> Vec<Effect> {
    let id = || job.id().clone();
    if at.up < job.not_before {
        return Vec::new();
    }
    if job.archive.is_some() {
        return vec![Effect::Finish(id())];
    }
    let mut effects = Vec::new();
    if job.cancel.is_none()
        && let Some(cause) = overdue(job, at)
    {
        return vec![Effect::Cancel(id(), cause)];
    }
    if job.plans.is_empty() && job.cancel.is_some() {
        return vec![Effect::CloseUnplanned(id(), None)];
    }
    if let Some(failure) = &job.plan_failure {
        return vec![Effect::CloseUnplanned(id(), Some(failure.error.clone()))];
    }
    if job.said.plans < job.plans.len() {
        effects.push(Effect::TellPlan(id(), Epoch::after(job.said.plans)));
    }
    let lost = lost(job, at);
    for (batch_id, batch) in &job.batches {
        if !batch.is_open() {
            if !batch.told {
                effects.push(Effect::TellBatch(id(), *batch_id));
            }
            continue;
        }
        if batch.settling {
            continue;
        }
        // Skip the common case early: chunks are missing, and nothing has gone wrong.
        let is_quiet = batch.failures.is_empty() && job.cancel.is_none() && lost.is_empty();
        if batch.missing > 0 && is_quiet && !has_too_many(job, *batch_id, batch) {
            continue;
        }
        match of_batch(job, *batch_id, batch, &lost, at) {
            BatchStep::Wait => {}
            BatchStep::Settle(dispositions) => effects.push(Effect::Settle(id(), *batch_id, dispositions)),
            BatchStep::Retry(failure) => effects.push(Effect::Retry(id(), *batch_id, failure)),
        }
    }
    if effects.is_empty() && job.is_settled() {
        // A planner may be planning the abandoned tables: close its epoch first.
        let next = job.next_epoch();
        if job.abandoned().iter().any(|a| Epoch(a.epoch.0 + 1) == next) {
            return vec![Effect::CloseUnplanned(id(), None)];
        }
        return vec![Effect::Commit(id())];
    }
    effects.extend(tell(job, at));
    effects
}

/// A limit that the job has passed.
fn overdue(job: &JobState, at: &Circumstances) -> Option<CancelCause> {
    let age = |since: Timestamp| Duration::try_from(at.now.duration_since(since)).unwrap_or_default();
    let deadline = job.stored.request.deadline.map(|s| s.0);
    if deadline.is_some_and(|d| age(job.stored.received_at) > d) {
        return Some(CancelCause::Deadline);
    }
    let max = at.max_snapshot_age?;
    let oldest = job.oldest_snapshot()?;
    (age(oldest) > max).then_some(CancelCause::MaxSnapshotAge)
}

/// What should happen to an open batch.
enum BatchStep {
    Wait,
    Settle(Vec<(TableNo, Disposition)>),
    Retry(Uuid),
}

/// What follows from the records and failures of an open batch.
fn of_batch(
    job: &JobState,
    id: BatchId,
    batch: &BatchState,
    lost: &BTreeMap<Uuid, ErrorReport>,
    at: &Circumstances,
) -> BatchStep {
    let all = |d: &Disposition| BatchStep::Settle(batch.tables.iter().map(|t| (*t, d.clone())).collect());
    if job.cancel.is_some() {
        return all(&Disposition::Cancel);
    }
    if batch.missing > 0 {
        if let Some(error) = lineage_of(job, id).and_then(|lineage| lost.get(&lineage)) {
            let first = |t: &TableNo| (*t, limited(job, id, *t, Cause::LineageLost, error));
            return BatchStep::Settle(batch.tables.iter().map(first).collect());
        }
        let claimed = |f: &Failure| f.cause == Cause::LineageLost && is_claimed(job, id, at);
        if let Some((uuid, _)) = batch.failures.iter().find(|(_, (_, f))| claimed(f)) {
            return BatchStep::Retry(*uuid);
        }
    }
    let dispositions: Vec<(TableNo, Disposition)> =
        batch.tables.iter().filter_map(|t| Some((*t, of_table(job, id, batch, *t)?))).collect();
    if dispositions.len() < batch.tables.len() {
        return BatchStep::Wait;
    }
    BatchStep::Settle(dispositions)
}

fn is_claimed(job: &JobState, id: BatchId, at: &Circumstances) -> bool {
    lineage_of(job, id).is_some_and(|l| at.claimed.contains(&l))
}

fn lineage_of(job: &JobState, id: BatchId) -> Option<Uuid> {
    job.plan(id.epoch)?.snapshot.as_ref().map(|s| s.lineage)
}

/// The lost lineages, each with its error. A lineage is lost if a worker found no keeper for one of the
/// batches that read it, and no living daemon claims to keep it.
fn lost(job: &JobState, at: &Circumstances) -> BTreeMap<Uuid, ErrorReport> {
    let mut lost = BTreeMap::new();
    if !at.settled {
        return lost;
    }
    for (id, batch) in &job.batches {
        let failure = batch.failures.values().find(|(_, f)| f.cause == Cause::LineageLost);
        if let (Some((_, failure)), Some(lineage)) = (failure, lineage_of(job, *id))
            && !at.claimed.contains(&lineage)
        {
            lost.entry(lineage).or_insert_with(|| failure.error.clone());
        }
    }
    lost
}

/// What is to be done with one table of a batch. `None` while its chunks have not ended.
fn of_table(job: &JobState, id: BatchId, batch: &BatchState, table: TableNo) -> Option<Disposition> {
    if let Some(error) = too_many(job, id, batch, table) {
        return Some(Disposition::Fail(error));
    }
    let recorded =
        batch.missing == 0 && batch.records.iter().all(|r| r.as_ref().is_some_and(|r| r.of(table).is_some()));
    if recorded {
        return Some(of_complete(job, id, batch, table));
    }
    let mut unfit = Vec::new();
    let mut changed = None;
    for (_, failure) in batch.failures.values().filter(|(_, f)| f.table == table) {
        match &failure.cause {
            Cause::Permanent => return Some(Disposition::Fail(failure.error.clone())),
            Cause::Unfit { columns } => unfit.extend(columns.iter().cloned()),
            Cause::Changed => changed = Some(failure.error.clone()),
            Cause::LineageLost => {}
        }
    }
    if let Some(error) = changed {
        return Some(limited(job, id, table, Cause::Changed, &error));
    }
    if unfit.is_empty() {
        return None;
    }
    // Arrays of different numbers of dimensions are two reasons.
    let reason = |unfit: &UnfitColumn| (unfit.column.clone(), unfit.dimensions);
    unfit.sort_by_key(reason);
    unfit.dedup_by_key(|unfit| reason(unfit));
    Some(Disposition::Abandon(Cause::Unfit { columns: unfit }))
}

/// A complete table is published, unless its rows were counted and differ. If the source may have lost rows of
/// the snapshot meanwhile, the table is planned again.
fn of_complete(job: &JobState, id: BatchId, batch: &BatchState, table: TableNo) -> Disposition {
    let Some(planned) = job.plan(id.epoch).and_then(|p| p.table(table)) else {
        return Disposition::Publish;
    };
    let rows: u64 = batch.records.iter().flatten().filter_map(|r| r.of(table)).map(RecordedTable::rows).sum();
    if let Some(shown) = planned.snapshot_rows.filter(|shown| *shown != rows) {
        let error = ErrorReport {
            code: "rows_missing".into(),
            message: format!(
                "{}.{}: {rows} rows were exported, and the snapshot showed {shown} when it was planned: its history was \
                 removed or moved meanwhile (TRUNCATE, or a partition that was dropped, moved or swapped)",
                planned.schema, planned.name
            ),
            remedy: Some(
                "do not truncate the table, and do not drop, move or swap partitions of it, while it is exported".into(),
            ),
            retryable: true,
        };
        return limited(job, id, table, Cause::Changed, &error);
    }
    match planned.counted_rows {
        Some(counted) if counted != rows => Disposition::Fail(ErrorReport {
            code: "count_mismatch".into(),
            message: format!(
                "{}.{}: {rows} rows were exported, count(*) under the same snapshot is {counted}",
                planned.schema, planned.name
            ),
            remedy: Some(
                "the parts are not published, and which of the two numbers is right is not known; if a view or filter \
                 uses functions that change from one transaction to the next, such as now(), leave `verify` out; else \
                 check the table and its indexes (PostgreSQL: amcheck, REINDEX), then export again; where that does \
                 not help, report this"
                    .into(),
            ),
            retryable: true,
        }),
        _ => Disposition::Publish,
    }
}

fn has_too_many(job: &JobState, id: BatchId, batch: &BatchState) -> bool {
    batch.spread.keys().any(|table| too_many(job, id, batch, *table).is_some())
}

/// Whether the chunks of a table that have ended give too many partitions or files already.
fn too_many(job: &JobState, id: BatchId, batch: &BatchState, table: TableNo) -> Option<ErrorReport> {
    let plan = job.plan(id.epoch)?;
    batch.spread.get(&table)?.too_many(plan.table(table)?, &plan.writer, batch.records.len())
}

/// Plans a table again, unless the job has used all its lineages or the table has changed too often: then the
/// table fails.
fn limited(job: &JobState, id: BatchId, table: TableNo, cause: Cause, error: &ErrorReport) -> Disposition {
    let lineages = job.fruitless_lineages();
    let current = job.plans.last().and_then(|p| p.snapshot()).map(|s| s.lineage);
    let own = job.plan(id.epoch).and_then(|p| p.snapshot.as_ref()).map(|s| s.lineage);
    // A later epoch may have taken a new lineage already. Then this table joins that lineage and needs no
    // other.
    let needs_new = current == own;
    if cause == Cause::Changed && job.times_changed(table) >= MAX_CHANGED {
        return Disposition::Fail(given_up(
            error,
            &format!("it was planned again {MAX_CHANGED} times already"),
            "wait until the table is not rewritten, truncated or altered",
        ));
    }
    if needs_new && lineages >= MAX_LINEAGES {
        return Disposition::Fail(no_snapshot_left(error));
    }
    Disposition::Abandon(cause)
}

/// The error of tables that need another snapshot when their job has used all it may use.
#[must_use]
pub fn no_snapshot_left(error: &ErrorReport) -> ErrorReport {
    given_up(
        error,
        &format!("the job has used {MAX_LINEAGES} snapshots already"),
        "find out what ends the snapshots (restarts, terminated sessions, a standby without hot_standby_feedback)",
    )
}

/// An error after which a table is not planned again. The source knows better what to change than this
/// function, which knows no source.
fn given_up(error: &ErrorReport, why: &str, remedy: &str) -> ErrorReport {
    ErrorReport {
        code: error.code.clone(),
        message: format!("{}; {why}", error.message),
        remedy: Some(format!("{}, then `adu-export retry`", error.remedy.as_deref().unwrap_or(remedy))),
        retryable: true,
    }
}

/// Reports a job that has not moved for too long.
#[must_use]
pub fn stalled(job: &JobState, at: &Circumstances) -> Option<Effect> {
    let quiet = at.up.saturating_sub(job.moved.max(job.said.stalled.unwrap_or_default()));
    (quiet > at.stalled_after).then(|| Effect::TellStalled(job.id().clone()))
}

/// The report that is due, if any. A job that does not move says so (invariant I9).
fn tell(job: &JobState, at: &Circumstances) -> Option<Effect> {
    if let Some(stalled) = stalled(job, at) {
        return Some(stalled);
    }
    let due = at.up.saturating_sub(job.said.progress) >= at.progress_interval;
    if !due || job.plans.is_empty() {
        return None;
    }
    // The sum goes over all chunks, so it is made only when a report is due.
    let news = job.progress().chunks_done != job.said.chunks;
    news.then(|| Effect::TellProgress(job.id().clone()))
}

/// How a job ended, by its tables.
#[must_use]
pub fn final_status(job: &JobState) -> super::archive::Status {
    use super::archive::Status;
    if job.cancel.is_some() {
        return Status::Cancelled;
    }
    let results = || job.batches.values().filter_map(|b| b.outcome.as_ref()).flat_map(|o| &o.tables);
    let published = results().filter(|t| matches!(t.result, TableResult::Published { .. })).count();
    let failed = results().filter(|t| matches!(t.result, TableResult::Failed { .. })).count()
        + job.plans.iter().map(|p| p.failed().len()).sum::<usize>();
    let broken = job.plans.iter().any(|p| p.error().is_some());
    match (published, failed > 0 || broken) {
        (_, false) => Status::Completed,
        (0, true) => Status::Failed,
        (_, true) => Status::Partial,
    }
}
