//! One chunk, from task to record (invariants I1, I3, I10). What should happen
//! follows from what the folder says; the record is exclusive, so whoever comes
//! second wins nothing and repeats nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::export::{self, ExportError, TableChunk};
use super::record::{Cause, Failure, Record, RecordedPart, StartMarker};
use super::{End, Shared};
use crate::folder::layout::RecordFile;
use crate::folder::{Created, FolderError, VERSION, layout};
use crate::message::event::ErrorReport;
use crate::message::task::ChunkTask;
use crate::metrics::{ChunkOutcome, Raised};
use crate::plan::ExportPlan;
use crate::plan::export_plan::PlannedTable;
use crate::retry::{Pauses, Policy, policy};
use crate::source::{ErrorKind, Progress, Source, SourceError};

/// Unfinished starts after which a chunk runs alone in its process.
const STARTS_BEFORE_ALONE: usize = 2;
/// Unfinished starts alone after which it fails.
const LONE_STARTS: usize = 3;

/// What the folder says of a chunk.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Its job has an archive.
    pub archived: bool,
    /// Its job is to end.
    pub cancelled: bool,
    /// It has a record.
    pub recorded: bool,
    /// Its batch has an outcome.
    pub settled: bool,
    /// Starts that never came to an orderly end.
    pub starts: Vec<StartMarker>,
}

/// What should happen to a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is left to do, and nobody waits for a word.
    Forget,
    /// It is done: the wake-up may have been lost.
    Wake,
    /// Export it.
    Run {
        /// Alone in this process: it may be what kills it.
        alone: bool,
    },
    /// It has killed its process too often.
    Poisoned,
}

/// What should happen to a chunk, given what the folder says.
#[must_use]
pub fn decide(seen: &Seen) -> Step {
    if seen.archived || seen.settled || seen.cancelled {
        return Step::Forget;
    }
    if seen.recorded {
        return Step::Wake;
    }
    let alone = seen.starts.iter().filter(|s| s.alone).count();
    if alone >= LONE_STARTS {
        return Step::Poisoned;
    }
    Step::Run { alone: seen.starts.len() - alone >= STARTS_BEFORE_ALONE }
}

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
    let seen = look(shared, task, redelivered).await?;
    match decide(&seen) {
        Step::Forget => Ok(End::Done { wake: false }),
        Step::Wake => Ok(End::Done { wake: true }),
        Step::Poisoned => poisoned(shared, task, &plan).await,
        Step::Run { alone } => {
            let Some(source) = shared.context.source(&plan.source) else {
                return Ok(End::Unfit(format!(
                    "the configuration has no source `{}`; add it or stop this daemon",
                    plan.source
                )));
            };
            let marker = if redelivered { Some(mark(shared, task, alone).await?) } else { None };
            // A suspect gets the process to itself, healthy chunks share it.
            let entry = async {
                if !alone {
                    return (Some(shared.lone.read().await), None);
                }
                warn!(job.id = %task.job, task.table, task.chunk, "a chunk that may have killed its process runs alone");
                (None, Some(shared.lone.write().await))
            };
            let entered = tokio::select! {
                entered = entry => Some(entered),
                () = cancel.cancelled() => None,
            };
            let work = Work { shared, task, plan: &plan, source, cancel, progress };
            let end = match &entered {
                Some(_) => work.run().await,
                None => work.stopped().await,
            };
            drop(entered);
            if let Some(path) = marker {
                // Orderly, whatever the end: not a start that killed its process.
                shared.context.folder.store().remove(&path).await?;
            }
            end
        }
    }
}

/// Waits until the plan is visible: on NFS it may take a while.
async fn await_plan(
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
        let archived = shared.context.folder.store().stat(&layout::archive_by_id(&task.job)).await?;
        if archived.is_some() || Instant::now() >= deadline || cancel.is_cancelled() {
            return Ok(None);
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

async fn unplanned(
    shared: &Shared,
    task: &ChunkTask,
    cancel: &CancellationToken,
) -> Result<End, FolderError> {
    if shared.context.folder.store().stat(&layout::archive_by_id(&task.job)).await?.is_some() {
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

async fn look(shared: &Shared, task: &ChunkTask, redelivered: bool) -> Result<Seen, FolderError> {
    let store = shared.context.folder.store();
    let exists = |path: String| async move { store.stat(&path).await.map(|s| s.is_some()) };
    let mut seen = Seen {
        recorded: exists(layout::record(&task.job, task.epoch, task.table, task.chunk)).await?,
        settled: exists(layout::outcome(&task.job, task.epoch, task.table)).await?,
        cancelled: exists(layout::cancel(&task.job)).await?,
        archived: exists(layout::archive_by_id(&task.job)).await?,
        starts: Vec::new(),
    };
    if redelivered && !seen.recorded {
        let dir = layout::records(&task.job, task.epoch, task.table);
        for name in store.list(&dir).await? {
            if RecordFile::parse(&name) != Some(RecordFile::Start(task.chunk)) {
                continue;
            }
            let marker: Option<StartMarker> = shared.context.folder.read(&format!("{dir}/{name}")).await?;
            // This process lives: its own markers tell of no death.
            seen.starts.extend(marker.filter(|m| m.instance != shared.context.instance));
        }
    }
    Ok(seen)
}

async fn mark(shared: &Shared, task: &ChunkTask, alone: bool) -> Result<String, FolderError> {
    let context = &shared.context;
    let path = layout::start_marker(&task.job, task.epoch, task.table, task.chunk, Uuid::new_v4());
    let marker = StartMarker { v: VERSION, instance: context.instance, alone, at: context.now() };
    context.folder.create(&path, &marker).await?;
    Ok(path)
}

async fn poisoned(shared: &Shared, task: &ChunkTask, plan: &ExportPlan) -> Result<End, FolderError> {
    let error = ErrorReport {
        code: "poison".into(),
        message: format!("chunk {} killed its process {LONE_STARTS} times while it ran alone", task.chunk),
        remedy: Some(
            "see the logs and core dumps of the daemons; lower row_group_bytes if it was memory".into(),
        ),
        retryable: true,
    };
    for table in plan.tables.iter().filter(|t| t.batch == task.table) {
        write_failure(shared, task, table.number, Cause::Permanent, error.clone()).await?;
    }
    Ok(End::Done { wake: true })
}

async fn write_failure(
    shared: &Shared,
    task: &ChunkTask,
    table: u32,
    cause: Cause,
    error: ErrorReport,
) -> Result<(), FolderError> {
    let context = &shared.context;
    let path = layout::failure(&task.job, task.epoch, task.table, task.chunk, Uuid::new_v4());
    warn!(
        job.id = %task.job, task.table, task.chunk, cause = ?cause, code = error.code,
        reason = error.message, "a chunk cannot be finished as planned"
    );
    let failure = Failure { v: VERSION, table, cause, error, instance: context.instance, at: context.now() };
    context.folder.create(&path, &failure).await?;
    Ok(())
}

/// A chunk that runs.
struct Work<'a> {
    shared: &'a Shared,
    task: &'a ChunkTask,
    plan: &'a Arc<ExportPlan>,
    source: Arc<dyn Source>,
    cancel: &'a CancellationToken,
    progress: &'a Arc<Progress>,
}

/// How the export of one table of the batch ended.
enum TableEnd {
    Part(RecordedPart),
    Failed(Cause, ErrorReport),
    Stop(End),
}

impl Work<'_> {
    async fn run(self) -> Result<End, FolderError> {
        let context = &self.shared.context;
        let started_at = context.now();
        let begin = Instant::now();
        let metrics = &context.metrics;
        let ended_as = |outcome| metrics.chunk_ended(&self.plan.source, outcome, begin.elapsed());
        let mut parts = Vec::new();
        let mut attempts = 0;
        let mut failures: BTreeMap<u32, (Cause, ErrorReport)> = BTreeMap::new();
        let in_flight = Raised::new(&context.metrics.chunks_in_flight);
        let mut ended: Option<(End, ChunkOutcome)> = None;
        for table in self.plan.tables.iter().filter(|t| t.batch == self.task.table) {
            match self.table(table, &mut attempts).await? {
                TableEnd::Part(part) => parts.push(part),
                TableEnd::Failed(Cause::LineageLost, error) => {
                    // Every other table reads the same snapshot.
                    write_failure(self.shared, self.task, table.number, Cause::LineageLost, error).await?;
                    ended = Some((End::Done { wake: true }, ChunkOutcome::Replanned));
                    break;
                }
                TableEnd::Failed(cause, error) => {
                    failures.insert(table.number, (cause, error));
                }
                TableEnd::Stop(end) => {
                    let outcome = match end {
                        End::Release => ChunkOutcome::Released,
                        End::Done { .. } | End::Unfit(_) => ChunkOutcome::Cancelled,
                    };
                    ended = Some((end, outcome));
                    break;
                }
            }
        }
        drop(in_flight);
        if let Some((end, outcome)) = ended {
            self.drop_parts(&parts).await;
            ended_as(outcome);
            return Ok(end);
        }
        let replanned = failures.values().any(|(cause, _)| *cause != Cause::Permanent);
        for (table, (cause, error)) in failures {
            write_failure(self.shared, self.task, table, cause, error).await?;
        }
        if parts.is_empty() {
            ended_as(if replanned { ChunkOutcome::Replanned } else { ChunkOutcome::Failed });
            return Ok(End::Done { wake: true });
        }
        let record = Record {
            v: VERSION,
            instance: context.instance,
            host: context.host.clone(),
            parts,
            started_at,
            seconds: begin.elapsed().as_secs_f64(),
            attempts,
        };
        let (task, folder) = (self.task, &context.folder);
        let path = layout::record(&task.job, task.epoch, task.table, task.chunk);
        let outcome = match folder.create(&path, &record).await {
            Ok(Created::New) => ChunkOutcome::Written,
            Ok(Created::Exists) => {
                // Another worker won: what it recorded is what is published.
                self.drop_parts(&record.parts).await;
                ChunkOutcome::Duplicate
            }
            Err(e) if e.is_gone() => ChunkOutcome::Cancelled,
            Err(e) => return Err(e),
        };
        if outcome == ChunkOutcome::Written {
            let rows: u64 = record.parts.iter().map(|p| p.part.rows).sum();
            let bytes: u64 = record.parts.iter().map(|p| p.part.bytes).sum();
            let source = [self.plan.source.as_str()];
            metrics.rows_total.with_label_values(&source).inc_by(rows);
            metrics.bytes_written_total.with_label_values(&source).inc_by(bytes);
            info!(
                job.id = %task.job, task.epoch, task.table, task.chunk, rows, bytes,
                seconds = record.seconds, "chunk done"
            );
        }
        ended_as(outcome);
        Ok(End::Done { wake: true })
    }

    /// Exports one table's chunk, trying again where that helps.
    async fn table(&self, table: &PlannedTable, attempts: &mut u32) -> Result<TableEnd, FolderError> {
        let context = &self.shared.context;
        let mut pauses = Pauses::new(&context.config.timing);
        loop {
            if context.folder.store().free_bytes().await? < context.config.export.min_free_bytes {
                self.wait_for_space("fewer bytes are free than export.min_free_bytes").await?;
            }
            *attempts += 1;
            let chunk = TableChunk {
                task: self.task,
                plan: self.plan,
                table,
                source: &self.source,
                cancel: self.cancel,
                progress: self.progress,
            };
            let error = match self.keep_and_export(&chunk).await {
                Ok(part) => return Ok(TableEnd::Part(RecordedPart { table: table.number, part })),
                Err(error) => error,
            };
            if self.cancel.is_cancelled() {
                return Ok(TableEnd::Stop(self.stopped().await?));
            }
            let pace = match error {
                ExportError::Gone => {
                    // The workspace is gone, or all of the root is.
                    context.folder.guard().await?;
                    return Ok(TableEnd::Stop(End::Done { wake: false }));
                }
                ExportError::Full(why) => {
                    self.wait_for_space(&why).await?;
                    pauses = Pauses::new(&context.config.timing);
                    continue;
                }
                ExportError::Storage(why) => {
                    warn!(job.id = %self.task.job, reason = why, "the storage failed; the chunk is released");
                    self.shared.trouble(format!("storage: {why}"));
                    // Not at once again, here or elsewhere: storage needs time.
                    tokio::select! {
                        () = self.cancel.cancelled() => {}
                        () = tokio::time::sleep(context.config.timing.retry_first.0) => {}
                    }
                    return Ok(TableEnd::Stop(End::Release));
                }
                ExportError::Source(error) => match policy(&error) {
                    Policy::Report(cause) => return Ok(TableEnd::Failed(cause, error.report())),
                    Policy::Stop => return Ok(TableEnd::Stop(self.stopped().await?)),
                    Policy::Retry(pace) => {
                        context.metrics.retried(pace.as_str());
                        self.shared.trouble(format!("{}: {}", self.plan.source, error.message));
                        warn!(
                            job.id = %self.task.job, self.task.table, self.task.chunk, code = error.code,
                            reason = error.message, "a chunk is tried again"
                        );
                        pace
                    }
                },
            };
            let Some(pause) = pauses.next(pace) else { return Ok(TableEnd::Stop(End::Release)) };
            tokio::select! {
                () = self.cancel.cancelled() => return Ok(TableEnd::Stop(self.stopped().await?)),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn keep_and_export(&self, chunk: &TableChunk<'_>) -> Result<crate::write::PartFile, ExportError> {
        if let Some(snapshot) = &self.plan.snapshot {
            self.shared
                .keepers
                .ensure(&self.source, snapshot.lineage, &self.task.job, self.cancel)
                .await
                .map_err(ExportError::Source)?;
        }
        export::export(&self.shared.context, chunk).await.map_err(|error| match error {
            // We hold a keeper, and the server does not know its snapshot: the
            // connection is about to be found dead. The next try joins another.
            ExportError::Source(e) if e.kind == ErrorKind::LineageLost => {
                ExportError::Source(SourceError { kind: ErrorKind::Transient, ..e })
            }
            other => other,
        })
    }

    /// Why we were told to stop: the job is cancelled, or this daemon goes.
    async fn stopped(&self) -> Result<End, FolderError> {
        let cancelled = self.shared.context.folder.store().stat(&layout::cancel(&self.task.job)).await?;
        Ok(if cancelled.is_some() { End::Done { wake: false } } else { End::Release })
    }

    /// The storage is full: it is nobody's fault. The attempt is kept.
    async fn wait_for_space(&self, why: &str) -> Result<(), FolderError> {
        let context = &self.shared.context;
        warn!(job.id = %self.task.job, reason = why, "the export folder is full; this worker waits for space");
        self.shared.trouble(format!("the export folder is full: {why}"));
        let _paused = Raised::new(&context.metrics.worker_paused);
        loop {
            tokio::select! {
                () = self.cancel.cancelled() => break,
                () = tokio::time::sleep(context.config.timing.retry_first.0 * 2) => {}
            }
            let free = context.folder.store().free_bytes().await?;
            if free > context.config.export.min_free_bytes {
                break;
            }
        }
        Ok(())
    }

    /// Removes parts that no record names.
    async fn drop_parts(&self, parts: &[RecordedPart]) {
        let task = self.task;
        let dir = layout::parts(&task.job, task.epoch, task.table);
        for part in parts {
            let path = format!("{dir}/{}", part.part.file);
            if let Err(e) = self.shared.context.folder.store().remove(&path).await {
                warn!(error = %e, path, "a part without record stays until the workspace goes");
            }
        }
    }
}
