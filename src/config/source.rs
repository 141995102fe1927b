//! `[sources.<name>]`: a database that is exported from.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use serde::Deserialize;

use super::{OptionalSpan, Secret};
use crate::message::setting::{Compression, InfinityMode, NumericMode, Span};

/// Chunks of a source at once where nobody says otherwise.
pub const MAX_PARALLEL: NonZeroU32 = NonZeroU32::new(96).expect("not zero");
/// Jobs of a source at once where nobody says otherwise.
pub const MAX_JOBS: NonZeroU32 = NonZeroU32::new(4).expect("not zero");

/// Kind of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// PostgreSQL 12 or newer, and what speaks like it.
    Postgres,
}

/// Where a source was given, so where its settings are changed.
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

/// `[sources.<name>]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Where this stands.
    #[serde(skip)]
    pub origin: Origin,
    /// What it is.
    pub kind: SourceKind,
    /// `postgres://user@host/database?sslmode=verify-full`; may hold a password.
    pub dsn: Secret,
    /// The password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// A file with the password; read again when it is refused.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// CA certificates (PEM) that the server's is checked against; else `sslrootcert` of the DSN.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Connections of this daemon's pool; keepers come on top.
    #[serde(default = "default_pool_size")]
    pub pool_size: NonZeroU32,
    /// Chunks of this source at once, all daemons together.
    #[serde(default = "default_max_parallel")]
    pub max_parallel: NonZeroU32,
    /// Jobs of this source at once; others wait.
    #[serde(default = "default_max_jobs")]
    pub max_jobs: NonZeroU32,
    /// Longest wait for a connection, unless the DSN says `connect_timeout`.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Span,
    /// No byte for so long: the chunk is cancelled and retried; else the preset.
    #[serde(default)]
    pub stall_timeout: Option<Span>,
    /// Longest wait for a lock of a chunk.
    #[serde(default = "default_lock_timeout")]
    pub lock_timeout: Span,
    /// A job whose snapshot is older is ended.
    #[serde(default)]
    pub max_snapshot_age: OptionalSpan,
    /// Schemas that requests may name; empty: all that the role may read.
    #[serde(default)]
    pub schemas: Vec<String>,
    /// What filters may contain.
    #[serde(default)]
    pub allow_where: AllowWhere,
    /// Default for numeric columns without precision.
    #[serde(default)]
    pub numeric: Option<NumericMode>,
    /// Default for infinite dates and timestamps.
    #[serde(default)]
    pub infinity: InfinityMode,
    /// Compression; else the preset.
    #[serde(default)]
    pub compression: Option<Compression>,
    /// Rows of a chunk; else `[export]`.
    #[serde(default)]
    pub chunk_rows: Option<NonZeroU64>,
    /// Chunks of one table at once; else `[export]`, else half of the cores of all daemons.
    #[serde(default)]
    pub chunk_workers: Option<NonZeroU32>,
    /// `SET LOCAL` for every chunk.
    #[serde(default)]
    pub session: BTreeMap<String, String>,
}

fn default_pool_size() -> NonZeroU32 {
    NonZeroU32::new(20).expect("not zero")
}

fn default_max_parallel() -> NonZeroU32 {
    MAX_PARALLEL
}

fn default_max_jobs() -> NonZeroU32 {
    MAX_JOBS
}

fn default_connect_timeout() -> Span {
    Span::seconds(10)
}

fn default_lock_timeout() -> Span {
    Span::seconds(5)
}
