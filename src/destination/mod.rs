//! Where published tables live. The control folder says what is to be done and what was done; a destination holds the
//! bytes, and knows alone how a table becomes visible: the protocol uses what [`Destination`] offers, and nothing else.
//!
//! Every effect may fail, fail after it succeeded, or land after its sender died, so each may be repeated by anybody.
//! Exactly one of [`publish`](Destination::publish) and [`discard`](Destination::discard) ever happens to a table of
//! an epoch (invariant I4): the destination arbitrates, and tells whoever comes second what was decided.

use std::io;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use crate::folder::FolderError;
use crate::message::event::ErrorReport;
use crate::message::request::OnConflict;
use crate::message::{BatchId, BatchNo, Epoch, JobId, SourceName, TableNo};

pub mod base_name;
pub mod folder;
pub mod part;

pub use folder::FolderDestination;
pub use part::{FinishedPart, NewPart, PartPlace, PartReference};

/// A table that asks for a public name.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Its job.
    pub job: &'a JobId,
    /// The epoch that plans it.
    pub epoch: Epoch,
    /// Its number.
    pub table: TableNo,
    /// The source that it is read from.
    pub source: &'a SourceName,
    /// Its schema there.
    pub schema: &'a str,
    /// Its name there.
    pub name: &'a str,
    /// Output directory, empty for the destination's root.
    pub directory: &'a str,
    /// What happens when the name is taken.
    pub on_conflict: OnConflict,
    /// When it asks.
    pub at: Timestamp,
}

/// Why a destination cannot take a table.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Nobody can, as things are: what its owner reads.
    #[error("{}", .0.message)]
    Refused(ErrorReport),
    /// It was not found out.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

impl From<io::Error> for ClaimError {
    fn from(e: io::Error) -> Self {
        Self::Folder(e.into())
    }
}

/// What an epoch of a job will bring.
#[derive(Clone, Copy, Debug)]
pub struct Stage<'a> {
    /// The job.
    pub job: &'a JobId,
    /// The epoch.
    pub epoch: Epoch,
    /// Unique per plan: of two planners of one epoch each has its own.
    pub id: Uuid,
}

/// A table of an epoch: what is published or discarded as one.
#[derive(Clone, Debug)]
pub struct StagedTable {
    /// Its job.
    pub job: JobId,
    /// Its batch.
    pub of: BatchId,
    /// Its number.
    pub table: TableNo,
    /// [`Stage::id`] of its plan.
    pub stage: Uuid,
    /// Output directory, empty for the destination's root.
    pub directory: String,
    /// The base name that it has claimed.
    pub base: String,
    /// A part that is certain to be in it once it is published, if one is known.
    pub certain: Option<WinningPart>,
}

/// A part that a record names, and its place in the published table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WinningPart {
    /// What the destination knows it by.
    pub reference: PartReference,
    /// Path below the table's directory.
    pub path: String,
}

/// What was decided on a table of an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It stands, or is about to stand, in this directory.
    Published(String),
    /// It never appears.
    Discarded,
}

/// What came of publishing a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Publication {
    /// What was decided, now or before.
    Decided(Decision),
    /// Nothing: this directory is taken, and no other may be tried.
    Taken(String),
}

/// A published file that is open for reading.
pub trait PublishedFile: Send + Sync {
    /// Its size in bytes.
    ///
    /// # Errors
    /// When it cannot be told.
    fn size(&self) -> io::Result<u64>;

    /// Reads from a position into a buffer. Blocks. 0 at the end.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize>;
}

/// Where published tables live.
#[async_trait]
pub trait Destination: Send + Sync {
    /// Its identity, which plans freeze; none for the root of the control folder, which every task names.
    fn id(&self) -> Option<Uuid>;

    /// Why it cannot be worked with now.
    ///
    /// # Errors
    /// The reason, for people.
    async fn health(&self) -> Result<(), String>;

    /// Bytes that may still be written.
    ///
    /// # Errors
    /// When it cannot be told.
    async fn free(&self) -> Result<u64, FolderError>;

    /// Claims a public name for a table; gives the base name that belongs to the table for ever.
    ///
    /// # Errors
    /// `Refused` if there is no name for it.
    async fn claim(&self, claim: &Claim<'_>) -> Result<String, ClaimError>;

    /// Makes all that the tables of an epoch need here, before the plan that names its stage is written.
    ///
    /// # Errors
    /// `Refused` if an output directory cannot take tables.
    async fn prepare(
        &self,
        stage: &Stage<'_>,
        outputs: &[&str],
        batches: &[BatchNo],
        tables: &[TableNo],
    ) -> Result<(), ClaimError>;

    /// Takes back what was prepared for a plan that another planner's was before.
    ///
    /// # Errors
    /// When it refuses.
    async fn withdraw(&self, stage: &Stage<'_>) -> Result<(), FolderError>;

    /// Begins a part. Nothing of it is visible to readers. Called on a thread that may block.
    ///
    /// # Errors
    /// When it cannot be begun; `NotFound` if nobody wants it any more.
    fn begin(&self, place: &PartPlace) -> io::Result<Box<dyn NewPart>>;

    /// Makes the finished parts of a batch durable: before that a record must not name them. Small parts share it.
    ///
    /// # Errors
    /// When it refuses.
    async fn secure(&self, job: &JobId, of: BatchId) -> Result<(), FolderError>;

    /// Removes a part that no record names; one that is not there is fine.
    ///
    /// # Errors
    /// When it refuses.
    async fn drop_part(&self, job: &JobId, of: BatchId, reference: &PartReference)
    -> Result<(), FolderError>;

    /// Makes a table visible, whole and once, under the name that `on_conflict` allows; or finds out what was decided.
    /// It may take minutes.
    ///
    /// # Errors
    /// When it refuses: it is tried again, and may have been decided.
    async fn publish(
        &self,
        table: &StagedTable,
        parts: &[WinningPart],
        on_conflict: OnConflict,
        now: Timestamp,
    ) -> Result<Publication, FolderError>;

    /// Sees to it that a table never appears, unless it is published already.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    async fn discard(&self, table: &StagedTable) -> Result<Decision, FolderError>;

    /// Whether somebody may have begun to publish a table; `false` is the server's word and not a cache's.
    ///
    /// # Errors
    /// When it refuses.
    async fn is_begun(&self, job: &JobId, of: BatchId, table: TableNo) -> Result<bool, FolderError>;

    /// Looks whether a published table is as its parts say, before anybody hears of it.
    ///
    /// # Errors
    /// When it is not, or cannot be told.
    async fn confirm(&self, directory: &str, parts: &[WinningPart]) -> Result<(), FolderError>;

    /// The directory of the newest full export of a table in an output directory, as readers find it.
    ///
    /// # Errors
    /// When it refuses.
    async fn latest(
        &self,
        source: &SourceName,
        schema: &str,
        table: &str,
        directory: &str,
    ) -> Result<Option<String>, FolderError>;

    /// Has readers find `newest` under a base name of an output directory. True if they found another one, or none.
    ///
    /// # Errors
    /// When it refuses.
    async fn point(&self, directory: &str, base: &str, newest: &str) -> Result<bool, FolderError>;

    /// Opens a published file. Called on a thread that may block.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn open(&self, directory: &str, path: &str) -> io::Result<Box<dyn PublishedFile>>;

    /// The files of a published table; none if there is none.
    ///
    /// # Errors
    /// When it refuses.
    async fn list(&self, directory: &str) -> Result<Option<Vec<String>>, FolderError>;

    /// Removes a published table; `why` names what is on its way out.
    ///
    /// # Errors
    /// When it refuses.
    async fn remove(&self, directory: &str, why: &str) -> Result<(), FolderError>;
}
