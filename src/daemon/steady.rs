//! Keeps a role going through faults of the export folder. A fault that keeps this daemon from working ends
//! the role's subscription, so that other daemons get its messages. The role waits until the fault is over.
//! The session and running work go on.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::roles::{RoleError, Roles};
use crate::intake::IntakeError;
use crate::job::coordinator::CoordinatorError;
use crate::job::outcome::Owner;
use crate::worker::WorkerError;

impl RoleError {
    /// Why this daemon cannot play the role at present. `None` if the session has ended instead.
    fn unfit(&self) -> Option<String> {
        match self {
            Self::Intake(IntakeError::Folder(e)) | Self::Coordinator(CoordinatorError::Folder(e)) => {
                Some(e.to_string())
            }
            Self::Worker(WorkerError::Unfit(why)) => Some(why.clone()),
            Self::Bus(_)
            | Self::Intake(IntakeError::Bus(_))
            | Self::Coordinator(CoordinatorError::Bus(_))
            | Self::Worker(WorkerError::Bus(_))
            | Self::Broken(_) => None,
        }
    }
}

impl Roles {
    /// Plays a role again and again until it ends for good. `play` cancels its token when it begins to
    /// consume.
    pub(super) async fn steadily<F>(
        &self,
        what: &'static str,
        play: impl Fn(CancellationToken) -> F + Send,
    ) -> Result<(), RoleError>
    where
        F: Future<Output = Result<(), RoleError>> + Send,
    {
        // A one-shot export does not wait: it has no other daemons, and a person watches it.
        let waits = matches!(self.context.owner, Owner::Daemons { .. });
        let mut probation = Duration::ZERO;
        loop {
            let consumes = CancellationToken::new();
            let ended = tokio::select! {
                biased;
                ended = play(consumes.clone()) => ended,
                never = self.praise(what, consumes, probation) => match never {},
            };
            let Err(error) = ended else { return Ok(()) };
            let Some(why) = error.unfit().filter(|_| waits) else { return Err(error) };
            let news = self.health.obstacle(what, &why);
            // During probation it may fail again and again, each time with a slightly different reason.
            if news && probation.is_zero() {
                warn!(role = what, reason = why, "this daemon leaves its work to others for now");
            }
            probation = self.context.config.timing.unfit_retry.0;
            if self.wait_for_root(what).await {
                return Ok(());
            }
        }
    }

    /// Marks a role as working again after it has consumed for the whole probation.
    async fn praise(
        &self,
        what: &'static str,
        consumes: CancellationToken,
        probation: Duration,
    ) -> std::convert::Infallible {
        consumes.cancelled().await;
        tokio::time::sleep(probation).await;
        if self.health.clear(what) && !probation.is_zero() {
            info!(role = what, "works again");
        }
        std::future::pending().await
    }

    /// Waits until the export folder may be tried again. Returns true if it is time to stop.
    async fn wait_for_root(&self, what: &'static str) -> bool {
        let timing = &self.context.config.timing;
        let mut lost = false;
        loop {
            let fit = self.context.folder.fit(timing.alive_timeout.0).await;
            if let Err(why) = &fit
                && self.health.obstacle(what, why)
            {
                warn!(role = what, reason = why, "the export folder is not fit to be worked on");
            }
            if lost && fit.is_ok() {
                return false;
            }
            lost = fit.is_err();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return true,
                () = tokio::time::sleep(timing.unfit_retry.0) => {}
            }
            // The folder looks well from here: only trying shows whether the fault is over.
            if !lost {
                return false;
            }
        }
    }
}
