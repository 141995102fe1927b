//! Interfaces for people and programs: the README's examples, `submit`, `verify`, HTTP.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::manual::run_python;
use crate::support::{Database, PATIENCE, Site, eventually, none_left, project, python, said, url};

/// The Python examples, in the order of the README.
fn examples() -> Vec<String> {
    let text = std::fs::read_to_string(project().join("README.md")).expect("read README.md");
    let blocks = text.split("```python\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(ToOwned::to_owned).collect()
}

fn run(site: &Site, code: &str) -> String {
    run_python(code, &site.path(""))
}

#[test]
fn the_python_examples_publish_wait_and_read() {
    let examples = examples();
    // `output.rs` reads partitions with the engines of the fourth.
    let [publish, duckdb, polars, _] = &examples[..] else { panic!("four examples: {examples:#?}") };
    let site = Site::new(Database::tpch());
    let daemon = site.daemon();

    let ours = publish
        .replace("amqp://guest:guest@127.0.0.1:5672/%2f", &url())
        .replace("\"adu.export.events\"", &format!("\"{}.events\"", site.broker.prefix))
        .replace("\"adu.export.requests\"", &format!("\"{}.requests\"", site.broker.prefix));
    let told = run(&site, &ours);
    assert!(told.contains("accepted") && told.trim_end().ends_with("completed"), "{told}");
    site.assert_equal(&[("SELECT c_custkey, c_name FROM customer", "public_customer")]);

    let printed = |code: &str| {
        let (setup, question) = code.trim().rsplit_once('\n').expect("two lines");
        run(&site, &format!("{setup}\nprint({question})"))
    };
    assert!(printed(duckdb).contains("150000"));
    assert!(printed(polars).contains("150000"));
    site.assert_sound(&["nightly-2026-11-21"], [daemon]);
}

#[test]
fn the_example_publisher_waits_for_the_end_and_ends_with_its_code() {
    let site = Site::new(Database::tpch());
    let publish = |request: &str| {
        std::fs::write(site.path("request.json"), request).expect("written");
        let program = project().join("examples/publisher.py");
        let arguments = ["--url", &url(), "--prefix", &site.broker.prefix, "--timeout", "60", "request.json"];
        let python = Command::new(python()).arg(program).args(arguments).current_dir(site.path("")).output();
        let output = python.expect("run Python");
        let told = String::from_utf8_lossy(&output.stdout);
        let events: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let kinds = events.iter().map(|e| e["type"].as_str().expect("a type").to_owned());
        let kinds: Vec<String> = kinds.collect();
        (output.status.code(), kinds, said(&output))
    };
    let good = r#"{"job_id": "good", "tables": ["public.nation"]}"#;
    // Delete the queue that `check` has made, as if no daemon had ever run.
    site.broker.delete("requests");
    let (code, _, text) = publish(good);
    assert_eq!(code, Some(6), "{text}");
    assert!(text.contains("no daemon has ever run"), "{text}");

    let daemon = site.daemon();
    let (code, kinds, text) = publish(good);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(kinds.first().map(String::as_str), Some("adu.export.job.accepted"), "{text}");
    assert_eq!(kinds.last().map(String::as_str), Some("adu.export.job.completed"), "{text}");
    assert!(kinds.iter().any(|k| k == "adu.export.table.completed"), "{text}");
    let (code, kinds, text) = publish(good);
    assert_eq!((code, &kinds[..]), (Some(0), &["adu.export.job.completed".to_owned()][..]), "{text}");
    assert_eq!(publish(r#"{"job_id": "some", "tables": ["public.nation", "public.none"]}"#).0, Some(3));
    assert_eq!(publish(r#"{"job_id": "none", "tables": ["public.none"]}"#).0, Some(1));
    let (code, kinds, text) = publish(r#"{"job_id": "no/id", "tables": ["public.nation"]}"#);
    assert_eq!((code, &kinds[..]), (Some(4), &["adu.export.job.rejected".to_owned()][..]), "{text}");
    site.assert_sound(&["good", "some", "none"], [daemon]);
}

#[test]
fn a_submitter_who_waits_gets_progress_and_the_exit_code() {
    let site = Site::new(Database::tpch());
    let daemon = site.daemon();
    let config = site.write("client.toml", &site.config());
    let submit = |job: &str, tables: &[&str]| {
        let named = tables.iter().flat_map(|table| ["--table", table]);
        let start = ["submit", "--config", &config, "--wait", "--job-id", job];
        let output = site.run(&start.into_iter().chain(named).collect::<Vec<_>>());
        (output.status.code(), said(&output))
    };
    let (code, text) = submit("good", &["public.orders", "public.nation"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("public_orders") && text.contains("completed"), "a summary: {text}");
    assert_eq!(submit("some", &["public.nation", "public.missing"]).0, Some(3));
    assert_eq!(submit("none", &["public.missing"]).0, Some(1));
    let (code, text) = submit("good", &["public.region"]);
    assert_eq!(code, Some(4), "another request under a known id: {text}");
    assert_eq!(site.exports.directories().len(), 3);

    for (job, code) in [("good", 0), ("some", 3)] {
        let status = site.run(&["status", "--config", &config, job]);
        assert!(status.status.success() && said(&status).contains("public.nation"), "{}", said(&status));
        let verified = site.run(&["verify", "--config", &config, job]);
        assert_eq!(verified.status.code(), Some(code), "{}", said(&verified));
    }
    let verified = site.run(&["verify", "--config", &config, "none"]);
    assert_eq!(verified.status.code(), Some(1), "nothing is no success: {}", said(&verified));
    assert!(said(&verified).contains("public.missing: was not exported"), "{}", said(&verified));
    site.assert_sound(&["good", "some", "none"], [daemon]);
    let part = site.exports.path("public_orders/part-000000.parquet");
    let mut bytes = std::fs::read(&part).expect("read a part");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&part, bytes).expect("damage a part");
    let verified = site.run(&["verify", "--config", &config, "good"]);
    assert_eq!(verified.status.code(), Some(1), "one changed bit is found");
    let text = said(&verified);
    assert!(text.contains("public_orders") && text.contains("part-000000.parquet"), "{text}");
}

#[test]
fn what_is_missing_is_said_before_anybody_waits_for_it() {
    let site = Site::new(Database::empty());
    site.db.execute("CREATE TABLE one AS SELECT 1 AS id");
    let config = site.write("client.toml", &site.config());
    let cancel = site.run(&["cancel", "--config", &config, "nobody"]);
    assert!(cancel.status.success(), "it is sent all the same: {}", said(&cancel));
    assert!(said(&cancel).contains("job nobody is not known in"), "{}", said(&cancel));

    let submit = ["submit", "--config", &config, "--table", "public.one", "--wait", "--timeout", "1s"];
    let nobody = site.run(&submit);
    assert_eq!(nobody.status.code(), Some(6), "{}", said(&nobody));
    assert!(said(&nobody).contains("is a daemon running?"), "{}", said(&nobody));
    let daemon = site.daemon();
    let export = site.run(&["submit", "--config", &config, "--table", "public.one", "--wait"]);
    assert!(said(&export).contains("1 table, 1 row,"), "{}", said(&export));
    eventually("the cancel of an unknown job is refused", PATIENCE, || {
        site.broker.events.all().into_iter().find(|e| e.kind() == "job.rejected")
    });
    // Requests from the time before the daemon are fulfilled too.
    let jobs =
        eventually("both jobs end", PATIENCE, || Some(site.exports.jobs()).filter(|jobs| jobs.len() == 2));
    site.assert_sound(&jobs, [daemon]);

    let mut elsewhere = site.config();
    let root = site.exports.path("unmounted/exports");
    elsewhere["export"]["root"] = json!(root);
    let config = site.write("elsewhere.toml", &elsewhere);
    let check = || said(&site.run(&["check", "--init", "--config", &config]));
    assert!(check().contains("the directory above it is missing; mount its file system"), "{}", check());
    std::fs::create_dir(root.parent().expect("a parent")).expect("mounted");
    assert!(check().contains(", made now"));
    assert!(!check().contains(", made now"));
}

#[test]
fn whoever_cancels_or_retries_a_job_that_cannot_be_is_told_what_became_of_it() {
    let site = Site::new(Database::empty());
    site.db.execute("CREATE TABLE one AS SELECT 1 AS id");
    site.db.execute(
        "CREATE TABLE slow AS SELECT g AS id, repeat('x', 1000) AS v FROM generate_series(1, 20000) g",
    );
    let config = site.write("client.toml", &site.config());
    let daemon = site.daemon();
    site.export(json!({"job_id": "whole", "tables": ["public.one"]}));
    let some = site.request(json!({"job_id": "some", "tables": ["public.one", "public.gone"]}));
    assert_eq!(site.broker.events.wait_final(&some, PATIENCE).kind(), "job.partial");
    let none = site.request(json!({"job_id": "none", "tables": ["public.gone"]}));
    assert_eq!(site.broker.events.wait_final(&none, PATIENCE).kind(), "job.failed");
    // The table cannot be read while another session has locked it.
    let locker = site.db.session();
    locker.run("BEGIN; LOCK TABLE slow IN ACCESS EXCLUSIVE MODE").expect("locked");
    site.request(json!({"job_id": "ended", "tables": ["public.slow"]}));
    eventually("the job runs", PATIENCE, || {
        site.exports.leftovers().iter().any(|l| l.contains("ended")).then_some(())
    });
    let retry = site.run(&["retry", "--config", &config, "ended"]);
    assert_eq!(retry.status.code(), Some(4), "{}", said(&retry));
    assert!(said(&retry).contains("has not finished"), "{}", said(&retry));
    let cancel = site.run(&["cancel", "--wait", "--config", &config, "ended"]);
    assert_eq!(cancel.status.code(), Some(0), "a cancel that came in time: {}", said(&cancel));
    drop(locker);

    for (job, word, cancelled) in
        [("whole", "completed", 4), ("some", "partial", 4), ("none", "failed", 4), ("ended", "cancelled", 0)]
    {
        for wait in [&[][..], &["--wait"][..]] {
            let output = site.run(&[&["cancel", "--config", &config, job], wait].concat());
            let text = said(&output);
            assert_eq!(output.status.code(), Some(cancelled), "{job} {wait:?}: {text}");
            let line = format!("job {job} has ended before: {word} at 20");
            assert!(
                text.contains(&line) && text.contains(&format!(".archive/by-id/{job}.json")),
                "{job}: {text}"
            );
        }
        let output = site.run(&["cancel", "--json", "--config", &config, job]);
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!((&told["job_id"], &told["status"]), (&json!(job), &json!(word)), "{told}");
        let archive = told["archive"].as_str().expect("a path");
        assert!(site.exports.path(archive).exists() && told["committed_at"].is_string(), "{told}");
    }
    let retry = site.run(&["retry", "--json", "--config", &config, "whole"]);
    let told: serde_json::Value = serde_json::from_slice(&retry.stdout).expect("JSON");
    assert_eq!((retry.status.code(), &told["error"]["code"]), (Some(4), &json!("nothing_failed")), "{told}");
    site.assert_sound(&["whole", "some", "none", "ended"], [daemon]);
}

#[test]
fn the_directory_of_a_pruned_job_is_told_from_a_damaged_one() {
    let site = Site::new(Database::tpch());
    let daemon = site.daemon();
    let config = site.write("client.toml", &site.config());
    let export = |job: &str| site.export(json!({"job_id": job, "tables": ["public.region"]}));
    let verify = |job: &str| {
        let output = site.run(&["verify", "--config", &config, job]);
        (output.status.code(), said(&output))
    };
    export("first");
    export("second");
    let prune = site.run(&["prune", "--yes", "--config", &config]);
    assert!(prune.status.success(), "{}", said(&prune));
    let (code, text) = verify("first");
    assert!(code == Some(1) && text.contains("the directory is gone: it was pruned"), "{text}");
    export("third");
    assert!(verify("third").1.contains("public_region\n"), "the name is used again: {}", verify("third").1);
    let (code, text) = verify("first");
    assert!(
        code == Some(1) && text.contains("it was pruned: the directory belongs to job third since 20"),
        "{text}"
    );
    assert!(!text.contains("sha256") && !text.contains("bytes"), "{text}");
    let output = site.run(&["verify", "--json", "--config", &config, "first"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told["tables"][0]["belongs_to"], "third", "{told}");
    for job in ["second", "third"] {
        assert_eq!(verify(job).0, Some(0), "{}", verify(job).1);
    }
    // The directory of the first job now belongs to another job.
    site.assert_sound(&["second", "third"], [daemon]);
}

#[test]
fn a_damaged_archive_is_named_and_hides_no_other_job() {
    let site = Site::new(Database::tpch());
    let daemon = site.daemon();
    let config = site.write("client.toml", &site.config());
    let tell = |command: &str, more: &[&str]| {
        let output = site.run(&[&[command, "--config", &config], more].concat());
        (output.status.code(), said(&output))
    };
    let request = |job: &str| json!({"job_id": job, "tables": ["public.region"]});
    for job in ["first", "second", "third"] {
        site.export(request(job));
    }
    let path = site.exports.path(".archive/by-id/third.json");
    let whole = std::fs::read(&path).expect("an archive");
    std::fs::write(&path, &whole[..100]).expect("damaged");
    let (code, text) = tell("status", &[]);
    assert!(code == Some(0) && text.contains("damaged: ") && text.contains("third"), "{text}");
    assert!(text.contains("first") && text.contains("second"), "{text}");
    let (code, text) = tell("prune", &["--yes"]);
    assert!(
        code == Some(3) && text.contains("damaged: ") && text.contains("left_alone public_region "),
        "{text}"
    );
    assert_eq!(site.exports.directories().len(), 3, "nobody knows which of them is the third job's");
    let submit = ["--wait", "--job-id", "third", "--table", "public.region"];
    for (command, more) in [("submit", &submit[..]), ("retry", &["third"]), ("cancel", &["third"])] {
        let (code, text) = tell(command, more);
        assert!(
            code == Some(4) && text.contains(".archive/by-id/third.json of the job"),
            "{command}: {text}"
        );
    }
    std::fs::write(&path, &whole).expect("restored");
    let (code, text) = tell("prune", &["--yes"]);
    assert!(code == Some(0) && !text.contains("damaged"), "{text}");
    assert_eq!(site.exports.directories().len(), 1, "{text}");
    site.assert_sound(&["third"], [daemon]);
}

#[test]
fn a_plan_shows_chunks_and_reasons_and_runs_nothing() {
    let site = Site::new(Database::tpch());
    let config = site.write("client.toml", &site.config());
    let plan = |more: &[&str]| {
        let output = site.run(&[&["plan", "--config", &config, "--table", "public.*"], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let text = plan(&[]);
    for word in ["public.lineitem", "public.region", "single", "8 tables"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let json: serde_json::Value = serde_json::from_str(&plan(&["--json"])).expect("JSON");
    let tables = json["tables"].as_array().expect("tables");
    assert_eq!(tables.len(), 8);
    assert!(tables.iter().all(|t| !t["reason"].as_str().expect("a reason").is_empty()), "{json}");
    assert!(site.exports.directories().is_empty());
    assert!(site.exports.leftovers().is_empty());
    none_left("no connection is left", Duration::from_secs(2), || site.db.all_backends());
}

#[test]
fn the_newest_export_can_be_asked_for_by_table() {
    let site = Site::new(Database::tpch());
    let daemon = site.daemon();
    let config = site.write("client.toml", &site.config());
    let jobs = [(); 2].map(|()| site.export(serde_json::json!({"tables": ["public.region"]})));
    let output = site.run(&["status", "--config", &config, "--latest", "public.region"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.trim().ends_with("public_region_v2"), "{}", said(&output));
    let output = site.run(&["status", "--config", &config, "--latest", "public.nation"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    site.assert_sound(&jobs.each_ref().map(|j| j.job()), [daemon]);
}

#[test]
fn jobs_are_shown_over_http_without_what_filters_say() {
    let site = Site::new(Database::tpch());
    let daemon = site.daemon();
    let table = serde_json::json!({"table": "public.orders", "where": "o_clerk = 'Clerk#000000951'"});
    let request = serde_json::json!({"tables": [table], "labels": {"team": "secret-team"}});
    let done = site.export(request);
    let listed = eventually("the job is listed", Duration::from_secs(10), || {
        Some(daemon.json("/api/jobs").to_string()).filter(|text| text.contains(done.job()))
    });
    let one = daemon.json(&format!("/api/jobs/{}", done.job())).to_string();
    assert!(one.contains("public.orders") && one.contains("completed"), "{one}");
    for text in [listed, one] {
        assert!(!text.contains("Clerk#") && !text.contains("secret-team"), "{text}");
    }
    assert_eq!(daemon.get("/api/jobs/no-such-job").map(|(status, _)| status), Some(404));
    assert_eq!(daemon.get("/healthz").map(|(status, _)| status), Some(200));
    site.assert_sound(&[done.job()], [daemon]);
}
