//! Daemons and servers that die or fall silent in the middle of a job.

use std::time::Duration;

use serde_json::json;

use crate::scene::Scene;
use crate::support::{PATIENCE, eventually};

/// Rows of the table; chunks have a thousand.
const ROWS: u32 = 12_000;

#[test]
fn a_job_outlives_the_daemon_that_planned_it() {
    let scene = Scene::big(ROWS);
    scene.proxy.slow_to(1_000_000);
    let mut first = scene.daemon();
    let job = scene.mid_job(&first, &["big"]);
    first.kill();
    scene.site.assert_runs(&job, "the daemon was killed in its middle");
    let second = scene.daemon();
    scene.site.completed(&job);
    scene.assert_has_all("public_big", ROWS);
    let archive = scene.site.exports.archive(&job);
    let snapshots = archive["snapshots"].as_object().expect("the snapshots of the job");
    assert_eq!(snapshots.len(), 1, "the server's epoch needs no keeper: {archive}");
    scene.site.assert_sound(&[job], [second]);
}

#[test]
fn a_job_outlives_a_server_that_is_killed_and_comes_back() {
    let scene = Scene::big(ROWS);
    scene.proxy.slow_to(1_000_000);
    let daemon = scene.daemon();
    let job = scene.mid_job(&daemon, &["big"]);
    scene.stand_in.kill();
    std::thread::sleep(Duration::from_secs(2));
    scene.site.assert_runs(&job, "the server was killed in its middle");
    scene.stand_in.start_again();
    scene.proxy.slow_to(1 << 40);
    scene.site.completed(&job);
    scene.assert_has_all("public_big", ROWS);
    scene.site.assert_sound(&[job], [daemon]);
}

#[test]
fn a_connection_that_is_cut_anywhere_costs_a_try_and_no_row() {
    let scene = Scene::big(ROWS);
    let daemon = scene.daemon();
    let mut jobs = Vec::new();
    for cut in [
        json!({"do": "cut", "rows": 0, "match": "HASH"}),
        json!({"do": "cut", "rows": 100, "match": "HASH"}),
        json!({"do": "cut", "rows": 100, "at": "message", "match": "HASH"}),
        json!({"do": "cut", "at": "complete", "match": "HASH"}),
        json!({"do": "fail", "rows": 50, "match": "HASH", "sqlstate": "57V03", "message": "the node is going down"}),
    ] {
        scene.stand_in.tell(&cut);
        let job = scene.site.request(json!({"tables": ["public.big"]}));
        let last = scene.site.broker.events.wait_final(&job, PATIENCE);
        assert_eq!(last.kind(), "job.completed", "{cut}: {}", last.body);
        let directory = last.data()["tables"][0]["directory"].as_str().expect("a directory").to_owned();
        scene.assert_has_all(&directory, ROWS);
        scene.stand_in.tell(&json!({"do": "good"}));
        jobs.push(job);
    }
    scene.site.assert_sound(&jobs, [daemon]);
}

#[test]
fn a_server_that_falls_silent_is_cancelled_and_asked_again() {
    let scene = Scene::big(ROWS);
    let mut config = scene.config();
    config["sources"]["warehouse"]["stall_timeout"] = json!("2s");
    let daemon = scene.site.daemon_with(&config);
    scene.stand_in.tell(&json!({"do": "stall", "rows": 100, "match": "HASH"}));
    let job = scene.site.request(json!({"tables": ["public.big"]}));
    eventually("the silence is noticed", PATIENCE, || daemon.log().contains("stalled").then_some(()));
    scene.site.completed(&job);
    scene.assert_has_all("public_big", ROWS);
    scene.free_within(Duration::from_secs(5));
    scene.site.assert_sound(&[job], [daemon]);
}
