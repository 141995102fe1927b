//! Faults that the simulation has found. Each is repeated at all moments at which it can happen, because a
//! seed means another schedule after the next change.

use std::collections::BTreeMap;

use serde_json::json;

use crate::dice::Dice;
use crate::disk::HOSTS;
use crate::faults::Faults;
use crate::play::{Played, Stage};
use crate::schedule::{Event, Job, Schedule};
use crate::source::Quirks;

/// Two daemons, two tables of several chunks, one job.
fn calm() -> Schedule {
    let tables = BTreeMap::from([("t0".to_owned(), 7), ("t1".to_owned(), 3)]);
    let body = json!({"job_id": "j0", "tables": [{"table": "s.t0", "chunk_rows": 3}, "s.t1"],
        "output": {"directory": "crm"}});
    Schedule {
        faults: Faults::none(),
        hosts: 2,
        slots: 2,
        depot: false,
        quirks: Quirks::default(),
        jobs: vec![Job {
            id: "j0".into(),
            tables: tables.keys().cloned().collect(),
            snapshot: true,
            ends_early: false,
            on_conflict: "version",
        }],
        tables,
        events: vec![(0, Event::Send(body, "m0".into()))],
    }
}

/// One host sees the other's new names late.
fn hidden() -> Faults {
    Faults { hide: 60, hide_longest: 4_000, ..Faults::none() }
}

/// Plays a schedule with a change at each of many moments.
fn at_any_moment(change: impl Fn(&mut Schedule, u64)) {
    at_moments(150, false, change).for_each(drop);
}

/// Plays a schedule with a change at each of this many moments, one after the other.
fn at_moments(
    moments: u64,
    traced: bool,
    change: impl Fn(&mut Schedule, u64),
) -> impl Iterator<Item = Played> {
    crate::count_panics();
    let stage = Stage::new();
    (0..moments).map(move |moment| {
        let mut schedule = calm();
        change(&mut schedule, moment * 20);
        schedule.events.sort_by_key(|(at, _)| *at);
        let played = crate::perform(&stage, &schedule, Dice::new(moment), traced);
        assert!(played.broken.is_empty(), "moment {moment}: {:#?}", played.broken);
        played
    })
}

/// The planner tried for ever to plan the table on the old snapshot, which could not show it any more.
#[test]
fn an_unfit_table_that_was_rewritten_is_planned_on_a_new_snapshot() {
    at_any_moment(|schedule, at| {
        schedule.quirks.unfit.insert("t0".into());
        schedule.events.push((at / 3, Event::Rewrite("t0".into())));
    });
}

/// A coordinator did not see a `ready` directory yet and took it for trashed. The public directory to which
/// another coordinator had just renamed it was hidden too.
#[test]
fn a_directory_that_a_cache_hides_is_not_taken_for_trashed() {
    at_any_moment(|schedule, at| {
        schedule.faults = hidden();
        schedule.events.push((at / 2, Event::Kill(usize::from(at % 40 == 0))));
    });
}

/// A job ran again because its archive was hidden.
#[test]
fn a_request_that_comes_again_after_the_end_runs_nothing() {
    at_any_moment(|schedule, at| {
        schedule.faults = hidden();
        let again = schedule.events[0].1.clone();
        schedule.events.push((at * 2, again.clone()));
        schedule.events.push((at * 2 + 100, again));
    });
}

/// A coordinator closed the plan because of a cancel and died. Its successor did not see the cancel, and
/// reported the job as completed.
#[test]
fn a_job_whose_cancel_is_hidden_does_not_complete() {
    at_any_moment(|schedule, at| {
        schedule.faults = Faults { delay: 40, ..hidden() };
        schedule.jobs[0].ends_early = true;
        schedule.events.push((at / 8, Event::Send(json!({"cancel": "j0"}), "c0".into())));
        schedule.events.push((at / 8 + at % 300, Event::Kill(usize::from(at % 40 == 0))));
    });
}

/// Seven daemons had begun one chunk, each after the broker had dropped the session of the one before. Their
/// markers counted as deaths, and the seventh daemon failed the chunk, although all seven lived and worked
/// on.
#[test]
fn a_chunk_that_many_living_daemons_work_on_is_not_poison() {
    let played = at_moments(15, true, |schedule, at| {
        schedule.hosts = HOSTS;
        schedule.slots = 1;
        schedule.tables.retain(|table, _| table == "t1");
        schedule.jobs[0].tables = vec!["t1".into()];
        schedule.events = vec![(0, Event::Send(json!({"job_id": "j0", "tables": ["s.t1"]}), "m0".into()))];
        schedule.quirks.slow.insert("t1".into(), 30_000);
        for nth in 1..HOSTS as u64 {
            schedule.events.push((1_000 + nth * (600 + at * 4), Event::TakeAway));
        }
    });
    for played in played {
        // Two starts beside others and three alone are enough to fail a chunk, unless somebody checks whether
        // they live.
        let begun = |line: &&String| line.contains(" creates ") && line.contains(".start-");
        let before_any_end =
            played.trace.iter().take_while(|l| !(l.contains(" removes ") && l.contains(".start-")));
        assert_eq!(before_any_end.filter(begun).count(), HOSTS - 1, "all of them worked on it at once");
    }
}

/// A chunk that kills its processes fails after some deaths, even if living daemons have begun it too. No
/// other chunk fails.
#[test]
fn a_chunk_that_kills_its_daemons_is_poison_after_some_deaths() {
    for snapshot in ["snapshot", "none"] {
        let played = at_moments(40, false, |schedule, at| {
            schedule.hosts = 2 + (at / 20 % 2) as usize;
            schedule.jobs[0].snapshot = snapshot == "snapshot";
            schedule.quirks.deadly.insert("t1".into());
            let body = json!({"job_id": "j0", "tables": ["s.t1", {"table": "s.t0", "chunk_rows": 3}],
                "consistency": snapshot});
            schedule.events = vec![(0, Event::Send(body, "m0".into())), (at * 3, Event::TakeAway)];
        });
        for played in played {
            assert!((4..=12).contains(&played.deaths), "{} deaths", played.deaths);
        }
    }
}

/// Where a table becomes visible part by part, a coordinator that dies leaves half a table. The next
/// coordinator completes it, even if the job was cancelled meanwhile.
#[test]
fn a_table_that_was_published_by_half_is_completed() {
    at_any_moment(|schedule, at| {
        schedule.depot = true;
        schedule.jobs[0].ends_early = true;
        schedule.faults = Faults { delay: 40, ..hidden() };
        schedule.events.push((at / 2, Event::Kill(usize::from(at % 40 == 0))));
        schedule.events.push((at / 2 + 200, Event::Send(json!({"cancel": "j0"}), "c0".into())));
    });
}
