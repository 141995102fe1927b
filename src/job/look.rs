//! Reads what the folder says of jobs into their state. An expected file is opened by its known name: on NFS
//! a directory listing may lag behind.

use std::collections::BTreeMap;
use std::time::Duration;

use super::outcome::Owner;
use super::state::{BatchId, BatchState, JobState};
use crate::destination::Destination;
use crate::folder::{Folder, FolderError, RecordFile};
use crate::message::inbox::ChunkRef;
use crate::message::{ChunkNo, JobId};

/// The result of opening a workspace.
#[derive(Debug)]
pub enum OpenedJob {
    /// A job of ours.
    Job(Box<JobState>),
    /// The workspace of another owner, or none.
    NotOurs,
    /// A workspace without a request.
    Headless,
}

/// Opens the state of a job.
///
/// # Errors
/// When the folder refuses, or has a file of a newer release.
pub async fn open(
    folder: &Folder,
    job: &JobId,
    owner: &Owner,
    up: Duration,
) -> Result<OpenedJob, FolderError> {
    let workspace = folder.job(job);
    let Some(stored) = workspace.request().await? else {
        return Ok(if workspace.exists().await? { OpenedJob::Headless } else { OpenedJob::NotOurs });
    };
    if stored.owner != *owner {
        return Ok(OpenedJob::NotOurs);
    }
    let mut state = JobState::new(stored, up);
    refresh(folder, &mut state, up).await?;
    Ok(OpenedJob::Job(Box::new(state)))
}

/// Reads everything that is new of a job.
///
/// # Errors
/// As [`open`].
pub async fn refresh(folder: &Folder, state: &mut JobState, up: Duration) -> Result<(), FolderError> {
    let job = state.id().clone();
    let workspace = folder.job(&job);
    if state.archive.is_none() {
        state.archive = workspace.archive().await?.map(Into::into);
    }
    if state.archive.is_some() {
        return Ok(());
    }
    if state.cancel.is_none() {
        state.cancel = workspace.cancel_mark().await?;
    }
    while let Some(plan) = workspace.plan(state.next_epoch()).await? {
        state.add_plan(plan);
        state.moved = up;
    }
    if state.plan_failure.is_none() {
        state.plan_failure = workspace.plan_failure(state.next_epoch()).await?;
    }
    // The task that settles a batch reports its outcome once that is durable.
    let is_open = |batch: &BatchState| batch.is_open() && !batch.settling;
    let open: Vec<BatchId> = state.batches.iter().filter(|(_, b)| is_open(b)).map(|(id, _)| *id).collect();
    for id in open {
        let outcome = workspace.outcome(id).await?;
        if let Some(batch) = state.batches.get_mut(&id) {
            batch.outcome = outcome.map(Into::into);
        }
        records(folder, state, id, up).await?;
    }
    Ok(())
}

/// Reads the new files in the records directory of a batch.
async fn records(
    folder: &Folder,
    state: &mut JobState,
    id: BatchId,
    up: Duration,
) -> Result<(), FolderError> {
    let job = state.id().clone();
    let workspace = folder.job(&job);
    let mut failures: BTreeMap<uuid::Uuid, ChunkNo> = BTreeMap::new();
    let mut fresh = Vec::new();
    {
        let Some(batch) = state.batches.get(&id) else { return Ok(()) };
        for file in workspace.record_files(id).await? {
            match file {
                RecordFile::Record(chunk) => {
                    if batch.records.get(chunk.index()).is_some_and(Option::is_none) {
                        fresh.push(chunk);
                    }
                }
                RecordFile::Failure(chunk, failure) => {
                    if !batch.failures.contains_key(&failure) && !batch.answered.contains(&failure) {
                        failures.insert(failure, chunk);
                    }
                }
                RecordFile::Start(..) => {}
            }
        }
    }
    for chunk in fresh {
        record(folder, state, id, chunk, up).await?;
    }
    for (uuid, chunk) in failures {
        let failure = workspace.failure(id, chunk, uuid).await?;
        if let (Some(failure), Some(batch)) = (failure, state.batches.get_mut(&id)) {
            batch.fail(uuid, chunk, failure);
        }
    }
    Ok(())
}

async fn record(
    folder: &Folder,
    state: &mut JobState,
    id: BatchId,
    chunk: ChunkNo,
    up: Duration,
) -> Result<bool, FolderError> {
    let Some(record) = folder.job(state.id()).record(id, chunk).await? else { return Ok(false) };
    if let Some(batch) = state.batches.get_mut(&id)
        && batch.record(chunk, record)
    {
        state.moved = up;
    }
    Ok(true)
}

/// If somebody has begun to publish a table of the batch, opens the batch's missing records by their known
/// names. A listing may lag behind, and a table that is published already must not be given up.
///
/// # Errors
/// As [`open`].
pub async fn recheck(
    folder: &Folder,
    destination: &dyn Destination,
    state: &mut JobState,
    id: BatchId,
    up: Duration,
) -> Result<(), FolderError> {
    let Some(batch) = state.batches.get(&id) else { return Ok(()) };
    let missing: Vec<ChunkNo> = batch.unrecorded().collect();
    let mut begun = false;
    for table in batch.tables.clone() {
        begun |= destination.is_begun(state.id(), id, table).await?;
    }
    if begun {
        folder.job(state.id()).revalidate_records(id).await?;
        for chunk in missing {
            record(folder, state, id, chunk, up).await?;
        }
    }
    Ok(())
}

/// Whether a record has an entry of every table. If not, there are failures to read.
fn has_all(state: &JobState, id: BatchId, chunk: ChunkNo) -> bool {
    let Some(batch) = state.batches.get(&id) else { return true };
    let Some(Some(record)) = batch.records.get(chunk.index()) else { return true };
    batch.tables.iter().all(|table| record.of(*table).is_some())
}

/// Looks at one chunk that a wake-up names.
///
/// # Errors
/// As [`open`].
pub async fn chunk(
    folder: &Folder,
    state: &mut JobState,
    chunk: ChunkRef,
    up: Duration,
) -> Result<(), FolderError> {
    let id = chunk.batch_id();
    if !state.batches.contains_key(&id) {
        return refresh(folder, state, up).await;
    }
    if record(folder, state, id, chunk.chunk, up).await? && has_all(state, id, chunk.chunk) {
        return Ok(());
    }
    records(folder, state, id, up).await
}
