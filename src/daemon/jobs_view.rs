//! The content of `/api/jobs`, read from the folder, so that every daemon gives the same answer.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::context::Context;
use crate::folder::FolderError;
use crate::http::JobsView;
use crate::job::look::{self, OpenedJob};
use crate::job::state::JobState;
use crate::message::JobId;
use crate::worker::Worker;

/// Finished jobs that the list shows.
const RECENT: usize = 100;

/// The jobs in the folder.
pub struct FolderView {
    context: Arc<Context>,
    worker: Arc<Worker>,
}

impl FolderView {
    /// A view of the context's folder.
    #[must_use]
    pub fn new(context: Arc<Context>, worker: Arc<Worker>) -> Self {
        Self { context, worker }
    }

    async fn list(&self) -> Result<Value, FolderError> {
        let mut running = Vec::new();
        for job in self.context.folder.jobs().await? {
            let found = look::open(&self.context.folder, &job, &self.context.owner, Duration::ZERO).await?;
            if let OpenedJob::Job(state) = found {
                running.push(self.shown(&state));
            }
        }
        let finished = self.context.folder.recent_archives(RECENT).await?;
        Ok(json!({
            "instance": self.context.instance,
            "running": running,
            "finished": finished,
            "holding": self.worker.progress().into_iter()
                .map(|(task, rows, bytes)| json!({"task": task, "rows": rows, "bytes": bytes}))
                .collect::<Vec<_>>(),
        }))
    }

    fn shown(&self, state: &JobState) -> Value {
        let status = match () {
            () if state.archive.is_some() => "finishing",
            () if state.cancel.is_some() => "cancelling",
            () if state.plans.is_empty() => "waiting",
            () => "running",
        };
        let mut value = json!({
            "job_id": state.id(),
            "status": status,
            "source": state.stored.source,
            "received_at": state.stored.received_at,
            "epoch": state.plans.len(),
            "progress": state.progress(),
        });
        if self.context.config.http.details {
            value["request"] = json!(state.stored.request);
        }
        value
    }

    async fn one(&self, job: &JobId) -> Result<Option<Value>, FolderError> {
        let folder = &self.context.folder;
        if let Some(mut archive) = folder.job(job).archive().await? {
            if !self.context.config.http.details {
                archive.labels.clear();
                archive.request.labels.clear();
                archive.request.tables.iter_mut().for_each(|t| t.where_ = None);
            }
            return Ok(Some(json!(archive)));
        }
        match look::open(folder, job, &self.context.owner, Duration::ZERO).await? {
            OpenedJob::Job(state) => Ok(Some(self.shown(&state))),
            OpenedJob::NotOurs | OpenedJob::Headless => Ok(None),
        }
    }
}

#[async_trait]
impl JobsView for FolderView {
    async fn jobs(&self) -> Result<Value, String> {
        self.list().await.map_err(|e| e.to_string())
    }

    async fn job(&self, id: &JobId) -> Result<Option<Value>, String> {
        self.one(id).await.map_err(|e| e.to_string())
    }
}
