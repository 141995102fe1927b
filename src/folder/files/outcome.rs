//! The request, the cancel and the outcomes of a job, as files in its workspace.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::record::Cause;
use crate::message::event::{ErrorReport, PagesRead};
use crate::message::{Caller, ExportRequest, JobId, SourceName, TableNo};

/// `request.json`: the job as it was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredRequest {
    /// Version of the format.
    pub v: u32,
    /// The job.
    pub job: JobId,
    /// The source, resolved.
    pub source: SourceName,
    /// The parsed request.
    pub request: ExportRequest,
    /// SHA-256 of the body.
    pub body_sha256: String,
    /// When it was stored.
    pub received_at: Timestamp,
    /// Who asked, and where the answer goes.
    #[serde(flatten)]
    pub caller: Caller,
    /// The owner of the workspace.
    pub owner: Owner,
    /// The job whose failed tables this job exports again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<JobId>,
}

/// Hexadecimal SHA-256 of a message's body.
#[must_use]
pub fn sha256(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
}

/// A job that somebody asks for. It becomes a [`StoredRequest`] when an owner takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    /// The job.
    pub job: JobId,
    /// The source, resolved.
    pub source: SourceName,
    /// The parsed request.
    pub request: ExportRequest,
    /// SHA-256 of the body.
    pub body_sha256: String,
    /// Who asks, and where the answer goes.
    pub caller: Caller,
    /// The job whose failed tables this one exports again.
    pub retry_of: Option<JobId>,
}

impl NewJob {
    /// A job that was not asked for by a message.
    #[must_use]
    pub fn new(job: JobId, source: SourceName, request: ExportRequest) -> Self {
        let body = serde_json::to_vec(&request).expect("a request can be written as JSON");
        Self { job, source, request, body_sha256: sha256(&body), caller: Caller::default(), retry_of: None }
    }

    /// The job as its owner stores it.
    #[must_use]
    pub fn taken(self, owner: Owner, received_at: Timestamp) -> StoredRequest {
        let Self { job, source, request, body_sha256, caller, retry_of } = self;
        let v = crate::folder::VERSION;
        StoredRequest { v, job, source, request, body_sha256, received_at, caller, owner, retry_of }
    }
}

/// The owner of a workspace. Daemons leave the workspaces of other owners alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", from = "StoredOwner")]
pub enum Owner {
    /// The daemons of a prefix on a virtual host.
    Daemons {
        /// Virtual host of the broker.
        vhost: String,
        /// Prefix of all names there.
        prefix: String,
    },
    /// A one-shot export.
    OneShot(Run),
    /// A one-shot export of an older release, which did not write down which run it was.
    #[serde(rename = "one_shot")]
    UnknownRun,
}

/// A one-shot export: the run that stored the request, and the runs that resume it. Two such exports in one
/// folder leave each other's jobs alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Identity of the export, which the first run makes.
    pub id: Uuid,
    /// User, hosts, ports and database that the export reads. A run that reads another server does not resume
    /// the export.
    pub server: String,
}

/// An owner as any release wrote it. Older releases did not write the run of a one-shot export, or wrote
/// `nobody` for it.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
enum StoredOwner {
    Nobody,
    Daemons { vhost: String, prefix: String },
    OneShot { id: Option<Uuid>, server: Option<String> },
}

impl From<StoredOwner> for Owner {
    fn from(stored: StoredOwner) -> Self {
        match stored {
            StoredOwner::Daemons { vhost, prefix } => Self::Daemons { vhost, prefix },
            StoredOwner::OneShot { id: Some(id), server: Some(server) } => Self::OneShot(Run { id, server }),
            StoredOwner::OneShot { .. } | StoredOwner::Nobody => Self::UnknownRun,
        }
    }
}

/// `cancel.json`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelMark {
    /// Version of the format.
    pub v: u32,
    /// Why the job is cancelled.
    pub why: CancelCause,
    /// Who asked, if a person or program did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When the job was cancelled.
    pub at: Timestamp,
}

/// Why a job is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelCause {
    /// Somebody asked.
    Request,
    /// Its deadline passed.
    Deadline,
    /// Its snapshot held back vacuum for too long.
    MaxSnapshotAge,
}

impl CancelMark {
    /// The cancel as events report it.
    #[must_use]
    pub fn report(&self) -> ErrorReport {
        let (code, message, remedy) = match self.why {
            CancelCause::Request => ("cancelled", "the job was cancelled on request", None),
            CancelCause::Deadline => {
                ("deadline", "the job did not finish within its deadline", Some("allow a longer `deadline`"))
            }
            CancelCause::MaxSnapshotAge => (
                "max_snapshot_age",
                "the job's snapshot grew older than the source's max_snapshot_age",
                Some("raise max_snapshot_age, add daemons, or export fewer tables at once"),
            ),
        };
        ErrorReport {
            code: code.into(),
            message: message.into(),
            remedy: remedy.map(Into::into),
            retryable: true,
        }
    }
}

/// `plans/eN.fail-<uuid>.json`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanFailure {
    /// Version of the format.
    pub v: u32,
    /// Why the epoch cannot be planned.
    pub error: ErrorReport,
}

/// `tables/<t>.e<N>.outcome.json`: written after all tables of the batch are published or discarded, and
/// before any event. The file is exclusive: the first one counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Version of the format.
    pub v: u32,
    /// When the outcome was written.
    pub at: Timestamp,
    /// The result of every table of the batch.
    pub tables: Vec<TableOutcome>,
}

/// The result of one table of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableOutcome {
    /// Number of the table.
    pub table: TableNo,
    /// Result of the table.
    #[serde(flatten)]
    pub result: TableResult,
}

/// The result of a table in one epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum TableResult {
    /// The table is published in a directory.
    Published {
        /// The directory below the root.
        directory: String,
        /// The files in key order.
        files: Vec<FinishedFile>,
        /// How many pages were read, if it was read by pages.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pages: Option<PagesRead>,
    },
    /// The table failed.
    Failed {
        /// Why the table failed.
        error: ErrorReport,
    },
    /// The job was cancelled before the table was complete.
    Cancelled,
    /// The table is given up in this epoch and planned again in a later one.
    Abandoned {
        /// Why the table is given up.
        #[serde(flatten)]
        cause: Cause,
    },
}

/// A file of a finished directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FinishedFile {
    /// `part-000017.parquet`
    pub file: String,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 in hex.
    pub sha256: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_an_older_one_shot_export_reads_as_an_unknown_run() {
        for old in [r#"{"kind":"one_shot"}"#, r#"{"kind":"nobody"}"#] {
            assert_eq!(serde_json::from_str::<Owner>(old).expect("readable"), Owner::UnknownRun);
        }
        let run = Owner::OneShot(Run { id: Uuid::from_u128(7), server: "u@h:5433/d".into() });
        for owner in [run, Owner::UnknownRun] {
            let text = serde_json::to_string(&owner).expect("JSON");
            assert_eq!(serde_json::from_str::<Owner>(&text).expect("readable"), owner, "{text}");
        }
    }
}
