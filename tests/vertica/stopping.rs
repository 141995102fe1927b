//! A cancel frees the server's sessions at once, also while the reader stands still.

use std::time::Duration;

use serde_json::json;

use crate::scene::Scene;
use crate::support::{PATIENCE, eventually};

/// The longest time that a cancel may take on the server.
const SOON: Duration = Duration::from_secs(2);

#[test]
fn a_cancel_frees_the_server_in_the_middle_of_rows() {
    let scene = Scene::big(40_000);
    let mut config = scene.config();
    config["sources"]["warehouse"]["chunk_rows"] = json!(20_000);
    let daemon = scene.site.daemon_with(&config);
    scene.stand_in.tell(&json!({"do": "crawl", "ms": 300, "match": "HASH", "count": 0}));
    let job = scene.site.request(json!({"tables": ["public.big"]}));
    eventually("rows are on their way", PATIENCE, || {
        scene
            .stand_in
            .sessions()
            .iter()
            .any(|s| s["running"] == true && s["rows"].as_u64() > Some(100))
            .then_some(())
    });
    scene.site.cancel(&job);
    eventually("the cancel is known", PATIENCE, || daemon.log().contains("cancel").then_some(()));
    scene.free_within(SOON);
    let last = scene.site.broker.events.wait_final(&job, PATIENCE);
    assert_eq!(last.kind(), "job.cancelled", "{}", last.body);
    scene.site.assert_sound(&[job], [daemon]);
}

#[test]
fn a_cancel_frees_the_server_while_the_reader_stalls() {
    let scene = Scene::big(40_000);
    let mut config = scene.config();
    config["sources"]["warehouse"]["chunk_rows"] = json!(20_000);
    let daemon = scene.site.spawn_in(&config, &[("FAILPOINTS", "mid:copy:big=sleep(8000)")]).ready();
    let job = scene.site.request(json!({"tables": ["public.big"]}));
    eventually("a chunk reads", PATIENCE, || {
        scene
            .stand_in
            .busy()
            .iter()
            .any(|s| s.contains("FROM \"public\".\"big\"") && !s.contains("COUNT"))
            .then_some(())
    });
    std::thread::sleep(Duration::from_secs(1));
    scene.site.cancel(&job);
    scene.free_within(SOON + Duration::from_secs(1));
    let last = scene.site.broker.events.wait_final(&job, PATIENCE);
    assert_eq!(last.kind(), "job.cancelled", "{}", last.body);
    scene.site.assert_sound(&[job], [daemon]);
}

#[test]
fn a_cancel_while_the_server_computes_frees_it_too() {
    let scene = Scene::big(3000);
    let daemon = scene.daemon();
    scene.stand_in.tell(&json!({"do": "slow", "ms": 30_000, "match": "HASH", "count": 0}));
    let job = scene.site.request(json!({"tables": ["public.big"]}));
    eventually("a chunk waits", PATIENCE, || {
        scene.stand_in.busy().iter().any(|statement| statement.contains("HASH")).then_some(())
    });
    scene.site.cancel(&job);
    scene.free_within(SOON + Duration::from_secs(1));
    let last = scene.site.broker.events.wait_final(&job, PATIENCE);
    assert_eq!(last.kind(), "job.cancelled", "{}", last.body);
    scene.site.assert_sound(&[job], [daemon]);
}

#[test]
fn a_killed_daemon_leaves_nothing_on_the_server() {
    let scene = Scene::big(40_000);
    let mut config = scene.config();
    config["sources"]["warehouse"]["chunk_rows"] = json!(20_000);
    let mut daemon = scene.site.daemon_with(&config);
    scene.stand_in.tell(&json!({"do": "crawl", "ms": 300, "match": "HASH", "count": 4}));
    let job = scene.mid_job(&daemon, &["big"]);
    daemon.kill();
    scene.free_within(Duration::from_secs(10));
    scene.site.assert_runs(&job, "its only daemon was killed");
    let daemon = scene.daemon();
    scene.site.completed(&job);
    scene.assert_has_all("public_big", 40_000);
    scene.site.assert_sound(&[job], [daemon]);
}
