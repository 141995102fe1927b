//! One job, and a daemon that dies or freezes in the middle of it.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Daemon, Database, PATIENCE, Site, eventually, none_left};

/// Time for a daemon to take over from a frozen one: its heartbeats and intervals.
pub(crate) const TAKEOVER: Duration = Duration::from_secs(60);

/// A site with a few small tables.
pub(crate) struct Scene {
    pub(crate) site: Site,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self { site: Site::new(Self::database()) }
    }

    pub(crate) fn database() -> Database {
        let db = Database::empty();
        db.execute(
            "CREATE TABLE ordered AS SELECT g::bigint AS id, 'note ' || g AS note FROM generate_series(1, 3000) g; \
             ALTER TABLE ordered ADD PRIMARY KEY (id); \
             CREATE TABLE paged AS SELECT g AS n, md5(g::text) AS hash FROM generate_series(1, 3000) g; \
             CREATE TABLE small AS SELECT 1 AS one, NULL::text AS nothing; \
             CREATE TABLE empty (id integer); \
             ANALYZE",
        );
        db
    }

    /// A daemon with failpoints.
    #[track_caller]
    pub(crate) fn doomed(&self, failpoints: &str) -> Daemon {
        self.doomed_with(&self.site.config(), failpoints).ready()
    }

    /// A daemon with failpoints that may not be ready yet.
    #[track_caller]
    pub(crate) fn doomed_with(&self, config: &Value, failpoints: &str) -> Daemon {
        self.site.spawn_in(config, &[("FAILPOINTS", failpoints)])
    }

    /// Tables with several chunks by range and by pages, and small tables in a batch.
    pub(crate) fn tables() -> Value {
        json!([
            {"table": "public.ordered", "strategy": "range", "chunk_rows": 1000},
            {"table": "public.paged", "strategy": "ctid", "chunk_rows": 1000},
            "public.small",
            "public.empty",
        ])
    }

    /// Queries and the directories that must hold their rows.
    pub(crate) fn pairs() -> [(&'static str, &'static str); 4] {
        [
            ("SELECT * FROM ordered", "public_ordered"),
            ("SELECT * FROM paged", "public_paged"),
            ("SELECT * FROM small", "public_small"),
            ("SELECT * FROM empty", "public_empty"),
        ]
    }

    /// Requests all tables.
    pub(crate) fn request(&self) -> String {
        self.site.request(json!({"tables": Self::tables()}))
    }

    /// The job has ended, its archive exists and its workspace is gone.
    #[track_caller]
    pub(crate) fn finished(&self, job: &str) {
        self.site.completed(job);
        none_left("the workspace goes", PATIENCE, || self.site.exports.leftovers());
    }

    /// Every table exists once, and nothing else is left.
    #[track_caller]
    pub(crate) fn assert_whole(&self, job: &str, daemons: impl IntoIterator<Item = Daemon>) {
        self.finished(job);
        assert!(!self.site.broker.events.of(job, "job.accepted").is_empty(), "{job} was never accepted");
        self.site.assert_equal(&Self::pairs());
        self.site.assert_sound(&[job], daemons);
    }
}

/// Waits until a failpoint has killed the daemon.
#[track_caller]
pub(crate) fn died(daemon: &mut Daemon) {
    let status = daemon.ended(PATIENCE);
    assert_eq!(status.signal(), Some(9), "{} ended with {status}:\n{}", daemon.name, daemon.log());
}

/// Waits until a failpoint has stopped the daemon.
#[track_caller]
pub(crate) fn froze(daemon: &mut Daemon) {
    eventually(&format!("{} is stopped", daemon.name), PATIENCE, || {
        assert!(daemon.lives(), "{} ended:\n{}", daemon.name, daemon.log());
        daemon.is_frozen().then_some(())
    });
}

/// Waits until a daemon is the coordinator.
#[track_caller]
pub(crate) fn coordinates(daemon: &Daemon) {
    eventually(&format!("{} coordinates", daemon.name), TAKEOVER, || {
        (daemon.metric("adu_export_coordinator_active") > 0.0).then_some(())
    });
}

/// Continues a daemon that was stopped so long that the broker closed its connections. Waits until the daemon
/// has noticed and works again.
#[track_caller]
pub(crate) fn revive(daemon: &Daemon) {
    daemon.thaw();
    eventually(&format!("{} has a new connection", daemon.name), TAKEOVER, || {
        let connections = daemon.log().matches("connected to the broker").count();
        (connections > 1 && daemon.get("/readyz")?.0 == 200).then_some(())
    });
}
