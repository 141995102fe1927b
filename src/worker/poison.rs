//! Chunks that kill their process. Start markers tell them from chunks that only happened to run when the
//! process died. A marker is written per table before the work, renewed during the work, and removed at any
//! orderly end. A marker that exists and is not renewed means that its start never ended.
//!
//! A chunk with two such markers is a suspect. It runs alone in its process, so that a further death is
//! certainly its fault. If deaths cost the job its snapshot, they are counted over all epochs, and one
//! lineage is kept for healthy tables.
//!
//! A chunk may run in many processes at once (invariant I10). Before a worker fails a chunk, it watches the
//! markers for as long as a daemon may be silent, and counts only those that nobody renews. Renewing gives a
//! marker a new name: that needs no free space and no clock except the watcher's own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{Shared, lock};
use crate::folder::{FolderError, RecordFile, StartName, StartPlace, VERSION};
use crate::job::decide::MAX_LINEAGES;
use crate::job::record::StartMarker;
use crate::message::event::ErrorReport;
use crate::message::task::ChunkTask;
use crate::message::{BatchId, ChunkNo, Epoch, TableNo};

/// Unfinished starts after which a chunk runs alone in its process.
const STARTS_BEFORE_ALONE: usize = 2;
/// A chunk fails after this many unfinished starts in which it ran alone.
const LONE_STARTS: usize = 3;
/// A chunk fails after unfinished starts in this many epochs, the last of them alone. The number is two below
/// the lineages of a job: a death in the first epoch leaves no marker, and one snapshot is kept in reserve
/// for healthy tables.
const EPOCHS: usize = MAX_LINEAGES - 2;

/// A start that never came to an orderly end.
#[derive(Clone, Debug)]
pub struct Start {
    /// The epoch of the start.
    pub epoch: Epoch,
    /// The name of the start's marker.
    pub name: StartName,
    /// The content of the start's marker.
    pub marker: StartMarker,
}

/// Unfinished starts of a batch in earlier epochs, each with its chunk.
pub type EarlierStarts = Vec<(ChunkNo, Start)>;

/// How a table's chunk is to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Together with others.
    Healthy,
    /// Alone, because it may be what kills the process.
    Suspect,
    /// The chunk must not run again.
    Poisoned,
}

/// How to run one table's chunk, given its unfinished starts.
#[must_use]
pub fn trust(starts: &[Start], table: TableNo) -> Trust {
    let own = || starts.iter().filter(move |s| s.marker.table == table);
    let alone = own().filter(|s| s.marker.alone).count();
    let epochs: BTreeSet<Epoch> = own().map(|s| s.epoch).collect();
    if alone >= LONE_STARTS || (alone > 0 && epochs.len() >= EPOCHS) {
        Trust::Poisoned
    } else if own().count() - alone >= STARTS_BEFORE_ALONE {
        Trust::Suspect
    } else {
        Trust::Healthy
    }
}

/// Whether the chunk may have been started before. Only then are its starts read and marked.
#[must_use]
pub fn may_have_begun(task: &ChunkTask, redelivered: bool) -> bool {
    redelivered || task.epoch > Epoch::FIRST
}

/// The unfinished starts of a chunk.
///
/// # Errors
/// When the folder refuses.
pub async fn starts(shared: &Shared, task: &ChunkTask, redelivered: bool) -> Result<Vec<Start>, FolderError> {
    let mut starts: Vec<Start> = Vec::new();
    if task.epoch > Epoch::FIRST {
        let earlier = earlier(shared, task).await?;
        starts.extend(earlier.iter().filter(|(chunk, _)| *chunk == task.chunk).map(|(_, s)| s.clone()));
    }
    if redelivered {
        let found = read(shared, task, task.epoch, Some(task.chunk)).await?;
        starts.extend(found.into_iter().map(|(_, s)| s));
    }
    Ok(starts)
}

/// The unfinished starts of all chunks of a batch in earlier epochs. They do not change, so they are read
/// only once.
async fn earlier(shared: &Shared, task: &ChunkTask) -> Result<Arc<EarlierStarts>, FolderError> {
    let key = (task.job.clone(), task.batch_id());
    if let Some(known) = lock(&shared.starts).get(&key) {
        return Ok(Arc::clone(known));
    }
    let mut found = Vec::new();
    for epoch in (Epoch::FIRST.0..task.epoch.0).map(Epoch) {
        found.extend(read(shared, task, epoch, None).await?);
    }
    let found = Arc::new(found);
    lock(&shared.starts).insert(key, Arc::clone(&found));
    Ok(found)
}

async fn read(
    shared: &Shared,
    task: &ChunkTask,
    epoch: Epoch,
    wanted: Option<ChunkNo>,
) -> Result<EarlierStarts, FolderError> {
    let workspace = shared.context.folder.job(&task.job);
    let of = BatchId { epoch, batch: task.batch };
    // By start: where a cache shows an old and a new name of one marker, the new name is kept.
    let mut named: BTreeMap<StartName, ChunkNo> = BTreeMap::new();
    for file in workspace.record_files(of).await? {
        if let RecordFile::Start(chunk, start) = file
            && wanted.is_none_or(|wanted| wanted == chunk)
        {
            named.insert(start, chunk);
        }
    }
    let mut found: BTreeMap<uuid::Uuid, (ChunkNo, Start)> = BTreeMap::new();
    for (name, chunk) in named {
        let marker = workspace.start(StartPlace { of, chunk, name }).await?;
        // This process lives, so its own markers mean no death.
        let marker = marker.filter(|m| m.instance != shared.context.instance);
        found.extend(marker.map(|marker| (name.id, (chunk, Start { epoch, name, marker }))));
    }
    Ok(found.into_values().collect())
}

/// The starts that ended in a death. A living process gives its marker a new name within the watched time, or
/// removes the marker at an orderly end. `None` if the work is to stop.
///
/// # Errors
/// When the folder refuses.
pub async fn deaths(
    shared: &Shared,
    task: &ChunkTask,
    starts: &[Start],
    cancel: &CancellationToken,
) -> Result<Option<Vec<Start>>, FolderError> {
    info!(
        starts = starts.len(),
        "a chunk looks like poison; this daemon checks whether the daemons that began it still live"
    );
    let timing = &shared.context.config.timing;
    // Wait in steps: if this machine pauses, the other processes may pause too.
    let step = timing.alive_interval.0 / 2;
    let mut left = timing.alive_timeout.0;
    while !left.is_zero() {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Ok(None),
            () = tokio::time::sleep(step.min(left)) => left = left.saturating_sub(step),
        }
    }
    let workspace = shared.context.folder.job(&task.job);
    let mut standing = BTreeSet::new();
    for epoch in starts.iter().map(|s| s.epoch).collect::<BTreeSet<_>>() {
        let of = BatchId { epoch, batch: task.batch };
        workspace.revalidate_records(of).await?;
        standing.extend(workspace.record_files(of).await?.into_iter().filter_map(|file| match file {
            RecordFile::Start(_, start) => Some((start.id, start.beat)),
            RecordFile::Record(_) | RecordFile::Failure(..) => None,
        }));
    }
    let silent = |s: &&Start| {
        let last = standing.range((s.name.id, 0)..=(s.name.id, u32::MAX)).next_back();
        last.is_some_and(|(_, beat)| *beat == s.name.beat)
    };
    Ok(Some(starts.iter().filter(silent).cloned().collect()))
}

/// The marker of a start.
pub struct Mark<'a> {
    shared: &'a Shared,
    task: &'a ChunkTask,
    name: StartName,
    /// Whether the marker may have its next name already, although renewing it reported an error.
    doubtful: bool,
}

impl<'a> Mark<'a> {
    /// Marks a start.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn new(
        shared: &'a Shared,
        task: &'a ChunkTask,
        table: TableNo,
        alone: bool,
    ) -> Result<Self, FolderError> {
        let context = &shared.context;
        let name = StartName { id: context.machine.fresh(), beat: 0 };
        let this = Self { shared, task, name, doubtful: false };
        let marker = StartMarker { v: VERSION, instance: context.instance, table, alone, at: context.now() };
        match context.folder.job(&task.job).create_start(this.place(0), &marker).await {
            Ok(()) => Ok(this),
            Err(e) => {
                // The marker may exist despite the error, and no work has begun: remove it.
                shared.unmark(&task.job, this.place(0)).await;
                Err(e)
            }
        }
    }

    /// The place of the marker after this many more renewals.
    fn place(&self, more: u32) -> StartPlace {
        let name = StartName { beat: self.name.beat.saturating_add(more), ..self.name };
        StartPlace { of: self.task.batch_id(), chunk: self.task.chunk, name }
    }

    /// Does work under this marker. Removes the marker when the work ends.
    pub async fn over<T>(mut self, work: impl Future<Output = T>) -> T {
        let ended = CancellationToken::new();
        let work = async {
            let done = work.await;
            ended.cancel();
            done
        };
        // Wait for a running renewal: a marker that it leaves behind would count as a death.
        let (done, ()) = join(work, self.renew_until(&ended)).await;
        let places = [Some(self.place(0)), self.doubtful.then(|| self.place(1))];
        for place in places.into_iter().flatten() {
            self.shared.unmark(&self.task.job, place).await;
        }
        done
    }

    async fn renew_until(&mut self, ended: &CancellationToken) {
        let interval = self.shared.context.config.timing.alive_interval.0;
        loop {
            tokio::select! {
                biased;
                () = ended.cancelled() => return,
                () = tokio::time::sleep(interval) => {}
            }
            // If the marker is gone from its place, an earlier try that reported an error has renamed it.
            let workspace = self.shared.context.folder.job(&self.task.job);
            match workspace.renew_start(self.place(0), self.place(1)).await {
                Ok(()) => {
                    self.name.beat = self.name.beat.saturating_add(1);
                    self.doubtful = false;
                }
                Err(error) => {
                    debug!(%error, "a start marker could not be renewed");
                    self.doubtful = true;
                }
            }
        }
    }
}

/// The error of a chunk that fails as poison.
#[must_use]
pub fn report(chunk: ChunkNo) -> ErrorReport {
    ErrorReport {
        code: "poison".into(),
        message: format!(
            "chunk {chunk} killed its process again and again, in the end while it ran alone in it"
        ),
        remedy: Some(
            "see the logs and core dumps of the daemons; lower row_group_bytes if it was memory".into(),
        ),
        retryable: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn starts(list: &[(u32, u32, bool)]) -> Vec<Start> {
        let start = |&(epoch, table, alone)| Start {
            epoch: Epoch(epoch),
            name: StartName { id: Uuid::nil(), beat: 0 },
            marker: StartMarker {
                v: VERSION,
                instance: Uuid::nil(),
                table: TableNo(table),
                alone,
                at: jiff::Timestamp::UNIX_EPOCH,
            },
        };
        list.iter().map(start).collect()
    }

    #[test]
    fn two_deaths_make_a_suspect_and_three_alone_a_verdict() {
        let history = [(1, 7, false), (1, 7, false), (1, 7, true), (1, 7, true), (1, 7, true)];
        let verdicts = [0, 1, 2, 3, 4, 5].map(|n| trust(&starts(&history[..n]), TableNo(7)));
        let (healthy, suspect) = (Trust::Healthy, Trust::Suspect);
        assert_eq!(verdicts, [healthy, healthy, suspect, suspect, suspect, Trust::Poisoned]);
    }

    #[test]
    fn a_chunk_that_costs_every_epoch_its_snapshot_leaves_one_to_the_others() {
        let history = [(2, 7, false), (3, 7, false), (4, 7, true)];
        assert_eq!(trust(&starts(&history[..2]), TableNo(7)), Trust::Suspect);
        assert_eq!(trust(&starts(&history), TableNo(7)), Trust::Poisoned);
        // A table that only ran together with others is never failed.
        assert_eq!(
            trust(&starts(&[(2, 7, false), (3, 7, false), (4, 7, false)]), TableNo(7)),
            Trust::Suspect
        );
    }

    #[test]
    fn a_table_does_not_answer_for_another_of_its_batch() {
        let history = [(1, 7, false), (1, 7, false), (1, 7, true), (1, 7, true), (1, 7, true)];
        assert_eq!(trust(&starts(&history), TableNo(8)), Trust::Healthy);
    }
}
