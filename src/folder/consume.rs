//! Primitive 2, the consuming rename: a table's `ready` directory goes to a
//! public name or to the trash, once (invariant I4). Whoever finds it gone
//! learns from the target's inode what became of it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Created, Folder, FolderError, Renamed, VERSION, layout};
use crate::message::JobId;

/// `tables/<t>.target-<K>.json`: a name that is about to be tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Version of the format.
    pub v: u32,
    /// Directory below the root.
    pub directory: String,
}

/// A table whose parts stand in its `ready` directory.
#[derive(Clone, Debug)]
pub struct Ready<'a> {
    /// The job.
    pub job: &'a JobId,
    /// Epoch of the plan.
    pub epoch: u32,
    /// The plan's `ready` uuid.
    pub id: Uuid,
    /// The table.
    pub table: u32,
    /// Name and inode of one winning part in the finished directory; none if
    /// the table was never complete.
    pub witness: Option<(String, u64)>,
}

/// Where a `ready` directory went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consumed {
    /// It stands under this directory.
    Published(String),
    /// It is in the trash.
    Trashed,
}

/// What became of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// The directory is consumed.
    Consumed(Consumed),
    /// The name is taken by something else.
    Occupied(String),
}

impl Folder {
    /// Tries the K-th name for a table. `candidate` is used unless a name was
    /// written down for this K before.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn publish(
        &self,
        ready: &Ready<'_>,
        attempt: u32,
        candidate: &str,
    ) -> Result<Tried, FolderError> {
        let path = layout::target(ready.job, ready.table, attempt);
        let target = Target { v: VERSION, directory: candidate.to_owned() };
        let target = self.create_or_read(&path, target).await?.directory;
        let from = layout::ready_table(ready.job, ready.epoch, ready.id, ready.table);
        Ok(match self.store.rename(&from, &target).await? {
            Renamed::Done => Tried::Consumed(Consumed::Published(target)),
            Renamed::Occupied => Tried::Occupied(target),
            Renamed::Gone => Tried::Consumed(self.whereabouts(ready).await?),
        })
    }

    /// The name written down for the K-th attempt, if any.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn target(&self, job: &JobId, table: u32, attempt: u32) -> Result<Option<String>, FolderError> {
        let target: Option<Target> = self.read(&layout::target(job, table, attempt)).await?;
        Ok(target.map(|t| t.directory))
    }

    /// Sends a `ready` directory to the trash, unless it was published.
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

    /// Where a `ready` directory that is gone went: a target that holds the
    /// winning part's inode, or else the trash.
    async fn whereabouts(&self, ready: &Ready<'_>) -> Result<Consumed, FolderError> {
        let Some((file, inode)) = &ready.witness else { return Ok(Consumed::Trashed) };
        for attempt in 1.. {
            let Some(directory) = self.target(ready.job, ready.table, attempt).await? else { break };
            let stat = self.store.stat(&format!("{directory}/{file}")).await?;
            if stat.is_some_and(|s| s.inode == *inode) {
                return Ok(Consumed::Published(directory));
            }
        }
        Ok(Consumed::Trashed)
    }

    /// Claims a name exclusively for an owner; true if it is the owner's.
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
