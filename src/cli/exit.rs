//! The exit codes of the process.

use super::one_shot::Explained;
use crate::bus::BusError;
use crate::config::ConfigError;
use crate::daemon::StartError;
use crate::message::EventType;
use crate::message::request::InvalidRequest;
use crate::source::{ErrorKind, SourceError};

/// Exit codes, the same for every subcommand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Everything was done.
    Done = 0,
    /// The command or the job failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// Some tables are exported, others failed.
    Partial = 3,
    /// The request was refused.
    Rejected = 4,
    /// The job was cancelled.
    Cancelled = 5,
    /// The broker or the database cannot be reached, or the wait timed out.
    Unreachable = 6,
}

impl ExitCode {
    /// The code for the final event of a job; `None` for other events.
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

    /// The code for an error that ended a command.
    #[must_use]
    pub fn of_error(error: &anyhow::Error) -> Self {
        if is_closed_pipe(error) {
            return Self::Done;
        }
        let code = |cause: &(dyn std::error::Error + 'static)| {
            if cause.is::<ConfigError>() || cause.is::<crate::logging::LoggingError>() {
                return Some(Self::Usage);
            }
            if cause.is::<InvalidRequest>() {
                return Some(Self::Rejected);
            }
            if let Some(error) = cause.downcast_ref() {
                return Some(Self::of_bus(error));
            }
            if let Some(error) = cause.downcast_ref() {
                return Some(match error {
                    StartError::Config(_) | StartError::Folder(_) | StartError::Source { .. } => Self::Usage,
                    StartError::Http(_) => Self::Usage,
                    StartError::Bus(error) => Self::of_bus(error),
                    StartError::Other(_) => Self::Failed,
                });
            }
            let explained = cause.downcast_ref().map(|e: &Explained| &e.0);
            let source: &SourceError = explained.or_else(|| cause.downcast_ref())?;
            matches!(source.kind, ErrorKind::Unreachable).then_some(Self::Unreachable)
        };
        error.chain().find_map(code).unwrap_or(Self::Failed)
    }

    fn of_bus(error: &BusError) -> Self {
        match error {
            BusError::Setting { .. } => Self::Usage,
            BusError::Unusable { .. } => Self::Failed,
            BusError::Timeout { .. }
            | BusError::Refused { .. }
            | BusError::Connection { .. }
            | BusError::Closed => Self::Unreachable,
        }
    }
}

/// Whether the reader of our output has closed the pipe, which is not an error.
#[must_use]
pub(super) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let closed = |e: &std::io::Error| e.kind() == std::io::ErrorKind::BrokenPipe;
    error.downcast_ref::<std::io::Error>().is_some_and(closed)
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

    #[test]
    fn errors_tell_what_kind_they_are() {
        use anyhow::Context;
        let of = |e: anyhow::Error| ExitCode::of_error(&e);
        let config = crate::config::Config::parse("", []).expect_err("empty");
        assert_eq!(of(config.clone().into()), ExitCode::Usage);
        assert_eq!(of(StartError::Config(config).into()), ExitCode::Usage);
        let lost = Err::<(), _>(BusError::Closed).context("wait for job j").expect_err("closed");
        assert_eq!(of(lost), ExitCode::Unreachable);
        assert_eq!(of(anyhow::anyhow!("x")), ExitCode::Failed);
        let pipe = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(of(pipe.into()), ExitCode::Done);
    }
}
