//! Nobody waits behind a large job, and who cancels gets the workers back at once.

use std::time::{Duration, Instant};

use lapin::BasicProperties;
use serde_json::{Value, json};

use crate::support::{Daemon, Database, PATIENCE, Proxy, Services, Site, eventually, none_left};

/// A daemon with two workers behind a slow proxy, in the middle of a job of about 300 chunks.
fn large_job(rate: u64) -> (Site, Proxy, Daemon, String) {
    let (site, proxy, daemon, job) = job_of_chunks(rate, 2000);
    eventually("the large job is under way", PATIENCE, || (daemon.rows_exported() > 0).then_some(()));
    (site, proxy, daemon, job)
}

/// A daemon with two workers behind a slow proxy, and a job.
fn job_of_chunks(bytes_per_second: u64, chunk_rows: u64) -> (Site, Proxy, Daemon, String) {
    let site = Site::new(Database::tpch());
    let proxy = Proxy::to(Services::get().postgres);
    let mut config = site.config();
    config["sources"]["warehouse"]["dsn"] = json!(site.db.dsn_at(proxy.port));
    let daemon = site.daemon_with(&config);
    proxy.slow_to(bytes_per_second);
    let job = site.request(json!({"tables": [{"table": "public.lineitem", "chunk_rows": chunk_rows}]}));
    (site, proxy, daemon, job)
}

fn progress(site: &Site, job: &str) -> Option<Value> {
    Some(site.broker.events.of(job, "job.progress").last()?.data()["progress"].clone())
}

#[test]
fn a_small_job_finishes_long_before_a_large_one() {
    let (site, proxy, daemon, large) = large_job(2_000_000);
    let small = site.request(json!({"tables": ["public.supplier", "public.nation"]}));
    site.completed(&small);
    let (exported, all) = (daemon.rows_exported(), site.db.number("SELECT count(*) FROM lineitem"));
    assert!(exported * 2 < all, "half of the large job is not done: {exported} of {all} rows");
    assert!(site.exports.find_archive(&large).is_none(), "the large job still runs");
    let seen = eventually("progress of the large job", Duration::from_secs(10), || progress(&site, &large));
    assert!(seen["chunks"].as_u64().is_some_and(|n| n >= 200), "{seen}");

    proxy.free();
    site.completed(&large);
    let order: Vec<_> = site.broker.events.all().into_iter().filter(|e| e.is_final()).collect();
    assert_eq!(order[0].job(), small);
    site.assert_equal(&[("SELECT * FROM lineitem", "public_lineitem")]);
    site.assert_sound(&[&large, &small], [daemon]);
}

#[test]
fn a_cancel_frees_the_workers_at_once_and_leaves_nothing() {
    // Two chunks of 40,000 rows, each of more than 100 bytes, by one wire: longer than 20 s.
    let (site, proxy, daemon, large) = job_of_chunks(400_000, 40_000);
    eventually("chunks in flight", PATIENCE, || {
        (daemon.chunks_in_flight() == 2 && proxy.passed() > 200_000).then_some(())
    });

    site.broker.publish(json!({"cancel": large}).to_string().as_bytes(), BasicProperties::default());
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
    let (site, proxy, daemon, large) = large_job(2_000_000);
    let cancel = |job: &str| {
        site.broker.publish(
            json!({"cancel": job}).to_string().as_bytes(),
            BasicProperties::default().with_message_id(format!("cancel-{job}").into()),
        );
    };
    // max_jobs is 4: the last of these waits as accepted.
    let slow = json!({"tables": [{"table": "public.partsupp", "chunk_rows": 2000}]});
    let others: Vec<String> = (0..4).map(|_| site.request(slow.clone())).collect();
    for job in &others {
        site.broker.events.wait(job, "job.accepted", PATIENCE);
    }
    cancel(&others[3]);
    let last = site.broker.events.wait_final(&others[3], Duration::from_secs(10));
    assert_eq!(last.kind(), "job.cancelled");
    cancel("never-heard-of");
    let refused = eventually("an answer", PATIENCE, || {
        site.broker.events.all().into_iter().find(|e| e.kind() == "job.rejected")
    });
    assert!(refused.error().contains("never-heard-of"), "{}", refused.error());

    proxy.free();
    for job in others[..3].iter().chain([&large]) {
        site.completed(job);
    }
    cancel(&large);
    let jobs: Vec<&str> = others.iter().chain([&large]).map(String::as_str).collect();
    site.assert_sound(&jobs, [daemon]);
    assert_eq!(site.exports.archive(&large)["status"], "completed", "what is over stays over");
}

#[test]
fn a_cancel_that_overtakes_its_request_waits_for_it() {
    let (site, proxy, daemon, large) = large_job(400_000);
    let late = "job-late";
    site.broker.publish(
        json!({"cancel": late}).to_string().as_bytes(),
        BasicProperties::default().with_message_id("cancel-late".into()),
    );
    // Published later, stored first: the cancel holds up nobody behind it.
    let between = site.request(json!({"tables": ["public.nation"]}));
    site.broker.events.wait(&between, "job.accepted", PATIENCE);
    site.request(json!({"job_id": late, "tables": ["public.partsupp"]}));
    let last = site.broker.events.wait_final(late, PATIENCE);
    assert_eq!(last.kind(), "job.cancelled", "{}", last.body);

    proxy.free();
    site.completed(&between);
    site.completed(&large);
    site.assert_sound(&[&large, late, &between], [daemon]);
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
    site.broker.publish(json!({"cancel": job}).to_string().as_bytes(), BasicProperties::default());
    none_left("nothing of it goes on", Duration::from_secs(10), || site.db.busy_backends());
    let last = site.broker.events.wait_final(&job, PATIENCE);
    assert_eq!(last.kind(), "job.cancelled", "{}", last.body);
    site.assert_sound(&[&job], [daemon]);
}
