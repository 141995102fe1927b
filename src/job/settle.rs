//! Publishes or discards the tables of a batch, then writes its outcome. Another coordinator may have done
//! each step before: the destination decides once about each table, and the outcome is an exclusive file
//! (invariants I4, I10).

use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use tracing::Span;

use super::decide::Disposition;
use super::outcome::{FinishedFile, Outcome, TableOutcome, TableResult};
use super::record::{Cause, Record, RecordedPart, RecordedTable};
use super::state::{BatchId, JobState};
use crate::destination::{Decision, Destination, Publication, StagedTable, WinningPart};
use crate::folder::{Folder, FolderError, VERSION};
use crate::message::event::{ErrorReport, PagesRead};
use crate::message::pattern::with_others;
use crate::message::request::OnConflict;
use crate::message::{JobId, TableNo};
use crate::plan::ExportPlan;
use crate::plan::export_plan::PlannedTable;
use crate::traces::{self, JobTrace};

/// Maximum number of tables of a batch that are settled at once. Each table waits for four fsyncs, three of
/// which it shares with the others.
const TABLES_AT_ONCE: usize = 16;

/// A batch whose tables are decided, with all that is needed to carry the decision out. News of the job that
/// arrive meanwhile do not change it.
#[derive(Clone, Debug)]
pub struct Settlement {
    job: JobId,
    id: BatchId,
    cancelled: bool,
    on_conflict: OnConflict,
    tables: Vec<Leaving>,
    /// W3C trace context of the request.
    traceparent: Option<String>,
}

/// A table of the batch.
#[derive(Clone, Debug)]
struct Leaving {
    staged: StagedTable,
    /// For reports.
    name: String,
    parts: Vec<WinningPart>,
    files: Vec<FinishedFile>,
    /// Pages that its chunks read, if they were read by pages.
    pages: Option<PagesRead>,
    /// Whether every chunk has a record with this table.
    complete: bool,
    disposition: Disposition,
}

impl Settlement {
    /// How many parts its tables have.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.tables.iter().map(|table| table.parts.len()).sum()
    }

    /// What is to be done with a batch. Pure.
    ///
    /// # Errors
    /// When its plan is not known.
    pub fn of(
        job: &JobState,
        id: BatchId,
        dispositions: &[(TableNo, Disposition)],
    ) -> Result<Self, FolderError> {
        let plan = job.plan(id.epoch).ok_or(FolderError::Inconsistent("a batch has no plan"))?;
        let known = dispositions.iter().filter_map(|(number, d)| Some((plan.table(*number)?, d)));
        Ok(Self {
            job: job.id().clone(),
            id,
            cancelled: job.cancel.is_some(),
            on_conflict: plan.on_conflict,
            tables: known.map(|(table, d)| leaving(job, id, plan, table, d.clone())).collect(),
            traceparent: job.stored.caller.traceparent.clone(),
        })
    }

    /// Carries the decision out.
    ///
    /// # Errors
    /// When folder or destination refuse. Nothing is lost: the next try continues from there.
    pub async fn settle(
        &self,
        folder: &Folder,
        destination: &dyn Destination,
        now: Timestamp,
    ) -> Result<Arc<Outcome>, FolderError> {
        let workspace = folder.job(&self.job);
        if let Some(outcome) = workspace.outcome(self.id).await? {
            return Ok(Arc::new(outcome));
        }
        let trace = self.trace(folder);
        let mut tables = Vec::with_capacity(self.tables.len());
        for some in self.tables.chunks(TABLES_AT_ONCE) {
            let settled = some.iter().map(|table| self.settle_table(destination, table, now));
            // All of them are waited for, so that an error of one table leaves no other half done.
            for (result, table) in join_all(settled).await.into_iter().zip(some) {
                let result = result.inspect_err(|_| traces::fail(&trace, "storage"))?;
                if let TableResult::Failed { error } = &result {
                    traces::fail(&trace, &error.code);
                }
                tables.push(TableOutcome { table: table.staged.table, result });
            }
        }
        let outcome = Outcome { v: VERSION, at: now, tables };
        let settled = workspace.settle(self.id, outcome).await;
        Ok(Arc::new(settled.inspect_err(|_| traces::fail(&trace, "storage"))?))
    }

    /// Begins the span of the publication, if there is one.
    fn trace(&self, folder: &Folder) -> Span {
        let published = || self.tables.iter().filter(|table| table.disposition == Disposition::Publish);
        let Some(first) = published().next() else { return Span::none() };
        let table = with_others(first.name.clone(), published().count() - 1);
        let files = published().map(|table| table.files.len()).sum();
        let traceparent = self.traceparent.as_deref();
        let job = JobTrace { root: folder.id(), job: &self.job, traceparent };
        job.publish(self.id, &table, published().count(), files)
    }

    async fn settle_table(
        &self,
        destination: &dyn Destination,
        table: &Leaving,
        now: Timestamp,
    ) -> Result<TableResult, FolderError> {
        if table.disposition != Disposition::Publish {
            return self.leave(destination, table, &table.disposition, now).await;
        }
        self.publish(destination, table, now).await
    }

    async fn publish(
        &self,
        destination: &dyn Destination,
        table: &Leaving,
        now: Timestamp,
    ) -> Result<TableResult, FolderError> {
        let error = match destination.publish(&table.staged, &table.parts, self.on_conflict, now).await? {
            Publication::Decided(Decision::Published(directory)) => {
                destination.confirm(&directory, &table.parts).await?;
                return Ok(TableResult::Published {
                    directory,
                    files: table.files.clone(),
                    pages: table.pages,
                });
            }
            // Another coordinator saw a cancel or a failure first, and has not written the outcome yet.
            Publication::Decided(Decision::Discarded) if self.cancelled => return Ok(TableResult::Cancelled),
            Publication::Decided(Decision::Discarded) => {
                return Ok(TableResult::Abandoned { cause: Cause::LineageLost });
            }
            Publication::Taken(directory) => ErrorReport::permanent(
                "directory_exists",
                format!("{}: the directory {directory} exists and on_conflict is `fail`", table.name),
                "move the directory away, or use on_conflict version or timestamp",
            ),
            Publication::Refused(error) => error,
        };
        match destination.discard(&table.staged).await? {
            Decision::Discarded => Ok(TableResult::Failed { error }),
            // The directory in the way is this table itself: another coordinator published it first.
            Decision::Published(directory) => {
                destination.confirm(&directory, &table.parts).await?;
                Ok(TableResult::Published { directory, files: table.files.clone(), pages: table.pages })
            }
        }
    }

    /// Gives a table up, unless another coordinator has decided to publish it.
    async fn leave(
        &self,
        destination: &dyn Destination,
        table: &Leaving,
        disposition: &Disposition,
        now: Timestamp,
    ) -> Result<TableResult, FolderError> {
        if let Decision::Published(_) = destination.discard(&table.staged).await? {
            // The coordinator that published the table had seen every record. Without all of them, we know
            // too little to report the table.
            if !table.complete {
                return Err(FolderError::Inconsistent("a table was published while it was being given up"));
            }
            // That coordinator may have died while it published: finish it.
            return self.publish(destination, table, now).await;
        }
        Ok(match disposition {
            Disposition::Fail(error) => TableResult::Failed { error: error.clone() },
            Disposition::Abandon(cause) => TableResult::Abandoned { cause: cause.clone() },
            Disposition::Cancel | Disposition::Publish => TableResult::Cancelled,
        })
    }
}

fn leaving(
    job: &JobState,
    id: BatchId,
    plan: &ExportPlan,
    table: &PlannedTable,
    disposition: Disposition,
) -> Leaving {
    let winners = winners(job, id, table.number);
    let has = |record: &Record| record.of(table.number).is_some();
    let complete =
        job.batches.get(&id).is_some_and(|b| b.records.iter().all(|r| r.as_deref().is_some_and(has)));
    let part =
        |part: &&RecordedPart| WinningPart { reference: part.reference.clone(), path: part.path.clone() };
    // While records are missing, a part without rows may still be left out of the table.
    let certain = winners.first().filter(|first| complete || first.rows > 0);
    let file = |part: &&RecordedPart| FinishedFile {
        file: part.path.clone(),
        rows: part.rows,
        bytes: part.bytes,
        sha256: part.sha256.clone(),
    };
    Leaving {
        staged: StagedTable {
            job: job.id().clone(),
            of: id,
            table: table.number,
            stage: plan.ready,
            directory: table.directory.clone(),
            base: table.base.clone(),
            certain: certain.map(part),
        },
        name: format!("{}.{}", table.schema, table.name),
        parts: winners.iter().map(part).collect(),
        files: winners.iter().map(file).collect(),
        pages: PagesRead::sum(records(job, id, table.number).filter_map(|of| of.pages)),
        complete,
        disposition,
    }
}

/// The parts that the records name, in key order. Parts without rows are left out; if no part has rows, the
/// part of the first chunk is kept alone.
fn winners(job: &JobState, id: BatchId, table: TableNo) -> Vec<&RecordedPart> {
    let mut all: Vec<&RecordedPart> = records(job, id, table).flat_map(|of| &of.parts).collect();
    if all.iter().any(|part| part.rows > 0) {
        all.retain(|part| part.rows > 0);
    } else {
        all.truncate(1);
    }
    all
}

/// What the records say about a table.
fn records(job: &JobState, id: BatchId, table: TableNo) -> impl Iterator<Item = &RecordedTable> {
    let records = job.batches.get(&id).into_iter().flat_map(|batch| batch.records.iter().flatten());
    records.filter_map(move |record| record.of(table))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;

    use uuid::Uuid;

    use super::*;
    use crate::destination::folder::consume::Target;
    use crate::destination::{FolderDestination, PartReference};
    use crate::folder::layout;
    use crate::job::tests::{planned, record, running};
    use crate::message::ChunkNo;
    use crate::parts::part_path;

    struct Root(PathBuf);

    impl Root {
        /// Makes a file, and the directories above it. Returns the file's inode.
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
    fn record_of(chunk: ChunkNo, inode: u64) -> Record {
        let mut record = record(&[0]);
        let part = &mut record.tables[0].parts[0];
        (part.path, part.reference) = (part_path(chunk), PartReference::of_file(inode, "f"));
        record
    }

    async fn settled(
        folder: &Folder,
        job: &JobState,
        id: BatchId,
        d: Disposition,
    ) -> Result<TableResult, FolderError> {
        let settlement = Settlement::of(job, id, &[(TableNo(0), d)])?;
        let destination = FolderDestination::new(folder.clone());
        let outcome = settlement.settle(folder, &destination, Timestamp::UNIX_EPOCH).await?;
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
        job.batches.get_mut(&id).expect("planned").record(ChunkNo(1), record_of(ChunkNo(1), inodes[1]));
        let early = settled(&folder, &job, id, Disposition::Cancel).await;
        assert!(matches!(early, Err(FolderError::Inconsistent(_))), "{early:?}");
        job.batches.get_mut(&id).expect("planned").record(ChunkNo(0), record_of(ChunkNo(0), inodes[0]));
        match settled(&folder, &job, id, Disposition::Cancel).await.expect("settled") {
            TableResult::Published { directory, files, .. } => {
                assert_eq!((directory.as_str(), files.len()), ("s_t0", 2));
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn an_empty_directory_in_the_way_is_a_conflict_too() {
        let (folder, root) = folder().await;
        let (mut job, id) = running(vec![planned(0, 0, 1)]);
        let mut plan = ExportPlan::clone(job.plan(id.epoch).expect("planned"));
        plan.on_conflict = OnConflict::Fail;
        job.plans[0] = plan.into();
        let part = root.file(".temp/job_j/parts/e1/0/f");
        job.batches.get_mut(&id).expect("planned").record(ChunkNo(0), record_of(ChunkNo(0), part));
        let ready = layout::ready_table(job.id(), id.epoch, Uuid::nil(), TableNo(0));
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
