//! The newest full export of each table, which its destination shows readers (`.latest`); repaired at every look.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use jiff::Timestamp;

use super::archive::{Archive, TableStatus};
use crate::destination::Destination;
use crate::folder::{Folder, FolderError};
use crate::message::JobId;

/// Views that are looked at at once: they share their fsyncs.
const VIEWS_AT_ONCE: usize = 16;

/// What is known of finished full exports, by output directory and base name.
#[derive(Debug, Default)]
pub struct Latest {
    seen: BTreeSet<JobId>,
    newest: BTreeMap<(String, String), Export>,
}

/// A full export: newer snapshots first, then later commits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Export {
    snapshot: Timestamp,
    committed: Timestamp,
    directory: String,
}

impl Latest {
    /// Takes an archive in; returns the views that may have to move.
    pub fn learn(&mut self, archive: &Archive) -> Vec<(String, String)> {
        self.seen.insert(archive.job_id.clone());
        let mut touched = Vec::new();
        for table in &archive.tables {
            let Some(directory) = &table.directory else { continue };
            if !table.full || table.status != TableStatus::Completed {
                continue;
            }
            let export = Export {
                snapshot: table.snapshot_time.unwrap_or(archive.received_at),
                committed: archive.committed_at,
                directory: directory.clone(),
            };
            let key = (table.output_directory.clone(), table.base.clone());
            if self.newest.get(&key).is_none_or(|known| *known < export) {
                self.newest.insert(key.clone(), export);
                touched.push(key);
            }
        }
        touched
    }

    /// Learns of archives that other coordinators wrote, and points every view
    /// that is not where it should be. A new coordinator reads them all here, for
    /// a while where there are many: `beat` says that it moves.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn repair(
        &mut self,
        folder: &Folder,
        destination: &dyn Destination,
        beat: &(dyn Fn() + Send + Sync),
    ) -> Result<(), FolderError> {
        // After each change look again: another coordinator may have finished a newer one.
        loop {
            let mut touched = Vec::new();
            for job in folder.archived().await? {
                if self.seen.contains(&job) {
                    continue;
                }
                beat();
                match folder.job(&job).archive().await {
                    Ok(Some(archive)) => touched.extend(self.learn(&archive)),
                    Ok(None) => {}
                    Err(e @ FolderError::Unreadable { .. }) => {
                        tracing::warn!(error = %e, "an archive is left out of `.latest`");
                        self.seen.insert(job);
                    }
                    Err(e) => return Err(e),
                }
            }
            let keys: Vec<_> = self.newest.keys().collect();
            let (mut moved, mut failed) = (false, None);
            for some in keys.chunks(VIEWS_AT_ONCE) {
                beat();
                for pointed in join_all(some.iter().map(|key| self.point(destination, key))).await {
                    match pointed {
                        Ok(now) => moved |= now,
                        // The others do not wait for it.
                        Err(e) => failed = Some(e),
                    }
                }
            }
            if let Some(e) = failed {
                return Err(e);
            }
            if !moved && touched.is_empty() {
                return Ok(());
            }
        }
    }

    /// Points one view at its newest export; true if it had to move.
    async fn point(
        &self,
        destination: &dyn Destination,
        key: &(String, String),
    ) -> Result<bool, FolderError> {
        let Some(export) = self.newest.get(key) else { return Ok(false) };
        let (directory, base) = key;
        destination.point(directory, base, &export.directory).await
    }
}
