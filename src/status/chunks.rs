//! The chunks of a job, drawn small: a map of their states, and a timeline by daemon. Both have an upper size,
//! however many chunks there are.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::picture::{ChunkPicture, ChunkState, Picture, Work};
use crate::message::JobId;

/// Cells of a map at most.
pub const MOST_CELLS: usize = 480;
/// Bars of a timeline at most; more chunks are drawn as how many ran at once.
const MOST_BARS: usize = 400;
/// Moments at which that is counted.
const MOMENTS: usize = 240;
/// Daemons of a timeline at most.
const MOST_DAEMONS: usize = 40;
/// Chunks that are listed as the longest.
const LONGEST: usize = 10;
/// A chunk is slow if it takes more than so many times as long as the middle one, and more than a second.
const SLOW: u64 = 3;
const LEAST_SLOW: u64 = 1000;

/// The chunks of a job, or of one of its tables.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ChunksView {
    /// The job.
    pub job_id: JobId,
    /// What state they are in.
    pub map: ChunkMap,
    /// Who worked when.
    pub timeline: TimelineView,
    /// The chunks that took longest.
    pub longest: Vec<LongChunk>,
}

/// The states of chunks, in the order of tables and keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct ChunkMap {
    /// How many chunks there are.
    pub chunks: u64,
    /// How many are done.
    pub done: u64,
    /// How many run.
    pub running: u64,
    /// How many failed.
    pub failed: u64,
    /// How many are neither done nor run.
    pub waiting: u64,
    /// How many chunks a cell stands for.
    pub per_cell: u64,
    /// The cells.
    pub cells: Vec<Cell>,
}

/// Some chunks that follow one another.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Cell {
    /// The state that needs most attention; `done` only if all are done.
    pub state: ChunkState,
    /// Table of the first of them.
    pub table: String,
    /// Number of the first of them within its table.
    pub chunk: u32,
    /// How many chunks it stands for.
    pub chunks: u32,
    /// How many of them are done.
    pub done: u32,
    /// Host that works on the first one that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// When which daemon worked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct TimelineView {
    /// The begin of the first chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// The end of the last chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// The daemons.
    pub daemons: Vec<DaemonLine>,
    /// Daemons that are left out, because they are too many.
    pub daemons_left_out: u64,
    /// Chunks that are left out, because their times were not kept.
    pub chunks_left_out: u64,
}

/// When a daemon worked.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct DaemonLine {
    /// Its host.
    pub host: String,
    /// Its process.
    pub instance: Uuid,
    /// How many chunks it exported, and exports.
    pub chunks: u64,
    /// Seconds of work, over all chunks.
    pub seconds: f64,
    /// How many chunks it had at once, at most.
    pub lanes: u32,
    /// Its chunks; none if there are too many.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bars: Vec<Bar>,
    /// How many chunks it had at once, at equal steps from `from` to `to`; only without bars.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub busy: Vec<f32>,
}

/// A chunk in time.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Bar {
    /// Table of the chunk; of a batch, its first.
    pub table: String,
    /// Its number within the table.
    pub chunk: u32,
    /// Its state.
    pub state: ChunkState,
    /// Milliseconds after `from`.
    pub start: u64,
    /// Milliseconds.
    pub duration: u64,
    /// Its lane: chunks of a lane do not overlap.
    pub lane: u32,
    /// Whether it took more than three times as long as the middle chunk.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub slow: bool,
    /// Whether the table was planned again, so that this work did not count.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub in_vain: bool,
}

/// A chunk that took long.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LongChunk {
    /// Its table.
    pub table: String,
    /// Place of its table in the job.
    pub place: u32,
    /// Its number within the table.
    pub chunk: u32,
    /// Its state.
    pub state: ChunkState,
    /// Host of its daemon.
    pub host: String,
    /// When it began.
    pub started_at: Timestamp,
    /// Seconds.
    pub seconds: f64,
    /// How many times as long as the middle chunk of the job.
    pub times_median: f64,
}

impl ChunksView {
    /// The chunks of a job, or of the table in one place of it.
    #[must_use]
    pub fn of(job: &Picture, table: Option<u32>) -> Self {
        let wanted = |c: &&ChunkPicture| table.is_none_or(|table| c.table == table);
        let chunks: Vec<&ChunkPicture> = job.chunks.iter().filter(wanted).collect();
        Self {
            job_id: job.brief.job_id.clone(),
            map: map(job, &chunks),
            timeline: timeline(job, &chunks),
            longest: longest(job, &chunks),
        }
    }
}

fn name(job: &Picture, table: u32) -> String {
    job.tables.get(table as usize).map(|t| t.table.clone()).unwrap_or_default()
}

fn host(job: &Picture, work: Work) -> String {
    job.daemons.get(work.daemon as usize).map(|d| d.host.clone()).unwrap_or_default()
}

fn map(job: &Picture, chunks: &[&ChunkPicture]) -> ChunkMap {
    let current: Vec<&ChunkPicture> = chunks.iter().copied().filter(|c| c.current).collect();
    let of = |state| current.iter().filter(|c| c.state == state).count() as u64;
    let per_cell = current.len().div_ceil(MOST_CELLS).max(1);
    let cell = |chunks: &[&ChunkPicture]| {
        let first = chunks.first()?;
        let running = chunks.iter().filter(|c| c.state == ChunkState::Running).find_map(|c| c.work);
        Some(Cell {
            state: chunks.iter().map(|c| c.state).max().unwrap_or(ChunkState::Done),
            table: name(job, first.table),
            chunk: first.chunk,
            chunks: u32::try_from(chunks.len()).unwrap_or(u32::MAX),
            done: u32::try_from(chunks.iter().filter(|c| c.state == ChunkState::Done).count()).unwrap_or(0),
            host: running.map(|work| host(job, work)),
        })
    };
    ChunkMap {
        chunks: current.len() as u64,
        done: of(ChunkState::Done),
        running: of(ChunkState::Running),
        failed: of(ChunkState::Failed),
        waiting: of(ChunkState::Waiting),
        per_cell: per_cell as u64,
        cells: current.chunks(per_cell).filter_map(cell).collect(),
    }
}

fn timeline(job: &Picture, chunks: &[&ChunkPicture]) -> TimelineView {
    let works: Vec<(&ChunkPicture, Work)> = chunks.iter().filter_map(|c| Some((*c, c.work?))).collect();
    let end = |work: &Work| work.start.saturating_add_unsigned(work.duration);
    let (Some(from), Some(to)) =
        (works.iter().map(|(_, w)| w.start).min(), works.iter().map(|(_, w)| end(w)).max())
    else {
        return TimelineView { chunks_left_out: job.left_out, ..TimelineView::default() };
    };
    let to = to.max(from + 1);
    let single = works.len() <= MOST_BARS;
    let middle = median(&works);
    let mut of_daemon: Vec<Vec<(&ChunkPicture, Work)>> = vec![Vec::new(); job.daemons.len()];
    for (chunk, work) in works {
        if let Some(list) = of_daemon.get_mut(work.daemon as usize) {
            list.push((chunk, work));
        }
    }
    let mut lines: Vec<DaemonLine> = job
        .daemons
        .iter()
        .zip(of_daemon)
        .filter(|(_, works)| !works.is_empty())
        .map(|(daemon, mut works)| {
            works.sort_by_key(|(c, w)| (w.start, w.duration, c.table, c.chunk));
            let (lanes, bars) = bars(job, &works, from, middle);
            DaemonLine {
                host: daemon.host.clone(),
                instance: daemon.instance,
                chunks: works.len() as u64,
                seconds: works.iter().map(|(_, w)| w.duration).sum::<u64>() as f64 / 1e3,
                lanes,
                bars: if single { bars } else { Vec::new() },
                busy: if single { Vec::new() } else { busy(&works, from, to) },
            }
        })
        .collect();
    let left_out = lines.len().saturating_sub(MOST_DAEMONS) as u64;
    if left_out > 0 {
        lines.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        lines.truncate(MOST_DAEMONS);
    }
    lines.sort_by(|a, b| (&a.host, a.instance).cmp(&(&b.host, b.instance)));
    TimelineView {
        from: Timestamp::from_millisecond(from).ok(),
        to: Timestamp::from_millisecond(to).ok(),
        daemons: lines,
        daemons_left_out: left_out,
        chunks_left_out: job.left_out,
    }
}

/// Puts each chunk into the first lane that is free when the chunk begins.
fn bars(job: &Picture, works: &[(&ChunkPicture, Work)], from: i64, middle: u64) -> (u32, Vec<Bar>) {
    let mut free_at: Vec<i64> = Vec::new();
    let mut bars = Vec::new();
    let wants_bars = works.len() <= MOST_BARS;
    for (chunk, work) in works {
        let end = work.start.saturating_add_unsigned(work.duration);
        let lane = match free_at.iter().position(|free| *free <= work.start) {
            Some(lane) => lane,
            None => {
                free_at.push(end);
                free_at.len() - 1
            }
        };
        if let Some(free) = free_at.get_mut(lane) {
            *free = end;
        }
        if wants_bars {
            bars.push(Bar {
                table: name(job, chunk.table),
                chunk: chunk.chunk,
                state: chunk.state,
                start: work.start.abs_diff(from),
                duration: work.duration,
                lane: u32::try_from(lane).unwrap_or(u32::MAX),
                slow: work.duration > middle.saturating_mul(SLOW).max(LEAST_SLOW),
                in_vain: !chunk.current,
            });
        }
    }
    (u32::try_from(free_at.len()).unwrap_or(u32::MAX), bars)
}

/// How many chunks ran at once, as the mean of each step.
fn busy(works: &[(&ChunkPicture, Work)], from: i64, to: i64) -> Vec<f32> {
    let step = (to - from) as f64 / MOMENTS as f64;
    // What begins or ends within a step, and what covers whole steps, as differences.
    let (mut parts, mut whole) = (vec![0.0_f64; MOMENTS], vec![0_i64; MOMENTS + 1]);
    for (_, work) in works {
        let begin = (work.start - from) as f64 / step;
        let end = (begin + work.duration as f64 / step).min(MOMENTS as f64);
        let (first, last) = (begin.floor() as usize, (end.floor() as usize).min(MOMENTS - 1));
        if first >= last {
            parts[first.min(MOMENTS - 1)] += end - begin;
            continue;
        }
        parts[first] += (first + 1) as f64 - begin;
        parts[last] += end - last as f64;
        whole[first + 1] += 1;
        whole[last] -= 1;
    }
    let mut now = 0;
    let mean = |(part, change): (&f64, &i64)| {
        now += change;
        ((now as f64 + part) * 100.0).round() as f32 / 100.0
    };
    parts.iter().zip(&whole).map(mean).collect()
}

/// The duration of the middle chunk.
fn median(works: &[(&ChunkPicture, Work)]) -> u64 {
    let mut durations: Vec<u64> = works.iter().map(|(_, work)| work.duration).collect();
    if durations.is_empty() {
        return 0;
    }
    let middle = durations.len() / 2;
    *durations.select_nth_unstable(middle).1
}

fn longest(job: &Picture, chunks: &[&ChunkPicture]) -> Vec<LongChunk> {
    let mut works: Vec<(&ChunkPicture, Work)> = chunks.iter().filter_map(|c| Some((*c, c.work?))).collect();
    let median = median(&works).max(1);
    works.sort_by_key(|(c, w)| (std::cmp::Reverse(w.duration), c.table, c.chunk));
    let long = |(chunk, work): &(&ChunkPicture, Work)| {
        Some(LongChunk {
            table: name(job, chunk.table),
            place: chunk.table,
            chunk: chunk.chunk,
            state: chunk.state,
            host: host(job, *work),
            started_at: Timestamp::from_millisecond(work.start).ok()?,
            seconds: work.duration as f64 / 1e3,
            times_median: (work.duration as f64 / median as f64 * 10.0).round() / 10.0,
        })
    };
    works.iter().take(LONGEST).filter_map(long).collect()
}
