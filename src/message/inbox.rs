//! Messages of the daemons to the coordinator.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::task::Task;
use super::{BatchId, BatchNo, ChunkNo, Epoch, JobId, SourceName};

/// A message of the coordinator's inbox. It is only a hint: a wake-up says where to look in the folder, and
/// `alive` says what its sender holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InboxMessage {
    /// Look at the folder.
    Wake(Wake),
    /// A daemon is alive.
    Alive(Alive),
}

/// Whether a body that we cannot read may be a message of a kind that a newer release added.
#[must_use]
pub fn may_be_newer(body: &[u8]) -> bool {
    serde_json::from_slice::<std::collections::BTreeMap<String, serde::de::IgnoredAny>>(body).is_ok()
}

/// Something in the folder changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Wake {
    /// The job; `None` means all jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// The chunk that has a record or a failure now; `None` means the job as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk: Option<ChunkRef>,
}

/// A chunk within a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChunkRef {
    /// Epoch of the plan.
    pub epoch: Epoch,
    /// Number of the batch's first table.
    #[serde(rename = "table")]
    pub batch: BatchNo,
    /// Chunk within the batch.
    pub chunk: ChunkNo,
}

impl ChunkRef {
    /// The batch that the chunk belongs to.
    #[must_use]
    pub fn batch_id(&self) -> BatchId {
        BatchId { epoch: self.epoch, batch: self.batch }
    }
}

/// What a daemon can do and what it holds. Every daemon sends it on connecting and every `alive_interval`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alive {
    /// Identity of the daemon; new at every start of the process.
    pub instance: Uuid,
    /// How many chunks the daemon exports at once.
    pub slots: u32,
    /// Number of the daemon's cores.
    pub cores: u32,
    /// The sources that the daemon can read.
    pub sources: Vec<SourceName>,
    /// The tasks that the daemon works on.
    pub holding: Vec<Task>,
    /// The snapshot lineages that the daemon keeps alive.
    pub lineages: Vec<Uuid>,
    /// What keeps the daemon from working, for people to read; without secrets.
    #[serde(default)]
    pub troubles: Vec<String>,
    /// The daemon is stopping, so it takes no more tasks.
    #[serde(default)]
    pub leaving: bool,
}
