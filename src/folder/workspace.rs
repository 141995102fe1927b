//! The control files of one job: its workspace and its archive. All of the product reads and writes them through this
//! handle; the paths stay in this room.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;

use super::files::archive::Archive;
use super::files::outcome::{CancelMark, Outcome, StoredRequest};
use super::{Created, Folder, FolderError, Renamed, layout};
use crate::message::{BatchId, JobId};

mod plans;
mod records;

pub use records::{ChunkFiles, StartPlace};

/// The control files of one job.
#[derive(Clone, Copy)]
pub struct Workspace<'a> {
    folder: &'a Folder,
    job: &'a JobId,
}

impl Folder {
    /// The control files of a job.
    #[must_use]
    pub fn job<'a>(&'a self, job: &'a JobId) -> Workspace<'a> {
        Workspace { folder: self, job }
    }
}

impl Workspace<'_> {
    /// Whether there is a workspace.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn exists(&self) -> Result<bool, FolderError> {
        self.has(&layout::workspace(self.job)).await
    }

    /// When something in it was last made, moved or removed; none if it is gone.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn modified(&self) -> Result<Option<Timestamp>, FolderError> {
        Ok(self.folder.store().stat(&layout::workspace(self.job)).await?.map(|s| s.modified))
    }

    /// Asks the server itself what there is of the job.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn revalidate(&self) -> Result<(), FolderError> {
        let store = self.folder.store();
        store.revalidate(&layout::workspace(self.job)).await?;
        Ok(store.revalidate(layout::BY_ID).await?)
    }

    /// Sends it to the trash.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub async fn trash(&self) -> Result<Renamed, FolderError> {
        self.folder.discard(&layout::workspace(self.job), &format!("job_{}", self.job)).await
    }

    async fn has(&self, path: &str) -> Result<bool, FolderError> {
        Ok(self.folder.store().stat(path).await?.is_some())
    }
}

/// `request.json`
impl Workspace<'_> {
    /// The request.
    ///
    /// # Errors
    /// As [`Folder::read`].
    pub async fn request(&self) -> Result<Option<StoredRequest>, FolderError> {
        self.folder.read(&layout::request(self.job)).await
    }

    /// Whether there is a request.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn has_request(&self) -> Result<bool, FolderError> {
        self.has(&layout::request(self.job)).await
    }

    /// Makes the workspace and stores the request in it.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn store(&self, request: &StoredRequest) -> Result<Created, FolderError> {
        let (workspace, store) = (layout::workspace(self.job), self.folder.store());
        let name = workspace.rsplit('/').next().unwrap_or_default().to_owned();
        store.make_dirs(layout::TEMP, vec![name]).await?;
        let dirs = layout::WORKSPACE_DIRS.iter().map(|d| (*d).to_owned()).collect();
        store.make_dirs(&workspace, dirs).await?;
        self.folder.create(&layout::request(self.job), request).await
    }

    /// Makes the names of workspace and request durable: whoever stored it may have died before.
    ///
    /// # Errors
    /// When the folder refuses; a workspace that is gone is fine, its job has finished.
    pub async fn sync_request(&self) -> Result<(), FolderError> {
        for dir in [layout::TEMP.to_owned(), layout::workspace(self.job)] {
            match self.folder.store().sync(&dir).await {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Where the request is on this host, for a lock on it.
    #[must_use]
    pub fn request_file(&self) -> PathBuf {
        self.folder.root().join(layout::request(self.job))
    }
}

/// `cancel.json`
impl Workspace<'_> {
    /// The cancel, if somebody asked for one.
    ///
    /// # Errors
    /// As [`Folder::read`].
    pub async fn cancel_mark(&self) -> Result<Option<CancelMark>, FolderError> {
        self.folder.read(&layout::cancel(self.job)).await
    }

    /// Like [`cancel_mark`](Self::cancel_mark), but `None` is the server's word.
    ///
    /// # Errors
    /// As [`Folder::read`].
    pub async fn cancel_mark_anew(&self) -> Result<Option<CancelMark>, FolderError> {
        self.folder.read_anew(&layout::cancel(self.job)).await
    }

    /// Whether the job is to end.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn is_cancelled(&self) -> Result<bool, FolderError> {
        self.has(&layout::cancel(self.job)).await
    }

    /// Cancels the job; gives the mark that stands.
    ///
    /// # Errors
    /// As [`Folder::create_or_read`].
    pub async fn cancel(&self, mark: CancelMark) -> Result<CancelMark, FolderError> {
        self.folder.create_or_read(&layout::cancel(self.job), mark).await
    }

    /// Cancels the job, unless its workspace is gone: then it has ended by itself.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn cancel_if_there(&self, mark: &CancelMark) -> Result<(), FolderError> {
        match self.folder.create(&layout::cancel(self.job), mark).await {
            Err(e) if e.is_gone() => Ok(()),
            other => other.map(drop),
        }
    }
}

/// `tables/`
impl Workspace<'_> {
    /// What became of the tables of a batch.
    ///
    /// # Errors
    /// As [`Folder::read`].
    pub async fn outcome(&self, of: BatchId) -> Result<Option<Outcome>, FolderError> {
        self.folder.read(&layout::outcome(self.job, of)).await
    }

    /// Writes what became of the tables of a batch; gives the outcome that stands.
    ///
    /// # Errors
    /// As [`Folder::create_or_read`].
    pub async fn settle(&self, of: BatchId, outcome: Outcome) -> Result<Outcome, FolderError> {
        self.folder.create_or_read(&layout::outcome(self.job, of), outcome).await
    }
}

/// The archive.
impl Workspace<'_> {
    /// The archive, if the job has ended.
    ///
    /// # Errors
    /// As [`Folder::read`].
    pub async fn archive(&self) -> Result<Option<Archive>, FolderError> {
        self.folder.read(&layout::archive_by_id(self.job)).await
    }

    /// Whether the job has ended.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn is_archived(&self) -> Result<bool, FolderError> {
        self.has(&layout::archive_by_id(self.job)).await
    }

    /// Like [`is_archived`](Self::is_archived), but `false` is the server's word.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn is_archived_anew(&self) -> Result<bool, FolderError> {
        Ok(self.folder.stat_anew(&layout::archive_by_id(self.job)).await?.is_some())
    }

    /// Primitive 3, the commit of the job; gives the archive that stands.
    ///
    /// # Errors
    /// As [`Folder::create_or_read`].
    pub async fn commit(&self, archive: Archive) -> Result<Archive, FolderError> {
        self.folder.create_or_read(&layout::archive_by_id(self.job), archive).await
    }

    /// Makes the archive's name durable, and links it under the name that people look for.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn link_archive(&self, committed: Timestamp) -> Result<(), FolderError> {
        let by_date = layout::archive_by_date(self.job, committed);
        let name = by_date.rsplit('/').next().unwrap_or_default().to_owned();
        let store = self.folder.store();
        // Whoever committed it may have died before the name was durable.
        store.sync(layout::BY_ID).await?;
        Ok(store.link(layout::BY_DATE, vec![(layout::archive_by_id(self.job), name)]).await?)
    }
}
