//! A small job does not wait behind a large one, and a cancel frees workers at once.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Daemon, Database, PATIENCE, Site, Slow, eventually, fill, none_left};

/// Rows of the large job.
const LARGE: u32 = 60_000;

/// A daemon with two workers in the middle of a job of 300 chunks, and tables for smaller jobs.
fn large_job() -> (Slow, Daemon, String) {
    let db = Database::empty();
    fill(&db, "big", LARGE);
    fill(&db, "other", 10_000);
    fill(&db, "small", 1000);
    fill(&db, "tiny", 10);
    let slow = Slow::new(db).chunks_of(200).at(400_000);
    let daemon = slow.daemon();
    let job = slow.request(&["big"]);
    eventually("the large job is under way", PATIENCE, || (daemon.rows_exported() > 0).then_some(()));
    (slow, daemon, job)
}

fn progress(site: &Site, job: &str) -> Option<Value> {
    Some(site.broker.events.of(job, "job.progress").last()?.data()["progress"].clone())
}

#[test]
fn a_small_job_finishes_long_before_a_large_one() {
    let (slow, daemon, large) = large_job();
    let site = &slow.site;
    let small = slow.request(&["small", "tiny"]);
    site.completed(&small);
    let exported = daemon.rows_exported();
    assert!(exported * 2 < u64::from(LARGE), "half of the large job is not done: {exported} of {LARGE} rows");
    site.assert_runs(&large, "the large job still runs");
    let seen = eventually("progress of the large job", Duration::from_secs(10), || progress(site, &large));
    assert!(seen["chunks"].as_u64().is_some_and(|n| n >= 200), "{seen}");

    slow.completes(&large);
    let order: Vec<_> = site.broker.events.all().into_iter().filter(|e| e.is_final()).collect();
    assert_eq!(order[0].job(), small);
    site.assert_equal(&[("SELECT * FROM big", "public_big"), ("SELECT * FROM small", "public_small")]);
    site.assert_sound(&[&large, &small], [daemon]);
}

#[test]
fn a_cancel_frees_the_workers_at_once_and_leaves_nothing() {
    // Two chunks of 4 MB share one connection and take longer than 20 s.
    let slow = Slow::big(LARGE).chunks_of(LARGE / 3).at(300_000);
    let (site, daemon) = (&slow.site, slow.daemon());
    let large = slow.request(&["big"]);
    eventually("chunks in flight", PATIENCE, || {
        (daemon.chunks_in_flight() == 2 && slow.proxy.passed() > 200_000).then_some(())
    });

    site.cancel(&large);
    let (began, half) = (Instant::now(), Duration::from_secs(10));
    eventually("the workers are free", half, || (daemon.chunks_in_flight() == 0).then_some(()));
    eprintln!("the workers are free {:?} after the cancel", began.elapsed());
    let rest = half.saturating_sub(began.elapsed());
    none_left("no chunk and no keeper on the server", rest, || site.db.busy_backends());

    let last = site.broker.events.wait_final(&large, PATIENCE);
    assert_eq!(last.kind(), "job.cancelled", "{}", last.body);
    assert_eq!(site.exports.archive(&large)["status"], "cancelled");
    assert!(site.exports.directories().is_empty(), "no half table");
    site.assert_sound(&[&large], [daemon]);
}

#[test]
fn a_job_that_waits_or_is_unknown_can_be_cancelled_too() {
    let (slow, daemon, large) = large_job();
    let site = &slow.site;
    // max_jobs is 4, so the last of these jobs is accepted but waits.
    let others = [(); 4].map(|()| slow.request(&["other"]));
    for job in &others {
        site.broker.events.wait(job, "job.accepted", PATIENCE);
    }
    site.cancel(&others[3]);
    let last = site.broker.events.wait_final(&others[3], Duration::from_secs(10));
    assert_eq!(last.kind(), "job.cancelled");
    site.cancel("never-heard-of");
    let refused = eventually("an answer", PATIENCE, || {
        site.broker.events.all().into_iter().find(|e| e.kind() == "job.rejected")
    });
    assert!(refused.error().contains("never-heard-of"), "{}", refused.error());

    slow.completes(&large);
    for job in &others[..3] {
        site.completed(job);
    }
    site.cancel(&large);
    let jobs: Vec<&str> = others.iter().chain([&large]).map(String::as_str).collect();
    site.assert_sound(&jobs, [daemon]);
    assert_eq!(site.exports.archive(&large)["status"], "completed", "what is over stays over");
}

#[test]
fn a_cancel_that_overtakes_its_request_waits_for_it() {
    let (slow, daemon, large) = large_job();
    let site = &slow.site;
    let late = "job-late";
    site.cancel(late);
    // This job is published later but stored first, so the cancel does not block it.
    let between = slow.request(&["tiny"]);
    site.broker.events.wait(&between, "job.accepted", PATIENCE);
    site.request(json!({"job_id": late, "tables": ["public.other"]}));
    let last = site.broker.events.wait_final(late, PATIENCE);
    assert_eq!(last.kind(), "job.cancelled", "{}", last.body);

    slow.completes(&large);
    site.completed(&between);
    site.assert_sound(&[late, &large, &between], [daemon]);
}

#[test]
fn a_cancel_reaches_a_job_that_is_still_being_planned() {
    let site = Site::new(Database::empty());
    site.db.execute("CREATE VIEW slow AS SELECT 1 AS x FROM pg_sleep(300)");
    let daemon = site.daemon();
    let job = site.request(json!({"tables": ["public.slow"], "verify": "count"}));
    eventually("the view is being counted", PATIENCE, || {
        site.db.busy_backends().iter().any(|b| b.contains("count(*)")).then_some(())
    });
    site.cancel(&job);
    none_left("nothing of it goes on", Duration::from_secs(10), || site.db.busy_backends());
    let last = site.broker.events.wait_final(&job, PATIENCE);
    assert_eq!(last.kind(), "job.cancelled", "{}", last.body);
    site.assert_sound(&[&job], [daemon]);
}
