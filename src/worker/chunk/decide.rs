//! What should happen to a chunk: a pure function of what the folder says of it.

use crate::folder::{FolderError, layout};
use crate::message::task::ChunkTask;
use crate::worker::Shared;

/// What the folder says of a chunk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Its job has an archive.
    pub archived: bool,
    /// Its job is to end.
    pub cancelled: bool,
    /// It has a record.
    pub recorded: bool,
    /// Its batch has an outcome.
    pub settled: bool,
}

/// What should happen to a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is left to do, and nobody waits for a word.
    Forget,
    /// It is done: the wake-up may have been lost.
    Wake,
    /// Export it.
    Run,
}

/// What should happen to a chunk, given what the folder says.
#[must_use]
pub fn decide(seen: &Seen) -> Step {
    if seen.archived || seen.settled || seen.cancelled {
        return Step::Forget;
    }
    if seen.recorded {
        return Step::Wake;
    }
    Step::Run
}

/// Looks at what the decision needs.
pub(super) async fn look(shared: &Shared, task: &ChunkTask) -> Result<Seen, FolderError> {
    let paths = [
        layout::record(&task.job, task.epoch, task.table, task.chunk),
        layout::outcome(&task.job, task.epoch, task.table),
        layout::cancel(&task.job),
        layout::archive_by_id(&task.job),
    ];
    let found = shared.context.folder.store().exist(&paths).await?;
    Ok(Seen { recorded: found[0], settled: found[1], cancelled: found[2], archived: found[3] })
}
