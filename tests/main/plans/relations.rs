//! How relations of every kind are split, and how users learn which rows they may not see.

use serde_json::{Value, json};

use crate::support::{Database, EXPORTER, PATIENCE, Postgres, Services, Site, said};

/// The output of `plan` for a request, and its exit code.
fn plan(site: &Site, config: &Value, request: &Value) -> (Option<i32>, String) {
    let file = site.path("plan.json");
    std::fs::write(&file, request.to_string()).expect("write a request");
    let config = site.write("plan.toml", config);
    let done = site.run(&["plan", "--config", &config, "--request", &file.to_string_lossy()]);
    (done.status.code(), said(&done))
}

/// The only table in a job's archive.
fn archived(site: &Site, job: &str) -> Value {
    site.exports.archive(job)["tables"][0].clone()
}

/// The text contains all words.
#[track_caller]
fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no `{word}` in:\n{text}");
    }
}

/// A tree of 20 nodes with 50 leaves each and 80,000 rows. One leaf has its columns in another order, and one
/// node is a default partition.
fn plant(db: &Database) {
    db.execute(
        "CREATE TABLE tree (id bigint NOT NULL, region int, v text) PARTITION BY LIST (region);
         DO $$ BEGIN
             FOR r IN 1..20 LOOP
                 EXECUTE format('CREATE TABLE tree_%s PARTITION OF tree FOR VALUES IN (%s) PARTITION BY RANGE (id)', r, r);
                 FOR l IN 0..49 LOOP
                     CONTINUE WHEN (r, l) = (3, 7);
                     EXECUTE format('CREATE TABLE tree_%s_%s PARTITION OF tree_%s FOR VALUES FROM (%s) TO (%s)',
                                    r, l, r, l * 100, l * 100 + 100);
                 END LOOP;
             END LOOP;
         END $$;
         CREATE TABLE tree_3_7 (v text, gone int, region int, id bigint NOT NULL);
         ALTER TABLE tree_3_7 DROP gone;
         ALTER TABLE tree_3 ATTACH PARTITION tree_3_7 FOR VALUES FROM (700) TO (800);
         CREATE TABLE tree_rest PARTITION OF tree DEFAULT;
         INSERT INTO tree SELECT i, r, md5(i::text) FROM generate_series(0, 4999) i, generate_series(1, 20) r
            WHERE (i + r) % 5 > 0;
         INSERT INTO tree VALUES (1, NULL, 'none'), (2, 77, 'left over');
         CREATE INDEX ON tree (id);
         ANALYZE tree",
    );
}

#[test]
fn a_table_of_a_thousand_leaves_is_exported_whole_and_with_foreign_leaves_by_one_scan() {
    let site = Site::new(Database::empty());
    let far = Database::empty();
    plant(&site.db);
    let daemons = [site.daemon(), site.daemon()];
    let ranges = json!({"tables": [{"table": "public.tree", "chunk_column": "id", "chunk_rows": 10_000}]});
    let split = site.export(ranges.clone());
    assert_eq!(archived(&site, split.job())["chunks"], 9, "{}", archived(&site, split.job()));
    site.assert_equal(&[("SELECT * FROM tree", "public_tree")]);

    far.execute(
        "CREATE TABLE far_0 AS SELECT g::bigint AS id, 21 AS region, 'far ' || g AS v FROM generate_series(0, 99) g;
         CREATE TABLE far_1 AS SELECT id + 100 AS id, region, v FROM far_0;
         CREATE TABLE far_2 AS SELECT id, 22 AS region, v FROM far_0",
    );
    site.db.execute(&format!(
        "CREATE EXTENSION postgres_fdw;
         CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{}', dbname '{}');
         CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (user 'postgres', password_required 'false');
         CREATE TABLE tree_21 PARTITION OF tree FOR VALUES IN (21) PARTITION BY RANGE (id);
         CREATE FOREIGN TABLE far_0 PARTITION OF tree_21 FOR VALUES FROM (0) TO (100) SERVER far;
         CREATE FOREIGN TABLE far_1 PARTITION OF tree_21 FOR VALUES FROM (100) TO (200) SERVER far;
         CREATE FOREIGN TABLE far_2 PARTITION OF tree FOR VALUES IN (22) SERVER far",
        Services::get().postgres,
        far.name
    ));
    let why = "foreign tables, which do not follow the snapshot";
    let (code, text) = plan(&site, &site.config(), &ranges);
    assert_eq!(code, Some(1), "{text}");
    assert_says(&text, &["table public.tree cannot be split by range", why]);
    let (code, text) = plan(&site, &site.config(), &json!({"tables": ["public.tree"]}));
    assert_eq!(code, Some(0), "{text}");
    assert_says(&text, &["public.tree: single: one scan", why]);

    let whole = site.export(json!({"tables": [{"table": "public.tree", "chunk_rows": 1000}]}));
    let table = archived(&site, whole.job());
    assert_eq!((&table["chunks"], &table["rows"]), (&json!(1), &json!(80_302)), "{table}");
    let after = json!({"column": "id", "value": "4990"});
    let newer = site.export(json!({"tables": [{"table": "public.tree", "after": after}]}));
    site.assert_equal(&[
        ("SELECT * FROM tree", "public_tree_v2"),
        ("SELECT * FROM tree WHERE id > 4990", "public_tree_v3"),
    ]);
    site.assert_sound(&[split.job(), whole.job(), newer.job()], daemons);
}

#[test]
fn leaves_for_whose_locks_the_server_has_no_room_fail_the_table_and_name_the_setting() {
    let server = Postgres::start(&[]);
    let site = Site::new(Database::on(server.services()));
    plant(&site.db);
    let daemons = [site.daemon(), site.daemon()];
    let request = || json!({"tables": [{"table": "public.tree", "chunk_column": "v", "chunk_rows": 10_000}]});
    // Take nearly all locks that the server has room for.
    site.db.execute(
        "DO $$ BEGIN
             FOR i IN 1..1000000 LOOP PERFORM pg_advisory_lock(i); END LOOP;
         EXCEPTION WHEN out_of_memory THEN NULL;
         END $$;
         DO $$ DECLARE taken bigint := (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'); BEGIN
             ASSERT taken > 3000, taken;
             PERFORM pg_advisory_unlock(i) FROM generate_series(1, 1500) i;
         END $$",
    );
    let full = site.request(request());
    let last = site.broker.events.wait_final(&full, PATIENCE);
    assert_eq!(last.kind(), "job.failed", "{}", last.body);
    assert_says(&last.error(), &["public.tree", "max_locks_per_transaction", "chunk_workers"]);

    // With the server's default settings there is room for two daemons with two workers each.
    site.db.execute("SELECT pg_advisory_unlock_all()");
    let done = site.export(request());
    assert_eq!(archived(&site, done.job())["chunks"], 10, "nine ranges and one for NULL");
    site.assert_equal(&[("SELECT * FROM tree", "public_tree")]);
    site.assert_sound(&[done.job(), &full], daemons);
}

#[test]
fn heaps_of_every_kind_are_split_and_parents_of_foreign_tables_are_not() {
    let site = Site::new(Database::empty());
    let far = Database::empty();
    far.execute("CREATE TABLE far AS SELECT g AS id, 'far' AS v FROM generate_series(1, 5000) g");
    site.db.execute(&format!(
        "CREATE UNLOGGED TABLE unlogged AS SELECT g AS id, repeat('x', 50) AS v FROM generate_series(1, 10000) g;
         CREATE MATERIALIZED VIEW kept AS SELECT * FROM unlogged;
         CREATE TABLE parent (LIKE unlogged); CREATE INDEX ON parent (id);
         CREATE TABLE child () INHERITS (parent); CREATE INDEX ON child (id);
         INSERT INTO parent SELECT * FROM unlogged; INSERT INTO child SELECT id + 5000, v FROM unlogged;
         INSERT INTO child (v) VALUES ('without a key');
         CREATE EXTENSION postgres_fdw;
         CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{}', dbname '{}');
         CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (user 'postgres', password_required 'false');
         CREATE TABLE half (LIKE unlogged); INSERT INTO half SELECT * FROM unlogged;
         CREATE FOREIGN TABLE far () INHERITS (half) SERVER far;",
        Services::get().postgres,
        far.name
    ));
    // Without statistics, rows are estimated from sizes, and no row is read for that.
    let table = |name: &str| json!({"table": format!("public.{name}"), "chunk_rows": 2000});
    let ranges = json!({"table": "public.parent", "chunk_column": "id", "chunk_rows": 2000});
    let request = json!({"tables": [table("unlogged"), table("kept"), table("half"), ranges]});
    let scans = || {
        site.db.execute("SELECT pg_stat_force_next_flush()");
        let of =
            "SELECT sum(seq_scan) FROM pg_stat_user_tables WHERE relname IN ('unlogged', 'kept', 'half')";
        site.db.number(of)
    };
    let before = scans();
    let (code, text) =
        plan(&site, &site.config(), &json!({"tables": [table("unlogged"), table("kept"), table("half")]}));
    assert_eq!(code, Some(0), "{text}");
    assert_says(
        &text,
        &["public.unlogged: ctid: there is no primary key", "public.kept: ctid: there is no primary key"],
    );
    assert_eq!(scans(), before, "nothing was counted");
    site.db.execute("SELECT count(*) FROM unlogged");
    assert_eq!(scans(), before + 1, "a count would be seen");

    let daemon = site.daemon();
    let done = site.export(request);
    let archive = site.exports.archive(done.job());
    for (table, (strategy, least)) in archive["tables"].as_array().expect("tables").iter().zip([
        ("ctid", 3),
        ("ctid", 3),
        ("single", 1),
        ("range", 6),
    ]) {
        assert_eq!(table["strategy"], strategy, "{table}");
        assert!(table["chunks"].as_u64() >= Some(least), "{table}");
    }
    assert_says(&archive["tables"][2].to_string(), &["foreign tables, which do not follow the snapshot"]);
    let names = ["unlogged", "kept", "half", "parent"];
    let pairs = names.map(|name| (format!("SELECT * FROM {name}"), format!("public_{name}")));
    site.assert_all_equal(&pairs);
    site.assert_sound(&[done.job()], [daemon]);
}

#[test]
fn rows_that_a_policy_hides_are_left_out_only_where_the_source_says_so_and_the_plan_tells() {
    let site = Site::new(Database::empty());
    site.db.execute(&format!(
        "CREATE TABLE open (id int PRIMARY KEY, owner text); CREATE TABLE shut (LIKE open INCLUDING ALL);
         CREATE TABLE owned (LIKE open INCLUDING ALL); CREATE TABLE forced (LIKE open INCLUDING ALL);
         INSERT INTO open SELECT g, CASE WHEN g % 3 = 0 THEN '{EXPORTER}' ELSE 'somebody' END
            FROM generate_series(1, 9000) g;
         INSERT INTO shut SELECT * FROM open; INSERT INTO owned SELECT * FROM open;
         INSERT INTO forced SELECT * FROM open;
         CREATE POLICY mine ON shut USING (owner = current_user);
         CREATE POLICY mine ON owned USING (owner = current_user);
         CREATE POLICY mine ON forced USING (owner = current_user);
         ALTER TABLE shut ENABLE ROW LEVEL SECURITY; ALTER TABLE owned ENABLE ROW LEVEL SECURITY;
         ALTER TABLE forced ENABLE ROW LEVEL SECURITY; ALTER TABLE forced FORCE ROW LEVEL SECURITY;
         ALTER TABLE owned OWNER TO {EXPORTER}; ALTER TABLE forced OWNER TO {EXPORTER};
         ANALYZE"
    ));
    let tables = ["public.open", "public.shut", "public.owned", "public.forced"]
        .map(|table| json!({"table": table, "chunk_rows": 1000}));
    let request = json!({"tables": tables});
    let hidden = "row-level security hides rows";

    // By default, a table that cannot be exported completely is not exported.
    let whole = site.config();
    let (code, text) = plan(&site, &whole, &request);
    assert_eq!(code, Some(3), "{text}");
    assert_eq!(text.matches(hidden).count(), 2, "{text}");
    for table in ["shut", "forced"] {
        assert_says(
            &text,
            &[&format!("failed public.{table}: table public.{table} may not be read: {hidden}")],
        );
    }
    assert_says(&text, &["BYPASSRLS", "row_security = \"on\""]);
    let daemon = site.daemon_with(&whole);
    let job = site.request(request.clone());
    let last = site.broker.events.wait_final(&job, PATIENCE);
    assert_eq!(last.kind(), "job.partial", "{}", last.body);
    site.assert_equal(&[("SELECT * FROM open", "public_open"), ("SELECT * FROM owned", "public_owned")]);
    daemon.stop();

    // With `row_security = on`, the rows that the role sees are exported.
    let mut visible = site.config();
    visible["sources"]["warehouse"]["session"] = json!({"row_security": "on"});
    let (code, text) = plan(&site, &visible, &request);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(text.matches(hidden).count(), 2, "{text}");
    for table in ["shut", "forced"] {
        let lines: Vec<&str> =
            text.lines().skip_while(|l| !l.starts_with(&format!("public.{table}: "))).collect();
        assert_says(lines[1], &[hidden]);
    }
    let daemon = site.daemon_with(&visible);
    let done = site.export(request);
    site.assert_equal(&[
        ("SELECT * FROM open", "public_open_v2"),
        ("SELECT * FROM owned", "public_owned_v2"),
        ("SELECT * FROM shut WHERE owner = 'exporter'", "public_shut"),
        ("SELECT * FROM forced WHERE owner = 'exporter'", "public_forced"),
    ]);
    let chunks = |i: usize| site.exports.archive(done.job())["tables"][i]["chunks"].as_u64();
    assert!((0..4).all(|i| chunks(i) > Some(1)), "all of them were split");
    site.assert_sound(&[done.job(), &job], [daemon]);
}

#[test]
fn what_nothing_changed_is_never_taken_for_changed() {
    let site = Site::new(Database::empty());
    let far = Database::empty();
    far.execute("CREATE TABLE far (id int, v text); INSERT INTO far VALUES (1, 'a'), (2, NULL), (NULL, 'c')");
    site.db.execute(&format!(
        "CREATE TABLE base (id int PRIMARY KEY, v text); INSERT INTO base SELECT g, 'v' FROM generate_series(1, 500) g;
         CREATE TABLE parent (pid int, x int); CREATE TABLE child () INHERITS (parent);
         INSERT INTO child SELECT g, g FROM generate_series(1, 500) g;
         CREATE VIEW joined AS SELECT base.id, base.v, p.n FROM base
            LEFT JOIN (SELECT pid, count(*) AS n FROM parent GROUP BY pid) p ON p.pid = base.id;
         CREATE VIEW unused AS WITH w AS (SELECT * FROM parent) SELECT id FROM base;
         CREATE TABLE parts (id int) PARTITION BY RANGE (id);
         CREATE TABLE stays PARTITION OF parts FOR VALUES FROM (0) TO (100);
         CREATE TABLE leaves PARTITION OF parts FOR VALUES FROM (100) TO (200);
         INSERT INTO parts SELECT g FROM generate_series(0, 199) g;
         CREATE EXTENSION postgres_fdw;
         CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{}', dbname '{}');
         CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (user 'postgres', password_required 'false');
         CREATE FOREIGN TABLE far (id int NOT NULL, v text NOT NULL) SERVER far;
         CREATE VIEW distant AS SELECT * FROM far;
         CREATE VIEW farther AS SELECT * FROM distant",
        Services::get().postgres,
        far.name
    ));
    // A DETACH CONCURRENTLY waits for all readers. Meanwhile the table no longer counts as a partition.
    site.db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM parts");
    let other = site.db.session();
    other.run("SET statement_timeout = 500").expect("set");
    let waited = other.run("ALTER TABLE parts DETACH PARTITION leaves CONCURRENTLY");
    assert!(waited.is_err(), "it waits for the session that reads it");
    site.db.execute("COMMIT");
    assert_eq!(site.db.number("SELECT count(*) FROM parts"), 100);

    let split = json!({"table": "public.farther", "chunk_column": "id", "chunk_rows": 2});
    let (code, text) = plan(&site, &site.config(), &json!({"tables": [split]}));
    assert_eq!(code, Some(1), "{text}");
    assert_says(&text, &["public.farther cannot be split by range", "it reads foreign tables"]);

    let daemon = site.daemon();
    let done = site.export(json!({"tables": [
        {"table": "public.joined", "columns": ["id", "v"]}, "public.unused", "public.parts", "public.far", "public.farther",
    ]}));
    assert_eq!(site.exports.archive(done.job())["epochs"], 1, "nothing had changed");
    site.assert_equal(&[
        ("SELECT id, v FROM joined", "public_joined"),
        ("SELECT * FROM unused", "public_unused"),
        ("SELECT * FROM parts", "public_parts"),
        ("SELECT * FROM far", "public_far"),
        ("SELECT * FROM farther", "public_farther"),
    ]);
    site.assert_sound(&[done.job()], [daemon]);
}

#[test]
fn a_table_of_which_some_columns_may_be_read_is_split_by_nothing_else() {
    let site = Site::new(Database::empty());
    site.db.execute(&format!(
        "CREATE TABLE few (id int PRIMARY KEY, v int NOT NULL, secret text);
         CREATE TABLE few_parts (LIKE few INCLUDING ALL) PARTITION BY RANGE (id);
         CREATE TABLE few_parts_0 PARTITION OF few_parts DEFAULT;
         INSERT INTO few SELECT g, g, 's' FROM generate_series(1, 5000) g; INSERT INTO few_parts SELECT * FROM few;
         ANALYZE; REVOKE ALL ON few, few_parts FROM {EXPORTER}; GRANT SELECT (v) ON few, few_parts TO {EXPORTER}"
    ));
    let daemon = site.daemon();
    let mut jobs = Vec::new();
    for (more, strategy) in [(json!({}), "single"), (json!({"chunk_column": "v"}), "range")] {
        let table = |name: &str| {
            let mut table = json!({"table": name, "columns": ["v"], "chunk_rows": 1000});
            table.as_object_mut().expect("a table").extend(more.as_object().expect("options").clone());
            table
        };
        let done = site.export(json!({"tables": [table("public.few"), table("public.few_parts")],
                                      "output": {"directory": strategy}, "verify": "count"}));
        for table in site.exports.archive(done.job())["tables"].as_array().expect("tables") {
            assert_eq!(table["strategy"], strategy, "{table}");
        }
        site.assert_equal(&[
            ("SELECT v FROM few", &format!("{strategy}/public_few")),
            ("SELECT v FROM few_parts", &format!("{strategy}/public_few_parts")),
        ]);
        jobs.push(done.job().to_owned());
    }
    let jobs: Vec<&str> = jobs.iter().map(String::as_str).collect();
    site.assert_sound(&jobs, [daemon]);
}
