//! Parts on their way to a destination.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::message::{BatchId, ChunkNo, JobId, TableNo};

pub use crate::folder::files::record::PartReference;

/// The chunk and table that a new part belongs to.
#[derive(Clone, Debug)]
pub struct PartPlace {
    /// The job.
    pub job: JobId,
    /// The batch.
    pub of: BatchId,
    /// The table.
    pub table: TableNo,
    /// The chunk.
    pub chunk: ChunkNo,
    /// Unique per attempt.
    pub id: Uuid,
    /// Number of the part among those of its chunk and table.
    pub nth: u32,
}

/// A part that is being written. If it is dropped unfinished, it is given up.
#[async_trait]
pub trait NewPart: io::Write + Send {
    /// Name of the part in error messages.
    fn shown(&self) -> String;

    /// Finishes the part. The part is then complete, and durable once its batch is secured.
    ///
    /// # Errors
    /// When any step fails; `NotFound` if nobody needs the part any more.
    async fn finish(self: Box<Self>) -> io::Result<FinishedPart>;
}

/// A part that is complete.
#[derive(Clone, Debug)]
pub struct FinishedPart {
    /// The destination's own name for the part.
    pub reference: PartReference,
    /// How long it took to make the part's bytes durable.
    pub synced: Duration,
}
