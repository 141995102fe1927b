//! The newest full export of each table. The destination shows it to readers (`.latest`). The coordinator
//! repairs `.latest` at every look.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use jiff::Timestamp;

use super::archive::{Archive, TableStatus};
use crate::destination::Destination;
use crate::folder::{Folder, FolderError};
use crate::message::JobId;
use crate::message::request::OutputDirectory;

/// Links that are checked at once: they share their fsyncs.
const VIEWS_AT_ONCE: usize = 16;

/// The newest full exports, by output directory and base name.
#[derive(Debug, Default)]
pub struct Latest {
    seen: BTreeSet<JobId>,
    newest: BTreeMap<Link, Export>,
}

/// An output directory and a base name.
type Link = (Option<OutputDirectory>, String);

/// A full export. The order puts newer snapshots first, then later commits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Export {
    snapshot: Timestamp,
    committed: Timestamp,
    directory: String,
}

impl Latest {
    /// Learns of an archive. Returns the links that may have to change.
    pub fn learn(&mut self, archive: &Archive) -> Vec<Link> {
        self.seen.insert(archive.job_id.clone());
        let mut touched = Vec::new();
        for table in &archive.tables {
            let (Some(directory), Some(base)) = (&table.directory, &table.base) else { continue };
            if !table.full || table.status != TableStatus::Completed {
                continue;
            }
            let export = Export {
                snapshot: table.snapshot_time.unwrap_or(archive.received_at),
                committed: archive.committed_at,
                directory: directory.clone(),
            };
            let key = (table.output_directory.clone(), base.clone());
            if self.newest.get(&key).is_none_or(|known| *known < export) {
                self.newest.insert(key.clone(), export);
                touched.push(key);
            }
        }
        touched
    }

    /// Learns of archives that other coordinators wrote, and corrects every link that does not point at the
    /// newest export. A new coordinator reads all archives here, which may take a while: `beat` tells that it
    /// moves.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn repair(
        &mut self,
        folder: &Folder,
        destination: &dyn Destination,
        beat: &(dyn Fn() + Send + Sync),
    ) -> Result<(), FolderError> {
        // Look again after each change: another coordinator may have finished a newer export.
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
                        // The other links do not wait for this one.
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

    /// Points one link at its newest export. True if the link changed.
    async fn point(&self, destination: &dyn Destination, key: &Link) -> Result<bool, FolderError> {
        let Some(export) = self.newest.get(key) else { return Ok(false) };
        let (output, base) = key;
        destination.point(output.as_ref(), base, &export.directory).await
    }
}
