//! What the coordinator tells every daemon. Hints only: each of them is also
//! found in the folder.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{JobId, SourceName};

/// A message to all daemons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "control")]
pub enum Control {
    /// An epoch was planned: keep its snapshot alive.
    Planned {
        /// The job.
        job: JobId,
        /// Its source.
        source: SourceName,
        /// The snapshot lineage.
        lineage: Uuid,
    },
    /// A job is cancelled: drop its chunks.
    Cancel {
        /// The job.
        job: JobId,
    },
    /// A new coordinator asks who is there and holds what.
    Census,
    /// A job has its archive: nobody needs its snapshot any more.
    Finished {
        /// The job.
        job: JobId,
    },
}
