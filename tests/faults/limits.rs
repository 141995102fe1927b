//! Servers that refuse, fall silent or go away for a while, and the limits of jobs and sources.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::{Daemon, Database, PATIENCE, Site, Slow, eventually, fill, mid_job, never, table};

const PASSWORD: &str = "first";

/// A role with these options that only this test uses. It may read all tables.
fn role(db: &Database, options: &str) -> String {
    let role = format!("role_{}", db.name);
    db.execute(&format!(
        "DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}' {options};
         GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    ));
    role
}

/// A configuration that reads the source with this role, through the proxy.
fn config_of(slow: &Slow, role: &str) -> Value {
    let mut config = slow.config();
    let source = &mut config["sources"]["warehouse"];
    source["dsn"] = json!(format!("postgres://{role}@127.0.0.1:{}/{}", slow.proxy.port, slow.site.db.name));
    source["password"] = json!(PASSWORD);
    config
}

#[test]
fn a_server_without_a_free_connection_is_asked_again() {
    let db = Database::empty();
    fill(&db, "big", 12_000);
    // The limit allows a keeper and one chunk, so the second worker is refused.
    let role = role(&db, "CONNECTION LIMIT 2");
    let slow = Slow::new(db).at(500_000);
    let daemon = slow.site.daemon_with(&config_of(&slow, &role));
    let job = slow.request(&["big"]);
    eventually("a chunk is refused", PATIENCE, || {
        (daemon.metric("adu_export_retries_total") > 0.0).then_some(())
    });
    assert!(
        daemon.get("/metrics").is_some_and(|(_, text)| text.contains("retries_total{kind=\"exhausted\"}"))
    );
    let archive = slow.completes(&job);
    assert_eq!(archive["epochs"], 1, "{archive}");
    slow.site.assert_equal(&[("SELECT * FROM big", "public_big")]);
    slow.site.assert_sound(&[&job], [daemon]);
}

#[test]
fn a_password_that_is_rotated_in_the_middle_of_a_job_costs_nothing() {
    let db = Database::empty();
    fill(&db, "big", 40_000);
    db.execute("CREATE TABLE before AS SELECT * FROM big");
    let role = role(&db, "");
    let slow = Slow::new(db);
    let secret = slow.site.path("secret");
    std::fs::write(&secret, PASSWORD).expect("write a secret");
    let mut config = config_of(&slow, &role);
    let source = config["sources"]["warehouse"].as_object_mut().expect("a section");
    source.remove("password");
    source.insert("password_file".into(), json!(secret));
    let daemon = slow.site.daemon_with(&config);
    let job = slow.request(&["big"]);
    mid_job(&daemon);
    slow.site.db.execute(&format!(
        "ALTER ROLE {role} PASSWORD 'second'; UPDATE big SET v = 'too late';
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE usename = '{role}' AND application_name = 'adu-export'"
    ));
    eventually("the old password is refused", PATIENCE, || daemon.log().contains("28P01").then_some(()));
    std::fs::write(&secret, "second\n").expect("write a secret");
    let archive = slow.completes(&job);
    assert_eq!(archive["epochs"], 1, "the snapshot was kept all the while: {archive}");
    slow.site.assert_equal(&[("SELECT * FROM before", "public_big")]);
    slow.site.assert_sound(&[&job], [daemon]);
}

#[test]
fn a_server_that_is_gone_for_longer_than_retries_last_comes_back_to_a_job_that_goes_on() {
    let db = Database::empty();
    fill(&db, "quick", 2000);
    fill(&db, "big", 40_000);
    let slow = Slow::new(db);
    let daemons = [(); 2].map(|()| {
        let mut config = slow.config();
        config["timing"]["retry_limit"] = json!("10s");
        config["timing"]["retry_longest"] = json!("2s");
        config["timing"]["stalled_after"] = json!("15s");
        slow.site.daemon_with(&config)
    });
    let job = slow.request(&["quick", "big"]);
    slow.site.broker.events.wait(&job, "table.completed", PATIENCE);
    daemons.iter().for_each(mid_job);
    slow.proxy.cut();
    // Another job that has not begun when the server goes away.
    let later = slow.request(&["quick"]);
    let end = || slow.site.broker.events.all().into_iter().any(|e| e.is_final());
    never("a job ends because its server is away", Duration::from_secs(30), end);
    let stalled = slow.site.broker.events.wait(&job, "job.stalled", Duration::from_secs(5));
    assert!(stalled.error().contains("connect"), "it says what it waits for: {}", stalled.error());

    let archive = slow.completes(&job);
    assert_eq!(archive["snapshots"].as_object().map(serde_json::Map::len), Some(2), "{archive}");
    slow.site.completed(&later);
    slow.site.assert_equal(&[
        ("SELECT * FROM quick", "public_quick"),
        ("SELECT * FROM big", "public_big"),
        ("SELECT * FROM quick", "public_quick_v2"),
    ]);
    slow.site.assert_sound(&[&job, &later], daemons);
}

#[test]
fn a_statement_timeout_fails_the_table_and_names_the_setting() {
    let db = Database::empty();
    fill(&db, "quick", 10);
    db.execute("CREATE VIEW endless AS SELECT id, pg_sleep(60)::text AS s FROM quick");
    let role = role(&db, "");
    db.execute(&format!("ALTER ROLE {role} SET statement_timeout = '1500ms'"));
    let slow = Slow::new(db);
    let daemon = slow.site.daemon_with(&config_of(&slow, &role));
    let job = slow.request(&["endless", "quick"]);
    let last = slow.site.broker.events.wait_final(&job, PATIENCE);
    assert_eq!(last.kind(), "job.partial", "{}", last.body);
    let archive = slow.site.exports.archive(&job);
    let error = &table(&archive, "public.endless")["error"];
    assert_eq!(error["code"], "57014", "{error}");
    assert!(error["remedy"].as_str().is_some_and(|r| r.contains("statement_timeout")), "{error}");
    assert!(daemon.metric("adu_export_retries_total") < 1.0, "it is not tried again");
    slow.site.assert_sound(&[&job], [daemon]);
}

#[test]
fn a_connection_that_carries_nothing_any_more_is_given_up() {
    let db = Database::empty();
    fill(&db, "big", 20_000);
    db.execute("CREATE TABLE before AS SELECT * FROM big");
    let slow = Slow::new(db);
    let mut config = slow.config();
    config["sources"]["warehouse"]["stall_timeout"] = json!("2s");
    let daemon = slow.site.daemon_with(&config);
    let job = slow.request(&["big"]);
    mid_job(&daemon);
    slow.proxy.stall();
    slow.site.db.execute("UPDATE big SET v = 'too late'");
    eventually("chunks are tried on other connections", PATIENCE, || {
        daemon.log().contains("not a byte from the server").then_some(())
    });
    // Nothing else is repaired: the job goes on over new connections.
    slow.proxy.free();
    slow.site.completed(&job);
    slow.site.assert_equal(&[("SELECT * FROM before", "public_big")]);
    slow.proxy.mend();
    slow.site.assert_sound(&[&job], [daemon]);
}

/// A limit ends the job, and the job releases everything that it held.
#[track_caller]
fn ended_by(site: &Site, job: &str, code: &str, remedy: &str) {
    let last = site.broker.events.wait_final(job, PATIENCE);
    assert_eq!(last.kind(), "job.cancelled", "{}", last.body);
    assert_eq!(last.data()["error"]["code"], code, "{}", last.body);
    assert!(last.error().contains(remedy), "{}", last.error());
    assert_eq!(site.exports.archive(job)["error"]["code"], code);
}

#[test]
fn a_deadline_ends_a_job_that_runs_and_one_that_waits() {
    let db = Database::empty();
    fill(&db, "quick", 1000);
    fill(&db, "big", 40_000);
    let slow = Slow::new(db).at(400_000);
    let mut config = slow.config();
    config["sources"]["warehouse"]["max_jobs"] = json!(1);
    let daemon = slow.site.daemon_with(&config);
    let job = slow.site.request(json!({"tables": ["public.quick", "public.big"], "deadline": "6s"}));
    slow.site.broker.events.wait(&job, "table.completed", PATIENCE);
    let waiting = slow.site.request(json!({"tables": ["public.quick"], "deadline": "2s"}));
    ended_by(&slow.site, &waiting, "deadline", "`deadline`");
    slow.site.assert_runs(&job, "it ended while it waited");
    ended_by(&slow.site, &job, "deadline", "`deadline`");
    let archive = slow.site.exports.archive(&job);
    assert_eq!(table(&archive, "public.quick")["status"], "completed");
    assert_eq!(table(&archive, "public.big")["status"], "cancelled");
    slow.proxy.mend();
    slow.site.assert_sound(&[&job, &waiting], [daemon]);
}

#[test]
fn a_deadline_ends_a_job_that_is_still_being_planned() {
    let site = Site::new(Database::empty());
    // The rows of this view are counted under the snapshot, which would take an hour.
    site.db.execute("CREATE VIEW endless AS SELECT pg_sleep(3600)::text AS v");
    let daemon = site.daemon();
    let job = site.request(json!({"tables": ["public.endless"], "verify": "count", "deadline": "3s"}));
    eventually("the planner counts", PATIENCE, || {
        site.db.busy_backends().iter().any(|b| b.contains("pg_catalog.count")).then_some(())
    });
    ended_by(&site, &job, "deadline", "`deadline`");
    eventually("nothing runs on the server", PATIENCE, || site.db.busy_backends().is_empty().then_some(()));
    site.assert_sound(&[&job], [daemon]);
}

#[test]
fn a_snapshot_that_grows_too_old_ends_its_job_and_lets_vacuum_go_on() {
    let slow = Slow::big(40_000).at(400_000);
    let mut config = slow.config();
    config["sources"]["warehouse"]["max_snapshot_age"] = json!("3s");
    let daemon = slow.site.daemon_with(&config);
    let job = slow.request(&["big"]);
    mid_job(&daemon);
    ended_by(&slow.site, &job, "max_snapshot_age", "max_snapshot_age");
    eventually("nothing holds the snapshot", Duration::from_secs(10), || {
        slow.site.db.busy_backends().is_empty().then_some(())
    });
    slow.proxy.mend();
    slow.site.assert_sound(&[&job], [daemon]);
}

/// From the time of a job's snapshot to its commit.
fn ran(archive: &Value) -> (Timestamp, Timestamp) {
    let time = |value: &Value| value.as_str().and_then(|t| t.parse().ok()).expect("a time");
    (time(&archive["tables"][0]["snapshot_time"]), time(&archive["committed_at"]))
}

#[test]
fn fifty_requests_at_once_run_four_at_a_time() {
    const POOL: usize = 2;
    const MAX_JOBS: usize = 4;
    let db = Database::empty();
    fill(&db, "small", 4000);
    let site = Site::new(db);
    let daemons: [Daemon; 2] = [(); 2].map(|()| {
        let mut config = site.config();
        config["export"]["chunk_rows"] = json!(1000);
        config["sources"]["warehouse"]["pool_size"] = json!(POOL);
        site.daemon_with(&config)
    });
    let jobs: Vec<String> = (0..50).map(|_| site.request(json!({"tables": ["public.small"]}))).collect();
    let (mut before, mut most, mut most_running) = (BTreeSet::new(), 0, 0);
    let mut seen: Vec<String> = Vec::new();
    eventually("all of them end", PATIENCE, || {
        let sessions = site.db.all_backends();
        let chunks = sessions.iter().filter(|s| s.contains("| adu-export |")).count();
        assert!(chunks <= daemons.len() * POOL, "more than the pools: {sessions:#?}");
        // A session that is seen twice is neither about to end nor a short search for keepers.
        let process = |session: &String| session.split(" | ").next().map(str::to_owned);
        let old: BTreeSet<Option<String>> = seen.iter().map(process).collect();
        let lasting: Vec<&String> = sessions.iter().filter(|s| old.contains(&process(s))).collect();
        let bound = daemons.len() * (POOL + MAX_JOBS);
        assert!(lasting.len() <= bound, "more than pools and keepers: {lasting:#?}");
        most = most.max(lasting.len());
        seen = sessions;
        // A job that two checks show as running has run all the time between them.
        let view = daemons[0].json("/api/jobs");
        let running = view["running"].as_array().expect("jobs").iter().filter(|j| j["status"] == "running");
        let running: BTreeSet<String> = running.map(|j| j["job_id"].to_string()).collect();
        let lasting = running.intersection(&before).count();
        assert!(lasting <= MAX_JOBS, "{running:?}");
        most_running = most_running.max(lasting);
        before = running;
        jobs.iter().all(|job| site.exports.find_archive(job).is_some()).then_some(())
    });
    assert!(most > MAX_JOBS && most_running > 1, "it was looked at while they ran: {most}, {most_running}");

    let mut edges: Vec<(Timestamp, i32)> = Vec::new();
    for job in &jobs {
        let (from, to) = ran(&site.exports.archive(job));
        edges.extend([(from, 1), (to, -1)]);
    }
    edges.sort();
    let mut now = 0;
    for (at, step) in edges {
        now += step;
        assert!(now <= 4, "{now} jobs ran at {at}");
    }
    let jobs: Vec<&str> = jobs.iter().map(String::as_str).collect();
    jobs.iter().for_each(|job| drop(site.completed(job)));
    site.assert_sound(&jobs, daemons);
}
