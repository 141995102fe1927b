//! Daemons die and come; jobs end all the same.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Daemon, Database, Proxy, Services, Site, eventually};

/// A site whose lineitem and orders take a while: many chunks, through a slow proxy.
struct Slow {
    site: Site,
    proxy: Proxy,
}

impl Slow {
    fn new() -> Self {
        let db = Database::tpch();
        db.execute("CREATE TABLE before AS SELECT * FROM lineitem");
        let site = Site::new(db);
        let proxy = Proxy::to(Services::get().postgres);
        proxy.slow_to(15_000_000);
        Self { site, proxy }
    }

    fn config(&self) -> Value {
        let mut config = self.site.config();
        config["sources"]["warehouse"]["dsn"] = json!(self.site.db.dsn_at(self.proxy.port));
        config["export"]["chunk_rows"] = json!(10_000);
        config
    }

    fn daemon(&self) -> Daemon {
        self.site.daemon_with(&self.config())
    }

    fn request(&self) -> String {
        self.site.request(json!({"tables": ["public.lineitem", "public.orders"]}))
    }

    /// The job ends, with the rows of the moment when it began.
    fn assert_completes(&self, job: &str, daemons: Vec<Daemon>) {
        self.proxy.free();
        self.site.completed(job);
        self.site.assert_equal(&[
            ("SELECT * FROM before", "public_lineitem"),
            ("SELECT * FROM orders", "public_orders"),
        ]);
        let parts = self.site.exports.names("public_lineitem").len();
        assert!((60..=self.chunks(job, "public.lineitem")).contains(&parts), "{parts} parts");
        self.site.assert_sound(&[job], daemons);
    }

    fn chunks(&self, job: &str, table: &str) -> usize {
        let archive = self.site.exports.archive(job);
        let tables = archive["tables"].as_array().expect("tables");
        let table = tables.iter().find(|t| t["table_name"] == table).expect("the table");
        usize::try_from(table["chunks"].as_u64().expect("chunks")).expect("fits")
    }
}

/// Waits until a daemon has finished chunks and is in the middle of others.
#[track_caller]
fn mid_job(daemon: &Daemon) {
    eventually(&format!("{} is mid-job", daemon.name), Duration::from_secs(30), || {
        (daemon.rows_exported() > 0 && daemon.chunks_in_flight() > 0).then_some(())
    });
}

fn a_killed_daemon_is_survived(victim_coordinates: bool) {
    let slow = Slow::new();
    let mut daemons = vec![slow.daemon(), slow.daemon()];
    let job = slow.request();
    daemons.iter().for_each(mid_job);
    let coordinates = |d: &Daemon| d.metric("adu_export_coordinator_active") > 0.0;
    assert_eq!(daemons.iter().filter(|d| coordinates(d)).count(), 1, "one coordinator");
    let victim = daemons.iter().position(|d| coordinates(d) == victim_coordinates).expect("there is one");

    // Enough is left to do, however long the change below takes.
    slow.proxy.slow_to(1_000_000);
    daemons.remove(victim).kill();
    // What changes from now on must not show: the survivor holds the snapshot.
    slow.site.db.execute("UPDATE lineitem SET l_comment = 'too late'");
    assert!(slow.site.exports.find_archive(&job).is_none(), "the kill came while the job ran");

    slow.assert_completes(&job, daemons);
}

#[test]
fn a_job_survives_its_coordinator() {
    a_killed_daemon_is_survived(true);
}

#[test]
fn a_job_survives_a_worker() {
    a_killed_daemon_is_survived(false);
}

#[test]
fn a_job_survives_the_only_daemon_when_another_one_comes() {
    let slow = Slow::new();
    let mut first = slow.daemon();
    let job = slow.request();
    mid_job(&first);
    first.kill();
    // The snapshot died with it: what is exported from now on may be newer, but whole.
    let second = slow.daemon();
    slow.assert_completes(&job, vec![second]);
}

#[test]
fn a_daemon_that_joins_takes_chunks() {
    let slow = Slow::new();
    let first = slow.daemon();
    let job = slow.request();
    mid_job(&first);
    let second = slow.daemon();
    mid_job(&second);
    slow.site.db.execute("UPDATE lineitem SET l_comment = 'too late'");
    slow.assert_completes(&job, vec![first, second]);
}
