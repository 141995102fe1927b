//! Where published tables live. The control folder says what is to be done and what was done. A destination
//! holds the bytes, and only it knows how a table becomes visible. The protocol uses what [`Destination`]
//! offers, and nothing else.
//!
//! Every effect may fail, may fail after it succeeded, or may happen after the process that asked for it
//! died. So anybody may repeat each effect. Exactly one of [`publish`](Destination::publish) and
//! [`discard`](Destination::discard) ever happens to a table of an epoch (invariant I4). The destination
//! decides between them, and tells each later caller what was decided.

use std::fs::File;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use crate::folder::{Folder, FolderError};
use crate::message::event::ErrorReport;
use crate::message::request::{OnConflict, OutputDirectory};
use crate::message::{BatchId, BatchNo, Epoch, JobId, SourceName, TableNo};

pub mod base_name;
pub mod folder;
pub mod part;

pub use folder::FolderDestination;
pub use part::{FinishedPart, NewPart, PartPlace, PartReference};

/// A table that asks for a public name.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The table's job.
    pub job: &'a JobId,
    /// The epoch that plans the table.
    pub epoch: Epoch,
    /// The table's number.
    pub table: TableNo,
    /// The source that the table is read from.
    pub source: &'a SourceName,
    /// The table's schema in the source.
    pub schema: &'a str,
    /// The table's name in the source.
    pub name: &'a str,
    /// Output directory; none for the destination's root.
    pub directory: Option<&'a OutputDirectory>,
    /// What happens when the name is taken.
    pub on_conflict: OnConflict,
    /// When the name is asked for.
    pub at: Timestamp,
}

/// Why a destination cannot take a table.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The destination refuses the table. The job's owner reads the reason.
    #[error("{}", .0.message)]
    Refused(ErrorReport),
    /// The destination could not find out the answer.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

impl From<io::Error> for ClaimError {
    fn from(e: io::Error) -> Self {
        Self::Folder(e.into())
    }
}

/// An epoch of a job that is being planned.
#[derive(Clone, Copy, Debug)]
pub struct Stage<'a> {
    /// The job.
    pub job: &'a JobId,
    /// The epoch.
    pub epoch: Epoch,
    /// Unique per plan: two planners of the same epoch have different ids.
    pub id: Uuid,
}

/// A table of an epoch. It is published or discarded as a whole.
#[derive(Clone, Debug)]
pub struct StagedTable {
    /// The table's job.
    pub job: JobId,
    /// The table's batch.
    pub of: BatchId,
    /// The table's number.
    pub table: TableNo,
    /// [`Stage::id`] of the table's plan.
    pub stage: Uuid,
    /// Output directory; none for the destination's root.
    pub directory: Option<OutputDirectory>,
    /// The base name that the table has claimed.
    pub base: String,
    /// A part that is certainly in the table once it is published, if one is known.
    pub certain: Option<WinningPart>,
}

/// A part that a record names, and its place in the published table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WinningPart {
    /// The destination's own name for the part.
    pub reference: PartReference,
    /// Path below the table's directory.
    pub path: String,
}

/// The decision about a table of an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The table is published in this directory, or is about to be.
    Published(String),
    /// The table never appears.
    Discarded,
}

/// The result of publishing a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Publication {
    /// The decision, made now or before.
    Decided(Decision),
    /// No decision: this directory is taken, and no other name may be tried.
    Taken(String),
    /// No decision: the destination cannot hold the table as it is. It is to be discarded.
    Refused(ErrorReport),
}

/// A published file that is open for reading.
pub trait PublishedFile: Send + Sync {
    /// Size of the file in bytes.
    ///
    /// # Errors
    /// When the size cannot be found out.
    fn size(&self) -> io::Result<u64>;

    /// Reads from a position into a buffer. Blocks. Returns 0 at the end of the file.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize>;
}

/// The destination of an export folder.
#[must_use]
pub fn of(folder: &Folder) -> Arc<dyn Destination> {
    Arc::new(FolderDestination::new(folder.clone()))
}

/// Where published tables live.
#[async_trait]
pub trait Destination: Send + Sync {
    /// Identity of the destination, which plans keep. `None` for the root of the control folder: every task
    /// names that root already.
    fn id(&self) -> Option<Uuid>;

    /// Whether the destination can be used now.
    ///
    /// # Errors
    /// The reason, for people.
    async fn health(&self) -> Result<(), String>;

    /// Bytes that may still be written.
    ///
    /// # Errors
    /// When the number cannot be found out.
    async fn free(&self) -> Result<u64, FolderError>;

    /// Claims a public name for a table. Returns the base name, which belongs to the table for ever.
    ///
    /// # Errors
    /// `Refused` if the table can have no name.
    async fn claim(&self, claim: &Claim<'_>) -> Result<String, ClaimError>;

    /// Makes everything that the tables of an epoch need here. This comes before the plan that names the
    /// stage is written.
    ///
    /// # Errors
    /// `Refused` if an output directory cannot take tables.
    async fn prepare(
        &self,
        stage: &Stage<'_>,
        outputs: &[&OutputDirectory],
        batches: &[BatchNo],
        tables: &[TableNo],
    ) -> Result<(), ClaimError>;

    /// Removes what was prepared for a plan that was not written, because another planner was first.
    ///
    /// # Errors
    /// When the destination refuses.
    async fn withdraw(&self, stage: &Stage<'_>) -> Result<(), FolderError>;

    /// Begins a part. Nothing of it is visible to readers. Called on a thread that may block.
    ///
    /// # Errors
    /// When the part cannot be begun; `NotFound` if nobody needs the part any more.
    fn begin(&self, place: &PartPlace) -> io::Result<Box<dyn NewPart>>;

    /// A new file without a name, for rows that wait until they are written into parts. It is gone when it is
    /// closed. Called on a thread that may block.
    ///
    /// # Errors
    /// When there can be no such file; `NotFound` if nobody needs the parts any more.
    fn scratch(&self, place: &PartPlace) -> io::Result<File>;

    /// Makes the finished parts of a batch durable. A record must not name them before that. Small parts
    /// share the fsync.
    ///
    /// # Errors
    /// When the destination refuses.
    async fn secure(&self, job: &JobId, of: BatchId) -> Result<(), FolderError>;

    /// Removes a part that no record names. It is no error if the part does not exist.
    ///
    /// # Errors
    /// When the destination refuses.
    async fn drop_part(&self, job: &JobId, of: BatchId, reference: &PartReference)
    -> Result<(), FolderError>;

    /// Makes a table visible, whole and once, under a name that `on_conflict` allows. If the table was
    /// decided before, returns that decision.
    ///
    /// # Errors
    /// When the destination refuses. The caller tries again; the table may be decided nevertheless.
    async fn publish(
        &self,
        table: &StagedTable,
        parts: &[WinningPart],
        on_conflict: OnConflict,
        now: Timestamp,
    ) -> Result<Publication, FolderError>;

    /// Makes sure that a table never appears, unless it is published already.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    async fn discard(&self, table: &StagedTable) -> Result<Decision, FolderError>;

    /// Whether somebody may have begun to publish a table. `false` comes from the server and not from a
    /// cache.
    ///
    /// # Errors
    /// When the destination refuses.
    async fn is_begun(&self, job: &JobId, of: BatchId, table: TableNo) -> Result<bool, FolderError>;

    /// Checks that a published table has the parts that its records name, before anybody hears of it.
    ///
    /// # Errors
    /// When a part is missing, or when this cannot be found out.
    async fn confirm(&self, directory: &str, parts: &[WinningPart]) -> Result<(), FolderError>;

    /// The directory of the newest full export of a table in an output directory, as readers find it.
    ///
    /// # Errors
    /// When the destination refuses.
    async fn latest(
        &self,
        source: &SourceName,
        schema: &str,
        table: &str,
        output: Option<&OutputDirectory>,
    ) -> Result<Option<String>, FolderError>;

    /// Makes `newest` the export that readers find under a base name of an output directory. True if they
    /// found another one, or none, before.
    ///
    /// # Errors
    /// When the destination refuses.
    async fn point(
        &self,
        output: Option<&OutputDirectory>,
        base: &str,
        newest: &str,
    ) -> Result<bool, FolderError>;

    /// Opens a published file. Called on a thread that may block.
    ///
    /// # Errors
    /// When the file cannot be opened.
    fn open(&self, directory: &str, path: &str) -> io::Result<Box<dyn PublishedFile>>;

    /// The files of a published table, by their paths below its directory; `None` if the table does not exist.
    ///
    /// # Errors
    /// When the destination refuses.
    async fn list(&self, directory: &str) -> Result<Option<Vec<String>>, FolderError>;

    /// Whether a published table exists.
    ///
    /// # Errors
    /// When the destination refuses.
    async fn has(&self, directory: &str) -> Result<bool, FolderError> {
        Ok(self.list(directory).await?.is_some())
    }

    /// Removes a published table. `why` is used for its name in the trash.
    ///
    /// # Errors
    /// When the destination refuses.
    async fn remove(&self, directory: &str, why: &str) -> Result<(), FolderError>;
}
