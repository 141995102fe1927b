//! `adu-export export` does the same work without a broker.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Child;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Database, PATIENCE, Services, Site, Slow, eventually, none_left, said};

const TABLES: [&str; 5] = ["nation", "supplier", "part", "orders", "lineitem"];

struct OneShot {
    slow: Slow,
    arguments: Vec<String>,
}

impl OneShot {
    fn new() -> Self {
        let slow = Slow::new(Database::tpch());
        slow.proxy.free();
        let mut arguments = vec!["export".into(), "--dsn".into(), slow.site.db.url_at(slow.proxy.port)];
        for table in TABLES {
            arguments.extend(["--table".into(), format!("public.{table}")]);
        }
        let out = slow.site.exports.0.to_string_lossy().into_owned();
        arguments.extend(["--out".into(), out, "--workers".into(), "2".into()]);
        Self { slow, arguments }
    }

    fn arguments(&self) -> Vec<&str> {
        self.arguments.iter().map(String::as_str).collect()
    }

    /// Starts the export and waits until some tables are published and lineitem is not.
    fn interrupted(&self) -> Child {
        self.slow.proxy.slow_to(8_000_000);
        let mut child = self.slow.site.start("export", &self.arguments());
        eventually("some tables are there", PATIENCE, || {
            assert!(child.try_wait().expect("wait").is_none(), "it ended before its time");
            (!self.slow.site.exports.directories().is_empty()).then_some(())
        });
        assert!(!self.slow.site.exports.directories().contains("public_lineitem"));
        child
    }

    fn fingerprints(&self) -> BTreeMap<String, Vec<String>> {
        let directories = self.slow.site.exports.directories();
        directories.into_iter().map(|d| (d.clone(), self.slow.site.exports.fingerprint(&d))).collect()
    }

    fn assert_complete(&self) {
        let expected: BTreeSet<String> = TABLES.iter().map(|t| format!("public_{t}")).collect();
        assert_eq!(self.slow.site.exports.directories(), expected, "each table once");
        let queries = TABLES.map(|t| (format!("SELECT * FROM {t}"), format!("public_{t}")));
        self.slow.site.assert_all_equal(&queries);
        assert_eq!(self.slow.site.exports.names(".archive/by-id").len(), 1, "one job");
        self.slow.site.assert_one_shots_sound();
    }
}

#[test]
fn a_one_shot_export_needs_no_broker_and_no_config() {
    let one = OneShot::new();
    let mut arguments = one.arguments();
    arguments.push("--json");
    let output = one.slow.site.run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let summary: Value = serde_json::from_slice(&output.stdout).expect("JSON and nothing else on stdout");
    let total =
        TABLES.iter().map(|t| one.slow.site.db.number(&format!("SELECT count(*) FROM {t}"))).sum::<u64>();
    assert_eq!(summary["performance"]["total_rows_exported"], total, "{summary}");
    one.assert_complete();
}

#[test]
fn a_killed_export_resumes_and_repeats_nothing() {
    let one = OneShot::new();
    let mut child = one.interrupted();
    kill_process(Pid::from_child(&child), Signal::KILL).expect("kill");
    child.wait().expect("it ends");
    let finished = one.fingerprints();
    let rows_before: usize = finished.len();
    assert!((1..TABLES.len()).contains(&rows_before), "{finished:?}");

    one.slow.proxy.free();
    let output = one.slow.site.run(&one.arguments());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    one.assert_complete();
    let after = one.fingerprints();
    for (directory, before) in finished {
        assert_eq!(after[&directory], before, "{directory} is the one from before");
    }
}

#[test]
fn another_request_in_the_same_directory_does_not_resume() {
    let one = OneShot::new();
    let mut child = one.interrupted();
    kill_process(Pid::from_child(&child), Signal::KILL).expect("kill");
    child.wait().expect("it ends");
    one.slow.proxy.free();
    let out = one.slow.site.exports.0.to_string_lossy().into_owned();
    let dsn = one.slow.site.db.url_at(one.slow.proxy.port);
    let other = ["export", "--dsn", &dsn, "--table", "public.region", "--out", &out];
    let output = one.slow.site.run(&other);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    one.slow.site.assert_equal(&[("SELECT * FROM region", "public_region")]);
    assert!(!one.slow.site.exports.directories().contains("public_lineitem"));
    none_left("the old workspace is gone", Duration::from_secs(5), || one.slow.site.exports.leftovers());
}

/// The processes that wrote records of a job.
fn exporters(site: &Site, workspace: &str) -> BTreeSet<String> {
    let records = format!(".temp/{workspace}/records/e1");
    let tables = site.exports.names(&records);
    let files = tables.iter().flat_map(|t| {
        let names = site.exports.names(&format!("{records}/{t}"));
        names.into_iter().filter(|n| !n.starts_with('.')).map(move |n| format!("{t}/{n}"))
    });
    let instance = |file: String| {
        let text = std::fs::read(site.exports.path(&format!("{records}/{file}"))).ok()?;
        let record: Value = serde_json::from_slice(&text).expect("JSON");
        record["instance"].as_str().map(ToOwned::to_owned)
    };
    files.filter_map(instance).collect()
}

#[test]
fn two_exports_into_one_directory_do_not_touch_each_others_job() {
    let one = OneShot::new();
    let mut first = one.interrupted();
    one.slow.proxy.slow_to(100_000);
    let workspaces = one.slow.site.exports.names(".temp");
    let workspace = workspaces.iter().find(|n| n.starts_with("job_")).expect("the first one works");
    let before = exporters(&one.slow.site, workspace);
    assert_eq!(before.len(), 1, "{before:?}");
    // The same tables from the same database, but without the slow proxy.
    let direct = one.slow.site.db.url_at(Services::get().postgres);
    let mut arguments = one.arguments();
    arguments[2] = &direct;
    let output = one.slow.site.run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(first.try_wait().expect("wait").is_none(), "the first one has not ended");
    assert_eq!(exporters(&one.slow.site, workspace), before, "nobody else worked on it");
    one.slow.proxy.free();
    let end = eventually("the first one ends", PATIENCE, || first.try_wait().expect("wait"));
    assert!(end.success(), "{end}");
    assert_eq!(one.slow.site.exports.names(".archive/by-id").len(), 2, "two jobs");
    one.slow.site.assert_equal(&[("SELECT * FROM lineitem", "public_lineitem")]);
    one.slow.site.assert_one_shots_sound();
}

#[test]
fn a_job_id_that_daemons_work_on_is_refused_and_their_job_goes_on() {
    let slow = Slow::big(40_000).at(500_000);
    let (site, daemon) = (&slow.site, slow.daemon());
    let body = json!({"job_id": "nightly", "tables": ["public.big"]});
    site.request(body.clone());
    eventually("it is planned", PATIENCE, || slow.plan("nightly", 1));
    let request = site.path("nightly.json");
    std::fs::write(&request, body.to_string()).expect("write a request");
    let (request, out) = (request.to_string_lossy(), site.exports.0.to_string_lossy());
    let dsn = site.db.url_at(Services::get().postgres);
    let output = site.run(&["export", "--dsn", &dsn, "--request", &request, "--out", &out]);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(said(&output).contains("`nightly` belongs to daemons"), "{}", said(&output));
    slow.assert_whole(&["nightly"], [daemon]);
}

#[test]
fn ctrl_c_leaves_nothing_half_done_and_no_backend() {
    let one = OneShot::new();
    let mut child = one.interrupted();
    kill_process(Pid::from_child(&child), Signal::INT).expect("interrupt");
    let end = eventually("it ends", Duration::from_secs(10), || child.try_wait().expect("wait"));
    assert!(end.code().is_some_and(|code| code != 0), "{end}");
    none_left("no connection is left", Duration::from_secs(2), || one.slow.site.db.all_backends());
    // Published tables are complete.
    for directory in one.slow.site.exports.directories() {
        let table = directory.strip_prefix("public_").expect("public");
        one.slow.site.assert_equal(&[(&format!("SELECT * FROM {table}"), &directory)]);
    }
    one.slow.proxy.free();
    let output = one.slow.site.run(&one.arguments());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    one.slow.site.assert_one_shots_sound();
}

#[test]
fn exit_codes_tell_what_happened() {
    let site = Site::new(Database::empty());
    site.db.execute("CREATE TABLE t AS SELECT 1 AS x");
    let dsn = site.db.url_at(Services::get().postgres);
    let out = site.path("out");
    let out = out.to_str().expect("UTF-8");
    let request = site.path("request.json");
    std::fs::write(&request, r#"{"tables": ["public.t"], "shape": 1}"#).expect("write a request");
    let request = request.to_str().expect("UTF-8");
    let nobody = format!("postgres://x@127.0.0.1:{}/x?connect_timeout=1", crate::support::free_port());
    let cases: [(i32, Vec<&str>, &str); 8] = [
        (0, vec!["--dsn", &dsn, "--table", "public.t", "--out", out], ""),
        (1, vec!["--dsn", &dsn, "--table", "public.missing", "--out", out], "public.missing"),
        (2, vec!["--dsn", &dsn, "--out", out], "--table"),
        (2, vec!["--dsn", "nonsense", "--table", "public.t", "--out", out], "dsn"),
        (
            3,
            vec!["--dsn", &dsn, "--table", "public.t", "--table", "public.missing", "--out", out],
            "public.missing",
        ),
        (2, vec!["--dsn", &dsn, "--table", "t", "--out", out], "schema.table"),
        (4, vec!["--dsn", &dsn, "--request", request, "--out", out], "shape"),
        (6, vec!["--dsn", &nobody, "--table", "public.t", "--out", out], "127.0.0.1"),
    ];
    for (code, arguments, words) in cases {
        let output = site.run(&[vec!["export"], arguments.clone()].concat());
        let text = said(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(words), "{arguments:?}: {text}");
        assert!(!text.contains("p%40ss") && !text.contains("p@ss"), "a secret is shown: {text}");
    }
}

#[test]
fn hints_for_a_dsn_name_flags_and_no_configuration() {
    let site = Site::new(Database::empty());
    site.db.execute(
        "CREATE TABLE t AS SELECT 1 AS x; CREATE TABLE hidden AS SELECT 1 AS x; \
         ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON hidden USING (x > 1); \
         CREATE TABLE secret AS SELECT 1 AS x; REVOKE ALL ON secret FROM exporter; \
         CREATE VIEW slow AS SELECT pg_sleep(10) IS NULL AS x",
    );
    let port = Services::get().postgres;
    let good = site.db.url_at(port);
    let (user, after) = good.split_once("@127").expect("a host");
    let role = user.split([':', '@']).nth(1).expect("a role").trim_start_matches('/').to_owned();
    let (_, database) = after.rsplit_once('/').expect("a database");
    let at = |rest: &str| format!("postgres://{role}@127.0.0.1:{port}/{rest}");
    let request = |name: &str, body: Value| {
        let path = site.path(name);
        std::fs::write(&path, body.to_string()).expect("write a request");
        path.to_string_lossy().into_owned()
    };
    let filter = request("filter", json!({"tables": [{"table": "public.t", "where": "abs(x) = 1"}]}));
    let table = |name: &str| ["--table".to_owned(), format!("public.{name}")].to_vec();
    let nobody = format!("postgres://x@127.0.0.1:{}/x", crate::support::free_port());
    let cases: Vec<(String, Vec<String>, &str)> = vec![
        (nobody, table("t"), "host and port of --dsn"),
        (at(database), table("t"), "--password-file"),
        (format!("postgres://{role}:wr0ng@127.0.0.1:{port}/{database}"), table("t"), "--password-file"),
        (format!("{user}@127.0.0.1:{port}/nope"), table("t"), "the database that --dsn names"),
        (format!("{good}?sslmode=verify-full&sslrootcert=/nope.pem"), table("t"), "sslrootcert"),
        (format!("{good}?sslmode=require"), table("t"), "ssl = on"),
        (format!("{good}?sslmod=require"), table("t"), "did you mean `sslmode`"),
        (
            format!("{good}?options=-c%20statement_timeout%3D200"),
            table("slow"),
            "statement_timeout%3D0 to --dsn",
        ),
        (good.clone(), table("hidden"), "give the role BYPASSRLS"),
        (good.clone(), table("secret"), "GRANT SELECT"),
        (good.clone(), table("gone"), "case-sensitive"),
        (good.clone(), vec!["--request".into(), filter], "or filter in a view"),
    ];
    let out = site.path("out").to_string_lossy().into_owned();
    for (dsn, arguments, words) in cases {
        for command in ["export", "plan"] {
            if command == "plan" && words.contains("statement_timeout") {
                continue;
            }
            let mut all = vec![command.to_owned(), "--dsn".into(), dsn.clone()];
            all.extend(arguments.iter().cloned());
            if command == "export" {
                all.extend(["--out".to_owned(), out.clone()]);
            }
            let output = site.run(&all.iter().map(String::as_str).collect::<Vec<_>>());
            let text = said(&output);
            assert!(!output.status.success() && text.contains(words), "{all:?}: {text}");
            for forbidden in [
                "sources.",
                "onfiguration",
                "adu-export.toml",
                "pool_size",
                "ca_file",
                "password_file",
                "wr0ng",
            ] {
                assert!(!text.contains(forbidden), "{forbidden} in the hints of {all:?}: {text}");
            }
        }
    }
}
