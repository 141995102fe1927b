//! What each keyword of libpq means here. A keyword that libpq does not know is an error. So is a keyword
//! that we cannot honour, unless its value asks for what this client does anyway.

use super::InvalidDsn;
use super::settings::Values;
use crate::spelling::close_names;

/// How a keyword is treated.
#[derive(Clone, Copy, Debug)]
enum Meaning {
    /// The keyword is honoured.
    Honoured,
    /// Only these values are accepted, because they ask for what is done anyway. The text says what to do
    /// instead of other values.
    Only(&'static [&'static str], &'static str),
    /// The keyword is not supported. The text says what to do instead.
    Refused(&'static str),
}
use Meaning::{Honoured, Only, Refused};

const NO_GSSAPI: &str =
    "this client does not speak GSSAPI; leave it out, and use a password or a certificate";
const NO_OAUTH: &str = "this client does not speak OAuth; leave it out, and use a password or a certificate";
const NO_REVOCATION: &str = "this client reads no lists of revoked certificates; leave it out";

/// The keywords of libpq up to PostgreSQL 18,
/// <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS>.
const KEYWORDS: [(&str, Meaning); 53] = [
    ("host", Honoured),
    ("hostaddr", Honoured),
    ("port", Honoured),
    ("dbname", Honoured),
    ("user", Honoured),
    ("password", Honoured),
    ("passfile", Honoured),
    ("require_auth", Refused("leave it out; channel_binding=require takes nothing but SCRAM over TLS")),
    ("channel_binding", Honoured),
    ("connect_timeout", Honoured),
    (
        "client_encoding",
        Only(&["auto", "UTF8", "utf8", "UTF-8", "utf-8"], "texts are read as UTF-8; leave it out"),
    ),
    ("options", Honoured),
    ("application_name", Honoured),
    ("fallback_application_name", Honoured),
    ("keepalives", Honoured),
    ("keepalives_idle", Honoured),
    ("keepalives_interval", Honoured),
    ("keepalives_count", Honoured),
    ("tcp_user_timeout", Honoured),
    (
        "replication",
        Only(&["", "false", "off", "no", "0"], "an export needs an ordinary connection; leave it out"),
    ),
    ("gssencmode", Only(&["disable", "prefer"], NO_GSSAPI)),
    ("krbsrvname", Refused(NO_GSSAPI)),
    ("gsslib", Refused(NO_GSSAPI)),
    ("gssdelegation", Only(&["0"], NO_GSSAPI)),
    ("sslmode", Honoured),
    ("sslnegotiation", Honoured),
    ("sslcompression", Only(&["0"], "TLS is never compressed; leave it out")),
    ("sslcert", Honoured),
    ("sslkey", Honoured),
    ("sslkeylogfile", Refused("keys of TLS are never written to a file; leave it out")),
    (
        "sslpassword",
        Refused("keys with a passphrase are not read; decrypt the key (`openssl pkey -in … -out …`)"),
    ),
    (
        "sslcertmode",
        Only(&["allow"], "leave it out; a certificate is sent where sslcert names one and the server asks"),
    ),
    ("sslrootcert", Honoured),
    ("sslcrl", Refused(NO_REVOCATION)),
    ("sslcrldir", Refused(NO_REVOCATION)),
    ("sslsni", Honoured),
    (
        "requirepeer",
        Refused(
            "who owns the server's socket is not checked; leave it out, or use TLS with sslmode=verify-full",
        ),
    ),
    ("ssl_min_protocol_version", Honoured),
    ("ssl_max_protocol_version", Honoured),
    ("min_protocol_version", Only(&["3.0"], "this client speaks version 3.0 of the protocol; leave it out")),
    ("max_protocol_version", Only(&["3.0", "3.2", "latest"], "use 3.0, or leave it out")),
    ("target_session_attrs", Honoured),
    ("load_balance_hosts", Honoured),
    ("service", Honoured),
    ("servicefile", Honoured),
    ("scram_client_key", Refused("leave it out, and use a password or a certificate")),
    ("scram_server_key", Refused("leave it out, and use a password or a certificate")),
    ("oauth_issuer", Refused(NO_OAUTH)),
    ("oauth_client_id", Refused(NO_OAUTH)),
    ("oauth_client_secret", Refused(NO_OAUTH)),
    ("oauth_scope", Refused(NO_OAUTH)),
    // Older versions of libpq accept these without effect.
    ("authtype", Refused("leave it out: it has no effect")),
    ("tty", Refused("leave it out: it has no effect")),
];

/// A keyword of libpq.
pub(super) fn known(name: &str) -> Option<&'static str> {
    KEYWORDS.iter().map(|(keyword, _)| *keyword).find(|keyword| *keyword == name)
}

/// The keyword that the author probably meant. It comes from our list, so it shows no text of the string.
pub(super) fn like(name: &str) -> Option<&'static str> {
    close_names(name, KEYWORDS.iter().map(|(keyword, _)| *keyword)).first().copied()
}

/// Settings of Vertica's own clients that have another name here, and what to use in their place.
const OF_VERTICAS_CLIENTS: [(&str, &str); 5] = [
    ("backup_server_node", "separate the hosts by commas, or use backup_hosts of the source"),
    ("connection_load_balance", "use load_balance of the source"),
    ("oauth_access_token", "write the token into a file, for oauth_token_file of the source"),
    ("session_label", "use application_name"),
    ("tlsmode", "use sslmode"),
];

/// What to use in place of a setting of Vertica's own clients.
pub(super) fn of_verticas_clients(name: &str) -> Option<InvalidDsn> {
    let (keyword, instead) = OF_VERTICAS_CLIENTS.iter().find(|(keyword, _)| *keyword == name)?;
    Some(InvalidDsn::OfVerticasClients(keyword, instead))
}

/// Refuses settings that we cannot honour.
pub(super) fn check(values: &Values) -> Result<(), InvalidDsn> {
    for (keyword, meaning) in KEYWORDS {
        let Some(value) = values.get(keyword) else { continue };
        match meaning {
            Honoured => {}
            Only(harmless, _) if harmless.iter().any(|h| h.as_bytes() == value) => {}
            Only(_, instead) | Refused(instead) => return Err(InvalidDsn::Unsupported(keyword, instead)),
        }
    }
    Ok(())
}

/// The keywords that are honoured for Vertica.
pub(super) const OF_VERTICA: [&str; 15] = [
    "host",
    "port",
    "dbname",
    "user",
    "password",
    "connect_timeout",
    "application_name",
    "fallback_application_name",
    "sslmode",
    "sslcert",
    "sslkey",
    "sslrootcert",
    "sslsni",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
];

/// Refuses settings that Vertica does not have.
pub(super) fn check_of_vertica(values: &Values) -> Result<(), InvalidDsn> {
    check(values)?;
    match values.keywords().find(|keyword| !OF_VERTICA.contains(keyword)) {
        Some(keyword) => {
            Err(InvalidDsn::Unsupported(keyword, "a Vertica source has no such setting; leave it out"))
        }
        None => Ok(()),
    }
}
