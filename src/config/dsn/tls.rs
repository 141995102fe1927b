//! TLS settings of a connection string, with the meaning that they have in libpq.

use std::path::PathBuf;

use super::{InvalidDsn, Server, Texts};

/// How much TLS is demanded, as in `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsDemand {
    /// No TLS.
    Disable,
    /// TLS if the server offers it. The certificate is not checked.
    Prefer,
    /// Always; the server's certificate is checked only if CA certificates are given.
    Require,
    /// Always, and the certificate must come from a known CA.
    VerifyCa,
    /// Always, from a known CA, and the certificate must match the host's name.
    VerifyFull,
}

impl TlsDemand {
    /// The word of `sslmode`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// Where CA certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// A PEM file.
    File(PathBuf),
    /// The operating system's bundle (`sslrootcert=system`).
    System,
}

/// TLS settings of a connection string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// How much TLS is demanded.
    pub demand: TlsDemand,
    /// CA certificates named by `sslrootcert`.
    pub roots: Option<Roots>,
    /// Client certificate and key (`sslcert`, `sslkey`).
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// Whether TLS begins with the first byte, without asking (PostgreSQL 17).
    pub direct: bool,
    /// Whether the client tells the server the host's name.
    pub sni: bool,
    /// Whether TLS 1.2 and TLS 1.3 may be used.
    pub versions: (bool, bool),
}

impl Tls {
    pub(super) fn of(texts: &Texts, servers: &[Server]) -> Result<Self, InvalidDsn> {
        use TlsDemand::{Disable, Prefer, Require, VerifyCa, VerifyFull};
        let demand = texts.word(
            "sslmode",
            &[
                ("disable", Disable),
                // We try TLS first. libpq tries it last.
                ("allow", Prefer),
                ("prefer", Prefer),
                ("require", Require),
                ("verify-ca", VerifyCa),
                ("verify-full", VerifyFull),
            ],
            "disable, allow, prefer, require, verify-ca or verify-full",
        )?;
        let roots = texts.some("sslrootcert")?.map(|value| match value {
            "system" => Roots::System,
            path => Roots::File(path.into()),
        });
        let mut demand = match (demand, &roots) {
            (None | Some(VerifyFull), Some(Roots::System)) => VerifyFull,
            (Some(_), Some(Roots::System)) => return Err(InvalidDsn::WeakSystem),
            (demand, _) => demand.unwrap_or(Prefer),
        };
        let path = |keyword| texts.some(keyword).map(|path| path.map(PathBuf::from));
        let client_cert = match (path("sslcert")?, path("sslkey")?) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err(InvalidDsn::Missing("sslcert", "sslkey")),
            (None, Some(_)) => return Err(InvalidDsn::Missing("sslkey", "sslcert")),
        };
        let direct = texts
            .word("sslnegotiation", &[("postgres", false), ("direct", true)], "postgres or direct")?
            .unwrap_or(false);
        // As in libpq, there is no TLS on a Unix socket, because it is not needed there.
        if servers.iter().all(Server::is_local) {
            demand = Disable;
        } else if direct && demand < Require {
            return Err(InvalidDsn::WeakDirect);
        }
        let sni = texts.number("sslsni", 0, 1)? != Some(0);
        Ok(Self { demand, roots, client_cert, direct, sni, versions: versions(texts)? })
    }
}

/// Whether TLS 1.2 and TLS 1.3 are within the bounds. Older versions are never used.
fn versions(texts: &Texts) -> Result<(bool, bool), InvalidDsn> {
    const NAMES: [&str; 4] = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];
    let bound = |keyword| {
        let Some(name) = texts.some(keyword)? else { return Ok(None) };
        let found = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name));
        found.map(Some).ok_or(InvalidDsn::Value(keyword, "TLSv1.2 or TLSv1.3"))
    };
    let least = bound("ssl_min_protocol_version")?.unwrap_or(2);
    let most = bound("ssl_max_protocol_version")?.unwrap_or(3);
    if most < 2 || least > most {
        return Err(InvalidDsn::Value(
            "ssl_max_protocol_version",
            "TLSv1.3, or TLSv1.2 where no newer one is demanded",
        ));
    }
    Ok((least <= 2, most >= 3))
}
