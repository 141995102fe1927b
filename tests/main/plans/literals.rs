//! Dates and times in requests have the same meaning for every role.

use serde_json::json;

use crate::support::{Database, EXPORTER, PATIENCE, Site};

#[test]
fn literals_without_a_zone_are_utc_and_iso_whatever_the_role_has_set() {
    let tables = ["t0", "t1", "t2", "t3", "t4", "t5", "t6"];
    let site = Site::new(Database::empty());
    for table in tables {
        site.db.execute(&format!(
            "CREATE TABLE {table} AS SELECT g AS id, timestamptz '2026-02-28 12:00+00' + g * interval '1 h' AS at,
                date '2003-01-31' + g AS d FROM generate_series(1, 60) g",
        ));
    }
    for (setting, value) in
        [("TimeZone", "America/New_York"), ("DateStyle", "SQL, DMY"), ("IntervalStyle", "sql_standard")]
    {
        let name = &site.db.name;
        site.db.execute(&format!("ALTER ROLE {EXPORTER} IN DATABASE {name} SET \"{setting}\" = '{value}'"));
    }
    let daemon = site.daemon();
    // A condition, and its meaning in a session with any time zone.
    let filters = [
        (json!({"where": "at >= '2026-03-01 00:00:00'"}), "at >= timestamptz '2026-03-01 00:00:00+00'"),
        (json!({"where": "at < '2026-03-01'"}), "at < timestamptz '2026-03-01 00:00:00+00'"),
        (json!({"where": "at = '2026-03-01T02:00:00+02:00'"}), "at = timestamptz '2026-03-01 00:00:00+00'"),
        (json!({"where": "d = '2003-02-01'"}), "d = to_date('2003-02-01', 'YYYY-MM-DD')"),
        (json!({"where": "d = '03-02-01'"}), "d = to_date('2003-02-01', 'YYYY-MM-DD')"),
        (
            json!({"where": "at > timestamp '2026-03-01 00:00:00' - interval '-1 2:00:00'"}),
            "at > timestamptz '2026-03-01 22:00:00+00'",
        ),
        (
            json!({"after": {"column": "at", "value": "2026-03-01 05:00:00"}}),
            "at > timestamptz '2026-03-01 05:00:00+00'",
        ),
    ];
    let requested: Vec<_> = tables
        .iter()
        .zip(&filters)
        .map(|(table, (filter, _))| {
            let mut request = filter.clone();
            request["table"] = json!(format!("public.{table}"));
            request
        })
        .collect();
    let done = site.export(json!({"tables": requested}));
    let meant: Vec<(String, String)> = tables
        .iter()
        .zip(&filters)
        .map(|(table, (_, rows))| (format!("SELECT * FROM {table} WHERE {rows}"), format!("public_{table}")))
        .collect();
    site.assert_all_equal(&meant);
    for (query, _) in &meant {
        let rows = query.replacen('*', "count(*)", 1);
        assert!((1..60).contains(&site.db.number(&rows)), "it tells some rows from others: {query}");
    }
    let other = site.request(json!({"tables": [{"table": "public.t0", "where": "d = '13/02/2003'"}]}));
    let end = site.broker.events.wait_final(&other, PATIENCE);
    assert_eq!(end.kind(), "job.failed", "the order of the role is not taken: {}", end.body);
    site.assert_sound(&[done.job(), &other], [daemon]);
}
