//! What went wrong at a source: one constructor for each kind of error.

use crate::config::{Origin, Remedy};
use crate::message::event::ErrorReport;
use crate::relation::UnfitColumn;

/// What a source's failure means for the work at hand. `retry.rs` maps it,
/// exhaustively, to what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Goes away by itself soon: retry with backoff.
    Transient,
    /// Too many connections, out of memory or disk: retry after a longer pause.
    Exhausted,
    /// The server cannot be reached at all.
    Unreachable,
    /// The password or right to connect is missing: re-read the secret, retry for minutes.
    Authentication,
    /// Stays until somebody changes something.
    Permanent,
    /// Values do not fit their columns' types: plan again with these as text.
    Unfit,
    /// The table was changed, rewritten or truncated since the snapshot: new lineage.
    Changed,
    /// Nobody holds the snapshot any more.
    LineageLost,
    /// We cancelled it ourselves.
    Cancelled,
}

impl ErrorKind {
    /// Its name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Exhausted => "exhausted",
            Self::Unreachable => "unreachable",
            Self::Authentication => "authentication",
            Self::Permanent => "permanent",
            Self::Unfit => "unfit",
            Self::Changed => "changed",
            Self::LineageLost => "lineage_lost",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What exactly a source refused, where the program acts on it. Codes are for people and for other programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A value of the conditions cannot be read as what it is compared with.
    Value,
    /// It cannot do this, as a standby cannot read an unlogged table.
    Unsupported,
    /// A lock was not to be had in time.
    Lock,
    /// It does not know a snapshot that a living session keeps.
    SnapshotElsewhere,
}

/// A failure of a source: what happened, to which object, and what to change.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SourceError {
    /// What follows from it.
    pub kind: ErrorKind,
    /// SQLSTATE, or a word of our own.
    pub code: String,
    /// What happened, to which object. No table data, no secrets.
    pub message: String,
    /// What to change.
    pub remedy: Option<Remedy>,
    /// What exactly was refused.
    pub refusal: Option<Refusal>,
    /// Columns with values that do not fit, each with the row of the first one. Reports name that row, logs do not: it
    /// is table data.
    pub unfit: Vec<UnfitColumn>,
}

impl std::fmt::Display for SourceError {
    /// For logs, without table data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.told(|unfit| unfit.reason.clone()))
    }
}

impl std::error::Error for SourceError {}

impl SourceError {
    /// An error of a kind that a table of the source says.
    #[must_use]
    pub fn of(kind: ErrorKind, code: impl Into<String>, message: impl Into<String>) -> Self {
        let (code, message) = (code.into(), message.into());
        Self { kind, code, message, remedy: None, refusal: None, unfit: Vec::new() }
    }

    /// It goes away by itself soon.
    #[must_use]
    pub fn transient(code: &str, message: impl Into<String>) -> Self {
        Self::of(ErrorKind::Transient, code, message)
    }

    /// The server, or our pool, has nothing left to give.
    #[must_use]
    pub fn exhausted(code: &str, message: impl Into<String>) -> Self {
        Self::of(ErrorKind::Exhausted, code, message)
    }

    /// The server cannot be reached.
    #[must_use]
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::of(ErrorKind::Unreachable, "unreachable", message)
    }

    /// The server does not let us in.
    #[must_use]
    pub fn authentication(code: &str, message: impl Into<String>) -> Self {
        Self::of(ErrorKind::Authentication, code, message)
    }

    /// It stays until somebody changes something.
    #[must_use]
    pub fn permanent(code: &str, message: impl Into<String>) -> Self {
        Self::of(ErrorKind::Permanent, code, message)
    }

    /// The table is not what was planned.
    #[must_use]
    pub fn changed(code: &str, message: impl Into<String>) -> Self {
        Self::of(ErrorKind::Changed, code, message)
    }

    /// Nobody holds the snapshot.
    #[must_use]
    pub fn lineage_lost(message: impl Into<String>) -> Self {
        Self::of(ErrorKind::LineageLost, "lineage_lost", message)
    }

    /// We cancelled it.
    #[must_use]
    pub fn cancelled(message: impl Into<String>) -> Self {
        Self::of(ErrorKind::Cancelled, "cancelled", message)
    }

    /// Values do not fit: plan again with these columns as text.
    #[must_use]
    pub fn unfit(unfit: Vec<UnfitColumn>) -> Self {
        Self { kind: ErrorKind::Unfit, ..Self::refused_values(unfit) }
            .with_remedy("the table is planned again with these columns as text")
    }

    /// Values do not fit, and that is an error.
    #[must_use]
    pub fn refused_values(unfit: Vec<UnfitColumn>) -> Self {
        let message = "values do not fit the types of their columns";
        Self { unfit, ..Self::permanent("unfit_value", message) }
            .with_remedy("set on_unfit to \"text\" to export these columns as text, or to \"null\"")
    }

    /// The same with what to change.
    #[must_use]
    pub fn with_remedy(self, remedy: impl Into<Remedy>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    /// The same with what exactly was refused.
    #[must_use]
    pub fn refusing(self, refusal: Refusal) -> Self {
        Self { refusal: Some(refusal), ..self }
    }

    /// The same, of an object: `read public.orders`.
    #[must_use]
    pub fn named(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// As events and archives report it; `origin` is the source's.
    #[must_use]
    pub fn report(&self, origin: Origin) -> ErrorReport {
        ErrorReport {
            code: self.code.clone(),
            message: self.told(UnfitColumn::because),
            remedy: self.remedy.as_ref().map(|remedy| remedy.words(origin).into_owned()),
            retryable: !matches!(self.kind, ErrorKind::Permanent | ErrorKind::Unfit),
        }
    }

    fn told(&self, because: impl Fn(&UnfitColumn) -> String) -> String {
        if self.unfit.is_empty() {
            return self.message.clone();
        }
        let each = self.unfit.iter().map(|unfit| format!("{:?} ({})", unfit.column, because(unfit)));
        format!("{}: {}", self.message, each.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_that_does_not_fit_is_reported_and_never_logged() {
        let row = Some("id = 4711".to_owned());
        let unfit = || {
            vec![UnfitColumn {
                column: "a".into(),
                reason: "NaN has no decimal form".into(),
                row: row.clone(),
            }]
        };
        for error in [SourceError::unfit(unfit()), SourceError::refused_values(unfit())] {
            let error = error.named("read s.t");
            let report = error.report(Origin::Configuration);
            assert_eq!(
                report.message,
                "read s.t: values do not fit the types of their columns: \"a\" (NaN has no decimal form, first at id = 4711)"
            );
            let logged = format!("{error} {error:?} {}", error.message);
            assert!(
                logged.contains("\"a\" (NaN has no decimal form)") && !logged.contains("4711"),
                "{logged}"
            );
        }
    }
}
