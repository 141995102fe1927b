//! A job that is in its middle for as long as a test wants: tables of many
//! chunks behind a slow proxy.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Daemon, Database, PATIENCE, Proxy, Services, Site, eventually};

/// A site whose source is as slow as the test says.
pub(crate) struct Slow {
    pub(crate) site: Site,
    pub(crate) proxy: Proxy,
}

impl Slow {
    /// On the servers of all.
    pub(crate) fn new(db: Database) -> Self {
        Self::of(Site::new(db), Services::get())
    }

    /// Of a site whose source is on `services`.
    pub(crate) fn of(site: Site, services: &Services) -> Self {
        let proxy = Proxy::to(services.postgres);
        proxy.slow_to(2_000_000);
        Self { site, proxy }
    }

    /// Chunks of a thousand rows, through the proxy.
    pub(crate) fn config(&self) -> Value {
        let mut config = self.site.config();
        config["sources"]["warehouse"]["dsn"] = json!(self.site.db.dsn_at(self.proxy.port));
        config["export"]["chunk_rows"] = json!(1000);
        config
    }

    /// A daemon that consumes.
    pub(crate) fn daemon(&self) -> Daemon {
        self.site.daemon_with(&self.config())
    }

    /// The plan of an epoch, once it is there.
    pub(crate) fn plan(&self, job: &str, epoch: u32) -> Option<Value> {
        let path = self.site.exports.path(&format!(".temp/job_{job}/plans/e{epoch}.json"));
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// The job ends as completed.
    #[track_caller]
    pub(crate) fn completes(&self, job: &str) -> Value {
        self.proxy.mend();
        self.site.completed(job);
        self.site.exports.archive(job)
    }
}

/// Fills a table with about 200 bytes a row, in the order of its key.
pub(crate) fn fill(db: &Database, table: &str, rows: u32) {
    db.execute(&format!(
        "CREATE TABLE {table} (id int PRIMARY KEY, v text);
         INSERT INTO {table} SELECT g, g || ' ' || repeat(md5(g::text), 6) FROM generate_series(1, {rows}) g;
         ANALYZE {table}"
    ));
}

/// Waits until a daemon has finished chunks and is in the middle of others.
#[track_caller]
pub(crate) fn mid_job(daemon: &Daemon) {
    eventually(&format!("{} is mid-job", daemon.name), Duration::from_secs(30), || {
        (daemon.rows_exported() > 0 && daemon.chunks_in_flight() > 0).then_some(())
    });
}

/// The job's only table `big` is whole in the end, planned once.
#[track_caller]
pub(crate) fn whole(slow: &Slow, job: &str, daemons: impl IntoIterator<Item = Daemon>) {
    let archive = slow.completes(job);
    assert_eq!(archive["epochs"], 1, "no table was planned again: {archive}");
    slow.site.assert_equal(&[("SELECT * FROM big", "public_big")]);
    slow.site.assert_sound(&[job], daemons);
}

/// Waits until some chunks of every table are done, and none has all of its twelve.
#[track_caller]
pub(crate) fn every_table_mid_job(slow: &Slow, job: &str) {
    let plan = eventually("the plan", PATIENCE, || slow.plan(job, 1));
    let tables = plan["tables"].as_array().expect("tables");
    let done = |table: &Value| {
        let names = slow.site.exports.names(&format!(".temp/job_{job}/records/e1/{}", table["batch"]));
        names.iter().filter(|n| !n.starts_with('.')).count()
    };
    eventually("every table is in its middle", PATIENCE, || tables.iter().all(|t| done(t) > 0).then_some(()));
    assert!(tables.iter().all(|t| done(t) < 12), "no table is done");
}

/// One table of an archive.
#[track_caller]
pub(crate) fn table<'a>(archive: &'a Value, name: &str) -> &'a Value {
    let found = archive["tables"].as_array().expect("tables").iter().find(|t| t["table_name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {archive}"))
}
