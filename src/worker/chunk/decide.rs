//! What should happen to a chunk: a pure function of what the folder says of it.

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
