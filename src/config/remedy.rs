//! What an error tells people to change. Settings of a source are in the configuration, or on the command
//! line of a one-shot export. All advice that names such a setting is here, with words for both.

use std::borrow::Cow;

use super::Origin;

/// What to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The same text wherever the source was given. It names no setting of a source.
    Text(Cow<'static, str>),
    /// Advice about a setting of the source.
    Advice(Advice),
}

/// Advice that depends on where the source was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// The connection string cannot be used.
    Dsn,
    /// Certificates cannot be used.
    Certificates,
    /// The address may be wrong.
    Address,
    /// Nobody answered in time.
    Silence,
    /// Something other than PostgreSQL answers.
    Protocol,
    /// The database does not exist.
    Database,
    /// The password is wrong.
    Password,
    /// There is no password.
    NoPassword,
    /// The password file cannot be used.
    PasswordFile,
    /// The file with the OAuth token cannot be used.
    TokenFile,
    /// The certificate does not contain the host's name.
    CertificateName,
    /// The certificate is not from a known CA.
    UnknownCa,
    /// TLS fails for another reason.
    Tls,
    /// The server has no free connection.
    Connections,
    /// The server has no free session (Vertica).
    Sessions,
    /// The server's resources are used up (Vertica).
    Resources,
    /// The resource pool cannot be used (Vertica).
    ResourcePool,
    /// The login is refused, and the server does not say why (Vertica).
    Login,
    /// The OAuth token is refused (Vertica).
    Token,
    /// The server takes no connection without TLS (Vertica).
    TlsOnly,
    /// Something other than Vertica answers.
    NotVertica,
    /// The pool has no free connection.
    Pool,
    /// A lock was not available in time.
    Lock,
    /// A query needs more locks than the server has room for.
    Locks,
    /// No data arrived for a while.
    Stall,
    /// The server refuses a setting of the session.
    Session,
    /// The server refuses the filter, a column or a setting.
    Query,
    /// `statement_timeout` is too short.
    StatementTimeout,
    /// `transaction_timeout` is too short.
    TransactionTimeout,
    /// Row-level security hides rows.
    AllRows,
    /// A right is missing, or row-level security hides rows.
    Rights,
    /// Sessions of the source reach different servers.
    SeveralServers,
    /// Filters are switched off.
    FilterOff,
    /// The filter contains more than is allowed.
    FilterTooFree,
}

impl Remedy {
    /// The text for the place where the source was given.
    #[must_use]
    pub fn words(&self, origin: Origin) -> Cow<'static, str> {
        match self {
            Self::Text(text) => text.clone(),
            Self::Advice(advice) => Cow::Borrowed(advice.words(origin)),
        }
    }
}

impl From<Advice> for Remedy {
    fn from(advice: Advice) -> Self {
        Self::Advice(advice)
    }
}

impl From<&'static str> for Remedy {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Remedy {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl Advice {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 34] = [
        Self::Dsn,
        Self::Certificates,
        Self::Address,
        Self::Silence,
        Self::Protocol,
        Self::Database,
        Self::Password,
        Self::NoPassword,
        Self::PasswordFile,
        Self::TokenFile,
        Self::CertificateName,
        Self::UnknownCa,
        Self::Tls,
        Self::Connections,
        Self::Sessions,
        Self::Resources,
        Self::ResourcePool,
        Self::Login,
        Self::Token,
        Self::TlsOnly,
        Self::NotVertica,
        Self::Pool,
        Self::Lock,
        Self::Locks,
        Self::Stall,
        Self::Session,
        Self::Query,
        Self::StatementTimeout,
        Self::TransactionTimeout,
        Self::AllRows,
        Self::Rights,
        Self::SeveralServers,
        Self::FilterOff,
        Self::FilterTooFree,
    ];

    /// The text for the place where the source was given.
    #[must_use]
    pub const fn words(self, origin: Origin) -> &'static str {
        let (configuration, command_line) = self.both();
        match origin {
            Origin::Configuration => configuration,
            Origin::CommandLine => command_line,
        }
    }

    /// The text for a source of the configuration, and the text for a source given by `--dsn`.
    const fn both(self) -> (&'static str, &'static str) {
        match self {
            Self::Dsn => ("correct dsn of the source in the configuration", "correct --dsn"),
            Self::Certificates => (
                "correct ca_file of the source in the configuration, or sslrootcert, sslcert and sslkey of its dsn",
                "correct sslrootcert, sslcert and sslkey of --dsn",
            ),
            Self::Address => (
                "check host and port of the source's dsn, the network and whether the server runs",
                "check host and port of --dsn, the network and whether the server runs",
            ),
            Self::Silence => (
                "check host and port of the source's dsn, firewalls, and connect_timeout",
                "check host and port of --dsn and firewalls, or allow more by its connect_timeout (seconds)",
            ),
            Self::Protocol => (
                "name a PostgreSQL server in the source's dsn; for Vertica write kind = \"vertica\" and a dsn that begins with \
                 vertica://",
                "name a PostgreSQL server in --dsn; for Vertica begin it with vertica://",
            ),
            Self::Database => {
                ("correct the database that the source's dsn names", "correct the database that --dsn names")
            }
            Self::Password => (
                "correct the password in password_file, password or dsn of the source, or in .pgpass",
                "correct the password in the file of --password-file, in --dsn, PGPASSWORD or .pgpass",
            ),
            Self::NoPassword => (
                "give the source a password: password_file, password, or a line of .pgpass",
                "give a password: in a file named by --password-file, in PGPASSWORD, or a line of .pgpass",
            ),
            Self::PasswordFile => (
                "make password_file of the source readable for the user that the daemon runs as",
                "make the file of --password-file readable for the user that runs this command",
            ),
            Self::TokenFile => (
                "make oauth_token_file of the source readable for the user that the daemon runs as",
                "make the file with the token readable for the user that runs this command",
            ),
            Self::CertificateName => (
                "the host in the dsn is not in the server's certificate: use a name that is, or sslmode=verify-ca",
                "the host in --dsn is not in the server's certificate: use a name that is, or sslmode=verify-ca",
            ),
            Self::UnknownCa => (
                "name the CA that signed the server's certificate, or that certificate itself, with ca_file",
                "name the CA that signed the server's certificate, or that certificate itself, with sslrootcert in --dsn",
            ),
            Self::Tls => (
                "check sslmode, ca_file and the server's certificate",
                "check sslmode and sslrootcert of --dsn, and the server's certificate",
            ),
            Self::Connections => (
                "the server has no connection left: lower pool_size and max_parallel of the source, \
                 or raise max_connections or the role's CONNECTION LIMIT",
                "the server has no connection left: use fewer --workers, or raise max_connections or the role's \
                 CONNECTION LIMIT",
            ),
            Self::Sessions => (
                "the server has no session left: lower pool_size and max_parallel of the source, or raise \
                 MaxClientSessions or the user's MAXCONNECTIONS",
                "the server has no session left: use fewer --workers, or raise MaxClientSessions or the user's \
                 MAXCONNECTIONS",
            ),
            Self::Resources => (
                "the resource pool or the server has run out of memory, disk or threads: give the source a \
                 resource_pool of its own, or lower max_parallel",
                "the resource pool or the server has run out of memory, disk or threads: use fewer --workers, or give \
                 the user a resource pool of its own",
            ),
            Self::ResourcePool => (
                "correct resource_pool of the source: the pool must exist, and the user needs USAGE on it",
                "the resource pool must exist, and the user needs USAGE on it",
            ),
            Self::Login => (
                "check the user in the source's dsn, the password (password_file, password or dsn) and the server's \
                 authentication records",
                "check the user in --dsn, the password and the server's authentication records",
            ),
            Self::Token => (
                "write a valid access token into oauth_token_file of the source; it may have expired",
                "give a valid access token; it may have expired",
            ),
            Self::TlsOnly => (
                "the server takes only TLS: set sslmode=verify-full in the source's dsn",
                "the server takes only TLS: set sslmode=verify-full in --dsn",
            ),
            Self::NotVertica => (
                "check host and port of the source's dsn: what answers there does not speak Vertica's protocol as this \
                 program knows it",
                "check host and port of --dsn: what answers there does not speak Vertica's protocol as this program knows it",
            ),
            Self::Pool => ("raise pool_size of the source, or lower [export] workers", "use fewer --workers"),
            Self::Lock => (
                "another session holds a strong lock on the table; raise lock_timeout if that is normal here",
                "another session holds a strong lock on the table; export again when it has ended",
            ),
            Self::Locks => (
                "partitions and indexes take more locks than the server has room for: raise max_locks_per_transaction \
                 on the server, lower chunk_workers, or export partitions in several requests",
                "partitions and indexes take more locks than the server has room for: raise max_locks_per_transaction \
                 on the server, use fewer --workers, or export partitions one after the other",
            ),
            Self::Stall => (
                "raise stall_timeout of the source if its queries need so long, e.g. for selective filters",
                "is the server busy, or the filter so selective that rows come rarely? An index on its columns helps",
            ),
            Self::Session => (
                "correct [sources.<name>.session]: the server refuses one of its settings",
                "the server refuses a setting that every export makes; is it PostgreSQL 12 or newer?",
            ),
            Self::Query => {
                ("correct the filter, columns or session settings", "correct the filter or columns")
            }
            Self::StatementTimeout => (
                "statement_timeout ended it: set `statement_timeout = \"0\"` under [sources.<name>.session], \
                 or ALTER ROLE … SET statement_timeout = 0",
                "statement_timeout ended it: add options=-c%20statement_timeout%3D0 to --dsn, \
                 or ALTER ROLE … SET statement_timeout = 0",
            ),
            Self::TransactionTimeout => (
                "transaction_timeout ended it: set `transaction_timeout = \"0\"` under [sources.<name>.session]",
                "transaction_timeout ended it: add options=-c%20transaction_timeout%3D0 to --dsn, \
                 or ALTER ROLE … SET transaction_timeout = 0",
            ),
            Self::AllRows => (
                "give the role BYPASSRLS, or set `row_security = \"on\"` under [sources.<name>.session] for an export \
                 of the visible rows only",
                "give the role BYPASSRLS",
            ),
            Self::Rights => (
                "grant the role what the message names: USAGE on a schema, type or foreign server, \
                 SELECT on a table, view or sequence, EXECUTE on a function; where row-level security hides rows, \
                 BYPASSRLS, or `row_security = \"on\"` under [sources.<name>.session] for an export of the visible \
                 rows only",
                "grant the role what the message names: USAGE on a schema, type or foreign server, SELECT on a table, \
                 view or sequence, EXECUTE on a function; where row-level security hides rows, BYPASSRLS",
            ),
            Self::SeveralServers => (
                "does the source's dsn lead to several servers? Name one of them, or leave snapshots out \
                 by \"consistency\": \"none\"",
                "does --dsn lead to several servers? Name one of them, or leave snapshots out by \
                 \"consistency\": \"none\" in a request (--request)",
            ),
            Self::FilterOff => (
                "leave `where` out, or set allow_where = \"simple\" in the source's section of the configuration",
                "leave `where` out",
            ),
            Self::FilterTooFree => (
                "use columns, literals, comparisons, AND, OR, NOT, IN, BETWEEN, LIKE, IS, arithmetic and casts \
                 to plain types, or set allow_where = \"any\" in the source's section of the configuration",
                "use columns, literals, comparisons, AND, OR, NOT, IN, BETWEEN, LIKE, IS, arithmetic and casts \
                 to plain types, or filter in a view",
            ),
        }
    }
}

#[cfg(test)]
mod tests;
