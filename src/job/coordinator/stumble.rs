//! Steps and files of one job that are in the way: the other jobs go on, and what failed is tried again.

use tracing::warn;

use super::{Coordinator, CoordinatorError};
use crate::message::JobId;

impl Coordinator {
    /// One job's file that cannot be read is no reason to leave the others alone.
    pub(super) fn tolerate(&self, error: CoordinatorError) -> Result<(), CoordinatorError> {
        match error {
            CoordinatorError::Folder(e) if !e.is_unfit() => {
                warn!(error = %e, "a job or archive cannot be read; the others go on");
                Ok(())
            }
            other => Err(other),
        }
    }

    /// A step failed. It is tried every second, and told once.
    pub(super) fn stumbled(&mut self, job: &JobId, why: String) {
        if self.stumbles.get(job) != Some(&why) {
            warn!(job.id = %job, error = why, "a step of the job failed; it is tried again");
            self.stumbles.insert(job.clone(), why);
        }
    }

    /// After an error of the folder: not before a while, and with fresh eyes.
    pub(super) async fn postpone(&mut self, job: &JobId) -> Result<(), CoordinatorError> {
        let up = self.clock.now();
        if !self.folder().job(job).exists().await? {
            // Another coordinator has finished it, or all of the root is gone.
            self.folder().guard().await?;
            self.jobs.remove(job);
            self.stumbles.remove(job);
        } else if let Some(state) = self.jobs.get_mut(job) {
            state.not_before = up + self.context.config.timing.retry_first.0;
        }
        Ok(())
    }
}
