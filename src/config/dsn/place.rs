//! Where a setting of a connection comes from.

use std::fmt;

/// Where the value of a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The connection string.
    Dsn,
    /// A line of a service file.
    Service(String),
    /// An environment variable.
    Variable(&'static str),
    /// A password file.
    Passfile(String),
    /// A key of the source's section.
    Key(&'static str),
    /// All servers are reached by Unix sockets.
    Socket,
    /// Nobody set it.
    Usual,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dsn => f.write_str("dsn"),
            Self::Service(file) | Self::Passfile(file) => f.write_str(file),
            Self::Variable(name) | Self::Key(name) => f.write_str(name),
            Self::Socket => f.write_str("the Unix socket, which needs no TLS"),
            Self::Usual => f.write_str("default"),
        }
    }
}

/// A setting, to show it to people.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting {
    /// The keyword of libpq.
    pub keyword: &'static str,
    /// The value; `None` if it is or may be a secret.
    pub value: Option<String>,
    /// Where it comes from.
    pub place: Place,
}
