//! From an error to its consequence: one table, and the pauses between tries.

use std::sync::Arc;
use std::time::Duration;

use backoff::backoff::Backoff;
use backoff::exponential::ExponentialBackoff;

use crate::config::TimingConfig;
pub use crate::folder::files::record::Cause;
use crate::machine::Machine;
use crate::source::{ErrorKind, SourceError};

/// What follows from a failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Try again after a pause.
    Retry(Pace),
    /// The attempt cannot succeed as planned: write a failure.
    Report(Cause),
    /// We were told to stop: write nothing, and give the message back.
    Stop,
}

/// How long to pause between tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Start with a short pause.
    Soon,
    /// Pause longer: others must give resources back first.
    Later,
}

/// What follows from an error of a source.
#[must_use]
pub fn policy(error: &SourceError) -> Policy {
    match error.kind {
        ErrorKind::Transient | ErrorKind::Unreachable | ErrorKind::Authentication => {
            Policy::Retry(Pace::Soon)
        }
        ErrorKind::Exhausted => Policy::Retry(Pace::Later),
        ErrorKind::Permanent => Policy::Report(Cause::Permanent),
        ErrorKind::Unfit => Policy::Report(Cause::Unfit { columns: error.unfit.clone() }),
        ErrorKind::Changed => Policy::Report(Cause::Changed),
        ErrorKind::LineageLost => Policy::Report(Cause::LineageLost),
        ErrorKind::Cancelled => Policy::Stop,
    }
}

/// The pauses of one piece of work.
pub struct Pauses {
    backoff: ExponentialBackoff<RuntimeClock>,
    longest: Duration,
    machine: Arc<dyn Machine>,
}

/// The clock that measures the pauses.
#[derive(Default)]
struct RuntimeClock;

impl backoff::Clock for RuntimeClock {
    fn now(&self) -> std::time::Instant {
        tokio::time::Instant::now().into_std()
    }
}

impl Pauses {
    /// Pauses that grow up to `retry_longest` and end after `retry_limit`.
    #[must_use]
    pub fn new(timing: &TimingConfig, machine: Arc<dyn Machine>) -> Self {
        Self {
            backoff: ExponentialBackoff {
                initial_interval: timing.retry_first.0,
                current_interval: timing.retry_first.0,
                max_interval: timing.retry_longest.0,
                max_elapsed_time: Some(timing.retry_limit.0),
                // The machine adds the randomness below, so that a simulation can repeat it.
                randomization_factor: 0.0,
                ..ExponentialBackoff::default()
            },
            longest: timing.retry_longest.0,
            machine,
        }
    }

    /// Pauses without an end, for connections.
    #[must_use]
    pub fn endless(timing: &TimingConfig, machine: Arc<dyn Machine>) -> Self {
        let mut pauses = Self::new(timing, machine);
        pauses.backoff.max_elapsed_time = None;
        pauses
    }

    /// The next pause. `None` when it has been tried for long enough.
    pub fn next(&mut self, pace: Pace) -> Option<Duration> {
        // Vary the pause from half to one and a half times its length, so that work that failed together is
        // not tried again together.
        let pause = self.backoff.next_backoff()?.mul_f64(0.5 + self.machine.fraction());
        Some(match pace {
            Pace::Soon => pause,
            Pace::Later => pause.max(self.longest / 2),
        })
    }
}
