//! Definitions that change while a job runs. The server follows the current definitions, whatever the
//! snapshot shows.

use serde_json::json;

use crate::support::{Database, PATIENCE, Services, Slow, assert_planned_again, table};

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
         CREATE TABLE plain (id int PRIMARY KEY, label text, filler text);
         ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
         CREATE POLICY half ON hidden USING (id % 2 = 0);
         CREATE VIEW shown AS SELECT id, 'old' AS version, filler FROM below;
         CREATE VIEW above AS SELECT * FROM shown;",
    );
    for (name, label) in [
        ("labels", "sad"),
        ("opened", "sad"),
        ("hidden", "sad"),
        ("below", "sad"),
        ("grows", "small"),
        ("plain", "any"),
    ] {
        db.execute(&format!(
            "INSERT INTO {name} SELECT g, '{label}', repeat(md5(g::text), 6) FROM generate_series(1, 12000) g"
        ));
    }
    db.execute("ANALYZE");
    let slow = Slow::new(db);
    // Otherwise the server refuses to read a table whose rows are hidden by policies.
    let daemons = [(); 2].map(|()| {
        let mut config = slow.config();
        config["sources"]["warehouse"]["session"] = json!({"row_security": "on"});
        slow.site.daemon_with(&config)
    });
    let ranges = |name: &str| json!({"table": format!("public.{name}"), "strategy": "range", "chunk_column": "id", "chunk_rows": 1000});
    let names = ["labels", "opened", "hidden", "above", "grows", "plain"];
    let job = slow.request_together(&json!(names.map(ranges)));
    slow.change_mid_job(
        &job,
        &[
            "ALTER TABLE plain ENABLE ROW LEVEL SECURITY; CREATE POLICY half ON plain USING (id % 2 = 0)",
            "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'",
            "ALTER TABLE opened ENABLE ROW LEVEL SECURITY; CREATE POLICY half ON opened USING (id % 2 = 0)",
            "ALTER POLICY half ON hidden USING (id % 2 = 1)",
            "CREATE OR REPLACE VIEW shown AS SELECT id, 'new' AS version, filler FROM below",
            "ALTER TYPE size ADD VALUE 'large'",
        ],
    );
    slow.proxy.mend();

    slow.site.completed(&job);
    let archive = slow.site.exports.archive(&job);
    slow.site.assert_equal(&[
        ("SELECT * FROM labels", "public_labels"),
        ("SELECT * FROM opened WHERE id % 2 = 0", "public_opened"),
        ("SELECT * FROM hidden WHERE id % 2 = 1", "public_hidden"),
        ("SELECT * FROM plain WHERE id % 2 = 0", "public_plain"),
        ("SELECT * FROM above", "public_above"),
        ("SELECT * FROM grows", "public_grows"),
    ]);
    assert_planned_again(&archive, &["labels", "opened", "hidden", "above", "plain"]);
    assert_eq!(
        table(&archive, "public.grows")["epoch"],
        1,
        "a label that comes later is in no row of the snapshot"
    );
    slow.site.assert_sound(&[&job], daemons);
}

#[test]
fn conditions_and_orders_of_a_chunk_are_those_of_its_snapshot() {
    let db = Database::empty();
    let far = Database::empty();
    far.execute("CREATE TABLE far (id int, filler text); INSERT INTO far SELECT g, 'far' FROM generate_series(20001, 20100) g");
    let rows = |name: &str, columns: &str| {
        db.execute(&format!(
            "CREATE TABLE {name} AS SELECT {columns}, repeat(md5(g::text), 6) AS filler FROM generate_series(1, 12000) g"
        ));
    };
    rows("keyed", "g AS id, g AS k, 12001 - g AS other");
    rows("filtered", "g AS id, g AS k, -g AS other");
    rows(
        "sorted",
        "g AS id, CASE g % 2 WHEN 0 THEN upper(md5(g::text)) ELSE md5(g::text) END COLLATE \"en-x-icu\" AS k",
    );
    rows("called", "g AS id");
    db.execute(&format!(
        "CREATE INDEX ON keyed (k); CREATE INDEX ON keyed (other); CREATE INDEX ON sorted (k);
         CREATE FUNCTION turned(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
         CREATE VIEW calls AS SELECT turned(id) AS k, id, filler FROM called;
         CREATE TABLE grown (id int, filler text) PARTITION BY RANGE (id);
         CREATE TABLE grown_near PARTITION OF grown FOR VALUES FROM (0) TO (20000);
         INSERT INTO grown SELECT id, filler FROM called;
         CREATE EXTENSION postgres_fdw;
         CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{}', dbname '{}');
         CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (user 'postgres', password_required 'false');
         ANALYZE",
        Services::get().postgres,
        far.name
    ));
    let slow = Slow::new(db);
    let daemons = [slow.daemon(), slow.daemon()];
    let job = slow.request_together(&json!([
            {"table": "public.keyed", "columns": ["id", "filler"], "strategy": "range", "chunk_column": "k", "chunk_rows": 1000},
            {"table": "public.filtered", "columns": ["id", "filler"], "where": "k > 0", "strategy": "ctid", "chunk_rows": 1000},
            {"table": "public.sorted", "strategy": "range", "chunk_column": "k", "chunk_rows": 1000},
            {"table": "public.calls", "chunk_column": "k", "chunk_rows": 1000},
            {"table": "public.grown", "strategy": "range", "chunk_column": "id", "chunk_rows": 1000},
        ]));
    slow.change_mid_job(&job, &[
        "BEGIN; ALTER TABLE keyed RENAME k TO old; ALTER TABLE keyed RENAME other TO k; COMMIT",
        "BEGIN; ALTER TABLE filtered RENAME k TO old; ALTER TABLE filtered RENAME other TO k; COMMIT",
        "ALTER TABLE sorted ALTER k TYPE text COLLATE \"C\"",
        "CREATE OR REPLACE FUNCTION turned(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 12001 - $1'",
        "CREATE FOREIGN TABLE far PARTITION OF grown FOR VALUES FROM (20000) TO (30000) SERVER far",
    ]);
    slow.proxy.mend();
    let last = slow.site.broker.events.wait_final(&job, PATIENCE);
    assert_eq!(last.kind(), "job.partial", "{}", last.body);
    let archive = slow.site.exports.archive(&job);
    let grown = table(&archive, "public.grown");
    assert_eq!(grown["error"]["code"], "strategy_unavailable", "what it became cannot be split: {grown}");
    assert_planned_again(&archive, &["keyed", "filtered", "sorted", "calls"]);
    slow.site.assert_equal(&[
        ("SELECT id, filler FROM keyed", "public_keyed"),
        ("SELECT id, filler FROM filtered WHERE k > 0", "public_filtered"),
        ("SELECT * FROM sorted", "public_sorted"),
        ("SELECT * FROM calls", "public_calls"),
    ]);
    slow.site.assert_sound(&[&job], daemons);
}
