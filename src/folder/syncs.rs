//! Shared fsyncs of directories. If an fsync of a directory is running when a name is added, the caller waits
//! for the next fsync, and all callers who wait share it. A thousand names in one directory cost a few dozen
//! fsyncs.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::exclusive::sync_dir;

/// The directories that are being synced.
#[derive(Debug, Default)]
pub(super) struct DirectorySyncs {
    directories: Mutex<HashMap<PathBuf, Arc<Directory>>>,
}

#[derive(Debug, Default)]
struct Directory {
    /// Changes that have asked for an fsync.
    asked: Mutex<u64>,
    synced: Mutex<Synced>,
}

#[derive(Debug, Default)]
struct Synced {
    /// All changes up to this number have had their fsync.
    upto: u64,
    /// The ranges of changes whose fsync failed: (after this number, up to this number, error).
    failed: Vec<(u64, u64, io::ErrorKind, String)>,
}

impl DirectorySyncs {
    /// Makes all present names of the directory durable. Blocks.
    ///
    /// # Errors
    /// When the directory cannot be opened or synced. Every caller that shared the fsync gets the error,
    /// because the kernel reports it only once.
    pub(super) fn sync(&self, path: &Path) -> io::Result<()> {
        self.sync_by(path, sync_dir)
    }

    fn sync_by(&self, path: &Path, fsync: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        let directory = lock(&self.directories).entry(path.to_owned()).or_default().clone();
        let change = {
            let mut asked = lock(&directory.asked);
            *asked += 1;
            *asked
        };
        let result = directory.sync(change, || fsync(path));
        let mut directories = lock(&self.directories);
        // Only this map and this call hold the directory: nobody else waits.
        if Arc::strong_count(&directory) == 2 {
            directories.remove(path);
        }
        result
    }
}

impl Directory {
    fn sync(&self, change: u64, fsync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut synced = lock(&self.synced);
        if synced.upto < change {
            // Everyone who has asked by now made its change before this fsync.
            let upto = *lock(&self.asked);
            if let Err(e) = fsync() {
                let from = synced.upto;
                synced.failed.push((from, upto, e.kind(), e.to_string()));
            }
            synced.upto = upto;
        }
        match synced.failed.iter().find(|(from, upto, ..)| (from + 1..=*upto).contains(&change)) {
            Some((_, _, kind, why)) => Err(io::Error::new(*kind, why.clone())),
            None => Ok(()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Holds the first fsync while `others` more callers ask. Returns the result of each caller and the
    /// number of fsyncs.
    fn together(others: usize, second: fn() -> io::Result<()>) -> (Vec<io::Result<()>>, usize) {
        let syncs = DirectorySyncs::default();
        let path = Path::new("/somewhere");
        let (begun, released) = (Barrier::new(2), Barrier::new(2));
        let calls = Mutex::new(0);
        let results = thread::scope(|scope| {
            let first = scope.spawn(|| {
                syncs.sync_by(path, |_| {
                    *lock(&calls) += 1;
                    begun.wait();
                    released.wait();
                    Ok(())
                })
            });
            begun.wait();
            let waiting: Vec<_> = (0..others)
                .map(|_| {
                    scope.spawn(|| {
                        syncs.sync_by(path, |_| {
                            *lock(&calls) += 1;
                            second()
                        })
                    })
                })
                .collect();
            let asked = || *lock(&lock(&syncs.directories)[path].asked);
            while asked() < others as u64 + 1 {
                thread::sleep(Duration::from_millis(1));
            }
            released.wait();
            std::iter::once(first).chain(waiting).map(|t| t.join().expect("no panic")).collect()
        });
        assert!(lock(&syncs.directories).is_empty(), "a directory that nobody syncs is forgotten");
        (results, calls.into_inner().expect("no panic"))
    }

    #[test]
    fn those_who_come_while_one_runs_share_the_next() {
        let (results, calls) = together(8, || Ok(()));
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(calls, 2, "one that ran, which may have missed their names, and one for all of them");
    }

    #[test]
    fn all_who_shared_it_hear_of_its_failure() {
        let (results, calls) = together(3, || Err(io::ErrorKind::StorageFull.into()));
        assert_eq!(calls, 2);
        assert!(results[0].is_ok(), "the one before did not fail");
        for result in &results[1..] {
            assert_eq!(result.as_ref().map_err(io::Error::kind), Err(io::ErrorKind::StorageFull));
        }
    }
}
