//! The configuration file: one struct for each section, a default for every setting. The smallest file has
//! `broker.url`, `export.root` and one source.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use serde::Deserialize;

use crate::message::SourceName;
use crate::message::output::PARTITIONS_MAX;
use crate::message::setting::{Compression, FileTypes, Span};

mod credentials;
pub mod dsn;
pub mod load;
mod one_shot;
mod remedy;
mod source;
mod validate;
mod value;
pub mod vertica;

pub use load::{ConfigError, Problem};
pub use remedy::{Advice, Remedy};
pub use source::{
    AllowWhere, Effective, MAX_JOBS, MAX_PARALLEL, Origin, PostgresConfig, SourceConfig, SourceKind,
};
pub use value::{Auto, OptionalSpan, Secret};
pub use vertica::VerticaConfig;

/// The whole configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The broker. The daemon needs one, a one-shot export does not.
    #[serde(default)]
    pub broker: BrokerConfig,
    /// The export folder, and how much work runs at once.
    pub export: ExportConfig,
    /// The status page, its API, metrics and health.
    #[serde(default)]
    pub http: HttpConfig,
    /// The log.
    #[serde(default)]
    pub log: LogConfig,
    /// Intervals and limits of the protocol. Tests use a tenth of them.
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
    /// Whether to declare queues and exchanges; if not, they must exist.
    pub declare: bool,
    /// CA certificates (PEM) for `amqps`.
    pub ca_file: Option<PathBuf>,
    /// Client certificate (PEM).
    pub cert_file: Option<PathBuf>,
    /// Key of the client certificate (PEM).
    pub key_file: Option<PathBuf>,
    /// Heartbeat of the connections.
    pub heartbeat: Span,
    /// Time limit of every call to the broker.
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
    /// Number of chunks that this daemon exports at once: its prefetch.
    #[serde(default)]
    pub workers: Auto<NonZeroU32>,
    /// Maximum bytes of memory for all row groups together.
    #[serde(default)]
    pub memory_limit: Auto<NonZeroU64>,
    /// Compression; if not set, the preset of the source kind applies.
    #[serde(default)]
    pub compression: Option<Compression>,
    /// Types and encodings of files, unless the request sets them.
    #[serde(default)]
    pub types: FileTypes,
    /// Rows of a chunk; if not set, the size of the table decides.
    #[serde(default)]
    pub chunk_rows: Option<NonZeroU64>,
    /// Maximum bytes of the table in a chunk.
    #[serde(default = "default_chunk_bytes")]
    pub chunk_bytes: NonZeroU64,
    /// Encoded bytes of a row group.
    #[serde(default = "default_row_group_bytes")]
    pub row_group_bytes: NonZeroU64,
    /// Bytes at which a file is followed by the next one, unless the request sets them; if not set, each
    /// chunk gives one file.
    #[serde(default)]
    pub file_bytes: Option<NonZeroU64>,
    /// Largest number of partitions of a table whose request has `partition_by`.
    #[serde(default = "default_partitions_max")]
    pub partitions_max: NonZeroU32,
    /// Number of tables of one job that are exported at once.
    #[serde(default)]
    pub table_threads: Auto<NonZeroU32>,
    /// Number of chunks of one table that are exported at once.
    #[serde(default)]
    pub chunk_workers: Auto<NonZeroU32>,
    /// Workers pause while fewer bytes are free.
    #[serde(default = "default_min_free_bytes")]
    pub min_free_bytes: u64,
    /// How long SIGTERM waits for running chunks.
    #[serde(default = "default_grace")]
    pub shutdown_grace: Span,
    /// Group that owns written files: a numeric id or a name.
    #[serde(default)]
    pub group: Option<String>,
}

fn default_chunk_bytes() -> NonZeroU64 {
    NonZeroU64::new(4 << 30).expect("not zero")
}

fn default_row_group_bytes() -> NonZeroU64 {
    NonZeroU64::new(16 << 20).expect("not zero")
}

fn default_partitions_max() -> NonZeroU32 {
    NonZeroU32::new(PARTITIONS_MAX).expect("not zero")
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
    /// Address; `off` for no HTTP server.
    pub listen: String,
    /// Whether to show filters and labels of requests.
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
    /// Format of the lines.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Auto }
    }
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Entries of the journal if standard error goes there, else text.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[timing]`: intervals and limits of the protocol.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimingConfig {
    /// How often a daemon announces that it is alive.
    pub alive_interval: Span,
    /// After this silence a daemon counts as dead, and a chunk that nobody holds counts as lost.
    pub alive_timeout: Span,
    /// How often the coordinator scans the whole folder.
    pub look_interval: Span,
    /// How often a job reports progress.
    pub progress_interval: Span,
    /// A job counts as stalled if no chunk has finished for this long.
    pub stalled_after: Span,
    /// How long a worker waits for a plan to appear.
    pub plan_wait: Span,
    /// How long a worker looks for a keeper of its snapshot.
    pub keeper_wait: Span,
    /// How often a daemon that is not fit for work tries again.
    pub unfit_retry: Span,
    /// First pause of a retry after a transient error.
    pub retry_first: Span,
    /// Longest pause of a retry.
    pub retry_longest: Span,
    /// Retries of one chunk end after this time. Its message then returns to the queue.
    pub retry_limit: Span,
    /// Age at which a workspace without a request is moved to the trash.
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
