//! Faults of a snapshot, and of the tables that it shows.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Database, PATIENCE, Services, Site, Slow, assert_planned_again, eventually, fill, mid_job, table,
};

/// Number of sessions on the server that hold a snapshot.
fn keepers(site: &Site) -> u64 {
    site.db.number("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'aduk:%' AND datname = current_database()")
}

/// Ends every keeper of this database at once.
fn kill_keepers(site: &Site) -> usize {
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE application_name LIKE 'aduk:%' AND datname = current_database()";
    site.db.rows(sql).len()
}

#[track_caller]
fn await_keepers(site: &Site, count: u64) {
    eventually(&format!("{count} keepers"), Duration::from_secs(20), || {
        (keepers(site) == count).then_some(())
    });
}

#[track_caller]
fn assert_one_snapshot(archive: &Value) {
    assert_eq!(archive["epochs"], 1, "{archive}");
    assert_eq!(archive["snapshots"].as_object().map(serde_json::Map::len), Some(1), "{archive}");
}

#[test]
fn no_table_is_planned_again_while_one_keeper_lives() {
    let db = Database::empty();
    fill(&db, "big", 60_000);
    db.execute("CREATE TABLE before AS SELECT * FROM big");
    let slow = Slow::new(db);
    let mut first = slow.daemon();
    let mut second = slow.daemon();
    let job = slow.request(&["big"]);
    mid_job(&first);
    await_keepers(&slow.site, 2);
    slow.site.db.execute("UPDATE big SET v = 'too late'");
    // The daemon that took the snapshot dies, then the one that took it over, and so on.
    first.kill();
    let mut third = slow.daemon();
    await_keepers(&slow.site, 2);
    second.kill();
    let fourth = slow.daemon();
    await_keepers(&slow.site, 2);
    third.kill();
    slow.site.assert_runs(&job, "they died while the job ran");

    assert_one_snapshot(&slow.completes(&job));
    slow.site.assert_equal(&[("SELECT * FROM before", "public_big")]);
    slow.site.assert_sound(&[&job], [fourth]);
}

#[test]
fn the_only_daemon_hands_its_snapshot_over_before_it_goes() {
    let db = Database::empty();
    fill(&db, "big", 40_000);
    db.execute("CREATE TABLE before AS SELECT * FROM big");
    let slow = Slow::new(db);
    let mut first = slow.daemon();
    let job = slow.request(&["big"]);
    mid_job(&first);
    slow.site.db.execute("UPDATE big SET v = 'too late'");
    first.terminate();
    eventually("it takes no more work", Duration::from_secs(5), || {
        first.get("/readyz").is_none_or(|(status, _)| status != 200).then_some(())
    });
    let second = slow.daemon();
    let status = first.ended(Duration::from_secs(20));
    assert_eq!(status.code(), Some(0), "{}", first.log());
    slow.site.assert_runs(&job, "it left while the job ran");

    assert_one_snapshot(&slow.completes(&job));
    slow.site.assert_equal(&[("SELECT * FROM before", "public_big")]);
    slow.site.assert_sound(&[&job], [second]);
}

/// One table of a job is done and one is not. Then every session of the server ends, and the unfinished table
/// is read from a new snapshot.
fn a_lost_snapshot_is_taken_anew(slow: &Slow, end_all: impl FnOnce()) {
    let site = &slow.site;
    let daemons = [slow.daemon(), slow.daemon()];
    let job = site.request(json!({"tables": ["public.quick", "public.big"]}));
    site.broker.events.wait(&job, "table.completed", PATIENCE);
    daemons.iter().for_each(mid_job);
    await_keepers(site, 2);
    site.db.execute("UPDATE quick SET v = 'too late'; UPDATE big SET v = 'in time'");
    end_all();
    site.assert_runs(&job, "the snapshot went while the job ran");

    let archive = slow.completes(&job);
    assert_eq!(archive["epochs"], 2, "{archive}");
    assert_eq!(archive["snapshots"].as_object().map(serde_json::Map::len), Some(2), "{archive}");
    let of = |name: &str| table(&archive, name)["lineage"].as_str().expect("a lineage").to_owned();
    assert_ne!(of("public.quick"), of("public.big"));
    site.assert_equal(&[("SELECT * FROM quick_before", "public_quick"), ("SELECT * FROM big", "public_big")]);
    site.assert_sound(&[&job], daemons);
}

#[test]
fn a_snapshot_whose_keepers_are_all_killed_is_taken_anew() {
    let db = Database::empty();
    fill(&db, "quick", 2000);
    fill(&db, "big", 60_000);
    db.execute("CREATE TABLE quick_before AS SELECT * FROM quick");
    let slow = Slow::new(db);
    a_lost_snapshot_is_taken_anew(&slow, || assert_eq!(kill_keepers(&slow.site), 2));
}

#[test]
fn a_server_that_crashes_and_comes_back_costs_a_snapshot_and_no_row() {
    let servers = Services::borrow();
    let db = Database::on(*servers);
    fill(&db, "quick", 2000);
    fill(&db, "big", 60_000);
    db.execute("CREATE TABLE quick_before AS SELECT * FROM quick; CHECKPOINT");
    let slow = Slow::of(Site::on(Services::get(), db), servers.postgres);
    a_lost_snapshot_is_taken_anew(&slow, || {
        slow.site.db.execute("CHECKPOINT");
        // The same as `pg_ctl restart -m immediate`.
        servers.halt("postgres", "QUIT");
        servers.resume("postgres");
    });
}

#[test]
fn a_job_that_loses_its_fifth_snapshot_fails_and_says_why() {
    let slow = Slow::big(60_000).at(200_000);
    let mut config = slow.config();
    config["timing"]["keeper_wait"] = json!("1s");
    let daemon = slow.site.daemon_with(&config);
    let job = slow.request(&["big"]);
    let over = || slow.site.broker.events.all().into_iter().any(|e| e.job() == job && e.is_final());
    for epoch in 1..=5 {
        let plan = eventually(&format!("plan {epoch}"), PATIENCE, || slow.plan(&job, epoch));
        let lineage = plan["snapshot"]["lineage"].as_str().expect("a lineage").replace('-', "");
        eventually(&format!("snapshot {epoch} is given up"), PATIENCE, || {
            slow.site.db.rows(&format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'aduk:{lineage}:%'"
            ));
            (over() || slow.plan(&job, epoch + 1).is_some()).then_some(())
        });
    }
    let last = slow.site.broker.events.wait_final(&job, PATIENCE);
    assert_eq!(last.kind(), "job.failed", "{}", last.body);
    assert!(last.error().contains("5 snapshots"), "{}", last.error());
    assert!(last.error().contains("adu-export retry"), "{}", last.error());
    assert!(slow.site.exports.directories().is_empty(), "nothing is published");
    slow.proxy.mend();
    slow.site.assert_sound(&[&job], [daemon]);
}

#[test]
fn tables_that_change_under_their_snapshot_are_exported_whole_or_fail() {
    let db = Database::empty();
    for name in ["truncated", "vacuumed", "altered", "widened", "dropped", "base", "under"] {
        fill(&db, name, 12_000);
    }
    db.execute(
        "CREATE MATERIALIZED VIEW refreshed AS SELECT * FROM base;
         CREATE UNIQUE INDEX ON refreshed (id);
         CREATE VIEW seen AS SELECT id, v FROM under;
         CREATE TABLE widened_before AS SELECT * FROM widened;
         ANALYZE",
    );
    let slow = Slow::new(db);
    let daemons = [slow.daemon(), slow.daemon()];
    let pages = |name: &str| json!({"table": name, "strategy": "ctid", "chunk_rows": 1000});
    let ranges =
        |name: &str| json!({"table": name, "strategy": "range", "chunk_column": "id", "chunk_rows": 1000});
    let job = slow.request_together(&json!([
        "public.truncated",
        pages("public.vacuumed"),
        "public.altered",
        "public.widened",
        "public.dropped",
        ranges("public.refreshed"),
        ranges("public.seen"),
    ]));
    slow.change_mid_job(
        &job,
        &[
            "TRUNCATE truncated; INSERT INTO truncated SELECT g, 'new' FROM generate_series(1, 500) g",
            "DELETE FROM vacuumed WHERE id % 2 = 0",
            "VACUUM FULL vacuumed",
            "ALTER TABLE altered ALTER v TYPE varchar(10) USING left(v, 10), ALTER id TYPE bigint",
            "ALTER TABLE widened ADD COLUMN more int DEFAULT 7",
            "UPDATE widened SET v = 'too late'",
            "DROP TABLE dropped",
            "DELETE FROM base WHERE id > 3000",
            "REFRESH MATERIALIZED VIEW refreshed",
            "TRUNCATE under; INSERT INTO under SELECT g, 'new' FROM generate_series(1, 700) g",
        ],
    );
    slow.proxy.mend();

    let last = slow.site.broker.events.wait_final(&job, PATIENCE);
    assert_eq!(last.kind(), "job.partial", "{}", last.body);
    let archive = slow.site.exports.archive(&job);
    let dropped = table(&archive, "public.dropped");
    assert_eq!(dropped["status"], "failed", "{dropped}");
    assert!(dropped["error"]["message"].as_str().is_some_and(|m| m.contains("public.dropped")), "{dropped}");
    assert_eq!(table(&archive, "public.widened")["epoch"], 1, "a new column changes no file");
    assert_planned_again(&archive, &["truncated", "vacuumed", "altered", "refreshed", "seen"]);
    slow.site.assert_equal(&[
        ("SELECT * FROM truncated", "public_truncated"),
        ("SELECT * FROM vacuumed", "public_vacuumed"),
        ("SELECT * FROM altered", "public_altered"),
        ("SELECT * FROM widened_before", "public_widened"),
        ("SELECT * FROM refreshed", "public_refreshed"),
        ("SELECT * FROM seen", "public_seen"),
    ]);
    slow.site.assert_sound(&[&job], daemons);
}

#[test]
fn columns_and_tables_under_the_names_of_others_are_never_taken_for_them() {
    let db = Database::empty();
    // Types without a fixed oid, which the server's parser alone cannot tell apart for us.
    db.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'glad', 'new'); CREATE DOMAIN name_of AS text; CREATE TYPE pair AS (x int, y int);
         CREATE TYPE named AS (first name_of, last name_of);",
    );
    let create = |table: &str, columns: &str, values: &str| {
        db.execute(&format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, {columns}, filler text);
             INSERT INTO {table} SELECT g, {values}, repeat(md5(g::text), 6) FROM generate_series(1, 12000) g"
        ));
    };
    create("added", "mood mood, list mood[]", "'sad', '{glad}'");
    create("swapped", "home name_of, work name_of", "'home', 'work'");
    create("exchanged", "mood mood", "'sad'");
    create("other", "mood mood", "'glad'");
    create("shifted", "p pair", "ROW(g, -g)::pair");
    create("turned", "l named[]", "ARRAY[ROW('f', 'l')::named]");
    create("unplanned", "mood mood, kept mood", "'sad', 'glad'");
    db.execute("ANALYZE");
    let slow = Slow::new(db);
    let daemons = [slow.daemon(), slow.daemon()];
    let pages = |name: &str, columns: &[&str]| {
        let mut table = json!({"table": format!("public.{name}"), "strategy": "ctid", "chunk_rows": 1000});
        if !columns.is_empty() {
            table["columns"] = json!(columns);
        }
        table
    };
    let job = slow.request_together(&json!([
        pages("added", &[]),
        pages("swapped", &[]),
        pages("exchanged", &["mood"]),
        pages("shifted", &[]),
        pages("turned", &[]),
        pages("unplanned", &["id", "kept", "filler"]),
    ]));
    slow.change_mid_job(
        &job,
        &[
            "ALTER TABLE added RENAME mood TO old; ALTER TABLE added ADD mood mood DEFAULT 'new'",
            "ALTER TABLE swapped RENAME home TO x; ALTER TABLE swapped RENAME work TO home; \
         ALTER TABLE swapped RENAME x TO work",
            "ALTER TABLE exchanged RENAME TO old; ALTER TABLE other RENAME TO exchanged",
            "ALTER TYPE pair DROP ATTRIBUTE x, ADD ATTRIBUTE z int",
            "ALTER TYPE named RENAME ATTRIBUTE first TO x; ALTER TYPE named RENAME ATTRIBUTE last TO first; \
         ALTER TYPE named RENAME ATTRIBUTE x TO last",
            "ALTER TABLE unplanned RENAME mood TO temper",
        ],
    );
    slow.proxy.mend();

    slow.site.completed(&job);
    let archive = slow.site.exports.archive(&job);
    assert_planned_again(&archive, &["added", "swapped", "exchanged", "shifted", "turned"]);
    assert_eq!(table(&archive, "public.unplanned")["epoch"], 1, "a name that nobody asked for may change");
    let pair = |name: &str| json!({"relation": format!("public.{name}")});
    let only =
        |name: &str, columns: &[&str]| json!({"relation": format!("public.{name}"), "columns": columns});
    for judged in slow.site.cast_back(&[
        pair("added"),
        pair("swapped"),
        only("exchanged", &["mood"]),
        pair("shifted"),
        pair("turned"),
        only("unplanned", &["id", "kept", "filler"]),
    ]) {
        assert!(judged.differences.is_empty() && judged.rows == 12_000, "{judged:#?}");
    }
    slow.site.assert_sound(&[&job], daemons);
}

#[test]
fn a_table_that_changes_again_and_again_fails_and_says_why() {
    let db = Database::empty();
    fill(&db, "restless", 12_000);
    fill(&db, "calm", 2000);
    let slow = Slow::new(db).at(500_000);
    let daemon = slow.daemon();
    let job = slow.request(&["restless", "calm"]);
    let over = || slow.site.broker.events.all().into_iter().any(|e| e.job() == job && e.is_final());
    eventually("it is planned again until it is given up", PATIENCE, || {
        slow.site.db.execute("VACUUM FULL restless");
        over().then_some(())
    });
    let last = slow.site.broker.events.wait_final(&job, PATIENCE);
    assert_eq!(last.kind(), "job.partial", "{}", last.body);
    assert!(last.error().contains("public.restless changed"), "{}", last.error());
    assert!(last.error().contains("3 times"), "{}", last.error());
    slow.site.assert_equal(&[("SELECT * FROM calm", "public_calm")]);
    slow.site.assert_sound(&[&job], [daemon]);
}

#[test]
fn a_waiting_alter_table_gets_its_turn_after_a_chunk() {
    let db = Database::empty();
    fill(&db, "big", 30_000);
    db.execute("CREATE TABLE before AS SELECT * FROM big");
    let slow = Slow::new(db).at(400_000);
    let daemons = [(); 2].map(|()| {
        let mut config = slow.config();
        config["sources"]["warehouse"]["lock_timeout"] = json!("500ms");
        slow.site.daemon_with(&config)
    });
    let job = slow.request(&["big"]);
    daemons.iter().for_each(mid_job);
    let mut waits = Vec::new();
    for n in 0..3 {
        let asked = Instant::now();
        slow.site.db.execute(&format!("ALTER TABLE big ADD COLUMN more_{n} int"));
        waits.push(asked.elapsed());
        // At one moment all daemons may be between two chunks.
        std::thread::sleep(Duration::from_millis(300));
    }
    slow.site.assert_runs(&job, "it waited while the job ran");
    let longest = longest_chunk(&slow, &job);
    for wait in &waits {
        assert!(
            *wait < longest + Duration::from_secs(1),
            "it waited for {wait:?}, a chunk takes {longest:?}"
        );
    }
    assert!(waits.iter().any(|w| *w > Duration::from_millis(100)), "it had to wait for a chunk: {waits:?}");

    assert_one_snapshot(&slow.completes(&job));
    slow.site.assert_equal(&[("SELECT * FROM before", "public_big")]);
    slow.site.assert_sound(&[&job], daemons);
}

/// The time that the slowest finished chunk took.
fn longest_chunk(slow: &Slow, job: &str) -> Duration {
    let records = format!(".temp/job_{job}/records/e1/0");
    let files = slow.site.exports.names(&records);
    let seconds = files.iter().filter(|n| n.ends_with(".json") && !n.starts_with('.')).filter_map(|name| {
        let text = std::fs::read(slow.site.exports.path(&format!("{records}/{name}"))).ok()?;
        serde_json::from_slice::<Value>(&text).ok()?["seconds"].as_f64()
    });
    Duration::from_secs_f64(seconds.fold(0.0, f64::max))
}

#[test]
fn a_table_that_is_locked_for_a_while_is_waited_for() {
    let slow = Slow::big(30_000);
    let mut config = slow.config();
    config["sources"]["warehouse"]["lock_timeout"] = json!("300ms");
    let daemon = slow.site.daemon_with(&config);
    let job = slow.request(&["big"]);
    mid_job(&daemon);
    slow.site.db.execute("BEGIN; LOCK TABLE big IN ACCESS EXCLUSIVE MODE");
    eventually("chunks are tried again", Duration::from_secs(20), || {
        (daemon.metric("adu_export_retries_total") >= 4.0).then_some(())
    });
    slow.site.db.execute("COMMIT");
    assert_one_snapshot(&slow.completes(&job));
    slow.site.assert_equal(&[("SELECT * FROM big", "public_big")]);
    slow.site.assert_sound(&[&job], [daemon]);
}
