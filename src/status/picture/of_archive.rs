//! Draws a job that has ended.

use std::collections::HashMap;

use super::{ChunkPicture, ChunkState, JobBrief, Picture, TablePicture, TableState, Work};
use crate::folder::files::archive::{Archive, ArchivedTable, TableStatus};
use crate::folder::files::timeline::TimedChunk;
use crate::message::event::JobProgress;
use crate::message::{ChunkNo, Epoch};

impl Picture {
    /// The picture of a job that has ended.
    #[must_use]
    pub fn of_archive(archive: &Archive) -> Self {
        let received = archive.received_at.as_millisecond();
        let work = |timed: &TimedChunk| Work {
            daemon: timed.daemon,
            start: received.saturating_add_unsigned(timed.start),
            duration: timed.duration,
        };
        let mut timed: HashMap<(u32, Epoch, ChunkNo), &TimedChunk> = HashMap::new();
        let mut chunks = Vec::new();
        for chunk in &archive.timeline.chunks {
            let newest = archive.tables.get(chunk.table as usize).map(|t| t.epoch);
            if newest == Some(chunk.epoch) {
                timed.insert((chunk.table, chunk.epoch, chunk.chunk), chunk);
            } else {
                let (table, number) = (chunk.table, chunk.chunk.0);
                let state = ChunkState::Done;
                chunks.push(ChunkPicture {
                    table,
                    chunk: number,
                    state,
                    current: false,
                    work: Some(work(chunk)),
                });
            }
        }
        let mut tables = Vec::with_capacity(archive.tables.len());
        for (archived, place) in archive.tables.iter().zip(0_u32..) {
            let mut picture = table(archived, place);
            for chunk in 0..archived.chunks {
                let timed = timed.get(&(place, archived.epoch, ChunkNo(chunk)));
                let state = match archived.status {
                    TableStatus::Completed => ChunkState::Done,
                    _ if timed.is_some() => ChunkState::Done,
                    TableStatus::Failed => ChunkState::Failed,
                    TableStatus::Cancelled => ChunkState::Waiting,
                };
                picture.chunks_done += u32::from(state == ChunkState::Done);
                picture.chunks_failed += u32::from(state == ChunkState::Failed);
                let work = timed.map(|timed| work(timed));
                chunks.push(ChunkPicture { table: place, chunk, state, current: true, work });
            }
            tables.push(picture);
        }
        chunks.sort_by_key(|c| (c.table, c.current, c.chunk));
        Picture {
            brief: JobBrief::of_archive(archive),
            request: archive.request.clone(),
            tables,
            numbers: Vec::new(),
            chunks,
            daemons: archive.timeline.daemons.clone(),
            left_out: archive.timeline.left_out,
            skipped: archive.skipped.clone(),
            snapshots: Vec::new(),
            most_chunks: None,
        }
    }
}

fn table(archived: &ArchivedTable, place: u32) -> TablePicture {
    let report = archived.report();
    TablePicture {
        place,
        table: archived.table_name.clone(),
        state: match archived.status {
            TableStatus::Completed => TableState::Done,
            TableStatus::Failed => TableState::Failed,
            TableStatus::Cancelled => TableState::Cancelled,
        },
        strategy: archived.strategy.clone(),
        reason: archived.strategy_reason.clone(),
        read: archived.pages.is_some().then(|| "pages".into()),
        rows: archived.rows,
        estimated_rows: archived.rows,
        bytes: report.bytes,
        chunks: archived.chunks,
        chunks_done: 0,
        chunks_running: 0,
        chunks_failed: 0,
        epoch: archived.epoch.0,
        seconds: report.seconds,
        directory: archived.directory.clone(),
        files: report.files,
        note: archived.note.clone(),
        error: archived.error.clone(),
    }
}

impl JobBrief {
    /// A job that has ended, in a line.
    #[must_use]
    pub fn of_archive(archive: &Archive) -> Self {
        let of = |status: TableStatus| archive.tables.iter().filter(move |t| t.status == status);
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let performance = &archive.performance;
        let chunks =
            |tables: &mut dyn Iterator<Item = &ArchivedTable>| tables.map(|t| u64::from(t.chunks)).sum();
        Self {
            job_id: archive.job_id.clone(),
            status: archive.status.into(),
            source: archive.source.clone(),
            received_at: archive.received_at,
            committed_at: Some(archive.committed_at),
            seconds: performance.total_duration_seconds,
            epoch: archive.epochs,
            progress: JobProgress {
                tables_done: performance.tables_processed,
                tables: number(archive.tables.len()),
                chunks_done: chunks(&mut of(TableStatus::Completed)),
                chunks: chunks(&mut archive.tables.iter()),
                rows: performance.total_rows_exported,
                rows_estimated: performance.total_rows_exported,
                bytes: performance.total_bytes,
            },
            chunks_running: 0,
            tables_failed: number(of(TableStatus::Failed).count()),
            rows_per_second: performance.rows_per_second,
            seconds_left: None,
            planned_at: None,
            moved_at: None,
            retry_of: archive.retry_of.clone(),
            error: archive.error.clone().or_else(|| archive.tables.iter().find_map(|t| t.error.clone())),
        }
    }
}
