//! The content of the export folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

/// An export root.
pub(crate) struct Exports(pub(crate) PathBuf);

impl Exports {
    /// Published directories relative to the root: every directory that has files and is not hidden.
    pub(crate) fn directories(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        self.walk(&self.0, &mut found);
        found
    }

    fn walk(&self, directory: &Path, found: &mut BTreeSet<String>) {
        for path in entries(directory) {
            let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
            if hidden || !path.is_dir() || path.is_symlink() {
                continue;
            }
            let is_partition = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().contains('='));
            let partitioned = entries(&path).iter().any(is_partition);
            if partitioned || entries(&path).iter().any(|p| p.is_file()) {
                let name = path.strip_prefix(&self.0).expect("below the root");
                found.insert(name.to_string_lossy().into_owned());
            }
            if !partitioned {
                self.walk(&path, found);
            }
        }
    }

    /// The files of a published directory, also of partitions in it, by their paths below it.
    pub(crate) fn files(&self, directory: &str) -> Vec<String> {
        let mut found = Vec::new();
        for name in self.names(directory) {
            let path = format!("{directory}/{name}");
            match self.0.join(&path).is_dir() {
                true => found.extend(self.files(&path).into_iter().map(|below| format!("{name}/{below}"))),
                false => found.push(name),
            }
        }
        found
    }

    /// A published directory.
    pub(crate) fn path(&self, directory: &str) -> PathBuf {
        self.0.join(directory)
    }

    /// The names in a directory.
    pub(crate) fn names(&self, directory: &str) -> Vec<String> {
        let name = |p: PathBuf| p.file_name().map(|n| n.to_string_lossy().into_owned());
        entries(&self.0.join(directory)).into_iter().filter_map(name).collect()
    }

    /// Workspaces and trash. They are empty when every job has ended.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut left = self.names(".temp");
        left.retain(|name| name != "trash");
        left.extend(self.names(".temp/trash"));
        left
    }

    /// The plan of an epoch of a job, once it is there.
    pub(crate) fn plan(&self, job: &str, epoch: u32) -> Option<Value> {
        let path = self.0.join(format!(".temp/job_{job}/plans/e{epoch}.json"));
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// The archive of a job, if it exists.
    pub(crate) fn find_archive(&self, job: &str) -> Option<Value> {
        let text = std::fs::read(self.0.join(format!(".archive/by-id/{job}.json"))).ok()?;
        Some(serde_json::from_slice(&text).expect("an archive is JSON, and whole"))
    }

    /// The archive of a job.
    #[track_caller]
    pub(crate) fn archive(&self, job: &str) -> Value {
        self.find_archive(job).unwrap_or_else(|| panic!("{job} has no archive"))
    }

    /// The archives of all jobs.
    pub(crate) fn archives(&self) -> Vec<Value> {
        self.jobs().iter().map(|job| self.archive(job)).collect()
    }

    /// All jobs that have an archive.
    pub(crate) fn jobs(&self) -> Vec<String> {
        let names = self.names(".archive/by-id");
        names.iter().filter_map(|name| name.strip_suffix(".json")).map(str::to_owned).collect()
    }

    /// The directory that `.latest/<base>` points to, relative to the root.
    pub(crate) fn latest(&self, base: &str) -> Option<String> {
        let target = std::fs::read_link(self.0.join(".latest").join(base)).ok()?;
        Some(target.to_string_lossy().strip_prefix("../").expect("relative to .latest").to_owned())
    }

    /// A fingerprint of a directory: names, contents and times of its files.
    pub(crate) fn fingerprint(&self, directory: &str) -> Vec<String> {
        let print = |path: PathBuf| {
            let changed = path.metadata().and_then(|m| m.modified()).expect("metadata");
            format!("{} {} {changed:?}", path.display(), sha256(&path))
        };
        entries(&self.0.join(directory)).into_iter().map(print).collect()
    }
}

/// The SHA-256 of a file in lower-case hex.
pub(crate) fn sha256(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The sorted paths in a directory; empty if the directory does not exist.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let Ok(read) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = read.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.sort();
    paths
}
