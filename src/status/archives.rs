//! An index of the archives: the jobs that have ended, and the exports of each table. An archive never changes, so
//! each is read once. Reading goes on where the last look stopped, the newest days first.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::details::hide_of_brief;
use super::picture::JobBrief;
use crate::folder::files::archive::{Archive, TableStatus};
use crate::folder::{Folder, FolderError};
use crate::message::SourceName;
use crate::message::request::OutputDirectory;

/// How long one look may read archives. The first look may have thousands to read.
const PATIENCE: Duration = Duration::from_millis(500);
/// Archives that the index has at most; older ones are left out.
const MOST: usize = 5000;
/// Directories of one table that are remembered.
const MOST_VERSIONS: usize = 50;

/// What the archives say.
#[derive(Clone, Debug, Default)]
pub struct Archives {
    /// Jobs by the names of their archives.
    known: HashMap<String, Arc<JobBrief>>,
    /// The exports of each table.
    pub tables: BTreeMap<TableKey, Exports>,
    /// Archives that exist and are not read yet.
    pub unread: usize,
    /// Archives that cannot be read, and why. Each look tries again, because somebody may have repaired them.
    pub damaged: BTreeMap<String, String>,
}

/// A table, and where its directories are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableKey {
    /// `schema.table`.
    pub table: String,
    /// The source.
    pub source: SourceName,
    /// Output directory of the request.
    pub output: Option<OutputDirectory>,
}

/// The exports of a table.
#[derive(Clone, Debug)]
pub struct Exports {
    /// The newest one that was published.
    pub newest: Option<Export>,
    /// Directories, the newest first.
    pub directories: Vec<(Timestamp, String)>,
    /// The job in which it failed after its newest export.
    pub failed: Option<(Timestamp, crate::message::JobId)>,
}

/// A published export of a table.
#[derive(Clone, Debug)]
pub struct Export {
    /// Its job.
    pub job: crate::message::JobId,
    /// When the job ended.
    pub at: Timestamp,
    /// The moment whose rows it has.
    pub snapshot_time: Option<Timestamp>,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// Files.
    pub files: u32,
    /// Whether every row and column was exported.
    pub full: bool,
    /// Its directory.
    pub directory: String,
}

impl Archives {
    /// Reads archives that are new, for at most half a second. `details`: errors keep the words of filters.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub async fn refresh(index: &mut Arc<Self>, folder: &Folder, details: bool) -> Result<(), FolderError> {
        let mut names = folder.archive_names().await?;
        let there: HashSet<&String> = names.iter().collect();
        if index.known.keys().any(|name| !there.contains(name)) {
            // `prune` removed some: what they said of tables is taken back by reading all again.
            *index = Arc::default();
        }
        if index.damaged.keys().any(|name| !there.contains(name)) {
            Arc::make_mut(index).damaged.retain(|name, _| there.contains(name));
        }
        names.truncate(MOST);
        names.retain(|name| !index.known.contains_key(name));
        if names.is_empty() {
            return Ok(());
        }
        Arc::make_mut(index).read(names, folder, details).await
    }

    async fn read(&mut self, names: Vec<String>, folder: &Folder, details: bool) -> Result<(), FolderError> {
        let until = Instant::now() + PATIENCE;
        self.unread = names.len();
        for name in names {
            if Instant::now() > until {
                break;
            }
            match folder.recent_archive(&name).await {
                Ok(Some(archive)) => {
                    self.add(&archive);
                    self.damaged.remove(&name);
                    let mut brief = JobBrief::of_archive(&archive);
                    if !details {
                        hide_of_brief(&mut brief, &archive.request);
                    }
                    self.known.insert(name, Arc::new(brief));
                }
                Ok(None) => continue,
                Err(e) if e.hides_all() => return Err(e),
                Err(e) => {
                    self.damaged.insert(name, e.to_string());
                }
            }
            self.unread -= 1;
        }
        Ok(())
    }

    fn add(&mut self, archive: &Archive) {
        for table in &archive.tables {
            let key = TableKey {
                table: table.table_name.clone(),
                source: archive.source.clone(),
                output: table.output_directory.clone(),
            };
            let at = archive.committed_at;
            let exports = self.tables.entry(key).or_insert_with(|| Exports {
                newest: None,
                directories: Vec::new(),
                failed: None,
            });
            match (table.status, &table.directory) {
                (TableStatus::Completed, Some(directory)) => {
                    exports.directories.push((at, directory.clone()));
                    exports.directories.sort_by(|a, b| b.cmp(a));
                    exports.directories.truncate(MOST_VERSIONS);
                    if exports.newest.as_ref().is_none_or(|newest| newest.at < at) {
                        exports.newest = Some(Export {
                            job: archive.job_id.clone(),
                            at,
                            snapshot_time: table.snapshot_time,
                            rows: table.rows,
                            bytes: table.files.iter().map(|f| f.bytes).sum(),
                            files: u32::try_from(table.files.len()).unwrap_or(u32::MAX),
                            full: table.full,
                            directory: directory.clone(),
                        });
                    }
                }
                (TableStatus::Failed, _) if exports.failed.as_ref().is_none_or(|(last, _)| *last < at) => {
                    exports.failed = Some((at, archive.job_id.clone()));
                }
                _ => {}
            }
        }
    }

    /// The jobs that have ended, the newest first.
    #[must_use]
    pub fn ended(&self) -> Vec<Arc<JobBrief>> {
        let mut jobs: Vec<Arc<JobBrief>> = self.known.values().cloned().collect();
        jobs.sort_by(|a, b| (b.committed_at, &b.job_id).cmp(&(a.committed_at, &a.job_id)));
        jobs
    }
}
