//! Which tasks are dealt.

use std::collections::BTreeMap;

use super::*;
use crate::job::window::{SourceLimits, Window, WindowSettings};
use crate::message::Task;
use crate::message::inbox::Alive;

fn settings() -> WindowSettings {
    let limits = SourceLimits { max_parallel: 100, max_jobs: 2, chunk_workers: None };
    WindowSettings {
        root: Uuid::nil(),
        sources: [(source(), limits)].into(),
        table_threads: Some(2),
        chunk_workers: Some(3),
        alive_timeout: SECOND * 30,
    }
}

fn alive(slots: u32, holding: Vec<Task>) -> Alive {
    Alive {
        instance: Uuid::nil(),
        slots,
        cores: 2,
        sources: vec![source()],
        holding,
        lineages: vec![],
        troubles: vec![],
        leaving: false,
    }
}

fn jobs(list: Vec<JobState>) -> BTreeMap<JobId, JobState> {
    list.into_iter().map(|j| (j.id().clone(), j)).collect()
}

#[test]
fn a_small_job_gets_its_turn_beside_a_large_one() {
    let mut large = job("large", 0);
    large.add_plan(plan(&large, 1, (0..10).map(|n| planned(n, n, 50)).collect()));
    let mut small = job("small", 1);
    small.add_plan(plan(&small, 2, vec![planned(0, 0, 1)]));
    let mut jobs = jobs(vec![large, small]);
    let mut window = Window::default();
    window.heard(alive(4, vec![]), SECOND);
    let dealt = window.deal(&mut jobs, SECOND, &settings());
    assert!(dealt.iter().any(|t| t.job().as_str() == "small"), "{dealt:?}");
    // Two tables at once, three chunks of each: the share is full before the window is.
    assert_eq!(dealt.len(), 7);
    assert!(window.deal(&mut jobs, SECOND, &settings()).is_empty());
}

#[test]
fn a_batch_that_is_being_settled_gets_no_work_and_what_is_given_up_together_is_planned_together() {
    let (mut state, first) = running(vec![planned(0, 0, 50), planned(1, 1, 50)]);
    let second = *state.batches.keys().find(|id| **id != first).expect("two batches");
    for id in [first, second] {
        let batch = state.batches.get_mut(&id).expect("exists");
        (batch.settling, batch.giving_up) = (true, true);
    }
    let mut jobs = jobs(vec![state]);
    let mut window = Window::default();
    window.heard(alive(8, vec![]), SECOND);
    assert_eq!(window.deal(&mut jobs, SECOND, &settings()), []);
    let mut end = |jobs: &mut BTreeMap<JobId, JobState>, id| {
        let batch = jobs.values_mut().next().expect("one").batches.get_mut(&id).expect("exists");
        (batch.settling, batch.giving_up) = (false, false);
        let result = TableResult::Abandoned { cause: Cause::Changed };
        let tables = vec![TableOutcome { table: batch.tables[0], result }];
        batch.outcome = Some(Outcome { v: 1, at: Timestamp::UNIX_EPOCH, tables }.into());
        window.deal(jobs, SECOND, &settings())
    };
    assert_eq!(end(&mut jobs, first), [], "the other table is not abandoned yet");
    assert!(matches!(end(&mut jobs, second)[..], [Task::Plan(_)]));
}

#[test]
fn jobs_beyond_the_bound_wait_in_order_of_arrival() {
    let mut jobs = jobs(vec![job("a", 3), job("b", 1), job("c", 2)]);
    let mut window = Window::default();
    window.heard(alive(8, vec![]), SECOND);
    let dealt = window.deal(&mut jobs, SECOND, &settings());
    let mut names: Vec<&str> = dealt.iter().map(|t| t.job().as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["b", "c"], "one planning task for each job that is admitted");
}

#[test]
fn a_job_that_becomes_known_late_does_not_overtake_one_that_is_being_planned() {
    let mut jobs = jobs(vec![job("a", 1), job("c", 3)]);
    let mut window = Window::default();
    window.heard(alive(8, vec![]), SECOND);
    assert_eq!(window.deal(&mut jobs, SECOND, &settings()).len(), 2);
    jobs.insert(job("b", 2).id().clone(), job("b", 2));
    let dealt = window.deal(&mut jobs, SECOND, &settings());
    assert!(dealt.is_empty(), "two are at work already: {dealt:?}");
}

#[test]
fn a_task_is_dealt_again_only_when_it_is_not_held_and_not_in_the_queue() {
    let mut large = job("large", 0);
    large.add_plan(plan(&large, 1, vec![planned(0, 0, 2)]));
    let mut jobs = jobs(vec![large]);
    let mut window = Window::default();
    window.heard(alive(4, vec![]), SECOND);
    let dealt = window.deal(&mut jobs, SECOND, &settings());
    assert_eq!(dealt.len(), 2);
    let later = SECOND * 60;
    window.heard(alive(4, vec![dealt[0].clone()]), later);
    window.tidy(&jobs, later, &settings());
    assert!(window.deal(&mut jobs, later, &settings()).is_empty(), "the other may still be in the queue");
    window.queue_is_empty();
    window.tidy(&jobs, later, &settings());
    assert_eq!(window.deal(&mut jobs, later, &settings()), vec![dealt[1].clone()]);
}

#[test]
fn a_snapshot_that_plans_find_again_has_no_holders_to_count() {
    for recall in [Frozen::default(), Frozen::of(&88)] {
        let is_held = recall.is_nothing();
        let mut job = job("j", 0);
        let mut plan = plan(&job, 1, vec![planned(0, 0, 1)]);
        if let Some(snapshot) = &mut plan.snapshot {
            snapshot.recall = recall;
        }
        job.add_plan(plan);
        assert_eq!((job.open_snapshots().count(), job.oldest_snapshot().is_some()), (1, true));
        assert_eq!(
            (job.open_lineages().len() == 1, job.oldest_held_snapshot().is_some()),
            (is_held, is_held)
        );
    }
}
