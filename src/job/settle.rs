//! Moves the tables of a batch where they belong, then writes its outcome.
//! Every step may have been done by another coordinator before: the consuming
//! rename succeeds once, the outcome is exclusive (invariants I4, I10).

use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;

use super::decide::Disposition;
use super::outcome::{FinishedFile, Outcome, TableOutcome, TableResult};
use super::state::{BatchId, JobState};
use crate::folder::consume::{Consumed, Part, Ready, Tried};
use crate::folder::{Folder, FolderError, VERSION, layout};
use crate::job::record::{Cause, Record};
use crate::message::event::ErrorReport;
use crate::message::{ChunkNo, TableNo};
use crate::plan::ExportPlan;
use crate::plan::base_name;
use crate::plan::export_plan::PlannedTable;

/// Tables of a batch that move at once: each waits for four fsyncs, three of which they share.
const TABLES_AT_ONCE: usize = 16;

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
    dispositions: &[(TableNo, Disposition)],
    now: Timestamp,
) -> Result<Arc<Outcome>, FolderError> {
    let workspace = folder.job(job.id());
    if let Some(outcome) = workspace.outcome(id).await? {
        return Ok(Arc::new(outcome));
    }
    let plan = job.plan(id.epoch).ok_or(FolderError::Inconsistent("a batch has no plan"))?;
    let mut tables = Vec::with_capacity(dispositions.len());
    for some in dispositions.chunks(TABLES_AT_ONCE) {
        let known = some.iter().filter_map(|(number, d)| Some((plan.table(*number)?, d)));
        let settled = known.map(|(table, d)| settle_table(folder, job, id, plan, table, d, now));
        // Not one of them is left half done by the error of another.
        for table in join_all(settled).await {
            tables.push(table?);
        }
    }
    let outcome = Outcome { v: VERSION, at: now, tables };
    Ok(Arc::new(workspace.settle(id, outcome).await?))
}

async fn settle_table(
    folder: &Folder,
    job: &JobState,
    id: BatchId,
    plan: &ExportPlan,
    table: &PlannedTable,
    disposition: &Disposition,
    now: Timestamp,
) -> Result<TableOutcome, FolderError> {
    let number = table.number;
    let winners = winners(job, id, number);
    let complete = is_complete(job, id, number);
    let part = known_part(&winners, complete);
    let ready = Ready { job: job.id(), epoch: id.epoch, id: plan.ready, table: number, part };
    let result = match disposition {
        Disposition::Publish => {
            let cancelled = job.cancel.is_some();
            publish(folder, plan, table, &ready, winners, cancelled, now).await?
        }
        other => leave(folder, &ready, winners, complete, other).await?,
    };
    Ok(TableOutcome { table: number, result })
}

/// Whether every chunk of a table has a record of it.
fn is_complete(job: &JobState, id: BatchId, table: TableNo) -> bool {
    let has = |record: &Record| record.parts.iter().any(|p| p.table == table);
    job.batches.get(&id).is_some_and(|b| b.records.iter().all(|r| r.as_deref().is_some_and(has)))
}

/// A part that is certain to stand where the table is published. While records
/// are missing, one without rows may be left out in the end.
fn known_part(winners: &[Winner], complete: bool) -> Option<Part> {
    let first = winners.first().filter(|w| complete || w.finished.rows > 0)?;
    Some(Part { file: first.finished.file.clone(), inode: first.inode })
}

/// The parts that the records name, in key order; where all are without rows, that of the first chunk, which alone is
/// written then.
fn winners(job: &JobState, id: BatchId, table: TableNo) -> Vec<Winner> {
    let Some(batch) = job.batches.get(&id) else { return Vec::new() };
    let mut all: Vec<Winner> = Vec::new();
    for (chunk, record) in batch.records.iter().enumerate() {
        let Some(part) = record.iter().flat_map(|r| &r.parts).find(|p| p.table == table) else { continue };
        let part = &part.part;
        let chunk = ChunkNo::at(chunk);
        all.push(Winner {
            path: format!("{}/{}", layout::parts(job.id(), id), part.file),
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
    if !table.directory.is_empty() && folder.store().stat(&table.directory).await?.is_none() {
        // Somebody removed the output directory while it was empty.
        let mut parent = String::new();
        for part in table.directory.split('/') {
            folder.store().make_dirs(&parent, vec![part.to_owned()]).await?;
            parent = layout::public(&parent, part);
        }
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
    leave(folder, ready, winners, true, &Disposition::Fail(error)).await
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
        // Also where conflicts fail: a rename replaces an empty directory, which may be
        // another job's output directory.
        if folder.store().stat(&path).await?.is_none() {
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
    complete: bool,
    disposition: &Disposition,
) -> Result<TableResult, FolderError> {
    if let Consumed::Published(directory) = folder.abandon(ready).await? {
        // Whoever published it had seen every record: without them all, nothing is said of it.
        if !complete {
            return Err(FolderError::Inconsistent("a table was published while it was being given up"));
        }
        let files = winners.into_iter().map(|w| w.finished).collect();
        return Ok(TableResult::Published { directory, files });
    }
    Ok(match disposition {
        Disposition::Fail(error) => TableResult::Failed { error: error.clone() },
        Disposition::Abandon(cause) => TableResult::Abandoned { cause: cause.clone() },
        Disposition::Cancel | Disposition::Publish => TableResult::Cancelled,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;

    use uuid::Uuid;

    use super::*;
    use crate::folder::consume::Target;
    use crate::job::tests::{planned, record, running};
    use crate::message::request::OnConflict;

    struct Root(PathBuf);

    impl Root {
        /// Makes a file with the directories above it; gives its inode.
        fn file(&self, path: &str) -> u64 {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().expect("below the root")).expect("made");
            fs::write(&path, "rows").expect("written");
            fs::metadata(&path).expect("there").ino()
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    async fn folder() -> (Folder, Root) {
        let root = std::env::temp_dir().join(format!("adu-settle-{}", Uuid::new_v4()));
        (Folder::init(root.clone(), None).await.expect("initializes"), Root(root))
    }

    /// The record of a chunk whose part is this file.
    fn record_of(inode: u64) -> Record {
        let mut record = record(&[0]);
        record.parts[0].part.inode = inode;
        record
    }

    async fn settled(
        folder: &Folder,
        job: &JobState,
        id: BatchId,
        d: Disposition,
    ) -> Result<TableResult, FolderError> {
        let outcome = settle(folder, job, id, &[(TableNo(0), d)], Timestamp::UNIX_EPOCH).await?;
        Ok(outcome.tables[0].result.clone())
    }

    #[tokio::test]
    async fn a_table_in_place_is_reported_with_all_its_files_or_not_yet() {
        let (folder, root) = folder().await;
        let (mut job, id) = running(vec![planned(0, 0, 2)]);
        let inodes = [0, 1].map(|n| root.file(&format!("s_t0/part-00000{n}.parquet")));
        fs::create_dir_all(root.0.join(".temp/job_j/tables")).expect("made");
        let inode = fs::metadata(root.0.join("s_t0")).expect("there").ino();
        let target = Target { v: VERSION, directory: "s_t0".into(), inode };
        folder.create(&layout::target(job.id(), id.epoch, TableNo(0), 1), &target).await.expect("created");
        // This coordinator has not seen the other record yet.
        job.batches.get_mut(&id).expect("planned").record(ChunkNo(1), record_of(inodes[1]));
        let early = settled(&folder, &job, id, Disposition::Cancel).await;
        assert!(matches!(early, Err(FolderError::Inconsistent(_))), "{early:?}");
        job.batches.get_mut(&id).expect("planned").record(ChunkNo(0), record_of(inodes[0]));
        match settled(&folder, &job, id, Disposition::Cancel).await.expect("settled") {
            TableResult::Published { directory, files } => {
                assert_eq!((directory.as_str(), files.len()), ("s_t0", 2));
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn an_empty_directory_in_the_way_is_a_conflict_too() {
        let (folder, root) = folder().await;
        let (mut job, id) = running(vec![planned(0, 0, 1)]);
        Arc::make_mut(&mut job.plans[0]).on_conflict = OnConflict::Fail;
        let part = root.file(".temp/job_j/parts/e1/0/f");
        job.batches.get_mut(&id).expect("planned").record(ChunkNo(0), record_of(part));
        let ready = layout::ready_table(job.id(), id.epoch, job.plans[0].ready, TableNo(0));
        for directory in [ready.as_str(), ".temp/job_j/tables", "s_t0"] {
            fs::create_dir_all(root.0.join(directory)).expect("made");
        }
        match settled(&folder, &job, id, Disposition::Publish).await.expect("settled") {
            TableResult::Failed { error } => assert_eq!(error.code, "directory_exists"),
            other => panic!("{other:?}"),
        }
        assert_eq!(fs::read_dir(root.0.join("s_t0")).expect("there").count(), 0, "nothing moved in");
    }
}
