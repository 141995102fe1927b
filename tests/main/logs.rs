//! The log is one vocabulary, and each line of a job says what it belongs to.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::{Database, PATIENCE, Site, eventually, project};

/// The events of `docs/LOGS.md` with the heading that each stands under.
fn vocabulary() -> BTreeMap<String, String> {
    let page = std::fs::read_to_string(project().join("docs/LOGS.md")).expect("the page");
    let (_, events) = page.split_once("\n## Events\n").expect("the events");
    let mut heading = "";
    let mut vocabulary = BTreeMap::new();
    for line in events.lines() {
        if let Some(next) = line.strip_prefix("### ") {
            heading = next;
        } else if let Some((event, _)) = line.strip_prefix("| ").and_then(|row| row.split_once(" | ")) {
            vocabulary.insert(event.to_owned(), heading.to_owned());
        }
    }
    vocabulary
}

#[test]
fn each_line_of_a_job_has_the_fields_that_apply() {
    let site = Site::new(Database::tpch());
    let mut config = site.config();
    config["log"]["format"] = json!("json");
    let mut daemon = site.daemon_with(&config);
    let job = site.request(json!({"tables": [
        {"table": "public.orders", "chunk_rows": 50_000},
        "public.nation", "public.region", "public.supplier",
    ]}));
    site.completed(&job);
    // The last line of a job comes after its last event.
    eventually("the job is finished", PATIENCE, || {
        daemon.log().contains("the job is finished").then_some(())
    });
    daemon.terminate();
    daemon.ended(PATIENCE);

    let vocabulary = vocabulary();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut done = BTreeSet::new();
    for line in daemon.log().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        if !line["target"].as_str().is_some_and(|target| target.starts_with("adu_export")) {
            continue;
        }
        let event = line["message"].as_str().expect("an event");
        let heading = vocabulary.get(event).unwrap_or_else(|| panic!("no event of docs/LOGS.md: {line}"));
        let fields: &[&str] = match heading.as_str() {
            "Of a daemon" => &["daemon"],
            "Of a job" => &["daemon", "job"],
            "Of a plan" | "Of a plan or a chunk" => &["daemon", "job", "epoch"],
            "Of a chunk" => &["daemon", "job", "epoch", "table", "chunk"],
            other => panic!("a heading of its own: {other}"),
        };
        for field in fields {
            assert!(!line[field].is_null(), "no {field}: {line}");
        }
        if !line["job"].is_null() {
            assert_eq!(line["job"], json!(job), "{line}");
        }
        if event == "a chunk is done" {
            done.insert((line["table"].to_string(), line["chunk"].as_u64().expect("a number")));
        }
        seen.insert(event.to_owned());
    }
    for event in [
        "started",
        "connected to the broker",
        "this daemon coordinates now",
        "a request is stored",
        "keeps the snapshot",
        "the plan is written",
        "planned",
        "a chunk is done",
        "the job is finished",
        "stopped",
    ] {
        assert!(seen.contains(event), "{event} is not logged: {seen:?}");
    }
    assert!(done.iter().any(|(table, chunk)| table == "\"public.orders\"" && *chunk > 0), "{done:?}");
    assert!(done.iter().any(|(table, _)| table.contains(" and 2 more")), "{done:?}");
}
