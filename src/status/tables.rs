//! Pages of tables: those of a job, and the newest export of every table.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::archives::{Archives, Exports, TableKey};
use super::picture::{Picture, TablePicture, TableState};
use crate::destination::Destination;
use crate::message::{JobId, SourceName};

/// Tables of a page.
pub const PAGE: usize = 100;

/// What to show of a list.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The page, from 1.
    pub page: u32,
    /// Only tables whose name contains this.
    pub search: Option<String>,
    /// Only tables in this state.
    pub state: Option<TableState>,
}

/// Some tables of a job.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct JobTables {
    /// The job.
    pub job_id: JobId,
    /// How many tables the job has, by state.
    pub states: Vec<StateCount>,
    /// How many tables were asked for.
    pub found: u64,
    /// The page, from 1.
    pub page: u32,
    /// How many pages there are.
    pub pages: u32,
    /// The tables of the page: those that need attention first.
    pub tables: Vec<TablePicture>,
}

/// How many tables are in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StateCount {
    /// The state.
    pub state: TableState,
    /// How many.
    pub tables: u64,
}

/// The newest exports of tables.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TablesView {
    /// When this was.
    pub at: Timestamp,
    /// How many tables were asked for.
    pub found: u64,
    /// The page, from 1.
    pub page: u32,
    /// How many pages there are.
    pub pages: u32,
    /// The tables of the page, by name.
    pub tables: Vec<ExportedTable>,
    /// Archives that are still to be read: until then, fewer tables are shown.
    pub archives_unread: u64,
}

/// The newest export of a table.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ExportedTable {
    /// `schema.table`.
    pub table: String,
    /// Its source.
    pub source: SourceName,
    /// The job of its newest export.
    pub job_id: JobId,
    /// When that job ended.
    pub exported_at: Timestamp,
    /// The moment whose rows the export has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_time: Option<Timestamp>,
    /// Seconds since that moment, or since the end of the job.
    pub age_seconds: f64,
    /// Rows.
    pub rows: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Its files.
    pub files: u32,
    /// Whether every row and column was exported.
    pub full: bool,
    /// Its directory, relative to the root.
    pub directory: String,
    /// How many exports of it are still there, at most 50.
    pub versions: u32,
    /// Whether the directory of the newest export is gone.
    pub gone: bool,
    /// The job in which the table failed after that export.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_since: Option<JobId>,
}

/// How many pages so many entries make, and which of them `page` is.
#[must_use]
pub fn paged(found: usize, size: usize, page: u32) -> (u32, u32) {
    let pages = u32::try_from(found.div_ceil(size)).unwrap_or(u32::MAX).max(1);
    (page.clamp(1, pages), pages)
}

fn contains(name: &str, search: Option<&str>) -> bool {
    search.is_none_or(|search| name.to_lowercase().contains(&search.to_lowercase()))
}

impl JobTables {
    /// The tables of a job that were asked for.
    #[must_use]
    pub fn of(job: &Picture, wanted: &Wanted) -> Self {
        let is_wanted = |t: &&TablePicture| {
            wanted.state.is_none_or(|state| t.state == state) && contains(&t.table, wanted.search.as_deref())
        };
        let mut found: Vec<&TablePicture> = job.tables.iter().filter(is_wanted).collect();
        let attention = |state| TableState::ALL.iter().position(|s| *s == state);
        found.sort_by_key(|t| (attention(t.state), t.place));
        let (page, pages) = paged(found.len(), PAGE, wanted.page);
        let of = |state| StateCount {
            state,
            tables: job.tables.iter().filter(|t| t.state == state).count() as u64,
        };
        Self {
            job_id: job.brief.job_id.clone(),
            states: TableState::ALL.into_iter().map(of).filter(|count| count.tables > 0).collect(),
            found: found.len() as u64,
            page,
            pages,
            tables: found.into_iter().skip((page as usize - 1) * PAGE).take(PAGE).cloned().collect(),
        }
    }
}

impl TablesView {
    /// The newest exports that were asked for. Only the directories of this page are looked at.
    pub async fn of(
        archives: &Arc<Archives>,
        wanted: &Wanted,
        destination: &dyn Destination,
        now: Timestamp,
    ) -> Self {
        let is_wanted = |(key, exports): &(&TableKey, &Exports)| {
            exports.newest.is_some() && contains(&key.table, wanted.search.as_deref())
        };
        let found: Vec<(&TableKey, &Exports)> = archives.tables.iter().filter(is_wanted).collect();
        let (page, pages) = paged(found.len(), PAGE, wanted.page);
        let mut tables = Vec::new();
        for (key, exports) in found.iter().skip((page as usize - 1) * PAGE).take(PAGE) {
            let Some(newest) = &exports.newest else { continue };
            let (mut versions, mut gone) = (0, false);
            for (_, directory) in &exports.directories {
                let there = destination.has(directory).await.unwrap_or(true);
                versions += u32::from(there);
                gone |= !there && *directory == newest.directory;
            }
            let since = newest.snapshot_time.unwrap_or(newest.at);
            tables.push(ExportedTable {
                table: key.table.clone(),
                source: key.source.clone(),
                job_id: newest.job.clone(),
                exported_at: newest.at,
                snapshot_time: newest.snapshot_time,
                age_seconds: now.duration_since(since).as_secs_f64().max(0.0),
                rows: newest.rows,
                bytes: newest.bytes,
                files: newest.files,
                full: newest.full,
                directory: newest.directory.clone(),
                versions,
                gone,
                failed_since: exports
                    .failed
                    .as_ref()
                    .filter(|(at, _)| *at > newest.at)
                    .map(|(_, job)| job.clone()),
            });
        }
        Self {
            at: now,
            found: found.len() as u64,
            page,
            pages,
            tables,
            archives_unread: archives.unread as u64,
        }
    }
}
