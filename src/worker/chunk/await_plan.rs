//! Waits for a chunk's plan: a task message may arrive before the plan is visible.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::{End, Shared};
use crate::folder::FolderError;
use crate::message::task::ChunkTask;
use crate::plan::ExportPlan;

/// Waits until the plan is visible. On NFS this may take a while.
pub(super) async fn await_plan(
    shared: &Shared,
    task: &ChunkTask,
    cancel: &CancellationToken,
) -> Result<Option<Arc<ExportPlan>>, FolderError> {
    let deadline = Instant::now() + shared.context.config.timing.plan_wait.0;
    let mut pause = Duration::from_millis(20);
    loop {
        if let Some(plan) = shared.plan(&task.job, task.epoch).await? {
            return Ok(Some(plan));
        }
        let archived = shared.context.folder.job(&task.job).is_archived().await?;
        if archived || Instant::now() >= deadline || cancel.is_cancelled() {
            return Ok(None);
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

/// What to do with the task if the plan does not become visible.
pub(super) async fn unplanned(
    shared: &Shared,
    task: &ChunkTask,
    cancel: &CancellationToken,
) -> Result<End, FolderError> {
    if shared.context.folder.job(&task.job).is_archived().await? {
        return Ok(End::Done { wake: false });
    }
    if cancel.is_cancelled() {
        return Ok(End::Release);
    }
    Ok(End::Unfit(format!(
        "plan {} of job {} does not appear in {}; is the export folder the one of the other daemons?",
        task.epoch,
        task.job,
        shared.context.folder.root().display()
    )))
}
