//! One chunk, from task to record (invariants I1, I3, I10). The folder's content decides what should happen.
//! The record is exclusive: a worker that comes second changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Span, info, warn};

use super::patience::Patience;
use super::poison::{self, Start};
use super::{End, Shared};
use crate::folder::{Created, FolderError, VERSION};
use crate::job::record::{Cause, Failure, Record, RecordedPart, RecordedTable};
use crate::message::event::{ErrorReport, PagesRead};
use crate::message::pattern::{qualified, with_others};
use crate::message::task::ChunkTask;
use crate::message::{BatchNo, TableNo};
use crate::metrics::{ChunkOutcome, Raised};
use crate::plan::ExportPlan;
use crate::source::{Progress, Source};
use crate::traces::{self, JobTrace};

mod await_plan;
mod decide;
mod tables;

use await_plan::{await_plan, unplanned};
pub use decide::{Step, decide};
use tables::Exported;

/// Does one chunk task.
///
/// # Errors
/// When the folder refuses.
pub async fn run(
    shared: &Shared,
    task: &ChunkTask,
    redelivered: bool,
    cancel: &CancellationToken,
    progress: &Arc<Progress>,
) -> Result<End, FolderError> {
    shared.context.folder.guard().await?;
    let Some(plan) = await_plan(shared, task, cancel).await? else {
        return unplanned(shared, task, cancel).await;
    };
    let table = named(&plan, task.batch);
    Span::current().record("table", &table);
    let files = shared.context.folder.job(&task.job).chunk_files(task.batch_id(), task.chunk).await?;
    match decide(&files) {
        Step::Forget => Ok(End::Done { wake: false }),
        Step::Wake => Ok(End::Done { wake: true }),
        Step::Run => {
            let Some(entry) = shared.context.sources().get(&plan.source).cloned() else {
                return Ok(End::Unfit(format!(
                    "the configuration has no source `{}`; add it or stop this daemon",
                    plan.source
                )));
            };
            if plan.destination != shared.context.destination.id() {
                return Ok(End::Unfit(format!(
                    "plan {} of job {} is for another destination than this daemon has",
                    task.epoch, task.job
                )));
            }
            let starts = match poison::may_have_begun(task, redelivered) {
                true => Some(poison::starts(shared, task, redelivered).await?),
                false => None,
            };
            // The child token lets the end of one table stop the others. The guard stops them also when this
            // task panics.
            let cancel = &cancel.child_token();
            let _ended = cancel.clone().drop_guard();
            let source = Arc::clone(&entry.source);
            let (turns, attempts) = (Arc::new(Semaphore::new(1)), AtomicU32::new(0));
            // Before the span begins, so that it lies within that of its table.
            let began = shared.context.now();
            let trace = trace(shared, task, &plan, &table, entry.config.kind.as_str());
            Work {
                shared,
                task,
                plan: &plan,
                source,
                starts,
                cancel,
                progress,
                turns,
                attempts,
                began,
                trace,
            }
            .run()
            .await
        }
    }
}

/// Begins the span of a chunk.
fn trace(shared: &Shared, task: &ChunkTask, plan: &ExportPlan, table: &str, kind: &'static str) -> Span {
    let root = shared.context.folder.id();
    let job = JobTrace { root, job: &task.job, traceparent: plan.traceparent.as_deref() };
    let mut tables = plan.tables.iter().filter(|table| table.batch == task.batch);
    let alone = tables.next().filter(|_| tables.next().is_none()).map(|table| table.number);
    job.chunk(&traces::Chunk { task, alone, table, source: &plan.source, kind })
}

/// The tables of a batch, for the log.
fn named(plan: &ExportPlan, batch: BatchNo) -> String {
    let mut tables = plan.tables.iter().filter(|table| table.batch == batch);
    let first = tables.next().map(|table| qualified(&table.schema, &table.name)).unwrap_or_default();
    with_others(first, tables.count())
}

async fn write_failure(
    shared: &Shared,
    task: &ChunkTask,
    table: TableNo,
    cause: Cause,
    error: ErrorReport,
) -> Result<(), FolderError> {
    let context = &shared.context;
    let id = context.machine.fresh();
    let failure = Failure { v: VERSION, table, cause, error, instance: context.instance, at: context.now() };
    context.folder.job(&task.job).create_failure(task.batch_id(), task.chunk, id, &failure).await
}

fn outcome_of_stop(end: &End) -> ChunkOutcome {
    match end {
        End::Release | End::Unfit(_) => ChunkOutcome::Released,
        End::Done { .. } => ChunkOutcome::Cancelled,
    }
}

/// A chunk that runs.
struct Work<'a> {
    shared: &'a Shared,
    task: &'a ChunkTask,
    plan: &'a Arc<ExportPlan>,
    source: Arc<dyn Source>,
    /// The unfinished starts of the chunk. `None` if the chunk cannot have been started before.
    starts: Option<Vec<Start>>,
    cancel: &'a CancellationToken,
    progress: &'a Arc<Progress>,
    /// Gives the turns of the tables, one table at a time.
    turns: Arc<Semaphore>,
    attempts: AtomicU32,
    began: Timestamp,
    trace: Span,
}

/// How a chunk ended, and what follows.
type Ended = (ChunkOutcome, End);

impl Work<'_> {
    async fn run(self) -> Result<End, FolderError> {
        let context = &self.shared.context;
        let metrics = &context.metrics;
        let (started_at, begin) = (self.began, Instant::now());
        let in_flight = Raised::new(&metrics.chunks_in_flight);
        let before = self.progress.read().1;
        let mut exported = self.tables().await;
        drop(in_flight);
        let read = self.progress.read().1 - before;
        metrics.bytes_read_total.with_label_values(&[self.plan.source.as_str()]).inc_by(read);
        let tables = std::mem::take(&mut exported.tables);
        let ended = match self.before_record(exported, &tables).await {
            Ok(None) => {
                let record = Record {
                    v: VERSION,
                    instance: context.instance,
                    host: context.host.clone(),
                    tables,
                    started_at,
                    seconds: begin.elapsed().as_secs_f64(),
                    attempts: self.attempts.load(Ordering::Relaxed),
                };
                self.record(record).await
            }
            Ok(Some(ended)) => {
                self.drop_parts(&tables).await;
                Ok(ended)
            }
            Err(error) => {
                self.drop_parts(&tables).await;
                Err(error)
            }
        };
        let outcome = ended.as_ref().map_or(ChunkOutcome::Released, |(outcome, _)| *outcome);
        metrics.chunk_ended(&self.plan.source, outcome, begin.elapsed());
        self.trace.record("outcome", outcome.label());
        traces::note(&self.trace, "attempts", self.attempts.load(Ordering::Relaxed).into());
        if ended.is_err() {
            traces::fail(&self.trace, "storage");
        }
        ended.map(|(_, end)| end)
    }

    /// Writes the failures down and makes the parts durable. Returns how the chunk ended if there is nothing
    /// to record.
    async fn before_record(
        &self,
        exported: Exported,
        tables: &[RecordedTable],
    ) -> Result<Option<Ended>, FolderError> {
        let (shared, task) = (self.shared, self.task);
        if let Some(error) = exported.broken {
            return Err(error);
        }
        let failed = exported.failures.values().map(|(_, error)| error);
        if let Some(error) = exported.lost.as_ref().map(|(_, error)| error).into_iter().chain(failed).next() {
            traces::fail(&self.trace, &error.code);
        }
        if let Some((table, error)) = exported.lost {
            write_failure(shared, task, table, Cause::LineageLost, error).await?;
            return Ok(Some((ChunkOutcome::Replanned, End::Done { wake: true })));
        }
        if let Some(end) = exported.stopped {
            return Ok(Some((outcome_of_stop(&end), end)));
        }
        let replanned = exported.failures.values().any(|(cause, _)| *cause != Cause::Permanent);
        for (table, (cause, error)) in exported.failures {
            write_failure(shared, task, table, cause, error).await?;
        }
        if tables.is_empty() {
            let outcome = if replanned { ChunkOutcome::Replanned } else { ChunkOutcome::Failed };
            return Ok(Some((outcome, End::Done { wake: true })));
        }
        if tables.iter().any(|table| !table.parts.is_empty()) {
            // A record must not name a part that a crash could still lose.
            shared.context.destination.secure(&task.job, task.batch_id()).await?;
        }
        Ok(None)
    }

    async fn record(&self, record: Record) -> Result<Ended, FolderError> {
        let (task, folder, metrics) = (self.task, &self.shared.context.folder, &self.shared.context.metrics);
        let mut patience = Patience::new(self.shared, self.cancel);
        let outcome = match patience.record(task, &record).await {
            Ok(Some(Created::New)) => ChunkOutcome::Written,
            // The record is ours: an earlier try succeeded and still reported an error.
            Ok(Some(Created::Exists)) if self.is_recorded(&record).await? => ChunkOutcome::Written,
            Ok(Some(Created::Exists)) => {
                // Another worker was first: its parts are published, and ours are removed.
                self.drop_parts(&record.tables).await;
                ChunkOutcome::Duplicate
            }
            // We were told to stop after the folder reported an error. The record may exist despite the error
            // and name these parts: do not delete them.
            Ok(None) => {
                let end = self.stopped().await?;
                return Ok((outcome_of_stop(&end), end));
            }
            Err(e) if e.is_gone() => {
                // Either the workspace is gone or the whole root is. If the root is gone, the guard returns
                // an error.
                folder.guard().await?;
                ChunkOutcome::Cancelled
            }
            // Here too the record may exist despite the error: do not delete the parts.
            Err(e) => return Err(e),
        };
        if outcome == ChunkOutcome::Written {
            let source = [self.plan.source.as_str()];
            let rows: u64 = record.tables.iter().map(RecordedTable::rows).sum();
            let bytes: u64 = record.tables.iter().map(RecordedTable::bytes).sum();
            metrics.rows_total.with_label_values(&source).inc_by(rows);
            if let Some(pages) = PagesRead::sum(record.tables.iter().filter_map(|table| table.pages)) {
                metrics.pages_read_total.with_label_values(&source).inc_by(pages.read);
                metrics.pages_recopied_total.with_label_values(&source).inc_by(pages.recopied);
            }
            metrics.bytes_written_total.with_label_values(&source).inc_by(bytes);
            metrics
                .files_written_total
                .with_label_values(&source)
                .inc_by(parts(&record.tables).count() as u64);
            traces::note(&self.trace, "rows", rows);
            traces::note(&self.trace, "bytes", bytes);
            info!(rows, bytes, seconds = record.seconds, "a chunk is done");
        }
        Ok((outcome, End::Done { wake: true }))
    }

    /// The end that follows from being told to stop: the job is cancelled, or this daemon shuts down.
    async fn stopped(&self) -> Result<End, FolderError> {
        let cancelled = self.shared.context.folder.job(&self.task.job).is_cancelled().await?;
        Ok(if cancelled { End::Done { wake: false } } else { End::Release })
    }

    /// Whether the record in the folder is this one.
    async fn is_recorded(&self, record: &Record) -> Result<bool, FolderError> {
        let task = self.task;
        let stands = self.shared.context.folder.job(&task.job).record(task.batch_id(), task.chunk).await?;
        // The record exists, although it cannot be read. It may name the parts, so this must not return
        // false.
        let stands = stands.ok_or(FolderError::Inconsistent("a record that exists cannot be read"))?;
        Ok(stands.is_of_attempt(record))
    }

    /// Removes parts that no record names.
    async fn drop_parts(&self, tables: &[RecordedTable]) {
        let (task, destination) = (self.task, &self.shared.context.destination);
        for RecordedPart { reference, .. } in parts(tables) {
            if let Err(e) = destination.drop_part(&task.job, task.batch_id(), reference).await {
                let part = reference.as_str();
                warn!(error = %e, part, "a part without record stays until the workspace goes");
            }
        }
    }
}

fn parts(tables: &[RecordedTable]) -> impl Iterator<Item = &RecordedPart> {
    tables.iter().flat_map(|table| &table.parts)
}
