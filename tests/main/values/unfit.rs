//! Values that do not fit their column: nothing changes silently, and nothing fails without an error.

use serde_json::json;

use super::assert_exact;
use crate::support::{Database, Site};

/// A column, its type, a value that fits, and a value that does not.
const ODD: [(&str, &str, &str, &str); 13] = [
    ("square", "int[]", "'{1,2}'", "'{{1,2},{3,4}}'"),
    ("shifted", "text[]", "'{a}'", "'[0:1]={a,b}'"),
    ("nan", "numeric(12,2)", "1.5", "'NaN'"),
    ("nans", "numeric(12,2)[]", "'{1.5}'", "'{NaN,2}'"),
    ("midnight", "time", "'23:59'", "'24:00'"),
    ("late", "timestamp", "'2000-01-01'", "'294276-12-31 23:59:59'"),
    ("late_tz", "timestamptz", "'2000-01-01'", "'294276-12-31 23:59:59+00'"),
    ("pair", "pair", "ROW(1, '{1}', 1)", "ROW(NULL, '{{1}}', NULL)"),
    ("pairs", "pair[]", "'{}'", "ARRAY[ROW(1, NULL, 'NaN')::pair]"),
    ("mixed", "mixed", "ROW('::1', '{::1}', 1)", "ROW('::1', '{{::1},{::2}}', 1)"),
    ("span", "tsrange", "'[2000-01-01,)'", "'[294276-12-31,)'"),
    ("spans", "tsmultirange", "'{}'", "'{[294276-12-31,)}'"),
    ("addresses", "inet[]", "'{::1,NULL}'", "'{{::1},{::2}}'"),
];

fn create_odd() -> String {
    let columns = ODD.map(|(name, ty, ..)| format!("{name} {ty}"));
    let mut sql = format!(
        "CREATE TYPE pair AS (i int, a int[], n numeric(5,2)); CREATE TYPE mixed AS (ip inet, ips inet[], n int);
         CREATE TABLE odd (id bigint PRIMARY KEY, fine int[], {});
         INSERT INTO odd SELECT g, ARRAY[g, NULL] FROM generate_series(1, 5000) g;",
        columns.join(", ")
    );
    for (i, (name, ty, fits, misfits)) in ODD.iter().enumerate() {
        // The values are spread over the table, so that no chunk sees all of them.
        let row = 350 * (i + 1);
        sql += &format!(
            "UPDATE odd SET {name} = CASE id WHEN {row} THEN {misfits}::{ty} ELSE {fits}::{ty} END
             WHERE id IN ({row}, {row} + 1);"
        );
    }
    sql + "ANALYZE odd"
}

#[test]
fn a_column_with_values_that_do_not_fit_becomes_text_and_says_so() {
    let site = Site::new(Database::empty());
    site.db.execute(&create_odd());
    let daemon = site.daemon();
    let table = json!({"table": "public.odd", "strategy": "range", "chunk_rows": 1000});
    let done = site.export(json!({"tables": [table]}));

    let archive = site.exports.archive(done.job());
    let columns = archive["tables"][0]["columns"].as_array().expect("columns");
    for column in columns {
        let name = column["name"].as_str().expect("a name");
        let odd = ODD.iter().any(|(odd, ..)| *odd == name);
        assert_eq!(column["note"].is_string(), odd, "{column}");
        assert_eq!(column["file_type"] == "Utf8", odd, "{column}");
        let note = done.data()["tables"][0]["notes"][name].as_str().unwrap_or_default();
        match ODD.iter().position(|(odd, ..)| *odd == name) {
            Some(i) => assert!(note.ends_with(&format!("first at id = {}", 350 * (i + 1))), "{name}: {note}"),
            None => assert_eq!(note, "", "{name}"),
        }
    }
    assert!(archive["tables"][0]["epoch"].as_u64().expect("an epoch") > 1);
    assert_exact(&site.cast_back(&[json!({"relation": "public.odd"})]), 5000);
    site.assert_sound(&[done.job()], [daemon]);
}

#[test]
fn values_that_do_not_fit_are_null_or_an_error_where_asked_for() {
    let site = Site::new(Database::empty());
    site.db.execute(
        "CREATE TABLE odd AS SELECT g AS id, (CASE WHEN g = 7 THEN 'NaN'::numeric ELSE g END)::numeric(12,2) AS n,
            ARRAY[g]::int[] AS a FROM generate_series(1, 20) g;
         UPDATE odd SET a = '{{1}}' WHERE id = 9",
    );
    let daemon = site.daemon();
    let nulls = site.export(json!({"tables": ["public.odd"], "on_unfit": "null"}));
    site.db.execute(
        "CREATE TABLE with_nulls AS TABLE odd; UPDATE with_nulls SET n = NULL WHERE id = 7;
                     UPDATE with_nulls SET a = NULL WHERE id = 9",
    );
    site.assert_equal(&[("SELECT * FROM with_nulls", "public_odd")]);
    let job = site.request(json!({"tables": ["public.odd"], "on_unfit": "error"}));
    let last = site.broker.events.wait_final(&job, crate::support::PATIENCE);
    assert_eq!(last.kind(), "job.failed", "{}", last.body);
    let error = last.data()["tables"][0]["error"].to_string();
    for word in ["unfit_value", "NaN, first at row 7 of its chunk", "dimension", "on_unfit"] {
        assert!(error.contains(word), "{word}: {error}");
    }
    site.assert_sound(&[nulls.job(), &job], [daemon]);
}

#[test]
fn infinity_is_the_extreme_null_or_text() {
    let site = Site::new(Database::empty());
    site.db.execute(
        "CREATE TYPE day AS (d date);
         CREATE TABLE ends (id int PRIMARY KEY, d date NOT NULL, ts timestamp, tz timestamptz[], r daterange, c day,
                            fine date);
         INSERT INTO ends VALUES (1, 'infinity', '-infinity', '{infinity,2000-01-01}', '[2000-01-01,infinity]',
                                  ROW('-infinity'), '2000-01-01'),
                                 (2, '2000-01-01', '2000-01-01', '{}', '(,)', ROW('2000-01-01'), NULL);
         CREATE TABLE infinities (d date, ts timestamp, tz timestamptz);
         INSERT INTO infinities VALUES ('infinity', 'infinity', 'infinity'), ('-infinity', '-infinity', '-infinity'),
                                 ('2000-01-01', '2000-01-01', '2000-01-01'), (NULL, NULL, NULL)",
    );
    let daemon = site.daemon();
    let with =
        |infinity: &str| site.export(json!({"tables": [{"table": "public.ends", "infinity": infinity}]}));
    let max = with("max");
    assert_exact(&site.cast_back(&[json!({"relation": "public.ends"})]), 2);
    // DuckDB has infinities of its own. They are equal to the server's.
    let both = site.export(json!({"tables": ["public.infinities"]}));
    site.assert_equal(&[("SELECT * FROM infinities", "public_infinities")]);
    let text = with("text");
    let files = json!(site.exports.path("public_ends_v2"));
    assert_exact(&site.cast_back(&[json!({"relation": "public.ends", "files": files})]), 2);
    let notes = text.data()["tables"][0]["notes"].clone();
    for name in ["d", "ts", "tz", "r", "c"] {
        assert!(notes[name].as_str().is_some_and(|n| n.contains("infinite")), "{name}: {notes}");
    }
    assert!(notes["fine"].is_null(), "{notes}");

    let null = with("null");
    site.db.execute(
        "ALTER TABLE ends ALTER d DROP NOT NULL; UPDATE ends SET d = NULL, ts = NULL, tz = '{NULL,2000-01-01}',
            r = '[2000-01-01,]', c = ROW(NULL) WHERE id = 1",
    );
    let files = json!(site.exports.path("public_ends_v3"));
    let judged = site.cast_back(&[json!({"relation": "public.ends", "files": files})]);
    let [ends] = &judged[..] else { panic!("one table") };
    // An upper bound that is NULL is infinite, and the server does not keep its bracket.
    assert!(ends.differences.iter().skip(1).all(|d| d.contains("column r ")), "{ends:?}");
    site.assert_sound(&[max.job(), both.job(), text.job(), null.job()], [daemon]);
}
