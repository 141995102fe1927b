//! The exclusive durable file: the one way in which a file appears in the export folder.
//!
//! The steps: temporary name in the same directory → mode and group → write → fsync → `link()` to the name →
//! unlink the temporary name → fsync the directory. So a reader of the name always sees the whole file. If
//! two writers want the same name, exactly one gets it (I3, I10).
//!
//! Two facts explain the steps. `link()` may report an error although it succeeded (a retransmission on NFS),
//! so inodes decide who won. After a failed fsync, ext4 and XFS mark the pages clean, and a second fsync
//! "succeeds" although data is lost. A file whose fsync failed is therefore given up: try again with a new
//! file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::failpoint;

/// Mode of every file of the folder: the group reads.
const MODE: u32 = 0o640;

/// Who holds the name after a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linked {
    /// The committed file has the name.
    New {
        /// Inode of the file.
        inode: u64,
    },
    /// Another writer's file had the name before. The committed file is removed.
    Exists,
}

/// A file that nobody sees before [`commit_unsynced`](Self::commit_unsynced). If it is dropped uncommitted,
/// it is removed.
#[derive(Debug)]
pub struct ExclusiveFile {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
}

impl ExclusiveFile {
    /// Opens a new, empty file under a temporary name next to `target`. The directory must exist: nobody
    /// creates a removed directory again.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(target: &Path) -> io::Result<Self> {
        let name = target
            .file_name()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the target has no file name"))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.tmp", Uuid::new_v4().simple()));
        let temporary = target.with_file_name(hidden);
        let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&temporary)?;
        let this = Self { file, temporary, target: target.to_owned() };
        // The group must be able to read, whatever the umask of the service is.
        this.file.set_permissions(fs::Permissions::from_mode(MODE))?;
        Ok(this)
    }

    /// Gives the file to a group. This must happen before the commit: nobody may find a file under its name
    /// that the group cannot read, and the fsync makes the group durable too.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn owned_by(self, group: Option<u32>) -> io::Result<Self> {
        if group.is_some() {
            fchown(&self.file, None, group)?;
        }
        Ok(self)
    }

    /// Makes the content durable and gives the file its name. The caller must fsync the directory before
    /// anybody is told of the file; many small files in one directory share that fsync. Where this returns
    /// [`Linked::Exists`], the same fsync makes the other file's name durable.
    ///
    /// # Errors
    /// When any step fails. The name may exist nevertheless, but only for this whole file or for another
    /// writer's.
    pub fn commit_unsynced(self) -> io::Result<UnsyncedLink> {
        let started = Instant::now();
        let shown = self.target.to_string_lossy();
        failpoint::file("before", "fsync", &shown)?;
        self.file.sync_all()?;
        let fsync = started.elapsed();
        let ours = self.file.metadata()?;
        failpoint::file("before", "name", &shown)?;
        let linked = match fs::hard_link(&self.temporary, &self.target) {
            Ok(()) => Linked::New { inode: ours.ino() },
            Err(error) => match fs::symlink_metadata(&self.target) {
                Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {
                    Linked::New { inode: ours.ino() }
                }
                Ok(_) if error.kind() == io::ErrorKind::AlreadyExists => Linked::Exists,
                _ => return Err(error),
            },
        };
        failpoint::file("after", "name", &shown)?;
        Ok(UnsyncedLink { linked, fsync })
    }
}

/// A link whose directory is still to be synced.
#[derive(Clone, Copy, Debug)]
#[must_use = "the directory owes an fsync"]
pub struct UnsyncedLink {
    /// Who holds the name.
    pub linked: Linked,
    /// How long the file's own fsync took.
    pub fsync: Duration,
}

impl Write for ExclusiveFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for ExclusiveFile {
    fn drop(&mut self) {
        // A temporary file that stays behind is harmless: nobody opens it, and it goes to the trash with its
        // directory.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Makes the names in a directory durable.
///
/// # Errors
/// When the directory cannot be opened or synced.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> PathBuf {
        let dir = std::env::temp_dir().join(format!("adu-exclusive-{}", Uuid::new_v4()));
        fs::create_dir(&dir).expect("temporary directory");
        dir
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .expect("directory")
            .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn write_exclusive(path: &Path, bytes: &[u8]) -> io::Result<Linked> {
        let mut file = ExclusiveFile::create(path)?;
        file.write_all(bytes)?;
        Ok(file.commit_unsynced()?.linked)
    }

    #[test]
    fn the_first_writer_of_a_name_wins_and_nothing_else_stays() {
        let dir = scratch();
        let path = dir.join("request.json");
        let Linked::New { inode } = write_exclusive(&path, b"first").expect("written") else {
            panic!("the name was free");
        };
        assert_eq!(write_exclusive(&path, b"second").expect("looked at"), Linked::Exists);
        assert_eq!(fs::read(&path).expect("readable"), b"first");
        let metadata = fs::metadata(&path).expect("metadata");
        assert_eq!((metadata.ino(), metadata.mode() & 0o777), (inode, 0o640));
        assert_eq!(names(&dir), ["request.json"]);
        fs::remove_dir_all(dir).expect("removed");
    }

    #[test]
    fn a_file_has_mode_and_group_before_its_name() {
        let dir = scratch();
        // Root may give files to any group. Other users may give files only to their own groups.
        let own = fs::metadata(&dir).expect("metadata").gid();
        let group = if rustix::process::geteuid().is_root() { own + 4321 } else { own };
        let file =
            ExclusiveFile::create(&dir.join("x")).expect("created").owned_by(Some(group)).expect("given");
        let hidden = fs::metadata(&file.temporary).expect("metadata");
        assert_eq!((hidden.gid(), hidden.mode() & 0o7777), (group, MODE));
        assert!(!file.target.exists());
        assert!(matches!(file.commit_unsynced().expect("linked").linked, Linked::New { .. }));
        let named = fs::metadata(dir.join("x")).expect("metadata");
        assert_eq!((named.gid(), named.mode() & 0o7777), (group, MODE));
        fs::remove_dir_all(dir).expect("removed");
    }

    #[test]
    fn a_file_that_is_not_committed_leaves_no_trace() {
        let dir = scratch();
        let mut file = ExclusiveFile::create(&dir.join("x")).expect("created");
        file.write_all(b"half").expect("written");
        assert_eq!(names(&dir).len(), 1, "its temporary name");
        drop(file);
        assert!(names(&dir).is_empty());
        fs::remove_dir_all(dir).expect("removed");
    }

    #[test]
    fn a_link_that_succeeded_in_spite_of_its_error_is_ours() {
        let dir = scratch();
        let file = ExclusiveFile::create(&dir.join("x")).expect("created");
        // The NFS server's answer was lost: the link exists already when the client asks again.
        fs::hard_link(&file.temporary, &file.target).expect("linked");
        assert!(matches!(file.commit_unsynced().expect("ours").linked, Linked::New { .. }));
        assert_eq!(names(&dir), ["x"]);
        fs::remove_dir_all(dir).expect("removed");
    }

    #[test]
    fn a_directory_that_is_gone_is_not_made_again() {
        let dir = scratch();
        fs::remove_dir(&dir).expect("removed");
        let error = write_exclusive(&dir.join("x"), b"").expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(!dir.exists());
    }
}
