//! Every kind of relation, by every way to read: exact, and one directory per root.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::scene::{Scene, WAYS};
use crate::support::{Database, said};

const SETUP: &str = r#"
    CREATE SCHEMA k; GRANT USAGE ON SCHEMA k TO exporter;
    CREATE TABLE k.heap (id int, v text, n numeric(12,2)) DISTRIBUTED BY (id);
    CREATE TABLE k.ao_row (id int, v text) WITH (appendonly = true) DISTRIBUTED BY (id);
    CREATE TABLE k.ao_column (id int, v text) WITH (appendonly = true, orientation = column) DISTRIBUTED BY (id);
    CREATE TABLE k.random (id int, v text) DISTRIBUTED RANDOMLY;
    CREATE TABLE k.replicated (id int, v text) DISTRIBUTED REPLICATED;
    CREATE TABLE k."Quoted ""Name" (id int, "V w" text) DISTRIBUTED BY (id);
    CREATE TABLE k.by_range (id int, d date, v text) DISTRIBUTED BY (id)
      PARTITION BY RANGE (d) (START (date '2020-01-01') END (date '2020-07-01') EVERY (interval '1 month'),
                              DEFAULT PARTITION rest);
    CREATE TABLE k.by_list (id int, kind text, d date, v text) WITH (appendonly = true, orientation = column)
      DISTRIBUTED BY (id) PARTITION BY LIST (kind) SUBPARTITION BY RANGE (d)
      SUBPARTITION TEMPLATE (START (date '2020-01-01') END (date '2020-03-01') EVERY (interval '1 month'),
                             DEFAULT SUBPARTITION later)
      (PARTITION a VALUES ('a'), PARTITION b VALUES ('b', 'c'), DEFAULT PARTITION other);
    CREATE TABLE k.mixed (id int, y int, v text) DISTRIBUTED BY (id) PARTITION BY RANGE (y)
      (PARTITION heap START (0) END (1), PARTITION rows START (1) END (2) WITH (appendonly = true),
       PARTITION cols START (2) END (3) WITH (appendonly = true, orientation = column));
    CREATE TABLE k.parent (id int, v text) DISTRIBUTED BY (id);
    CREATE TABLE k.child (extra int) INHERITS (k.parent) DISTRIBUTED BY (id);
    CREATE TABLE k.dropped (a int, gone text, id int, v text) DISTRIBUTED BY (id);
    CREATE TABLE k.empty (id int, v text) DISTRIBUTED BY (id);
    INSERT INTO k.heap SELECT g, 'v ' || g, g * 1.5 FROM generate_series(1, 5000) g;
    INSERT INTO k.ao_row SELECT id, v FROM k.heap;
    INSERT INTO k.ao_column SELECT id, v FROM k.heap;
    INSERT INTO k.random SELECT id, v FROM k.heap;
    INSERT INTO k.replicated SELECT id, v FROM k.heap;
    INSERT INTO k."Quoted ""Name" SELECT id, v FROM k.heap;
    INSERT INTO k.by_range
      SELECT id, CASE WHEN id % 100 > 0 THEN date '2020-01-01' + id % 300 END, v FROM k.heap;
    INSERT INTO k.by_list SELECT id, (ARRAY['a', 'b', 'c', 'z', NULL])[1 + id % 5], date '2020-01-01' + id % 100, v
      FROM k.heap;
    INSERT INTO k.mixed SELECT id, id % 3, v FROM k.heap;
    INSERT INTO k.parent SELECT id, v FROM k.heap WHERE id <= 1000;
    INSERT INTO k.child SELECT id, v, 1 FROM k.heap WHERE id > 1000;
    INSERT INTO k.dropped SELECT 1, 'x', id, v FROM k.heap;
    ALTER TABLE k.dropped DROP COLUMN gone;
    ALTER TABLE k.dropped ADD COLUMN late int DEFAULT 7;
    DELETE FROM k.heap WHERE id % 7 = 0;
    DELETE FROM k.ao_row WHERE id % 7 = 0;
    UPDATE k.heap SET v = 'w' WHERE id % 11 = 0;
    UPDATE k.ao_column SET v = 'w' WHERE id % 11 = 0;
    CREATE VIEW k.joined AS SELECT h.id, r.v FROM k.heap h JOIN k.replicated r USING (id);
    CREATE VIEW k.sums AS SELECT id % 10 AS ten, count(*) AS n FROM k.heap GROUP BY 1;
    CREATE MATERIALIZED VIEW k.kept AS SELECT id, v FROM k.heap DISTRIBUTED BY (id);
    CREATE EXTERNAL WEB TABLE k.web (n int, host text)
      EXECUTE 'for i in 1 2 3; do echo "$i,segment $GP_SEGMENT_ID"; done' ON ALL FORMAT 'CSV';
    CREATE EXTERNAL WEB TABLE k.web_on_master (n int) EXECUTE 'seq 1 10' ON MASTER FORMAT 'TEXT';
    CREATE WRITABLE EXTERNAL WEB TABLE k.sink (n int) EXECUTE 'cat > /dev/null' FORMAT 'TEXT';
    ANALYZE;
"#;

/// Tables that every way reads.
const TABLES: [&str; 12] = [
    "heap",
    "ao_row",
    "ao_column",
    "random",
    "replicated",
    r#""Quoted ""Name""#,
    "by_range",
    "by_list",
    "mixed",
    "parent",
    "child",
    "dropped",
];

/// Relations that only a query reads.
const WHOLE: [&str; 5] = ["joined", "sums", "kept", "web", "web_on_master"];

fn directory(way: &str, name: &str) -> String {
    let base = name.replace(r#""Quoted ""Name""#, "Quoted%20%22Name");
    format!("{way}/k_{base}")
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn every_kind_of_relation_is_exact_by_every_way() {
    let scene = Scene::new(SETUP);
    for way in WAYS {
        let tables =
            TABLES.iter().map(|t| json!({"table": format!("k.{t}"), "read": way, "chunk_rows": 1500}));
        let whole = WHOLE.iter().chain(&["empty"]).map(|t| json!(format!("k.{t}")));
        let tables: Vec<Value> = tables.chain(whole).collect();
        scene.export(&json!({"tables": tables, "output": {"directory": way}, "verify": "count"}));
        let names = || TABLES.iter().chain(&WHOLE).chain(&["empty"]);
        let expected: BTreeSet<String> = names().map(|t| directory(way, t)).collect();
        let found = scene.site.exports.directories();
        let found: BTreeSet<String> =
            found.into_iter().filter(|d| d.starts_with(&format!("{way}/"))).collect();
        assert_eq!(found, expected, "one directory per root");
        let pairs: Vec<_> = names().map(|t| (format!("SELECT * FROM k.{t}"), directory(way, t))).collect();
        scene.site.assert_all_equal(&pairs);
        let by_list = scene.site.exports.names(&directory(way, "by_list")).len();
        assert!(by_list > 1, "by_list has {by_list} parts");
    }
    scene.site.assert_one_shots_sound();
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn a_pattern_takes_roots_and_a_leaf_only_by_its_name() {
    let scene = Scene::new(SETUP);
    scene.export(&json!({"tables": ["k.*"], "exclude": ["k.Quoted*"]}));
    let found = scene.site.exports.directories();
    assert!(found.contains("k_by_range") && found.contains("k_by_list"), "{found:?}");
    assert!(!found.iter().any(|d| d.contains("_prt_") || d.contains("sink")), "{found:?}");
    scene.export(&json!({"tables": ["k.by_range_1_prt_rest", {"table": "k.parent", "only": true}],
                         "output": {"directory": "named"}}));
    scene.site.assert_equal(&[
        ("SELECT * FROM k.by_range_1_prt_rest", "named/k_by_range_1_prt_rest"),
        ("SELECT * FROM ONLY k.parent", "named/k_parent"),
    ]);
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn filters_columns_and_strategies_are_those_of_the_request() {
    let scene = Scene::new(SETUP);
    for read in ["query", "retrieve"] {
        let table = |table: &str, where_: &str| json!({"table": table, "read": read, "strategy": "segment", "where": where_, "chunk_rows": 500});
        scene.export(&json!({
            "tables": [
                table("k.heap", "id > 100 AND v <> 'w'"),
                table("k.by_range", "d >= '2020-03-01'"),
                table("k.ao_column", "id % 2 = 0"),
                {"table": "k.mixed", "read": read, "columns": ["v", "id"]},
            ],
            "output": {"directory": read},
        }));
        let equal = [
            ("SELECT * FROM k.heap WHERE id > 100 AND v <> 'w'", "k_heap"),
            ("SELECT * FROM k.by_range WHERE d >= '2020-03-01'", "k_by_range"),
            ("SELECT * FROM k.ao_column WHERE id % 2 = 0", "k_ao_column"),
            ("SELECT v, id FROM k.mixed", "k_mixed"),
        ];
        let equal = equal.map(|(query, files)| (query.to_owned(), format!("{read}/{files}")));
        scene.site.assert_all_equal(&equal);
    }
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn what_cannot_be_is_refused_by_name() {
    let scene = Scene::new(SETUP);
    for (table, words) in [
        (json!({"table": "k.heap", "strategy": "ctid"}), "split by leaf and segment"),
        (json!({"table": "k.heap", "read": "copy", "where": "id > 1"}), "a filter"),
        (json!({"table": "k.joined", "read": "retrieve"}), "a view"),
        (json!({"table": "k.replicated", "strategy": "segment", "read": "query"}), "replicated"),
        (json!("k.sink"), "writable external table"),
    ] {
        let output = scene.try_export(&json!({"tables": [table]}), &[]);
        assert_eq!(output.status.code(), Some(1), "{table}: {}", said(&output));
        assert!(said(&output).contains(words), "{table}: {}", said(&output));
    }
    assert!(scene.site.exports.directories().is_empty());
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn a_database_without_the_extension_is_queried_and_the_plan_says_so() {
    let scene = Scene::of(Database::greenplum(false), SETUP);
    let request = json!({"tables": [{"table": "k.heap", "read": "retrieve"}, {"table": "k.by_list", "read": "retrieve"}]});
    let plan = scene.plan(&request);
    assert!(plan.to_string().contains("no extension gp_parallel_retrieve_cursor"), "{plan}");
    scene.export(&request);
    scene.site.assert_equal(&[("SELECT * FROM k.heap", "k_heap"), ("SELECT * FROM k.by_list", "k_by_list")]);
}
