//! How running work reacts to storage errors. Such errors are no fault of the work, so the work is not given
//! up at once. If the folder is full, the work waits until there is space. If the storage fails, the work
//! tries a few times more; then this daemon leaves its work to others.

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Shared;
use crate::folder::{Created, FolderError, is_full};
use crate::job::record::Record;
use crate::message::task::ChunkTask;
use crate::metrics::Raised;
use crate::retry::{Pace, Pauses};

/// The patience of one piece of work ends after this many failures of the storage in a row.
const FAILURES: u32 = 3;

/// The patience of one piece of work.
pub(super) struct Patience<'a> {
    shared: &'a Shared,
    cancel: &'a CancellationToken,
    pauses: Pauses,
    failures: u32,
    /// Set while the work waits for space: from the first refusal to the next success.
    paused: Option<Raised<'a>>,
}

impl<'a> Patience<'a> {
    /// Patience for work that has met no error yet.
    pub(super) fn new(shared: &'a Shared, cancel: &'a CancellationToken) -> Self {
        let context = &shared.context;
        let pauses = Pauses::endless(&context.config.timing, context.machine.clone());
        Self { shared, cancel, pauses, failures: 0, paused: None }
    }

    /// Waits because the storage is full. False if the work is to stop instead of trying again.
    pub(super) async fn full(&mut self, why: &str) -> bool {
        if self.shared.is_news("full") {
            warn!(reason = why, "the export folder is full; a worker waits for space");
        }
        let paused = || Raised::new(&self.shared.context.metrics.worker_paused);
        self.paused.get_or_insert_with(paused);
        self.shared.trouble("the export folder is full".into());
        self.pause().await
    }

    /// Waits because the storage failed. False if the work is to stop instead of trying again.
    ///
    /// # Errors
    /// When it has failed too often.
    pub(super) async fn failed(&mut self, why: &str) -> Result<bool, FolderError> {
        self.failures += 1;
        if self.failures >= FAILURES {
            return Err(FolderError::WrongRoot(format!("the export folder fails: {why}")));
        }
        if self.shared.is_news("failed") {
            warn!(reason = why, "the storage failed; it is tried again");
        }
        self.shared.trouble(format!("the export folder fails: {why}"));
        Ok(self.pause().await)
    }

    /// Waits after an error of the folder, if waiting helps. False if the work is to stop.
    ///
    /// # Errors
    /// The error, if waiting does not help.
    pub(super) async fn refused(&mut self, error: FolderError) -> Result<bool, FolderError> {
        match error {
            FolderError::Io(e) if is_full(&e) => Ok(self.full(&e.to_string()).await),
            error if error.concerns_all() && !error.is_unfit() => self.failed(&error.to_string()).await,
            error => Err(error),
        }
    }

    /// Writes the record of a chunk with patience, so that finished parts need not be exported again. `None`
    /// if the work is to stop.
    ///
    /// # Errors
    /// The error, if waiting does not help.
    pub(super) async fn record(
        &mut self,
        task: &ChunkTask,
        record: &Record,
    ) -> Result<Option<Created>, FolderError> {
        let workspace = self.shared.context.folder.job(&task.job);
        loop {
            match workspace.create_record(task.batch_id(), task.chunk, record).await {
                Ok(created) => return Ok(Some(created)),
                Err(e) => {
                    if !self.refused(e).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Waits for the next try. False if the work is to stop.
    async fn pause(&mut self) -> bool {
        let pause = self.pauses.next(Pace::Soon).unwrap_or(self.shared.context.config.timing.retry_longest.0);
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }
}
