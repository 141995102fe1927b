//! What changes while pages are read changes no row.

use serde_json::{Value, json};

use super::{can_read_pages, pages, script, superuser, vacuum};
use crate::support::{Daemon, Database, PATIENCE, Slow, eventually, table};

#[test]
fn a_chunk_whose_schema_was_renamed_meanwhile_is_read_again_by_copy() {
    let db = Database::empty();
    if !can_read_pages(&db) {
        return;
    }
    let slow = Slow::new(db);
    let site = &slow.site;
    script(site, "page-reader.sql", &["role=exporter"]);
    site.db.execute(
        "CREATE SCHEMA first; CREATE TABLE first.wide (id bigint, t text) WITH (autovacuum_enabled = off);
         INSERT INTO first.wide SELECT i, repeat(md5(i::text), 40) FROM generate_series(1, 12000) i",
    );
    vacuum(&site.db, "first.wide");
    slow.proxy.slow_to(2_000_000);
    let (dsn, out) = (site.db.url_at(slow.proxy.port), site.exports.0.to_string_lossy());
    let arguments =
        ["export", "--quiet", "--dsn", &dsn, "--table", "first.wide", "--read", "pages", "--out", &out];
    let mut child = site.start("export", &arguments);
    eventually("pages are read", PATIENCE, || {
        assert!(child.try_wait().expect("wait").is_none(), "it ended before its time");
        let queries = site.db.backends(&["active"]);
        queries.iter().any(|query| query.contains("COPY (SELECT b, \"adu_page_reader\"")).then_some(())
    });
    site.db.execute("ALTER SCHEMA first RENAME TO second; ALTER SCHEMA second RENAME TO first");
    slow.proxy.free();
    assert!(child.wait().expect("it ends").success(), "the export ends well");
    site.assert_equal(&[("SELECT * FROM first.wide", "first_wide")]);
    let log = std::fs::read_to_string(site.path("export.log")).expect("a log");
    let archive = &site.exports.archives()[0]["tables"][0];
    let reason = archive["strategy_reason"].to_string();
    assert!(reason.contains("by pages") && archive["pages"].is_null(), "{archive}\n{log}");
}

/// A job whose first table is read slowly, so that others can change between their plan and their chunks.
struct Held {
    slow: Slow,
    daemon: Daemon,
    job: String,
}

impl Held {
    /// Makes tables by `prepare`, vacuums some, and asks for a slow table and then for `tables`, one after the
    /// other. `point` is a failpoint of the daemon.
    #[track_caller]
    fn new(prepare: &str, vacuumed: &[&str], tables: &[Value], point: &str) -> Option<Self> {
        let db = Database::empty();
        if !can_read_pages(&db) {
            return None;
        }
        db.execute("CREATE EXTENSION pageinspect");
        db.execute(
            "CREATE TABLE first AS SELECT i AS id, repeat(md5(i::text), 20) AS t FROM generate_series(1, 8000) i",
        );
        db.execute(prepare);
        vacuumed.iter().for_each(|table| vacuum(&db, table));
        let slow = Slow::new(db).at(400_000);
        let mut config = superuser(&slow.site);
        let user = slow.site.db.admin_dsn();
        let port = slow.site.db.port().to_string();
        config["sources"]["warehouse"]["dsn"] = json!(user.replace(&port, &slow.proxy.port.to_string()));
        let daemon = slow.site.spawn_in(&config, &[("FAILPOINTS", point)]).ready();
        let all: Vec<Value> = [json!({"table": "public.first", "read": "copy"})]
            .into_iter()
            .chain(tables.iter().cloned())
            .collect();
        let one = json!({"table_threads": 1, "chunk_workers": 1});
        let job = slow.site.request(json!({"tables": all, "parallelism": one}));
        eventually("the first table is read", PATIENCE, || (daemon.chunks_in_flight() > 0).then_some(()));
        Some(Self { slow, daemon, job })
    }

    fn execute(&self, sql: &str) {
        self.slow.site.db.execute(sql);
    }
}

#[test]
fn pages_that_vacuum_has_cut_off_since_the_plan_are_not_asked_for() {
    // The rows at the end were deleted before the snapshot.
    let prepare = "
        CREATE TABLE cut (id bigint, t text) WITH (fillfactor = 10, autovacuum_enabled = off);
        INSERT INTO cut SELECT i, md5(i::text) FROM generate_series(1, 30000) i; ANALYZE cut;
        DELETE FROM cut WHERE id > 16000";
    for point in ["", "mid:cut:pages=return(error)"] {
        let Some(held) = Held::new(prepare, &[], &[pages("public.cut")], point) else { return };
        let site = &held.slow.site;
        let size = "SELECT pg_relation_size('cut') / 8192";
        let before = site.db.number(size);
        // A VACUUM that begins beside an older snapshot may remove rows and mark no page.
        let marked = "SELECT relallvisible FROM pg_class WHERE oid = 'cut'::regclass";
        eventually("VACUUM cuts the end off and marks the rest", PATIENCE, || {
            held.execute("VACUUM cut");
            (site.db.number(size) < before * 3 / 4 && site.db.number(marked) > 1500).then_some(())
        });
        site.assert_runs(&held.job, "the table was cut while the job ran");
        held.slow.proxy.free();
        if point.is_empty() {
            site.completed(&held.job);
            let archive = site.exports.archive(&held.job);
            let cut = table(&archive, "public.cut");
            assert!(cut["pages"]["read"].as_u64() > Some(1000) && cut["chunks"].as_u64() > Some(5), "{cut}");
            assert_eq!(archive["epochs"], 1, "{archive}");
            site.assert_equal(&[("SELECT * FROM cut", "public_cut")]);
            site.assert_sound(&[&held.job], [held.daemon]);
        } else {
            let last = site.broker.events.wait_final(&held.job, PATIENCE);
            assert_eq!(last.kind(), "job.partial", "{}", last.body);
            let error = table(&site.exports.archive(&held.job), "public.cut")["error"].to_string();
            assert!(error.contains("22023"), "{error}");
        }
    }
}

#[test]
fn tables_that_are_altered_after_the_snapshot_still_give_its_rows() {
    let names = ["widened", "narrowed", "inherited", "rewritten", "refilled", "written"];
    let prepare: Vec<String> = names
        .iter()
        .map(|name| {
            format!(
                "CREATE TABLE {name} (id bigint PRIMARY KEY, gone text, t text) WITH (fillfactor = 10, autovacuum_enabled = off);
                 INSERT INTO {name} SELECT i, 'gone', md5(i::text) FROM generate_series(1, 12000) i;
                 CREATE TABLE {name}_before AS SELECT id, t FROM {name}"
            )
        })
        .collect();
    let tables: Vec<Value> = names
        .iter()
        .map(|name| {
            let table = format!("public.{name}");
            json!({"table": table, "columns": ["id", "t"], "read": "pages", "chunk_rows": 3000})
        })
        .collect();
    let prepare = prepare.join(";");
    let Some(held) = Held::new(&prepare, &names, &tables, "") else { return };
    for sql in [
        "ALTER TABLE widened ADD COLUMN late int DEFAULT 5, ADD COLUMN more text",
        "INSERT INTO widened SELECT -i, '', 'new', 1, 'm' FROM generate_series(1, 12000) i",
        "VACUUM (ANALYZE) widened",
        "ALTER TABLE narrowed DROP COLUMN gone",
        "UPDATE narrowed SET t = 'new' WHERE id % 50 = 0",
        "CREATE TABLE child (t2 text) INHERITS (inherited)",
        "INSERT INTO child VALUES (-1, '', 'of a child')",
        "CLUSTER rewritten USING rewritten_pkey",
        "TRUNCATE refilled",
        "INSERT INTO refilled SELECT -i, '', 'new' FROM generate_series(1, 12000) i",
        "DELETE FROM written WHERE id % 400 = 0",
        "UPDATE written SET id = -id, t = 'new' WHERE id % 500 = 1",
        "VACUUM (ANALYZE) written",
    ] {
        held.execute(sql);
    }
    let site = &held.slow.site;
    site.assert_runs(&held.job, "the tables were altered while the job ran");
    held.slow.proxy.free();
    site.completed(&held.job);
    let archive = site.exports.archive(&held.job);
    // What was rewritten or emptied is planned again, and shows a later moment.
    let mut pairs = Vec::new();
    for name in names {
        let of = table(&archive, &format!("public.{name}"));
        let is_new = matches!(name, "rewritten" | "refilled");
        assert_eq!(of["epoch"].as_u64() > Some(1), is_new, "{name}: {of}");
        if !is_new {
            assert!(of["pages"]["read"].as_u64() > Some(500), "{name}: {of}");
        }
        let query =
            if is_new { format!("SELECT id, t FROM {name}") } else { format!("SELECT * FROM {name}_before") };
        pairs.push((query, format!("public_{name}")));
    }
    site.assert_all_equal(&pairs);
    site.assert_sound(&[&held.job], [held.daemon]);
}
