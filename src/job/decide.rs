//! What should happen to a job: a pure function of what the folder says and
//! of who lives. No I/O, no clock, no channel.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::outcome::{CancelCause, TableResult};
use super::state::{BatchId, BatchState, JobState};
use crate::job::record::{Cause, Failure, RecordedTable};
use crate::message::event::ErrorReport;
use crate::message::{Epoch, JobId, TableNo};

/// Most snapshot lineages that one job may use.
pub const MAX_LINEAGES: usize = 5;
/// How often one table may be planned again because it changed.
pub const MAX_CHANGED: usize = 3;

/// What is to be done with one table of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Disposition {
    /// Move it into place.
    Publish,
    /// It fails.
    Fail(ErrorReport),
    /// The job is cancelled.
    Cancel,
    /// Plan it again.
    Abandon(Cause),
}

/// What should happen next to a job. The performer does it and takes what it
/// saw into the state; then the decision is made again.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write `cancel.json`.
    Cancel(JobId, CancelCause),
    /// Write a plan without tables, so that the job can end.
    CloseUnplanned(JobId, Option<ErrorReport>),
    /// Move the tables of a batch where they belong and write its outcome.
    Settle(JobId, BatchId, Vec<(TableNo, Disposition)>),
    /// Tell what became of the tables of a batch.
    TellBatch(JobId, BatchId),
    /// Tell daemons of a plan, and the world of tables that could not be planned.
    TellPlan(JobId, Epoch),
    /// Write the archive.
    Commit(JobId),
    /// Link the archive, tell the end, trash the workspace.
    Finish(JobId),
    /// Report how far the job is.
    TellProgress(JobId),
    /// Report that nothing moves.
    TellStalled(JobId),
    /// A failure that is answered by trying again: forget it.
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
    /// Whether every daemon had the time to say what it holds since the coordinator took over.
    pub settled: bool,
    /// From the configuration.
    pub progress_interval: Duration,
    /// From the configuration.
    pub stalled_after: Duration,
    /// From the configuration of the source.
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
        // Most batches of a large job: chunks are missing, and nothing has gone wrong.
        if batch.missing > 0 && batch.failures.is_empty() && job.cancel.is_none() && lost.is_empty() {
            continue;
        }
        match judge(job, *batch_id, batch, &lost, at) {
            Verdict::Wait => {}
            Verdict::Settle(dispositions) => effects.push(Effect::Settle(id(), *batch_id, dispositions)),
            Verdict::Retry(failure) => effects.push(Effect::Retry(id(), *batch_id, failure)),
        }
    }
    if effects.is_empty() && job.is_settled() {
        // A planner may be at work on what was abandoned: its epoch is closed first.
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

enum Verdict {
    Wait,
    Settle(Vec<(TableNo, Disposition)>),
    Retry(Uuid),
}

/// What follows from the records and failures of an open batch.
fn judge(
    job: &JobState,
    id: BatchId,
    batch: &BatchState,
    lost: &BTreeMap<Uuid, ErrorReport>,
    at: &Circumstances,
) -> Verdict {
    let all = |d: &Disposition| Verdict::Settle(batch.tables.iter().map(|t| (*t, d.clone())).collect());
    if job.cancel.is_some() {
        return all(&Disposition::Cancel);
    }
    if batch.missing > 0 {
        if let Some(error) = lineage_of(job, id).and_then(|lineage| lost.get(&lineage)) {
            let first = |t: &TableNo| (*t, limited(job, id, *t, Cause::LineageLost, error));
            return Verdict::Settle(batch.tables.iter().map(first).collect());
        }
        let claimed = |f: &Failure| f.cause == Cause::LineageLost && is_claimed(job, id, at);
        if let Some((uuid, _)) = batch.failures.iter().find(|(_, (_, f))| claimed(f)) {
            return Verdict::Retry(*uuid);
        }
    }
    let dispositions: Vec<(TableNo, Disposition)> =
        batch.tables.iter().filter_map(|t| Some((*t, of_table(job, id, batch, *t)?))).collect();
    if dispositions.len() < batch.tables.len() {
        return Verdict::Wait;
    }
    Verdict::Settle(dispositions)
}

fn is_claimed(job: &JobState, id: BatchId, at: &Circumstances) -> bool {
    lineage_of(job, id).is_some_and(|l| at.claimed.contains(&l))
}

fn lineage_of(job: &JobState, id: BatchId) -> Option<Uuid> {
    job.plan(id.epoch)?.snapshot.as_ref().map(|s| s.lineage)
}

/// Lineages that are lost, and why: a worker of any batch that reads one found
/// no keeper, and no daemon claims to be one.
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

/// What is to be done with one table of a batch whose chunks have come to an end.
fn of_table(job: &JobState, id: BatchId, batch: &BatchState, table: TableNo) -> Option<Disposition> {
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
    unfit.sort_by(|a, b| a.column.cmp(&b.column));
    unfit.dedup_by(|a, b| a.column == b.column);
    Some(Disposition::Abandon(Cause::Unfit { columns: unfit }))
}

/// A complete table is published, unless its rows were counted and differ.
fn of_complete(job: &JobState, id: BatchId, batch: &BatchState, table: TableNo) -> Disposition {
    let Some(planned) = job.plan(id.epoch).and_then(|p| p.table(table)) else {
        return Disposition::Publish;
    };
    let rows: u64 = batch.records.iter().flatten().filter_map(|r| r.of(table)).map(RecordedTable::rows).sum();
    match planned.counted_rows {
        Some(counted) if counted != rows => Disposition::Fail(ErrorReport {
            code: "count_mismatch".into(),
            message: format!(
                "{}.{}: {rows} rows were exported, count(*) under the same snapshot is {counted}",
                planned.schema, planned.name
            ),
            remedy: Some(
                "the parts are not published, and which of the two numbers is right is not known; if a view or filter \
                 uses functions that change from one transaction to the next, such as now(), leave `verify` out; else an \
                 index of the table may lack rows: check it (amcheck) or REINDEX the table, then export again; where \
                 that does not help, report this"
                    .into(),
            ),
            retryable: true,
        }),
        _ => Disposition::Publish,
    }
}

/// A new lineage, unless the job or the table has had its share.
fn limited(job: &JobState, id: BatchId, table: TableNo, cause: Cause, error: &ErrorReport) -> Disposition {
    let lineages = job.lineages().len();
    let current = job.plans.last().and_then(|p| p.snapshot()).map(|s| s.lineage);
    let own = job.plan(id.epoch).and_then(|p| p.snapshot.as_ref()).map(|s| s.lineage);
    // A later epoch has taken a new lineage already: this table can join it.
    let needs_new = current == own;
    let fail = |message: String, remedy: &str| {
        Disposition::Fail(ErrorReport {
            code: error.code.clone(),
            message,
            remedy: Some(remedy.into()),
            retryable: true,
        })
    };
    if cause == Cause::Changed && job.times_changed(table) >= MAX_CHANGED {
        return fail(
            format!("{}; it was planned again {MAX_CHANGED} times already", error.message),
            "export when the table is not rewritten, truncated or altered, then `adu-export retry`",
        );
    }
    if needs_new && lineages >= MAX_LINEAGES {
        return fail(
            format!("{}; the job has used {MAX_LINEAGES} snapshots already", error.message),
            "find out what ends the snapshots (restarts, terminated sessions, a standby without hot_standby_feedback), \
             then `adu-export retry`",
        );
    }
    Disposition::Abandon(cause)
}

/// A word about a job that has not moved for long.
#[must_use]
pub fn stalled(job: &JobState, at: &Circumstances) -> Option<Effect> {
    let quiet = at.up.saturating_sub(job.moved.max(job.said.stalled.unwrap_or_default()));
    (quiet > at.stalled_after).then(|| Effect::TellStalled(job.id().clone()))
}

/// Reports that are due: a job that does not move says so (invariant I9).
fn tell(job: &JobState, at: &Circumstances) -> Option<Effect> {
    if let Some(stalled) = stalled(job, at) {
        return Some(stalled);
    }
    let due = at.up.saturating_sub(job.said.progress) >= at.progress_interval;
    if !due || job.plans.is_empty() {
        return None;
    }
    // Summed over all chunks: only when a report is due, not at every decision.
    let news = job.progress().chunks_done != job.said.chunks;
    news.then(|| Effect::TellProgress(job.id().clone()))
}

/// Whether a job has come to its end and how, by its tables.
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
