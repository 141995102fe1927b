//! Work on the shared queue. A task only says which work it is; the worker reads what to do from the folder
//! (invariant I3).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{BatchId, BatchNo, ChunkNo, Epoch, JobId};

/// One unit of work. Any daemon may take it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Task {
    /// Plan an epoch of a job.
    Plan(PlanTask),
    /// Export one chunk.
    Chunk(ChunkTask),
}

/// `{"plan": job, "epoch": n, "root": uuid}`
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PlanTask {
    /// The job.
    #[serde(rename = "plan")]
    pub job: JobId,
    /// The epoch to plan.
    pub epoch: Epoch,
    /// Identity of the export root that the task belongs to.
    pub root: Uuid,
}

/// `{"job": job, "epoch": n, "table": t, "chunk": c, "root": uuid}`
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChunkTask {
    /// The job.
    pub job: JobId,
    /// The epoch of the plan that contains the chunk.
    pub epoch: Epoch,
    /// Number of the batch's first table.
    #[serde(rename = "table")]
    pub batch: BatchNo,
    /// The chunk within the batch.
    pub chunk: ChunkNo,
    /// Identity of the export root that the task belongs to.
    pub root: Uuid,
}

impl ChunkTask {
    /// The batch that the chunk belongs to.
    #[must_use]
    pub fn batch_id(&self) -> BatchId {
        BatchId { epoch: self.epoch, batch: self.batch }
    }
}

impl Task {
    /// The job that the task belongs to.
    #[must_use]
    pub fn job(&self) -> &JobId {
        match self {
            Self::Plan(t) => &t.job,
            Self::Chunk(t) => &t.job,
        }
    }

    /// The export root that the task belongs to.
    #[must_use]
    pub fn root(&self) -> Uuid {
        match self {
            Self::Plan(t) => t.root,
            Self::Chunk(t) => t.root,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_travel_as_documented() {
        let job = JobId::parse("j").expect("valid");
        let root = Uuid::nil();
        let plan = Task::Plan(PlanTask { job: job.clone(), epoch: Epoch(1), root });
        let task = ChunkTask { job, epoch: Epoch(1), batch: BatchNo(2), chunk: ChunkNo(3), root };
        let chunk = Task::Chunk(task);
        let text = serde_json::to_value(&plan).expect("json");
        assert_eq!(text["plan"], "j");
        let text = serde_json::to_value(&chunk).expect("json");
        assert_eq!((&text["epoch"], &text["table"], &text["chunk"]), (&1.into(), &2.into(), &3.into()));
        for task in [plan, chunk] {
            let text = serde_json::to_string(&task).expect("json");
            assert_eq!(serde_json::from_str::<Task>(&text).expect("json"), task);
        }
    }
}
