//! Reads what the folder says of jobs into their state. Open files by known
//! names where one is expected: on NFS a listing may lag behind.

use std::collections::BTreeMap;
use std::time::Duration;

use super::archive::Archive;
use super::outcome::{CancelMark, Outcome, Owner, PlanFailure, StoredRequest};
use super::state::{BatchId, JobState};
use crate::folder::layout::{self, RecordFile};
use crate::folder::{Folder, FolderError};
use crate::job::record::{Failure, Record};
use crate::message::JobId;
use crate::message::inbox::ChunkRef;

/// What a look at a workspace found.
#[derive(Debug)]
pub enum Found {
    /// A job of ours.
    Job(Box<JobState>),
    /// Somebody else's, or gone.
    NotOurs,
    /// A directory without request.
    Headless,
}

/// Opens the state of a job.
///
/// # Errors
/// When the folder refuses, or has a file of a newer release.
pub async fn open(folder: &Folder, job: &JobId, owner: &Owner, up: Duration) -> Result<Found, FolderError> {
    let Some(stored) = folder.read::<StoredRequest>(&layout::request(job)).await? else {
        let there = folder.store().stat(&layout::workspace(job)).await?.is_some();
        return Ok(if there { Found::Headless } else { Found::NotOurs });
    };
    if stored.owner != *owner {
        return Ok(Found::NotOurs);
    }
    let mut state = JobState::new(stored, up);
    refresh(folder, &mut state, up).await?;
    Ok(Found::Job(Box::new(state)))
}

/// Takes in whatever is new of a job.
///
/// # Errors
/// As [`open`].
pub async fn refresh(folder: &Folder, state: &mut JobState, up: Duration) -> Result<(), FolderError> {
    let job = state.id().clone();
    if state.archive.is_none() {
        state.archive = folder.read::<Archive>(&layout::archive_by_id(&job)).await?.map(Into::into);
    }
    if state.archive.is_some() {
        return Ok(());
    }
    if state.cancel.is_none() {
        state.cancel = folder.read::<CancelMark>(&layout::cancel(&job)).await?;
    }
    while let Some(plan) = folder.read(&layout::plan(&job, state.next_epoch())).await? {
        state.add_plan(plan);
        state.moved = up;
    }
    if state.plan_failure.is_none() {
        state.plan_failure = plan_failure(folder, &job, state.next_epoch()).await?;
    }
    let open: Vec<BatchId> = state.batches.iter().filter(|(_, b)| b.is_open()).map(|(id, _)| *id).collect();
    for id in open {
        let outcome = folder.read::<Outcome>(&layout::outcome(&job, id.epoch, id.first)).await?;
        if let Some(batch) = state.batches.get_mut(&id) {
            batch.outcome = outcome.map(Into::into);
        }
        records(folder, state, id, up).await?;
    }
    Ok(())
}

async fn plan_failure(folder: &Folder, job: &JobId, epoch: u32) -> Result<Option<PlanFailure>, FolderError> {
    let dir = layout::plans(job);
    for name in folder.store().list(&dir).await? {
        if layout::epoch_of_plan_failure(&name) == Some(epoch) {
            return folder.read(&format!("{dir}/{name}")).await;
        }
    }
    Ok(None)
}

/// Reads what stands in the records directory of a batch.
async fn records(
    folder: &Folder,
    state: &mut JobState,
    id: BatchId,
    up: Duration,
) -> Result<(), FolderError> {
    let dir = layout::records(state.id(), id.epoch, id.first);
    let mut failures: BTreeMap<uuid::Uuid, (u32, String)> = BTreeMap::new();
    let mut fresh = Vec::new();
    {
        let Some(batch) = state.batches.get(&id) else { return Ok(()) };
        for name in folder.store().list(&dir).await? {
            match RecordFile::parse(&name) {
                Some(RecordFile::Record(chunk)) => {
                    if batch.records.get(chunk as usize).is_some_and(Option::is_none) {
                        fresh.push(chunk);
                    }
                }
                Some(RecordFile::Failure(chunk)) => {
                    if let Some(uuid) = failure_id(&name)
                        && !batch.failures.contains_key(&uuid)
                        && !batch.answered.contains(&uuid)
                    {
                        failures.insert(uuid, (chunk, name));
                    }
                }
                Some(RecordFile::Start(..)) | None => {}
            }
        }
    }
    for chunk in fresh {
        record(folder, state, id, chunk, up).await?;
    }
    for (uuid, (chunk, name)) in failures {
        let failure = folder.read::<Failure>(&format!("{dir}/{name}")).await?;
        if let (Some(failure), Some(batch)) = (failure, state.batches.get_mut(&id)) {
            batch.fail(uuid, chunk, failure);
        }
    }
    Ok(())
}

fn failure_id(name: &str) -> Option<uuid::Uuid> {
    name.split_once(".fail-")?.1.strip_suffix(".json")?.parse().ok()
}

async fn record(
    folder: &Folder,
    state: &mut JobState,
    id: BatchId,
    chunk: u32,
    up: Duration,
) -> Result<bool, FolderError> {
    let path = layout::record(state.id(), id.epoch, id.first, chunk);
    let Some(record) = folder.read::<Record>(&path).await? else { return Ok(false) };
    if let Some(batch) = state.batches.get_mut(&id)
        && batch.record(chunk, record)
    {
        state.moved = up;
    }
    Ok(true)
}

/// Opens the records of a batch by their known names, if somebody has begun to
/// publish a table of it: a listing may lag behind, and what is given up must
/// not be what stands in place already.
///
/// # Errors
/// As [`open`].
pub async fn recheck(
    folder: &Folder,
    state: &mut JobState,
    id: BatchId,
    up: Duration,
) -> Result<(), FolderError> {
    let Some(batch) = state.batches.get(&id) else { return Ok(()) };
    let missing: Vec<u32> = (0..).zip(&batch.records).filter(|(_, r)| r.is_none()).map(|(c, _)| c).collect();
    let mut begun = false;
    for table in batch.tables.clone() {
        let path = layout::target(state.id(), id.epoch, table, 1);
        begun |= folder.stat_anew(&path).await?.is_some();
    }
    if begun {
        folder.store().revalidate(&layout::records(state.id(), id.epoch, id.first)).await?;
        for chunk in missing {
            record(folder, state, id, chunk, up).await?;
        }
    }
    Ok(())
}

/// Whether a record has a part of every table: else there are failures to be read.
fn has_all(state: &JobState, id: BatchId, chunk: u32) -> bool {
    let Some(batch) = state.batches.get(&id) else { return true };
    let Some(Some(record)) = batch.records.get(chunk as usize) else { return true };
    batch.tables.iter().all(|table| record.parts.iter().any(|part| part.table == *table))
}

/// Looks at one chunk that somebody woke us up for.
///
/// # Errors
/// As [`open`].
pub async fn chunk(
    folder: &Folder,
    state: &mut JobState,
    chunk: ChunkRef,
    up: Duration,
) -> Result<(), FolderError> {
    let id = BatchId { epoch: chunk.epoch, first: chunk.table };
    if !state.batches.contains_key(&id) {
        return refresh(folder, state, up).await;
    }
    if record(folder, state, id, chunk.chunk, up).await? && has_all(state, id, chunk.chunk) {
        return Ok(());
    }
    records(folder, state, id, up).await
}
