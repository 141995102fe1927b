//! A site whose source is a database on the cluster.

use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Daemon, Database, PATIENCE, Site, answer, eventually, manual};

/// The ways to read a table.
pub(crate) const WAYS: [&str; 3] = ["copy", "query", "retrieve"];

/// A site, and exports of its database.
pub(crate) struct Scene {
    pub(crate) site: Site,
}

impl Scene {
    /// A database with the extension for retrieve cursors.
    pub(crate) fn new(setup: &str) -> Self {
        Self::of(Database::greenplum(true), setup)
    }

    pub(crate) fn of(db: Database, setup: &str) -> Self {
        if !setup.is_empty() {
            db.execute(setup);
        }
        Self { site: Site::new(db) }
    }

    /// Runs a one-shot export.
    pub(crate) fn try_export(&self, request: &Value, arguments: &[&str]) -> Output {
        self.site.one_shot(&[&["--dsn", &self.site.db.dsn()], arguments].concat(), request)
    }

    /// Runs a one-shot export, which must complete.
    #[track_caller]
    pub(crate) fn export(&self, request: &Value) -> Value {
        answer(&self.try_export(request, &[]), request)
    }

    /// The plan of a request, without an export.
    #[track_caller]
    pub(crate) fn plan(&self, request: &Value) -> Value {
        self.site.planned(&["--dsn", &self.site.db.dsn()], request)
    }

    /// A daemon with small pauses and failpoints.
    #[track_caller]
    pub(crate) fn daemon(&self, failpoints: &str) -> Daemon {
        self.site.spawn_in(&self.config(), &[("FAILPOINTS", failpoints)]).ready()
    }

    /// The configuration of a daemon.
    pub(crate) fn config(&self) -> Value {
        let mut config = self.site.config();
        config["sources"]["warehouse"]["stall_timeout"] = json!("60s");
        config["sources"]["warehouse"]["session"] = json!({"work_mem": "32MB"});
        config
    }

    /// Waits until this many chunks are in flight on the daemons together.
    #[track_caller]
    pub(crate) fn in_flight(&self, daemons: &[&Daemon], chunks: u64) {
        eventually(&format!("{chunks} chunks in flight"), PATIENCE, || {
            let now = daemons.iter().map(|d| d.chunks_in_flight()).sum::<u64>();
            (now >= chunks).then_some(())
        });
    }

    /// Waits until a chunk is in the middle of its rows: it has begun to read, and had time for some.
    #[track_caller]
    pub(crate) fn mid_scan(&self) {
        let sql =
            format!("SELECT count(*) FROM ({READERS}) r WHERE query ~ '^(COPY|DECLARE|SELECT e.hostname)'");
        eventually("a chunk reads", PATIENCE, || (self.site.db.number(&sql) > 0).then_some(()));
        std::thread::sleep(Duration::from_millis(1500));
        assert!(self.site.db.number(&sql) > 0, "a chunk still reads");
    }

    /// Ends the sessions whose `application_name` is like this, and says how many there were.
    pub(crate) fn terminate(&self, application: &str) -> u64 {
        self.site.db.number(&format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name LIKE '{application}'"
        ))
    }

    /// Waits for the first plan of a job.
    #[track_caller]
    pub(crate) fn planned(&self, job: &str) -> Value {
        eventually("the plan", PATIENCE, || self.site.exports.plan(job, 1))
    }

    /// Distributed transactions of the sessions that hold snapshots.
    pub(crate) fn holders(&self) -> Vec<String> {
        let rows = self.site.db.rows(
            "SELECT x.distributed_xid, a.application_name FROM gp_distributed_xacts x \
             JOIN pg_stat_activity a ON a.sess_id = x.gp_session_id \
             WHERE a.datname = current_database() AND a.application_name LIKE 'aduk:%'",
        );
        rows.iter().map(|r| r.join(" | ")).collect()
    }

    /// Ends the sessions that read rows.
    pub(crate) fn terminate_readers(&self) -> u64 {
        self.site.db.number(&format!("SELECT count(pg_terminate_backend(pid)) FROM ({READERS}) r"))
    }
}

/// Sessions of the coordinator that read rows.
pub(crate) const READERS: &str = "SELECT pid, application_name, state, query FROM pg_stat_activity \
     WHERE datname = current_database() AND usename = 'exporter' \
       AND application_name NOT LIKE 'aduk:%' AND state <> 'idle'";

impl Scene {
    /// What DuckDB answers for the files of a directory: `select` gives one row, as text.
    #[track_caller]
    pub(crate) fn rows(&self, directory: &str, select: &str) -> Vec<String> {
        self.rows_of_all(&[directory], select).remove(0)
    }

    /// The same for several directories.
    #[track_caller]
    pub(crate) fn rows_of_all(&self, directories: &[&str], select: &str) -> Vec<Vec<String>> {
        let files = |d: &&str| format!("{}/*.parquet", self.site.exports.path(d).display());
        let files: Vec<String> = directories.iter().map(files).collect();
        let code = format!(
            "import duckdb\n\
             for files in {files:?}:\n    \
                 row = duckdb.execute({:?}, [files]).fetchone()\n    \
                 print('|'.join(map(str, row)))",
            format!("SELECT {select} FROM read_parquet(?)"),
        );
        let answer = manual::run_python(&code, &self.site.exports.0);
        answer.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect()
    }

    /// Ends sessions of the exporting role on all segments, and says how many there were.
    pub(crate) fn terminate_on_segments(&self) -> u64 {
        self.on_segments(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND usename = 'exporter'",
        )
    }

    /// Ends the sessions that retrieve rows.
    pub(crate) fn terminate_retrieving(&self) -> u64 {
        self.on_segments(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name = 'adu-export retrieve'",
        )
    }

    /// Processes of the exporting role that work on segments, apart from sessions that hold snapshots.
    pub(crate) fn busy_on_segments(&self) -> u64 {
        self.on_segments(
            "SELECT count(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND usename = 'exporter' \
               AND application_name NOT LIKE 'aduk:%' AND state <> 'idle'",
        )
    }

    /// The sum of a number over all segments.
    fn on_segments(&self, sql: &str) -> u64 {
        let segments = self
            .site
            .db
            .rows("SELECT address, port FROM gp_segment_configuration WHERE role = 'p' AND content >= 0");
        let port = |segment: &[String]| segment[1].parse().expect("a port");
        segments.iter().map(|segment| self.site.db.on_segment(&segment[0], port(segment), sql)).sum()
    }
}
