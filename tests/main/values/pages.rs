//! Tables that are read by pages have the rows that COPY sends, whatever their pages hold.

use std::process::Output;

use serde_json::{Value, json};

use super::types::{SETUP, Type, types};
use super::{EDGES, RANDOM_ROWS, arrow, assert_exact, column, create};
use crate::support::{Database, Site, said};

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
fn export(site: &Site, tables: &[Value], env: &[(&str, &str)]) -> Value {
    let output = run(site, tables, env);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let archive: Value = serde_json::from_slice(&output.stdout).expect("an archive");
    archive["tables"][0].clone()
}

fn run(site: &Site, tables: &[Value], env: &[(&str, &str)]) -> Output {
    let request = site.path("request.json");
    std::fs::write(&request, json!({"tables": tables}).to_string()).expect("write a request");
    let (request, out) = (request.to_string_lossy(), site.exports.0.to_string_lossy());
    let dsn = site.db.admin_dsn();
    site.run_in(&["export", "--quiet", "--json", "--dsn", &dsn, "--request", &request, "--out", &out], env)
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
    site.db.execute("VACUUM (ANALYZE) scalars");
    let table = export(&site, &[pages("public.scalars")], &[]);
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
    site.db.execute("VACUUM (ANALYZE) history");
    for sql in [
        "UPDATE history SET t = 'updated' WHERE id % 500 = 0",
        "BEGIN; UPDATE history SET t = 'never' WHERE id % 700 = 0; ROLLBACK",
        "BEGIN; SELECT FROM history WHERE id % 900 = 0 FOR SHARE; COMMIT",
        "INSERT INTO history (id) SELECT i FROM generate_series(20001, 20100) i",
    ] {
        site.db.execute(sql);
    }
    // The rows that are older than `filled` have its value in the catalogue: most of their chunk is read by COPY.
    let table = export(&site, &[pages("public.history")], &[]);
    let (read, recopied) = (table["pages"]["read"].as_u64(), table["pages"]["recopied"].as_u64());
    assert!(read > Some(500) && recopied > Some(500), "{table}");
    site.assert_equal(&[("SELECT * FROM history", "public_history")]);

    // Without the list, and without a look at the page's mark, the comparison would notice.
    for (point, columns) in [("mid:copy:listed", "id, t, later"), ("mid:look:visible", "id, t")] {
        let only: Vec<&str> = columns.split(", ").collect();
        let table = json!({"table": "public.history", "read": "pages", "columns": only, "chunk_rows": 3000});
        let point = format!("{point}=return(error)");
        let table = export(&site, &[table], &[("FAILPOINTS", point.as_str())]);
        let directory = table["directory"].as_str().expect("a directory");
        let query = format!("SELECT {columns} FROM history");
        assert!(!site.differences(&[(&query, directory)]).is_empty(), "{point}: {table}");
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
        let found = export(&site, std::slice::from_ref(&table), &[]);
        let reason = found["strategy_reason"].as_str().unwrap_or_default();
        assert!(reason.contains(why), "{table}: {reason}");
        assert_eq!(found["pages"].is_object(), why == "by pages", "{found}");
    }
    // An ordinary role cannot ask for pages.
    let request = json!({"tables": [pages("public.plain")]});
    let daemon = site.daemon();
    let job = site.export(request);
    let reason = site.exports.archive(job.job())["tables"][0]["strategy_reason"].to_string();
    assert!(reason.contains("the role is no superuser"), "{reason}");
    site.assert_sound(&[job.job()], [daemon]);
}
