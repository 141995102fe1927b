//! A Greenplum cluster that the tests are given: `ADU_TEST_GREENPLUM_DSN` is the DSN of its superuser.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::database::{EXPORTER, PASSWORD, try_connect};
use super::services::block_on;

static CLUSTER: LazyLock<Greenplum> = LazyLock::new(|| {
    let dsn = std::env::var("ADU_TEST_GREENPLUM_DSN")
        .expect("ADU_TEST_GREENPLUM_DSN is the DSN of a Greenplum superuser: make greenplum-check");
    Greenplum::of(&dsn)
});

/// The cluster.
pub(crate) struct Greenplum {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    password: Option<String>,
    /// A database to make others from.
    database: String,
}

impl Greenplum {
    /// The cluster of this run.
    pub(super) fn get() -> &'static Self {
        &CLUSTER
    }

    fn of(dsn: &str) -> Self {
        let config: Config = dsn.parse().expect("ADU_TEST_GREENPLUM_DSN is a DSN");
        let host = config.get_hosts().iter().find_map(|host| match host {
            Host::Tcp(host) => Some(host.clone()),
            Host::Unix(_) => None,
        });
        Self {
            host: host.expect("a host in ADU_TEST_GREENPLUM_DSN"),
            port: config.get_ports().first().copied().unwrap_or(5432),
            user: config.get_user().expect("a user in ADU_TEST_GREENPLUM_DSN").to_owned(),
            password: config.get_password().map(|p| String::from_utf8_lossy(p).into_owned()),
            database: config.get_dbname().unwrap_or("postgres").to_owned(),
        }
    }

    pub(super) fn admin_dsn(&self, database: &str) -> String {
        let password: String =
            self.password.iter().flat_map(|p| p.bytes()).map(|b| format!("%{b:02X}")).collect();
        let colon = if password.is_empty() { "" } else { ":" };
        format!("postgres://{}{colon}{password}@{}:{}/{database}", self.user, self.host, self.port)
    }

    fn run(&self, database: &str, sql: &str) -> Result<(), tokio_postgres::Error> {
        block_on(async { try_connect(&self.admin_dsn(database)).await?.batch_execute(sql).await })
    }

    /// Creates an empty database and the role that exports.
    pub(super) fn create(&self, extension: bool) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("adu_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let role = format!(
            "DO $$ BEGIN CREATE ROLE {EXPORTER} LOGIN PASSWORD '{PASSWORD}'; \
             EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        );
        self.run(&self.database, &role).expect("create the exporting role");
        self.run(&self.database, &format!("CREATE DATABASE {name}")).expect("create a database");
        if extension {
            self.run(&name, "CREATE EXTENSION IF NOT EXISTS gp_parallel_retrieve_cursor")
                .expect("create the extension");
        }
        let grant = format!("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {EXPORTER}");
        self.run(&name, &grant).expect("grant");
        name
    }

    /// Drops a database, whoever uses it.
    pub(super) fn drop(&self, name: &str) -> Result<(), tokio_postgres::Error> {
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
        );
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            self.run(&self.database, &end)?;
            let dropped = self.run(&self.database, &format!("DROP DATABASE IF EXISTS {name}"));
            if dropped.is_ok() || Instant::now() > until {
                return dropped;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
