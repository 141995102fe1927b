//! A job as people look at it: its tables and its chunks, whether it runs or has ended. `of_state` and `of_archive`
//! draw it.

use std::collections::HashMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::folder::files::archive::Status;
use crate::folder::files::timeline::TimelineDaemon;
use crate::message::event::{ErrorReport, JobProgress};
use crate::message::presence::Doing;
use crate::message::{BatchId, ChunkNo, ExportRequest, JobId, SourceName, TableNo, Task};
use crate::plan::export_plan::SkippedRelation;

mod of_archive;
mod of_state;

pub use of_state::phase;

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It waits to be planned.
    Waiting,
    /// Its tables are being exported.
    Running,
    /// It was cancelled, and ends.
    Cancelling,
    /// Everything is decided; the last steps are being made.
    Finishing,
    /// It ended, and every table is exported.
    Completed,
    /// It ended, and some tables failed.
    Partial,
    /// It ended, and no table is exported.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl Phase {
    /// The phase as text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Finishing => "finishing",
            Self::Completed => "completed",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the job has ended.
    #[must_use]
    pub fn is_end(self) -> bool {
        matches!(self, Self::Completed | Self::Partial | Self::Failed | Self::Cancelled)
    }
}

impl From<Status> for Phase {
    fn from(status: Status) -> Self {
        match status {
            Status::Completed => Self::Completed,
            Status::Partial => Self::Partial,
            Status::Failed => Self::Failed,
            Status::Cancelled => Self::Cancelled,
        }
    }
}

/// A job in a line.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct JobBrief {
    /// The job.
    pub job_id: JobId,
    /// Where it is.
    pub status: Phase,
    /// Its source.
    pub source: SourceName,
    /// When the request was stored.
    pub received_at: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub committed_at: Option<Timestamp>,
    /// Seconds from the storing of the request to its end, or to now.
    pub seconds: f64,
    /// The last plan: 1 for the first.
    pub epoch: u32,
    /// How far it is.
    pub progress: JobProgress,
    /// Chunks that run now.
    pub chunks_running: u64,
    /// Tables that failed.
    pub tables_failed: u32,
    /// Rows per second since the first chunk began.
    pub rows_per_second: f64,
    /// Seconds until its end, if it goes on like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<f64>,
    /// When its last plan was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_at: Option<Timestamp>,
    /// When its newest chunk ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_at: Option<Timestamp>,
    /// The job whose failed tables it exports again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<JobId>,
    /// Why it failed, or was cancelled; else the error of the first table that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorReport>,
}

/// The state of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TableState {
    /// No chunk has begun.
    Waiting,
    /// Chunks run or have run.
    Running,
    /// The table is at its final place.
    Done,
    /// The table failed.
    Failed,
    /// The job was cancelled before the table was done.
    Cancelled,
}

impl TableState {
    /// Every state, what needs attention first.
    pub const ALL: [Self; 5] = [Self::Failed, Self::Running, Self::Waiting, Self::Cancelled, Self::Done];

    /// The state as text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A table of a job.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TablePicture {
    /// Its place in the job, from 0.
    pub place: u32,
    /// `schema.table`.
    pub table: String,
    /// Its state.
    pub state: TableState,
    /// How it is split.
    pub strategy: String,
    /// Why it is split like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How its rows are read, if its source has several ways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<String>,
    /// Rows so far, with those of running chunks.
    pub rows: u64,
    /// Rows expected.
    pub estimated_rows: u64,
    /// Bytes of its files, and bytes read by running chunks.
    pub bytes: u64,
    /// All chunks.
    pub chunks: u32,
    /// Finished chunks.
    pub chunks_done: u32,
    /// Chunks that run now.
    pub chunks_running: u32,
    /// Chunks that failed.
    pub chunks_failed: u32,
    /// The plan that has it: 1 for the first.
    pub epoch: u32,
    /// Seconds from the start of its first chunk to the end of its last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Its directory, relative to the root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Its files.
    pub files: u32,
    /// What its owner should know about the rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorReport>,
}

impl TablePicture {
    /// Whether nothing more happens to it.
    #[must_use]
    pub fn ended(&self) -> bool {
        matches!(self.state, TableState::Done | TableState::Failed | TableState::Cancelled)
    }
}

/// The state of a chunk, in the order of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChunkState {
    /// It is done.
    Done,
    /// It is not done, and does not run.
    Waiting,
    /// It runs.
    Running,
    /// It failed.
    Failed,
}

impl ChunkState {
    /// The state as text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Failed => "failed",
        }
    }
}

/// A chunk of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChunkPicture {
    /// Place of its table.
    pub table: u32,
    /// Its number within the table.
    pub chunk: u32,
    /// Its state.
    pub state: ChunkState,
    /// Whether it belongs to the newest plan of its table. Others only took time.
    pub current: bool,
    /// Who worked on it, and when; only of the first table of a batch, so that nothing is told twice.
    pub work: Option<Work>,
}

/// Work on a chunk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Place of the daemon in [`Picture::daemons`].
    pub daemon: u32,
    /// When it began, in milliseconds since 1970.
    pub start: i64,
    /// How long it took, or takes until now, in milliseconds.
    pub duration: u64,
}

/// A snapshot that unfinished tables of a job read.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenSnapshot {
    /// Its lineage.
    pub lineage: Uuid,
    /// Its time.
    pub time: Timestamp,
    /// Whether sessions have to hold it.
    pub needs_keepers: bool,
}

/// A job as people look at it.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// The job in a line.
    pub brief: JobBrief,
    /// Its request.
    pub request: ExportRequest,
    /// Its tables.
    pub tables: Vec<TablePicture>,
    /// Their numbers in the plans, in the same order; none for a job that has ended.
    pub numbers: Vec<TableNo>,
    /// Its chunks, by table and number.
    pub chunks: Vec<ChunkPicture>,
    /// The daemons that worked on it.
    pub daemons: Vec<TimelineDaemon>,
    /// Chunks whose times the archive did not keep.
    pub left_out: u64,
    /// Relations that patterns matched and that are left out.
    pub skipped: Vec<SkippedRelation>,
    /// Snapshots that are still read.
    pub snapshots: Vec<OpenSnapshot>,
    /// How many chunks the server lets us run at once.
    pub most_chunks: Option<u32>,
}

/// A chunk that a daemon works on now.
#[derive(Clone, Debug)]
pub struct AtWork {
    /// The daemon.
    pub daemon: TimelineDaemon,
    /// What it does.
    pub doing: Doing,
}

/// The chunks that daemons work on, by job, batch and number.
#[derive(Debug, Default)]
pub struct Running(HashMap<JobId, HashMap<(BatchId, ChunkNo), AtWork>>);

impl Running {
    /// Sorts what daemons do. Where two do the same, one is taken.
    #[must_use]
    pub fn of(work: impl IntoIterator<Item = AtWork>) -> Self {
        let mut running = Self::default();
        for work in work {
            if let Task::Chunk(task) = &work.doing.task {
                let key = (task.batch_id(), task.chunk);
                running.0.entry(task.job.clone()).or_default().insert(key, work);
            }
        }
        running
    }

    /// Who works on a chunk.
    #[must_use]
    pub fn on(&self, job: &JobId, batch: BatchId, chunk: ChunkNo) -> Option<&AtWork> {
        self.0.get(job)?.get(&(batch, chunk))
    }

    /// How many chunks of a job run.
    #[must_use]
    pub fn of_job(&self, job: &JobId) -> u64 {
        self.0.get(job).map_or(0, |chunks| chunks.len() as u64)
    }
}

/// The rate since the first chunk began, and the time that is left at this rate.
fn pace(progress: &JobProgress, live_rows: u64, seconds: f64) -> (f64, Option<f64>) {
    let rows = progress.rows + live_rows;
    if seconds <= 0.0 || rows == 0 {
        return (0.0, None);
    }
    let rate = rows as f64 / seconds;
    let missing = progress.rows_estimated.saturating_sub(rows);
    let open = progress.chunks > progress.chunks_done;
    (rate, (open && missing > 0).then(|| missing as f64 / rate))
}
