//! A cancel frees the server's sessions at once, also while the reader stands still.

use std::time::Duration;

use serde_json::{Value, json};

use crate::scene::Scene;
use crate::support::{Daemon, PATIENCE, StandIn, eventually};

/// The longest time that a cancel may take on the server.
const SOON: Duration = Duration::from_secs(2);

/// Cancels a job of the table `big` once it is under way. Its sessions must be free within this time.
#[track_caller]
fn assert_cancel_frees(
    scene: &Scene,
    daemon: Daemon,
    span: Duration,
    is_under_way: impl Fn(&StandIn) -> bool,
) {
    let job = scene.site.request(json!({"tables": ["public.big"]}));
    eventually("the job is under way", PATIENCE, || is_under_way(&scene.stand_in).then_some(()));
    scene.site.cancel(&job);
    eventually("the cancel is known", PATIENCE, || daemon.log().contains("cancel").then_some(()));
    scene.free_within(span);
    let last = scene.site.broker.events.wait_final(&job, PATIENCE);
    assert_eq!(last.kind(), "job.cancelled", "{}", last.body);
    scene.site.assert_sound(&[job], [daemon]);
}

/// A configuration with two chunks for the table of 40,000 rows.
fn two_chunks(scene: &Scene) -> Value {
    let mut config = scene.config();
    config["sources"]["warehouse"]["chunk_rows"] = json!(20_000);
    config
}

#[test]
fn a_cancel_frees_the_server_in_the_middle_of_rows() {
    let scene = Scene::big(40_000);
    let daemon = scene.site.daemon_with(&two_chunks(&scene));
    scene.stand_in.tell(&json!({"do": "crawl", "ms": 300, "match": "HASH", "count": 0}));
    assert_cancel_frees(&scene, daemon, SOON, |stand_in| {
        stand_in.sessions().iter().any(|s| s["running"] == true && s["rows"].as_u64() > Some(100))
    });
}

#[test]
fn a_cancel_frees_the_server_while_the_reader_stalls() {
    let scene = Scene::big(40_000);
    let stalls = [("FAILPOINTS", "mid:copy:big=sleep(8000)")];
    let daemon = scene.site.spawn_in(&two_chunks(&scene), &stalls).ready();
    let reads =
        |statement: &String| statement.contains("FROM \"public\".\"big\"") && !statement.contains("COUNT");
    assert_cancel_frees(&scene, daemon, SOON + Duration::from_secs(1), |stand_in| {
        let is_read = stand_in.busy().iter().any(reads);
        // Until the reader stands still.
        std::thread::sleep(Duration::from_secs(u64::from(is_read)));
        is_read
    });
}

#[test]
fn a_cancel_while_the_server_computes_frees_it_too() {
    let scene = Scene::big(3000);
    let daemon = scene.daemon();
    scene.stand_in.tell(&json!({"do": "slow", "ms": 30_000, "match": "HASH", "count": 0}));
    assert_cancel_frees(&scene, daemon, SOON + Duration::from_secs(1), |stand_in| {
        stand_in.busy().iter().any(|statement| statement.contains("HASH"))
    });
}

#[test]
fn a_killed_daemon_leaves_nothing_on_the_server() {
    let scene = Scene::big(40_000);
    let mut daemon = scene.site.daemon_with(&two_chunks(&scene));
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
