//! Work on the shared queue. A task only says which work it is; the worker reads what to do from the folder
//! (invariant I3).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::JobId;

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
    pub epoch: u32,
    /// Identity of the export root that the task belongs to.
    pub root: Uuid,
}

/// `{"job": job, "epoch": n, "table": t, "chunk": c, "root": uuid}`
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChunkTask {
    /// The job.
    pub job: JobId,
    /// The epoch of the plan that contains the chunk.
    pub epoch: u32,
    /// Number of the batch's first table.
    pub table: u32,
    /// The chunk within the table.
    pub chunk: u32,
    /// Identity of the export root that the task belongs to.
    pub root: Uuid,
}

impl Task {
    /// The job it belongs to.
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
        let plan = Task::Plan(PlanTask { job: job.clone(), epoch: 1, root });
        let chunk = Task::Chunk(ChunkTask { job, epoch: 1, table: 2, chunk: 3, root });
        let text = serde_json::to_value(&plan).expect("json");
        assert_eq!(text["plan"], "j");
        for task in [plan, chunk] {
            let text = serde_json::to_string(&task).expect("json");
            assert_eq!(serde_json::from_str::<Task>(&text).expect("json"), task);
        }
    }
}
