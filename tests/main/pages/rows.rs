//! Whatever the pages hold, the rows are those of COPY.

use std::fs::File;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use super::{export, export_all, pages, site, superuser, vacuum};
use crate::support::Site;

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

/// Tables whose pages have got where they are in different ways. Each has more than a thousand pages.
const WAYS: [(&str, &str); 12] = [
    ("frozen", "VACUUM FREEZE frozen"),
    (
        "copied",
        "BEGIN; TRUNCATE copied; COPY copied (id) FROM PROGRAM 'seq 12000' WITH (FREEZE); COMMIT; VACUUM copied",
    ),
    (
        "clustered",
        "UPDATE clustered SET t = 'x' || t WHERE id % 9 = 0; CLUSTER clustered USING clustered_pkey",
    ),
    (
        "refilled",
        "BEGIN; TRUNCATE refilled; INSERT INTO refilled (id) SELECT -i FROM generate_series(1, 12000) i; COMMIT",
    ),
    // Aborted updaters leave their numbers on pages that VACUUM marks.
    ("aborted", "BEGIN; UPDATE aborted SET t = 'never' WHERE id % 3 = 0; ROLLBACK; VACUUM aborted"),
    (
        "chained",
        "UPDATE chained SET t = 'x' || t WHERE id % 2 = 0; UPDATE chained SET t = 'y' || t WHERE id % 4 = 0",
    ),
    ("thinned", "DELETE FROM thinned WHERE id % 7 < 5"),
    ("emptied", "DELETE FROM emptied"),
    (
        "reordered",
        "ALTER TABLE reordered DROP COLUMN flag; ALTER TABLE reordered DROP COLUMN small, ADD COLUMN late numeric, \
         ADD COLUMN small text; UPDATE reordered SET late = id / 3.0, small = 's' WHERE id % 5 = 0",
    ),
    ("swapped", "ALTER TABLE swapped RENAME TO swapping; ALTER TABLE swapped_with RENAME TO swapped"),
    (
        "nulls",
        "UPDATE nulls SET t = NULL WHERE id % 2 = 0; UPDATE nulls SET flag = NULL, small = NULL WHERE id % 3 = 0",
    ),
    ("untouched", "SELECT"),
];

#[test]
fn however_pages_were_made_their_rows_are_those_of_copy() {
    let Some(site) = site() else { return };
    let create = |name: &str, from: u32| {
        site.db.execute(&format!(
            "CREATE TABLE {name} (flag boolean DEFAULT true, id bigint PRIMARY KEY, small smallint DEFAULT 7,
                                  t text DEFAULT repeat('t', 60), filler \"char\"[] ) WITH (fillfactor = 10, autovacuum_enabled = off);
             ALTER TABLE {name} DROP COLUMN filler;
             INSERT INTO {name} SELECT i % 3 = 0, i, i % 100, repeat(md5(i::text), i % 4)
                FROM generate_series({from}, {from} + 11999) i"
        ));
    };
    create("swapped_with", 50_000);
    for (name, change) in WAYS {
        create(name, 1);
        vacuum(&site.db, name);
        for sql in change.split("; VACUUM") {
            // VACUUM runs alone.
            let sql = if sql.starts_with(' ') { format!("VACUUM{sql}") } else { sql.to_owned() };
            site.db.execute(&sql);
        }
        vacuum(&site.db, name);
    }
    site.db.execute("CREATE MATERIALIZED VIEW kept AS SELECT * FROM untouched");
    site.db.execute("ALTER MATERIALIZED VIEW kept SET (fillfactor = 10); REFRESH MATERIALIZED VIEW kept");
    site.db.execute(
        "CREATE TABLE parts (LIKE untouched) PARTITION BY LIST (flag);
         CREATE TABLE leaf PARTITION OF parts FOR VALUES IN (true, false) WITH (fillfactor = 10);
         INSERT INTO parts SELECT * FROM untouched;
         CREATE UNLOGGED TABLE unlogged WITH (fillfactor = 10) AS SELECT * FROM untouched",
    );
    let names: Vec<&str> = WAYS.iter().map(|(name, _)| *name).chain(["kept", "leaf", "unlogged"]).collect();
    names[WAYS.len()..].iter().for_each(|name| vacuum(&site.db, name));

    // Two sessions lock the same rows of all tables, so that their xmax is a multixact, and keep them locked.
    let lockers = [site.db.session(), site.db.session()];
    for locker in &lockers {
        locker.run("BEGIN").expect("begins");
        for name in names.iter().filter(|name| **name != "kept") {
            locker.run(&format!("SELECT FROM {name} WHERE id % 10 = 0 FOR KEY SHARE")).expect("locks");
        }
    }
    let tables: Vec<Value> = names.iter().map(|name| pages(&format!("public.{name}"))).collect();
    let archive = export_all(&site, &tables);
    for table in archive["tables"].as_array().expect("tables") {
        let (read, recopied) = (table["pages"]["read"].as_u64(), table["pages"]["recopied"].as_u64());
        let name = table["table_name"].as_str().expect("a name");
        // The column `small` of `reordered` is a text now: nothing of its older rows is known but NULL.
        assert!(read > Some(1000) && recopied < Some(100), "{name}: {table}");
    }
    let pairs: Vec<(String, String)> =
        names.iter().map(|name| (format!("SELECT * FROM {name}"), format!("public_{name}"))).collect();
    site.assert_all_equal(&pairs);
    drop(lockers);
    site.assert_one_shots_sound();
}

/// Bytes of a value that is stored out of line.
const LONG: u32 = 5000;

#[test]
fn a_page_whose_last_row_cannot_be_taken_is_read_by_copy_alone() {
    let Some(site) = site() else { return };
    // Some pages have such a row at their end, and there are pages between two of them.
    site.db.execute(&format!(
        "CREATE TABLE edges (id bigint, filler text, t text) WITH (autovacuum_enabled = off);
         ALTER TABLE edges ALTER filler SET STORAGE PLAIN, ALTER t SET STORAGE EXTERNAL;
         INSERT INTO edges SELECT i, repeat('f', 740), CASE WHEN i % 97 = 0 OR i % 101 = 0 THEN repeat('x', {LONG}) END
            FROM generate_series(1, 13000) i"
    ));
    vacuum(&site.db, "edges");
    let numbers = site.db.rows(&format!(
        "WITH p AS (SELECT (ctid::text::point)[0]::int AS page, max((ctid::text::point)[1]) AS last,
                           max((ctid::text::point)[1]) FILTER (WHERE length(t) = {LONG}) AS long
                    FROM edges GROUP BY 1),
              l AS (SELECT page, last, long, lag(long) OVER w AS before, lead(long) OVER w AS after
                    FROM p WINDOW w AS (ORDER BY page))
         SELECT count(*) FILTER (WHERE last = long), count(*) FILTER (WHERE long IS NULL AND before > 0 AND after > 0),
                count(long), count(*) FROM l"
    ));
    let number = |i: usize| -> u64 { numbers[0][i].parse().expect("a number") };
    assert!(number(0) > 5 && number(1) > 2, "pages of both kinds: {numbers:?}");

    let table = json!({"table": "public.edges", "read": "pages", "strategy": "single"});
    let exported = export(&site, &table);
    let expected = json!({"read": number(3) - number(2), "recopied": number(2)});
    assert_eq!(exported["pages"], expected, "exactly the pages with such a row: {exported}");
    site.assert_equal(&[("SELECT * FROM edges", "public_edges")]);
    // Rows keep the order that they have on disk, and those of the listed pages come last.
    let ids = ids(&site, "public_edges");
    let falls = ids.windows(2).filter(|pair| pair[0] > pair[1]).count();
    assert_eq!((ids.len(), falls), (13_000, 1));
}

/// The column `id` of the only file of a directory, in order.
fn ids(site: &Site, directory: &str) -> Vec<i64> {
    let files = site.exports.names(directory);
    let [file] = files.as_slice() else { panic!("{files:?}") };
    let file = File::open(site.exports.path(directory).join(file)).expect("a part");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").build().expect("reads");
    let column = |batch: RecordBatch| batch["id"].as_primitive::<Int64Type>().values().to_vec();
    reader.flat_map(|batch| column(batch.expect("a batch"))).collect()
}

#[test]
fn a_chunk_that_the_server_would_not_read_by_one_bare_scan_is_read_by_copy() {
    let Some(site) = site() else { return };
    site.db.execute(
        "CREATE TABLE plain WITH (fillfactor = 10) AS SELECT i AS id, md5(i::text) AS t FROM generate_series(1, 20000) i",
    );
    vacuum(&site.db, "plain");
    let mut config = superuser(&site);
    // Without its way to scan ranges of ctid, the server scans the table with a filter.
    config["sources"]["warehouse"]["session"] = json!({"enable_tidscan": "off"});
    let daemon = site.daemon_with(&config);
    let job = site.export(json!({"tables": [pages("public.plain")]}));
    let table = &site.exports.archive(job.job())["tables"][0];
    assert!(table["strategy_reason"].to_string().contains("by pages") && table["pages"].is_null(), "{table}");
    site.assert_equal(&[("SELECT * FROM plain", "public_plain")]);
    site.assert_sound(&[job.job()], [daemon]);
}
