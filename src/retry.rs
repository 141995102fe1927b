//! From what went wrong to what happens next: one table, and the pauses between tries.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

use crate::config::TimingConfig;
use crate::source::{ErrorKind, SourceError};
use crate::worker::record::Cause;

/// What follows from a failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Try again after a pause.
    Retry(Pace),
    /// The attempt cannot succeed as planned: write it down.
    Report(Cause),
    /// We were told to stop: no trace, the message goes back.
    Stop,
}

/// How long to pause between tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// From a second on.
    Soon,
    /// Others must give resources back first.
    Later,
}

impl Pace {
    /// Its name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Soon => "transient",
            Self::Later => "exhausted",
        }
    }
}

/// What follows from an error of a source.
#[must_use]
pub fn policy(error: &SourceError) -> Policy {
    match &error.kind {
        ErrorKind::Transient | ErrorKind::Unreachable | ErrorKind::Authentication => {
            Policy::Retry(Pace::Soon)
        }
        ErrorKind::Exhausted => Policy::Retry(Pace::Later),
        ErrorKind::Permanent => Policy::Report(Cause::Permanent),
        ErrorKind::Unfit(columns) => Policy::Report(Cause::Unfit { columns: columns.clone() }),
        ErrorKind::Changed => Policy::Report(Cause::Changed),
        ErrorKind::LineageLost => Policy::Report(Cause::LineageLost),
        ErrorKind::Cancelled => Policy::Stop,
    }
}

/// The pauses of one piece of work.
pub struct Pauses {
    backoff: ExponentialBackoff,
    longest: Duration,
}

impl Pauses {
    /// Pauses that grow up to `retry_longest` and end after `retry_limit`.
    #[must_use]
    pub fn new(timing: &TimingConfig) -> Self {
        Self {
            backoff: ExponentialBackoff {
                initial_interval: timing.retry_first.0,
                current_interval: timing.retry_first.0,
                max_interval: timing.retry_longest.0,
                max_elapsed_time: Some(timing.retry_limit.0),
                ..ExponentialBackoff::default()
            },
            longest: timing.retry_longest.0,
        }
    }

    /// Pauses without an end, for connections.
    #[must_use]
    pub fn endless(timing: &TimingConfig) -> Self {
        let mut pauses = Self::new(timing);
        pauses.backoff.max_elapsed_time = None;
        pauses
    }

    /// The next pause; none when it has been tried for long enough.
    pub fn next(&mut self, pace: Pace) -> Option<Duration> {
        let pause = self.backoff.next_backoff()?;
        Some(match pace {
            Pace::Soon => pause,
            Pace::Later => pause.max(self.longest / 2),
        })
    }
}
