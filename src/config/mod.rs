//! The configuration file: one struct per section, a default for every knob.
//! The smallest file is `broker.url`, `export.root` and one source.

use std::collections::BTreeMap;
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use crate::message::SourceName;
use crate::message::setting::{Compression, NumericMode, Span};

pub mod load;
mod one_shot;
pub mod preset;
mod validate;

pub use load::{ConfigError, Problem};

/// Everything.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The broker; the daemon needs one, one-shot does not.
    #[serde(default)]
    pub broker: BrokerConfig,
    /// The export folder and how much is done at once.
    pub export: ExportConfig,
    /// Metrics, health and jobs over HTTP.
    #[serde(default)]
    pub http: HttpConfig,
    /// The log.
    #[serde(default)]
    pub log: LogConfig,
    /// Intervals and limits of the protocol; tests run them at a tenth.
    #[serde(default)]
    pub timing: TimingConfig,
    /// The databases.
    #[serde(default)]
    pub sources: BTreeMap<SourceName, SourceConfig>,
}

/// A secret: read from a file or given inline, never shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself; only for handing it to a library.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// `[broker]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BrokerConfig {
    /// `amqp://user:password@host:port/vhost` or `amqps://…`.
    pub url: Option<Secret>,
    /// A file with the URL.
    pub url_file: Option<PathBuf>,
    /// Prefix of all names on the broker.
    pub prefix: String,
    /// Declare queues and exchanges; else use what exists.
    pub declare: bool,
    /// CA certificates (PEM) for `amqps`.
    pub ca_file: Option<PathBuf>,
    /// Client certificate (PEM).
    pub cert_file: Option<PathBuf>,
    /// Its key (PEM).
    pub key_file: Option<PathBuf>,
    /// Heartbeat of the connections.
    pub heartbeat: Span,
    /// Deadline of every call to the broker.
    pub call_timeout: Span,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            prefix: "adu.export".into(),
            declare: true,
            ca_file: None,
            cert_file: None,
            key_file: None,
            heartbeat: Span::seconds(20),
            call_timeout: Span::seconds(20),
        }
    }
}

/// A number, or `auto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auto<T> {
    /// Chosen from the machine.
    #[default]
    Auto,
    /// This many.
    Exactly(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Auto<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected \"auto\" or a positive number")]
        enum Raw<T> {
            Word(Word),
            Number(T),
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Word {
            Auto,
        }
        Ok(match Raw::deserialize(deserializer)? {
            Raw::Word(Word::Auto) => Self::Auto,
            Raw::Number(n) => Self::Exactly(n),
        })
    }
}

/// A span, or `off`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OptionalSpan(pub Option<Span>);

impl<'de> Deserialize<'de> for OptionalSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "off" {
            return Ok(Self(None));
        }
        text.parse().map(|s| Self(Some(s))).map_err(serde::de::Error::custom)
    }
}

/// `[export]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportConfig {
    /// The export folder.
    pub root: PathBuf,
    /// Chunks this daemon exports at once: its prefetch.
    #[serde(default)]
    pub workers: Auto<NonZeroU32>,
    /// Bytes of memory that row groups may take in all.
    #[serde(default)]
    pub memory_limit: Auto<NonZeroU64>,
    /// Compression; else the preset of the source kind.
    #[serde(default)]
    pub compression: Option<Compression>,
    /// Rows of a chunk; else by the size of the table.
    #[serde(default)]
    pub chunk_rows: Option<NonZeroU64>,
    /// Bytes of table that a chunk has at most.
    #[serde(default = "default_chunk_bytes")]
    pub chunk_bytes: NonZeroU64,
    /// Encoded bytes of a row group.
    #[serde(default = "default_row_group_bytes")]
    pub row_group_bytes: NonZeroU64,
    /// Tables of one job at once.
    #[serde(default)]
    pub table_threads: Auto<NonZeroU32>,
    /// Chunks of one table at once.
    #[serde(default)]
    pub chunk_workers: Auto<NonZeroU32>,
    /// Below this many free bytes workers pause.
    #[serde(default = "default_min_free_bytes")]
    pub min_free_bytes: u64,
    /// How long SIGTERM waits for chunks in flight.
    #[serde(default = "default_grace")]
    pub shutdown_grace: Span,
    /// Group that owns what is written: a numeric id or a name.
    #[serde(default)]
    pub group: Option<String>,
}

fn default_chunk_bytes() -> NonZeroU64 {
    NonZeroU64::new(4 << 30).expect("not zero")
}

fn default_row_group_bytes() -> NonZeroU64 {
    NonZeroU64::new(16 << 20).expect("not zero")
}

fn default_min_free_bytes() -> u64 {
    10 << 30
}

fn default_grace() -> Span {
    Span::seconds(120)
}

/// `[http]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Address; `off` for none.
    pub listen: String,
    /// Show filters and labels of requests.
    pub details: bool,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9950".into(), details: false }
    }
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Level, or a filter such as `info,adu_export::bus=debug`.
    pub level: String,
    /// Shape of the lines.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

/// Shape of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[timing]`: intervals and limits of the protocol.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimingConfig {
    /// How often a daemon says that it lives.
    pub alive_interval: Span,
    /// Silence after which a daemon counts as dead, a chunk that nobody holds as lost.
    pub alive_timeout: Span,
    /// How often the coordinator looks at the whole folder.
    pub look_interval: Span,
    /// How often a job reports progress.
    pub progress_interval: Span,
    /// Without a finished chunk for so long a job is stalled.
    pub stalled_after: Span,
    /// How long a worker waits for a plan to appear.
    pub plan_wait: Span,
    /// How long a worker looks for a keeper of its snapshot.
    pub keeper_wait: Span,
    /// How often a daemon that may not work tries again.
    pub unfit_retry: Span,
    /// First pause of a retry after a transient error.
    pub retry_first: Span,
    /// Longest pause of a retry.
    pub retry_longest: Span,
    /// Retries of one chunk end after this long and its message is released.
    pub retry_limit: Span,
    /// Age at which a workspace without request is trashed.
    pub abandoned_workspace: Span,
}

impl Default for TimingConfig {
    fn default() -> Self {
        Self {
            alive_interval: Span::seconds(10),
            alive_timeout: Span::seconds(30),
            look_interval: Span::seconds(60),
            progress_interval: Span::seconds(10),
            stalled_after: Span::seconds(600),
            plan_wait: Span::seconds(60),
            keeper_wait: Span::seconds(30),
            unfit_retry: Span::seconds(30),
            retry_first: Span::seconds(1),
            retry_longest: Span::seconds(60),
            retry_limit: Span::seconds(600),
            abandoned_workspace: Span::seconds(3600),
        }
    }
}

/// Kind of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// PostgreSQL 12 or newer, and what speaks like it.
    Postgres,
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
    /// Longest wait for a connection.
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
    /// Compression; else the preset.
    #[serde(default)]
    pub compression: Option<Compression>,
    /// Rows of a chunk; else `[export]`.
    #[serde(default)]
    pub chunk_rows: Option<NonZeroU64>,
    /// Chunks of one table at once; else `[export]`, else the preset.
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
    NonZeroU32::new(96).expect("not zero")
}

fn default_max_jobs() -> NonZeroU32 {
    NonZeroU32::new(4).expect("not zero")
}

fn default_connect_timeout() -> Span {
    Span::seconds(10)
}

fn default_lock_timeout() -> Span {
    Span::seconds(5)
}
