//! Definitions that change while a job runs: the server follows those of the moment, whatever the snapshot.

use serde_json::json;

use crate::mid_job::{Slow, every_table_mid_job, table};
use crate::support::Database;

#[test]
fn no_table_mixes_two_definitions() {
    let db = Database::empty();
    db.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'glad');
         CREATE TYPE size AS ENUM ('small');
         CREATE TABLE labels (id int PRIMARY KEY, mood mood, filler text);
         CREATE TABLE opened (LIKE labels INCLUDING ALL);
         CREATE TABLE hidden (LIKE labels INCLUDING ALL);
         CREATE TABLE below (LIKE labels INCLUDING ALL);
         CREATE TABLE grows (id int PRIMARY KEY, size size, filler text);
         ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
         CREATE POLICY half ON hidden USING (id % 2 = 0);
         CREATE VIEW shown AS SELECT id, 'old' AS version, filler FROM below;
         CREATE VIEW above AS SELECT * FROM shown;",
    );
    for (name, label) in
        [("labels", "sad"), ("opened", "sad"), ("hidden", "sad"), ("below", "sad"), ("grows", "small")]
    {
        db.execute(&format!(
            "INSERT INTO {name} SELECT g, '{label}', repeat(md5(g::text), 6) FROM generate_series(1, 12000) g"
        ));
    }
    db.execute("ANALYZE");
    let slow = Slow::new(db);
    // Else the server refuses to read what policies hide.
    let daemons = [(); 2].map(|()| {
        let mut config = slow.config();
        config["sources"]["warehouse"]["session"] = json!({"row_security": "on"});
        slow.site.daemon_with(&config)
    });
    let ranges = |name: &str| json!({"table": format!("public.{name}"), "strategy": "range", "chunk_column": "id", "chunk_rows": 1000});
    let names = ["labels", "opened", "hidden", "above", "grows"];
    let job = slow.site.request(json!({
        "tables": names.map(ranges),
        "parallelism": {"table_threads": 5, "chunk_workers": 2},
    }));
    every_table_mid_job(&slow, &job);
    for change in [
        "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'",
        "ALTER TABLE opened ENABLE ROW LEVEL SECURITY; CREATE POLICY half ON opened USING (id % 2 = 0)",
        "ALTER POLICY half ON hidden USING (id % 2 = 1)",
        "CREATE OR REPLACE VIEW shown AS SELECT id, 'new' AS version, filler FROM below",
        "ALTER TYPE size ADD VALUE 'large'",
    ] {
        slow.site.db.execute(change);
    }
    assert!(slow.site.exports.find_archive(&job).is_none(), "all of it changed while the job ran");
    slow.proxy.mend();

    slow.site.completed(&job);
    let archive = slow.site.exports.archive(&job);
    slow.site.assert_equal(&[
        ("SELECT * FROM labels", "public_labels"),
        ("SELECT * FROM opened WHERE id % 2 = 0", "public_opened"),
        ("SELECT * FROM hidden WHERE id % 2 = 1", "public_hidden"),
        ("SELECT * FROM above", "public_above"),
        ("SELECT * FROM grows", "public_grows"),
    ]);
    for changed in ["labels", "opened", "hidden", "above"] {
        let table = table(&archive, &format!("public.{changed}"));
        assert!(table["epoch"].as_u64() > Some(1), "it was planned again: {table}");
    }
    assert_eq!(
        table(&archive, "public.grows")["epoch"],
        1,
        "a label that comes later is in no row of the snapshot"
    );
    slow.site.assert_sound(&[&job], daemons);
}
