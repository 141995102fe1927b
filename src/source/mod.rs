//! Where rows come from: a boundary with PostgreSQL behind it, and a source in
//! memory for tests. No SQL and no code of a server crosses it: filters come as
//! data, and what a source notes for itself in a plan is its own (`Frozen`).
//!
//! The control side is async; rows come through [`ChunkStream`], which blocks
//! and is read from a thread of its own, so that decoding and encoding never
//! run on the async threads.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::message::SourceName;
use crate::message::request::OnUnfit;
use crate::relation::{
    Boundaries, BoundaryMethod, Column, Division, Filter, Frozen, MappingOptions, Relation, Selection, Slice,
    Snapshot, SplitKey, SurveyColumn, SurveyRequest,
};

pub mod decode;
mod error;
pub mod memory;
pub mod postgres;

pub use error::{ErrorKind, Refusal, SourceError};

/// What a chunk reads.
#[derive(Clone)]
pub struct ChunkRead<'a> {
    /// The relation.
    pub selection: Selection<'a>,
    /// The columns.
    pub columns: &'a [Column],
    /// Names of those that tell rows apart, for reports.
    pub key: &'a [String],
    /// The part of it.
    pub slice: Slice<'a>,
    /// The snapshot that it reads; none: whatever is there.
    pub under: Option<Arc<dyn Keeper>>,
    /// Settings of the session.
    pub session: &'a [(String, String)],
    /// What becomes of values that do not fit.
    pub on_unfit: OnUnfit,
    /// Fires when the chunk is no longer wanted: the source must free its
    /// connection and backend at once.
    pub cancel: CancellationToken,
    /// Counted while it runs.
    pub progress: Arc<Progress>,
}

/// Live figures of a chunk.
#[derive(Debug, Default)]
pub struct Progress {
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl Progress {
    /// Adds what was read.
    pub fn add(&self, rows: u64, bytes: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Rows and bytes so far.
    #[must_use]
    pub fn read(&self) -> (u64, u64) {
        (self.rows.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

/// The rows of one chunk. Read from a blocking thread. It ends with `None`
/// only after the source confirmed the end of the data; anything else is an error.
pub trait ChunkStream: Send {
    /// The next batch.
    ///
    /// # Errors
    /// Whatever ended the stream before its end.
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, SourceError>;
}

/// What reads under a snapshot: as long as it lives, the source shows it. Dropping it lets go.
pub trait Keeper: Any + Send + Sync {
    /// The snapshot.
    fn snapshot(&self) -> Snapshot;
    /// Fires when the source shows it no more.
    fn lost(&self) -> CancellationToken;
}

/// A source whose chunks can all read one moment.
#[async_trait]
pub trait Snapshots: Send + Sync {
    /// Takes a new snapshot and holds it until the keeper is dropped.
    async fn open(&self, lineage: Uuid) -> Result<Arc<dyn Keeper>, SourceError>;

    /// Takes a snapshot over from any living keeper of it, in this or another
    /// process, and holds it. `None`: no living keeper was found.
    async fn join(&self, lineage: Uuid) -> Result<Option<Arc<dyn Keeper>>, SourceError>;

    /// Living keepers of a lineage, in all processes.
    async fn keepers(&self, lineage: Uuid) -> Result<u32, SourceError>;
}

/// Facts that `check` and the daemon's start want to know.
#[derive(Clone, Debug)]
pub struct SourceFacts {
    /// e.g. `PostgreSQL`.
    pub product: &'static str,
    /// e.g. `15.20`.
    pub version: String,
    /// Whether it can give snapshots.
    pub snapshots: bool,
}

/// Connections of a source's pool, keepers aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUse {
    /// Open and free.
    pub idle: usize,
    /// At work.
    pub busy: usize,
    /// Chunks and plans that wait for one.
    pub waiting: usize,
}

/// A database that tables are exported from. What a call reads under is handed to it.
#[async_trait]
pub trait Source: Send + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &SourceName;

    /// Connects and asks what it is.
    async fn check(&self) -> Result<SourceFacts, SourceError>;

    /// Facts of all relations that are meant, in a constant number of queries.
    async fn survey(
        &self,
        request: &SurveyRequest,
        under: Option<&dyn Keeper>,
    ) -> Result<Vec<Relation>, SourceError>;

    /// Maps a column again, with options. Pure.
    fn map_column(&self, column: &SurveyColumn, options: &MappingOptions<'_>) -> Column;

    /// Snapshots, if it has any.
    fn snapshots(&self) -> Option<&dyn Snapshots>;

    /// A filter as this source reads by it, of a relation with these columns. Pure.
    ///
    /// # Errors
    /// When it cannot: values of a column have no differences.
    fn print(&self, filter: &Filter, columns: &[SurveyColumn]) -> Result<Frozen, SourceError>;

    /// Inner boundaries that split a selection by a key into parts of about
    /// equal rows.
    async fn boundaries(
        &self,
        selection: &Selection<'_>,
        key: SplitKey<'_>,
        method: BoundaryMethod,
        parts: Division,
        under: Option<&dyn Keeper>,
    ) -> Result<Boundaries, SourceError>;

    /// Checks a filter against the selection's columns without reading rows,
    /// and estimates its rows.
    async fn estimate(
        &self,
        selection: &Selection<'_>,
        under: Option<&dyn Keeper>,
    ) -> Result<u64, SourceError>;

    /// Counts the rows of a selection.
    async fn count(&self, selection: &Selection<'_>, under: Option<&dyn Keeper>) -> Result<u64, SourceError>;

    /// The highest value of a column in a selection, as text.
    async fn maximum(
        &self,
        selection: &Selection<'_>,
        column: &str,
        under: Option<&dyn Keeper>,
    ) -> Result<Option<String>, SourceError>;

    /// Opens the rows of a chunk: locks, checks, then the stream.
    async fn read_chunk(&self, read: ChunkRead<'_>) -> Result<Box<dyn ChunkStream>, SourceError>;

    /// Waits until connections that are being ended are gone. Nothing may be begun any more.
    async fn close(&self);

    /// What its pool of connections is doing now.
    fn pool_use(&self) -> PoolUse;
}
