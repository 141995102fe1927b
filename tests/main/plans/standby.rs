//! Exports from a hot standby show one moment, even if the standby cancels sessions that delay its replay.

use std::time::Duration;

use serde_json::json;

use super::bank;
use crate::support::{Daemon, Database, PATIENCE, Postgres, Site, Slow, eventually, none_left, table};

const EXPORTS: usize = 5;

/// Sessions of the exporting roles on the standby. The checker looks only at the primary.
fn sessions(standby: &Postgres) -> u64 {
    standby.number("postgres", "SELECT count(*) FROM pg_stat_activity WHERE usename = 'exporter'")
}

#[track_caller]
fn assert_sound(site: &Site, standby: &Postgres, jobs: &[&str], daemons: impl IntoIterator<Item = Daemon>) {
    site.assert_sound(jobs, daemons);
    none_left("no session is left on the standby", Duration::from_secs(15), || match sessions(standby) {
        0 => Vec::new(),
        n => vec![format!("{n} sessions")],
    });
}

#[test]
fn every_export_of_a_standby_is_one_moment_of_tables_that_are_written_on_its_primary() {
    let primary = Postgres::start(&[]);
    let db = Database::on(primary.services());
    bank::open(&db);
    // The primary keeps rows that exports read, so that replay does not stop while they read.
    let settings = [
        ("hot_standby_feedback", "on"),
        ("wal_receiver_status_interval", "1s"),
        ("max_standby_streaming_delay", "-1"),
    ];
    let standby = primary.standby(&settings);
    let site = Site::new(db);
    let daemon = || {
        let mut config = site.config();
        config["sources"]["warehouse"]["dsn"] = json!(site.db.dsn_at(standby.port));
        site.daemon_with(&config)
    };
    let daemons = [daemon(), daemon()];

    let replayed = || standby.number(&site.db.name, "SELECT pg_last_wal_replay_lsn() - '0/0'");
    let (mut jobs, mut moved_on) = (Vec::new(), 0);
    let transactions = bank::while_money_moves(&site.db, || {
        for turn in 0..EXPORTS {
            let before = replayed();
            jobs.push(site.export(bank::request(turn)).job().to_owned());
            moved_on += usize::from(replayed() > before);
        }
    });
    assert!(transactions > EXPORTS as u64, "only {transactions} transactions: nothing was written meanwhile");
    assert_eq!(moved_on, EXPORTS, "the standby followed its primary during every export");

    let kinds = bank::assert_every_job_is_one_moment(&site, &jobs);
    assert!(
        kinds["ctid"] > 0 && kinds.values().sum::<usize>() > kinds["ctid"],
        "both kinds of split: {kinds:?}"
    );
    assert_sound(&site, &standby, &jobs.iter().map(String::as_str).collect::<Vec<_>>(), daemons);
}

/// A standby that waits one second for sessions that delay its replay, and a job of two tables that reads it
/// slowly. One table is done, the other one is running.
struct Conflict {
    job: String,
    daemons: [Daemon; 2],
    slow: Slow,
    standby: Postgres,
    _primary: Postgres,
}

impl Conflict {
    #[track_caller]
    fn new(chunk_rows: u32) -> Self {
        let primary = Postgres::start(&[("autovacuum", "off")]);
        let db = Database::on(primary.services());
        for (table, rows) in [("quick", 2000), ("big", 40_000)] {
            db.execute(&format!(
                "CREATE TABLE {table} (id int PRIMARY KEY, v text); ALTER TABLE {table} ALTER v SET STORAGE PLAIN;
                 INSERT INTO {table} SELECT g, g || ' ' || repeat(md5(g::text), 18) FROM generate_series(1, {rows}) g;
                 ANALYZE {table};
                 CREATE TABLE {table}_before AS SELECT * FROM {table}"
            ));
        }
        let standby = primary.standby(&[("max_standby_streaming_delay", "1s")]);
        let slow = Slow::of(Site::new(db), standby.port).chunks_of(chunk_rows).at(1_000_000);
        let daemon = || {
            let mut config = slow.config();
            config["timing"]["keeper_wait"] = json!("1s");
            slow.site.daemon_with(&config)
        };
        let daemons = [daemon(), daemon()];
        let job = slow.request(&["quick", "big"]);
        slow.site.broker.events.wait(&job, "table.completed", PATIENCE);
        for daemon in &daemons {
            eventually("every daemon reads", PATIENCE, || (daemon.chunks_in_flight() > 0).then_some(()));
        }
        Self { job, daemons, slow, standby, _primary: primary }
    }

    /// Waits until the standby has cancelled a session because of `lock` or `snapshot`.
    #[track_caller]
    fn await_cancelled(&self, reason: &str) {
        let sql = format!(
            "SELECT confl_{reason} FROM pg_stat_database_conflicts WHERE datname = current_database()"
        );
        eventually(&format!("a conflict of {reason}"), Duration::from_secs(20), || {
            (self.standby.number(&self.slow.site.db.name, &sql) > 0).then_some(())
        });
        self.slow.site.assert_runs(&self.job, "the conflict came while the job ran");
    }

    #[track_caller]
    fn assert_sound(self) {
        assert_sound(&self.slow.site, &self.standby, &[&self.job], self.daemons);
    }
}

#[test]
fn a_chunk_that_a_standby_cancels_is_read_again_under_the_same_snapshot() {
    // More than the sockets can buffer, so the server is in the middle of its COPY.
    let conflict = Conflict::new(20_000);
    let site = &conflict.slow.site;
    site.db.execute("UPDATE quick SET v = 'too late'; UPDATE big SET v = 'too late'");
    // Chunks block the lock of this change. Keepers hold no locks.
    site.db.execute("ALTER TABLE big ADD COLUMN more int");
    conflict.await_cancelled("lock");
    let archive = conflict.slow.completes(&conflict.job);
    assert_eq!(archive["epochs"], 1, "{archive}");
    let told = |daemon: &Daemon| daemon.log().contains("canceling statement due to conflict with recovery");
    assert!(conflict.daemons.iter().any(told), "no daemon was told of the conflict");
    site.assert_equal(&[
        ("SELECT * FROM quick_before", "public_quick"),
        ("SELECT * FROM big_before", "public_big"),
    ]);
    conflict.assert_sound();
}

#[test]
fn a_snapshot_that_a_standby_cancels_is_taken_anew() {
    let conflict = Conflict::new(1000);
    let site = &conflict.slow.site;
    site.db.execute(
        "UPDATE quick SET v = 'too late'; DELETE FROM big WHERE id % 3 = 0; UPDATE big SET v = 'in time'",
    );
    site.db.execute("VACUUM big");
    conflict.await_cancelled("snapshot");
    eventually("the job is planned again", PATIENCE, || conflict.slow.plan(&conflict.job, 2));
    let archive = conflict.slow.completes(&conflict.job);
    let of = |name: &str| table(&archive, name)["lineage"].as_str().expect("a lineage").to_owned();
    assert_ne!(of("public.quick"), of("public.big"), "{archive}");
    site.assert_equal(&[("SELECT * FROM quick_before", "public_quick"), ("SELECT * FROM big", "public_big")]);
    conflict.assert_sound();
}

#[test]
fn what_only_the_primary_has_is_skipped_by_patterns_and_refused_by_name_until_the_standby_is_promoted() {
    let primary = Postgres::start(&[]);
    let db = Database::on(primary.services());
    db.execute(
        "CREATE TABLE logged AS SELECT g AS id FROM generate_series(1, 100) g;
         CREATE UNLOGGED TABLE volatile (id int PRIMARY KEY); INSERT INTO volatile SELECT * FROM logged;
         CREATE TABLE parts (id int) PARTITION BY RANGE (id);
         CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (50);
         CREATE UNLOGGED TABLE parts_2 PARTITION OF parts FOR VALUES FROM (50) TO (1000);
         INSERT INTO parts SELECT * FROM logged;
         CREATE TABLE parent (id int); INSERT INTO parent SELECT * FROM logged;
         CREATE UNLOGGED TABLE child () INHERITS (parent); INSERT INTO child VALUES (7);
         CREATE VIEW over AS SELECT * FROM volatile; CREATE VIEW further AS SELECT l.id FROM logged l LEFT JOIN over USING (id);
         CREATE VIEW own AS SELECT * FROM ONLY parent;
         CREATE MATERIALIZED VIEW kept AS SELECT * FROM volatile; CREATE VIEW of_kept AS SELECT * FROM kept",
    );
    let standby = primary.standby(&[]);
    let site = Site::new(db);
    let mut config = site.config();
    config["sources"]["warehouse"]["dsn"] = json!(site.db.dsn_at(standby.port));
    let daemon = site.daemon_with(&config);

    let matched = site.export(json!({"tables": ["public.*"]}));
    let archive = site.exports.archive(matched.job());
    let skipped = archive["skipped"].as_array().expect("skipped relations");
    let names: Vec<&str> = skipped.iter().filter_map(|s| s["table"].as_str()).collect();
    assert_eq!(names, ["public.child", "public.parent", "public.parts", "public.volatile"]);
    for relation in skipped {
        let reason = relation["reason"].as_str().expect("a reason");
        assert!(
            reason.contains("standby") && reason.contains("unlogged") && reason.contains("primary"),
            "{reason}"
        );
    }

    // Named tables fail, and only these. A table whose query reads none of them is exported.
    let named = site.request(json!({"tables": [
        "public.volatile", "public.parts", "public.parts_2", "public.parent", "public.over", "public.further",
        "public.own", "public.of_kept", {"table": "public.parts", "where": "id < 20"}, "public.parts_1",
    ]}));
    let last = site.broker.events.wait_final(&named, PATIENCE);
    assert_eq!(last.kind(), "job.partial", "{}", last.body);
    let archive = site.exports.archive(&named);
    let failed: Vec<&str> = archive["tables"]
        .as_array()
        .expect("tables")
        .iter()
        .filter(|t| t["status"] == "failed")
        .map(|t| {
            let said = t["error"].to_string();
            assert!(said.contains("primary") && said.contains("unlogged"), "{t}");
            assert_eq!(t["strategy"], "none", "it failed when it was planned: {t}");
            t["table_name"].as_str().expect("a name")
        })
        .collect();
    let expected = ["volatile", "parts", "parts_2", "parent", "over", "further"];
    assert_eq!(failed, expected.map(|name| format!("public.{name}")));
    let some = site.export(json!({"tables": [
        {"table": "public.parts", "where": "id < 20"}, {"table": "public.parent", "only": true}]}));
    let mixed = site.request(json!({"tables": [{"table": "public.parts", "where": "id < 60"}]}));
    let last = site.broker.events.wait_final(&mixed, PATIENCE);
    assert_eq!(last.kind(), "job.failed", "{}", last.body);
    assert!(last.body.to_string().contains("read it from the primary"), "{}", last.body);
    site.assert_equal(&[
        ("SELECT * FROM logged", "public_logged"),
        ("SELECT * FROM kept", "public_kept"),
        ("SELECT * FROM own", "public_own"),
        ("SELECT * FROM of_kept", "public_of_kept"),
        ("SELECT * FROM parts_1", "public_parts_1"),
        ("SELECT * FROM parts WHERE id < 20", "public_parts"),
        ("SELECT * FROM ONLY parent", "public_parent"),
    ]);
    // A filter makes no difference to a pattern, but where it leaves partitions out.
    let filtered = site.export(json!({
        "tables": [{"table": "public.*", "where": "id < 20"}], "output": {"directory": "filtered"}}));
    let archive = site.exports.archive(filtered.job());
    let skipped = archive["skipped"].as_array().expect("skipped relations");
    let names: Vec<&str> = skipped.iter().filter_map(|s| s["table"].as_str()).collect();
    assert_eq!(names, ["public.child", "public.parent", "public.volatile"]);
    site.assert_equal(&[
        ("SELECT * FROM logged WHERE id < 20", "filtered/public_logged"),
        ("SELECT * FROM parts WHERE id < 20", "filtered/public_parts"),
    ]);

    // A promoted standby has these tables, but without rows.
    assert_eq!(standby.number("postgres", "SELECT pg_promote()::int"), 1);
    let promoted = site.export(json!({"tables": ["public.volatile", "public.over", "public.parts"]}));
    site.assert_equal(&[
        ("SELECT * FROM volatile WHERE false", "public_volatile"),
        ("SELECT * FROM over WHERE false", "public_over"),
        ("SELECT * FROM parts_1", "public_parts_v2"),
    ]);
    assert_sound(
        &site,
        &standby,
        &[matched.job(), &named, some.job(), &mixed, filtered.job(), promoted.job()],
        [daemon],
    );
}
