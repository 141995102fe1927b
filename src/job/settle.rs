//! Moves the tables of a batch where they belong, then writes its outcome.
//! Every step may have been done by another coordinator before: the consuming
//! rename succeeds once, the outcome is exclusive (invariants I4, I10).

use std::sync::Arc;

use jiff::Timestamp;

use super::decide::Disposition;
use super::outcome::{FinishedFile, Outcome, TableOutcome, TableResult};
use super::state::{BatchId, JobState};
use crate::folder::consume::{Consumed, Ready, Tried};
use crate::folder::{Folder, FolderError, VERSION, layout};
use crate::message::event::ErrorReport;
use crate::message::request::OnConflict;
use crate::plan::ExportPlan;
use crate::plan::base_name;
use crate::plan::export_plan::PlannedTable;
use crate::worker::record::Cause;

/// A winning part and the name that it gets.
struct Winner {
    path: String,
    inode: u64,
    finished: FinishedFile,
}

/// Settles a batch.
///
/// # Errors
/// When the folder refuses; nothing is lost, the next try goes on from there.
pub async fn settle(
    folder: &Folder,
    job: &JobState,
    id: BatchId,
    dispositions: &[(u32, Disposition)],
    now: Timestamp,
) -> Result<Arc<Outcome>, FolderError> {
    let path = layout::outcome(job.id(), id.epoch, id.first);
    if let Some(outcome) = folder.read::<Outcome>(&path).await? {
        return Ok(Arc::new(outcome));
    }
    let plan = job.plan(id.epoch).ok_or(FolderError::Inconsistent("a batch has no plan"))?;
    let mut tables = Vec::with_capacity(dispositions.len());
    for (number, disposition) in dispositions {
        let Some(table) = plan.table(*number) else { continue };
        let winners = winners(job, id, *number);
        let ready = Ready {
            job: job.id(),
            epoch: id.epoch,
            id: plan.ready,
            table: *number,
            witness: winners.first().map(|w| (w.finished.file.clone(), w.inode)),
        };
        let result = match disposition {
            Disposition::Publish => {
                let cancelled = job.cancel.is_some();
                publish(folder, plan, table, &ready, winners, cancelled, now).await?
            }
            other => leave(folder, &ready, winners, other).await?,
        };
        tables.push(TableOutcome { table: *number, result });
    }
    let outcome = Outcome { v: VERSION, at: now, tables };
    Ok(Arc::new(folder.create_or_read(&path, outcome).await?))
}

/// The parts that the records name, in key order; empty ones only if all are.
fn winners(job: &JobState, id: BatchId, table: u32) -> Vec<Winner> {
    let Some(batch) = job.batches.get(&id) else { return Vec::new() };
    let mut all: Vec<Winner> = Vec::new();
    for (chunk, record) in batch.records.iter().enumerate() {
        let Some(part) = record.iter().flat_map(|r| &r.parts).find(|p| p.table == table) else { continue };
        let part = &part.part;
        let chunk = u32::try_from(chunk).unwrap_or(u32::MAX);
        all.push(Winner {
            path: format!("{}/{}", layout::parts(job.id(), id.epoch, id.first), part.file),
            inode: part.inode,
            finished: FinishedFile {
                file: layout::finished_part(chunk),
                rows: part.rows,
                bytes: part.bytes,
                sha256: part.sha256.clone(),
            },
        });
    }
    if all.iter().any(|w| w.finished.rows > 0) {
        all.retain(|w| w.finished.rows > 0);
    } else {
        all.truncate(1);
    }
    all
}

async fn publish(
    folder: &Folder,
    plan: &ExportPlan,
    table: &PlannedTable,
    ready: &Ready<'_>,
    winners: Vec<Winner>,
    cancelled: bool,
    now: Timestamp,
) -> Result<TableResult, FolderError> {
    let dir = layout::ready_table(ready.job, ready.epoch, ready.id, ready.table);
    let links = winners.iter().map(|w| (w.path.clone(), w.finished.file.clone())).collect();
    match folder.store().link(&dir, links).await.map_err(FolderError::from) {
        // Another coordinator moved it: the rename below finds out where to.
        Err(e) if e.is_gone() => {
            if folder.store().stat(&dir).await?.is_some() {
                return Err(e);
            }
        }
        other => other?,
    }
    let files: Vec<FinishedFile> = winners.iter().map(|w| w.finished.clone()).collect();
    let mut nth = 0;
    let mut attempt = 0;
    while let Some(candidate) = free_name(folder, plan, table, &mut nth, now).await? {
        attempt += 1;
        match folder.publish(ready, attempt, &candidate).await? {
            Tried::Consumed(Consumed::Published(directory)) => {
                return Ok(TableResult::Published { directory, files });
            }
            // Another coordinator saw a cancel or a failure first and has not said so yet.
            Tried::Consumed(Consumed::Trashed) if cancelled => return Ok(TableResult::Cancelled),
            Tried::Consumed(Consumed::Trashed) => {
                return Ok(TableResult::Abandoned { cause: Cause::LineageLost });
            }
            Tried::Occupied(_) => {}
        }
    }
    let taken = layout::public(&table.directory, &table.base);
    let error = ErrorReport::permanent(
        "directory_exists",
        format!("{}.{}: the directory {taken} exists and on_conflict is `fail`", table.schema, table.name),
        "move the directory away, or use on_conflict version or timestamp",
    );
    leave(folder, ready, winners, &Disposition::Fail(error)).await
}

/// The next name that nothing stands under; none where conflicts fail.
async fn free_name(
    folder: &Folder,
    plan: &ExportPlan,
    table: &PlannedTable,
    nth: &mut u32,
    now: Timestamp,
) -> Result<Option<String>, FolderError> {
    while let Some(name) = base_name::directory(&table.base, plan.on_conflict, *nth, now) {
        *nth += 1;
        let path = layout::public(&table.directory, &name);
        if plan.on_conflict == OnConflict::Fail || folder.store().stat(&path).await?.is_none() {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Sends a table to the trash, unless another coordinator has published it.
async fn leave(
    folder: &Folder,
    ready: &Ready<'_>,
    winners: Vec<Winner>,
    disposition: &Disposition,
) -> Result<TableResult, FolderError> {
    if let Consumed::Published(directory) = folder.abandon(ready).await? {
        let files = winners.into_iter().map(|w| w.finished).collect();
        return Ok(TableResult::Published { directory, files });
    }
    Ok(match disposition {
        Disposition::Fail(error) => TableResult::Failed { error: error.clone() },
        Disposition::Abandon(cause) => TableResult::Abandoned { cause: cause.clone() },
        Disposition::Cancel | Disposition::Publish => TableResult::Cancelled,
    })
}
