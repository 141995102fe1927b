//! Looks at a job before the daemons are asked to cancel or retry it. If the job has ended, its end is
//! printed at once from its archive.

use serde_json::{Value, json};

use super::ExitCode;
use super::summary::Summary;
use crate::config::Config;
use crate::folder::Folder;
use crate::intake::{Known, RequestedAction, Step, decide};
use crate::job::archive::Archive;
use crate::job::outcome::Owner;
use crate::message::JobId;
use crate::message::event::ErrorReport;

/// What the export folder says of a job.
#[derive(Debug)]
pub(super) enum Standing {
    /// The daemons decide: the job runs, or the request can be carried out.
    Open,
    /// The folder is visible here and does not know the job. The job's request may still wait in the queue.
    Unknown(String),
    /// The job has ended.
    Ended(Box<Archive>),
    /// The request cannot be carried out.
    Refused(ErrorReport),
}

/// Looks at the folder, if the folder is visible here.
pub(super) async fn standing(config: &Config, action: &RequestedAction, job: &JobId) -> Standing {
    let Ok(folder) = Folder::open(config.export.root.clone(), None).await else { return Standing::Open };
    let is_daemons = |owner: &Owner| matches!(owner, Owner::Daemons { .. });
    let Ok(known) = Known::look(&folder, job, is_daemons).await else { return Standing::Open };
    if let Known::Nothing = known {
        return match folder.job(job).exists().await {
            Ok(false) => Standing::Unknown(folder.root().display().to_string()),
            _ => Standing::Open,
        };
    }
    match (decide(action, &known), known) {
        (Step::TellEnd(_), Known::Ended(archive)) => Standing::Ended(archive),
        (Step::Reject(error), _) => Standing::Refused(error),
        _ => Standing::Open,
    }
}

/// One line: how and when the job ended, and where its archive is.
pub(super) fn line(archive: &Archive) -> String {
    format!(
        "job {} has ended before: {} at {:.0}, its archive is {}",
        archive.job_id,
        archive.status.as_str(),
        archive.committed_at,
        archive.path()
    )
}

/// The end of a job as a person reads it.
pub(super) fn text(archive: &Archive) -> String {
    format!("{}\n{}", Summary::of_archive(archive).to_string().trim_end(), line(archive))
        .trim_start()
        .to_owned()
}

/// The end of a job as JSON.
pub(super) fn json(archive: &Archive) -> Value {
    json!({
        "job_id": archive.job_id,
        "status": archive.status,
        "committed_at": archive.committed_at,
        "archive": archive.path(),
        "error": archive.error,
    })
}

/// The exit code of a cancel, given the end of its job: a job that ended otherwise was not cancelled.
pub(super) fn code_of_cancel(code: ExitCode) -> ExitCode {
    match code {
        ExitCode::Cancelled => ExitCode::Done,
        ExitCode::Done | ExitCode::Partial | ExitCode::Failed => ExitCode::Rejected,
        other => other,
    }
}
