//! Where rows come from. This module is the boundary to PostgreSQL, and to a source in memory for tests. No
//! SQL crosses the boundary. A server's error code crosses it only as text for people (`SourceError::code`);
//! the program acts on `ErrorKind` and `Refusal`. Filters cross it as data. What a source stores in a plan
//! for itself is opaque to everybody else (`Frozen`).
//!
//! Calls are async. Rows come through [`ChunkStream`], which blocks. A thread of its own reads it, so that
//! decoding and encoding never run on the async threads.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::{SourceConfig, SourceKind};
use crate::message::SourceName;
use crate::message::event::PagesRead;
use crate::message::request::OnUnfit;
use crate::message::setting::ReadWay;
use crate::relation::pieces::{MostChunks, Pieces, Wanted};
use crate::relation::{
    Boundaries, BoundaryMethod, Column, Division, Filter, Frozen, MappingOptions, Relation, Selection, Slice,
    Snapshot, SplitKey, SurveyColumn, SurveyRequest,
};

pub mod decode;
mod dial;
mod error;
pub mod memory;
pub mod postgres;
mod sql;
pub mod vertica;

pub use error::{ErrorKind, Refusal, SourceError};

/// The source that a section of the configuration describes. Does not connect.
///
/// # Errors
/// When a setting of the section cannot be used.
pub fn of(name: &SourceName, section: &SourceConfig) -> Result<Arc<dyn Source>, SourceError> {
    Ok(match &section.kind {
        SourceKind::Postgres(server) | SourceKind::Greenplum(server) => {
            Arc::new(postgres::PostgresSource::new(name, section, server)?)
        }
        SourceKind::Vertica(server) => Arc::new(vertica::VerticaSource::new(name, section, server)?),
    })
}

/// What a chunk reads.
#[derive(Clone)]
pub struct ChunkRead<'a> {
    /// The relation.
    pub selection: Selection<'a>,
    /// The columns.
    pub columns: &'a [Column],
    /// Names of the key columns, for reports about rows.
    pub key: &'a [String],
    /// Which rows of the relation to read.
    pub slice: Slice<'a>,
    /// The snapshot that the chunk reads. `None`: the chunk reads the current rows.
    pub under: Option<Arc<dyn Keeper>>,
    /// How to read it, as planned.
    pub way: ReadWay,
    /// Settings of the session, in order.
    pub session: &'a [(String, String)],
    /// What to do with values that do not fit.
    pub on_unfit: OnUnfit,
    /// Fires when the chunk is no longer wanted: the source must free its connection and backend at once.
    pub cancel: CancellationToken,
    /// Counts rows and bytes while the chunk runs.
    pub progress: Arc<Progress>,
    /// Gets the number of pages, if the chunk is read by pages.
    pub pages: Arc<OnceLock<PagesRead>>,
}

/// Live figures of a chunk.
#[derive(Debug, Default)]
pub struct Progress {
    rows: AtomicU64,
    bytes: AtomicU64,
    whole: Option<Arc<Progress>>,
}

impl Progress {
    /// The progress of a part of `whole`: what is added here is added there too.
    #[must_use]
    pub fn within(whole: &Arc<Self>) -> Self {
        Self { whole: Some(Arc::clone(whole)), ..Self::default() }
    }

    /// Adds rows and bytes that were read.
    pub fn add(&self, rows: u64, bytes: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.add(rows, bytes);
        }
    }

    /// Rows and bytes so far.
    #[must_use]
    pub fn read(&self) -> (u64, u64) {
        (self.rows.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

/// The rows of one chunk, read from a blocking thread. The stream ends with `None` only after the source has
/// confirmed the end of the data. Every other end is an error.
pub trait ChunkStream: Send {
    /// The next batch.
    ///
    /// # Errors
    /// The error that ended the stream early.
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, SourceError>;
}

/// Holds a snapshot: the source can show the snapshot as long as the keeper lives. Dropping the keeper
/// releases it.
pub trait Keeper: Any + Send + Sync {
    /// The snapshot.
    fn snapshot(&self) -> Snapshot;
    /// Fires when the source can no longer show the snapshot.
    fn lost(&self) -> CancellationToken;

    /// Whether the snapshot lives as long as this keeper does. If not, the keeper only knows who holds the
    /// snapshot, and other processes cannot rely on it.
    fn holds(&self) -> bool {
        true
    }
}

/// What a source needs to hold a snapshot that another process takes. Dropping it gives it up.
pub type Prepared = Box<dyn Any + Send + Sync>;

/// A source whose chunks can all read the same snapshot.
#[async_trait]
pub trait Snapshots: Send + Sync {
    /// Takes a new snapshot and holds it until the keeper is dropped.
    async fn open(&self, lineage: Uuid) -> Result<Arc<dyn Keeper>, SourceError>;

    /// Joins a snapshot that a living keeper holds, in this or another process, and holds it too if it can
    /// ([`Keeper::holds`]). `None` if no living keeper was found.
    async fn join(
        &self,
        lineage: Uuid,
        prepared: Option<Prepared>,
    ) -> Result<Option<Arc<dyn Keeper>>, SourceError>;

    /// Whether a process can hold a snapshot of another process only if it prepared for that before the
    /// snapshot was taken.
    fn must_prepare(&self) -> bool {
        false
    }

    /// Prepares to hold a snapshot that another process takes soon.
    async fn prepare(&self) -> Result<Option<Prepared>, SourceError> {
        Ok(None)
    }

    /// Whether a plan says enough to find a snapshot again, so that nobody has to keep it. [`Self::recall`] finds
    /// it, and [`Self::join`] finds nothing.
    fn recalls(&self) -> bool {
        false
    }

    /// Finds a snapshot again from what a plan says about it.
    ///
    /// # Errors
    /// `LineageLost` if the source can no longer show it.
    async fn recall(&self, snapshot: &Snapshot) -> Result<Arc<dyn Keeper>, SourceError> {
        Err(SourceError::lineage_lost(format!("nobody keeps the snapshot of lineage {}", snapshot.lineage)))
    }

    /// Whether rows of a snapshot can disappear without an error while the snapshot lives. Planning then counts
    /// the rows of each table, and a table with another number of rows in the end is planned again.
    fn may_lose_rows(&self) -> bool {
        false
    }

    /// Number of living keepers of a lineage, in all processes.
    async fn keepers(&self, lineage: Uuid) -> Result<u32, SourceError>;
}

/// How a relation is read, if its source has several ways for the chunks that planning cuts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// The way. `Auto` is the usual one.
    pub read: ReadWay,
    /// The way and its reason in words, if there is something to say.
    pub why: Option<String>,
}

impl Way {
    /// The way of a relation that is split by keys.
    #[must_use]
    pub fn of_keys(self) -> Self {
        match self.read {
            ReadWay::Pages => {
                let why = "by copy, because ranges of keys are not ranges of pages";
                Self { read: ReadWay::Auto, why: Some(why.into()) }
            }
            _ => self,
        }
    }
}

/// Facts that `check` and the start of the daemon report.
#[derive(Clone, Debug)]
pub struct SourceFacts {
    /// e.g. `PostgreSQL`.
    pub product: String,
    /// e.g. `15.20`.
    pub version: String,
    /// Whether the source has snapshots.
    pub snapshots: bool,
    /// What else an operator should know, e.g. the segments of a cluster.
    pub notes: Vec<String>,
}

/// Connections of a source's pool, without keepers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUse {
    /// Open and free.
    pub idle: usize,
    /// In use.
    pub busy: usize,
    /// Chunks and plans that wait for a connection.
    pub waiting: usize,
}

/// A database that tables are exported from. The caller passes each call the snapshot that it reads under.
#[async_trait]
pub trait Source: Send + Sync {
    /// The name of the source in the configuration.
    fn name(&self) -> &SourceName;

    /// Connects and asks for product, version and capabilities.
    async fn check(&self) -> Result<SourceFacts, SourceError>;

    /// Reads the facts of all requested relations, in a constant number of queries.
    async fn survey(
        &self,
        request: &SurveyRequest,
        under: Option<&dyn Keeper>,
    ) -> Result<Vec<Relation>, SourceError>;

    /// Maps a column again with other options. Pure.
    fn map_column(&self, column: &SurveyColumn, options: &MappingOptions<'_>) -> Column;

    /// Splits a relation, if this source cuts chunks itself. `columns` are those that are exported. Without an
    /// answer, the relation is split by keys or pages. Pure.
    ///
    /// # Errors
    /// When the relation cannot be split or read as wanted.
    fn pieces(
        &self,
        relation: &Relation,
        columns: &[Column],
        wanted: &Wanted,
    ) -> Result<Option<Pieces>, SourceError>;

    /// How a relation is read that planning splits ([`Self::pieces`] had no answer). A way of numbered chunks,
    /// such as pages, applies only if the relation is not split by keys. Pure.
    fn way(
        &self,
        _relation: &Relation,
        _columns: &[Column],
        _wanted: &Wanted,
        _under: Option<&dyn Keeper>,
    ) -> Way {
        Way::default()
    }

    /// What its owner must not do with a relation while it is exported, because no error would tell. Pure.
    fn caution(&self, _relation: &Relation) -> Option<String> {
        None
    }

    /// How many chunks the server lets the role run at once. `None` without such a limit.
    async fn most_chunks(&self, under: Option<&dyn Keeper>) -> Result<Option<MostChunks>, SourceError>;

    /// The snapshots of this source, if it has any.
    fn snapshots(&self) -> Option<&dyn Snapshots>;

    /// Translates a filter on a relation with these columns into the source's own language. Pure.
    ///
    /// # Errors
    /// When the source cannot express the filter, e.g. because values of a column cannot be subtracted.
    fn print(&self, filter: &Filter, columns: &[SurveyColumn]) -> Result<Frozen, SourceError>;

    /// Inner boundaries that split a selection by a key into ranges with about the same number of rows.
    async fn boundaries(
        &self,
        selection: &Selection<'_>,
        key: SplitKey<'_>,
        method: BoundaryMethod,
        division: Division,
        under: Option<&dyn Keeper>,
    ) -> Result<Boundaries, SourceError>;

    /// Checks a filter against the selection's columns without reading rows, and estimates its rows.
    async fn estimate(
        &self,
        selection: &Selection<'_>,
        under: Option<&dyn Keeper>,
    ) -> Result<u64, SourceError>;

    /// Counts the rows of a selection.
    async fn count(&self, selection: &Selection<'_>, under: Option<&dyn Keeper>) -> Result<u64, SourceError>;

    /// Counts the rows of several selections, in their order.
    async fn counts(
        &self,
        selections: &[Selection<'_>],
        under: Option<&dyn Keeper>,
    ) -> Result<Vec<u64>, SourceError> {
        let mut counts = Vec::with_capacity(selections.len());
        for selection in selections {
            counts.push(self.count(selection, under).await?);
        }
        Ok(counts)
    }

    /// The highest value of a column in a selection, as text.
    async fn maximum(
        &self,
        selection: &Selection<'_>,
        column: &str,
        under: Option<&dyn Keeper>,
    ) -> Result<Option<String>, SourceError>;

    /// Opens the rows of a chunk: takes locks, checks the table, then starts the stream.
    async fn read_chunk(&self, read: ChunkRead<'_>) -> Result<Box<dyn ChunkStream>, SourceError>;

    /// Waits until connections that are being ended are gone. Callers must not start new work afterwards.
    async fn close(&self);

    /// How many connections of the pool are in use now.
    fn pool_use(&self) -> PoolUse;
}
