//! The configuration file: one struct per section, a default for every knob.
//! The smallest file is `broker.url`, `export.root` and one source.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use serde::Deserialize;

use crate::message::SourceName;
use crate::message::setting::{Compression, FileTypes, Span};

mod credentials;
pub mod dsn;
pub mod load;
mod one_shot;
pub mod preset;
mod remedy;
mod source;
mod validate;
mod value;

pub use load::{ConfigError, Problem};
pub use remedy::{Advice, Remedy};
pub use source::{AllowWhere, MAX_JOBS, MAX_PARALLEL, Origin, PostgresConfig, SourceConfig, SourceKind};
pub use value::{Auto, OptionalSpan, Secret};

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
    /// Types and encodings of the files where the request says nothing.
    #[serde(default)]
    pub types: FileTypes,
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
