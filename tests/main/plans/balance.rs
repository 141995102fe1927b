//! Chunks have about equal numbers of rows, even if keys are not evenly spread.

use serde_json::{Value, json};

use crate::support::{Daemon, Database, PATIENCE, Site, eventually};

const ROWS: u64 = 600_000;

/// A table in the order of its key, where nine in ten keys lie in a hundredth of the range. Statistics are
/// never collected automatically.
fn skewed() -> Database {
    let db = Database::empty();
    db.execute(&format!(
        "CREATE TABLE skewed (id bigint, n numeric(20,2), d date, t timestamptz, u uuid, s text COLLATE \"C\", common int,
                              filler text, PRIMARY KEY (id)) WITH (autovacuum_enabled = off);
         INSERT INTO skewed
            SELECT k, k / 100.0, date '2000-01-01' + (k / 1000)::int, timestamptz '2000-01-01' + k * interval '1 s',
                   lpad(to_hex(k), 32, '0')::uuid, to_char(k, 'FM0000000000'), CASE WHEN k % 2 = 0 THEN 7 ELSE k END,
                   repeat('x', 40)
            FROM (SELECT CASE WHEN g <= {ROWS} / 10 * 9 THEN g ELSE g::bigint * 900 END AS k
                  FROM generate_series(1, {ROWS}) g) q;
         CREATE INDEX ON skewed (n); CREATE INDEX ON skewed (d); CREATE INDEX ON skewed (t);
         CREATE INDEX ON skewed (u); CREATE INDEX ON skewed (s); CREATE INDEX ON skewed (common);
         CREATE TABLE leaves (id bigint PRIMARY KEY, filler text) PARTITION BY RANGE (id);
         CREATE TABLE leaf_1 PARTITION OF leaves FOR VALUES FROM (MINVALUE) TO (300000) WITH (autovacuum_enabled = off);
         CREATE TABLE leaf_2 PARTITION OF leaves FOR VALUES FROM (300000) TO (MAXVALUE) WITH (autovacuum_enabled = off);
         INSERT INTO leaves SELECT id, filler FROM skewed;"
    ));
    db
}

/// How the only table of a job was split, and the rows of its files.
fn split(site: &Site, table: Value) -> (String, Vec<u64>) {
    let done = site.export(json!({"tables": [table]}));
    let table = &site.exports.archive(done.job())["tables"][0];
    let rows = |file: &Value| file["rows"].as_u64().unwrap_or_else(|| panic!("no rows in {file}"));
    let files = table["files"].as_array().expect("files").iter().map(rows).collect();
    (table["strategy_reason"].as_str().expect("a reason").to_owned(), files)
}

/// Checks every job that has run here. Returns their number.
#[track_caller]
fn assert_all_sound(site: &Site, daemon: Daemon) -> usize {
    let jobs = site.exports.jobs();
    site.assert_sound(&jobs, [daemon]);
    jobs.len()
}

#[track_caller]
fn assert_balanced(what: &str, files: &[u64], parts: u64) {
    assert_eq!(files.iter().sum::<u64>(), ROWS, "{what}");
    let (largest, mean) = (files.iter().max().expect("files"), ROWS / parts);
    assert!(*largest <= 2 * mean, "{what}: the largest of {files:?} is more than twice the mean of {mean}");
}

#[test]
fn a_skewed_key_is_split_into_chunks_of_at_most_twice_the_mean() {
    let site = Site::new(skewed());
    let daemon = site.daemon();
    let mut jobs = 0;
    let mut assert_split = |table: Value, parts: u64, because: &str| {
        let (reason, files) = split(&site, table);
        assert!(reason.contains(because), "{reason}");
        assert_balanced(&reason, &files, parts);
        jobs += 1;
    };
    for column in ["id", "n", "d", "t", "u", "s"] {
        let table = json!({"table": "public.skewed", "strategy": "range", "chunk_column": column, "chunk_rows": ROWS / 3});
        assert_split(table, 3, "from a sample of");
    }
    assert_split(json!({"table": "public.leaves", "chunk_rows": ROWS / 3}), 3, "from a sample of");
    assert_split(
        json!({"table": "public.skewed", "strategy": "range", "chunk_rows": ROWS / 50}),
        50,
        "from one ordered pass",
    );

    site.db.execute("ANALYZE skewed");
    assert_split(
        json!({"table": "public.skewed", "chunk_rows": ROWS / 10}),
        10,
        "range on id: numeric primary key",
    );
    for column in ["n", "t", "u", "s"] {
        let table = json!({"table": "public.skewed", "chunk_column": column, "chunk_rows": ROWS / 10});
        assert_split(table, 10, "histogram bounds");
    }
    // A histogram does not contain the most common values: here the days, and a value that half of the rows
    // have.
    let days = json!({"table": "public.skewed", "chunk_column": "d", "chunk_rows": ROWS / 10});
    assert_split(days, 10, "from one ordered pass");
    let table = json!({"table": "public.skewed", "chunk_column": "common", "chunk_rows": ROWS / 3});
    let (reason, files) = split(&site, table);
    assert!(reason.contains("from a sample of"), "{reason}");
    assert_eq!(files.iter().sum::<u64>(), ROWS);

    site.assert_equal(&[
        ("SELECT * FROM skewed", "public_skewed"),
        ("SELECT * FROM leaves", "public_leaves"),
    ]);
    assert_eq!(assert_all_sound(&site, daemon), jobs + 1);
}

#[test]
fn a_column_without_an_index_is_not_read_by_scans_of_the_whole_table() {
    let site = Site::new(Database::empty());
    site.db.execute(
        "CREATE TABLE plain AS SELECT g AS id, g % 777 AS k FROM generate_series(1, 20000) g; ANALYZE plain",
    );
    let daemon = site.daemon();
    let table = |strategy: &str| json!({"table": "public.plain", "strategy": strategy, "chunk_column": "k", "chunk_rows": 4000});
    let (auto, files) = split(&site, table("auto"));
    assert!(auto.starts_with("ctid: no index begins with `k`") && files.len() == 5, "{auto}");
    let (range, files) = split(&site, table("range"));
    assert!(range.contains("each chunk scans the whole table") && files.len() == 5, "{range}");
    site.assert_equal(&[("SELECT * FROM plain", "public_plain"), ("SELECT * FROM plain", "public_plain_v2")]);
    assert_eq!(assert_all_sound(&site, daemon), 2);
}

/// A server that underestimates the cost of scans would read the whole table for each chunk.
#[test]
fn ranges_of_a_key_in_no_order_are_read_by_its_index() {
    let site = Site::new(Database::empty());
    site.db.execute(
        "CREATE TABLE shuffled (id int PRIMARY KEY, filler text) WITH (autovacuum_enabled = off);
         INSERT INTO shuffled SELECT g, repeat('x', 60) FROM generate_series(1, 100000) g ORDER BY md5(g::text);
         ANALYZE shuffled;",
    );
    site.db.execute(&format!("ALTER DATABASE {} SET random_page_cost = 40", site.db.name));
    let scans = || {
        let sql = "SELECT seq_scan, idx_scan FROM pg_stat_user_tables WHERE relname = 'shuffled'";
        let row = site.db.rows(sql).remove(0);
        let number = |i: usize| row[i].parse::<u64>().expect("a number");
        (number(0), number(1))
    };
    let (before, _) = scans();
    let daemon = site.daemon();
    let (reason, files) = split(
        &site,
        json!({"table": "public.shuffled", "strategy": "range", "chunk_column": "id", "chunk_rows": 12_500}),
    );
    assert!(reason.contains("histogram bounds") && files.len() == 8, "{reason}: {files:?}");
    // Sessions report their statistics when they end, and otherwise at most once a second.
    assert_eq!(assert_all_sound(&site, daemon), 1);
    let (seq, idx) =
        eventually("all chunks are counted", PATIENCE, || Some(scans()).filter(|s| s.0 - before + s.1 >= 8));
    assert_eq!((seq - before, idx), (0, 8), "scans of the whole table, and of the index");
    site.assert_equal(&[("SELECT * FROM shuffled", "public_shuffled")]);
}
