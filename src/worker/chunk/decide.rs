//! What should happen to a chunk: a pure function of what the folder says of it.

use crate::folder::ChunkFiles;

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
pub fn decide(files: &ChunkFiles) -> Step {
    if files.archived || files.settled || files.cancelled {
        return Step::Forget;
    }
    if files.recorded {
        return Step::Wake;
    }
    Step::Run
}
