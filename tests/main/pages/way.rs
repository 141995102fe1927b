//! Which tables are read by pages, and what the plan says about the others.

use serde_json::{Value, json};

use super::{can_read_pages, export, pages, site, vacuum};
use crate::support::{Database, Postgres, Site};

#[test]
fn what_is_not_eligible_is_read_by_copy_and_says_why() {
    let Some(site) = site() else { return };
    site.db.execute(
        "CREATE TABLE plain (id bigint PRIMARY KEY, t text) WITH (fillfactor = 10);
         INSERT INTO plain SELECT i, md5(i::text) FROM generate_series(1, 12000) i;
         CREATE TABLE typed (j jsonb, t text) WITH (fillfactor = 10);
         INSERT INTO typed SELECT '{}', repeat(md5(i::text), 10) FROM generate_series(1, 5000) i;
         CREATE TABLE parent (LIKE plain) WITH (fillfactor = 10);
         INSERT INTO parent SELECT * FROM plain; CREATE TABLE child () INHERITS (parent);
         CREATE TABLE guarded (LIKE plain) WITH (fillfactor = 10); INSERT INTO guarded SELECT * FROM plain;
         ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; CREATE TABLE small (id bigint)",
    );
    site.db.execute("VACUUM (ANALYZE)");
    for (table, why) in [
        (pages("public.plain"), "by pages"),
        (json!({"table": "public.plain", "read": "pages", "where": "id > 5"}), "it has a filter"),
        (
            json!({"table": "public.plain", "read": "pages", "strategy": "range", "chunk_rows": 3000}),
            "ranges of keys",
        ),
        (pages("public.typed"), "column j has a type that is not taken"),
        (json!({"table": "public.typed", "read": "pages", "columns": ["t"]}), "by pages"),
        (pages("public.parent"), "it has children"),
        (pages("public.guarded"), "it has row-level security"),
        (pages("public.small"), "at least 1000 pages"),
    ] {
        let found = export(&site, &table);
        let reason = found["strategy_reason"].as_str().unwrap_or_default();
        assert!(reason.contains(why), "{table}: {reason}");
        assert_eq!(found["pages"].is_object(), why == "by pages", "{found}");
    }
    // `copy` means COPY, and so does `auto` where pages have more bytes than their rows.
    for (read, why) in [("copy", "numeric primary key"), ("auto", "by copy, because its pages have")] {
        let found = export(&site, &json!({"table": "public.plain", "read": read, "chunk_rows": 3000}));
        let reason = found["strategy_reason"].as_str().expect("a reason");
        assert!(found["pages"].is_null() && reason.contains(why) && !reason.contains("by pages"), "{found}");
    }
    site.assert_one_shots_sound();
}

#[test]
fn auto_takes_pages_only_where_that_harms_nobody() {
    let server = Postgres::start(&[("shared_buffers", "32MB"), ("autovacuum", "off")]);
    let db = Database::on(server.services());
    if !can_read_pages(&db) {
        return;
    }
    let site = Site::on(server.services(), db);
    // Listed pages are read by a plan that reads nothing else: the server logs it.
    site.db.execute(&format!(
        "ALTER DATABASE {} SET session_preload_libraries = 'auto_explain';
         ALTER DATABASE {} SET auto_explain.log_min_duration = 0",
        site.db.name, site.db.name
    ));
    site.db.execute(
        "CREATE EXTENSION pageinspect;
         CREATE TABLE fits (id bigint PRIMARY KEY, t text); ALTER TABLE fits ALTER t SET STORAGE PLAIN;
         INSERT INTO fits SELECT i, repeat(md5(i::text), 24) FROM generate_series(1, 10000) i;
         CREATE TABLE large (id bigint, t text); ALTER TABLE large ALTER t SET STORAGE PLAIN;
         INSERT INTO large SELECT i, repeat(md5(i::text), 24) FROM generate_series(1, 25000) i;
         CREATE TABLE huge (LIKE large INCLUDING STORAGE);
         INSERT INTO huge SELECT i, repeat(md5(i::text), 24) FROM generate_series(1, 60000) i;
         CREATE TABLE changed (LIKE fits INCLUDING STORAGE); INSERT INTO changed SELECT * FROM fits",
    );
    for table in ["fits", "large", "huge", "changed"] {
        vacuum(&site.db, table);
    }
    site.db.execute("DELETE FROM changed WHERE id % 20 = 0");
    site.db.execute("ANALYZE changed");
    site.db.execute("UPDATE fits SET t = 'changed' WHERE id % 2000 = 0");
    let auto = |table: &str| json!({"table": table, "chunk_rows": 2500});
    let reason = |table: &Value| {
        let found = export(&site, table);
        let reason = found["strategy_reason"].as_str().expect("a reason").to_owned();
        assert_eq!(found["pages"].is_object(), reason.contains("by pages"), "{found}");
        // By pages also where the key is in order.
        assert!(found["pages"].is_null() || found["strategy"] != "range", "{found}");
        reason
    };
    for (table, why) in [
        (auto("public.fits"), "they fit into a quarter of shared_buffers"),
        (json!({"table": "public.fits", "columns": ["id"]}), "COPY sends about"),
        (json!({"table": "public.fits", "columns": ["id"], "read": "pages"}), "by pages"),
        (json!({"table": "public.fits", "where": "id > 5"}), "by copy, because it has a filter"),
        (json!({"table": "public.fits", "strategy": "range", "chunk_rows": 2500}), "ranges of keys"),
        (auto("public.changed"), "% of its pages are marked as visible to all"),
        (auto("public.large"), "its pages would take more than a quarter of shared_buffers (8"),
        (json!({"table": "public.large", "read": "pages", "chunk_rows": 9000}), "by pages"),
    ] {
        let reason = reason(&table);
        assert!(reason.contains(why), "{table}: {reason}");
    }
    let log = server.log();
    let listed =
        log.split("Query Text: ").find(|query| query.contains("OFFSET 0) s")).expect("a COPY of the list");
    let plan = listed.split("LOG: ").next().unwrap_or_default();
    assert!(
        plan.contains("Nested Loop") && plan.contains("Tid Range Scan on fits") && !plan.contains("Seq Scan"),
        "{plan}"
    );

    // A table that is in the buffers already pushes out nothing, if the role may ask.
    site.db.execute("CREATE EXTENSION pg_buffercache");
    for name in ["large", "huge"] {
        // Ranges of ctid are not read through a few buffers only.
        site.db.execute(&format!("SELECT count(t) FROM {name} WHERE ctid >= '(0,0)' AND ctid < '(9999,0)'"));
        let reason = reason(&auto(&format!("public.{name}")));
        assert_eq!(reason.contains("% of them are in shared_buffers"), name == "large", "{reason}");
    }
    site.assert_equal(&[
        ("SELECT * FROM fits", "public_fits"),
        ("SELECT * FROM changed", "public_changed"),
        ("SELECT * FROM large", "public_large"),
        ("SELECT * FROM huge", "public_huge"),
    ]);
    site.assert_one_shots_sound();
}

#[test]
fn a_role_without_its_function_reads_by_copy() {
    let Some(site) = site() else { return };
    site.db.execute(
        "CREATE TABLE plain WITH (fillfactor = 10) AS SELECT i AS id FROM generate_series(1, 40000) i",
    );
    vacuum(&site.db, "plain");
    let daemon = site.daemon();
    let job = site.export(json!({"tables": [pages("public.plain")]}));
    let reason = site.exports.archive(job.job())["tables"][0]["strategy_reason"].to_string();
    assert!(reason.contains("the role is no superuser"), "{reason}");
    site.assert_sound(&[job.job()], [daemon]);
}
