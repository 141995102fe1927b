//! A database of one test, and what its server says.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::services::{Services, block_on};
use super::tpch;

/// The role that exports; it owns nothing and may read what the tests create.
pub(crate) const EXPORTER: &str = "exporter";
/// Its password.
pub(crate) const PASSWORD: &str = "not a secret: p@ss/word";

static SERVER: LazyLock<Client> = LazyLock::new(|| {
    let client = connect("postgres");
    let role = format!("CREATE ROLE {EXPORTER} LOGIN PASSWORD '{PASSWORD}'");
    block_on(client.batch_execute(&role)).expect("create the exporting role");
    client
});

/// TPC-H at scale 0.1, loaded once and copied for every test that wants it.
static TPCH: LazyLock<()> = LazyLock::new(|| {
    create("tpch01", "template1");
    block_on(tpch::load(&admin_dsn("tpch01"), 0.1, &[])).expect("load TPC-H");
});

/// A database of its own; dropped with this value.
pub(crate) struct Database {
    pub(crate) name: String,
    client: Client,
}

impl Database {
    /// One without tables.
    pub(crate) fn empty() -> Self {
        Self::new("template1")
    }

    /// One with the eight tables of TPC-H at scale 0.1.
    pub(crate) fn tpch() -> Self {
        LazyLock::force(&TPCH);
        Self::new("tpch01")
    }

    fn new(template: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        create(&name, template);
        let client = connect(&name);
        Self { name, client }
    }

    /// Runs statements as the owner of everything.
    #[track_caller]
    pub(crate) fn execute(&self, sql: &str) {
        if let Err(error) = block_on(self.client.batch_execute(sql)) {
            panic!("{sql}: {error:?}");
        }
    }

    /// The answer to a query, as the server's text; NULL is empty.
    #[track_caller]
    pub(crate) fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        let messages = match block_on(self.client.simple_query(sql)) {
            Ok(messages) => messages,
            Err(error) => panic!("{sql}: {error:?}"),
        };
        let rows = messages.iter().filter_map(|m| match m {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        rows.map(|r| (0..r.len()).map(|i| r.get(i).unwrap_or_default().to_owned()).collect()).collect()
    }

    /// The one number that a query answers.
    #[track_caller]
    pub(crate) fn number(&self, sql: &str) -> u64 {
        self.rows(sql)[0][0].parse().expect(sql)
    }

    /// How daemons connect, through `port`.
    pub(crate) fn dsn_at(&self, port: u16) -> String {
        format!("postgres://{EXPORTER}@127.0.0.1:{port}/{}", self.name)
    }

    /// How daemons connect.
    pub(crate) fn dsn(&self) -> String {
        self.dsn_at(Services::get().postgres)
    }

    /// How the oracle connects.
    pub(crate) fn admin_dsn(&self) -> String {
        admin_dsn(&self.name)
    }

    /// Sessions of the exporting role in one of `states`, with what they do.
    pub(crate) fn backends(&self, states: &[&str]) -> Vec<String> {
        let states = states.join("', '");
        let rows = self.rows(&format!(
            "SELECT pid, application_name, state, query FROM pg_stat_activity \
             WHERE datname = current_database() AND usename = '{EXPORTER}' AND state IN ('{states}')"
        ));
        rows.iter().map(|r| r.join(" | ")).collect()
    }

    /// Sessions of the exporting role that hold a transaction: chunks, planners, keepers.
    pub(crate) fn busy_backends(&self) -> Vec<String> {
        self.backends(&["active", "idle in transaction", "idle in transaction (aborted)"])
    }

    /// All sessions of the exporting role.
    pub(crate) fn all_backends(&self) -> Vec<String> {
        self.backends(&["active", "idle", "idle in transaction", "idle in transaction (aborted)", "disabled"])
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        if let Err(error) = block_on(SERVER.batch_execute(&sql)) {
            eprintln!("{sql}: {error}");
        }
    }
}

fn admin_dsn(database: &str) -> String {
    format!("postgres://postgres@127.0.0.1:{}/{database}", Services::get().postgres)
}

fn connect(database: &str) -> Client {
    block_on(async {
        let (client, connection) =
            tokio_postgres::connect(&admin_dsn(database), NoTls).await.expect("connect to PostgreSQL");
        tokio::spawn(connection);
        client
    })
}

fn create(name: &str, template: &str) {
    // Copying files is quicker than logging every page of them.
    let sql = format!("CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy");
    block_on(SERVER.batch_execute(&sql)).expect("create a database");
    let client = connect(name);
    let grants = format!(
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {EXPORTER}; \
         ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO {EXPORTER}"
    );
    block_on(client.batch_execute(&grants)).expect("grant");
}
