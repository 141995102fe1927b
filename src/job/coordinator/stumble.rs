//! Failed steps and unreadable files of one job: the other jobs go on, and the failed step is tried again.

use tracing::warn;

use super::{Coordinator, CoordinatorError};
use crate::message::JobId;

impl Coordinator {
    /// Logs an error of one job's files, so that the other jobs go on.
    pub(super) fn tolerate(&self, error: CoordinatorError) -> Result<(), CoordinatorError> {
        match error {
            CoordinatorError::Folder(e) if !e.is_unfit() => {
                warn!(error = %e, "a job or archive cannot be read; the others go on");
                Ok(())
            }
            other => Err(other),
        }
    }

    /// Notes a failed step. The step is tried again; each reason is logged once.
    pub(super) fn stumbled(&mut self, job: &JobId, why: String) {
        if self.stumbles.get(job) != Some(&why) {
            warn!(%job, error = why, "a step of the job failed; it is tried again");
            self.stumbles.insert(job.clone(), why);
        }
    }

    /// After an error of the folder, leaves the job alone for a while, and forgets it if its workspace is
    /// gone.
    pub(super) async fn postpone(&mut self, job: &JobId) -> Result<(), CoordinatorError> {
        let up = self.clock.now();
        if !self.folder().job(job).exists().await? {
            // Either another coordinator has finished the job, or the whole root is gone. The guard tells.
            self.folder().guard().await?;
            self.jobs.remove(job);
            self.stumbles.remove(job);
        } else if let Some(state) = self.jobs.get_mut(job) {
            state.not_before = up + self.context.config.timing.retry_first.0;
        }
        Ok(())
    }
}
