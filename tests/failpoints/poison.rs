//! Chunks that kill their worker, and chunks that only seem to.

use std::time::Duration;

use serde_json::{Value, json};

use crate::scene::{Scene, died};
use crate::support::{Daemon, Event, PATIENCE, eventually};

/// A daemon that is started again whenever it dies, as systemd would do.
struct Service<'a> {
    scene: &'a Scene,
    config: Value,
    failpoints: String,
    daemon: Daemon,
    deaths: u32,
}

impl<'a> Service<'a> {
    fn new(scene: &'a Scene, config: Value, failpoints: &str) -> Self {
        let daemon = scene.doomed_with(&config, failpoints).ready();
        Self { scene, config, failpoints: failpoints.into(), daemon, deaths: 0 }
    }

    fn tend(&mut self) {
        if !self.daemon.lives() {
            self.deaths += 1;
            self.daemon = self.scene.doomed_with(&self.config, &self.failpoints);
        }
    }
}

/// Restarts daemons until the job has ended.
#[track_caller]
fn outcome(services: &mut [Service<'_>], job: &str, within: Duration) -> Event {
    let events = &services[0].scene.site.broker.events;
    eventually("the job ends", within, || {
        services.iter_mut().for_each(Service::tend);
        events.all().into_iter().find(|e| e.job() == job && e.is_final())
    })
}

/// `deadly` kills its worker. The other tables do not, although they share its processes.
fn poisoned(daemons: usize, body: &Value, deadly: &Value) {
    let scene = Scene::new();
    scene
        .site
        .db
        .execute("CREATE TABLE deadly AS SELECT g AS n FROM generate_series(1, 10) g; ANALYZE deadly");
    let point = "mid:copy:deadly=return(kill)";
    let mut services: Vec<Service<'_>> =
        (0..daemons).map(|_| Service::new(&scene, scene.site.config(), point)).collect();
    let mut request = body.clone();
    let tables = request["tables"].as_array_mut().expect("tables");
    tables.insert(0, deadly.clone());
    let job = scene.site.request(request);
    let last = outcome(&mut services, &job, 2 * PATIENCE);
    let deaths: u32 = services.iter().map(|s| s.deaths).sum();
    assert_eq!(last.kind(), "job.partial", "after {deaths} deaths: {}", last.body);
    assert!(last.error().contains("poison"), "{}", last.error());
    assert!((4..=12).contains(&deaths), "{deaths} deaths");
    scene.site.assert_equal(&Scene::pairs());
    assert!(!scene.site.exports.path("public_deadly").exists());
    let daemons = services.into_iter().map(|s| s.daemon.ready());
    scene.site.assert_sound(&[&job], daemons.collect::<Vec<_>>());
}

/// A table whose chunks are not in a batch.
fn alone() -> Value {
    json!({"table": "public.deadly", "strategy": "range", "chunk_column": "n", "chunk_rows": 1000})
}

#[test]
fn a_chunk_that_kills_its_workers_fails_its_table_and_no_other() {
    poisoned(2, &json!({"tables": Scene::tables()}), &alone());
}

#[test]
fn a_chunk_that_kills_the_only_worker_fails_its_table_and_no_other() {
    poisoned(1, &json!({"tables": Scene::tables()}), &alone());
}

#[test]
fn a_small_table_that_kills_its_workers_fails_and_no_other_of_its_batch() {
    let tables = ["public.ordered", "public.paged", "public.small", "public.empty"];
    poisoned(2, &json!({"tables": tables}), &json!("public.deadly"));
}

#[test]
fn a_chunk_without_a_snapshot_that_kills_its_workers_fails_its_table_and_no_other() {
    let tables = ["public.ordered", "public.paged", "public.small", "public.empty"];
    poisoned(2, &json!({"tables": tables, "consistency": "none"}), &alone());
}

#[test]
fn a_chunk_that_is_released_a_thousand_times_is_not_poison() {
    let scene = Scene::new();
    let mut config = scene.site.config();
    for limit in ["retry_first", "retry_longest", "retry_limit"] {
        config["timing"][limit] = json!("1ms");
    }
    config["sources"]["warehouse"]["lock_timeout"] = json!("1ms");
    // This leaves time to lock the table between planning and its chunks.
    let daemon = scene.doomed_with(&config, "before:publish:chunk-task=1*sleep(3000)").ready();
    let job = scene.request();
    let plan = scene.site.exports.path(&format!(".temp/job_{job}/plans/e1.json"));
    eventually("the plan", PATIENCE, || plan.exists().then_some(()));
    scene.site.db.execute("BEGIN; LOCK TABLE ordered IN ACCESS EXCLUSIVE MODE");
    eventually("a thousand redeliveries", 2 * PATIENCE, || {
        (daemon.metric("adu_export_redeliveries_total") >= 1000.0).then_some(())
    });
    scene.site.db.execute("COMMIT");
    scene.assert_whole(&job, [daemon]);
}

#[test]
fn a_chunk_that_is_hit_by_kills_is_not_poison() {
    let scene = Scene::new();
    // Each daemon is killed in the middle of the same chunk, although the chunk is harmless.
    let config = scene.site.config();
    let mut victim = scene.doomed("mid:copy:ordered=return(kill)");
    let body = json!({"tables": [{"table": "public.ordered", "strategy": "single"}], "consistency": "none"});
    let job = scene.site.request(body);
    for _ in 0..4 {
        died(&mut victim);
        victim = scene.doomed_with(&config, "mid:copy:ordered=return(kill)");
    }
    died(&mut victim);
    let last = scene.site.daemon();
    scene.finished(&job);
    scene.site.assert_equal(&[("SELECT * FROM ordered", "public_ordered")]);
    scene.site.assert_sound(&[&job], [last]);
}
