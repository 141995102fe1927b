//! Performs one effect at a time. This coordinator or another one may have done each step before.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Beat, Coordinator, CoordinatorError, TICK};
use crate::bus::Outgoing;
use crate::folder::VERSION;
use crate::job::archive::{Archive, Status};
use crate::job::decide::{Disposition, Effect};
use crate::job::look;
use crate::job::outcome::{CancelCause, CancelMark};
use crate::job::plan::ClosedPlan;
use crate::job::report::Reporter;
use crate::job::settle::Settlement;
use crate::job::state::{Abandoned, JobState};
use crate::message::event::ErrorReport;
use crate::message::pattern::qualified;
use crate::message::{Control, Epoch, JobId, TableNo};
use crate::plan::export_plan::FailedTable;

impl Coordinator {
    pub(super) async fn perform(&mut self, effect: Effect) -> Result<(), CoordinatorError> {
        let folder = self.context.folder.clone();
        let now = self.context.now();
        let up = self.clock.now();
        match effect {
            Effect::Cancel(job, why) => self.cancel(&job, why).await?,
            Effect::CloseUnplanned(job, error) => {
                let Some(state) = self.jobs.get_mut(&job) else { return Ok(()) };
                let plan = closing_plan(state, error, now);
                folder.job(&job).close_epoch(&plan).await?;
                look::refresh(&folder, state, up).await?;
            }
            Effect::Settle(job, id, dispositions) => {
                let Some(state) = self.jobs.get_mut(&job) else { return Ok(()) };
                if dispositions.iter().any(|(_, d)| *d != Disposition::Publish) {
                    look::recheck(&folder, &*self.context.destination, state, id, up).await?;
                }
                let settlement = Settlement::of(state, id, &dispositions)?;
                if let Some(batch) = state.batches.get_mut(&id) {
                    batch.settling = true;
                    batch.giving_up = dispositions.iter().any(|(_, d)| *d != Disposition::Publish);
                }
                self.settling.begin(&self.context, job, id, settlement, now);
            }
            Effect::TellBatch(job, id) => {
                let Some(state) = self.jobs.get_mut(&job) else { return Ok(()) };
                let told = state.batches.get(&id).and_then(|b| b.outcome.as_ref());
                if let (Some(plan), Some(outcome)) = (state.plan(id.epoch), told) {
                    let events = Reporter::new(&self.context.config).batch(&state.stored, plan, outcome);
                    self.session.publish_all(events).await?;
                }
                if let Some(batch) = state.batches.get_mut(&id) {
                    batch.told = true;
                }
            }
            Effect::TellPlan(job, epoch) => self.tell_plan(&job, epoch).await?,
            Effect::Commit(job) => {
                let Some(state) = self.jobs.get_mut(&job) else { return Ok(()) };
                // Check the root first: every export folder has a directory of archives, also a wrong one.
                folder.guard().await?;
                if state.cancel.is_none() {
                    // A predecessor may have closed the plan because of a cancel that a cache still hides
                    // from us.
                    state.cancel = folder.job(&job).cancel_mark_anew().await?;
                    if state.cancel.is_some() {
                        return Ok(());
                    }
                }
                let archive = Archive::of(state, now);
                let archive = folder.job(&job).commit(archive).await?;
                if archive.committed_at == now {
                    // The committed archive has our time, so it is ours. Whoever committed another one sends the spans.
                    state.trace(folder.id(), &archive);
                }
                state.archive = Some(Arc::new(archive));
            }
            Effect::Finish(job) => self.finish(&job).await?,
            Effect::TellProgress(job) => {
                let Some(state) = self.jobs.get_mut(&job) else { return Ok(()) };
                let report = Reporter::new(&self.context.config).progress(state, now);
                state.said.progress = up;
                state.said.chunks = state.progress().chunks_done;
                self.session.publish(report).await?;
            }
            Effect::TellStalled(job) => {
                let Some(state) = self.jobs.get_mut(&job) else { return Ok(()) };
                let mut why = self.window.why_quiet(state);
                if let Some(stumble) = self.stumbles.get(&job) {
                    why = format!("{why}; {stumble}");
                }
                warn!(%job, reason = why, "the job is stalled");
                state.said.stalled = Some(up);
                let report = Reporter::new(&self.context.config).stalled(state, &why, now);
                self.session.publish(report).await?;
            }
            Effect::Retry(job, id, failure) => {
                let Some(state) = self.jobs.get_mut(&job) else { return Ok(()) };
                if let Some(batch) = state.batches.get_mut(&id) {
                    batch.answer(failure);
                }
            }
        }
        Ok(())
    }

    async fn cancel(&mut self, job: &JobId, why: CancelCause) -> Result<(), CoordinatorError> {
        let mark = CancelMark { v: VERSION, why, by: None, at: self.context.now() };
        let mark = self.context.folder.job(job).cancel(mark).await?;
        info!(%job, reason = ?mark.why, "the job is cancelled");
        if let Some(state) = self.jobs.get_mut(job) {
            state.cancel = Some(mark);
        }
        self.session.publish(Outgoing::Control(Control::Cancel { job: job.clone() })).await?;
        Ok(())
    }

    async fn tell_plan(&mut self, job: &JobId, epoch: Epoch) -> Result<(), CoordinatorError> {
        let Some(state) = self.jobs.get_mut(job) else { return Ok(()) };
        let Some(plan) = epoch.index().and_then(|i| state.plans.get(i)).cloned() else { return Ok(()) };
        let mut out = Reporter::new(&self.context.config).unplanned(&state.stored, &plan);
        if let Some(snapshot) = plan.snapshot() {
            out.push(Outgoing::Control(Control::Planned {
                job: job.clone(),
                source: state.stored.source.clone(),
                lineage: snapshot.lineage,
            }));
        }
        info!(%job, epoch = epoch.0, tables = plan.tables().len(), failed = plan.failed().len(), "planned");
        self.session.publish_all(out).await?;
        state.said.plans = epoch.0 as usize;
        Ok(())
    }

    /// Does what is left once the archive exists. Every step may be done already.
    async fn finish(&mut self, job: &JobId) -> Result<(), CoordinatorError> {
        let Some(archive) = self.jobs.get(job).and_then(|s| s.archive.clone()) else { return Ok(()) };
        let folder = self.context.folder.clone();
        folder.job(job).link_archive(archive.committed_at).await?;
        self.latest.learn(&archive);
        if let Err(e) = self.latest.repair(&folder, &*self.context.destination, &*self.beat).await {
            // Go on: the next look repairs `.latest`, and the end of the job does not wait for it.
            warn!(%job, error = %e, "`.latest` could not be brought up to date");
        }
        self.session.publish(Reporter::new(&self.context.config).finished(&archive)).await?;
        self.session.publish(Outgoing::Control(Control::Finished { job: job.clone() })).await?;
        let by_us = beating(&self.beat, folder.job(job).trash()).await?;
        self.jobs.remove(job);
        if by_us {
            let metrics = &self.context.metrics;
            metrics.jobs_ended_total.with_label_values(&[archive.status.as_str()]).inc();
            metrics.job_duration_seconds.observe(archive.performance.total_duration_seconds);
            if archive.status == Status::Completed {
                metrics.last_success_timestamp_seconds.set(archive.committed_at.as_second() as f64);
            }
        }
        info!(
            %job,
            status = archive.status.as_str(),
            rows = archive.performance.total_rows_exported,
            seconds = archive.performance.total_duration_seconds,
            "the job is finished"
        );
        Ok(())
    }
}

/// A removal that takes longer counts as hanging.
const REMOVAL: Duration = Duration::from_secs(600);

/// Waits for a removal of possibly many files, and keeps telling that the loop moves.
pub(super) async fn beating<T>(beat: &Beat, removal: impl Future<Output = T>) -> T {
    let mut removal = pin!(removal);
    let until = Instant::now() + REMOVAL;
    loop {
        tokio::select! {
            biased;
            done = &mut removal => return done,
            () = tokio::time::sleep(TICK), if Instant::now() < until => beat(),
        }
    }
}

/// The plan that closes the next epoch, so that the job can end. Tables that waited to be planned again fail.
fn closing_plan(state: &JobState, error: Option<ErrorReport>, now: Timestamp) -> ClosedPlan {
    let name = |number: TableNo| {
        let table = state.plans.iter().rev().find_map(|p| p.table(number));
        table.map_or_else(|| format!("table {number}"), |t| qualified(&t.schema, &t.name))
    };
    let failed = error.iter().flat_map(|error| {
        let failed =
            |a: Abandoned| FailedTable { number: a.table, table: name(a.table), error: error.clone() };
        state.abandoned().into_iter().map(failed)
    });
    ClosedPlan {
        v: VERSION,
        job: state.id().clone(),
        epoch: state.next_epoch(),
        source: state.stored.source.clone(),
        closed_at: now,
        failed: failed.collect(),
        error: error.clone().filter(|_| state.plans.is_empty()),
    }
}
