//! Queues that lose messages, are deleted, or were declared by somebody else; messages and files of a later
//! release.

use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, ExchangeKind};
use serde_json::{Value, json};

use crate::support::{
    Broker, Daemon, Database, PATIENCE, Services, Site, Slow, eventually, mid_job, never, none_left,
};

const DURABLE: [&str; 3] = ["requests", "work", "coordinator"];

fn slow() -> Slow {
    Slow::big(40_000)
}

fn request(slow: &Slow) -> String {
    slow.site.request(json!({"tables": ["public.big"], "parallelism": {"chunk_workers": 16}}))
}

#[test]
fn queues_that_are_purged_again_and_again_cost_no_chunk() {
    let slow = slow();
    let daemons = [slow.daemon(), slow.daemon()];
    let job = request(&slow);
    daemons.iter().for_each(mid_job);
    let mut lost = 0;
    for _ in 0..20 {
        lost += DURABLE.map(|queue| slow.site.broker.purge(queue)).iter().sum::<u32>();
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(lost > 0, "something was in the queues");
    slow.site.assert_runs(&job, "they were purged while the job ran");
    slow.assert_whole(&[&job], daemons);
}

#[test]
fn queues_that_are_deleted_are_there_again_and_cost_no_chunk() {
    let slow = slow();
    let daemons = [slow.daemon(), slow.daemon()];
    let job = request(&slow);
    for queue in DURABLE {
        daemons.iter().for_each(mid_job);
        let before = daemons[0].log().len();
        slow.site.broker.delete(queue);
        eventually(&format!("{queue} is declared again"), PATIENCE, || {
            slow.site.broker.declared(queue).then_some(())
        });
        eventually("its end is told once, by name", Duration::from_secs(20), || {
            daemons[0].log()[before..].contains(&format!("{}.{queue}", slow.site.broker.prefix)).then_some(())
        });
        daemons.iter().for_each(Daemon::ready_again);
        daemons[0].assert_no_loop(before);
    }
    slow.site.assert_runs(&job, "they were deleted while the job ran");
    slow.assert_whole(&[&job], daemons);
}

#[test]
fn a_request_whose_wake_up_is_lost_after_its_acknowledgement_is_found_in_the_folder() {
    let slow = slow();
    let coordinator = slow.daemon();
    eventually("the first one coordinates", PATIENCE, || {
        (coordinator.metric("adu_export_coordinator_active") > 0.5).then_some(())
    });
    let other = slow.daemon();
    // A message that is delivered to this daemon stays unacknowledged.
    coordinator.freeze();
    // The broker gives requests to both daemons in turn, so the living one gets at least one.
    let jobs = [request(&slow), request(&slow)];
    let taken = eventually("a request is acknowledged", Duration::from_secs(10), || {
        jobs.iter().find(|job| !slow.site.broker.events.of(job, "job.accepted").is_empty())
    });
    slow.site.broker.delete("coordinator");
    coordinator.thaw();
    for daemon in [&coordinator, &other] {
        daemon.ready_again();
    }
    slow.proxy.mend();
    slow.site.completed(taken);
    for job in &jobs {
        slow.site.completed(job);
    }
    slow.site.assert_equal(&[("SELECT * FROM big", "public_big"), ("SELECT * FROM big", "public_big_v2")]);
    slow.site.assert_sound(&jobs, [coordinator, other]);
}

/// Arguments with which somebody else declared a queue.
fn arguments(list: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in list {
        table.insert((*name).into(), value.clone());
    }
    table
}

/// Declares a queue before any daemon does, after deleting the queue that `check` has made.
#[track_caller]
fn redeclare(broker: &Broker, queue: &str, arguments: FieldTable) {
    broker.delete(queue);
    broker.declare(queue, arguments);
}

fn kind(name: &str) -> (&'static str, AMQPValue) {
    ("x-queue-type", AMQPValue::LongString(name.into()))
}

#[test]
fn queues_with_other_arguments_are_used_as_they_are() {
    let slow = slow();
    let broker = &slow.site.broker;
    redeclare(broker, "requests", arguments(&[kind("classic"), ("x-max-priority", AMQPValue::LongInt(5))]));
    // This queue drops most messages, and soon.
    redeclare(
        broker,
        "work",
        arguments(&[
            kind("quorum"),
            ("x-max-length", AMQPValue::LongInt(1)),
            ("x-message-ttl", AMQPValue::LongInt(2000)),
        ]),
    );
    // Without a single active consumer, every daemon is coordinator.
    redeclare(broker, "coordinator", arguments(&[kind("quorum")]));
    let daemons = [slow.daemon(), slow.daemon()];
    for queue in DURABLE {
        let name = format!("{}.{queue}", broker.prefix);
        let log = daemons[0].log();
        let told = log.lines().filter(|l| l.contains(" WARN ") && l.contains(&name)).collect::<Vec<_>>();
        assert_eq!(told.len(), 1, "it is told once that {name} differs: {told:?}");
        assert!(told[0].contains("inequivalent arg"), "{}", told[0]);
    }
    let job = request(&slow);
    daemons.iter().for_each(mid_job);
    slow.assert_whole(&[&job], daemons);
}

/// A daemon cannot work because of `name`, says so once, and works when the queue or exchange is gone.
#[track_caller]
fn refused(site: &Site, name: &str, kind: &str, remove: impl FnOnce()) {
    site.db.execute("CREATE TABLE small AS SELECT 1 AS one");
    let daemon = site.spawn(&site.config());
    let why = daemon.unready(name);
    assert!(why.contains(kind) && why.contains("delete"), "it says what to change: {why}");
    never("it consumes", Duration::from_secs(8), || daemon.get("/readyz").is_some_and(|r| r.0 == 200));
    assert!(daemon.metric("adu_export_broker_connected") < 0.5);
    remove();
    daemon.ready_again();
    daemon.assert_no_loop(0);
    let done = site.export(json!({"tables": ["public.small"]}));
    site.assert_equal(&[("SELECT * FROM small", "public_small")]);
    site.assert_sound(&[done.job()], [daemon]);
}

#[test]
fn a_queue_that_cannot_serve_is_refused_by_name_and_never_in_a_loop() {
    let site = Site::new(Database::empty());
    // A stream, from which no message is ever removed.
    redeclare(&site.broker, "work", arguments(&[kind("stream")]));
    refused(&site, &format!("{}.work", site.broker.prefix), "stream", || site.broker.delete("work"));
}

#[test]
fn an_exchange_that_cannot_serve_is_refused_by_name_and_never_in_a_loop() {
    let site = Site::new(Database::empty());
    let prefix = &site.broker.prefix;
    // A fanout exchange would send every message to every queue.
    site.broker.delete_exchange(prefix);
    site.broker.declare_exchange(prefix, ExchangeKind::Fanout);
    refused(&site, &format!("`{prefix}`"), "fanout", || site.broker.delete_exchange(prefix));
}

#[test]
fn messages_of_a_release_to_come_are_left_alone() {
    let slow = slow();
    let daemons = [slow.daemon(), slow.daemon()];
    let job = request(&slow);
    daemons.iter().for_each(mid_job);
    let root = std::fs::read_to_string(slow.site.exports.path(".adu-root")).expect("an identity");
    let chunk =
        json!({"job": job, "epoch": 1, "table": 0, "chunk": 3, "root": root.trim(), "v": 99, "more": {}});
    let messages: [(&str, Value); 8] = [
        ("work", json!({"v": 99, "compact": job})),
        ("work", json!({"v": 99, "plan": {"by": "another way"}})),
        ("work", chunk),
        ("coordinator", json!({"v": 99, "lease": {"until": "2030-01-01T00:00:00Z"}})),
        ("coordinator", json!({"v": 99, "wake": {"job": job, "why": "a new reason"}})),
        ("coordinator", json!(["not", "an", "object"])),
        ("requests", json!({"v": 99, "tables": ["public.big"], "job_id": "from-the-future"})),
        ("requests", json!({"v": 99, "pause": job})),
    ];
    for (queue, body) in &messages {
        slow.site.broker.publish_to(queue, body.to_string().as_bytes(), BasicProperties::default());
    }
    // More messages than a daemon takes unacknowledged. If it kept them, it would get no others.
    for nth in 0..150 {
        let body = json!({"control": "drain", "until": nth, "v": 99});
        slow.site.broker.broadcast(body.to_string().as_bytes());
    }
    let left = || {
        let queues = Services::get().rabbitmqctl(&["-q", "list_queues", "name", "messages"]);
        let ours = format!("{}.control.", slow.site.broker.prefix);
        queues.lines().filter(|l| l.starts_with(&ours) && !l.ends_with("\t0")).map(Into::into).collect()
    };
    none_left("every control message is acknowledged", PATIENCE, left);
    // Requests are checked strictly: an unknown version is refused with an answer.
    let refused = slow.site.broker.events.wait_final("from-the-future", PATIENCE);
    assert_eq!(refused.kind(), "job.rejected");
    assert!(refused.error().contains("`v`"), "{}", refused.error());
    for daemon in &daemons {
        assert_eq!(daemon.get("/readyz").map(|r| r.0), Some(200));
    }
    slow.assert_whole(&[&job], daemons);
}

#[test]
fn a_daemon_that_meets_files_of_a_newer_release_stops_consuming_until_they_are_gone() {
    let slow = slow();
    let daemon = slow.daemon();
    let job = request(&slow);
    mid_job(&daemon);
    let before = daemon.log().len();
    // A workspace as a newer daemon stores it, with a meaning that this one does not know.
    let workspace = slow.site.exports.path(".temp/job_newer");
    std::fs::create_dir(&workspace).expect("a workspace");
    let text = std::fs::read(slow.site.exports.path(&format!(".temp/job_{job}/request.json")));
    let mut stored: Value = serde_json::from_slice(&text.expect("a request")).expect("JSON");
    stored["v"] = json!(99);
    stored["job"] = json!("newer");
    std::fs::write(workspace.join("request.json"), stored.to_string()).expect("a request");
    let why = daemon.unready("version 99");
    assert!(why.contains("upgrade adu-export"), "{why}");
    never("it says that it is ready", Duration::from_secs(8), || {
        daemon.get("/readyz").is_some_and(|(status, _)| status == 200)
    });
    daemon.assert_no_loop(before);
    std::fs::remove_dir_all(&workspace).expect("removed");
    daemon.ready_again();
    slow.assert_whole(&[&job], [daemon]);
}
