//! A database for one test, and queries to its server.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::greenplum::Greenplum;
use super::services::{Services, block_on};
use super::tpch;

/// The role that exports. It owns nothing and may read everything that the tests create.
pub(crate) const EXPORTER: &str = "exporter";
/// The password of the role.
pub(crate) const PASSWORD: &str = "not a secret: p@ss/word";

/// TPC-H at scale 0.1. It is loaded once and copied for every test that wants it.
static TPCH: LazyLock<()> = LazyLock::new(|| {
    let services = Services::get();
    create(services, "tpch01", "template1");
    block_on(tpch::load(&admin_dsn(services, "tpch01"), 0.1, &[])).expect("load TPC-H");
});

/// The server of a database.
#[derive(Clone, Copy)]
enum Server {
    Postgres(&'static Services),
    Greenplum(&'static Greenplum),
}

impl Server {
    fn host(self) -> &'static str {
        match self {
            Self::Postgres(_) => "127.0.0.1",
            Self::Greenplum(cluster) => &cluster.host,
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Postgres(services) => services.postgres,
            Self::Greenplum(cluster) => cluster.port,
        }
    }

    /// The superuser that makes what tests need.
    fn superuser(self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Greenplum(cluster) => &cluster.user,
        }
    }

    fn admin_dsn(self, database: &str) -> String {
        match self {
            Self::Postgres(services) => admin_dsn(services, database),
            Self::Greenplum(cluster) => cluster.admin_dsn(database),
        }
    }
}

/// A database for one test. Dropping this value drops the database.
pub(crate) struct Database {
    pub(crate) name: String,
    server: Server,
    client: Mutex<Arc<Client>>,
}

impl Database {
    /// A database without tables.
    pub(crate) fn empty() -> Self {
        Self::on(Services::get())
    }

    /// A database without tables, on this server.
    pub(crate) fn on(services: &'static Services) -> Self {
        Self::new(services, "template1")
    }

    /// A database with the eight tables of TPC-H at scale 0.1.
    pub(crate) fn tpch() -> Self {
        LazyLock::force(&TPCH);
        Self::new(Services::get(), "tpch01")
    }

    /// A database without tables, whose texts have this encoding.
    pub(crate) fn encoded(encoding: &str) -> Self {
        Self::new(Services::get(), &format!("template0 ENCODING '{encoding}' LOCALE 'C'"))
    }

    fn new(services: &'static Services, template: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        create(services, &name, template);
        Self::at(Server::Postgres(services), name)
    }

    /// A database without tables on the Greenplum cluster. `extension` says whether rows can be retrieved from
    /// its segments.
    pub(crate) fn greenplum(extension: bool) -> Self {
        let cluster = Greenplum::get();
        let name = cluster.create(extension);
        Self::at(Server::Greenplum(cluster), name)
    }

    fn at(server: Server, name: String) -> Self {
        let client = Mutex::new(Arc::new(connect_to(&server.admin_dsn(&name))));
        Self { name, server, client }
    }

    /// The kind of source that it is.
    pub(crate) fn kind(&self) -> &'static str {
        match self.server {
            Server::Postgres(_) => "postgres",
            Server::Greenplum(_) => "greenplum",
        }
    }

    /// An open connection; a new one if the server was restarted.
    fn client(&self) -> Arc<Client> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if client.is_closed() {
            *client = Arc::new(connect_to(&self.admin_dsn()));
        }
        client.clone()
    }

    /// Another session, which can wait for locks that the first one holds.
    pub(crate) fn session(&self) -> Session {
        Session(connect_to(&self.admin_dsn()))
    }

    /// Runs statements as the superuser.
    #[track_caller]
    pub(crate) fn execute(&self, sql: &str) {
        if let Err(error) = block_on(self.client().batch_execute(sql)) {
            panic!("{sql}: {error:?}");
        }
    }

    /// The rows of a query as the server's text. NULL is empty.
    #[track_caller]
    pub(crate) fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        let messages = match block_on(self.client().simple_query(sql)) {
            Ok(messages) => messages,
            Err(error) => panic!("{sql}: {error:?}"),
        };
        let rows = messages.iter().filter_map(|m| match m {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        rows.map(|r| (0..r.len()).map(|i| r.get(i).unwrap_or_default().to_owned()).collect()).collect()
    }

    /// The single number that a query returns.
    #[track_caller]
    pub(crate) fn number(&self, sql: &str) -> u64 {
        self.rows(sql)[0][0].parse().expect(sql)
    }

    /// The number that a query returns on a segment of a Greenplum cluster; 0 if the segment does not answer.
    pub(crate) fn on_segment(&self, host: &str, port: u16, sql: &str) -> u64 {
        let dsn = format!(
            "postgres://{}@{host}:{port}/{}?options=-c%20gp_session_role%3Dutility",
            self.server.superuser(),
            self.name
        );
        let answer = block_on(async { try_connect(&dsn).await?.simple_query(sql).await });
        let number = |m: &SimpleQueryMessage| match m {
            SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
            _ => None,
        };
        match answer {
            Ok(messages) => messages.iter().find_map(number).unwrap_or(0),
            Err(error) => {
                eprintln!("segment {host}:{port}: {error:?}");
                0
            }
        }
    }

    /// The DSN of the daemons, through `port` of this machine.
    pub(crate) fn dsn_at(&self, port: u16) -> String {
        format!("postgres://{EXPORTER}@127.0.0.1:{port}/{}", self.name)
    }

    /// The port of the server.
    pub(crate) fn port(&self) -> u16 {
        self.server.port()
    }

    /// The DSN of the daemons.
    pub(crate) fn dsn(&self) -> String {
        format!("postgres://{EXPORTER}@{}:{}/{}", self.server.host(), self.server.port(), self.name)
    }

    /// A URL that contains the password, as people type it.
    pub(crate) fn url_at(&self, port: u16) -> String {
        let password: String = PASSWORD.bytes().map(|b| format!("%{b:02X}")).collect();
        format!("postgres://{EXPORTER}:{password}@127.0.0.1:{port}/{}", self.name)
    }

    /// The DSN of the oracle.
    pub(crate) fn admin_dsn(&self) -> String {
        self.server.admin_dsn(&self.name)
    }

    /// The sessions of exporting roles in one of `states`, with their queries.
    pub(crate) fn backends(&self, states: &[&str]) -> Vec<String> {
        let states = states.join("', '");
        let rows = self.rows(&format!(
            "SELECT pid, application_name, state, query FROM pg_stat_activity \
             WHERE datname = current_database() AND usename <> '{}' AND state IN ('{states}')",
            self.server.superuser()
        ));
        rows.iter().map(|r| r.join(" | ")).collect()
    }

    /// The sessions of exporting roles that hold a transaction: chunks, planners, keepers.
    pub(crate) fn busy_backends(&self) -> Vec<String> {
        self.backends(&["active", "idle in transaction", "idle in transaction (aborted)"])
    }

    /// All sessions of exporting roles.
    pub(crate) fn all_backends(&self) -> Vec<String> {
        self.backends(&["active", "idle", "idle in transaction", "idle in transaction (aborted)", "disabled"])
    }
}

/// A session besides that of [`Database`].
pub(crate) struct Session(Client);

impl Session {
    /// Runs a statement. The error is the text of the server.
    pub(crate) fn run(&self, sql: &str) -> Result<(), String> {
        block_on(self.0.batch_execute(sql)).map_err(|e| format!("{sql}: {e:?}"))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        let drop = match self.server {
            Server::Postgres(services) => block_on(async {
                try_connect(&admin_dsn(services, "postgres")).await?.batch_execute(&sql).await
            }),
            Server::Greenplum(cluster) => cluster.drop(&self.name),
        };
        if let Err(error) = drop {
            eprintln!("{sql}: {error}");
        }
    }
}

fn admin_dsn(services: &Services, database: &str) -> String {
    format!("postgres://postgres@127.0.0.1:{}/{database}", services.postgres)
}

fn connect(services: &Services, database: &str) -> Client {
    connect_to(&admin_dsn(services, database))
}

fn connect_to(dsn: &str) -> Client {
    block_on(try_connect(dsn)).expect("connect to the server")
}

/// A connection of the superuser.
pub(super) async fn try_connect(dsn: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(dsn, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn create(services: &Services, name: &str, template: &str) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let server = connect(services, "postgres");
    let role = format!(
        "DO $$ BEGIN CREATE ROLE {EXPORTER} LOGIN PASSWORD '{PASSWORD}'; \
         EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    );
    block_on(server.batch_execute(&role)).expect("create the exporting role");
    // Copying files is faster than logging every page to the WAL. Older servers can do nothing else.
    let version = block_on(server.query_one("SELECT current_setting('server_version_num')::int", &[]));
    let version: i32 = version.expect("a version").get(0);
    let strategy = if version < 150_000 { "" } else { "STRATEGY file_copy" };
    let sql = format!("CREATE DATABASE {name} TEMPLATE {template} {strategy}");
    block_on(server.batch_execute(&sql)).expect("create a database");
    let client = connect(services, name);
    let grants = format!(
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {EXPORTER}; \
         ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO {EXPORTER}"
    );
    block_on(client.batch_execute(&grants)).expect("grant");
}
