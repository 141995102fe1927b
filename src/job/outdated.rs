//! Which published directories are old versions: a pure function of the archives.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::archive::{Archive, TableStatus};
use super::outcome::FinishedFile;
use crate::message::JobId;

/// A published directory that newer exports of its table have replaced.
#[derive(Clone, Debug, PartialEq)]
pub struct Outdated {
    /// The job that published it.
    pub job: JobId,
    /// `schema.table`
    pub table: String,
    /// Directory below the root.
    pub directory: String,
    /// When its job ended.
    pub committed_at: Timestamp,
    /// Files of the directory, as they were published.
    pub files: Vec<FinishedFile>,
}

/// The versions of each table beyond its newest `keep`, if their jobs ended before `before`. Full and partial
/// exports are counted apart, and increments are never outdated. If two archives name one directory, the
/// newer archive is right: the older export was removed before.
#[must_use]
pub fn outdated(archives: &[Archive], keep: usize, before: Timestamp) -> Vec<Outdated> {
    let mut owners: HashMap<&str, Timestamp> = HashMap::new();
    let published = || {
        archives.iter().flat_map(|archive| {
            let completed = archive.tables.iter().filter(|t| t.status == TableStatus::Completed);
            completed.filter_map(move |t| Some((archive, t, t.directory.as_deref()?)))
        })
    };
    for (archive, _, directory) in published() {
        let owner = owners.entry(directory).or_insert(archive.committed_at);
        *owner = archive.committed_at.max(*owner);
    }
    let mut versions: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (archive, table, directory) in published() {
        // An increment is never outdated: no other increment has its rows.
        let is_increment = table.high_water_mark.is_some();
        if owners.get(directory) == Some(&archive.committed_at) && !is_increment {
            let key = (&archive.source, &table.table_name, &table.output_directory, table.full);
            let age = (table.snapshot_time.unwrap_or(archive.received_at), archive.committed_at);
            versions.entry(key).or_default().push((age, archive, table, directory));
        }
    }
    let mut old = Vec::new();
    for mut of_table in versions.into_values() {
        of_table.sort_by_key(|version| std::cmp::Reverse(version.0));
        let beyond = of_table.into_iter().skip(keep).filter(|(_, archive, ..)| archive.committed_at < before);
        old.extend(beyond.map(|(_, archive, table, directory)| Outdated {
            job: archive.job_id.clone(),
            table: table.table_name.clone(),
            directory: directory.to_owned(),
            committed_at: archive.committed_at,
            files: table.files.clone(),
        }));
    }
    old
}
