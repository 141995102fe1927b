//! What should happen to a chunk: a pure function of what the folder says of it.

use crate::folder::ChunkFiles;

/// What should happen to a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is left to do, and no wake-up is needed.
    Forget,
    /// The chunk is done. Wake the coordinator, because an earlier wake-up may be lost.
    Wake,
    /// Export the chunk.
    Run,
}

/// What should happen to a chunk, given what the folder says.
#[must_use]
pub fn decide(files: &ChunkFiles) -> Step {
    if files.archived || files.settled || files.cancelled {
        return Step::Forget;
    }
    if files.recorded {
        return Step::Wake;
    }
    Step::Run
}
