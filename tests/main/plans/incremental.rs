//! Incremental exports: newer rows, and rows that were committed late.

use serde_json::{Value, json};

use crate::support::{Database, Site};

/// Exports newer rows. Returns directory and high-water mark, which event and archive agree on.
fn newer(site: &Site, after: Value) -> (String, String) {
    let done = site.export(json!({"tables": [{"table": "public.log", "after": after, "chunk_rows": 500}]}));
    let table = &site.exports.archive(done.job())["tables"][0];
    let told = &done.data()["tables"][0];
    assert_eq!(told["high_water_mark"], table["high_water_mark"], "event and archive agree");
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no text in {table}")).to_owned();
    (text(&table["directory"]), text(&table["high_water_mark"]))
}

#[test]
fn what_is_newer_is_exported_and_what_was_committed_late_comes_with_an_overlap() {
    let site = Site::new(Database::empty());
    site.db.execute(
        "CREATE TABLE log (id int PRIMARY KEY, at timestamptz NOT NULL, day date, n numeric(9,1));
         CREATE INDEX ON log (at);
         INSERT INTO log SELECT g, timestamptz '2026-01-01 00:00+00' + g * interval '1 s', date '2026-01-01' + g / 100, g
            FROM generate_series(1, 2000) g WHERE g NOT BETWEEN 1950 AND 1960;",
    );
    let daemon = site.daemon();
    let (mut jobs, mut made) = (0, 0);
    let mut assert_newer = |after: Value, rows: &str, mark: &str| {
        let (directory, found) = newer(&site, after);
        site.assert_equal(&[(&format!("SELECT * FROM log WHERE {rows}"), &directory)]);
        assert_eq!(found, mark, "{rows}");
        jobs += 1;
    };
    assert_newer(json!({"column": "id", "value": "0"}), "true", "2000");

    // These rows took their numbers before the last export but are committed only now.
    site.db.execute(
        "INSERT INTO log SELECT g, timestamptz '2026-01-01 00:00+00' + g * interval '1 s', date '2026-01-01' + g / 100, g
            FROM generate_series(1950, 1960) g;
         INSERT INTO log SELECT g, timestamptz '2026-01-01 00:00+00' + g * interval '1 s', date '2026-01-01' + g / 100, g
            FROM generate_series(2001, 2010) g;",
    );
    assert_newer(json!({"column": "id", "value": "2000"}), "id > 2000", "2010");
    assert_newer(json!({"column": "id", "value": "2000", "overlap": "60"}), "id > 1940", "2010");
    assert_newer(json!({"column": "n", "value": "2000.0", "overlap": "50.5"}), "n > 1949.5", "2010.0");
    let at = "2026-01-01 00:33:20+00";
    assert_newer(
        json!({"column": "at", "value": at, "overlap": "1 minute"}),
        "at > timestamptz '2026-01-01 00:32:20+00'",
        "2026-01-01 00:33:30+00",
    );
    assert_newer(
        json!({"column": "day", "value": "2026-01-21", "overlap": "1 day"}),
        "day > '2026-01-20'",
        "2026-01-21",
    );

    // No value is newer than infinity, so such a row is exported but does not become the mark.
    site.db.execute("INSERT INTO log VALUES (2011, 'infinity', '2026-01-01', 0)");
    assert_newer(
        json!({"column": "at", "value": at}),
        &format!("at > timestamptz '{at}'"),
        "2026-01-01 00:33:30+00",
    );
    site.db.execute("DELETE FROM log WHERE id = 2011");

    // Without newer rows the mark stays, even if older rows are exported again.
    assert_newer(json!({"column": "id", "value": "3000", "overlap": "995"}), "id > 2005", "3000");

    // Domains work like their base types, and every type that can be subtracted has overlaps.
    site.db.execute(
        "CREATE DOMAIN dd AS int; CREATE DOMAIN ddd AS dd; CREATE DOMAIN dn AS numeric(9,1); CREATE DOMAIN da AS timestamptz;
         CREATE DOMAIN dday AS date; CREATE DOMAIN df AS float8;
         CREATE TABLE made AS SELECT id, id::dd AS dd, id::ddd AS ddd, n::dn AS dn, at::da AS da, day::dday AS dday,
            id::df AS df, id::float4 AS f4, id::float8 / 8 AS f8, id::smallint AS i2, id::bigint AS i8,
            id * interval '1 hour' AS long, id::money AS price, at::timestamp AS local FROM log;
         ALTER TABLE made ADD PRIMARY KEY (ddd); ANALYZE made",
    );
    let mut pairs = Vec::new();
    for (column, value, overlap, from) in [
        ("dd", "2005", "5", "2000"),
        ("ddd", "2005", "5", "2000"),
        ("dn", "2005.0", "5", "2000"),
        ("da", "2026-01-01 00:33:25+00", "5 s", "2000"),
        ("local", "2026-01-01 00:33:25", "5 s", "2000"),
        ("dday", "2026-01-21", "1 day", "1999"),
        ("df", "2005", "5", "2000"),
        ("f4", "2005", "5", "2000"),
        ("f8", "250.625", "0.625", "2000"),
        ("i2", "2005", "5", "2000"),
        ("i8", "2005", "5", "2000"),
        ("long", "2005:00:00", "5 hours", "2000"),
        ("price", "$2,005.00", "5", "2000"),
    ] {
        let after = json!({"column": column, "value": value, "overlap": overlap});
        let table = json!({"table": "public.made", "columns": ["id", "ddd"], "after": after, "strategy": "range", "chunk_column": "ddd",
                           "chunk_rows": 4});
        let done = site.export(json!({"tables": [table]}));
        let archived = &site.exports.archive(done.job())["tables"][0];
        let directory = archived["directory"].as_str().expect("a directory");
        pairs.push((format!("SELECT id, ddd FROM made WHERE id > {from}"), directory.to_owned()));
        let last = format!("SELECT {column} FROM made WHERE {column} > '{value}' ORDER BY 1 DESC LIMIT 1");
        let mark = site.db.rows(&last).first().map_or(value.to_owned(), |row| row[0].clone());
        assert_eq!(archived["high_water_mark"], mark, "{column}");
        made += 1;
    }
    site.assert_all_equal(&pairs);
    let time = site.request(json!({"tables": [
        {"table": "public.made", "after": {"column": "id", "value": "1", "overlap": "1 hour"}}]}));
    let refused = site.broker.events.wait_final(&time, crate::support::PATIENCE);
    assert!(refused.body.to_string().contains("check field `after`"), "{}", refused.body);

    for (overlap, why) in [("a while", "check field `after`"), ("-1 hour", "below zero")] {
        let refused = site.request(json!({"tables": [
            {"table": "public.log", "after": {"column": "at", "value": at, "overlap": overlap}}]}));
        let last = site.broker.events.wait_final(&refused, crate::support::PATIENCE);
        assert_eq!(last.kind(), "job.failed", "{}", last.body);
        let said = last.body.to_string();
        assert!(said.contains(why) && said.contains(overlap), "{said}");
    }
    let archives = site.exports.archives();
    assert_eq!(archives.len(), jobs + made + 3);
    let jobs: Vec<&str> = archives.iter().map(|a| a["job_id"].as_str().expect("an id")).collect();
    site.assert_sound(&jobs, [daemon]);
}

/// Ways to split a table, and whether they also work for relations without pages.
fn splits() -> Vec<(Value, bool)> {
    vec![
        (json!({"strategy": "single"}), true),
        (json!({"chunk_rows": 150}), true),
        (json!({"strategy": "range", "chunk_column": "at", "chunk_rows": 150}), true),
        (json!({"strategy": "range", "chunk_column": "id", "chunk_rows": 150}), true),
        (json!({"strategy": "ctid", "chunk_rows": 150}), false),
    ]
}

#[test]
fn rows_without_a_value_are_left_out_come_with_every_increment_or_fail_the_table_as_asked_for() {
    let site = Site::new(Database::empty());
    site.db.execute(
        "CREATE TABLE log (id int PRIMARY KEY, at timestamptz, kind text, pad text);
         INSERT INTO log SELECT g, CASE WHEN g % 10 > 0 THEN timestamptz '2026-01-01 00:00+00' + g * interval '1 min' END,
                CASE WHEN g % 20 = 0 THEN 'open' ELSE 'done' END, repeat('x', 50) FROM generate_series(1, 2000) g;
         CREATE INDEX ON log (at);
         CREATE TABLE log_parts (LIKE log) PARTITION BY HASH (id);
         CREATE TABLE log_parts_0 PARTITION OF log_parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE log_parts_1 PARTITION OF log_parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         INSERT INTO log_parts SELECT * FROM log; ALTER TABLE log_parts ADD PRIMARY KEY (id);
         CREATE VIEW log_seen AS SELECT * FROM log;
         CREATE MATERIALIZED VIEW log_kept AS SELECT * FROM log;
         CREATE TABLE log_full (LIKE log INCLUDING ALL); INSERT INTO log_full SELECT * FROM log WHERE at IS NOT NULL;
         ALTER TABLE log_full ALTER at SET NOT NULL;
         ANALYZE",
    );
    let daemon = site.daemon();
    let value = "2026-01-01 20:00:00+00";
    let newer = format!("at > timestamptz '{value}'");
    let entry = |relation: &str, split: &Value, nulls: &str, filter: &str| {
        let mut entry = split.clone();
        entry["table"] = json!(format!("public.{relation}"));
        entry["after"] = json!({"column": "at", "value": value, "nulls": nulls});
        entry["where"] = json!(filter);
        entry
    };
    let relations = ["log", "log_kept", "log_parts", "log_seen"];
    let mut jobs: Vec<String> = Vec::new();
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (split, all) in splits() {
        let relations = if all { &relations[..] } else { &relations[..2] };
        for (nulls, rows, word) in [
            ("skip", newer.clone(), "are in no increment"),
            ("include", format!("({newer} OR at IS NULL)"), "come with every increment"),
        ] {
            let tables: Vec<Value> =
                relations.iter().map(|r| entry(r, &split, nulls, "kind <> 'open'")).collect();
            let done = site.export(json!({"tables": tables, "verify": "count"}));
            let archive = site.exports.archive(done.job());
            for (table, relation) in archive["tables"].as_array().expect("tables").iter().zip(relations) {
                let note = table["note"].as_str().unwrap_or_default();
                assert!(note.contains("`at`") && note.contains(word), "{split}, {nulls}: {table}");
                assert_eq!(table["high_water_mark"], "2026-01-02 09:19:00+00", "NULL is no mark: {table}");
                let told = done.data()["tables"].as_array().expect("tables");
                assert!(
                    told.iter().any(|t| t["table"] == table["table_name"] && t["note"] == note),
                    "{}",
                    done.body
                );
                let directory = table["directory"].as_str().expect("a directory").to_owned();
                pairs.push((format!("SELECT * FROM {relation} WHERE {rows} AND kind <> 'open'"), directory));
            }
            jobs.push(done.job().to_owned());
        }
    }

    // Rows that the filter excludes do not matter. Rows that it includes make the table fail.
    let of =
        |filter: &str| -> Value { relations.iter().map(|r| entry(r, &json!({}), "error", filter)).collect() };
    let none = site.export(json!({"tables": of("at IS NOT NULL")}));
    for (table, relation) in
        site.exports.archive(none.job())["tables"].as_array().expect("tables").iter().zip(relations)
    {
        assert!(table.get("note").is_none(), "{table}");
        let directory = table["directory"].as_str().expect("a directory").to_owned();
        pairs.push((format!("SELECT * FROM {relation} WHERE {newer}"), directory));
    }
    jobs.push(none.job().to_owned());
    site.assert_all_equal(&pairs);
    let config = site.write("verify.toml", &site.config());
    for job in &jobs {
        let done = site.run(&["verify", job, "--config", &config, "--against-source"]);
        assert!(done.status.success(), "{job}: {}", crate::support::said(&done));
    }

    let some = site.request(json!({"tables": of("id > 1900")}));
    let again = |job: &str| {
        let last = site.broker.events.wait_final(job, crate::support::PATIENCE);
        assert_eq!(last.kind(), "job.failed", "{}", last.body);
        let said = last.body.to_string();
        for relation in relations {
            let word = format!("table public.{relation} has 10 rows without a value in column `at`");
            assert!(
                said.contains(&word) && said.contains("after_nulls") && said.contains("include"),
                "{word}: {said}"
            );
        }
    };
    again(&some);
    // A retry makes the same request.
    let retried = site.retry(&some);
    again(&retried);
    jobs.extend([some, retried]);

    // A column that cannot be NULL needs no note.
    for nulls in ["skip", "include", "error"] {
        let options = json!({"strategy": "range", "chunk_column": "at", "chunk_rows": 200});
        let done = site.export(json!({"tables": [entry("log_full", &options, nulls, "true")]}));
        let told = &done.data()["tables"][0];
        assert!(told.get("note").is_none() && told["files"].as_u64() > Some(1), "{told}");
        jobs.push(done.job().to_owned());
    }
    site.assert_sound(&jobs, [daemon]);
}

#[test]
fn a_mark_is_the_next_value_whatever_its_type() {
    let site = Site::new(Database::empty());
    site.db.execute(
        "CREATE TYPE mood AS ENUM ('low', 'now', 'high'); CREATE DOMAIN \"Mood\" AS mood; CREATE DOMAIN moods AS \"Mood\";
         CREATE TABLE marked AS SELECT g AS id, m, m::\"Mood\" AS d, m::moods AS dd, w AS t, w::varchar AS v, w::name AS n
             FROM (SELECT g, (enum_range(NULL::mood))[g] AS m, (ARRAY['a', 'now', 'yesterday'])[g] AS w
                   FROM generate_series(1, 3) g) q;
         CREATE VIEW marked_seen AS SELECT * FROM marked",
    );
    let daemon = site.daemon();
    let mut jobs = Vec::new();
    for relation in ["marked", "marked_seen"] {
        for (column, values) in [
            ("m", ["low", "now", "high"]),
            ("d", ["low", "now", "high"]),
            ("dd", ["low", "now", "high"]),
            ("t", ["a", "now", "yesterday"]),
            ("v", ["a", "now", "yesterday"]),
            ("n", ["a", "now", "yesterday"]),
        ] {
            for (rows, value) in [2, 1, 0].into_iter().zip(values) {
                let after = json!({"column": column, "value": value});
                let done =
                    site.export(json!({"tables": [{"table": format!("public.{relation}"), "after": after}]}));
                let table = site.exports.archive(done.job())["tables"][0].clone();
                assert_eq!(table["rows"], rows, "{column} after {value}: {table}");
                assert_eq!(table["high_water_mark"], values[2], "{column} after {value}: {table}");
                jobs.push(done.job().to_owned());
            }
        }
    }
    let jobs: Vec<&str> = jobs.iter().map(String::as_str).collect();
    site.assert_sound(&jobs, [daemon]);
}
