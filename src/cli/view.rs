//! Translates jobs from the folder for progress display and summary.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::progress::TableProgress;
use super::summary::Summary;
use crate::folder::files::timeline::TimelineDaemon;
use crate::job::archive::{Archive, ArchivedTable, TableStatus};
use crate::job::state::JobState;
use crate::message::presence::Doing;
use crate::status::Picture;
use crate::status::picture::{AtWork, Running};

/// The tables of a running job. `live` is what this process works on.
#[must_use]
pub fn tables(job: &JobState, live: Vec<Doing>) -> Vec<TableProgress> {
    let this = TimelineDaemon { host: String::new(), instance: Uuid::nil() };
    let running = Running::of(live.into_iter().map(|doing| AtWork { daemon: this.clone(), doing }));
    let picture = Picture::of_state(job, &running, Timestamp::now());
    // What could not be planned is told at the end.
    let planned = picture.tables.into_iter().filter(|table| table.chunks > 0);
    planned
        .map(|table| TableProgress {
            table: table.table,
            state: table.state,
            rows: table.rows,
            estimated_rows: table.estimated_rows,
            bytes: table.bytes,
            chunks_done: table.chunks_done,
            chunks: table.chunks,
        })
        .collect()
}

impl Summary {
    /// The summary of an archive.
    #[must_use]
    pub fn of_archive(archive: &Archive) -> Self {
        let told = archive.tables.iter().filter(|t| t.status != TableStatus::Cancelled);
        Self {
            job: archive.job_id.to_string(),
            status: archive.status.as_str().into(),
            duration: Duration::try_from_secs_f64(archive.performance.total_duration_seconds).ok(),
            tables: told.map(ArchivedTable::report).collect(),
            skipped: archive.skipped.iter().map(|s| (s.table.clone(), s.reason.clone())).collect(),
            error: archive.error.clone(),
            truncated: false,
        }
    }
}
