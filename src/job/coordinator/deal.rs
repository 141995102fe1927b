//! Hands tasks out, and takes over what a predecessor handed out.

use std::time::Duration;

use tracing::debug;

use super::{Coordinator, CoordinatorError, Takeover};
use crate::bus::{Outgoing, Queue};
use crate::job::window::{SourceLimits, WindowSettings};
use crate::message::{Control, JobId, Task};
use crate::source::Snapshots;

impl Coordinator {
    fn window_settings(&self) -> WindowSettings {
        let export = &self.context.config.export;
        let limits = |s: &crate::config::SourceConfig| SourceLimits {
            max_parallel: s.max_parallel.get(),
            max_jobs: s.max_jobs.get(),
            chunk_workers: s.chunk_workers().map(u32::from),
        };
        WindowSettings {
            root: self.context.folder.id(),
            sources: self.context.sources().iter().map(|(n, e)| (n.clone(), limits(&e.config))).collect(),
            table_threads: export.table_threads.exactly().map(u32::from),
            chunk_workers: export.chunk_workers.exactly().map(u32::from),
            alive_timeout: self.context.config.timing.alive_timeout.0,
        }
    }

    /// Hands out tasks.
    pub(super) async fn deal(&mut self) -> Result<(), CoordinatorError> {
        let settings = self.window_settings();
        let up = self.clock.now();
        if self.window.wants_depth(up, &settings) && self.session.ready(Queue::Work).await? == 0 {
            self.window.queue_is_empty();
        }
        self.window.tidy(&self.jobs, up, &settings);
        if !self.take_over(up, &settings).await? {
            return Ok(());
        }
        let tasks = self.window.deal(&mut self.jobs, up, &settings);
        if tasks.is_empty() {
            return Ok(());
        }
        let plans = tasks.iter().filter(|task| matches!(task, Task::Plan(_)));
        let prepare = plans.filter_map(|plan| self.prepare(plan.job()));
        let out: Vec<Outgoing> = prepare.chain(tasks.iter().cloned().map(Outgoing::Task)).collect();
        self.session.publish_all(out).await?;
        Ok(())
    }

    /// Tells the daemons that a snapshot is about to be taken, if its source needs to know that before.
    fn prepare(&self, job: &JobId) -> Option<Outgoing> {
        let source = self.jobs.get(job)?.stored.source.clone();
        let must = self.context.source(&source)?.snapshots().is_some_and(Snapshots::must_prepare);
        must.then(|| Outgoing::Control(Control::Prepare { job: job.clone(), source }))
    }

    /// Keeps this coordinator from handing out again what a predecessor handed out: tasks that wait in the
    /// queue count as handed out, and the daemons are asked what they hold. Returns true once the handed-out
    /// tasks are known.
    async fn take_over(&mut self, up: Duration, settings: &WindowSettings) -> Result<bool, CoordinatorError> {
        match self.takeover {
            Takeover::Done => {}
            Takeover::New if self.jobs.is_empty() => self.takeover = Takeover::Done,
            Takeover::New => {
                self.session.publish(Outgoing::Control(Control::Census)).await?;
                self.takeover = Takeover::Asked(up + self.context.config.timing.alive_interval.0 / 5);
            }
            Takeover::Asked(until) if up >= until && self.window.daemons() > 0 => {
                if self.session.ready(Queue::Work).await? > 0 {
                    let tasks = self.window.inherit(&mut self.jobs, up, settings);
                    debug!(tasks, "counts the tasks of a predecessor's window as handed out");
                }
                self.takeover = Takeover::Done;
            }
            Takeover::Asked(_) => {}
        }
        Ok(matches!(self.takeover, Takeover::Done))
    }

    /// How long the daemons still have to answer, if they were asked what they hold.
    pub(super) fn census_ends_in(&mut self) -> Option<Duration> {
        match self.takeover {
            Takeover::Asked(until) if self.window.daemons() > 0 => {
                Some(until.saturating_sub(self.clock.now()))
            }
            _ => None,
        }
    }
}

/// Waits for the pause. Without one, waits for ever.
pub(super) async fn after(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}
