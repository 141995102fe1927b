//! The state that the tasks of a process share: known plans and starts, the reasons why work does not go on,
//! and markers that must still be removed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::RwLock;
use tokio::time::Instant;
use tracing::debug;

use super::keepers::Keepers;
use super::lock;
use super::poison::EarlierStarts;
use super::recent::Recent;
use crate::context::Context;
use crate::folder::{FolderError, StartPlace};
use crate::message::{BatchId, Epoch, JobId};
use crate::plan::ExportPlan;

/// Plans that a process remembers. Other plans are read from the folder again.
const PLANS: usize = 64;
/// How long a trouble is reported to the coordinator.
const TROUBLE_LASTS: Duration = Duration::from_secs(120);

/// The state that the tasks of a process share.
pub struct Shared {
    /// What every role shares.
    pub context: Arc<Context>,
    /// The snapshots that this process keeps alive.
    pub keepers: Keepers,
    /// A healthy chunk holds this lock for reading, a suspect for writing.
    pub lone: RwLock<()>,
    plans: Mutex<Recent<(JobId, Epoch), Arc<ExportPlan>>>,
    /// Unfinished starts of earlier epochs, by job, epoch and batch.
    pub(super) starts: Mutex<Recent<(JobId, BatchId), Arc<EarlierStarts>>>,
    troubles: Mutex<Vec<(Instant, String)>>,
    /// When a message that concerns many tasks was last logged.
    said: Mutex<BTreeMap<&'static str, Instant>>,
    /// Start markers that must still be removed, because the storage refused that at the orderly end.
    left: Mutex<Vec<(JobId, StartPlace)>>,
}

impl Shared {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self {
            keepers: Keepers::new(Arc::clone(&context)),
            context,
            lone: RwLock::new(()),
            plans: Mutex::new(Recent::of(PLANS)),
            starts: Mutex::new(Recent::of(PLANS)),
            troubles: Mutex::default(),
            said: Mutex::default(),
            left: Mutex::default(),
        }
    }

    /// Removes a start marker. If that fails, it is tried again later.
    pub(super) async fn unmark(&self, job: &JobId, start: StartPlace) {
        if let Err(e) = self.context.folder.job(job).remove_start(start).await {
            debug!(%job, error = %e, "a start marker stays for now");
            lock(&self.left).push((job.clone(), start));
        }
    }

    /// Removes the start markers that were left.
    pub(super) async fn tidy(&self) {
        let left = std::mem::take(&mut *lock(&self.left));
        for (job, start) in left {
            self.unmark(&job, start).await;
        }
    }

    /// The plan of an epoch, if the plan exists and the epoch was not closed.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn plan(&self, job: &JobId, epoch: Epoch) -> Result<Option<Arc<ExportPlan>>, FolderError> {
        let key = (job.clone(), epoch);
        if let Some(plan) = lock(&self.plans).get(&key) {
            return Ok(Some(Arc::clone(plan)));
        }
        let Some(plan) = self.context.folder.job(job).plan(epoch).await? else {
            return Ok(None);
        };
        let Some(plan) = plan.export().cloned() else { return Ok(None) };
        lock(&self.plans).insert(key, Arc::clone(&plan));
        Ok(Some(plan))
    }

    /// Whether `what` has not been logged for a while: a storage fails for many tasks at once.
    pub(super) fn is_news(&self, what: &'static str) -> bool {
        let before = lock(&self.said).insert(what, Instant::now());
        before.is_none_or(|at| at.elapsed() > TROUBLE_LASTS)
    }

    /// Remembers why work does not go on, for `alive` messages and the status.
    pub fn trouble(&self, text: String) {
        let mut troubles = lock(&self.troubles);
        troubles.retain(|(at, old)| at.elapsed() < TROUBLE_LASTS && *old != text);
        troubles.truncate(7);
        troubles.push((Instant::now(), text));
    }

    pub(super) fn troubles(&self) -> Vec<String> {
        let mut troubles = lock(&self.troubles);
        troubles.retain(|(at, _)| at.elapsed() < TROUBLE_LASTS);
        troubles.iter().map(|(_, text)| text.clone()).collect()
    }
}
