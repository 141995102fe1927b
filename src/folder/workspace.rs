//! The control files of one job: its workspace and its archive. All other code reads and writes them through
//! this handle; the paths are known only in this folder of the source tree.

use std::io;

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
    pub(super) folder: &'a Folder,
    pub(super) job: &'a JobId,
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

    /// When an entry of the workspace was last made, moved or removed. `None` if the workspace is gone.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn modified(&self) -> Result<Option<Timestamp>, FolderError> {
        Ok(self.folder.store().stat(&layout::workspace(self.job)).await?.map(|s| s.modified))
    }

    /// Asks the NFS server itself which files the job has.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn revalidate(&self) -> Result<(), FolderError> {
        let store = self.folder.store();
        store.revalidate(&layout::workspace(self.job)).await?;
        Ok(store.revalidate(layout::BY_ID).await?)
    }

    /// Moves the workspace to the trash. False if somebody else did.
    ///
    /// # Errors
    /// When the workspace cannot be moved.
    pub async fn trash(&self) -> Result<bool, FolderError> {
        let renamed = self.folder.discard(&layout::workspace(self.job), &format!("job_{}", self.job)).await?;
        Ok(renamed == Renamed::Done)
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
        store.make_dir(&workspace).await?;
        let dirs = layout::WORKSPACE_DIRS.iter().map(|d| (*d).to_owned()).collect();
        store.make_dirs(&workspace, dirs).await?;
        self.folder.create(&layout::request(self.job), request).await
    }

    /// Makes the names of workspace and request durable: the process that stored them may have died before
    /// its fsync.
    ///
    /// # Errors
    /// When the folder refuses. A workspace that is gone is fine: its job has finished.
    pub async fn sync_request(&self) -> Result<(), FolderError> {
        for dir in [layout::TEMP.to_owned(), layout::workspace(self.job)] {
            match self.folder.store().sync(&dir).await {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
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

    /// Like [`cancel_mark`](Self::cancel_mark), but `None` comes from the server and not from a cache.
    ///
    /// # Errors
    /// As [`Folder::read`].
    pub async fn cancel_mark_anew(&self) -> Result<Option<CancelMark>, FolderError> {
        self.folder.read_anew(&layout::cancel(self.job)).await
    }

    /// Whether the job was cancelled.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn is_cancelled(&self) -> Result<bool, FolderError> {
        self.has(&layout::cancel(self.job)).await
    }

    /// Cancels the job. Returns the mark that counts: the first one.
    ///
    /// # Errors
    /// As [`Folder::create_or_read`].
    pub async fn cancel(&self, mark: CancelMark) -> Result<CancelMark, FolderError> {
        self.folder.create_or_read(&layout::cancel(self.job), mark).await
    }

    /// Cancels the job. If its workspace is gone, the job has ended already and nothing is written.
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
    /// The outcome of a batch.
    ///
    /// # Errors
    /// As [`Folder::read`].
    pub async fn outcome(&self, of: BatchId) -> Result<Option<Outcome>, FolderError> {
        self.folder.read(&layout::outcome(self.job, of)).await
    }

    /// Writes the outcome of a batch. Returns the outcome that counts: the first one.
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

    /// Like [`is_archived`](Self::is_archived), but `false` comes from the server and not from a cache.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn is_archived_anew(&self) -> Result<bool, FolderError> {
        Ok(self.folder.stat_anew(&layout::archive_by_id(self.job)).await?.is_some())
    }

    /// Primitive 3, the commit of the job. Returns the archive that counts: the first one.
    ///
    /// # Errors
    /// As [`Folder::create_or_read`].
    pub async fn commit(&self, archive: Archive) -> Result<Archive, FolderError> {
        self.folder.create_or_read(&layout::archive_by_id(self.job), archive).await
    }

    /// Makes the archive's name durable, and links the archive under the dated name that people look for.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn link_archive(&self, committed: Timestamp) -> Result<(), FolderError> {
        let by_date = layout::archive_by_date(self.job, committed);
        let name = layout::name(&by_date).to_owned();
        let store = self.folder.store();
        // The process that committed it may have died before the name was durable.
        store.sync(layout::BY_ID).await?;
        Ok(store.link(layout::BY_DATE, vec![(layout::archive_by_id(self.job), name)]).await?)
    }
}
