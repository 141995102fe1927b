//! Connection strings of PostgreSQL, read as libpq reads them: a text leads to the same server here and in
//! `psql`, or it is refused. What the string leaves out comes from the service that it names, and then from
//! environment variables, if the source reads them. Each value knows its place.
//!
//! Nothing in a string is ignored. No error shows any of its text, because text that could not be understood
//! may be part of the password.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub use self::invalid::InvalidDsn;
pub use self::passfile::{Passfile, Passwords, Unread};
pub use self::place::{Place, Setting};
pub use self::server::{DEFAULT_PORT, Host, Server, VERTICA_PORT};
use self::settings::Values;
pub use self::surroundings::Surroundings;
pub use self::tls::{Roots, Tls, TlsDemand};

mod grammar;
mod invalid;
mod keyword;
mod passfile;
mod place;
mod server;
mod service;
mod settings;
mod surroundings;
#[cfg(test)]
mod tests;
mod tls;

/// Which servers are acceptable (`target_session_attrs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// All servers.
    Any,
    /// Servers whose sessions may write.
    ReadWrite,
    /// Servers whose sessions may not write.
    ReadOnly,
    /// Servers that are not standbys.
    Primary,
    /// Standbys.
    Standby,
    /// Standbys, or other servers if there is no standby.
    PreferStandby,
}

/// Whether the password must be bound to the TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Never.
    Disable,
    /// If the server supports it.
    Prefer,
    /// Always.
    Require,
}

/// How the kernel checks whether the other side is still there. `None`: this client's default. Zero: the
/// system's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Whether the kernel checks at all.
    pub on: bool,
    /// Silence before the first check.
    pub idle: Option<Duration>,
    /// Pause between checks.
    pub interval: Option<Duration>,
    /// Number of checks without an answer after which the connection ends.
    pub count: Option<u32>,
    /// How long sent data may remain unacknowledged.
    pub user_timeout: Option<Duration>,
}

/// A parsed connection string. Its Debug form shows only the first server.
#[derive(Clone, PartialEq, Eq)]
pub struct Dsn {
    /// Where to connect, at least one.
    pub servers: Vec<Server>,
    /// The role.
    pub user: String,
    /// The role's password, in any encoding.
    pub password: Option<Vec<u8>>,
    /// The file that may have the password, if none is given.
    pub passfile: Option<Passfile>,
    /// The database.
    pub database: String,
    /// Command-line options for the server's session.
    pub options: Option<String>,
    /// The name to show in `pg_stat_activity`.
    pub application_name: Option<String>,
    /// Channel binding of SCRAM to TLS.
    pub binding: Binding,
    /// Limit for each address.
    pub connect_timeout: Option<Duration>,
    /// TCP keepalive.
    pub keepalive: Keepalive,
    /// TLS.
    pub tls: Tls,
    /// Which servers are acceptable.
    pub target: Target,
    /// Whether servers are tried in a random order.
    pub shuffled: bool,
}

/// A connection string with what it takes from its surroundings. Its Debug form shows only the first server. Two are
/// equal if they connect in the same way, wherever their settings are written.
#[derive(Clone)]
pub struct Resolved {
    /// Where and how to connect.
    pub dsn: Dsn,
    /// All settings with their places, to show them.
    pub settings: Vec<Setting>,
}

impl PartialEq for Resolved {
    fn eq(&self, other: &Self) -> bool {
        self.dsn == other.dsn
    }
}

impl Eq for Resolved {}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dsn.fmt(f)
    }
}

impl FromStr for Dsn {
    type Err = InvalidDsn;

    /// Reads `postgres://…` or `host=… dbname=…`, without any surroundings.
    fn from_str(text: &str) -> Result<Self, InvalidDsn> {
        Self::within(text, &Surroundings::default()).map(|resolved| resolved.dsn)
    }
}

/// What the URLs of Vertica begin with.
const VERTICA: &str = "vertica://";

impl Dsn {
    /// Reads `postgres://…` or `host=… dbname=…`, and takes from the surroundings what the string leaves out.
    ///
    /// # Errors
    /// Says what is wrong, without any text of the string.
    pub fn within(text: &str, around: &Surroundings) -> Result<Resolved, InvalidDsn> {
        let mut values =
            grammar::read(text, &["postgres://", "postgresql://"]).map_err(|error| match error {
                InvalidDsn::NoEquals(1) if !text.contains('=') && !text.starts_with("postgres") => {
                    InvalidDsn::NeitherForm
                }
                other => other,
            })?;
        service::fill(&mut values, around)?;
        around.fill(&mut values);
        let texts = Texts { values, port: DEFAULT_PORT };
        let read = keyword::check(&texts.values).and_then(|()| Self::of(&texts));
        let mut dsn = read.map_err(|error| texts.place(error, around))?;
        if dsn.password.is_none() {
            let named = texts.values.text("passfile")?.map(Passfile::new);
            let usual = || around.home.as_ref().map(|home| Passfile::new(home.join(".pgpass")));
            dsn.passfile = named.or_else(usual);
        }
        Ok(Resolved { dsn, settings: texts.values.shown() })
    }

    /// Whether the string is a URL of Vertica.
    #[must_use]
    pub fn is_of_vertica(text: &str) -> bool {
        text.starts_with(VERTICA)
    }

    /// Reads `vertica://…` or `host=… dbname=…`. The grammar is libpq's; keywords that mean something to
    /// PostgreSQL only are refused.
    ///
    /// # Errors
    /// Says what is wrong, without any text of the string.
    pub fn of_vertica(text: &str) -> Result<Self, InvalidDsn> {
        Self::read_of_vertica(text).map_err(|error| error.of_vertica(&keyword::OF_VERTICA))
    }

    fn read_of_vertica(text: &str) -> Result<Self, InvalidDsn> {
        let values = grammar::read(text, &[VERTICA]).map_err(|error| match error {
            InvalidDsn::NoEquals(1) => InvalidDsn::NotOfVertica,
            other => other,
        })?;
        keyword::check_of_vertica(&values)?;
        Self::of(&Texts { values, port: VERTICA_PORT })
    }
}

/// The raw values by keyword.
struct Texts {
    values: Values,
    /// The port of servers that name none.
    port: u16,
}

impl Texts {
    /// A value as text.
    fn get(&self, keyword: &'static str) -> Result<Option<&str>, InvalidDsn> {
        let value = self.values.get(keyword).map(std::str::from_utf8);
        value.transpose().map_err(|_| InvalidDsn::Value(keyword, "UTF-8"))
    }

    /// A value that is not empty.
    fn some(&self, keyword: &'static str) -> Result<Option<&str>, InvalidDsn> {
        self.values.text(keyword)
    }

    /// Adds to an error where its setting comes from, or which variable would set what is missing.
    fn place(&self, error: InvalidDsn, around: &Surroundings) -> InvalidDsn {
        let Some(keyword) = error.keyword() else { return error };
        let place = self.values.place(keyword);
        let of_string = place == Some(&Place::Dsn) && !error.is_of_several();
        let error = match (place, around.unread(keyword)) {
            (None, Some(variable)) => InvalidDsn::UnreadVariable(keyword, variable),
            (None | Some(Place::Dsn), _) => error,
            (Some(place), _) => InvalidDsn::SetBy(Box::new(error), place.clone()),
        };
        let may_be_filled = around.environment || self.values.get("service").is_some();
        if may_be_filled && !of_string { InvalidDsn::Around(Box::new(error)) } else { error }
    }

    /// The meaning of a value that must be one of these words; `None` if the keyword is missing.
    fn word<T: Copy>(
        &self,
        keyword: &'static str,
        words: &[(&str, T)],
        known: &'static str,
    ) -> Result<Option<T>, InvalidDsn> {
        let Some(value) = self.get(keyword)? else { return Ok(None) };
        let found = words.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning);
        found.map(Some).ok_or(InvalidDsn::Value(keyword, known))
    }

    /// A number within two bounds.
    fn number(&self, keyword: &'static str, least: i64, most: i64) -> Result<Option<u32>, InvalidDsn> {
        let Some(value) = self.get(keyword)? else { return Ok(None) };
        let number = value.trim().parse().ok().filter(|n| (least..=most).contains(n));
        let number = number.and_then(|n| u32::try_from(n).ok());
        number.map(Some).ok_or(InvalidDsn::Number(keyword, least, most))
    }

    fn seconds(&self, keyword: &'static str, least: i64) -> Result<Option<Duration>, InvalidDsn> {
        Ok(self.number(keyword, least, 86_400)?.map(|n| Duration::from_secs(n.into())))
    }
}

impl Dsn {
    fn of(texts: &Texts) -> Result<Self, InvalidDsn> {
        let owned = |keyword| texts.some(keyword).map(|text| text.map(str::to_owned));
        let servers = server::servers(texts)?;
        let tls = Tls::of(texts, &servers)?;
        let (user, database) = (owned("user")?, owned("dbname")?);
        for (keyword, value) in [("user", &user), ("dbname", &database)] {
            if value.as_deref().is_some_and(grammar::holds_settings) {
                return Err(InvalidDsn::Within(keyword));
            }
        }
        Ok(Self {
            servers,
            database: database.ok_or(InvalidDsn::NoDatabase)?,
            user: user.ok_or(InvalidDsn::NoUser)?,
            password: texts
                .values
                .get("password")
                .filter(|password| !password.is_empty())
                .map(<[u8]>::to_vec),
            passfile: None,
            options: owned("options")?,
            application_name: owned("application_name")?
                .map_or_else(|| owned("fallback_application_name"), |name| Ok(Some(name)))?,
            binding: texts
                .word(
                    "channel_binding",
                    &[
                        ("disable", Binding::Disable),
                        ("prefer", Binding::Prefer),
                        ("require", Binding::Require),
                    ],
                    "disable, prefer or require",
                )?
                .unwrap_or(Binding::Prefer),
            connect_timeout: texts.number("connect_timeout", 1, 3600)?.map(|n| Duration::from_secs(n.into())),
            keepalive: Keepalive {
                on: texts.number("keepalives", 0, 1)? != Some(0),
                idle: texts.seconds("keepalives_idle", 0)?,
                interval: texts.seconds("keepalives_interval", 0)?,
                count: texts.number("keepalives_count", 0, 127)?,
                user_timeout: texts
                    .number("tcp_user_timeout", 0, 86_400_000)?
                    .map(|n| Duration::from_millis(n.into())),
            },
            tls,
            target: texts
                .word(
                    "target_session_attrs",
                    &[
                        ("any", Target::Any),
                        ("read-write", Target::ReadWrite),
                        ("read-only", Target::ReadOnly),
                        ("primary", Target::Primary),
                        ("standby", Target::Standby),
                        ("prefer-standby", Target::PreferStandby),
                    ],
                    "any, read-write, read-only, primary, standby or prefer-standby",
                )?
                .unwrap_or(Target::Any),
            shuffled: texts
                .word("load_balance_hosts", &[("disable", false), ("random", true)], "disable or random")?
                .unwrap_or(false),
        })
    }

    /// The first server, for messages.
    #[must_use]
    pub fn server(&self) -> String {
        self.servers.first().map(ToString::to_string).unwrap_or_default()
    }

    /// User, servers and database, without secrets. Two strings with the same identity read the same rows.
    #[must_use]
    pub fn identity(&self) -> String {
        let list =
            |item: &dyn Fn(&Server) -> String| self.servers.iter().map(item).collect::<Vec<_>>().join(",");
        let mut ports = list(&|server| server.port.to_string());
        if self.servers.iter().all(|s| s.port == self.servers[0].port) {
            ports = self.servers[0].port.to_string();
        }
        let names = list(&|server| match (&server.host, server.address) {
            (Some(_), Some(address)) => format!("{}={address}", server.name()),
            _ => server.name(),
        });
        format!("{}@{names}:{ports}/{}", self.user, self.database)
    }
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Dsn").field(&self.server()).finish()
    }
}
