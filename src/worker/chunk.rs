//! One chunk, from task to record (invariants I1, I3, I10). What should happen
//! follows from what the folder says; the record is exclusive, so whoever comes
//! second wins nothing and repeats nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::export::{self, ExportError, TableChunk};
use super::patience::Patience;
use super::poison::{self, Start, Trust};
use super::{End, Shared};
use crate::folder::{Created, FolderError, VERSION, layout};
use crate::job::record::{Cause, Failure, Record, RecordedPart};
use crate::message::event::ErrorReport;
use crate::message::task::ChunkTask;
use crate::metrics::{ChunkOutcome, Raised};
use crate::plan::ExportPlan;
use crate::plan::export_plan::PlannedTable;
use crate::retry::{Policy, policy};
use crate::source::{ErrorKind, Progress, Source, SourceError};

mod await_plan;
mod decide;

use await_plan::{await_plan, unplanned};
use decide::look;
pub use decide::{Seen, Step, decide};

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
    match decide(&look(shared, task).await?) {
        Step::Forget => Ok(End::Done { wake: false }),
        Step::Wake => Ok(End::Done { wake: true }),
        Step::Run => {
            let Some(source) = shared.context.source(&plan.source) else {
                return Ok(End::Unfit(format!(
                    "the configuration has no source `{}`; add it or stop this daemon",
                    plan.source
                )));
            };
            let starts = match poison::may_have_begun(task, redelivered) {
                true => Some(poison::starts(shared, task, redelivered).await?),
                false => None,
            };
            Work { shared, task, plan: &plan, source, starts, cancel, progress }.run().await
        }
    }
}

async fn write_failure(
    shared: &Shared,
    task: &ChunkTask,
    table: u32,
    cause: Cause,
    error: ErrorReport,
) -> Result<(), FolderError> {
    let context = &shared.context;
    let path = layout::failure(&task.job, task.epoch, task.table, task.chunk, context.machine.fresh());
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
    /// Its unfinished starts; none if it cannot have been begun before.
    starts: Option<Vec<Start>>,
    cancel: &'a CancellationToken,
    progress: &'a Arc<Progress>,
}

/// The server does not know a snapshot that a living session keeps.
const SNAPSHOT_ELSEWHERE: &str = "snapshot_elsewhere";

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
            let exported = self.guarded(table, &mut attempts).await;
            match exported.inspect_err(|_| ended_as(ChunkOutcome::Released))? {
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
                        End::Release | End::Unfit(_) => ChunkOutcome::Released,
                        End::Done { .. } => ChunkOutcome::Cancelled,
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
        // No record may name a part whose name a crash could take away.
        match folder.store().sync(&layout::parts(&task.job, task.epoch, task.table)).await {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                ended_as(ChunkOutcome::Released);
                return Err(e.into());
            }
            // Where the workspace is gone, the record has no place either.
            _ => {}
        }
        let mut patience = Patience::new(self.shared, &task.job, self.cancel);
        let outcome = match patience.create(&path, &record).await {
            Ok(Some(Created::New)) => ChunkOutcome::Written,
            // Ours, where a try failed after it had succeeded.
            Ok(Some(Created::Exists)) if self.is_recorded(&path, &record).await? => ChunkOutcome::Written,
            Ok(Some(Created::Exists)) => {
                // Another worker won: what it recorded is what is published.
                self.drop_parts(&record.parts).await;
                ChunkOutcome::Duplicate
            }
            Ok(None) => {
                self.drop_parts(&record.parts).await;
                ended_as(ChunkOutcome::Released);
                return self.stopped().await;
            }
            Err(e) if e.is_gone() => {
                // The workspace is gone, or all of the root is.
                folder.guard().await?;
                ChunkOutcome::Cancelled
            }
            Err(e) => {
                ended_as(ChunkOutcome::Released);
                return Err(e);
            }
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

    /// Exports one table's chunk: a suspect alone in this process, healthy ones
    /// together, one that has killed it too often not at all.
    async fn guarded(&self, table: &PlannedTable, attempts: &mut u32) -> Result<TableEnd, FolderError> {
        let (shared, task) = (self.shared, self.task);
        let trust = self.starts.as_ref().map_or(Trust::Healthy, |s| poison::judge(s, table.number));
        let entry = async {
            match trust {
                Trust::Poisoned => None,
                Trust::Healthy => Some((Some(shared.lone.read().await), None)),
                Trust::Suspect => {
                    warn!(job.id = %task.job, table.number, task.chunk, "a chunk that may have killed its process runs alone");
                    Some((None, Some(shared.lone.write().await)))
                }
            }
        };
        let entered = tokio::select! {
        biased;
               entered = entry => entered,
               () = self.cancel.cancelled() => return Ok(TableEnd::Stop(self.stopped().await?)),
           };
        if entered.is_none() {
            return Ok(TableEnd::Failed(Cause::Permanent, poison::report(task.chunk)));
        }
        // Not before it has entered: while it waits, whoever dies is another one.
        let marker = match self.starts {
            Some(_) => Some(poison::mark(shared, task, table.number, trust == Trust::Suspect).await?),
            None => None,
        };
        let end = self.table(table, attempts).await;
        drop(entered);
        if let Some(path) = marker {
            // Orderly, whatever the end: not a start that killed its process.
            shared.unmark(path).await;
        }
        end
    }

    /// Exports one table's chunk, trying again where that helps.
    async fn table(&self, table: &PlannedTable, attempts: &mut u32) -> Result<TableEnd, FolderError> {
        let context = &self.shared.context;
        let mut pauses = context.pauses();
        let mut patience = Patience::new(self.shared, &self.task.job, self.cancel);
        loop {
            while context.folder.store().free_bytes().await? < context.config.export.min_free_bytes {
                if !patience.full("fewer bytes are free than export.min_free_bytes").await {
                    return Ok(TableEnd::Stop(self.stopped().await?));
                }
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
            let (pace, elsewhere) = match error {
                ExportError::Gone => {
                    // The workspace is gone, or all of the root is.
                    context.folder.guard().await?;
                    return Ok(TableEnd::Stop(End::Done { wake: false }));
                }
                ExportError::Full(why) => {
                    if !patience.full(&why).await {
                        return Ok(TableEnd::Stop(self.stopped().await?));
                    }
                    pauses = context.pauses();
                    continue;
                }
                ExportError::ReadOnly(why) => return Err(FolderError::WrongRoot(why)),
                ExportError::Storage(why) => {
                    if !patience.failed(&why).await? {
                        return Ok(TableEnd::Stop(self.stopped().await?));
                    }
                    continue;
                }
                ExportError::Source(error) => match policy(&error) {
                    Policy::Report(cause) => return Ok(TableEnd::Failed(cause, error.report())),
                    Policy::Stop => return Ok(TableEnd::Stop(self.stopped().await?)),
                    Policy::Retry(pace) => {
                        context.metrics.retried(&error.kind);
                        self.shared.trouble(format!("{}: {}", self.plan.source, error.message));
                        warn!(
                            job.id = %self.task.job, self.task.table, self.task.chunk, code = error.code,
                            reason = error.message, "a chunk is tried again"
                        );
                        (pace, (error.code == SNAPSHOT_ELSEWHERE).then(|| error.report()))
                    }
                },
            };
            let Some(pause) = pauses.next(pace) else {
                return Ok(match elsewhere {
                    Some(error) => TableEnd::Failed(Cause::Permanent, error),
                    None => TableEnd::Stop(End::Release),
                });
            };
            tokio::select! {
            biased;
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
        export::export(&self.shared.context, chunk).await.map_err(|error| {
            match error {
            // We hold a keeper, and the server does not know its snapshot: the
            // connection is about to be found dead. The next try joins another.
            ExportError::Source(e) if e.kind == ErrorKind::LineageLost => ExportError::Source(SourceError {
                kind: ErrorKind::Transient,
                code: SNAPSHOT_ELSEWHERE.into(),
                message: format!("{}; its keeper lives", e.message),
                remedy: Some(
                    "does the source's dsn lead to several servers? Name one of them, or leave snapshots out \
                     by \"consistency\": \"none\""
                        .into(),
                ),
            }),
            other => other,
        }
        })
    }

    /// Why we were told to stop: the job is cancelled, or this daemon goes.
    async fn stopped(&self) -> Result<End, FolderError> {
        let cancelled = self.shared.context.folder.store().stat(&layout::cancel(&self.task.job)).await?;
        Ok(if cancelled.is_some() { End::Done { wake: false } } else { End::Release })
    }

    /// Whether the record that stands is this one.
    async fn is_recorded(&self, path: &str, record: &Record) -> Result<bool, FolderError> {
        let stands = self.shared.context.folder.read::<Record>(path).await?;
        let file = |r: &Record| r.parts.first().map(|p| p.part.file.clone());
        Ok(stands.is_some_and(|stands| file(&stands) == file(record)))
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
