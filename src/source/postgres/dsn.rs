//! Connection strings. `tokio-postgres` reads most of them; the TLS keys of
//! libpq that it does not know are taken out and handled here.

use std::path::PathBuf;

use tokio_postgres::config::{Host, SslNegotiation};

/// How much of TLS is demanded, as `sslmode` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsDemand {
    /// None at all.
    Disable,
    /// If the server offers it; nobody is checked.
    Prefer,
    /// Always; the server's certificate is checked only if CA certificates are given.
    Require,
    /// Always, and the certificate must come from a known CA.
    VerifyCa,
    /// Always, from a known CA, and for the host's name.
    VerifyFull,
}

/// Where CA certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Roots {
    /// A PEM file.
    File(PathBuf),
    /// The operating system's bundle (`sslrootcert=system`).
    System,
}

/// A connection string, taken apart.
#[derive(Clone, Debug)]
pub(super) struct Dsn {
    /// What `tokio-postgres` needs.
    pub(super) config: tokio_postgres::Config,
    /// TLS demanded.
    pub(super) tls: TlsDemand,
    /// CA certificates named by `sslrootcert`.
    pub(super) roots: Option<Roots>,
    /// Client certificate and key (`sslcert`, `sslkey`).
    pub(super) client_cert: Option<(PathBuf, PathBuf)>,
}

/// Why a connection string was refused; never with the string itself.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum InvalidDsn {
    #[error("the connection string cannot be read: {0}")]
    Unreadable(String),
    #[error("sslmode `{0}` is not known; use disable, allow, prefer, require, verify-ca or verify-full")]
    SslMode(String),
    #[error("`{0}` needs `{1}` as well")]
    Missing(&'static str, &'static str),
    #[error("it names no host; write e.g. postgres://user@db.example/warehouse")]
    NoHost,
    #[error("it names no database; write e.g. postgres://user@db.example/warehouse")]
    NoDatabase,
    #[error("it names no user; write e.g. postgres://user@db.example/warehouse")]
    NoUser,
    #[error("sslnegotiation=direct needs sslmode=require or a stronger one")]
    WeakDirect,
    #[error("it has {1} values of {0} for {2} hosts")]
    Counts(&'static str, usize, usize),
}

impl Dsn {
    /// Reads `postgres://…` or `host=… dbname=…`.
    pub(super) fn parse(text: &str) -> Result<Self, InvalidDsn> {
        let (rest, pairs) = if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            split_url(text)?
        } else {
            split_pairs(text)?
        };
        let config: tokio_postgres::Config = rest.parse().map_err(unreadable)?;
        let mut dsn = Self { config, tls: TlsDemand::Prefer, roots: None, client_cert: None };
        let (mut cert, mut key) = (None, None);
        for (name, value) in pairs {
            match name.as_str() {
                "sslmode" => dsn.tls = TlsDemand::parse(&value)?,
                "sslrootcert" if value == "system" => dsn.roots = Some(Roots::System),
                "sslrootcert" => dsn.roots = Some(Roots::File(value.into())),
                "sslcert" => cert = Some(PathBuf::from(value)),
                "sslkey" => key = Some(PathBuf::from(value)),
                // gssencmode: this client never speaks GSSAPI.
                _ => {}
            }
        }
        dsn.client_cert = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err(InvalidDsn::Missing("sslcert", "sslkey")),
            (None, Some(_)) => return Err(InvalidDsn::Missing("sslkey", "sslcert")),
        };
        dsn.check()
    }

    fn check(mut self) -> Result<Self, InvalidDsn> {
        let hosts = self.config.get_hosts();
        if hosts.is_empty() && self.config.get_hostaddrs().is_empty() {
            return Err(InvalidDsn::NoHost);
        }
        if self.config.get_dbname().is_none_or(str::is_empty) {
            return Err(InvalidDsn::NoDatabase);
        }
        if self.config.get_user().is_none_or(str::is_empty) {
            return Err(InvalidDsn::NoUser);
        }
        // As libpq does: there is no TLS over a Unix socket, and no need of it.
        if !hosts.is_empty() && hosts.iter().all(|h| matches!(h, Host::Unix(_))) {
            self.tls = TlsDemand::Disable;
        }
        let direct = self.config.get_ssl_negotiation() == SslNegotiation::Direct;
        if direct && self.tls == TlsDemand::Prefer {
            return Err(InvalidDsn::WeakDirect);
        }
        let (addresses, ports) = (self.config.get_hostaddrs().len(), self.config.get_ports().len());
        if !hosts.is_empty() && addresses > 0 && addresses != hosts.len() {
            return Err(InvalidDsn::Counts("hostaddr", addresses, hosts.len()));
        }
        if ports > 1 && ports != hosts.len().max(addresses) {
            return Err(InvalidDsn::Counts("port", ports, hosts.len().max(addresses)));
        }
        Ok(self)
    }

    /// Host and port of the first server, for messages.
    pub(super) fn server(&self) -> String {
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            Some(Host::Unix(path)) => path.display().to_string(),
            None => self.config.get_hostaddrs().first().map(ToString::to_string).unwrap_or_default(),
        };
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        format!("{host}:{port}")
    }
}

/// User, servers and database of a connection string, without any secret: two
/// that agree read the same rows. None if it cannot be read.
#[must_use]
pub fn identity(dsn: &str) -> Option<String> {
    let Dsn { config, .. } = Dsn::parse(dsn).ok()?;
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    let addresses = config.get_hostaddrs().iter().map(ToString::to_string);
    let ports = config.get_ports().iter().map(ToString::to_string);
    let list = |items: Vec<String>| items.join(",");
    let servers = list(hosts.chain(addresses).collect());
    let ports = if config.get_ports().is_empty() { "5432".into() } else { list(ports.collect()) };
    let (user, database) = (config.get_user()?, config.get_dbname()?);
    Some(format!("{user}@{servers}:{ports}/{database}"))
}

impl TlsDemand {
    fn parse(value: &str) -> Result<Self, InvalidDsn> {
        Ok(match value {
            "disable" => Self::Disable,
            "allow" | "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return Err(InvalidDsn::SslMode(value.chars().take(40).collect())),
        })
    }
}

fn unreadable(error: tokio_postgres::Error) -> InvalidDsn {
    let cause = error.into_source().map_or_else(|| "invalid".into(), |e| e.to_string());
    InvalidDsn::Unreadable(cause)
}

/// Keys that are handled here.
fn ours(key: &str) -> bool {
    matches!(key, "sslmode" | "sslrootcert" | "sslcert" | "sslkey" | "gssencmode")
}

type Split = (String, Vec<(String, String)>);

/// Takes our keys out of a URL.
fn split_url(url: &str) -> Result<Split, InvalidDsn> {
    let after_credentials = url.find('@').map_or(0, |at| at + 1);
    let Some(mark) = url[after_credentials..].find('?').map(|i| i + after_credentials) else {
        return Ok((url.to_owned(), Vec::new()));
    };
    let (mut kept, mut pairs) = (Vec::new(), Vec::new());
    for pair in url[mark + 1..].split('&').filter(|p| !p.is_empty()) {
        match pair.split_once('=') {
            Some((key, value)) if ours(key) => pairs.push((key.to_owned(), percent_decoded(value)?)),
            _ => kept.push(pair),
        }
    }
    let mut rest = url[..mark].to_owned();
    if !kept.is_empty() {
        rest.push('?');
        rest.push_str(&kept.join("&"));
    }
    Ok((rest, pairs))
}

fn percent_decoded(text: &str) -> Result<String, InvalidDsn> {
    let bad = || InvalidDsn::Unreadable("a percent sign that does not stand before two hex digits".into());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(b) = rest.next() {
        if b != b'%' {
            bytes.push(b);
            continue;
        }
        let mut digit = || rest.next().and_then(|d| char::from(d).to_digit(16)).ok_or_else(bad);
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| bad())?);
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

/// Takes our keys out of `key=value` pairs, with libpq's quotes and backslashes.
fn split_pairs(text: &str) -> Result<Split, InvalidDsn> {
    let bad = |what: &str| InvalidDsn::Unreadable(what.to_owned());
    let (mut rest, mut pairs) = (String::new(), Vec::new());
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok((rest, pairs));
        }
        let mut key = String::new();
        while let Some(c) = chars.next_if(|c| !c.is_whitespace() && *c != '=') {
            key.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.next() != Some('=') {
            return Err(bad("a key without `=`"));
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next() {
                Some('\'') if quoted => break,
                Some('\\') => value.push(chars.next().ok_or_else(|| bad("a backslash at the end"))?),
                Some(c) if c.is_whitespace() && !quoted => break,
                Some(c) => value.push(c),
                None if quoted => return Err(bad("a quote that is never closed")),
                None => break,
            }
        }
        if ours(&key) {
            pairs.push((key, value));
        } else {
            let escaped = value.replace('\\', r"\\").replace('\'', r"\'");
            rest.push_str(&key);
            rest.push_str("='");
            rest.push_str(&escaped);
            rest.push_str("' ");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dsn(text: &str) -> Dsn {
        Dsn::parse(text).expect(text)
    }

    #[test]
    fn libpq_s_tls_keys_are_understood_in_both_forms() {
        for text in [
            "postgres://u:p@db.example:5433/w?sslmode=verify-full&sslrootcert=/etc/my%20ca.pem&connect_timeout=3",
            r"host=db.example port=5433 user=u dbname=w password = 'p' sslmode=verify-full sslrootcert='/etc/my ca.pem'",
        ] {
            let dsn = dsn(text);
            assert_eq!(dsn.tls, TlsDemand::VerifyFull);
            assert_eq!(dsn.roots, Some(Roots::File("/etc/my ca.pem".into())));
            assert_eq!(dsn.config.get_password(), Some(b"p".as_slice()));
            assert_eq!(dsn.server(), "db.example:5433");
        }
        assert_eq!(dsn("postgres://u@h/d").tls, TlsDemand::Prefer);
        assert_eq!(dsn("postgres://u@h/d?sslrootcert=system").roots, Some(Roots::System));
    }

    #[test]
    fn quotes_and_backslashes_of_a_password_survive() {
        let dsn = dsn(r"host=h user=u dbname=d password='it\'s \\ me' sslmode=require");
        assert_eq!(dsn.config.get_password(), Some(br"it's \ me".as_slice()));
        assert_eq!(dsn.tls, TlsDemand::Require);
    }

    #[test]
    fn unix_sockets_need_no_tls() {
        assert_eq!(dsn("host=/run/postgresql user=u dbname=d sslmode=require").tls, TlsDemand::Disable);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_and_no_secret_shown() {
        let refused = |text: &str| Dsn::parse(text).expect_err(text).to_string();
        assert!(refused("postgres://u:geheim@h/d?sslmode=always").contains("verify-full"));
        assert!(refused("postgres://u:geheim@h/").contains("database"));
        assert!(refused("user=u dbname=d").contains("host"));
        assert!(refused("postgres://u@h/d?sslcert=/c.pem").contains("sslkey"));
        assert!(refused("postgres://u@h/d?sslnegotiation=direct").contains("require"));
        assert!(refused("host=a,b port=1,2,3 user=u dbname=d").contains("3 values of port for 2 hosts"));
        assert!(refused("host=a,b hostaddr=::1 user=u dbname=d").contains("1 values of hostaddr"));
        let text = refused("postgres://u:geheim@h/d?port=x&nonsense=1");
        assert!(!text.contains("geheim"), "{text}");
    }
}
