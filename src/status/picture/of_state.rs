//! Draws a job that has a workspace.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::{
    ChunkPicture, ChunkState, JobBrief, OpenSnapshot, Phase, Picture, Running, TablePicture, TableState,
    Work, pace,
};
use crate::folder::files::outcome::{CancelMark, TableResult};
use crate::folder::files::record::Record;
use crate::folder::files::timeline::{Timeline, TimelineDaemon};
use crate::job::state::{BatchState, JobState};
use crate::message::event::ErrorReport;
use crate::message::pattern::qualified;
use crate::message::{BatchId, ChunkNo, TableNo};
use crate::plan::export_plan::PlannedTable;

/// Where a job is that has a workspace.
#[must_use]
pub fn phase(state: &JobState) -> Phase {
    match () {
        () if state.archive.is_some() => Phase::Finishing,
        () if state.cancel.is_some() => Phase::Cancelling,
        () if state.plans.is_empty() => Phase::Waiting,
        () => Phase::Running,
    }
}

/// A table while it is drawn. Its place is known at the end.
struct Drawn {
    picture: TablePicture,
    chunks: Vec<ChunkPicture>,
    /// Work of earlier epochs.
    earlier: Vec<ChunkPicture>,
}

impl Picture {
    /// The picture of a job that runs.
    #[must_use]
    pub fn of_state(state: &JobState, running: &Running, now: Timestamp) -> Self {
        let mut drawing = Drawing { state, running, now, line: Timeline::default(), tables: BTreeMap::new() };
        for (id, batch) in &state.batches {
            drawing.batch(*id, batch);
        }
        for plan in &state.plans {
            for failed in plan.failed() {
                let picture = TablePicture {
                    table: failed.table.clone(),
                    state: TableState::Failed,
                    error: Some(failed.error.clone()),
                    epoch: plan.epoch().0,
                    ..empty()
                };
                drawing.put(failed.number, picture, Vec::new());
            }
        }
        drawing.finish()
    }
}

struct Drawing<'a> {
    state: &'a JobState,
    running: &'a Running,
    now: Timestamp,
    line: Timeline,
    tables: BTreeMap<TableNo, Drawn>,
}

impl Drawing<'_> {
    fn batch(&mut self, id: BatchId, batch: &BatchState) {
        let Some(plan) = self.state.plan(id.epoch).cloned() else { return };
        let results: HashMap<TableNo, &TableResult> =
            batch.outcome.iter().flat_map(|o| &o.tables).map(|t| (t.table, &t.result)).collect();
        let mut failed: HashMap<(TableNo, ChunkNo), &ErrorReport> = HashMap::new();
        for (chunk, failure) in batch.failures.values() {
            failed.insert((failure.table, *chunk), &failure.error);
        }
        let works: Vec<Option<Work>> = batch
            .records
            .iter()
            .zip((0..).map(ChunkNo))
            .map(|(record, chunk)| match record {
                Some(record) => Some(self.recorded(record)),
                None if batch.is_open() => self.at_work(id, chunk),
                None => None,
            })
            .collect();
        for (planned, is_first) in batch.tables.iter().filter_map(|t| plan.table(*t)).zip(first()) {
            let result = results.get(&planned.number).copied();
            let mut chunks = Vec::with_capacity(batch.records.len());
            for ((record, work), chunk) in batch.records.iter().zip(&works).zip((0..).map(ChunkNo)) {
                let has = record.as_ref().map(|r| r.of(planned.number).is_some());
                let state = match has {
                    Some(true) => ChunkState::Done,
                    Some(false) => ChunkState::Failed,
                    None if failed.contains_key(&(planned.number, chunk)) => ChunkState::Failed,
                    None if matches!(result, Some(TableResult::Failed { .. })) => ChunkState::Failed,
                    None if work.is_some() => ChunkState::Running,
                    None => ChunkState::Waiting,
                };
                let work = if is_first { *work } else { None };
                chunks.push(ChunkPicture { table: 0, chunk: chunk.0, state, current: true, work });
            }
            let mut picture = table(id, planned, batch, &works);
            if batch.tables.len() == 1 {
                // The live figures of a batch belong to no single table.
                for chunk in (0..batch.records.len()).map(ChunkNo::at).filter(|c| batch.is_unfinished(*c)) {
                    if let Some(work) = self.running.on(self.state.id(), id, chunk) {
                        picture.rows += work.doing.rows;
                        picture.bytes += work.doing.bytes;
                    }
                }
            }
            count(&mut picture, &chunks);
            picture.state = match result {
                Some(TableResult::Published { .. }) => TableState::Done,
                Some(TableResult::Failed { .. }) => TableState::Failed,
                Some(TableResult::Cancelled) => TableState::Cancelled,
                Some(TableResult::Abandoned { .. }) => TableState::Waiting,
                None if picture.chunks_done + picture.chunks_running > 0 => TableState::Running,
                None => TableState::Waiting,
            };
            match result {
                Some(TableResult::Published { directory, files, .. }) => {
                    picture.directory = Some(directory.clone());
                    picture.files = u32::try_from(files.len()).unwrap_or(u32::MAX);
                }
                Some(TableResult::Failed { error }) => picture.error = Some(error.clone()),
                Some(TableResult::Abandoned { .. }) => {
                    // What was read does not count: it is read again.
                    (picture.rows, picture.bytes) = (0, 0);
                    (picture.chunks_done, picture.chunks_running, picture.chunks_failed) = (0, 0, 0);
                    for chunk in &mut chunks {
                        chunk.current = false;
                    }
                }
                Some(TableResult::Cancelled) | None => {}
            }
            if picture.error.is_none() {
                let of_table = failed.iter().filter(|((table, _), _)| *table == planned.number);
                picture.error =
                    of_table.min_by_key(|((_, chunk), _)| *chunk).map(|(_, error)| (*error).clone());
            }
            self.put(planned.number, picture, chunks);
        }
    }

    /// A later epoch replaces the entry of an earlier one, whose work stays.
    fn put(&mut self, number: TableNo, picture: TablePicture, chunks: Vec<ChunkPicture>) {
        let mut earlier = Vec::new();
        if let Some(before) = self.tables.remove(&number) {
            earlier = before.earlier;
            let done = before.chunks.into_iter().filter(|c| c.work.is_some());
            earlier.extend(done.map(|c| ChunkPicture { current: false, ..c }));
        }
        self.tables.insert(number, Drawn { picture, chunks, earlier });
    }

    fn recorded(&mut self, record: &Record) -> Work {
        let daemon = TimelineDaemon { host: record.host.clone(), instance: record.instance };
        Work {
            daemon: self.line.place(daemon),
            start: record.started_at.as_millisecond(),
            duration: (record.seconds * 1e3).round() as u64,
        }
    }

    fn at_work(&mut self, id: BatchId, chunk: ChunkNo) -> Option<Work> {
        let work = self.running.on(self.state.id(), id, chunk)?;
        let duration = (work.doing.seconds.max(0.0) * 1e3).round() as u64;
        let start = self.now.as_millisecond().saturating_sub_unsigned(duration);
        Some(Work { daemon: self.line.place(work.daemon.clone()), start, duration })
    }

    fn finish(self) -> Picture {
        let (state, now) = (self.state, self.now);
        let mut tables = Vec::with_capacity(self.tables.len());
        let numbers = self.tables.keys().copied().collect();
        let mut chunks = Vec::new();
        for (drawn, place) in self.tables.into_values().zip(0..) {
            let of_table = drawn.earlier.into_iter().chain(drawn.chunks);
            chunks.extend(of_table.map(|chunk| ChunkPicture { table: place, ..chunk }));
            tables.push(TablePicture { place, ..drawn.picture });
        }
        let progress = state.progress();
        let works = || chunks.iter().filter_map(|c: &ChunkPicture| c.work);
        let begun = works().map(|w| w.start).min();
        let ended = chunks.iter().filter(|c| c.state != ChunkState::Running).filter_map(|c| c.work);
        let moved = ended.map(|w| w.start.saturating_add_unsigned(w.duration)).max();
        let since_begun = begun.map_or(0.0, |begun| (now.as_millisecond() - begun) as f64 / 1e3);
        let live: u64 = tables.iter().filter(|t| !t.ended()).map(|t| t.rows).sum::<u64>();
        let settled: u64 = tables.iter().filter(|t| t.ended()).map(|t| t.rows).sum::<u64>();
        let live = (live + settled).saturating_sub(progress.rows);
        let (rows_per_second, seconds_left) = pace(&progress, live, since_begun);
        let failed = || tables.iter().filter(|t| t.state == TableState::Failed);
        let error = state
            .cancel
            .as_ref()
            .map(CancelMark::report)
            .or_else(|| state.plan_failure.as_ref().map(|f| f.error.clone()))
            .or_else(|| state.plans.iter().find_map(|p| p.error().cloned()))
            .or_else(|| tables.iter().find_map(|t| t.error.clone()));
        let brief = JobBrief {
            job_id: state.id().clone(),
            status: phase(state),
            source: state.stored.source.clone(),
            received_at: state.stored.received_at,
            committed_at: None,
            seconds: now.duration_since(state.stored.received_at).as_secs_f64().max(0.0),
            epoch: u32::try_from(state.plans.len()).unwrap_or(u32::MAX),
            progress,
            chunks_running: self.running.of_job(state.id()),
            tables_failed: u32::try_from(failed().count()).unwrap_or(u32::MAX),
            rows_per_second,
            seconds_left,
            planned_at: state.plans.iter().filter_map(|plan| Some(plan.export()?.planned_at)).max(),
            moved_at: moved.and_then(|at| Timestamp::from_millisecond(at).ok()),
            retry_of: state.stored.retry_of.clone(),
            error,
        };
        let mut snapshots: Vec<OpenSnapshot> = state
            .open_snapshots()
            .map(|s| OpenSnapshot { lineage: s.lineage, time: s.time, needs_keepers: s.needs_keepers() })
            .collect();
        snapshots.sort_by_key(|s| (s.time, s.lineage));
        snapshots.dedup();
        Picture {
            brief,
            request: state.stored.request.clone(),
            tables,
            numbers,
            chunks,
            daemons: self.line.daemons,
            left_out: 0,
            skipped: state.plans.last().map(|p| p.skipped().to_vec()).unwrap_or_default(),
            snapshots,
            most_chunks: state.most_chunks(),
        }
    }
}

/// `true`, then `false` for ever.
fn first() -> impl Iterator<Item = bool> {
    std::iter::once(true).chain(std::iter::repeat(false))
}

fn empty() -> TablePicture {
    TablePicture {
        place: 0,
        table: String::new(),
        state: TableState::Waiting,
        strategy: "none".into(),
        reason: None,
        read: None,
        rows: 0,
        estimated_rows: 0,
        bytes: 0,
        chunks: 0,
        chunks_done: 0,
        chunks_running: 0,
        chunks_failed: 0,
        epoch: 1,
        seconds: None,
        directory: None,
        files: 0,
        note: None,
        error: None,
    }
}

fn table(id: BatchId, planned: &PlannedTable, batch: &BatchState, works: &[Option<Work>]) -> TablePicture {
    let recorded = batch.records.iter().flatten().filter_map(|r| r.of(planned.number));
    let (rows, bytes) = recorded.fold((0, 0), |(rows, bytes), t| (rows + t.rows(), bytes + t.bytes()));
    let done = || works.iter().flatten();
    let begin = done().map(|w| w.start).min();
    let end = done().map(|w| w.start.saturating_add_unsigned(w.duration)).max();
    TablePicture {
        table: qualified(&planned.schema, &planned.name),
        strategy: planned.strategy.name().into(),
        reason: Some(planned.reason.clone()),
        read: (!planned.read.is_auto()).then(|| planned.read.as_str().into()),
        rows,
        estimated_rows: planned.estimated_rows,
        bytes,
        epoch: id.epoch.0,
        seconds: begin.zip(end).map(|(begin, end)| (end - begin) as f64 / 1e3),
        note: planned.note.clone(),
        ..empty()
    }
}

fn count(picture: &mut TablePicture, chunks: &[ChunkPicture]) {
    let of = |state| {
        let count = chunks.iter().filter(|c| c.state == state).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    };
    picture.chunks = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
    picture.chunks_done = of(ChunkState::Done);
    picture.chunks_running = of(ChunkState::Running);
    picture.chunks_failed = of(ChunkState::Failed);
}
