//! No setting of a role or database changes values, names or plans.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::assert_exact;
use crate::support::{Database, Site};

/// Session settings that decide how texts, names and literals are read or written, or which rows are found.
/// Each has an unusual value.
const SETTINGS: [(&str, &str); 28] = [
    ("TimeZone", "Asia/Kathmandu"),
    ("timezone_abbreviations", "Australia"),
    ("DateStyle", "SQL, DMY"),
    ("IntervalStyle", "sql_standard"),
    ("extra_float_digits", "-10"),
    ("bytea_output", "escape"),
    ("xmlbinary", "hex"),
    ("xmloption", "document"),
    ("lc_numeric", "C.UTF-8"),
    ("lc_time", "C.UTF-8"),
    ("lc_monetary", "C.UTF-8"),
    ("quote_all_identifiers", "on"),
    ("array_nulls", "off"),
    ("backslash_quote", "off"),
    ("standard_conforming_strings", "off"),
    ("escape_string_warning", "on"),
    ("transform_null_equals", "on"),
    ("gin_fuzzy_search_limit", "1"),
    ("client_encoding", "LATIN1"),
    ("row_security", "on"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_deferrable", "on"),
    ("constraint_exclusion", "on"),
    ("synchronize_seqscans", "on"),
    ("enable_seqscan", "off"),
    ("enable_partition_pruning", "off"),
    ("default_statistics_target", "1"),
    ("work_mem", "64"),
];

/// Values whose text depends on such a setting, in a table and in a view that computes some of them.
/// Autovacuum is off, because the database's `default_statistics_target` would change the histogram, and with
/// it the bounds of chunks.
const SETUP: &str = "
    CREATE SCHEMA \"Odd Schema\"; GRANT USAGE ON SCHEMA \"Odd Schema\" TO PUBLIC;
    CREATE TYPE \"Odd Schema\".mood AS ENUM ('sad', 'ok'); CREATE DOMAIN count_of AS int;
    CREATE TABLE t (id int PRIMARY KEY, class regclass, kind regtype, f regprocedure, at timestamptz, hour timetz,
                    long interval, real8 float8, bytes bytea, n numeric, whole numeric(9,2), m \"Odd Schema\".mood,
                    c count_of, list regclass[], x xml, addresses inet[], pair point, span tstzrange, nothing text,
                    said text, i int, price money) WITH (autovacuum_enabled = off);
    INSERT INTO t SELECT g, 'pg_class', 'int4', 'pg_catalog.lower(text)', timestamptz '2026-01-31 23:00+00' + g * interval '1 h',
        '12:00+05', interval '-1 month 2 days 03:00:00.5', 1.0 / g, decode('00ff41', 'hex'), g / 7.0, g / 8.0, 'sad', g,
        ARRAY['pg_class', NULL]::regclass[], '<a>1</a><b/>', ARRAY['10.0.0.1', NULL]::inet[], point(1.0 / g, 2),
        tstzrange('2026-01-01', '2026-02-01'), CASE g % 3 WHEN 0 THEN NULL ELSE 'x' END, 'it''s \\ ä', g % 5, g
        FROM generate_series(1, 3000) g;
    CREATE VIEW v AS SELECT id, xmlelement(name a, bytes) AS x, at::text AS at, real8::text AS r, bytes::text AS b,
        long::text AS l, class::text AS c, to_char(at, 'TMMonth TMDay') AS said, to_char(n, 'S99D99') AS n,
        (ARRAY['NULL', NULL])::text AS a, '{NULL}'::text[] AS read FROM t;
    ANALYZE t";

/// Exports, and returns what archive and plan say about the tables.
fn export(site: &Site) -> (Vec<String>, Value) {
    let daemon = site.daemon();
    let split = json!({"table": "public.t", "strategy": "range", "chunk_rows": 700});
    let views = json!({"table": "public.v"});
    let done = site.export(json!({"tables": [split, views], "verify": "count"}));
    let filtered = [
        ("at >= '2026-02-03 04:00 EST' AND (nothing = NULL OR said = 'it''s \\ ä')", "at", "26-02-01", None),
        ("long = '-1 month 2 days 03:00:00.5' AND i < 4", "c", "100", Some("10")),
        ("real8 < 0.01 AND i IN (1, 2)", "id", "2000", Some("1000")),
    ];
    let mut told = vec![site.exports.archive(done.job())];
    let mut jobs = vec![done.job().to_owned()];
    for (filter, column, value, overlap) in filtered {
        let mut after = json!({"column": column, "value": value});
        if let Some(overlap) = overlap {
            after["overlap"] = json!(overlap);
        }
        let done = site.export(json!({"tables": [{"table": "public.t", "where": filter, "after": after}]}));
        told.push(site.exports.archive(done.job()));
        jobs.push(done.job().to_owned());
    }
    let facts: Vec<Value> = told
        .iter()
        .flat_map(|archive| archive["tables"].as_array().expect("tables"))
        .map(|t| {
            json!([
                t["table_name"],
                t["rows"],
                t["chunks"],
                t["strategy"],
                t["strategy_reason"],
                t["columns"],
                t["high_water_mark"]
            ])
        })
        .collect();
    daemon.stop();
    (jobs, json!(facts))
}

/// The rows, the schema and the metadata that pyarrow reads in each directory.
fn contents(site: &Site) -> BTreeMap<String, String> {
    let code = "import glob, json, pyarrow.parquet as p\n\
                told = {}\n\
                for f in sorted(glob.glob('*/*.parquet')):\n\
                \x20   t = p.read_table(f)\n\
                \x20   said = str([(c.name, str(c.type), c.metadata) for c in t.schema]) + str(t.to_pylist())\n\
                \x20   told[f.split('/')[0]] = told.get(f.split('/')[0], '') + said\n\
                print(json.dumps(told))";
    let told = crate::support::manual::run_python(code, &site.exports.0);
    serde_json::from_str(&told).expect("JSON")
}

#[test]
fn no_setting_of_role_or_database_changes_values_names_or_plans() {
    let site = Site::new(Database::empty());
    site.db.execute(SETUP);
    let (mut jobs, plain) = export(&site);
    assert_exact(&site.cast_back(&[json!({"relation": "public.t"}), json!({"relation": "public.v"})]), 3000);
    let scopes = ["DATABASE", "ROLE exporter IN DATABASE"];
    for scope in scopes {
        for (name, value) in SETTINGS {
            let (value, db) = (value.replace('\'', "''"), &site.db.name);
            site.db.execute(&format!("ALTER {scope} {db} SET {name} = '{value}'"));
        }
        let (more, odd) = export(&site);
        jobs.extend(more);
        assert_eq!(plain, odd, "{scope}");
    }
    let (contents, exports) = (contents(&site), [("public_t", 4), ("public_v", 1)]);
    assert_eq!(contents.len(), 3 * 5, "{:?}", contents.keys());
    let version = |base: &str, n: usize| if n == 1 { base.to_owned() } else { format!("{base}_v{n}") };
    for (base, each) in exports {
        for (i, scope) in scopes.iter().enumerate() {
            for nth in 1..=each {
                let first = &contents[&version(base, nth)];
                let again = &contents[&version(base, nth + (i + 1) * each)];
                let differ = || (cut(first, again), cut(again, first));
                assert!(first == again, "{scope}: {base} {nth}: {:?}", differ());
            }
        }
    }
    // Daemons that stopped right after a job may have left its workspace in the trash. This daemon empties
    // it.
    let daemon = site.daemon();
    site.assert_sound(&jobs, [daemon]);
}

/// The first difference of a text from another one, with its surroundings.
fn cut(text: &str, other: &str) -> String {
    let same = text.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
    text.chars().skip(same.saturating_sub(60)).take(240).collect()
}
