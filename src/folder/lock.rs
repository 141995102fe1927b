//! Locks of one-shot exports. A process holds such a lock as long as it lives, and the kernel releases it when
//! the process ends, however it ends. Daemons take no locks.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{Folder, FolderError, Workspace, layout};

/// A lock that this process holds until it drops this or ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Folder {
    /// Locks the folder for other one-shot exports, and waits for that. `None` if its identity is not there or
    /// not ours to open. That file always exists and never changes.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn lock(&self) -> Result<Option<Lock>, FolderError> {
        lock(self.root().join(layout::ROOT_ID), FlockOperation::LockExclusive).await
    }
}

impl Workspace<'_> {
    /// Locks the job. `None` if another process holds the lock, or if the request is gone or not ours to open.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn lock(&self) -> Result<Option<Lock>, FolderError> {
        let path = self.folder.root().join(layout::request(self.job));
        lock(path, FlockOperation::NonBlockingLockExclusive).await
    }
}

/// The file is opened for writing, although nothing is written: NFS grants an exclusive lock only then.
async fn lock(path: PathBuf, how: FlockOperation) -> Result<Option<Lock>, FolderError> {
    let locked = tokio::task::spawn_blocking(move || {
        let shown =
            |what: &str, e: io::Error| io::Error::new(e.kind(), format!("{what} {}: {e}", path.display()));
        let file = match OpenOptions::new().write(true).open(&path) {
            Ok(file) => file,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
                return Ok(None);
            }
            Err(e) => return Err(shown("open", e)),
        };
        match flock(&file, how) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(e) => return Err(shown("lock", e.into())),
        }
        // The former holder may have trashed the file before it released the lock.
        let there = std::fs::metadata(&path).ok().map(|m| m.ino());
        Ok((there == Some(file.metadata()?.ino())).then_some(Lock { _file: file }))
    });
    Ok(locked.await.map_err(io::Error::other)??)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{OFlags, fcntl_getfl};

    use super::*;

    #[tokio::test]
    async fn a_lock_is_held_on_a_file_that_is_open_for_writing() {
        let root = std::env::temp_dir().join(format!("adu-export-lock-{}", uuid::Uuid::new_v4()));
        let folder = Folder::init(root.clone(), None).await.expect("initializes");
        let held = folder.lock().await.expect("it works on a file").expect("it is free");
        let mode = fcntl_getfl(&held._file).expect("open") & OFlags::RWMODE;
        assert_ne!(mode, OFlags::RDONLY, "NFS refuses an exclusive lock");
        drop(held);
        assert!(folder.lock().await.expect("it works on a file").is_some(), "it is free again");
        std::fs::remove_dir_all(root).expect("removed");
    }
}
