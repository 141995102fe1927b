//! The table that maps Vertica's errors to what the program does (retry, give up, plan again) and to what an
//! operator should change. Codes: <https://docs.vertica.com/24.2.x/en/error-messages>.
//!
//! Only the primary message of an error is passed on, and only if it cannot contain table data. Details and
//! messages of data exceptions and of user-written functions may contain rows.

use crate::config::Advice;
use crate::source::dial::DialError;
use crate::source::sql::meaning::{Meaning, bare, meaning};
use crate::source::{ErrorKind, Refusal, SourceError};

/// What was being done. The same SQLSTATE means different things at different stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Connecting, before any table is read.
    Connect,
    /// Settings of a session. The server has read no row yet, so messages cannot contain data.
    Setup,
    /// Choosing the resource pool of a session. No row was read yet either.
    Pool,
    /// Questions of planning: catalogue, boundaries, counts.
    Question,
    /// Reading a chunk. Its table existed when it was planned.
    Chunk,
}

/// The server's own numbers of errors whose SQLSTATE says too little.
mod number {
    /// "Can't run historical queries at epochs prior to the Ancient History Mark".
    pub(super) const BEFORE_AHM: u32 = 2318;
    /// "Epoch specified is not in historical epoch range".
    pub(super) const NOT_HISTORICAL: u32 = 3184;
    /// "DDL interfered with this statement".
    pub(super) const DDL_INTERFERED: u32 = 3000;
    /// "New session rejected due to limit".
    pub(super) const NO_SESSION_LEFT: u32 = 4060;
    /// "TLS is required for this connection".
    pub(super) const TLS_REQUIRED: u32 = 6915;
}

/// The table. Numbers come first, then single codes, then classes of codes.
fn classify(said: &Said, stage: Stage) -> Meaning {
    use ErrorKind::{Authentication, Changed, Exhausted, LineageLost, Permanent, Transient};
    let code = said.code.as_str();
    let class = code.get(..2).unwrap_or_default();
    match (class, code, said.number) {
        (_, _, Some(number::BEFORE_AHM | number::NOT_HISTORICAL)) => meaning(
            LineageLost,
            "the server removed the history of the server epoch that the job reads: raise HistoryRetentionTime, or export less at once",
        ),
        (_, _, Some(number::DDL_INTERFERED)) => bare(Changed),
        (_, "53300", _) | (_, _, Some(number::NO_SESSION_LEFT)) => meaning(Exhausted, Advice::Sessions),
        // Other errors of epochs.
        (_, "22V21", _) => bare(LineageLost),

        // The table differs from the plan.
        (_, "42V01" | "42703" | "42704" | "42883" | "42804" | "42846" | "3F000", _)
            if stage == Stage::Chunk =>
        {
            bare(Changed)
        }
        ("22" | "42" | "0A", _, _) if stage == Stage::Pool => meaning(Permanent, Advice::ResourcePool),
        ("22" | "42", _, _) if stage == Stage::Setup => meaning(
            Permanent,
            "the server refuses a setting that every export makes; it may be older or newer than this program knows",
        ),

        // Nodes that leave or join the cluster, and projections that must recover.
        (_, "V1001" | "V1003", _) => {
            meaning(Transient, "a node left or joined the cluster; look at v_catalog.nodes")
        }
        ("V1", _, _) => {
            meaning(Permanent, "too many nodes are down: the rest cannot answer; look at v_catalog.nodes")
        }
        ("08", _, _) => bare(Transient),
        ("40", _, _) => bare(Transient),
        (_, "55V03", _) => meaning(Transient, Advice::Lock),
        (_, "55006" | "55V04", _) => bare(Transient),
        (_, _, _) if said.exceeds_run_time() => meaning(
            Permanent,
            "raise the RUNTIMECAP of the user or of its resource pool, or read less at once (smaller chunk_rows)",
        ),
        (_, "57014", _) => meaning(
            Transient,
            "the statement was ended on the server by somebody (INTERRUPT_STATEMENT, CLOSE_SESSION)",
        ),
        // Shutdowns, crashes, and starts that are not finished.
        ("57", _, _) => bare(Transient),
        (_, "58030", _) => meaning(Transient, "the server had an I/O error; look at its log and disks"),
        ("53", _, _) => meaning(Exhausted, Advice::Resources),

        (_, _, Some(number::TLS_REQUIRED)) => meaning(Authentication, Advice::TlsOnly),
        ("28", _, _) | (_, "V2000", _) => meaning(Authentication, Advice::Login),
        (_, "V2001", _) => {
            meaning(Permanent, "the server's license does not allow this; ask its administrator")
        }
        (_, "3D000", _) => meaning(Permanent, Advice::Database),
        (_, "42501", _) => meaning(
            Permanent,
            "grant the user what the message names: USAGE on a schema, SELECT on a table or view, EXECUTE on a \
             function, USAGE on a resource pool",
        ),
        (_, "42V01" | "42703" | "3F000", _) => meaning(Permanent, "correct the name in the request"),
        ("42", _, _) => meaning(Permanent, Advice::Query),
        ("22", _, _) => meaning(Permanent, "a value cannot be computed as the filter or view demands"),
        ("25", _, _) => bare(Permanent),
        ("0A" | "3F", _, _) => bare(Permanent),
        ("54", _, _) => {
            meaning(Permanent, "a row or statement is too large for the server; leave its widest column out")
        }
        (_, "VX001", _) => bare(Permanent),
        ("VX", _, _) | (_, "58V01", _) => meaning(
            Permanent,
            "the server found damaged data: restore the table from a backup or repair it, then export again",
        ),
        // Functions, external tables, and codes of later servers.
        _ => bare(Permanent),
    }
}

/// What exactly an SQLSTATE refuses, if the program acts on it.
fn refusal(code: &str) -> Option<Refusal> {
    match (code.get(..2).unwrap_or_default(), code) {
        (_, "22V21") => None,
        ("22", _) => Some(Refusal::Value),
        ("0A", _) => Some(Refusal::Unsupported),
        (_, "55V03") => Some(Refusal::Lock),
        _ => None,
    }
}

/// Whether the primary message may be shown.
fn may_be_shown(code: &str, stage: Stage) -> bool {
    match stage {
        Stage::Connect | Stage::Setup | Stage::Pool => true,
        Stage::Question | Stage::Chunk => {
            code == "22V21"
                || matches!(
                    code.get(..2).unwrap_or_default(),
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
                        | "V1"
                        | "V2"
                        | "VX"
                )
        }
    }
}

/// An error as the server's message says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// ERROR, ROLLBACK, FATAL, PANIC, …
    pub(super) severity: String,
    /// The SQLSTATE.
    pub(super) code: String,
    /// The server's own number of the error.
    pub(super) number: Option<u32>,
    pub(super) message: String,
}

impl Said {
    /// The error of a call. `what` names the action and the object.
    pub(super) fn error(&self, stage: Stage, what: &str) -> SourceError {
        let Self { code, number, message, .. } = self;
        let number = number.map(|number| format!(" (error {number})")).unwrap_or_default();
        let told = may_be_shown(code, stage).then_some(message.as_str());
        classify(self, stage).error(code, what, told, &number, refusal(code))
    }

    /// Whether a statement ran for longer than the server lets it (RUNTIMECAP). It would do so again.
    fn exceeds_run_time(&self) -> bool {
        let message = self.message.to_lowercase();
        message.contains("run time cap") || message.contains("runtimecap")
    }

    /// Whether the session is over.
    pub(super) fn ends_session(&self) -> bool {
        matches!(self.severity.as_str(), "FATAL" | "PANIC")
    }
}

/// The error when no stream to the server could be opened.
pub(super) fn undialled(error: &DialError, what: &str) -> SourceError {
    error.error(what, "give its TLS configuration \"server\" a certificate and a TLSMODE")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: &str, number: Option<u32>) -> Said {
        Said { severity: "ERROR".into(), code: code.into(), number, message: "row 'secret'".into() }
    }

    #[test]
    fn every_code_of_the_table_has_its_consequence() {
        use ErrorKind::{Authentication, Exhausted, LineageLost, Permanent, Transient};
        let expected: [(ErrorKind, &[&str]); 5] = [
            (
                Transient,
                &[
                    "08000", "08003", "08006", "40001", "40V01", "55V03", "55006", "55V04", "57014", "57V01",
                    "57V02", "57V03", "57V04", "58030", "V1001", "V1003",
                ],
            ),
            (Exhausted, &["53000", "53100", "53200", "53300"]),
            (Authentication, &["28000", "28001", "V2000"]),
            (LineageLost, &["22V21"]),
            (
                Permanent,
                &[
                    "3D000", "3F000", "42501", "42601", "42703", "42V01", "22012", "22V02", "22003", "22007",
                    "0A000", "V1002", "V2001", "VX001", "VX002", "58V01", "54000", "P0001", "VP000", "99999",
                    "",
                ],
            ),
        ];
        for (kind, codes) in expected {
            for code in codes {
                assert_eq!(classify(&said(code, None), Stage::Question).kind, kind, "{code}");
            }
        }
    }

    #[test]
    fn a_refused_pool_or_login_says_what_to_change() {
        let remedy = |code: &str, number, stage| classify(&said(code, number), stage).remedy;
        for code in ["42704", "42501", "42601", "22023"] {
            assert_eq!(remedy(code, Some(4591), Stage::Pool), Some(Advice::ResourcePool.into()), "{code}");
        }
        assert_eq!(remedy("28000", Some(3781), Stage::Connect), Some(Advice::Login.into()));
        assert_eq!(remedy("28000", Some(number::TLS_REQUIRED), Stage::Connect), Some(Advice::TlsOnly.into()));
    }

    #[test]
    fn what_vanished_since_the_plan_is_a_change_for_a_chunk_only() {
        for code in ["42V01", "42703", "42883", "3F000"] {
            assert_eq!(classify(&said(code, None), Stage::Chunk).kind, ErrorKind::Changed, "{code}");
            assert_eq!(classify(&said(code, None), Stage::Question).kind, ErrorKind::Permanent, "{code}");
        }
        assert_eq!(classify(&said("42501", None), Stage::Chunk).kind, ErrorKind::Permanent);
    }

    #[test]
    fn numbers_tell_what_the_sqlstate_does_not() {
        let kind = |number| classify(&said("22V21", Some(number)), Stage::Chunk).kind;
        assert_eq!(kind(number::BEFORE_AHM), ErrorKind::LineageLost);
        assert_eq!(kind(number::DDL_INTERFERED), ErrorKind::Changed);
        let full = classify(&said("57V03", Some(number::NO_SESSION_LEFT)), Stage::Connect);
        assert_eq!(full.kind, ErrorKind::Exhausted);
    }

    #[test]
    fn a_statement_that_runs_too_long_is_not_tried_for_ever() {
        let message = "Execution time exceeded run time cap of 00:00:10".to_owned();
        let said = Said { message, ..said("57014", Some(3326)) };
        let error = said.error(Stage::Chunk, "read s.t");
        assert_eq!(error.kind, ErrorKind::Permanent);
        assert!(error.message.contains("run time cap"), "{error}");
        assert!(matches!(&error.remedy, Some(remedy) if format!("{remedy:?}").contains("RUNTIMECAP")));
    }

    #[test]
    fn messages_that_may_hold_data_are_kept_back() {
        for code in ["22012", "23505", "P0001", "VP000", "99999", ""] {
            let error = said(code, Some(1)).error(Stage::Chunk, "read s.t");
            assert!(!error.message.contains("secret"), "{code}: {error}");
        }
        let shown = said("42601", Some(4856)).error(Stage::Chunk, "read s.t");
        assert_eq!(shown.message, "read s.t: row 'secret' (error 4856)");
        let unnumbered = said("42601", None).error(Stage::Setup, "set");
        assert_eq!(unnumbered.message, "set: row 'secret'");
    }
}
