//! Every message may come twice, late or out of order, and nothing is done twice.

use std::time::Duration;

use lapin::BasicProperties;
use serde_json::{Value, json};

use crate::support::{Daemon, Database, Site, Slow, eventually, fill, mid_job, never};

fn with_id(id: &str) -> BasicProperties {
    BasicProperties::default().with_message_id(id.into())
}

/// A running job of many chunks on two daemons.
struct MidJob {
    slow: Slow,
    daemons: Vec<Daemon>,
    job: String,
}

impl MidJob {
    fn new() -> Self {
        let db = Database::empty();
        fill(&db, "big", 20_000);
        fill(&db, "other", 10_000);
        let slow = Slow::new(db).at(1_000_000);
        let daemons = vec![slow.daemon(), slow.daemon()];
        let job = slow.request(&["big", "other"]);
        daemons.iter().for_each(mid_job);
        Self { slow, daemons, job }
    }

    /// The tasks of all chunks of the plan, as the work queue carries them.
    fn tasks(&self) -> Vec<Value> {
        let plan = self.slow.plan(&self.job, 1).expect("the plan");
        let root =
            std::fs::read_to_string(self.slow.site.exports.path(".adu-root")).expect("the root's identity");
        let mut tasks = Vec::new();
        for table in plan["tables"].as_array().expect("tables") {
            let bounds = table["strategy"]["bounds"].as_array().map_or(0, Vec::len);
            let nulls = table["strategy"]["nulls"] == true;
            for chunk in 0..=bounds + usize::from(nulls) {
                tasks.push(json!({"job": self.job, "epoch": 1, "table": table["batch"], "chunk": chunk,
                                  "root": root.trim()}));
            }
        }
        assert!(tasks.len() > 20, "many chunks: {}", tasks.len());
        tasks
    }

    fn publish(&self, queue: &str, body: &Value) {
        self.slow.site.broker.publish_to(queue, body.to_string().as_bytes(), BasicProperties::default());
    }

    /// Every row exists once, each table has one directory, and the job has ended once.
    fn assert_nothing_twice(self) {
        self.slow.completes(&self.job);
        let expected = ["public_big".to_owned(), "public_other".to_owned()];
        assert!(self.slow.site.exports.directories().iter().eq(&expected));
        self.slow
            .site
            .assert_equal(&[("SELECT * FROM big", "public_big"), ("SELECT * FROM other", "public_other")]);
        assert_eq!(self.slow.site.broker.events.of(&self.job, "table.completed").len(), 2);
        self.slow.site.assert_sound(&[&self.job], self.daemons);
    }
}

#[test]
fn a_chunk_that_is_delivered_again_writes_nothing() {
    let mid = MidJob::new();
    // Finished chunks, chunks that run on either daemon, and chunks that are not handed out yet.
    for _ in 0..2 {
        for task in mid.tasks() {
            mid.publish("work", &task);
        }
    }
    mid.slow.site.assert_runs(&mid.job, "the messages came while the job ran");
    mid.assert_nothing_twice();
}

#[test]
fn a_wake_up_for_a_chunk_without_a_record_changes_nothing() {
    let mid = MidJob::new();
    for task in mid.tasks() {
        let chunk = json!({"epoch": task["epoch"], "table": task["table"], "chunk": task["chunk"]});
        mid.publish("coordinator", &json!({"wake": {"job": mid.job, "chunk": chunk}}));
    }
    let nowhere = json!({"epoch": 7, "table": 99, "chunk": 12345});
    mid.publish("coordinator", &json!({"wake": {"job": mid.job, "chunk": nowhere}}));
    mid.publish("coordinator", &json!({"wake": {"job": "no-such-job"}}));
    mid.publish("coordinator", &json!({"wake": {}}));
    mid.assert_nothing_twice();
}

#[test]
fn two_workers_on_one_chunk_leave_one_part() {
    let mut mid = MidJob::new();
    // One daemon freezes in the middle of its chunks, the other one takes them over, then the first one
    // continues.
    let sleeper = mid.daemons.remove(0);
    sleeper.freeze();
    for task in mid.tasks() {
        mid.publish("work", &task);
    }
    mid.slow.proxy.free();
    mid.slow.site.completed(&mid.job);
    sleeper.thaw();
    let before = mid.slow.site.exports.fingerprint("public_big");
    let healthy = || sleeper.get("/readyz").is_some_and(|(status, _)| status == 200);
    eventually("the sleeper is back", Duration::from_secs(30), || healthy().then_some(()));
    assert_eq!(mid.slow.site.exports.fingerprint("public_big"), before, "a late worker changes nothing");
    mid.daemons.push(sleeper);
    mid.assert_nothing_twice();
}

#[test]
fn messages_for_a_finished_job_bring_nothing_back() {
    let mid = MidJob::new();
    let tasks = mid.tasks();
    mid.slow.proxy.free();
    mid.slow.site.completed(&mid.job);
    let workspace = mid.slow.site.exports.path(&format!(".temp/job_{}", mid.job));
    eventually("the workspace is gone", Duration::from_secs(15), || (!workspace.exists()).then_some(()));
    let before = mid.slow.site.exports.fingerprint("public_big");

    for task in &tasks {
        mid.publish("work", task);
    }
    mid.publish("work", &json!({"plan": mid.job, "epoch": 1, "root": tasks[0]["root"]}));
    mid.publish("work", &json!({"plan": mid.job, "epoch": 2, "root": tasks[0]["root"]}));
    mid.publish("work", &json!({"what": "is this"}));
    mid.publish("work", &json!(7));
    mid.publish("coordinator", &json!({"wake": {"job": mid.job}}));
    mid.publish("coordinator", &json!({"noise": []}));

    eventually("the messages are consumed", Duration::from_secs(20), || {
        (mid.slow.site.broker.ready("work") == 0).then_some(())
    });
    never("a workspace comes back", Duration::from_secs(2), || workspace.exists());
    assert_eq!(mid.slow.site.exports.fingerprint("public_big"), before);
    mid.assert_nothing_twice();
}

#[test]
fn a_request_that_comes_again_is_the_same_job() {
    let site = Site::new(Database::tpch());
    let daemons = [site.daemon(), site.daemon()];
    let body = json!({"job_id": "nightly", "tables": ["public.customer"]});
    // The same request twice at once, with different spelling.
    site.broker.publish(body.to_string().as_bytes(), with_id("m1"));
    let spelled = r#"{ "tables" : [{"table": "public.customer"}], "job_id": "nightly" }"#;
    site.broker.publish(spelled.as_bytes(), with_id("m2"));
    let first = site.completed("nightly");

    // And once more after the job has ended: the answer is sent again.
    let told = site.broker.events.of("nightly", "job.completed").len();
    site.broker.publish(body.to_string().as_bytes(), with_id("m3"));
    eventually("the final event comes again", Duration::from_secs(20), || {
        (site.broker.events.of("nightly", "job.completed").len() > told).then_some(())
    });
    let again = site.broker.events.of("nightly", "job.completed");
    assert!(again.iter().all(|e| e.id() == first.id()));

    assert_eq!(site.exports.directories().len(), 1);
    assert_eq!(daemons.iter().map(Daemon::rows_exported).sum::<u64>(), 15_000, "exported once");
    assert_eq!(
        site.broker
            .events
            .of("nightly", "job.accepted")
            .iter()
            .map(|e| e.id().to_owned())
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        1
    );
    site.assert_sound(&["nightly"], daemons);
}

#[test]
fn a_job_id_with_another_request_is_rejected_and_the_job_stands() {
    let site = Site::new(Database::tpch());
    let daemon = site.daemon();
    site.request(json!({"job_id": "nightly", "tables": ["public.customer"]}));
    site.completed("nightly");

    let other = json!({"job_id": "nightly", "tables": ["public.supplier"]});
    site.broker.publish(other.to_string().as_bytes(), with_id("second"));
    let rejected = eventually("a rejection", Duration::from_secs(20), || {
        site.broker.events.all().into_iter().find(|e| e.kind() == "job.rejected")
    });
    assert_eq!(rejected.data()["message_id"], "second", "its publisher knows whom it means");
    assert!(rejected.error().contains("nightly"), "{}", rejected.error());
    assert_eq!(site.exports.directories().len(), 1);
    assert_eq!(site.exports.archive("nightly")["status"], "completed");
    assert_eq!(daemon.rows_exported(), 15_000);
    site.assert_sound(&["nightly"], [daemon]);
}

#[test]
fn a_job_id_that_others_work_on_in_the_same_folder_is_refused() {
    let site = Site::new(Database::tpch());
    let daemon = site.daemon();
    let workspace = site.exports.path(".temp/job_nightly");
    let request = json!({"job_id": "nightly", "tables": ["public.region"]});
    let stored = json!({
        "v": 1, "job": "nightly", "source": "warehouse", "request": request, "body_sha256": "",
        "received_at": "2026-11-01T00:00:00Z", "owner": {"kind": "daemons", "vhost": "/", "prefix": "others"},
    });
    std::fs::create_dir(&workspace).expect("a workspace");
    std::fs::write(workspace.join("request.json"), stored.to_string()).expect("a request");
    for (id, body) in [("same", request), ("cancel", json!({"cancel": "nightly"}))] {
        site.broker.publish(body.to_string().as_bytes(), with_id(id));
        let rejected = eventually("a rejection", Duration::from_secs(20), || {
            site.broker.events.all().into_iter().find(|e| e.data()["message_id"] == id)
        });
        assert_eq!(rejected.kind(), "job.rejected");
        assert!(rejected.error().contains("job_id_taken"), "{}", rejected.error());
    }
    assert!(!workspace.join("cancel.json").exists(), "nobody cancels what is not theirs");
    assert!(site.broker.events.of("nightly", "job.accepted").is_empty());
    // The owner of the workspace removes it.
    std::fs::remove_dir_all(&workspace).expect("removed");
    site.assert_sound(&[""; 0], [daemon]);
}

#[test]
fn a_caller_who_waits_gets_its_answer() {
    let site = Site::new(Database::tpch());
    let daemon = site.daemon();
    let body = json!({"tables": ["public.region"]});
    let answer = site.broker.call(body.to_string().as_bytes(), with_id("ask-1"), "corr-7");
    assert_eq!(answer["type"], "adu.export.job.completed");
    assert_eq!(answer["data"]["job_id"], "ask-1", "the message id names the job");
    assert_eq!(answer["data"]["tables"][0]["rows"], 5);
    site.assert_sound(&["ask-1"], [daemon]);
}
