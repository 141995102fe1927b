//! What an error that a server reports means. Each source has its own table of SQLSTATEs.

use crate::config::Remedy;
use crate::source::{ErrorKind, Refusal, SourceError};

/// The meaning of an error: its kind and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::source) struct Meaning {
    pub(in crate::source) kind: ErrorKind,
    pub(in crate::source) remedy: Option<Remedy>,
}

/// A meaning with a remedy.
pub(in crate::source) fn meaning(kind: ErrorKind, remedy: impl Into<Remedy>) -> Meaning {
    Meaning { kind, remedy: Some(remedy.into()) }
}

/// A meaning without one.
pub(in crate::source) const fn bare(kind: ErrorKind) -> Meaning {
    Meaning { kind, remedy: None }
}

impl Meaning {
    /// The error of a call. `what` names the action and the object. The server's message is told unless it may hold
    /// data; `more` follows it or the SQLSTATE.
    pub(in crate::source) fn error(
        self,
        code: &str,
        what: &str,
        told: Option<&str>,
        more: &str,
        refusal: Option<Refusal>,
    ) -> SourceError {
        let message = match told {
            Some(told) => format!("{what}: {told}{more}"),
            None => format!(
                "{what}: the server reports SQLSTATE {code}{more}; its message may hold data and is not repeated"
            ),
        };
        SourceError { remedy: self.remedy, refusal, ..SourceError::of(self.kind, code, message) }
    }
}
