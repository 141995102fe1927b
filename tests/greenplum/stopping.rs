//! A cancel frees the coordinator and the segments at once, also while the reader stands still.

use std::time::Duration;

use serde_json::json;

use crate::scene::{READERS, Scene, WAYS};
use crate::support::{PATIENCE, eventually, none_left};

/// The longest time that a cancel may take on the servers.
const SOON: Duration = Duration::from_secs(2);

fn scene() -> Scene {
    Scene::new(
        "CREATE TABLE big AS SELECT g AS id, repeat(md5(g::text), 30) AS filler FROM generate_series(1, 60000) g
           DISTRIBUTED BY (id); ANALYZE",
    )
}

/// Requests the table and waits until rows arrive.
fn mid_scan(scene: &Scene, way: &str) -> String {
    let strategy = if way == "copy" { "auto" } else { "segment" };
    let job = scene.site.request(json!({
        "tables": [{"table": "public.big", "read": way, "strategy": strategy}],
        "output": {"directory": way},
    }));
    scene.mid_scan();
    assert!(!busy(scene).is_empty(), "{way}: a chunk runs");
    job
}

/// What works for the exporting role, apart from sessions that hold snapshots.
fn busy(scene: &Scene) -> Vec<String> {
    let mut busy: Vec<String> = scene.site.db.rows(READERS).iter().map(|r| r.join(" | ")).collect();
    let on_segments = scene.busy_on_segments();
    if on_segments > 0 {
        busy.push(format!("{on_segments} processes on segments"));
    }
    busy
}

/// Distributed transactions of the exporting role.
fn distributed(scene: &Scene) -> Vec<String> {
    let rows = scene.site.db.rows(
        "SELECT x.distributed_xid, x.state, a.application_name, a.query FROM gp_distributed_xacts x \
         JOIN pg_stat_activity a ON a.sess_id = x.gp_session_id \
         WHERE a.datname = current_database() AND a.usename = 'exporter'",
    );
    rows.iter().map(|r| r.join(" | ")).collect()
}

fn cancelled(scene: &Scene, job: &str) {
    let last = scene.site.broker.events.wait_final(job, PATIENCE);
    assert_eq!(last.kind(), "job.cancelled", "{}", last.body);
    none_left("no distributed transaction is left", Duration::from_secs(10), || distributed(scene));
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn a_cancel_frees_the_servers_while_the_reader_stalls() {
    let scene = scene();
    let daemon = scene.daemon("mid:copy:big=sleep(8000)");
    let mut jobs = Vec::new();
    for way in WAYS {
        let job = mid_scan(&scene, way);
        scene.site.cancel(&job);
        eventually("the cancel is known", Duration::from_secs(10), || {
            daemon.log().contains(&job).then_some(())
        });
        none_left(&format!("{way}: the servers are free"), SOON, || busy(&scene));
        cancelled(&scene, &job);
        jobs.push(job);
    }
    scene.site.assert_sound(&jobs, [daemon]);
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn a_cancel_frees_the_servers_in_the_middle_of_a_scan() {
    let scene = scene();
    let daemon = scene.daemon("mid:copy:big=sleep(2500)");
    let mut jobs = Vec::new();
    for way in WAYS {
        let job = mid_scan(&scene, way);
        scene.site.cancel(&job);
        none_left(&format!("{way}: the servers are free"), SOON, || busy(&scene));
        cancelled(&scene, &job);
        jobs.push(job);
    }
    scene.site.assert_sound(&jobs, [daemon]);
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn a_frozen_daemon_that_was_cancelled_frees_the_servers_when_it_goes_on() {
    let scene = scene();
    let daemon = scene.daemon("mid:copy:big=sleep(2500)");
    let mut jobs = Vec::new();
    for way in WAYS {
        let job = mid_scan(&scene, way);
        daemon.freeze();
        scene.site.cancel(&job);
        std::thread::sleep(Duration::from_secs(1));
        daemon.thaw();
        none_left(&format!("{way}: the servers are free"), SOON, || busy(&scene));
        cancelled(&scene, &job);
        jobs.push(job);
    }
    scene.site.assert_sound(&jobs, [daemon]);
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn a_killed_daemon_leaves_nothing_on_the_servers() {
    let scene = scene();
    for way in WAYS {
        let mut daemon = scene.daemon("mid:copy:big=sleep(8000)");
        let job = mid_scan(&scene, way);
        daemon.kill();
        // The server notices a client that is gone when it writes to it.
        none_left(&format!("{way}: the servers are free"), Duration::from_secs(10), || busy(&scene));
        let second = scene.daemon("");
        scene.site.completed(&job);
        scene.site.assert_equal(&[("SELECT * FROM big", &format!("{way}/public_big"))]);
        none_left("no distributed transaction is left", Duration::from_secs(10), || distributed(&scene));
        second.stop();
    }
}
