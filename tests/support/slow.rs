//! A job that is in its middle for as long as a test wants: tables of many chunks behind a slow proxy.

use std::time::Duration;

use serde_json::{Value, json};

use super::daemon::Daemon;
use super::database::Database;
use super::proxy::Proxy;
use super::services::Services;
use super::site::Site;
use super::wait::{PATIENCE, eventually};

/// A site whose source is as slow as the test says: 2 MB a second at first.
pub(crate) struct Slow {
    pub(crate) site: Site,
    pub(crate) proxy: Proxy,
    chunk_rows: u32,
}

impl Slow {
    /// A slow site on the shared servers.
    pub(crate) fn new(db: Database) -> Self {
        Self::of(Site::new(db), Services::get().postgres)
    }

    /// A slow site with one table `big` of this many rows.
    pub(crate) fn big(rows: u32) -> Self {
        let db = Database::empty();
        fill(&db, "big", rows);
        Self::new(db)
    }

    /// Slows down this site, whose source is the server at this port.
    pub(crate) fn of(site: Site, postgres: u16) -> Self {
        let proxy = Proxy::to(postgres);
        proxy.slow_to(2_000_000);
        Self { site, proxy, chunk_rows: 1000 }
    }

    /// Sets the rate.
    pub(crate) fn at(self, bytes_per_second: u64) -> Self {
        self.proxy.slow_to(bytes_per_second);
        self
    }

    /// Sets the rows of a chunk, which are a thousand at first.
    pub(crate) fn chunks_of(mut self, rows: u32) -> Self {
        self.chunk_rows = rows;
        self
    }

    /// The configuration of a daemon: small chunks, through the proxy.
    pub(crate) fn config(&self) -> Value {
        let mut config = self.site.config();
        config["sources"]["warehouse"]["dsn"] = json!(self.site.db.dsn_at(self.proxy.port));
        config["export"]["chunk_rows"] = json!(self.chunk_rows);
        config
    }

    /// Starts a daemon and waits until it consumes.
    #[track_caller]
    pub(crate) fn daemon(&self) -> Daemon {
        self.site.daemon_with(&self.config())
    }

    /// Asks for these tables of the schema `public`.
    pub(crate) fn request(&self, tables: &[&str]) -> String {
        let tables: Vec<String> = tables.iter().map(|table| format!("public.{table}")).collect();
        self.site.request(json!({"tables": tables}))
    }

    /// Asks for all of these tables at the same time.
    pub(crate) fn request_together(&self, tables: &Value) -> String {
        let all = tables.as_array().expect("tables").len();
        self.site
            .request(json!({"tables": tables, "parallelism": {"table_threads": all, "chunk_workers": 2}}))
    }

    /// The plan of an epoch, once it is there.
    pub(crate) fn plan(&self, job: &str, epoch: u32) -> Option<Value> {
        self.site.exports.plan(job, epoch)
    }

    /// The job ends as completed.
    #[track_caller]
    pub(crate) fn completes(&self, job: &str) -> Value {
        self.proxy.mend();
        self.site.completed(job);
        self.site.exports.archive(job)
    }

    /// Every job's only table `big` is whole in the end, planned once.
    #[track_caller]
    pub(crate) fn assert_whole(&self, jobs: &[&str], daemons: impl IntoIterator<Item = Daemon>) {
        for job in jobs {
            let archive = self.completes(job);
            assert_eq!(archive["epochs"], 1, "no table was planned again: {archive}");
            let directory = archive["tables"][0]["directory"].as_str().expect("a directory");
            self.site.assert_equal(&[("SELECT * FROM big", directory)]);
        }
        self.site.assert_sound(jobs, daemons);
    }

    /// Runs statements when some chunks of every table are done, and none has all of its twelve.
    #[track_caller]
    pub(crate) fn change_mid_job(&self, job: &str, statements: &[&str]) {
        let plan = eventually("the plan", PATIENCE, || self.plan(job, 1));
        let tables = plan["tables"].as_array().expect("tables");
        let done = |table: &Value| {
            let records = format!(".temp/job_{job}/records/e1/{}", table["batch"]);
            self.site.exports.names(&records).iter().filter(|n| !n.starts_with('.')).count()
        };
        eventually("every table is in its middle", PATIENCE, || {
            tables.iter().all(|t| done(t) > 0).then_some(())
        });
        assert!(tables.iter().all(|t| done(t) < 12), "no table is done");
        statements.iter().for_each(|sql| self.site.db.execute(sql));
        self.site.assert_runs(job, "all of it changed while the job ran");
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

/// One table of an archive.
#[track_caller]
pub(crate) fn table<'a>(archive: &'a Value, name: &str) -> &'a Value {
    let found = archive["tables"].as_array().expect("tables").iter().find(|t| t["table_name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {archive}"))
}

/// Tables of the schema `public` whose first plan was not carried out.
#[track_caller]
pub(crate) fn assert_planned_again(archive: &Value, names: &[&str]) {
    for name in names {
        let table = table(archive, &format!("public.{name}"));
        assert!(table["epoch"].as_u64() > Some(1), "it was planned again: {table}");
    }
}
