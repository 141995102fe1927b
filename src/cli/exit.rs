//! What the process tells its caller.

use crate::message::EventType;

/// Exit codes, the same for every subcommand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Everything is there.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// Some tables are there, others failed.
    Partial = 3,
    /// The request was refused.
    Rejected = 4,
    /// The job was cancelled.
    Cancelled = 5,
    /// Broker or database cannot be reached, or the wait timed out.
    Unreachable = 6,
}

impl ExitCode {
    /// The code for the last event of a job; none for events in between.
    #[must_use]
    pub fn of(event: EventType) -> Option<Self> {
        match event {
            EventType::JobCompleted => Some(Self::Done),
            EventType::JobPartial => Some(Self::Partial),
            EventType::JobFailed => Some(Self::Failed),
            EventType::JobCancelled => Some(Self::Cancelled),
            EventType::JobRejected => Some(Self::Rejected),
            EventType::JobAccepted
            | EventType::JobProgress
            | EventType::JobStalled
            | EventType::TableCompleted
            | EventType::TableFailed => None,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_final_event_has_a_code() {
        assert_eq!(ExitCode::of(EventType::JobPartial), Some(ExitCode::Partial));
        assert_eq!(ExitCode::of(EventType::JobProgress), None);
        assert_eq!(ExitCode::Unreachable as u8, 6);
    }
}
