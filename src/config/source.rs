//! `[sources.<name>]`: a database to export from.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use serde::Deserialize;

use super::dsn::{DEFAULT_PORT, Dsn, InvalidDsn, Resolved, Surroundings, VERTICA_PORT};
use super::vertica::VerticaConfig;
use super::{ExportConfig, OptionalSpan, Secret};
use crate::message::SourceName;
use crate::message::setting::{ArrayMode, Compression, InfinityMode, NumericMode, ReadWay, Span};

mod effective;
mod section;

pub use effective::Effective;

/// Default number of chunks of a source that run at once.
pub const MAX_PARALLEL: NonZeroU32 = NonZeroU32::new(96).expect("not zero");
/// Default number of jobs of a source that run at once.
pub const MAX_JOBS: NonZeroU32 = NonZeroU32::new(4).expect("not zero");

/// Kind of a source, with the settings that only this kind has.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceKind {
    /// PostgreSQL 12 or newer, and servers that behave like it.
    Postgres(PostgresConfig),
    /// Greenplum 6.21 or newer, and its relatives.
    Greenplum(PostgresConfig),
    /// Vertica.
    Vertica(VerticaConfig),
}

impl SourceKind {
    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Greenplum(_) => "greenplum",
            Self::Vertica(_) => "vertica",
        }
    }
}

/// How to reach a PostgreSQL server.
#[derive(Clone, Debug, PartialEq)]
pub struct PostgresConfig {
    /// What `postgres://user@host/database?sslmode=verify-full` leads to, with its service and, if the source
    /// reads them, environment variables. May hold a password.
    pub target: Result<Resolved, InvalidDsn>,
    /// The password.
    pub password: Option<Secret>,
    /// A file with the password. It is read again when the server refuses the password.
    pub password_file: Option<PathBuf>,
    /// CA certificates (PEM) to verify the server; if not set, `sslrootcert` of the DSN applies.
    pub ca_file: Option<PathBuf>,
    /// Longest wait for a connection, unless the DSN sets `connect_timeout`.
    pub connect_timeout: Span,
    /// Longest wait of a chunk for a lock.
    pub lock_timeout: Span,
}

/// Defaults that suit a kind of source, for settings that the configuration leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Preset {
    /// Compression of pages.
    compression: Compression,
    /// Rows of a chunk; if none, the size of the table decides.
    chunk_rows: Option<NonZeroU64>,
    /// Silence after which a chunk is cancelled and tried again.
    stall_timeout: Span,
    /// Chunks of one table at once; if none, the cores decide.
    chunk_workers: Option<NonZeroU32>,
    /// Session settings of every chunk.
    session: &'static [(&'static str, &'static str)],
}

/// Session settings that decide how PostgreSQL writes values. The plan sets them, so a source must not.
const FIXED_SETTINGS: [&str; 9] = [
    "bytea_output",
    "client_encoding",
    "datestyle",
    "extra_float_digits",
    "intervalstyle",
    "search_path",
    "standard_conforming_strings",
    "timezone",
    "transaction_isolation",
];

impl SourceKind {
    /// The name of the kind that a DSN belongs to, and a name for the source: after host, port (unless it is
    /// the usual one) and database.
    ///
    /// # Errors
    /// Says what is wrong with the DSN.
    pub(super) fn of_dsn(dsn: &Secret) -> Result<(&'static str, SourceName), InvalidDsn> {
        let is_vertica = Dsn::is_of_vertica(dsn.expose());
        let (kind, usual, target) = match is_vertica {
            true => ("vertica", VERTICA_PORT, Dsn::of_vertica(dsn.expose())?),
            // A person's command reads the environment, as `psql` does.
            false => {
                let resolved = Dsn::within(dsn.expose(), &Surroundings::of_process(true))?;
                ("postgres", DEFAULT_PORT, resolved.dsn)
            }
        };
        let server = &target.servers[0];
        let port = (server.port != usual).then(|| server.port.to_string());
        Ok((kind, SourceName::of_dsn(&server.name(), port.as_deref(), &target.database)))
    }

    const fn preset(&self) -> Preset {
        match self {
            Self::Postgres(_) => Preset {
                compression: Compression::Snappy,
                chunk_rows: None,
                stall_timeout: Span::seconds(300),
                chunk_workers: None,
                session: &[],
            },
            Self::Greenplum(_) => Preset {
                compression: Compression::Zstd(3),
                chunk_rows: NonZeroU64::new(5_000_000),
                stall_timeout: Span::seconds(3600),
                chunk_workers: NonZeroU32::new(16),
                session: &[("work_mem", "2GB")],
            },
            Self::Vertica(_) => Preset {
                compression: Compression::Zstd(3),
                chunk_rows: NonZeroU64::new(5_000_000),
                stall_timeout: Span::seconds(3600),
                chunk_workers: NonZeroU32::new(16),
                session: &[],
            },
        }
    }

    /// Settings that name files, with their keys.
    #[must_use]
    pub fn files(&self) -> Vec<(&'static str, &Option<PathBuf>)> {
        match self {
            Self::Postgres(server) | Self::Greenplum(server) => {
                vec![("password_file", &server.password_file), ("ca_file", &server.ca_file)]
            }
            Self::Vertica(server) => vec![
                ("password_file", &server.password_file),
                ("oauth_token_file", &server.oauth_token_file),
                ("ca_file", &server.ca_file),
            ],
        }
    }

    /// The settings of [`files`](Self::files), to change their paths.
    pub(super) fn files_mut(&mut self) -> Vec<&mut Option<PathBuf>> {
        match self {
            Self::Postgres(server) | Self::Greenplum(server) => {
                vec![&mut server.password_file, &mut server.ca_file]
            }
            Self::Vertica(server) => {
                vec![&mut server.password_file, &mut server.oauth_token_file, &mut server.ca_file]
            }
        }
    }

    /// Sets the password file.
    pub fn set_password_file(&mut self, file: Option<PathBuf>) {
        match self {
            Self::Postgres(server) | Self::Greenplum(server) => server.password_file = file,
            Self::Vertica(server) => server.password_file = file,
        }
    }

    /// The identity of the server and database, as far as the address shows it. Two sources with the
    /// same identity read the same database.
    #[must_use]
    pub fn server(&self) -> Option<String> {
        match self {
            Self::Postgres(server) | Self::Greenplum(server) => {
                server.target.as_ref().ok().map(|target| target.dsn.identity())
            }
            Self::Vertica(server) => server.parsed().ok().map(|dsn| dsn.identity()),
        }
    }

    /// What is wrong around its settings, by key: with its service or with environment variables. It matters only
    /// where the source is used.
    pub(super) fn problems_around(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Postgres(server) | Self::Greenplum(server) => {
                let around = server.target.as_ref().err().filter(|error| error.is_around());
                around.map(|error| ("dsn", error.to_string())).into_iter().collect()
            }
            Self::Vertica(_) => Vec::new(),
        }
    }

    /// What is wrong with its settings, by key.
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Postgres(server) | Self::Greenplum(server) => {
                let wrong = server.target.as_ref().err().filter(|error| !error.is_around());
                let dsn = wrong.map(|error| ("dsn", error.to_string()));
                let both = server.password.is_some() && server.password_file.is_some();
                let password = both.then(|| ("password", "set it or password_file, not both".to_owned()));
                dsn.into_iter().chain(password).collect()
            }
            Self::Vertica(server) => server.problems(),
        }
    }

    /// The longest waits of a connection, by key.
    pub(super) fn waits(&self) -> Vec<(&'static str, Span)> {
        match self {
            Self::Postgres(server) | Self::Greenplum(server) => {
                vec![("connect_timeout", server.connect_timeout), ("lock_timeout", server.lock_timeout)]
            }
            Self::Vertica(server) => vec![("connect_timeout", server.connect_timeout)],
        }
    }

    /// Names, in lower case, of session settings that nobody may choose.
    pub(super) fn fixed_settings(&self) -> &'static [&'static str] {
        match self {
            Self::Postgres(_) | Self::Greenplum(_) => &FIXED_SETTINGS,
            Self::Vertica(_) => &[],
        }
    }
}

/// Where a source was given. Its settings are changed in the same place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// In the configuration file.
    #[default]
    Configuration,
    /// By `--dsn` of a one-shot command.
    CommandLine,
}

/// What a request's `where` may contain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AllowWhere {
    /// No filters.
    None,
    /// Columns, literals and operators.
    #[default]
    Simple,
    /// Also functions and subqueries.
    Any,
}

/// `[sources.<name>]`: settings that every kind has.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "section::Section")]
pub struct SourceConfig {
    /// Where the source was given.
    pub origin: Origin,
    /// The kind of source, with its own settings.
    pub kind: SourceKind,
    /// Keys that the file sets and that this kind of source does not have.
    pub misplaced: Vec<&'static str>,
    /// Connections of this daemon's pool. Keepers need additional connections.
    pub pool_size: NonZeroU32,
    /// Chunks of this source that run at once, in all daemons together.
    pub max_parallel: NonZeroU32,
    /// Jobs of this source that run at once. Other jobs wait.
    pub max_jobs: NonZeroU32,
    /// A chunk without data for this long is cancelled and retried; if not set, the preset applies.
    pub stall_timeout: Option<Span>,
    /// A job with an older snapshot is ended.
    pub max_snapshot_age: OptionalSpan,
    /// Schemas that requests may name; empty: all schemas that the role may read.
    pub schemas: Vec<String>,
    /// What filters may contain.
    pub allow_where: AllowWhere,
    /// How rows are read, unless the request says so for a table.
    pub read: ReadWay,
    /// Default for numeric columns without precision.
    pub numeric: Option<NumericMode>,
    /// Default for infinite dates and timestamps.
    pub infinity: InfinityMode,
    /// Default for arrays of more than one dimension.
    pub arrays: ArrayMode,
    /// Compression; if not set, the preset applies.
    pub compression: Option<Compression>,
    /// Rows of a chunk; if not set, `[export]` applies.
    pub chunk_rows: Option<NonZeroU64>,
    /// Chunks of one table that run at once; if not set, `[export]` applies, or else half of the cores of all
    /// daemons.
    pub chunk_workers: Option<NonZeroU32>,
    /// Session settings of every chunk.
    pub session: BTreeMap<String, String>,
}

impl SourceConfig {
    /// Compression, unless the request sets it.
    #[must_use]
    pub fn compression(&self, export: &ExportConfig) -> Compression {
        self.compression.or(export.compression).unwrap_or(self.kind.preset().compression)
    }

    /// Rows of a chunk, unless the request sets it; if none, the size of the table decides.
    #[must_use]
    pub fn chunk_rows(&self, export: &ExportConfig) -> Option<NonZeroU64> {
        self.chunk_rows.or(self.kind.preset().chunk_rows).or(export.chunk_rows)
    }

    /// Chunks of one table at once; if none, `[export]` or the cores decide.
    #[must_use]
    pub fn chunk_workers(&self) -> Option<NonZeroU32> {
        self.chunk_workers.or(self.kind.preset().chunk_workers)
    }

    /// Session settings of every chunk, in order.
    #[must_use]
    pub fn session(&self) -> Vec<(String, String)> {
        let preset =
            self.kind.preset().session.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut all: BTreeMap<String, String> = preset.collect();
        all.extend(self.session.clone());
        all.into_iter().collect()
    }

    /// Silence after which a chunk is cancelled and tried again.
    #[must_use]
    pub fn stall_timeout(&self) -> Span {
        self.stall_timeout.unwrap_or(self.kind.preset().stall_timeout)
    }
}
