//! Tables that are read by pages have the rows that COPY sends, whatever their pages hold.

use std::process::Command;

use serde_json::{Value, json};

use super::types::{SETUP, Type, types};
use super::{EDGES, RANDOM_ROWS, arrow, assert_exact, column, create};
use crate::support::{Database, PATIENCE, Site, Slow, eventually, project, said};

/// Types that are taken from pages.
const TAKEN: [&str; 18] = [
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "oid",
    "real",
    "double precision",
    "numeric",
    "text",
    "character",
    "name",
    "bytea",
    "date",
    "time",
    "interval",
    "uuid",
    "json",
    "public.mood",
];

/// Has VACUUM mark all pages of a table. A snapshot of another session may keep it from that for a while.
#[track_caller]
fn vacuum(db: &Database, table: &str) {
    eventually("VACUUM marks all pages", PATIENCE, || {
        db.execute(&format!("VACUUM (ANALYZE) {table}"));
        let unmarked =
            format!("SELECT relpages - relallvisible FROM pg_class WHERE oid = '{table}'::regclass");
        (db.number(&unmarked) == 0).then_some(())
    });
}

/// A site whose database has what pages need; none if the server lacks the extension.
fn site() -> Option<Site> {
    let site = Site::new(Database::empty());
    let has_it = "SELECT count(*) FROM pg_available_extensions WHERE name = 'pageinspect'";
    if site.db.number(has_it) == 0 {
        eprintln!("the server has no pageinspect: nothing is tested");
        return None;
    }
    site.db.execute("CREATE EXTENSION pageinspect");
    Some(site)
}

/// Runs a one-shot export as a superuser. Returns the archive's entry of its first table.
#[track_caller]
fn export(site: &Site, table: &Value) -> Value {
    let request = site.path("request.json");
    std::fs::write(&request, json!({"tables": [table]}).to_string()).expect("write a request");
    let (request, out) = (request.to_string_lossy(), site.exports.0.to_string_lossy());
    let dsn = site.db.admin_dsn();
    let output =
        site.run(&["export", "--quiet", "--json", "--dsn", &dsn, "--request", &request, "--out", &out]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let archive: Value = serde_json::from_slice(&output.stdout).expect("an archive");
    archive["tables"][0].clone()
}

/// The configuration of a daemon that is a superuser.
fn superuser(site: &Site) -> Value {
    let mut config = site.config();
    let warehouse = config["sources"]["warehouse"].as_object_mut().expect("a source");
    warehouse.insert("dsn".into(), json!(site.db.admin_dsn()));
    warehouse.remove("password");
    config
}

fn pages(table: &str) -> Value {
    json!({"table": table, "read": "pages", "chunk_rows": 3000})
}

fn is_taken(ty: &Type) -> bool {
    let (base, _) = ty.pg.split_once('(').unwrap_or((ty.pg, ""));
    TAKEN.iter().any(|taken| base == *taken || base == format!("{taken} varying"))
        || base.starts_with("time") && !base.contains("time with ")
}

#[test]
fn every_type_that_is_taken_from_pages_comes_back_exact() {
    let Some(site) = site() else { return };
    site.db.execute(SETUP);
    let types: Vec<Type> = types(&site.db).into_iter().filter(is_taken).collect();
    assert!(types.len() > 20, "only {} types", types.len());
    site.db.execute(&create("scalars", types.iter().map(|t| (t.pg.to_owned(), column(t)))));
    // Some values have a domain's type.
    site.db.execute(
        "CREATE DOMAIN whole AS integer; ALTER TABLE scalars ADD COLUMN d whole; UPDATE scalars SET d = id",
    );
    site.db.execute("ALTER TABLE scalars SET (fillfactor = 10)");
    site.db.execute("VACUUM FULL scalars");
    vacuum(&site.db, "scalars");
    let table = export(&site, &pages("public.scalars"));
    assert_eq!((&table["strategy"], &table["pages"]["recopied"]), (&json!("ctid"), &json!(0)), "{table}");
    assert!(table["pages"]["read"].as_u64() > Some(1000), "{table}");
    let judged = site.cast_back(&[json!({
        "relation": "public.scalars",
        "arrow": arrow(types.iter().map(|t| t.arrow.into())),
    })]);
    assert_exact(&judged, (EDGES + RANDOM_ROWS) as u64);
}

/// A table whose columns and rows have a history: dropped and added columns, values out of line and compressed,
/// and rows that were updated, deleted, locked and aborted since VACUUM.
const HISTORY: &str = "
    CREATE TABLE history (x text, id bigint, gone bigint, t text, n numeric(10, 3), wide text)
        WITH (fillfactor = 10, autovacuum_enabled = off);
    INSERT INTO history SELECT repeat('x', i % 300), i, i,
        CASE WHEN i % 5 = 0 THEN repeat('compressible', 300) ELSE md5(i::text) END, i / 3.0,
        CASE WHEN i % 999 = 0 THEN (SELECT string_agg(md5((i + k)::text), '') FROM generate_series(1, 300) k) END
        FROM generate_series(1, 8000) i;
    ALTER TABLE history DROP COLUMN gone;
    ALTER TABLE history ADD COLUMN later text, ADD COLUMN filled integer DEFAULT 42;
    INSERT INTO history (id, later) SELECT i, 'later ' || i FROM generate_series(8001, 20000) i;
    DELETE FROM history WHERE id % 11 = 0";

#[test]
fn rows_that_pages_do_not_show_are_read_by_copy() {
    let Some(site) = site() else { return };
    site.db.execute(HISTORY);
    vacuum(&site.db, "history");
    for sql in [
        "UPDATE history SET t = 'updated' WHERE id % 500 = 0",
        "BEGIN; UPDATE history SET t = 'never' WHERE id % 700 = 0; ROLLBACK",
        "BEGIN; SELECT FROM history WHERE id % 900 = 0 FOR SHARE; COMMIT",
        "INSERT INTO history (id) SELECT i FROM generate_series(20001, 20100) i",
    ] {
        site.db.execute(sql);
    }
    // The rows that are older than `filled` have its value in the catalogue: most of their chunk is read by COPY.
    let table = export(&site, &pages("public.history"));
    let (read, recopied) = (table["pages"]["read"].as_u64(), table["pages"]["recopied"].as_u64());
    assert!(read > Some(100) && recopied > Some(500), "{table}");
    site.assert_equal(&[("SELECT * FROM history", "public_history")]);

    // Without the list, and without a look at the page's mark, the comparison would notice.
    for (point, columns) in [("mid:copy:listed", "id, t, later"), ("mid:look:visible", "id, t")] {
        let only: Vec<&str> = columns.split(", ").collect();
        let table = json!({"table": "public.history", "read": "pages", "columns": only, "chunk_rows": 3000});
        let point = format!("{point}=return(error)");
        let daemon = site.spawn_in(&superuser(&site), &[("FAILPOINTS", point.as_str())]).ready();
        let job = site.export(json!({"tables": [table]}));
        let archive = site.exports.archive(job.job());
        let directory = archive["tables"][0]["directory"].as_str().expect("a directory");
        let query = format!("SELECT {columns} FROM history");
        assert!(!site.differences(&[(&query, directory)]).is_empty(), "{point}: {archive}");
        drop(daemon);
    }
}

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
    // Only who asks for pages gets them.
    for table in [
        json!({"table": "public.plain", "chunk_rows": 3000}),
        json!({"table": "public.plain", "read": "auto", "chunk_rows": 3000}),
    ] {
        let found = export(&site, &table);
        let reason = found["strategy_reason"].as_str().expect("a reason");
        assert!(found["pages"].is_null() && !reason.contains("by pages"), "{found}");
    }
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

/// Runs a script of `sql/` with psql, as a superuser.
#[track_caller]
fn script(site: &Site, name: &str, variables: &[&str]) {
    let mut psql = Command::new("psql");
    psql.args(["-qX", "-d", &site.db.admin_dsn(), "-f"]).arg(project().join("sql").join(name));
    variables.iter().for_each(|variable| {
        psql.args(["-v", variable]);
    });
    let output = psql.output().expect("run psql");
    assert!(output.status.success(), "{}", said(&output));
}

/// What the role's function answers to each role, and to each table.
#[track_caller]
fn assert_refused(site: &Site, before: &str, call: &str, why: &str) {
    let session = site.db.session();
    let error = session.run(&format!("{before}; SELECT {call}")).expect_err("refused");
    assert!(error.contains(why), "{before}; {call}: {error}");
}

#[test]
fn an_ordinary_role_reads_by_its_function_what_it_may_read_and_nothing_else() {
    let Some(site) = site() else { return };
    // Twice: the script replaces what an older one made.
    script(&site, "page-reader.sql", &["role=exporter"]);
    script(&site, "page-reader.sql", &["role=exporter"]);
    site.db.execute(
        "CREATE TABLE wide (id bigint PRIMARY KEY, t text, n numeric) WITH (fillfactor = 10, autovacuum_enabled = off);
         INSERT INTO wide SELECT i, repeat(md5(i::text), i % 20), i / 7.0 FROM generate_series(1, 12000) i",
    );
    vacuum(&site.db, "wide");
    site.db.execute("UPDATE wide SET n = -n WHERE id % 1000 = 0");
    let daemon = site.daemon();
    let job = site.export(json!({"tables": [pages("public.wide")]}));
    let archive = site.exports.archive(job.job());
    let table = &archive["tables"][0];
    let counts = (table["pages"]["read"].as_u64(), table["pages"]["recopied"].as_u64());
    assert!(counts.0 > Some(1000) && counts.1 >= Some(12), "{table}");
    site.assert_equal(&[("SELECT * FROM wide", "public_wide")]);

    // A dropped column: the function refuses, so the plan says COPY.
    site.db.execute("ALTER TABLE wide DROP COLUMN n");
    let copied = site.export(json!({"tables": [pages("public.wide")]}));
    let reason = site.exports.archive(copied.job())["tables"][0]["strategy_reason"].to_string();
    assert!(reason.contains("it has a dropped column"), "{reason}");
    site.assert_sound(&[job.job(), copied.job()], [daemon]);

    site.db.execute(
        "CREATE TABLE plain (id bigint); INSERT INTO plain VALUES (1); GRANT SELECT ON plain TO exporter;
         CREATE TABLE secret (LIKE plain); REVOKE ALL ON secret FROM exporter, PUBLIC;
         CREATE TABLE partly (a int, b int); REVOKE ALL ON partly FROM exporter, PUBLIC;
         GRANT SELECT (a) ON partly TO exporter;
         CREATE TABLE guarded (LIKE plain); GRANT SELECT ON guarded TO exporter;
         ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
         CREATE VIEW seen AS SELECT * FROM plain; GRANT SELECT ON seen TO exporter;
         DROP ROLE IF EXISTS stranger; CREATE ROLE stranger; GRANT SELECT ON plain TO stranger",
    );
    site.db.execute("VACUUM");
    let call = |table: &str| format!("adu_page_reader.exporter('{table}'::regclass, 0, 1)");
    let us = "SET SESSION AUTHORIZATION exporter";
    site.db.session().run(&format!("{us}; SELECT {}", call("public.plain"))).expect("allowed");
    for table in [
        "public.secret",
        "public.partly",
        "public.guarded",
        "public.seen",
        "public.wide",
        "pg_class",
        "pg_authid",
    ] {
        assert_refused(&site, us, &call(table), "may not be read");
    }
    let temporary = format!("{us}; CREATE TEMP TABLE fleeting AS SELECT 1 AS a");
    assert_refused(&site, &temporary, &call("fleeting"), "may not be read");
    for other in ["SET SESSION AUTHORIZATION stranger", "SET ROLE stranger"] {
        assert_refused(&site, other, &call("public.plain"), "permission denied");
    }
    let definer = format!(
        "CREATE OR REPLACE FUNCTION borrowed() RETURNS bytea[] LANGUAGE sql SECURITY DEFINER AS $$ SELECT {} $$; \
         ALTER FUNCTION borrowed() OWNER TO stranger; {us}",
        call("public.plain")
    );
    assert_refused(&site, &definer, "borrowed()", "permission denied");
    assert_refused(&site, us, "adu_page_reader.exporter('plain'::regclass, 0, 65)", "1 to 64 pages");
    // ANALYZE by a superuser, as by autovacuum, runs functions of an index as the table's owner.
    let peek = |body: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION lent.peek(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS \
             $$ BEGIN {body} RETURN $1; END $$"
        )
    };
    site.db.execute(&format!(
        "CREATE SCHEMA lent; GRANT ALL ON SCHEMA lent TO stranger; SET ROLE stranger; {}; CREATE TABLE lent.t (a int); \
         INSERT INTO lent.t VALUES (1); CREATE INDEX ON lent.t (lent.peek(a)); {}; RESET ROLE",
        peek(""),
        peek(&format!("PERFORM {};", call("public.plain")))
    ));
    let error = site.db.session().run("ANALYZE lent.t").expect_err("refused");
    assert!(error.contains("permission denied"), "{error}");

    // What changes after the caller's snapshot counts too.
    for (table, change) in [
        ("grown", "ALTER TABLE grown ENABLE ROW LEVEL SECURITY"),
        ("shrunk", "ALTER TABLE shrunk DROP COLUMN b"),
        ("taken", "REVOKE SELECT ON taken FROM exporter, PUBLIC"),
    ] {
        site.db.execute(&format!("CREATE TABLE {table} (a int, b int); GRANT SELECT ON {table} TO exporter"));
        site.db.execute(&format!("INSERT INTO {table} VALUES (1, 2)"));
        site.db.execute(&format!("VACUUM {table}"));
        let session = site.db.session();
        let begin = format!("{us}; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1");
        session.run(&begin).expect("a snapshot");
        site.db.execute(change);
        let error = session.run(&format!("SELECT {}", call(table))).expect_err("refused");
        assert!(error.contains("may not be read"), "{table}: {error}");
    }
    script(&site, "page-reader-remove.sql", &[]);
    assert_refused(&site, us, &call("public.plain"), "does not exist");
}

#[test]
fn a_chunk_whose_schema_was_renamed_meanwhile_is_read_again_by_copy() {
    let db = Database::empty();
    if db.number("SELECT count(*) FROM pg_available_extensions WHERE name = 'pageinspect'") == 0 {
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
