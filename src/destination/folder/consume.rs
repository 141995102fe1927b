//! Primitive 2, the consuming rename: a table's `ready` directory moves once, to a public name or to the
//! trash (invariant I4). If a process finds the directory gone, two inodes show where it went: that of the
//! target directory and that of a part in the target.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::folder::{Created, Folder, FolderError, Renamed, VERSION, layout};
use crate::message::{Epoch, JobId, TableNo};

/// `tables/<t>.e<N>.target-<K>.json`: a name, written down before it is tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Version of the format.
    pub v: u32,
    /// Directory below the root.
    pub directory: String,
    /// Inode of the `ready` directory. A rename keeps it, so it shows whether the directory under the name is
    /// this table's.
    pub inode: u64,
}

/// A table whose parts are linked in its `ready` directory.
#[derive(Clone, Debug)]
pub struct Ready<'a> {
    /// The job.
    pub job: &'a JobId,
    /// Epoch of the plan.
    pub epoch: Epoch,
    /// The plan's `ready` uuid.
    pub id: Uuid,
    /// The table.
    pub table: TableNo,
    /// A part that is in the directory when it is published, if one is known.
    pub part: Option<Part>,
}

/// A part under its name in the finished directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Name of the file.
    pub file: String,
    /// Inode of the file, as its record says.
    pub inode: u64,
}

/// Where a `ready` directory went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consumed {
    /// The directory is published under this name.
    Published(String),
    /// The directory is in the trash.
    Trashed,
}

/// The result of trying one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// The directory is consumed.
    Consumed(Consumed),
    /// The name is taken by something else.
    Occupied(String),
}

impl Folder {
    /// Tries the K-th name for a table. If a name was written down for this K before, that name is used
    /// instead of `candidate`.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn publish(
        &self,
        ready: &Ready<'_>,
        attempt: u32,
        candidate: &str,
    ) -> Result<Tried, FolderError> {
        let path = layout::target(ready.job, ready.epoch, ready.table, attempt);
        let from = layout::ready_table(ready.job, ready.epoch, ready.id, ready.table);
        let Some(stat) = self.stat_anew(&from).await? else {
            return Ok(Tried::Consumed(self.whereabouts(ready).await?));
        };
        let target = Target { v: VERSION, directory: candidate.to_owned(), inode: stat.inode };
        let target = self.create_or_read(&path, target).await?.directory;
        Ok(match self.store().rename(&from, &target).await? {
            Renamed::Done => Tried::Consumed(Consumed::Published(target)),
            Renamed::Occupied => Tried::Occupied(target),
            Renamed::Gone => Tried::Consumed(self.whereabouts(ready).await?),
        })
    }

    /// Moves a `ready` directory to the trash, unless it was published.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn abandon(&self, ready: &Ready<'_>) -> Result<Consumed, FolderError> {
        let from = layout::ready_table(ready.job, ready.epoch, ready.id, ready.table);
        let what = format!("ready_{}_e{}_{}", ready.job, ready.epoch, ready.table);
        match self.discard(&from, &what).await? {
            Renamed::Done => Ok(Consumed::Trashed),
            Renamed::Gone => self.whereabouts(ready).await,
            Renamed::Occupied => Err(FolderError::Inconsistent("a fresh name in the trash is taken")),
        }
    }

    /// Where a missing `ready` directory went: to the target that now has its inode, else to the trash.
    async fn whereabouts(&self, ready: &Ready<'_>) -> Result<Consumed, FolderError> {
        for attempt in 1.. {
            let path = layout::target(ready.job, ready.epoch, ready.table, attempt);
            // Ask the server: a cache may not show the file yet.
            let Some(target) = self.read_anew::<Target>(&path).await? else { break };
            let stat = self.stat_anew(&target.directory).await?;
            if stat.is_some_and(|s| s.inode == target.inode) && self.holds(&target, ready).await? {
                return Ok(Consumed::Published(target.directory));
            }
        }
        Ok(Consumed::Trashed)
    }

    /// Whether the table's part is in a target. The inode of a directory becomes free when the trash is
    /// emptied, and a directory of another job may get it. The inode of a part stays in use as long as the
    /// workspace holds the part.
    async fn holds(&self, target: &Target, ready: &Ready<'_>) -> Result<bool, FolderError> {
        let Some(part) = &ready.part else { return Ok(true) };
        let stat = self.stat_anew(&format!("{}/{}", target.directory, part.file)).await?;
        Ok(stat.is_some_and(|s| s.inode == part.inode))
    }

    /// Claims a name exclusively for an owner. True if the name belongs to the owner now.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn claim<T>(&self, path: &str, owner: &T) -> Result<bool, FolderError>
    where
        T: Serialize + serde::de::DeserializeOwned + PartialEq,
    {
        if let Some(found) = self.read::<T>(path).await? {
            return Ok(found == *owner);
        }
        match self.create(path, owner).await? {
            Created::New => Ok(true),
            Created::Exists => Ok(self.read::<T>(path).await?.as_ref() == Some(owner)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};

    use super::*;

    struct Root(PathBuf);

    impl Root {
        fn file(&self, path: &str, content: &str) -> u64 {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().expect("below the root")).expect("made");
            fs::write(&path, content).expect("written");
            inode(&path)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn inode(path: &Path) -> u64 {
        fs::metadata(path).expect("there").ino()
    }

    async fn folder() -> (Folder, Root) {
        let root = std::env::temp_dir().join(format!("adu-consume-{}", Uuid::new_v4()));
        (Folder::init(root.clone(), None).await.expect("initializes"), Root(root))
    }

    fn job() -> JobId {
        JobId::parse("a").expect("valid")
    }

    /// A coordinator wrote down the name that it was about to try, and died.
    async fn tried(folder: &Folder, job: &JobId, directory: &str, inode: u64) {
        folder.store().make_dir(".temp/job_a").await.expect("made");
        folder.store().make_dir(".temp/job_a/tables").await.expect("made");
        let target = Target { v: VERSION, directory: directory.into(), inode };
        folder.create(&layout::target(job, Epoch(1), TableNo(0), 1), &target).await.expect("created");
    }

    #[tokio::test]
    async fn a_directory_that_got_the_inode_of_a_trashed_one_is_not_taken_for_it() {
        let (folder, root) = folder().await;
        let job = job();
        // Emptying the trash freed the inode; this is another job's directory.
        root.file("public_t/part-000000.parquet", "of another job");
        tried(&folder, &job, "public_t", inode(&root.0.join("public_t"))).await;
        let own = root.file(".temp/job_a/parts/e1/0/000000.parquet", "ours");
        let part = Some(Part { file: "part-000000.parquet".into(), inode: own });
        let ready = Ready { job: &job, epoch: Epoch(1), id: Uuid::nil(), table: TableNo(0), part };
        assert_eq!(folder.abandon(&ready).await.expect("looks"), Consumed::Trashed);
        let tried = folder.publish(&ready, 1, "public_t").await.expect("looks");
        assert_eq!(tried, Tried::Consumed(Consumed::Trashed));
    }

    #[tokio::test]
    async fn a_directory_with_the_tables_own_part_is_known_again() {
        let (folder, root) = folder().await;
        let job = job();
        let own = root.file(".temp/job_a/parts/e1/0/000000.parquet", "ours");
        fs::create_dir(root.0.join("public_t")).expect("made");
        let (from, to) = (".temp/job_a/parts/e1/0/000000.parquet", "public_t/part-000000.parquet");
        fs::hard_link(root.0.join(from), root.0.join(to)).expect("linked");
        tried(&folder, &job, "public_t", inode(&root.0.join("public_t"))).await;
        for part in [Some(Part { file: "part-000000.parquet".into(), inode: own }), None] {
            let ready = Ready { job: &job, epoch: Epoch(1), id: Uuid::nil(), table: TableNo(0), part };
            let found = folder.abandon(&ready).await.expect("looks");
            assert_eq!(found, Consumed::Published("public_t".into()));
        }
    }
}
