//! The decisions of the coordinator, on states built by hand.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::decide::{Circumstances, Disposition, Effect, decide, no_snapshot_left};
use super::outcome::{CancelCause, CancelMark, NewJob, Outcome, Owner, TableOutcome, TableResult};
use super::state::{BatchId, JobState};
use crate::job::record::{Cause, Failure, PartReference, Record, RecordedPart, RecordedTable};
use crate::message::event::ErrorReport;
use crate::message::output::PARTITIONS_MAX;
use crate::message::request::RequestMessage;
use crate::message::setting::Compression;
use crate::message::{BatchNo, ChunkNo, Epoch, JobId, SourceName, TableNo};
use crate::plan::ExportPlan;
use crate::plan::export_plan::{PlannedTable, WriterSettings};
use crate::relation::{Frozen, Snapshot, Strategy};

mod spread;
mod window;

const SECOND: Duration = Duration::from_secs(1);

fn job(id: &str, received: i64) -> JobState {
    let body = br#"{"tables":["s.t"],"deadline":"1h"}"#;
    let RequestMessage::Export(request) = RequestMessage::parse(body).expect("valid") else { unreachable!() };
    let received = Timestamp::from_second(received).expect("in range");
    let (job, source) = (JobId::parse(id).expect("valid"), source());
    let owner = Owner::Daemons { vhost: "/".into(), prefix: "p".into() };
    JobState::new(NewJob::new(job, source, *request).taken(owner, received), Duration::ZERO)
}

fn source() -> SourceName {
    SourceName::parse("w").expect("valid")
}

pub(super) fn planned(number: u32, batch: u32, chunks: u32) -> PlannedTable {
    PlannedTable {
        number: TableNo(number),
        batch: BatchNo(batch),
        schema: "s".into(),
        name: format!("t{number}"),
        base: format!("s_t{number}"),
        directory: None,
        full: true,
        only: false,
        contains: vec![],
        columns: vec![],
        partition_by: vec![],
        key: vec![],
        filter: None,
        range_filter: None,
        high_water_mark: None,
        strategy: match chunks {
            1 => Strategy::Single,
            n => Strategy::Ctid { bounds: (1..n.into()).collect() },
        },
        read: crate::message::setting::ReadWay::Auto,
        reason: String::new(),
        note: None,
        estimated_rows: 0,
        counted_rows: None,
        snapshot_rows: None,
    }
}

fn plan(job: &JobState, lineage: u128, tables: Vec<PlannedTable>) -> ExportPlan {
    ExportPlan {
        v: 1,
        job: job.id().clone(),
        epoch: job.next_epoch(),
        source: source(),
        planned_at: Timestamp::UNIX_EPOCH,
        ready: Uuid::nil(),
        destination: None,
        traceparent: None,
        snapshot: Some(Snapshot {
            lineage: Uuid::from_u128(lineage),
            time: Timestamp::UNIX_EPOCH,
            recall: Frozen::default(),
        }),
        session: vec![],
        writer: WriterSettings {
            compression: Compression::Snappy,
            row_group_bytes: 1,
            file_bytes: None,
            partitions_max: PARTITIONS_MAX,
            types: Default::default(),
        },
        on_conflict: Default::default(),
        on_unfit: Default::default(),
        verify: Default::default(),
        most_chunks: None,
        tables,
        error: None,
        failed: vec![],
        skipped: vec![],
    }
}

pub(super) fn record(tables: &[u32]) -> Record {
    let part = RecordedPart {
        path: "f".into(),
        reference: PartReference::of_file(1, "f"),
        rows: 10,
        bytes: 1,
        sha256: String::new(),
        row_groups: 1,
        fsync_seconds: 0.0,
    };
    let recorded =
        |table: &u32| RecordedTable { table: TableNo(*table), parts: vec![part.clone()], pages: None };
    Record {
        v: 1,
        instance: Uuid::nil(),
        host: String::new(),
        tables: tables.iter().map(recorded).collect(),
        started_at: Timestamp::UNIX_EPOCH,
        seconds: 1.0,
        attempts: 1,
    }
}

fn failure(table: u32, cause: Cause) -> Failure {
    Failure {
        v: 1,
        table: TableNo(table),
        cause,
        error: ErrorReport::permanent("x", "it broke", "mend it"),
        instance: Uuid::nil(),
        at: Timestamp::UNIX_EPOCH,
    }
}

fn at() -> Circumstances {
    Circumstances {
        now: Timestamp::from_second(10).expect("in range"),
        up: SECOND,
        claimed: Default::default(),
        settled: true,
        progress_interval: SECOND * 1000,
        stalled_after: SECOND * 1000,
        max_snapshot_age: None,
    }
}

/// A job with one plan that was announced, and the id of its first batch.
pub(super) fn running(tables: Vec<PlannedTable>) -> (JobState, BatchId) {
    let mut job = job("j", 0);
    job.add_plan(plan(&job, 1, tables));
    job.said.plans = 1;
    (job, BatchId { epoch: Epoch(1), batch: BatchNo(0) })
}

fn dispositions(job: &JobState, at: &Circumstances) -> Vec<Disposition> {
    match decide(job, at).as_slice() {
        [Effect::Settle(_, _, list)] => list.iter().map(|(_, d)| d.clone()).collect(),
        other => panic!("{other:?}"),
    }
}

fn fail(job: &mut JobState, id: BatchId, failure: Failure) -> Uuid {
    let uuid = Uuid::new_v4();
    job.batches.get_mut(&id).expect("exists").fail(uuid, ChunkNo(0), failure);
    uuid
}

fn settle(job: &mut JobState, id: BatchId, result: TableResult) {
    let batch = job.batches.get_mut(&id).expect("exists");
    let tables = batch.tables.iter().map(|t| TableOutcome { table: *t, result: result.clone() }).collect();
    batch.outcome = Some(Arc::new(Outcome { v: 1, at: Timestamp::UNIX_EPOCH, tables }));
    batch.told = true;
}

#[test]
fn a_table_is_published_when_its_last_chunk_has_a_record_and_not_before() {
    let (mut job, id) = running(vec![planned(0, 0, 2)]);
    job.batches.get_mut(&id).expect("exists").record(ChunkNo(0), record(&[0]));
    assert_eq!(decide(&job, &at()), vec![]);
    job.batches.get_mut(&id).expect("exists").record(ChunkNo(1), record(&[0]));
    assert_eq!(dispositions(&job, &at()), vec![Disposition::Publish]);
}

#[test]
fn a_count_that_differs_keeps_a_table_from_being_published() {
    let (mut job, id) = running(vec![PlannedTable { counted_rows: Some(11), ..planned(0, 0, 1) }]);
    job.batches.get_mut(&id).expect("exists").record(ChunkNo(0), record(&[0]));
    assert!(matches!(dispositions(&job, &at())[..], [Disposition::Fail(_)]));
}

#[test]
fn rows_that_a_snapshot_lost_are_never_published_and_their_table_is_planned_again_a_few_times() {
    let shown = |rows| PlannedTable { snapshot_rows: Some(rows), ..planned(0, 0, 2) };
    let complete = |rows| {
        let (mut job, id) = running(vec![shown(rows)]);
        for chunk in [0, 1] {
            job.batches.get_mut(&id).expect("exists").record(ChunkNo(chunk), record(&[0]));
        }
        (job, id)
    };
    let (job, _) = complete(20);
    assert_eq!(dispositions(&job, &at()), [Disposition::Publish], "both chunks have ten rows");
    for rows in [21, 19] {
        let (job, _) = complete(rows);
        assert_eq!(dispositions(&job, &at()), [Disposition::Abandon(Cause::Changed)]);
    }
    let counted = PlannedTable { counted_rows: Some(21), ..shown(21) };
    let (mut job, id) = running(vec![counted]);
    for chunk in [0, 1] {
        job.batches.get_mut(&id).expect("exists").record(ChunkNo(chunk), record(&[0]));
    }
    assert_eq!(
        dispositions(&job, &at()),
        [Disposition::Abandon(Cause::Changed)],
        "`verify` does not fail it"
    );
    // The same again under three other lineages.
    let (mut job, mut id) = complete(21);
    for lineage in 2..5 {
        settle(&mut job, id, TableResult::Abandoned { cause: Cause::Changed });
        job.add_plan(plan(&job, lineage, vec![shown(21)]));
        job.said.plans = job.plans.len();
        id = BatchId { epoch: Epoch::after(job.plans.len() - 1), ..id };
        for chunk in [0, 1] {
            job.batches.get_mut(&id).expect("exists").record(ChunkNo(chunk), record(&[0]));
        }
    }
    let list = dispositions(&job, &at());
    let [Disposition::Fail(error)] = &list[..] else { panic!("{list:?}") };
    assert_eq!(error.code, "rows_missing");
    assert!(
        error.message.contains("s.t0: 20 rows") && error.message.contains("planned again 3 times"),
        "{error:?}"
    );
}

#[test]
fn one_table_of_a_batch_fails_and_the_others_are_published() {
    let (mut job, id) = running(vec![planned(0, 0, 1), planned(1, 0, 1)]);
    fail(&mut job, id, failure(1, Cause::Permanent));
    assert_eq!(decide(&job, &at()), vec![], "the batch's record says when its work has ended");
    job.batches.get_mut(&id).expect("exists").record(ChunkNo(0), record(&[0]));
    let list = dispositions(&job, &at());
    assert!(matches!(&list[..], [Disposition::Publish, Disposition::Fail(_)]), "{list:?}");
}

#[test]
fn a_batch_whose_tables_all_fail_ends_without_a_record() {
    let (mut job, id) = running(vec![planned(0, 0, 1), planned(1, 0, 1)]);
    fail(&mut job, id, failure(0, Cause::Permanent));
    assert!(
        job.batches[&id].is_unfinished(ChunkNo(0)),
        "a worker that died in between leaves one failure only"
    );
    fail(&mut job, id, failure(1, Cause::Changed));
    let list = dispositions(&job, &at());
    assert!(matches!(&list[..], [Disposition::Fail(_), Disposition::Abandon(Cause::Changed)]), "{list:?}");
}

#[test]
fn a_cancel_closes_the_epoch_that_a_planner_may_be_at_work_on() {
    let (mut job, id) = running(vec![planned(0, 0, 1)]);
    settle(&mut job, id, TableResult::Abandoned { cause: Cause::Changed });
    job.cancel = Some(mark());
    assert_eq!(decide(&job, &at()), vec![Effect::CloseUnplanned(job.id().clone(), None)]);
    job.add_plan(plan(&job, 1, vec![]));
    job.said.plans = 2;
    assert_eq!(decide(&job, &at()), vec![Effect::Commit(job.id().clone())]);
}

#[test]
fn a_snapshot_is_lost_only_when_nobody_claims_it_and_everybody_was_heard() {
    let (mut job, id) = running(vec![planned(0, 0, 2)]);
    let uuid = fail(&mut job, id, failure(0, Cause::LineageLost));
    assert_eq!(decide(&job, &Circumstances { settled: false, ..at() }), vec![]);
    let claimed = Circumstances { claimed: [Uuid::from_u128(1)].into(), ..at() };
    assert_eq!(decide(&job, &claimed), vec![Effect::Retry(job.id().clone(), id, uuid)]);
    assert_eq!(dispositions(&job, &at()), vec![Disposition::Abandon(Cause::LineageLost)]);
}

#[test]
fn what_is_abandoned_is_planned_again_before_the_job_can_end() {
    let (mut job, id) = running(vec![planned(0, 0, 1)]);
    fail(&mut job, id, failure(0, Cause::Changed));
    assert_eq!(dispositions(&job, &at()), vec![Disposition::Abandon(Cause::Changed)]);
    settle(&mut job, id, TableResult::Abandoned { cause: Cause::Changed });
    assert_eq!(decide(&job, &at()), vec![], "it waits for the next epoch");
    assert_eq!(job.abandoned().len(), 1);
    job.add_plan(plan(&job, 2, vec![planned(0, 0, 1)]));
    job.said.plans = 2;
    assert!(job.abandoned().is_empty());
}

#[test]
fn a_sixth_snapshot_is_not_taken() {
    let mut job = job("j", 0);
    for epoch in 1..=5 {
        job.add_plan(plan(&job, u128::from(epoch), vec![planned(0, 0, 1)]));
        job.said.plans = epoch as usize;
        let id = BatchId { epoch: Epoch(epoch), batch: BatchNo(0) };
        fail(&mut job, id, failure(0, Cause::LineageLost));
        let list = dispositions(&job, &at());
        match epoch {
            5 => {
                let [Disposition::Fail(error)] = &list[..] else { panic!("{list:?}") };
                let remedy = error.remedy.as_deref();
                assert_eq!(remedy, Some("mend it, then `adu-export retry`"), "what the source said");
                let silent = no_snapshot_left(&ErrorReport { remedy: None, ..error.clone() });
                let remedy = silent.remedy.expect("also where the source says none");
                assert!(remedy.starts_with("find out") && remedy.contains("adu-export retry"), "{remedy}");
            }
            _ => assert_eq!(list, vec![Disposition::Abandon(Cause::LineageLost)]),
        }
        settle(&mut job, id, TableResult::Abandoned { cause: Cause::LineageLost });
    }
}

#[test]
fn a_settled_job_is_committed_and_a_committed_one_only_finished() {
    let (mut job, id) = running(vec![planned(0, 0, 1)]);
    settle(&mut job, id, TableResult::Published { directory: "d".into(), files: vec![], pages: None });
    assert_eq!(decide(&job, &at()), vec![Effect::Commit(job.id().clone())]);
    job.archive = Some(Arc::new(super::archive::Archive::of(&job, Timestamp::UNIX_EPOCH)));
    job.cancel = Some(mark());
    assert_eq!(decide(&job, &at()), vec![Effect::Finish(job.id().clone())], "too late to cancel");
}

fn mark() -> CancelMark {
    CancelMark { v: 1, why: CancelCause::Request, by: None, at: Timestamp::UNIX_EPOCH }
}

#[test]
fn a_cancel_before_the_first_plan_closes_the_job() {
    let mut job = job("j", 0);
    job.cancel = Some(mark());
    assert_eq!(decide(&job, &at()), vec![Effect::CloseUnplanned(job.id().clone(), None)]);
}

#[test]
fn a_deadline_that_passed_cancels() {
    let (job, _) = running(vec![planned(0, 0, 1)]);
    let late = Circumstances { now: Timestamp::from_second(3601).expect("in range"), ..at() };
    assert_eq!(decide(&job, &late), vec![Effect::Cancel(job.id().clone(), CancelCause::Deadline)]);
}

#[test]
fn a_job_that_does_not_move_says_so() {
    let (job, _) = running(vec![planned(0, 0, 1)]);
    let late = Circumstances { up: SECOND * 1001, ..at() };
    assert_eq!(decide(&job, &late), vec![Effect::TellStalled(job.id().clone())]);
}
