//! Looks at the export folder for those who watch. One look serves all of them, and a look reads only what is new.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::archives::Archives;
use crate::folder::files::outcome::Owner;
use crate::folder::{Folder, FolderError};
use crate::job::look::{self, OpenedJob};
use crate::job::state::JobState;
use crate::message::JobId;

/// A look that is younger is good enough.
const FRESH: Duration = Duration::from_secs(1);
/// After a look that took long, this many times its duration pass before the next one.
const REST: u32 = 5;
/// How long a caller waits for a look.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// When nobody has watched for this long, what is known of running jobs is forgotten.
const FORGET: Duration = Duration::from_secs(300);

/// The folder as one look found it.
pub struct Look {
    /// The jobs that have a workspace of ours.
    pub jobs: BTreeMap<JobId, JobState>,
    /// What the archives say.
    pub archives: Arc<Archives>,
    /// Workspaces that cannot be read, and why.
    pub damaged: BTreeMap<JobId, String>,
    fresh_until: Option<Instant>,
    wanted: Instant,
}

/// Keeps the last look.
pub struct Looker {
    folder: Folder,
    owner: Owner,
    /// Whether errors keep the words of filters.
    details: bool,
    last: Arc<Mutex<Look>>,
}

/// Why nothing can be shown of the folder.
#[derive(Debug, thiserror::Error)]
pub enum Blind {
    /// The folder refuses.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The folder is slow, or there is much to read. The look goes on.
    #[error("the export folder is still being read; look again in a moment")]
    Slow,
}

impl Looker {
    /// Nothing is looked at before somebody asks.
    #[must_use]
    pub fn new(folder: Folder, owner: Owner, details: bool) -> Self {
        let last = Look {
            jobs: BTreeMap::new(),
            archives: Arc::default(),
            damaged: BTreeMap::new(),
            fresh_until: None,
            wanted: Instant::now(),
        };
        Self { folder, owner, details, last: Arc::new(Mutex::new(last)) }
    }

    /// Shows the folder as it is now, or was a moment ago.
    ///
    /// # Errors
    /// When the folder refuses, or does not answer soon.
    pub async fn look<T>(&self, show: impl FnOnce(&Look) -> T) -> Result<T, Blind> {
        let until = Instant::now() + PATIENCE;
        let slow = |_| Blind::Slow;
        let mut last = timeout_at(until, Arc::clone(&self.last).lock_owned()).await.map_err(slow)?;
        last.wanted = Instant::now();
        if last.fresh_until.is_none_or(|until| until < Instant::now()) {
            let (folder, owner, details) = (self.folder.clone(), self.owner.clone(), self.details);
            // It goes on if this caller waits no longer: the next one finds what it read.
            let looking = tokio::spawn(async move {
                let began = Instant::now();
                last.refresh(&folder, &owner, details).await?;
                last.fresh_until = Some(Instant::now() + FRESH.max(began.elapsed() * REST));
                Ok::<_, FolderError>(last)
            });
            last = match timeout_at(until, looking).await.map_err(slow)? {
                Ok(looked) => looked?,
                Err(broken) => return Err(FolderError::Io(std::io::Error::other(broken)).into()),
            };
        }
        Ok(show(&last))
    }

    /// Keeps the look as one does that goes on.
    #[cfg(test)]
    pub(super) async fn hold(&self) -> tokio::sync::OwnedMutexGuard<Look> {
        Arc::clone(&self.last).lock_owned().await
    }

    /// Frees the memory of running jobs if nobody watches, and says whether nobody does.
    pub fn forget(&self) -> bool {
        if let Ok(mut last) = self.last.try_lock()
            && last.wanted.elapsed() > FORGET
        {
            last.jobs.clear();
            last.archives = Arc::default();
            last.fresh_until = None;
            return true;
        }
        false
    }
}

impl Look {
    async fn refresh(&mut self, folder: &Folder, owner: &Owner, details: bool) -> Result<(), FolderError> {
        let there: BTreeSet<JobId> = folder.jobs().await?.into_iter().collect();
        self.jobs.retain(|job, _| there.contains(job));
        self.damaged.clear();
        for job in there {
            let looked = match self.jobs.get_mut(&job) {
                Some(state) => look::refresh(folder, state, Duration::ZERO).await,
                None => match look::open(folder, &job, owner, Duration::ZERO).await {
                    Ok(OpenedJob::Job(state)) => {
                        self.jobs.insert(job.clone(), *state);
                        Ok(())
                    }
                    Ok(OpenedJob::NotOurs | OpenedJob::Headless) => Ok(()),
                    Err(e) => Err(e),
                },
            };
            match looked {
                Ok(()) => {}
                Err(e) if e.is_gone() => {
                    self.jobs.remove(&job);
                }
                Err(e) if e.hides_all() => return Err(e),
                Err(e) => {
                    self.damaged.insert(job, e.to_string());
                }
            }
        }
        Archives::refresh(&mut self.archives, folder, details).await
    }
}
