//! Makes connections, and ends queries from outside.
//!
//! The password file is read at each connect, so that a new password works without a restart.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio::time::timeout;
use tokio_postgres::config::{ChannelBinding as Bind, SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{Client, Connection, SimpleQueryMessage, SimpleQueryRow};
use tokio_util::either::Either;
use tokio_util::task::TaskTracker;

use super::server::{self, ServerFacts};
use super::sqlstate::{Stage, explain, undialled};
use super::tap::{Tap, TapHandle};
use crate::config::dsn::{Binding, Dsn, Target};
use crate::config::{Advice, Origin, PostgresConfig, Secret};
use crate::message::SourceName;
use crate::source::SourceError;
use crate::source::dial::tls::Security;
use crate::source::dial::{Address, DialError, Dialer, Wire};

/// Pauses after each cancel request before the next one. A cancel request that arrives between two statements
/// has no effect.
const CANCEL_PAUSES: [Duration; 4] =
    [Duration::from_millis(300), Duration::from_millis(700), Duration::from_secs(1), Duration::from_secs(2)];
/// Longest time to find out whether a segment can be reached.
const REACH_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest time that sending one cancel request may take.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);
/// Name of pool connections in `pg_stat_activity`.
const APPLICATION_NAME: &str = "adu-export";
/// Name of connections outside the pool, before they hold a snapshot.
const KEEPER_NAME: &str = "adu-export keeper";

/// A new connection, and the future that drives it.
pub(super) struct Opened {
    pub(super) client: Client,
    pub(super) connection: Connection<Tap<Wire>, Tap<Wire>>,
    tap: TapHandle,
    address: Address,
}

/// A connection of the pool.
pub(super) struct Pooled {
    /// Dropping the client ends the task that drives the connection.
    pub(super) client: ClientWrapper,
    /// Takes the rows of a COPY.
    pub(super) tap: TapHandle,
    /// The server's address. A cancel request must reach the same server.
    address: Address,
}

/// Stands for TLS on a stream that already has TLS, or needs none.
struct Agreed;

impl TlsConnect<Tap<Wire>> for Agreed {
    type Stream = Tap<Wire>;
    type Error = Infallible;
    type Future = Ready<Result<Tap<Wire>, Infallible>>;

    fn connect(self, stream: Tap<Wire>) -> Self::Future {
        ready(Ok(stream))
    }
}

impl TlsStream for Tap<Wire> {
    fn channel_binding(&self) -> ChannelBinding {
        match self.stream() {
            Either::Left(_) => ChannelBinding::none(),
            Either::Right(tls) => tls.channel_binding(),
        }
    }
}

/// Where the password comes from.
#[derive(Clone, Debug)]
enum Password {
    /// In the DSN, or not needed: trust, peer, a client certificate.
    AsInDsn,
    Given(Secret),
    File(PathBuf),
}

/// Makes connections and ends queries.
pub(super) struct Connector {
    config: tokio_postgres::Config,
    password: Password,
    dialer: Dialer,
    /// Which servers are acceptable.
    target: Target,
    /// Limit for each address, login included, like libpq's `connect_timeout`.
    timeout: Duration,
    server: String,
    /// What the server of the last connection is.
    facts: Mutex<Arc<ServerFacts>>,
    /// What limits how many chunks run at once, for messages.
    limit: Mutex<Option<String>>,
    /// Tasks that outlive a call: pumps, and sessions that are being ended.
    pub(super) tasks: TaskTracker,
}

impl Connector {
    /// Reads the connection string and the TLS files that it needs.
    pub(super) fn new(
        name: &SourceName,
        origin: Origin,
        config: &PostgresConfig,
    ) -> Result<Self, SourceError> {
        let invalid = |advice: Advice, cause: &dyn std::fmt::Display| {
            SourceError::permanent(
                "config",
                match (origin, advice) {
                    (Origin::CommandLine, _) => format!("--dsn: {cause}"),
                    (Origin::Configuration, Advice::Dsn) => format!("sources.{name}.dsn: {cause}"),
                    (Origin::Configuration, _) => format!("sources.{name}: {cause}"),
                },
            )
            .with_remedy(advice)
        };
        let dsn: Dsn = config.dsn.expose().parse().map_err(|e| invalid(Advice::Dsn, &e))?;
        let security = Security::new(&dsn.tls, config.ca_file.as_deref())
            .map_err(|e| invalid(Advice::Certificates, &e))?;
        let server = dsn.server();
        let dialer = Dialer::new(&dsn, security);
        let password = match (&config.password_file, &config.password) {
            (Some(path), _) => Password::File(path.clone()),
            (None, Some(secret)) => Password::Given(secret.clone()),
            (None, None) => Password::AsInDsn,
        };
        Ok(Self {
            timeout: dsn.connect_timeout.unwrap_or(config.connect_timeout.0),
            target: dsn.target,
            config: session(dsn),
            password,
            dialer,
            server,
            facts: Mutex::default(),
            limit: Mutex::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// What the server is. Nothing is known before the first connection.
    pub(super) fn server_facts(&self) -> Arc<ServerFacts> {
        Arc::clone(&self.facts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes what limits the chunks of the role.
    pub(super) fn set_limit(&self, limit: Option<String>) {
        *self.limit.lock().unwrap_or_else(PoisonError::into_inner) = limit;
    }

    /// What limits the chunks of the role, if planning has found a limit in this process.
    pub(super) fn limit(&self) -> Option<String> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether there was a connection yet.
    pub(super) fn is_known(&self) -> bool {
        self.server_facts().version != 0
    }

    /// Makes a connection outside the pool.
    pub(super) async fn connect(&self) -> Result<Opened, SourceError> {
        self.open(KEEPER_NAME).await
    }

    /// Makes a connection for the pool.
    pub(super) async fn pooled(&self) -> Result<Pooled, SourceError> {
        let Opened { client, connection, tap, address } = self.open(APPLICATION_NAME).await?;
        // The wrapper ends this task.
        let driver = tokio::spawn(async move {
            if let Err(e) = connection.await {
                tracing::debug!(error = %e, "the connection ended with an error");
            }
        });
        Ok(Pooled { client: ClientWrapper::new(client, driver), tap, address })
    }

    /// User and database.
    pub(super) fn login(&self) -> (&str, &str) {
        (self.config.get_user().unwrap_or_default(), self.config.get_dbname().unwrap_or_default())
    }

    /// Opens a stream to another server, e.g. a segment, with the TLS that the connection string demands.
    pub(super) async fn dial(&self, host: &str, port: u16, what: &str) -> Result<Wire, SourceError> {
        let what = format!("{what}: connect to the segment at {host}:{port}");
        let address = self.dialer.address_of(host, port).await.map_err(|e| undialled(&e, &what))?;
        self.dialer.open(&address).await.map_err(|e| undialled(&e, &what))
    }

    /// Why no retrieve session can be opened there; none if one can.
    pub(super) async fn unreached(&self, host: &str, port: u16) -> Option<String> {
        let dialled = timeout(self.timeout.min(REACH_TIMEOUT), self.dial(host, port, "try")).await;
        match dialled {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.message),
            Err(_) => Some(format!("the segment at {host}:{port} does not answer")),
        }
    }

    /// Limit for each address.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The server's name, for people.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Tries one address after the other. An address that does not answer must not block the next one.
    async fn open(&self, name: &str) -> Result<Opened, SourceError> {
        let mut config = self.config.clone();
        if config.get_application_name().is_none() {
            config.application_name(name);
        }
        if let Some(password) = self.password().await? {
            config.password(password);
        }
        let addresses = timeout(self.timeout, self.dialer.addresses()).await.map_err(|_| self.silent())?;
        let addresses = addresses.map_err(|e| self.undialled(&e))?;
        if self.target == Target::PreferStandby
            && let Ok(opened) = self.first(&config, &addresses, Target::Standby).await
        {
            return Ok(opened);
        }
        let target = if self.target == Target::PreferStandby { Target::Any } else { self.target };
        self.first(&config, &addresses, target).await
    }

    /// Connects to the first acceptable server.
    async fn first(
        &self,
        config: &tokio_postgres::Config,
        addresses: &[Address],
        target: Target,
    ) -> Result<Opened, SourceError> {
        let mut last = None;
        for address in addresses {
            match timeout(self.timeout, self.log_in(config, address.clone(), target)).await {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(error)) => last = Some(error),
                Err(_) => last = Some(self.silent()),
            }
        }
        Err(last.expect("the dialer gives at least one address"))
    }

    async fn log_in(
        &self,
        config: &tokio_postgres::Config,
        address: Address,
        target: Target,
    ) -> Result<Opened, SourceError> {
        let wire = self.dialer.open(&address).await.map_err(|e| self.undialled(&e))?;
        let (stream, tap) = Tap::new(wire);
        let (client, mut connection) =
            config.connect_raw(stream, Agreed).await.map_err(|e| self.refused(&e))?;
        if let Some((question, wanted)) = question(target) {
            let row = self.ask_new(&client, &mut connection, question).await?;
            if row.as_ref().and_then(|row| row.get(0)) != Some(wanted) {
                return Err(self.undialled(&DialError::Unwanted));
            }
        }
        let text = connection.parameter("server_version").unwrap_or_default().to_owned();
        if self.server_facts().text != text || !self.is_known() {
            let row = self.ask_new(&client, &mut connection, &server::question()).await?;
            let facts = ServerFacts::of(&text, row.as_ref());
            if facts.greenplum.is_some() {
                tracing::info!(server = self.server, version = text, "the server is Greenplum");
            }
            *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(facts);
        }
        Ok(Opened { client, connection, tap, address })
    }

    /// Asks a question of one row on a connection that nobody drives yet.
    async fn ask_new(
        &self,
        client: &Client,
        connection: &mut Connection<Tap<Wire>, Tap<Wire>>,
        question: &str,
    ) -> Result<Option<SimpleQueryRow>, SourceError> {
        let messages = tokio::select! {
            messages = client.simple_query(question) => messages,
            ended = connection => Err(match ended {
                Err(error) => error,
                Ok(()) => return Err(self.silent()),
            }),
        };
        let rows = messages.map_err(|e| self.refused(&e))?.into_iter();
        Ok(rows.filter_map(|m| if let SimpleQueryMessage::Row(row) = m { Some(row) } else { None }).next())
    }

    /// The password for the next connection, if it is not in the DSN.
    async fn password(&self) -> Result<Option<String>, SourceError> {
        match &self.password {
            Password::AsInDsn => Ok(None),
            Password::Given(secret) => Ok(Some(secret.expose().to_owned())),
            Password::File(path) => {
                let file = path.clone();
                let read = tokio::task::spawn_blocking(move || crate::text::read_secret(&file)).await;
                read.map_err(std::io::Error::other).flatten().map(Some).map_err(|e| {
                    SourceError::authentication(
                        "password_file",
                        format!("cannot read the password from {}: {e}", path.display()),
                    )
                    .with_remedy(Advice::PasswordFile)
                })
            }
        }
    }

    fn undialled(&self, error: &DialError) -> SourceError {
        undialled(error, &format!("connect to {}", self.server))
    }

    fn refused(&self, error: &tokio_postgres::Error) -> SourceError {
        explain(error, Stage::Connect, &format!("connect to {}", self.server), false)
    }

    pub(super) fn silent(&self) -> SourceError {
        SourceError::unreachable(format!("connect to {}: no answer within {:?}", self.server, self.timeout))
            .with_remedy(Advice::Silence)
    }

    /// Ends the work of a connection on the server and closes it. The connection must be out of the pool.
    /// Returns once the server has ended the work, or after a limited time. `process` is the server's process, if
    /// it is known.
    pub(super) async fn end(&self, conn: Pooled, process: Option<i32>) {
        // Rows that still arrive must not wait for a reader.
        conn.tap.discard();
        if conn.client.is_closed() {
            return;
        }
        if let Some(process) = process.filter(|_| self.server_facts().greenplum.is_some())
            && timeout(CANCEL_TIMEOUT, self.terminate(process)).await.is_ok_and(|ended| ended.is_ok())
        {
            return;
        }
        // The server answers only after the previous statement has ended.
        let idle = conn.client.batch_execute("ROLLBACK");
        tokio::pin!(idle);
        for pause in CANCEL_PAUSES {
            self.cancel(&conn).await;
            if timeout(pause, &mut idle).await.is_ok() {
                break;
            }
        }
    }

    /// Ends a session of Greenplum from another session of the same role. Its COPY of a table answers a cancel
    /// request only when all segments have sent their rows, which may take an hour.
    async fn terminate(&self, process: i32) -> Result<(), SourceError> {
        let Opened { client, connection, .. } = self.open(APPLICATION_NAME).await?;
        let ask = async {
            let sql = format!("SELECT pg_catalog.pg_terminate_backend({process})");
            client.simple_query(&sql).await.map_err(|e| self.refused(&e))
        };
        tokio::select! {
            asked = ask => asked.map(|_| ()),
            _ = connection => Err(self.silent()),
        }
    }

    /// Like `end`, for callers that cannot wait.
    pub(super) fn abandon(self: &Arc<Self>, conn: Pooled, process: Option<i32>) {
        // Without a runtime the process is ending and closes its sockets.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let connector = self.clone();
            self.tasks.spawn_on(async move { connector.end(conn, process).await }, &runtime);
        }
    }

    async fn cancel(&self, conn: &Pooled) {
        let request = async {
            let wire = self.dialer.open(&conn.address).await.map_err(|e| e.to_string())?;
            let request = conn.client.cancel_token();
            request.cancel_query_raw(Tap::new(wire).0, Agreed).await.map_err(|e| e.to_string())
        };
        match timeout(CANCEL_TIMEOUT, request).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error, "a cancel request failed"),
            Err(_) => tracing::debug!("a cancel request timed out"),
        }
    }
}

/// The client's settings for each session.
fn session(dsn: Dsn) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    // Tell the client that its stream already has TLS.
    config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
    config.user(dsn.user).dbname(dsn.database).channel_binding(match dsn.binding {
        Binding::Disable => Bind::Disable,
        Binding::Prefer => Bind::Prefer,
        Binding::Require => Bind::Require,
    });
    if let Some(password) = dsn.password {
        config.password(password);
    }
    if let Some(options) = dsn.options {
        config.options(options);
    }
    if let Some(name) = dsn.application_name {
        config.application_name(name);
    }
    config
}

/// The question that shows whether a server is acceptable, and the expected answer.
fn question(target: Target) -> Option<(&'static str, &'static str)> {
    const WRITES: &str = "SHOW transaction_read_only";
    const STANDBY: &str = "SELECT pg_catalog.pg_is_in_recovery()";
    match target {
        Target::ReadWrite => Some((WRITES, "off")),
        Target::ReadOnly => Some((WRITES, "on")),
        Target::Primary => Some((STANDBY, "f")),
        Target::Standby => Some((STANDBY, "t")),
        Target::Any | Target::PreferStandby => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SourceConfig, SourceKind};
    use crate::source::ErrorKind;

    fn config(toml: &str) -> PostgresConfig {
        let section: SourceConfig = toml::from_str(toml).expect("valid");
        let SourceKind::Postgres(server) = section.kind else { panic!("another kind") };
        server
    }

    #[test]
    fn a_bad_connection_string_names_the_field_and_not_the_password() {
        let name = SourceName::parse("warehouse").expect("valid");
        let config = config("kind = \"postgres\"\ndsn = \"postgres://u:geheim@h/d?sslmode=maybe\"");
        let Err(error) = Connector::new(&name, Origin::Configuration, &config) else { panic!("accepted") };
        assert!(error.message.starts_with("sources.warehouse.dsn:"), "{error}");
        assert!(!error.message.contains("geheim"));
    }

    #[tokio::test]
    async fn the_address_after_a_silent_one_is_tried() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let closed = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
            listener.local_addr().expect("an address").port()
        };
        let port = silent.local_addr().expect("an address").port();
        let mut config = config(&format!(
            "kind = \"postgres\"\ndsn = \"host=127.0.0.1,127.0.0.1 port={port},{closed} user=u dbname=d sslmode=disable\""
        ));
        config.connect_timeout.0 = Duration::from_millis(100);
        let name = SourceName::parse("w").expect("valid");
        let connector = Connector::new(&name, Origin::Configuration, &config).expect("valid");
        let Err(error) = connector.connect().await else { panic!("nobody is there") };
        assert!(error.message.contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn the_password_file_is_read_anew_each_time() {
        let path = std::env::temp_dir().join(format!("adu-password-{}", uuid::Uuid::new_v4()));
        let name = SourceName::parse("w").expect("valid");
        let mut config = config("kind = \"postgres\"\ndsn = \"postgres://u@h/d\"\npassword = \"other\"");
        config.password_file = Some(path.clone());
        let connector = Connector::new(&name, Origin::Configuration, &config).expect("valid");
        let missing = connector.password().await.expect_err("no file yet");
        assert_eq!(missing.kind, ErrorKind::Authentication);
        for secret in ["one", "two "] {
            std::fs::write(&path, format!("{secret}\n")).expect("written");
            assert_eq!(connector.password().await.expect("read"), Some(secret.to_owned()));
        }
        std::fs::remove_file(&path).expect("removed");
    }
}
