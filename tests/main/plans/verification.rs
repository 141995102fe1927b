//! Counts: under the snapshot before a table is published, and in the source afterwards.

use serde_json::json;

use crate::support::{Database, PATIENCE, Site};

#[test]
fn rows_are_counted_under_the_snapshot_and_can_be_counted_again() {
    let site = Site::new(Database::empty());
    site.db.execute(
        "CREATE TABLE log (id int PRIMARY KEY, kind text, filler text);
         INSERT INTO log SELECT g, CASE g % 3 WHEN 0 THEN 'a' ELSE 'b' END, repeat('x', 100)
            FROM generate_series(1, 5000) g;
         ANALYZE log;",
    );
    let daemon = site.daemon();
    let config = site.write("client.toml", &site.config());
    let done = site.export(json!({
        "tables": [{"table": "public.log", "where": "kind = 'a'", "after": {"column": "id", "value": "1000"},
                    "columns": ["id", "kind"], "chunk_rows": 500}],
        "verify": "count",
    }));
    let plan: serde_json::Value = site.exports.archive(done.job());
    assert_eq!(plan["tables"][0]["rows"], 1333, "{plan}");
    site.assert_equal(&[("SELECT id, kind FROM log WHERE kind = 'a' AND id > 1000", "public_log")]);

    let verify = || {
        let output = site.run(&["verify", "--against-source", "--json", "--config", &config, done.job()]);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (output.status.code(), json["tables"][0].clone())
    };
    site.db.execute("INSERT INTO log VALUES (6001, 'b', ''), (0, 'a', '')");
    let (code, table) = verify();
    assert_eq!(
        (code, &table["source_rows"]),
        (Some(0), &json!(1333)),
        "the others were not asked for: {table}"
    );
    site.db.execute("INSERT INTO log VALUES (6003, 'a', '')");
    let (code, table) = verify();
    assert_eq!((code, &table["source_rows"]), (Some(1), &json!(1334)), "{table}");
    assert!(
        table["problems"][0].as_str().is_some_and(|p| p.contains("the source has 1334 rows now")),
        "{table}"
    );
    site.assert_sound(&[done.job()], [daemon]);
}

#[test]
fn a_table_whose_rows_are_not_those_that_were_counted_is_not_published() {
    let site = Site::new(Database::empty());
    // A view whose number of rows changes with every millisecond, whatever the snapshot.
    site.db.execute(
        "CREATE VIEW moody AS SELECT g AS id FROM generate_series(
            1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint % 50000) g;
         CREATE TABLE steady AS SELECT 1 AS id;",
    );
    let daemon = site.daemon();
    let job = site.request(json!({"tables": ["public.moody", "public.steady"], "verify": "count"}));
    let last = site.broker.events.wait_final(&job, PATIENCE);
    assert_eq!(last.kind(), "job.partial", "{}", last.body);
    let text = last.body.to_string();
    assert!(text.contains("count_mismatch") && text.contains("count(*) under the same snapshot"), "{text}");
    assert_eq!(site.exports.directories(), ["public_steady".to_owned()].into());
    site.assert_sound(&[&job], [daemon]);
}
