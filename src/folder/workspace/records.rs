//! `records/`: the files that workers write for each chunk.

use uuid::Uuid;

use super::Workspace;
use crate::folder::files::record::{Failure, Record, StartMarker};
use crate::folder::{Created, FolderError, RecordFile, StartName, layout};
use crate::message::{BatchId, ChunkNo};

/// Which files of a chunk and of its job exist, in the order in which a worker looks.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChunkFiles {
    /// The chunk has a record.
    pub recorded: bool,
    /// The chunk's batch has an outcome.
    pub settled: bool,
    /// The job is to end.
    pub cancelled: bool,
    /// The job has an archive.
    pub archived: bool,
}

/// The place of a start marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartPlace {
    /// The batch.
    pub of: BatchId,
    /// The chunk.
    pub chunk: ChunkNo,
    /// The start that the marker belongs to, and how often the marker was renewed.
    pub name: StartName,
}

impl Workspace<'_> {
    /// Looks which files of a chunk and of its job exist.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn chunk_files(&self, of: BatchId, chunk: ChunkNo) -> Result<ChunkFiles, FolderError> {
        let paths = [
            layout::record(self.job, of, chunk),
            layout::outcome(self.job, of),
            layout::cancel(self.job),
            layout::archive_by_id(self.job),
        ];
        let found = self.folder.store().exist(&paths).await?;
        Ok(ChunkFiles { recorded: found[0], settled: found[1], cancelled: found[2], archived: found[3] })
    }

    /// Records, failures and start markers of a batch, in no order.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn record_files(&self, of: BatchId) -> Result<Vec<RecordFile>, FolderError> {
        let names = self.folder.store().list(&layout::records(self.job, of)).await?;
        Ok(names.iter().filter_map(|name| RecordFile::parse(name)).collect())
    }

    /// Asks the NFS server itself which of these files exist.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn revalidate_records(&self, of: BatchId) -> Result<(), FolderError> {
        Ok(self.folder.store().revalidate(&layout::records(self.job, of)).await?)
    }

    /// The record of a chunk.
    ///
    /// # Errors
    /// As [`crate::folder::Folder::read`].
    pub async fn record(&self, of: BatchId, chunk: ChunkNo) -> Result<Option<Record>, FolderError> {
        self.folder.read(&layout::record(self.job, of, chunk)).await
    }

    /// Writes the record of a chunk.
    ///
    /// # Errors
    /// As [`crate::folder::Folder::create`].
    pub async fn create_record(
        &self,
        of: BatchId,
        chunk: ChunkNo,
        record: &Record,
    ) -> Result<Created, FolderError> {
        self.folder.create(&layout::record(self.job, of, chunk), record).await
    }

    /// A failure of a chunk.
    ///
    /// # Errors
    /// As [`crate::folder::Folder::read`].
    pub async fn failure(
        &self,
        of: BatchId,
        chunk: ChunkNo,
        id: Uuid,
    ) -> Result<Option<Failure>, FolderError> {
        self.folder.read(&layout::failure(self.job, of, chunk, id)).await
    }

    /// Writes a failure of a chunk.
    ///
    /// # Errors
    /// As [`crate::folder::Folder::create`].
    pub async fn create_failure(
        &self,
        of: BatchId,
        chunk: ChunkNo,
        id: Uuid,
        failure: &Failure,
    ) -> Result<(), FolderError> {
        self.folder.create(&layout::failure(self.job, of, chunk, id), failure).await.map(drop)
    }

    /// A start marker.
    ///
    /// # Errors
    /// As [`crate::folder::Folder::read`].
    pub async fn start(&self, place: StartPlace) -> Result<Option<StartMarker>, FolderError> {
        self.folder.read(&self.start_path(place)).await
    }

    /// Writes a start marker.
    ///
    /// # Errors
    /// As [`crate::folder::Folder::create`].
    pub async fn create_start(&self, place: StartPlace, marker: &StartMarker) -> Result<(), FolderError> {
        self.folder.create(&self.start_path(place), marker).await.map(drop)
    }

    /// Gives a start marker its next name.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn renew_start(&self, place: StartPlace, next: StartPlace) -> Result<(), FolderError> {
        self.folder.store().rename(&self.start_path(place), &self.start_path(next)).await?;
        Ok(())
    }

    /// Removes a start marker.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn remove_start(&self, place: StartPlace) -> Result<(), FolderError> {
        Ok(self.folder.store().remove(&self.start_path(place)).await?)
    }

    fn start_path(&self, StartPlace { of, chunk, name }: StartPlace) -> String {
        layout::start_marker(self.job, of, chunk, name)
    }
}
