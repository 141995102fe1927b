//! Makes connections.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio::time::timeout;
use tokio_postgres::config::{ChannelBinding as Bind, SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{Client, Connection, SimpleQueryMessage, SimpleQueryRow};
use tokio_util::either::Either;
use tokio_util::task::TaskTracker;

use super::configured::Configured;
use super::password::{Password, Secrets};
use super::server::{self, ServerFacts};
use super::sqlstate::{Stage, explain, undialled};
use super::tap::{Tap, TapHandle};
use crate::config::dsn::{Binding, Dsn, Target};
use crate::config::{Advice, Origin, PostgresConfig};
use crate::message::SourceName;
use crate::source::dial::tls::Security;
use crate::source::dial::{Address, DialError, Dialer, Wire};
use crate::source::{ErrorKind, SourceError};

/// Longest time to find out whether a segment can be reached.
const REACH_TIMEOUT: Duration = Duration::from_secs(3);
/// Name of pool connections in `pg_stat_activity`.
pub(super) const APPLICATION_NAME: &str = "adu-export";
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
    pub(super) address: Address,
    /// On Greenplum: the settings of the session, if we have set them.
    pub(super) configured: Mutex<Option<Configured>>,
}

/// What a login says about itself, and the passwords that it may use.
struct Login {
    config: tokio_postgres::Config,
    secrets: Secrets,
}

/// Stands for TLS on a stream that already has TLS, or needs none.
pub(super) struct Agreed;

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

/// Makes connections. `end` ends their work.
pub(super) struct Connector {
    config: tokio_postgres::Config,
    password: Password,
    pub(super) dialer: Dialer,
    /// Which servers are acceptable.
    target: Target,
    /// Limit for each address, login included, like libpq's `connect_timeout`; and for the first questions.
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
        let target = config.target.as_ref().map_err(|e| invalid(Advice::Dsn, e))?;
        let (password, dsn) = (Password::of(config, target), target.dsn.clone());
        let security = Security::new(&dsn.tls, config.ca_file.as_deref())
            .map_err(|e| invalid(Advice::Certificates, &e))?;
        let server = dsn.server();
        let dialer = Dialer::new(&dsn, security);
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
        Ok(Pooled { client: ClientWrapper::new(client, driver), tap, address, configured: Mutex::default() })
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
    pub(super) async fn open(&self, name: &str) -> Result<Opened, SourceError> {
        let mut config = self.config.clone();
        if config.get_application_name().is_none() {
            config.application_name(name);
        }
        let login = Login { config, secrets: self.password.read().await? };
        let addresses = timeout(self.timeout, self.dialer.addresses()).await.map_err(|_| self.silent())?;
        let addresses = addresses.map_err(|e| self.undialled(&e))?;
        if self.target == Target::PreferStandby
            && let Ok(opened) = self.first(&login, &addresses, Target::Standby).await
        {
            return Ok(opened);
        }
        let target = if self.target == Target::PreferStandby { Target::Any } else { self.target };
        self.first(&login, &addresses, target).await
    }

    /// Connects to the first acceptable server.
    async fn first(
        &self,
        login: &Login,
        addresses: &[Address],
        target: Target,
    ) -> Result<Opened, SourceError> {
        let mut last = None;
        for address in addresses {
            match self.try_address(login, address.clone(), target).await {
                Ok(opened) => return Ok(opened),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("the dialer gives at least one address"))
    }

    async fn try_address(
        &self,
        login: &Login,
        address: Address,
        target: Target,
    ) -> Result<Opened, SourceError> {
        let opened = timeout(self.timeout, self.log_in(login, address)).await;
        let mut opened = opened.unwrap_or_else(|_| Err(self.silent()))?;
        let examined = timeout(self.timeout, self.examine(&mut opened, target)).await;
        examined.unwrap_or_else(|_| Err(self.unanswered()))?;
        Ok(opened)
    }

    async fn log_in(&self, login: &Login, address: Address) -> Result<Opened, SourceError> {
        let mut config = login.config.clone();
        login.secrets.give(&mut config, address.server());
        let wire = self.dialer.open(&address).await.map_err(|e| self.undialled(&e))?;
        let (stream, tap) = Tap::new(wire);
        let connected = config.connect_raw(stream, Agreed).await.map_err(|e| {
            let error = self.refused(&e);
            let is_login = error.kind == ErrorKind::Authentication;
            match login.secrets.remark(config.get_password().is_some()).filter(|_| is_login) {
                Some(remark) => SourceError { message: format!("{} ({remark})", error.message), ..error },
                None => error,
            }
        });
        let (client, connection) = connected?;
        Ok(Opened { client, connection, tap, address })
    }

    /// Asks whether the server is acceptable, and what it is.
    async fn examine(&self, opened: &mut Opened, target: Target) -> Result<(), SourceError> {
        let Opened { client, connection, .. } = opened;
        if let Some((question, wanted)) = question(target) {
            let row = self.ask_new(client, connection, question).await?;
            if row.as_ref().and_then(|row| row.get(0)) != Some(wanted) {
                return Err(self.undialled(&DialError::Unwanted));
            }
        }
        let text = connection.parameter("server_version").unwrap_or_default().to_owned();
        if self.server_facts().text != text || !self.is_known() {
            let row = self.ask_new(client, connection, &server::question()).await?;
            let facts = ServerFacts::of(&text, row.as_ref());
            if facts.greenplum.is_some() {
                tracing::info!(server = self.server, version = text, "the server is Greenplum");
            }
            *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(facts);
        }
        Ok(())
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

    fn undialled(&self, error: &DialError) -> SourceError {
        undialled(error, &format!("connect to {}", self.server))
    }

    pub(super) fn refused(&self, error: &tokio_postgres::Error) -> SourceError {
        explain(error, Stage::Connect, &format!("connect to {}", self.server), false)
    }

    /// The server let us in and does not answer. On Greenplum a question waits silently for a slot of its role.
    fn unanswered(&self) -> SourceError {
        SourceError::unreachable(format!(
            "logged in to {}, but the server has not answered a short question for {} s",
            self.server,
            self.timeout.as_secs_f64()
        ))
        .with_remedy(
            "look at the server's load; on Greenplum the role's resource queue may be full: see gp_toolkit.gp_resqueue_status, or wait for other \
             statements of this role",
        )
    }

    pub(super) fn silent(&self) -> SourceError {
        SourceError::unreachable(format!("connect to {}: no answer within {:?}", self.server, self.timeout))
            .with_remedy(Advice::Silence)
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
#[path = "connect_tests.rs"]
mod tests;
