//! The few operations that the protocol needs from a file system. This is the seam between the protocol and
//! the disk; tests put a simulated disk behind it. Every call is one step: a crash may come before or after
//! it, and its error may hide a success.

use std::fs::File;
use std::io;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::layout;

/// The result of an exclusive creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The file is ours.
    New,
    /// The file exists already. It is kept, and ours is removed.
    Exists,
}

/// The result of a rename.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renamed {
    /// The directory is at its new place.
    Done,
    /// The old place is empty: somebody else moved the directory.
    Gone,
    /// The new place is taken.
    Occupied,
}

/// Facts of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The inode, which identifies a file under all its names.
    pub inode: u64,
    /// Whether the entry is a directory.
    pub directory: bool,
    /// When the entry was last changed.
    pub modified: Timestamp,
}

/// A file that is being written and has no name yet. Dropping the value removes the file.
#[async_trait]
pub trait NewFile: io::Write + Send {
    /// Makes the content durable and gives the file its name, which must be free. The caller must call
    /// [`Store::sync`] for the directory before anybody hears of the file; many small files share that call.
    async fn commit(self: Box<Self>) -> io::Result<Committed>;
}

/// A file that has its name.
#[derive(Clone, Copy, Debug)]
pub struct Committed {
    /// Inode of the file.
    pub inode: u64,
    /// How long the fsync of the file took.
    pub fsync: Duration,
}

/// A file system below one root. Paths are relative to the root.
///
/// When a call returns `Ok`, its effect is durable.
#[async_trait]
pub trait Store: Send + Sync {
    /// The content of a file; `None` if there is none.
    async fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;

    /// Primitive 1, exclusive durable file. `NotFound` if its directory is gone.
    async fn create(&self, path: &str, content: Vec<u8>) -> io::Result<Created>;

    /// Begins a file that is too large to be held in memory. Blocks. `NotFound` if its directory is gone.
    fn begin(&self, path: &str) -> io::Result<Box<dyn NewFile>>;

    /// A file on the disk of this directory, to be written and read by the caller alone. It has no name, and is
    /// gone when it is closed. Blocks. `NotFound` if the directory is gone.
    fn scratch(&self, dir: &str) -> io::Result<File>;

    /// Names in a directory, in no order; none if it does not exist.
    async fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Makes directories in `parent`, which must exist. Directories that exist are left as they are, but in
    /// workspaces they get mode and group if whoever made them died before that. `InvalidFilename` if the file
    /// system takes no directory of such a name.
    async fn make_dirs(&self, parent: &str, names: Vec<String>) -> io::Result<()>;

    /// Makes a directory in a directory that exists.
    async fn make_dir(&self, path: &str) -> io::Result<()> {
        self.make_dirs(layout::parent(path), vec![layout::name(path).to_owned()]).await
    }

    /// Facts of an entry, symbolic links not followed.
    async fn stat(&self, path: &str) -> io::Result<Option<Stat>>;

    /// Whether each entry exists, looked at in this order.
    async fn exist(&self, paths: &[String]) -> io::Result<Vec<bool>> {
        let mut found = Vec::with_capacity(paths.len());
        for path in paths {
            found.push(self.stat(path).await?.is_some());
        }
        Ok(found)
    }

    /// Gives files second names in one directory. A name that exists already for the same inode is fine; for
    /// another inode the call fails with `AlreadyExists`.
    async fn link(&self, dir: &str, links: Vec<(String, String)>) -> io::Result<()>;

    /// Makes the names in a directory durable that [`NewFile::commit`] gave.
    async fn sync(&self, dir: &str) -> io::Result<()>;

    /// Moves a directory. It never replaces a directory that has content. Files may only be moved to a name
    /// that nobody else uses: such a move would replace a file there.
    async fn rename(&self, from: &str, to: &str) -> io::Result<Renamed>;

    /// Removes a file. It is no error if the file does not exist.
    async fn remove(&self, path: &str) -> io::Result<()>;

    /// Removes a directory with everything in it. It is no error if the directory does not exist.
    async fn remove_tree(&self, path: &str) -> io::Result<()>;

    /// Points a symbolic link at a target. An existing link is replaced.
    async fn point(&self, link: &str, target: &str) -> io::Result<()>;

    /// Where a symbolic link points.
    async fn pointed(&self, link: &str) -> io::Result<Option<String>>;

    /// Whether a directory is on the root's own file system.
    async fn same_file_system(&self, dir: &str) -> io::Result<bool>;

    /// Asks the NFS server itself what a directory, and those above it, contain. The caches of this host may
    /// hide a name that another host made for up to a minute. Only after this call does a missing name mean
    /// that the file does not exist. It is no error if the directory does not exist.
    async fn revalidate(&self, dir: &str) -> io::Result<()>;

    /// A new unique identity, for names in the trash.
    fn fresh(&self) -> Uuid {
        Uuid::new_v4()
    }

    /// Whether the file system is writable. `true` is no promise: an NFS export may be read-only and say so
    /// only at the first write.
    async fn writable(&self) -> io::Result<bool> {
        Ok(true)
    }

    /// Bytes that may still be written.
    async fn free_bytes(&self) -> io::Result<u64>;
}
