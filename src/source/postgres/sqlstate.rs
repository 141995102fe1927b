//! The table that maps PostgreSQL's errors to what the program does (retry, give up, plan again) and to what
//! an operator should change.
//!
//! Only the primary message of an error is passed on, and only if it cannot contain table data. DETAIL and
//! CONTEXT may contain rows. Messages of data exceptions and of user-written functions may contain rows too.

use std::error::Error as _;

use super::{pooler, privilege};
use crate::config::{Advice, Remedy};
use crate::source::dial::DialError;
use crate::source::sql::meaning::{Meaning, bare, meaning};
use crate::source::{ErrorKind, Refusal, SourceError};

/// The remedy when only the primary has the rows.
pub(super) const FROM_PRIMARY: &str = "read it from the primary: unlogged tables have no rows on a standby; a connection string \
                                       with target_session_attrs=read-write leads there";

/// What was being done. The same SQLSTATE means different things at different stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Connecting, before any table is read.
    Connect,
    /// `SET TRANSACTION SNAPSHOT`.
    Import,
    /// Settings of a transaction. The server has read no row yet, so messages cannot contain data.
    Setup,
    /// Questions of planning: catalogue, boundaries, estimates, counts.
    Question,
    /// Reading a chunk. Its table existed when it was planned.
    Chunk,
}

/// What the server reported besides the SQLSTATE, as far as the meaning depends on it.
#[derive(Clone, Copy, Debug, Default)]
struct Circumstances<'a> {
    message: &'a str,
    hint: &'a str,
    /// Whether the session has a `statement_timeout`.
    statement_timeout: bool,
}

/// The table. Single codes come first, then classes of codes.
fn classify(code: &str, stage: Stage, said: Circumstances<'_>) -> Meaning {
    use ErrorKind::{Authentication, Changed, Exhausted, LineageLost, Permanent, Transient};
    let class = code.get(..2).unwrap_or_default();
    if code == "08P01"
        && let Some((kind, remedy)) = pooler::meaning_of(said.message)
    {
        return meaning(kind, remedy);
    }
    if let Some(remedy) = (code == "42501").then(|| privilege::remedy(said.message)).flatten() {
        return meaning(Permanent, remedy);
    }
    if said.message.contains("connections to primary segments are not allowed") {
        return meaning(Permanent, "this is the port of a Greenplum segment: connect to the coordinator");
    }
    match (class, code) {
        // Errors of importing a snapshot: 22023 up to PostgreSQL 16, 42704 from 17, 55000 when its process is
        // gone.
        (_, "22023" | "42704" | "55000") if stage == Stage::Import => bare(LineageLost),
        ("72", _) if stage == Stage::Import => bare(LineageLost),

        ("22" | "42", _) if stage == Stage::Setup => meaning(Permanent, Advice::Session),

        // The table differs from the plan.
        (_, "42P01" | "42703" | "42883" | "42804" | "42846" | "42704" | "3F000") if stage == Stage::Chunk => {
            bare(Changed)
        }

        // "snapshot too old": only a new snapshot helps.
        ("72", _) => meaning(
            Changed,
            "old_snapshot_threshold of the server is shorter than the export: raise it, or export less at once",
        ),
        ("08", _) => bare(Transient),
        ("40", _) => bare(Transient),
        (_, "55P03") => meaning(Transient, Advice::Lock),
        (_, "55006") => bare(Transient),
        (_, "57014") if said.statement_timeout && !said.message.contains("user request") => {
            meaning(Permanent, Advice::StatementTimeout)
        }
        (_, "57014") => meaning(Transient, "somebody cancelled the query on the server (pg_cancel_backend)"),
        (_, "57P01" | "57P02" | "57P03" | "57P05") => bare(Transient),
        (_, "57P04") => meaning(Permanent, Advice::Database),
        // Greenplum: a segment is lost or its backend was ended. Its coordinator connects again.
        ("58", "58M01") => bare(Transient),
        (_, "58030") => meaning(Transient, "the server had an I/O error; look at its log and disks"),
        (_, "25P03") => meaning(
            Transient,
            "idle_in_transaction_session_timeout ended the session; set it to 0 for this role",
        ),
        (_, "25P04") => meaning(Permanent, Advice::TransactionTimeout),

        (_, "53200") if said.hint.contains("max_locks_per_transaction") => meaning(Permanent, Advice::Locks),
        (_, "53400") => meaning(
            Permanent,
            "a limit of the server was exceeded (e.g. temp_file_limit): raise it for this role, \
             or choose another strategy or chunk_column",
        ),
        (_, "53300") => meaning(Exhausted, Advice::Connections),
        ("53", _) => meaning(Exhausted, "the server has run out of memory or disk; look at its log"),

        (_, "28000") => meaning(
            Authentication,
            "pg_hba.conf or the role's rights refuse this login: check host, user, database and TLS",
        ),
        ("28", _) => meaning(Authentication, Advice::Password),
        (_, "3D000") => meaning(Permanent, Advice::Database),
        (_, "42501") => meaning(Permanent, Advice::Rights),
        ("0A", _) if said.message.contains("during recovery") => meaning(Permanent, FROM_PRIMARY),
        (_, "42P01" | "42703" | "3F000") => {
            meaning(Permanent, "correct the name in the request; names are case-sensitive")
        }
        ("42", _) => meaning(Permanent, Advice::Query),
        (_, "22P05" | "22021") => meaning(
            Permanent,
            "a text cannot be converted to UTF-8: correct it in the database, name the column in as_bytes, or leave it out",
        ),
        ("22", _) => meaning(Permanent, "a value cannot be computed as the filter or view demands"),
        (_, "25006") => meaning(Permanent, "the filter or view calls a function that writes"),
        ("25", _) => bare(Permanent),
        ("0A" | "3F", _) => bare(Permanent),
        ("54", _) => {
            meaning(Permanent, "a row is too large for the server to send; leave its widest column out")
        }
        (_, "XX001" | "XX002" | "58P01") => meaning(
            Permanent,
            "the server found damaged data: restore the table from a backup or repair it, then export again",
        ),
        // Functions, foreign tables, and codes of later servers.
        _ => bare(Permanent),
    }
}

/// What exactly an SQLSTATE refuses, if the program acts on it.
fn refusal(code: &str) -> Option<Refusal> {
    match (code.get(..2).unwrap_or_default(), code) {
        ("22", _) => Some(Refusal::Value),
        ("0A", _) => Some(Refusal::Unsupported),
        (_, "55P03") => Some(Refusal::Lock),
        _ => None,
    }
}

/// Whether the primary message of this class may be shown.
fn may_be_shown(class: &str, stage: Stage) -> bool {
    match stage {
        Stage::Connect | Stage::Import | Stage::Setup => true,
        Stage::Question | Stage::Chunk => matches!(
            class,
            "08" | "0A"
                | "25"
                | "28"
                | "3D"
                | "3F"
                | "40"
                | "42"
                | "53"
                | "54"
                | "55"
                | "57"
                | "58"
                | "72"
                | "XX"
        ),
    }
}

/// An error of the server as its message says it.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) hint: String,
}

impl Said {
    /// The error of a call. `what` names the action and the object.
    fn error(&self, stage: Stage, what: &str, statement_timeout: bool) -> SourceError {
        let Self { code, message, hint } = self;
        let meaning = classify(code, stage, Circumstances { message, hint, statement_timeout });
        let told = may_be_shown(code.get(..2).unwrap_or_default(), stage).then_some(message.as_str());
        meaning.error(code, what, told, "", refusal(code))
    }
}

/// The error that a Greenplum segment reports to a retrieve session. Its own errors say only that the cursor
/// is gone: the chunk is tried again.
pub(super) fn of_segment(said: &Said, stage: Stage, what: &str) -> SourceError {
    let error = said.error(stage, what, false);
    match said.code.get(..2).unwrap_or_default() {
        "XX" | "28" | "55" | "25" => SourceError { kind: ErrorKind::Transient, ..error },
        _ => error,
    }
}

/// Makes the error of a call. `what` names the action and the object: "read public.orders".
pub(super) fn explain(
    error: &tokio_postgres::Error,
    stage: Stage,
    what: &str,
    statement_timeout: bool,
) -> SourceError {
    let Some(db) = error.as_db_error() else {
        return without_sqlstate(error, stage, what);
    };
    let said = Said {
        code: db.code().code().to_owned(),
        message: db.message().to_owned(),
        hint: db.hint().unwrap_or_default().to_owned(),
    };
    said.error(stage, what, statement_timeout)
}

/// Errors on the client's side. `tokio-postgres` shows their kind only as text.
fn without_sqlstate(error: &tokio_postgres::Error, stage: Stage, what: &str) -> SourceError {
    let cause = error.source().map(ToString::to_string);
    let shown = error.to_string();
    let names = |words: &str| cause.as_deref().is_some_and(|cause| cause.contains(words));
    let (kind, code, remedy): (_, _, Option<Remedy>) = match shown.as_str() {
        "authentication error" if names("channel binding") => (
            ErrorKind::Authentication,
            "authentication",
            Some(
                "the server does not bind the password to TLS: use sslmode=require or stronger, or leave \
                 channel_binding=require out"
                    .into(),
            ),
        ),
        "authentication error" if names("unsupported") => (
            ErrorKind::Authentication,
            "authentication",
            Some(
                "the server asks for a login that this client does not speak: have pg_hba.conf ask for scram-sha-256 or \
                 a certificate"
                    .into(),
            ),
        ),
        "authentication error" | "invalid configuration" => (
            ErrorKind::Authentication,
            "authentication",
            Some(Advice::NoPassword.into()),
        ),
        "connection closed" | "error communicating with the server" if stage == Stage::Connect => (
            ErrorKind::Unreachable,
            "unreachable",
            Some(
                "the server ended the connection at once; look at its log, and whether it accepts our certificate (sslcert)"
                    .into(),
            ),
        ),
        // A crashed backend ends the connection without an SQLSTATE.
        "connection closed" | "error communicating with the server" => {
            (ErrorKind::Transient, "connection_lost", None)
        }
        _ => (ErrorKind::Permanent, "protocol", Some(Advice::Protocol.into())),
    };
    let said = match cause {
        // The client says this when a login lacks something, e.g. a password.
        Some(cause) if shown == "invalid configuration" => cause,
        Some(cause) => format!("{shown}: {cause}"),
        None => shown.clone(),
    };
    SourceError { remedy, ..SourceError::of(kind, code, format!("{what}: {said}")) }
}

/// The error when no stream to the server could be opened.
pub(super) fn undialled(error: &DialError, what: &str) -> SourceError {
    error.error(what, "set `ssl = on` there")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: &str, stage: Stage) -> ErrorKind {
        classify(code, stage, Circumstances::default()).kind
    }

    #[test]
    fn every_code_of_the_table_has_its_consequence() {
        use ErrorKind::{Authentication, Changed, Exhausted, Permanent, Transient};
        let expected: [(ErrorKind, &[&str]); 5] = [
            (
                Transient,
                &[
                    "08000", "08003", "08006", "08P01", "40001", "40P01", "40003", "55P03", "55006", "57P01",
                    "57P02", "57P03", "57P05", "25P03", "58030", "57014",
                ],
            ),
            (Exhausted, &["53000", "53100", "53200", "53300"]),
            (Authentication, &["28000", "28P01"]),
            (Changed, &["72000"]),
            (
                Permanent,
                &[
                    "3D000", "3F000", "42501", "42601", "42703", "42P01", "22012", "22P02", "22003", "22021",
                    "0A000", "57P04", "XX000", "XX001", "XX002", "58P01", "54000", "53400", "25006", "25P04",
                    "P0001", "HV000", "2F005", "23505", "99999", "",
                ],
            ),
        ];
        for (kind_expected, codes) in expected {
            for code in codes {
                assert_eq!(kind(code, Stage::Question), kind_expected, "{code}");
            }
        }
    }

    #[test]
    fn a_snapshot_that_nobody_holds_is_a_lost_lineage_on_every_version() {
        for code in ["22023", "42704", "55000", "72000"] {
            assert_eq!(kind(code, Stage::Import), ErrorKind::LineageLost, "{code}");
        }
        assert_eq!(kind("22023", Stage::Setup), ErrorKind::Permanent);
    }

    #[test]
    fn what_vanished_since_the_plan_is_a_change_for_a_chunk_only() {
        for code in ["42P01", "42703", "42883", "3F000"] {
            assert_eq!(kind(code, Stage::Chunk), ErrorKind::Changed, "{code}");
            assert_eq!(kind(code, Stage::Question), ErrorKind::Permanent, "{code}");
        }
        assert_eq!(kind("42501", Stage::Chunk), ErrorKind::Permanent);
    }

    #[test]
    fn a_statement_timeout_is_permanent_and_a_cancel_by_an_admin_is_not() {
        let said = |message, statement_timeout| Circumstances { message, hint: "", statement_timeout };
        let timeout =
            classify("57014", Stage::Chunk, said("canceling statement due to statement timeout", true));
        assert_eq!(timeout.kind, ErrorKind::Permanent);
        assert_eq!(timeout.remedy, Some(Advice::StatementTimeout.into()));
        let admin = classify("57014", Stage::Chunk, said("canceling statement due to user request", true));
        assert_eq!(admin.kind, ErrorKind::Transient);
        let translated = classify("57014", Stage::Chunk, said("storniere Anfrage", false));
        assert_eq!(translated.kind, ErrorKind::Transient);
    }

    #[test]
    fn a_login_on_a_segment_is_sent_to_the_coordinator() {
        let message = "connections to primary segments are not allowed";
        let said = Circumstances { message, ..Circumstances::default() };
        let meaning = classify("57P03", Stage::Connect, said);
        assert_eq!(meaning.kind, ErrorKind::Permanent);
        assert!(format!("{:?}", meaning.remedy).contains("connect to the coordinator"));
        assert_eq!(kind("57P03", Stage::Connect), ErrorKind::Transient);
    }

    #[test]
    fn too_many_locks_are_permanent_although_memory_is_not() {
        let hint = "You might need to increase max_locks_per_transaction.";
        let said = Circumstances { message: "out of shared memory", hint, statement_timeout: false };
        assert_eq!(classify("53200", Stage::Chunk, said).kind, ErrorKind::Permanent);
        assert_eq!(kind("53200", Stage::Chunk), ErrorKind::Exhausted);
    }

    #[test]
    fn messages_that_may_hold_data_are_kept_back() {
        for class in ["22", "23", "P0", "38", "HV", "2F"] {
            assert!(!may_be_shown(class, Stage::Chunk), "{class}");
        }
        assert!(may_be_shown("22", Stage::Setup));
        assert!(may_be_shown("42", Stage::Chunk));
    }
}
