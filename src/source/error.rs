//! What went wrong at a source. Each kind of error has its own constructor.

use crate::config::{Origin, Remedy};
use crate::message::event::ErrorReport;
use crate::relation::UnfitColumn;

/// What a failure of a source means for the job. `retry.rs` maps each kind to what the program does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The failure goes away by itself soon: retry with backoff.
    Transient,
    /// The server has too many connections, or is out of memory or disk: retry after a longer pause.
    Exhausted,
    /// The server cannot be reached at all.
    Unreachable,
    /// The password or the right to connect is missing: read the secret again and retry for minutes.
    Authentication,
    /// The failure stays until somebody changes something.
    Permanent,
    /// Values do not fit the types of their columns: plan again with these columns as text.
    Unfit,
    /// The table was changed, rewritten or truncated since the snapshot: plan again under a new lineage.
    Changed,
    /// No process holds the snapshot any more.
    LineageLost,
    /// We cancelled the work ourselves.
    Cancelled,
}

impl ErrorKind {
    /// The name of the kind in metrics.
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

/// What exactly a source refused. The program acts on this type; `code` is for people and for other programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A literal in a condition is not a valid value of the type that it is compared with.
    Value,
    /// The source cannot do this. For example, a standby cannot read an unlogged table.
    Unsupported,
    /// The source could not get a lock in time.
    Lock,
    /// The source does not know a snapshot that a living session keeps.
    SnapshotElsewhere,
    /// The source can show the snapshot to nobody any more.
    SnapshotGone,
}

/// A failure of a source: what happened, to which object, and what to change.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SourceError {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// An SQLSTATE, or a code of our own.
    pub code: String,
    /// What happened, and to which object. Contains no table data and no secrets.
    pub message: String,
    /// What to change.
    pub remedy: Option<Remedy>,
    /// What exactly was refused.
    pub refusal: Option<Refusal>,
    /// Columns with values that do not fit, each with the first such row. Reports show the row. Logs do not,
    /// because the row is table data.
    pub unfit: Vec<UnfitColumn>,
}

impl std::fmt::Display for SourceError {
    /// The text for logs, without table data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.told(|unfit| unfit.reason.clone()))
    }
}

impl std::error::Error for SourceError {}

impl SourceError {
    /// An error of this kind.
    #[must_use]
    pub fn of(kind: ErrorKind, code: impl Into<String>, message: impl Into<String>) -> Self {
        let (code, message) = (code.into(), message.into());
        Self { kind, code, message, remedy: None, refusal: None, unfit: Vec::new() }
    }

    /// An error that goes away by itself soon.
    #[must_use]
    pub fn transient(code: &str, message: impl Into<String>) -> Self {
        Self::of(ErrorKind::Transient, code, message)
    }

    /// The server or our pool has no free resources.
    #[must_use]
    pub fn exhausted(code: &str, message: impl Into<String>) -> Self {
        Self::of(ErrorKind::Exhausted, code, message)
    }

    /// The server cannot be reached.
    #[must_use]
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::of(ErrorKind::Unreachable, "unreachable", message)
    }

    /// The server refuses our login.
    #[must_use]
    pub fn authentication(code: &str, message: impl Into<String>) -> Self {
        Self::of(ErrorKind::Authentication, code, message)
    }

    /// An error that stays until somebody changes something.
    #[must_use]
    pub fn permanent(code: &str, message: impl Into<String>) -> Self {
        Self::of(ErrorKind::Permanent, code, message)
    }

    /// The table differs from the plan.
    #[must_use]
    pub fn changed(code: &str, message: impl Into<String>) -> Self {
        Self::of(ErrorKind::Changed, code, message)
    }

    /// No process holds the snapshot.
    #[must_use]
    pub fn lineage_lost(message: impl Into<String>) -> Self {
        Self::of(ErrorKind::LineageLost, "lineage_lost", message)
    }

    /// We cancelled the work.
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

    /// Values do not fit, and planning again would not help.
    #[must_use]
    pub fn refused_values(unfit: Vec<UnfitColumn>) -> Self {
        let message = "values do not fit the types of their columns";
        Self { unfit, ..Self::permanent("unfit_value", message) }
            .with_remedy("set on_unfit to \"text\" to export these columns as text, or to \"null\"")
    }

    /// Adds what to change.
    #[must_use]
    pub fn with_remedy(self, remedy: impl Into<Remedy>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    /// Adds what exactly was refused.
    #[must_use]
    pub fn refusing(self, refusal: Refusal) -> Self {
        Self { refusal: Some(refusal), ..self }
    }

    /// Puts the action and the object in front of the message, e.g. `read public.orders`.
    #[must_use]
    pub fn named(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// The error as events and archives report it. `origin` says where the source's configuration comes from.
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
                dimensions: None,
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
