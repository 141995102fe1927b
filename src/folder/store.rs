//! The few operations that the protocol needs from a file system: a seam with
//! the disk behind it, and room for a simulated one. Every call is one step
//! that a crash may precede or follow, and whose error may hide a success.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

/// What became of an exclusive creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The file is ours.
    New,
    /// Somebody else was first: theirs stands.
    Exists,
}

/// What became of a rename.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renamed {
    /// It is at its new place.
    Done,
    /// Nothing stands at the old place: somebody else moved it.
    Gone,
    /// Something stands at the new place.
    Occupied,
}

/// Facts of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its inode: the identity of a file under all its names.
    pub inode: u64,
    /// Whether it is a directory.
    pub directory: bool,
    /// When it was last changed.
    pub modified: Timestamp,
}

/// A file that is being written and has no name yet. Dropping it removes it.
#[async_trait]
pub trait NewFile: io::Write + Send {
    /// Makes its content durable and gives it its name, which nothing had before. Its directory owes a
    /// [`Store::sync`] before anybody hears of it: many small files of one directory share that.
    async fn commit(self: Box<Self>) -> io::Result<Committed>;
}

/// A file that has its name.
#[derive(Clone, Copy, Debug)]
pub struct Committed {
    /// Its inode.
    pub inode: u64,
    /// How long its fsync took.
    pub fsync: Duration,
}

/// A file system below one root. Paths are relative to it.
///
/// Everything that returns `Ok` is durable.
#[async_trait]
pub trait Store: Send + Sync {
    /// The content of a file; `None` if there is none.
    async fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;

    /// Primitive 1, exclusive durable file. `NotFound` if its directory is gone.
    async fn create(&self, path: &str, content: Vec<u8>) -> io::Result<Created>;

    /// Begins a file that is too large to be held in memory. Blocks. `NotFound` if its directory is gone.
    fn begin(&self, path: &str) -> io::Result<Box<dyn NewFile>>;

    /// Names in a directory, in no order; none if it does not exist.
    async fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Makes directories in one directory, which must exist; those that exist are fine.
    async fn make_dirs(&self, parent: &str, names: Vec<String>) -> io::Result<()>;

    /// Facts of an entry, symbolic links not followed.
    async fn stat(&self, path: &str) -> io::Result<Option<Stat>>;

    /// Whether each of some entries is there, looked at in this order.
    async fn exist(&self, paths: &[String]) -> io::Result<Vec<bool>> {
        let mut found = Vec::with_capacity(paths.len());
        for path in paths {
            found.push(self.stat(path).await?.is_some());
        }
        Ok(found)
    }

    /// Gives files second names in one directory; a name that already stands
    /// for the same inode is fine, for another one it is `AlreadyExists`.
    async fn link(&self, dir: &str, links: Vec<(String, String)>) -> io::Result<()>;

    /// Makes names durable that were given in a directory without the store.
    async fn sync(&self, dir: &str) -> io::Result<()>;

    /// Moves a directory; never over another that has content. A file only to a name that is its own: it would replace
    /// what stands there.
    async fn rename(&self, from: &str, to: &str) -> io::Result<Renamed>;

    /// Removes a file; one that is not there is fine.
    async fn remove(&self, path: &str) -> io::Result<()>;

    /// Removes a directory with all that is in it; one that is not there is fine.
    async fn remove_tree(&self, path: &str) -> io::Result<()>;

    /// Points a symbolic link at a target, replacing what it pointed at.
    async fn point(&self, link: &str, target: &str) -> io::Result<()>;

    /// Where a symbolic link points.
    async fn pointed(&self, link: &str) -> io::Result<Option<String>>;

    /// Whether a directory is on the root's own file system.
    async fn same_file_system(&self, dir: &str) -> io::Result<bool>;

    /// Asks the server itself what is in a directory and in those above it. A
    /// name that another host made may be hidden by this host's caches for a
    /// minute (NFS): an absence that follows this call is a fact, one that does
    /// not is a guess. A directory that does not exist is fine.
    async fn revalidate(&self, dir: &str) -> io::Result<()>;

    /// An identity that nobody had before, for names in the trash.
    fn fresh(&self) -> Uuid {
        Uuid::new_v4()
    }

    /// Whether the file system lets anybody write. `true` is no promise: an
    /// export of NFS may be read-only without saying so before the first write.
    async fn writable(&self) -> io::Result<bool> {
        Ok(true)
    }

    /// Bytes that may still be written.
    async fn free_bytes(&self) -> io::Result<u64>;
}
