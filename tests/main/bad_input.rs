//! Errors tell what is wrong: which field or object, and what to do. No bad input stops a daemon.

use std::fmt::Write;
use std::time::Duration;

use lapin::BasicProperties;
use serde_json::{Value, json};

use crate::support::{Database, Event, PATIENCE, Services, Site, eventually, free_port, said};

/// A message body, and words that the refusal must contain.
type Case = (&'static str, &'static [&'static str]);

const REJECTED: &[Case] = &[
    ("not json at all", &["not JSON"]),
    ("", &["not JSON"]),
    ("[1, 2]", &["object"]),
    ("{\"tables\": [\"public.t\"]", &["not JSON"]),
    ("{}", &["tables"]),
    (r#"{"tables": []}"#, &["tables", "at least one"]),
    (r#"{"tables": "public.t"}"#, &["tables"]),
    (r#"{"tables": ["public.t"], "shape": 1}"#, &["shape"]),
    (r#"{"tables": [{"table": "public.t", "colums": ["id"]}]}"#, &["tables[0]", "colums", "columns"]),
    (r#"{"tables": [{"table": "public.t", "columns": 3}]}"#, &["tables[0].columns"]),
    (r#"{"tables": ["public.t"], "deadline": "soon"}"#, &["deadline", "12h"]),
    (
        r#"{"tables": ["public.t"], "output": {"compression": "zip"}}"#,
        &["output.compression", "zip", "snappy"],
    ),
    (r#"{"tables": ["public.t"], "source": "nowhere"}"#, &["nowhere", "warehouse"]),
    (r#"{"tables": ["t"]}"#, &["tables[0]", "schema.table"]),
    (r#"{"tables": ["public.\"t"]}"#, &["tables[0]", "quote"]),
    (
        r#"{"tables": ["public.t"], "output": {"directory": "../up"}}"#,
        &["output.directory", "..", "relative"],
    ),
    (r#"{"tables": ["public.t"], "output": {"directory": "a/../../up"}}"#, &["output.directory", ".."]),
    (r#"{"tables": ["public.t"], "output": {"directory": "/etc"}}"#, &["output.directory", "absolute"]),
    (r#"{"tables": ["public.t"], "output": {"directory": ".temp/x"}}"#, &["output.directory", "hidden"]),
    (r#"{"tables": ["public.t"], "job_id": "a/b"}"#, &["job_id", "a/b"]),
    (r#"{"tables": ["public.t"], "job_id": ".."}"#, &["job_id"]),
    (r#"{"cancel": "a/b"}"#, &["cancel"]),
    (r#"{"tables": [{"table": "public.t", "strategy": "single", "chunk_column": "id"}]}"#, &["chunk_column"]),
];

/// Requests whose only table fails, either when the request is read or when it is planned.
const FAILED: &[Case] = &[
    (r#"{"tables": ["public.missing"]}"#, &["public.missing", "does not exist"]),
    (r#"{"tables": ["nowhere.t"]}"#, &["nowhere.t"]),
    (r#"{"tables": ["public.secret"]}"#, &["public.secret", "SELECT"]),
    (r#"{"tables": ["public.nothing_like_it_*"]}"#, &["public.nothing_like_it_*"]),
    (r#"{"tables": [{"table": "public.t", "columns": ["id", "nope"]}]}"#, &["public.t", "nope"]),
    (
        r#"{"tables": [{"table": "public.t", "strategy": "range", "chunk_column": "nope"}]}"#,
        &["public.t", "nope"],
    ),
    (r#"{"tables": [{"table": "public.t", "strategy": "range", "chunk_column": "j"}]}"#, &["public.t", "j"]),
    (r#"{"tables": [{"table": "public.t", "where": "1=1; drop table t"}]}"#, &["where"]),
    (r#"{"tables": [{"table": "public.t", "where": "true) union select * from secret --"}]}"#, &["where"]),
    (r#"{"tables": [{"table": "public.t", "where": "id = (select 1)"}]}"#, &["where", "allow_where"]),
    (r#"{"tables": [{"table": "public.t", "where": "pg_sleep(10) is null"}]}"#, &["where", "pg_sleep"]),
    (r#"{"tables": [{"table": "public.t", "where": "nope = 1"}]}"#, &["public.t", "nope"]),
    (r#"{"tables": [{"table": "public.t", "where": ""}]}"#, &["where"]),
    (r#"{"tables": [{"table": "public.t", "where": "j::text = 'yesterday'"}]}"#, &["where", "another day"]),
    (
        r#"{"tables": [{"table": "public.t", "after": {"column": "id", "value": "now"}}]}"#,
        &["after.value", "another date"],
    ),
];

fn site() -> Site {
    let db = Database::empty();
    db.execute(
        "CREATE TABLE t (id int PRIMARY KEY, j json); INSERT INTO t SELECT g FROM generate_series(1, 10) g;
         CREATE TABLE secret AS SELECT 42 AS x; REVOKE ALL ON secret FROM exporter",
    );
    Site::new(db)
}

/// Publishes a body and waits for its final event.
fn answer(site: &Site, body: &[u8], message_id: &str) -> Event {
    site.broker.publish(body, BasicProperties::default().with_message_id(message_id.into()));
    eventually(&format!("an answer to {message_id}"), Duration::from_secs(30), || {
        let mine = |e: &Event| e.data()["message_id"] == message_id || e.job() == message_id;
        site.broker.events.all().into_iter().find(|e| e.is_final() && mine(e))
    })
}

/// What an answer lacks, as lines; empty if it says everything.
fn lacks(answer: &Event, kinds: &[&str], (body, words): &Case) -> String {
    let (kind, error) = (answer.kind(), answer.error());
    let mut lines = String::new();
    if !kinds.contains(&kind) {
        writeln!(lines, "{body}: {kind} instead of {kinds:?}: {error}").expect("memory");
    }
    for word in words.iter().filter(|word| !error.contains(**word)) {
        writeln!(lines, "{body}: no `{word}` in: {error}").expect("memory");
    }
    if error.split(" | ").count() < 3 && !error.contains(';') && !error.contains("expected") {
        writeln!(lines, "{body}: no remedy in: {error}").expect("memory");
    }
    lines
}

#[test]
fn a_bad_request_is_refused_by_field_and_remedy_and_stops_nothing() {
    let site = site();
    let mut daemon = site.daemon();
    let (mut lacking, mut jobs) = (String::new(), Vec::new());
    for (i, case) in REJECTED.iter().enumerate() {
        let answer = answer(&site, case.0.as_bytes(), &format!("rejected-{i}"));
        lacking += &lacks(&answer, &["job.rejected"], case);
    }
    for (i, case) in FAILED.iter().enumerate() {
        let answer = answer(&site, case.0.as_bytes(), &format!("failed-{i}"));
        lacking += &lacks(&answer, &["job.rejected", "job.failed"], case);
        if answer.kind() == "job.failed" {
            jobs.push(answer.job().to_owned());
        }
    }
    assert!(lacking.is_empty(), "{lacking}");

    let not_utf8 = answer(&site, b"{\"tables\": [\"public.\xff\"]}", "latin");
    assert_eq!(not_utf8.kind(), "job.rejected", "{}", not_utf8.body);
    let huge = format!(r#"{{"tables": ["public.t"], "labels": {{"x": "{}"}}}}"#, "y".repeat(2 << 20));
    let huge = answer(&site, huge.as_bytes(), "huge");
    assert_eq!(huge.kind(), "job.rejected");
    assert!(huge.error().contains("1 MiB"), "{}", huge.error());

    // A quoted text must not make an answer larger than a message may be.
    let name = "x".repeat(600_000);
    for (id, body) in [
        ("long-field", format!(r#"{{"tables": ["public.t"], "{name}": 1}}"#)),
        ("long-table", format!(r#"{{"tables": ["public.{name}"]}}"#)),
    ] {
        let answer = answer(&site, body.as_bytes(), id);
        assert_eq!(answer.kind(), "job.rejected", "{id}");
        assert!(answer.error().contains("xxx") && answer.error().len() < 20_000, "{id}");
    }

    assert_eq!(site.db.number("SELECT count(*) FROM t"), 10, "nobody dropped anything");
    assert!(site.exports.directories().is_empty());
    assert!(daemon.lives());
    let good = site.export(json!({"tables": ["public.t"]}));
    site.assert_equal(&[("SELECT * FROM t", "public_t")]);
    assert_eq!(site.exports.archive(good.job())["status"], "completed");
    jobs.push(good.job().to_owned());
    site.assert_sound(&jobs, [daemon]);
}

#[test]
fn a_bad_table_among_good_ones_is_partial() {
    let site = site();
    site.db.execute("CREATE TABLE u AS SELECT 1 AS x");
    let daemon = site.daemon();
    let mut jobs = Vec::new();
    for (bad, words) in [
        (json!("public.missing"), ["public.missing", "does not exist"]),
        (json!("public.secret"), ["public.secret", "SELECT"]),
        (json!({"table": "public.t", "columns": ["nope"]}), ["public.t", "nope"]),
    ] {
        let job = site.request(json!({"tables": ["public.u", bad, "public.t"]}));
        let last = site.broker.events.wait_final(&job, PATIENCE);
        assert_eq!(last.kind(), "job.partial", "{}", last.body);
        for word in words {
            assert!(last.error().contains(word), "{word}: {}", last.error());
        }
        assert_eq!(site.broker.events.of(&job, "table.failed").len(), 1);
        let archive = site.exports.archive(&job);
        assert_eq!(archive["status"], "partial");
        assert!(archive.to_string().contains(words[0]), "the archive says why: {archive}");
        jobs.push(job);
    }
    site.assert_sound(&jobs, [daemon]);
}

/// A change to a good configuration, and words that the error must contain.
type Fault = (&'static str, fn(&Site, &mut Value), &'static [&'static str]);

const CONFIGURATIONS: &[Fault] = &[
    ("unknown key", |_, c| c["export"]["wrokers"] = json!(2), &["wrokers", "export"]),
    ("unknown section", |_, c| c["exports"] = json!({}), &["exports"]),
    ("wrong type", |_, c| c["export"]["workers"] = json!("many"), &["workers", "auto"]),
    ("wrong unit", |_, c| c["timing"]["alive_interval"] = json!("10"), &["alive_interval", "90s"]),
    ("no broker", |_, c| c["broker"]["url"] = json!(""), &["broker.url"]),
    (
        "missing secret file",
        |_, c| {
            let source = c["sources"]["warehouse"].as_object_mut().expect("a source");
            source.remove("password");
            source.insert("password_file".into(), json!("/nonexistent/secret"));
        },
        &["/nonexistent/secret", "warehouse"],
    ),
    (
        "root does not exist",
        |_, c| c["export"]["root"] = json!("/nonexistent/exports"),
        &["/nonexistent/exports"],
    ),
    (
        "root not initialized",
        |s, c| {
            std::fs::create_dir(s.path("fresh")).expect("create a directory");
            c["export"]["root"] = json!(s.path("fresh"));
        },
        &["fresh", "check --init"],
    ),
];

#[test]
fn a_bad_configuration_ends_a_daemon_with_code_2_and_the_key() {
    let site = site();
    let mut lacking = String::new();
    for (what, spoil, words) in CONFIGURATIONS {
        let mut config = site.config();
        spoil(&site, &mut config);
        let mut daemon = site.spawn(&config);
        let status = daemon.ended(Duration::from_secs(20));
        let log = daemon.log();
        if status.code() != Some(2) {
            writeln!(lacking, "{what}: {status}: {log}").expect("memory");
        }
        for word in words.iter().filter(|word| !log.contains(**word)) {
            writeln!(lacking, "{what}: no `{word}` in: {log}").expect("memory");
        }
    }
    assert!(lacking.is_empty(), "{lacking}");
}

#[test]
fn each_command_without_its_configuration_says_what_to_do_next() {
    let site = site();
    let help = said(&site.run(&["--help"]));
    let (_, listed) = help.split_once("Commands:").expect("commands");
    let names = listed.split("\n\n").next().into_iter().flat_map(str::lines);
    let mut needing = 0;
    for name in names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
        let help = said(&site.run(&[name, "--help"]));
        // Those with --dsn take it in place of a configuration.
        if !help.contains("--config ") || help.contains("--dsn ") {
            continue;
        }
        let rest: &[&str] = match name {
            "submit" => &["--table", "public.t"],
            "cancel" | "retry" | "verify" => &["nightly"],
            _ => &[],
        };
        let output = site.run(&[&[name, "--config", "/nonexistent/x.toml"], rest].concat());
        let text = said(&output);
        // A health check knows two codes only.
        let code = if name == "healthcheck" { 1 } else { 2 };
        assert_eq!(output.status.code(), Some(code), "{name}: {text}");
        for word in ["/nonexistent/x.toml", "What to do next", "[sources.warehouse]", "check --init", "--dsn"]
        {
            assert!(text.contains(word), "{name}: no {word}: {text}");
        }
        needing += 1;
    }
    assert_eq!(needing, 9);
}

#[test]
fn a_root_that_cannot_be_written_is_named() {
    let site = site();
    let mut config = site.config();
    // Read-only for everybody, root included.
    config["export"]["root"] = json!("/proc/self");
    let output = site.run(&["check", "--init", "--config", &site.write("bad.toml", &config)]);
    assert!(!output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("/proc/self"), "{}", said(&output));
}

#[test]
fn a_port_in_use_is_named() {
    let site = site();
    let first = site.daemon();
    let mut config = site.config();
    let port = free_port();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).expect("bind");
    config["http"]["listen"] = json!(format!("127.0.0.1:{port}"));
    let mut second = site.spawn(&config);
    let status = second.ended(Duration::from_secs(20));
    assert_eq!(status.code(), Some(2), "{}", second.log());
    for word in ["http.listen", &port.to_string(), "in use"] {
        assert!(second.log().contains(word), "{word}: {}", second.log());
    }
    first.stop();
}

#[test]
fn check_names_what_cannot_be_reached_and_shows_no_secret() {
    let site = site();
    let source = |key: &str, value: Value| {
        let mut config = site.config();
        config["sources"]["warehouse"][key] = value;
        config
    };
    let broker = |url: String| {
        let mut config = site.config();
        config["broker"]["url"] = json!(url);
        config
    };
    let (postgres, amqp) = (Services::get().postgres, Services::get().amqp);
    let nobody = free_port();
    let cases: [(&str, Value, Vec<String>); 7] = [
        ("password", source("password", json!("wr0ng-secret")), vec!["warehouse".into(), "password".into()]),
        (
            "database",
            source("dsn", json!(format!("postgres://exporter@127.0.0.1:{postgres}/nope"))),
            vec!["nope".into()],
        ),
        (
            "nobody",
            source("dsn", json!(site.db.dsn_at(nobody))),
            vec!["warehouse".into(), nobody.to_string()],
        ),
        (
            "tls",
            source("dsn", json!(site.db.dsn() + "?sslmode=require")),
            vec!["TLS".into(), "sslmode".into()],
        ),
        (
            "no broker",
            broker(format!("amqp://guest:guest@127.0.0.1:{nobody}/%2f")),
            vec!["broker".into(), nobody.to_string()],
        ),
        ("login", broker(format!("amqp://guest:wr0ng-secret@127.0.0.1:{amqp}/%2f")), vec!["broker".into()]),
        ("amqps", broker(format!("amqps://guest:guest@127.0.0.1:{amqp}/%2f")), vec!["TLS".into()]),
    ];
    let good = site.run(&["check", "--config", &site.write("good.toml", &site.config())]);
    assert_eq!(good.status.code(), Some(0), "{}", said(&good));
    for (what, config, words) in cases {
        let output = site.run(&["check", "--config", &site.write("bad.toml", &config)]);
        let text = said(&output);
        assert!(matches!(output.status.code(), Some(1 | 6)), "{what}: {text}");
        for word in words {
            assert!(text.contains(&word), "{what}: no `{word}` in: {text}");
        }
        assert!(!text.contains("wr0ng-secret"), "{what}: a secret is shown: {text}");
    }
}

#[test]
fn a_wrong_password_does_not_stop_the_daemon_and_a_right_one_goes_on() {
    let site = site();
    let secret = site.path("secret");
    std::fs::write(&secret, "wr0ng-secret\n").expect("write a secret");
    let mut config = site.config();
    let source = config["sources"]["warehouse"].as_object_mut().expect("a source");
    source.remove("password");
    source.insert("password_file".into(), json!(secret));
    let mut daemon = site.spawn(&config);
    let job = site.request_when_declared(&daemon, json!({"tables": ["public.t"]}));
    site.broker.events.wait(&job, "job.accepted", PATIENCE);
    crate::support::never("the job ends for a wrong password", Duration::from_secs(3), || {
        !daemon.lives() || site.exports.find_archive(&job).is_some()
    });
    std::fs::write(&secret, crate::support::PASSWORD).expect("write a secret");
    site.completed(&job);
    assert!(!daemon.log().contains("wr0ng-secret"));
    site.assert_sound(&[&job], [daemon]);
}
