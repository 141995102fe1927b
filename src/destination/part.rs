//! Parts on their way to a destination.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::message::{BatchId, ChunkNo, JobId, TableNo};

pub use crate::folder::files::record::PartReference;

/// What a new part is of.
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
}

/// A part that is being written. Dropping it gives it up.
#[async_trait]
pub trait NewPart: io::Write + Send {
    /// What it is called in errors.
    fn shown(&self) -> String;

    /// Finishes it: complete and, once its batch is secured, durable.
    ///
    /// # Errors
    /// When any step fails; `NotFound` if nobody wants it any more.
    async fn finish(self: Box<Self>) -> io::Result<FinishedPart>;
}

/// A part that is complete.
#[derive(Clone, Debug)]
pub struct FinishedPart {
    /// What the destination knows it by.
    pub reference: PartReference,
    /// How long it took to make its bytes durable.
    pub synced: Duration,
}
