//! Bounds, constraints and indexes that hold now, and that the server's planner assumes for a snapshot too.

use std::time::Duration;

use serde_json::json;

use crate::support::{Database, PATIENCE, Slow, eventually, fill, mid_job, table};

#[test]
fn what_holds_now_leaves_no_row_of_the_snapshot_out() {
    let db = Database::empty();
    let split = |name: &str, columns: &str, by: &str| {
        db.execute(&format!(
            "CREATE TABLE {name} (id int, k int, filler text) PARTITION BY RANGE ({by});
             CREATE TABLE {name}_low PARTITION OF {name} FOR VALUES FROM (0) TO (6000);
             CREATE TABLE {name}_high PARTITION OF {name} FOR VALUES FROM (6000) TO (12001);
             INSERT INTO {name} SELECT {columns}, repeat(md5(g::text), 6) FROM generate_series(1, 12000) g;
             CREATE INDEX ON {name} (k)"
        ));
    };
    split("narrowed", "g, g", "k");
    split("checked", "g, g", "id");
    db.execute(
        "CREATE TABLE moved (id int, k int, filler text) PARTITION BY RANGE (k);
         CREATE TABLE moved_rest PARTITION OF moved DEFAULT;
         INSERT INTO moved SELECT * FROM checked; CREATE INDEX ON moved (k);
         CREATE TABLE indexed AS SELECT * FROM checked; ALTER TABLE indexed ADD PRIMARY KEY (id)",
    );
    split("filled", "g, CASE WHEN g % 50 > 0 THEN g END", "id");
    fill(&db, "base", 12_000);
    db.execute(
        "CREATE TABLE twins AS SELECT id AS k FROM base UNION ALL SELECT id FROM base;
         CREATE VIEW joined AS SELECT base.id, base.v FROM base LEFT JOIN twins ON twins.k = base.id;
         CREATE TABLE checked_before AS SELECT * FROM checked;
         CREATE TABLE filled_before AS SELECT * FROM filled;
         ANALYZE",
    );
    let slow = Slow::new(db);
    let daemons = [slow.daemon(), slow.daemon()];
    let ranges = |name: &str, column: &str| json!({"table": format!("public.{name}"), "strategy": "range", "chunk_column": column, "chunk_rows": 1000});
    let job = slow.request_together(&json!([
        ranges("narrowed", "k"),
        ranges("checked", "k"),
        ranges("filled", "k"),
        ranges("joined", "id"),
        ranges("moved", "k"),
        ranges("indexed", "id")
    ]));
    slow.change_mid_job(
        &job,
        &[
            "ALTER TABLE narrowed DETACH PARTITION narrowed_high",
            "DELETE FROM narrowed_high WHERE k < 11500",
            "ALTER TABLE narrowed ATTACH PARTITION narrowed_high FOR VALUES FROM (11500) TO (12001)",
            "BEGIN; CREATE TABLE moved_late (LIKE moved); DELETE FROM moved WHERE k BETWEEN 11000 AND 11999;
         ALTER TABLE moved ATTACH PARTITION moved_late FOR VALUES FROM (11000) TO (12000); COMMIT",
            "UPDATE indexed SET k = -k",
            "CREATE UNIQUE INDEX late ON indexed (id); ALTER TABLE indexed CLUSTER ON indexed_pkey",
            "ALTER TABLE indexed ADD more int NOT NULL DEFAULT 7; ALTER INDEX late RENAME TO later",
            "UPDATE checked SET k = -k WHERE k > 6000",
            "ALTER TABLE checked ADD CHECK (k <= 6000)",
            "UPDATE filled SET k = 0 WHERE k IS NULL",
            "ALTER TABLE filled ALTER k SET NOT NULL",
            "DELETE FROM twins a USING twins b WHERE a.k = b.k AND a.ctid < b.ctid",
            "CREATE UNIQUE INDEX ON twins (k)",
        ],
    );
    let archive = slow.completes(&job);
    let version = slow.site.db.number("SHOW server_version_num") / 10_000;
    // Since version 17 the server assumes that NOT NULL holds for all rows. Before 14 it does not tell how an
    // index was built.
    let (filled_again, indexed_again) = (version >= 17, version < 14);
    slow.site.assert_equal(&[
        ("SELECT * FROM narrowed", "public_narrowed"),
        ("SELECT * FROM checked_before", "public_checked"),
        (if filled_again { "SELECT * FROM filled" } else { "SELECT * FROM filled_before" }, "public_filled"),
        ("SELECT * FROM joined", "public_joined"),
        ("SELECT * FROM moved", "public_moved"),
        (
            if indexed_again { "SELECT * FROM indexed" } else { "SELECT * FROM checked_before" },
            "public_indexed",
        ),
    ]);
    for (name, again) in [
        ("narrowed", true),
        ("moved", true),
        ("joined", true),
        ("checked", false),
        ("filled", filled_again),
        ("indexed", indexed_again),
    ] {
        let table = table(&archive, &format!("public.{name}"));
        assert_eq!(table["epoch"].as_u64() > Some(1), again, "{table}");
    }
    slow.site.assert_sound(&[&job], daemons);
}

/// An index that is built CONCURRENTLY waits for the snapshots that exist near its end. It does not wait for
/// a snapshot that a daemon takes over from another daemon later.
#[test]
fn an_index_without_rows_of_the_snapshot_is_not_believed() {
    let slow = Slow::big(12_000);
    let mut first = slow.daemon();
    let ranges =
        json!({"table": "public.big", "strategy": "range", "chunk_column": "id", "chunk_rows": 1000});
    let job = slow.site.request(json!({"tables": [ranges]}));
    mid_job(&first);
    slow.proxy.slow_to(300_000);
    let db = &slow.site.db;
    db.execute("DELETE FROM big WHERE id > 3000 AND id % 2 = 0");
    let builder = db.session();
    let building = std::thread::spawn(move || builder.run("REINDEX INDEX CONCURRENTLY big_pkey"));
    let waits =
        "SELECT count(*) FROM pg_stat_progress_create_index WHERE phase = 'waiting for old snapshots'";
    eventually("the index waits for the snapshot", PATIENCE, || (db.number(waits) == 1).then_some(()));
    let second = slow.daemon();
    let keepers = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'aduk:%' AND datname = current_database()";
    eventually("a second keeper", Duration::from_secs(20), || (db.number(keepers) == 2).then_some(()));
    first.kill();
    building.join().expect("no panic").expect("built");
    slow.site.assert_runs(&job, "it was built while the job ran");
    let archive = slow.completes(&job);
    slow.site.assert_equal(&[("SELECT * FROM big", "public_big")]);
    assert!(table(&archive, "public.big")["epoch"].as_u64() > Some(1), "{archive}");
    slow.site.assert_sound(&[&job], [second]);
}
