//! Messages to every daemon. Those of the coordinator are only hints: daemons also find all of this in the
//! folder. A daemon ignores a message of a kind that it does not know.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{JobId, Presence, SourceName};

/// A message to all daemons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "control")]
pub enum Control {
    /// An epoch of a job is about to be planned: prepare to hold its snapshot, if the source needs that.
    Prepare {
        /// The job.
        job: JobId,
        /// The job's source.
        source: SourceName,
    },
    /// An epoch was planned: keep its snapshot alive.
    Planned {
        /// The job.
        job: JobId,
        /// The job's source.
        source: SourceName,
        /// The snapshot lineage.
        lineage: Uuid,
    },
    /// A job is cancelled: drop its chunks.
    Cancel {
        /// The job.
        job: JobId,
    },
    /// A new coordinator asks which daemons are alive and which tasks they hold.
    Census,
    /// A daemon is alive, and describes itself for the status pages of all.
    Alive(Box<Presence>),
    /// The archive of the job exists: nobody needs its snapshot any more.
    Finished {
        /// The job.
        job: JobId,
    },
}
