//! What is newer than the last time, and what was committed late.

use serde_json::{Value, json};

use crate::support::{Database, Site};

/// Exports what is newer; gives directory and high-water mark of event and archive.
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
    let mut jobs = 0;
    let mut judge = |after: Value, rows: &str, mark: &str| {
        let (directory, found) = newer(&site, after);
        site.assert_equal(&[(&format!("SELECT * FROM log WHERE {rows}"), &directory)]);
        assert_eq!(found, mark, "{rows}");
        jobs += 1;
    };
    judge(json!({"column": "id", "value": "0"}), "true", "2000");

    // These took their numbers before the last export, and are seen only now.
    site.db.execute(
        "INSERT INTO log SELECT g, timestamptz '2026-01-01 00:00+00' + g * interval '1 s', date '2026-01-01' + g / 100, g
            FROM generate_series(1950, 1960) g;
         INSERT INTO log SELECT g, timestamptz '2026-01-01 00:00+00' + g * interval '1 s', date '2026-01-01' + g / 100, g
            FROM generate_series(2001, 2010) g;",
    );
    judge(json!({"column": "id", "value": "2000"}), "id > 2000", "2010");
    judge(json!({"column": "id", "value": "2000", "overlap": "60"}), "id > 1940", "2010");
    judge(json!({"column": "n", "value": "2000.0", "overlap": "50.5"}), "n > 1949.5", "2010.0");
    let at = "2026-01-01 00:33:20+00";
    judge(
        json!({"column": "at", "value": at, "overlap": "1 minute"}),
        "at > timestamptz '2026-01-01 00:32:20+00'",
        "2026-01-01 00:33:30+00",
    );
    judge(
        json!({"column": "day", "value": "2026-01-21", "overlap": "1 day"}),
        "day > '2026-01-20'",
        "2026-01-21",
    );

    // Nothing is newer than what never comes: it is exported, and is no mark.
    site.db.execute("INSERT INTO log VALUES (2011, 'infinity', '2026-01-01', 0)");
    judge(
        json!({"column": "at", "value": at}),
        &format!("at > timestamptz '{at}'"),
        "2026-01-01 00:33:30+00",
    );
    site.db.execute("DELETE FROM log WHERE id = 2011");

    // Nothing new: the mark stays, also where what comes again is older.
    judge(json!({"column": "id", "value": "3000", "overlap": "995"}), "id > 2005", "3000");

    for (overlap, why) in [("a while", "check field `after`"), ("-1 hour", "below zero")] {
        let refused = site.request(json!({"tables": [
            {"table": "public.log", "after": {"column": "at", "value": at, "overlap": overlap}}]}));
        let last = site.broker.events.wait_final(&refused, crate::support::PATIENCE);
        assert_eq!(last.kind(), "job.failed", "{}", last.body);
        let said = last.body.to_string();
        assert!(said.contains(why) && said.contains(overlap), "{said}");
    }
    let archives = site.exports.archives();
    assert_eq!(archives.len(), jobs + 2);
    let jobs: Vec<&str> = archives.iter().map(|a| a["job_id"].as_str().expect("an id")).collect();
    site.assert_sound(&jobs, [daemon]);
}
