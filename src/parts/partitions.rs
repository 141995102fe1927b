//! Distributes the rows of a chunk among the parts of their partitions.
//!
//! Memory does not depend on the number of partitions (I8): the buffer of waiting rows takes half a row group,
//! what open parts remember a quarter, and only one part has a row group in memory. When the buffer is full, the
//! partitions with most rows leave it until half of the rows are gone. Pieces that are worth a row group are
//! written into parts, as long as no other part must be ended for that. All others wait on disk until the chunk
//! ends. So a chunk gives about one file for each value, in whatever order its rows come. Rows that come in the
//! order of their partitions do not wait.

mod keys;
mod spill;

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::error::ArrowError;

use self::keys::Keys;
use self::spill::Spill;
use super::ExportError;
use super::series::{Begun, Series};
use crate::source::SourceError;

/// How many parts of a chunk are open at once. The one that waits longest for rows is closed for another.
const MOST_OPEN: usize = 64;
/// A piece is worth a row group of its own from this part of the bytes of a usual one: an eighth.
const WORTH_ONE_IN: usize = 8;
/// Larger pieces do not wait on disk, because they are encoded in memory for that.
const MOST_SPILLED: usize = 64 << 20;
/// Rows are copied from the buffer in pieces of about this many bytes, and of at most so many rows.
const PIECE_BYTES: usize = 1 << 20;
const PIECE_ROWS: usize = 2048;

/// A part that rows may still be added to.
struct Open {
    part: Begun,
    /// When it got rows last.
    at: u64,
}

pub(super) struct Partitions {
    series: Series,
    keys: Keys,
    /// Positions of the columns that files have.
    columns: Vec<usize>,
    /// Bytes of a row group.
    row_group: usize,
    /// Bytes of the buffer at which rows leave it.
    limit: usize,
    /// Rows that wait. Some of them may be written already.
    buffer: Vec<RecordBatch>,
    bytes: usize,
    /// Where in the buffer the waiting rows of each partition are.
    waiting: Vec<Vec<(usize, usize)>>,
    /// Whether rows of each partition have left the buffer already.
    begun: Vec<bool>,
    /// Rows that wait on disk, once there are any.
    spill: Option<Spill>,
    open: BTreeMap<usize, Open>,
    /// The partition whose part may have a row group in memory.
    current: Option<usize>,
    /// Counts writes.
    clock: u64,
}

impl Partitions {
    pub(super) fn new(series: Series) -> Result<Self, ExportError> {
        let (table, writer) = (series.table(), series.settings());
        let keys = Keys::new(table, writer.partitions_max).map_err(ExportError::Source)?;
        let columns = table.columns.iter().enumerate();
        let columns =
            columns.filter(|(_, c)| !table.partition_by.contains(&c.name)).map(|(at, _)| at).collect();
        let row_group = usize::try_from(writer.row_group_bytes).unwrap_or(usize::MAX);
        Ok(Self {
            keys,
            columns,
            row_group,
            limit: row_group / 2,
            buffer: Vec::new(),
            bytes: 0,
            waiting: Vec::new(),
            begun: Vec::new(),
            spill: None,
            open: BTreeMap::new(),
            current: None,
            clock: 0,
            series,
        })
    }

    /// Takes rows. An error if nobody wants the parts any more.
    pub(super) fn write(&mut self, batch: RecordBatch) -> Result<(), ExportError> {
        self.series.go_on()?;
        let Some(last) = batch.num_rows().checked_sub(1) else { return Ok(()) };
        let of = self.keys.of(&batch).map_err(ExportError::Source)?;
        self.series.has_room_for(self.keys.len())?;
        let batch = batch.project(&self.columns).map_err(|e| self.broken(&e))?;
        self.waiting.resize_with(self.keys.len(), Vec::new);
        self.begun.resize(self.keys.len(), false);
        let of_one = of.iter().all(|partition| *partition == of[last]);
        // A partition whose rows come once more in a few rows would get a small row group for each time.
        let goes_on = self.current == Some(of[last]) || !self.begun[of[last]];
        if of_one && (goes_on || self.is_worth(of[last], batch.get_array_memory_size())) {
            self.write_waiting(of[last])?;
            return self.append(of[last], batch);
        }
        self.bytes += batch.get_array_memory_size() + of.len() * size_of::<(usize, usize)>();
        let at = self.buffer.len();
        self.buffer.push(batch);
        for (row, partition) in of.into_iter().enumerate() {
            self.waiting[partition].push((at, row));
        }
        if let Some(current) = self.current {
            self.write_waiting(current)?;
        }
        if self.bytes >= self.limit { self.drain() } else { Ok(()) }
    }

    /// Writes all rows that wait, and ends all parts. Without any rows, one part is written if it is wanted.
    pub(super) fn close(mut self) -> Result<(), ExportError> {
        // Those with open parts come first: they would have to be ended for the others.
        let (begun, others): (Vec<usize>, Vec<usize>) =
            (0..self.waiting.len()).partition(|partition| self.open.contains_key(partition));
        let spill = self.spill.take();
        for partition in begun.into_iter().chain(others) {
            let mut frames = spill.as_ref().map(|spill| spill.frames(partition)).transpose()?;
            while let Some((spill, frames)) = spill.as_ref().zip(frames.as_mut())
                && let Some(rows) = spill.next(frames)?
            {
                self.series.go_on()?;
                self.append(partition, rows)?;
            }
            self.write_waiting(partition)?;
            if let Some(open) = self.open.remove(&partition) {
                self.series.end(open.part)?;
            }
        }
        if self.series.is_empty() && self.series.even_empty() {
            let nowhere = self.keys.of_nothing().map_err(ExportError::Source)?;
            let part = self.series.begin(Some(&nowhere))?;
            return self.series.end(part);
        }
        Ok(())
    }

    /// Whether rows of a partition are written into a part at once, because they are worth a row group and no part
    /// must be ended for them, or because they are too large to wait.
    fn is_worth(&self, partition: usize, bytes: usize) -> bool {
        let has_place = || self.open.contains_key(&partition) || self.open.len() < MOST_OPEN;
        let is_worth =
            bytes >= self.row_group / WORTH_ONE_IN && has_place() && self.footers() <= self.row_group / 8;
        is_worth || bytes >= self.row_group.min(MOST_SPILLED)
    }

    /// What open parts remember until their footers are written.
    fn footers(&self) -> usize {
        self.open.values().map(|open| open.part.writer.footer_bytes()).sum()
    }

    /// Takes the partitions with most rows out of the buffer, half of the rows at a time, until half of it is
    /// free.
    fn drain(&mut self) -> Result<(), ExportError> {
        while self.bytes > self.limit / 2 {
            let mut largest: Vec<usize> = (0..self.waiting.len()).collect();
            largest.sort_by_key(|partition| std::cmp::Reverse(self.waiting[*partition].len()));
            let all: usize = self.waiting.iter().map(Vec::len).sum();
            let mut written = 0;
            for partition in largest {
                if written * 2 >= all {
                    break;
                }
                let rows = self.waiting[partition].len();
                written += rows;
                self.series.go_on()?;
                if self.is_worth(partition, rows.saturating_mul(self.bytes_of_row())) {
                    self.write_waiting(partition)?;
                } else {
                    self.spill_waiting(partition)?;
                }
            }
            self.compact()?;
        }
        Ok(())
    }

    /// Writes the rows of a partition that wait.
    fn write_waiting(&mut self, partition: usize) -> Result<(), ExportError> {
        let rows = std::mem::take(&mut self.waiting[partition]);
        for piece in rows.chunks(self.rows_of_piece()) {
            let piece = self.copied(piece)?;
            self.append(partition, piece)?;
        }
        Ok(())
    }

    /// Puts the rows of a partition that wait in the buffer on disk.
    fn spill_waiting(&mut self, partition: usize) -> Result<(), ExportError> {
        let rows = std::mem::take(&mut self.waiting[partition]);
        self.begun[partition] |= !rows.is_empty();
        for piece in rows.chunks(self.rows_of_piece()) {
            let piece = self.copied(piece)?;
            // Rows are not equally wide.
            if self.is_worth(partition, piece.get_array_memory_size()) {
                self.append(partition, piece)?;
                continue;
            }
            let mut spill = match self.spill.take() {
                Some(spill) => spill,
                None => {
                    let (file, shown) = self.series.scratch()?;
                    Spill::new(file, shown, self.series.schema().clone())
                }
            };
            spill.push(partition, &piece)?;
            self.spill = Some(spill);
        }
        Ok(())
    }

    /// Frees the memory of the rows that have left the buffer.
    fn compact(&mut self) -> Result<(), ExportError> {
        let rows: Vec<(usize, usize)> = self.waiting.iter().flatten().copied().collect();
        let size = self.rows_of_piece();
        let kept: Result<Vec<_>, _> = rows.chunks(size).map(|piece| self.copied(piece)).collect();
        self.buffer = kept?;
        let mut places = (0..rows.len()).map(|row| (row / size, row % size));
        for partition in &mut self.waiting {
            partition.iter_mut().zip(&mut places).for_each(|(row, place)| *row = place);
        }
        let bytes: usize = self.buffer.iter().map(RecordBatch::get_array_memory_size).sum();
        self.bytes = bytes + rows.len() * size_of::<(usize, usize)>();
        Ok(())
    }

    /// How many rows of the buffer have about the bytes of a piece.
    fn rows_of_piece(&self) -> usize {
        (PIECE_BYTES / self.bytes_of_row()).clamp(1, PIECE_ROWS)
    }

    fn bytes_of_row(&self) -> usize {
        let rows: usize = self.buffer.iter().map(RecordBatch::num_rows).sum();
        self.bytes.checked_div(rows).unwrap_or(0).max(1)
    }

    fn copied(&self, rows: &[(usize, usize)]) -> Result<RecordBatch, ExportError> {
        let buffer: Vec<&RecordBatch> = self.buffer.iter().collect();
        interleave_record_batch(&buffer, rows).map_err(|e| self.broken(&e))
    }

    /// Adds rows to the part of a partition.
    fn append(&mut self, partition: usize, rows: RecordBatch) -> Result<(), ExportError> {
        self.clock += 1;
        self.begun[partition] = true;
        if self.current != Some(partition) {
            self.pause()?;
            self.current = Some(partition);
        }
        let mut open = match self.open.remove(&partition) {
            Some(open) => open,
            None => {
                if self.open.len() >= MOST_OPEN {
                    self.end_oldest()?;
                }
                Open { part: self.series.begin(Some(self.keys.directory(partition)))?, at: 0 }
            }
        };
        open.at = self.clock;
        open.part.writer.write(rows)?;
        if open.part.writer.is_full() {
            return self.series.end(open.part);
        }
        self.open.insert(partition, open);
        Ok(())
    }

    /// Writes the row group that is in memory. What open parts remember of their row groups stays small as well.
    fn pause(&mut self) -> Result<(), ExportError> {
        let paused = self.current.take();
        let Some(open) = paused.and_then(|partition| self.open.get_mut(&partition)) else { return Ok(()) };
        open.part.writer.pause()?;
        if open.part.writer.is_full() {
            let full = paused.and_then(|partition| self.open.remove(&partition));
            return full.map_or(Ok(()), |open| self.series.end(open.part));
        }
        while self.footers() > self.row_group / 4 {
            self.end_oldest()?;
        }
        Ok(())
    }

    /// Ends the part that waits longest for rows.
    fn end_oldest(&mut self) -> Result<(), ExportError> {
        let oldest = self.open.iter().min_by_key(|(_, open)| open.at).map(|(partition, _)| *partition);
        let oldest = oldest.and_then(|partition| self.open.remove(&partition));
        oldest.map_or(Ok(()), |open| self.series.end(open.part))
    }

    fn broken(&self, error: &ArrowError) -> ExportError {
        let message =
            format!("{}: rows of a partition cannot be put together: {error}", self.series.table().name);
        ExportError::Source(
            SourceError::permanent("partition", message)
                .with_remedy("leave output.partition_by out, and report this"),
        )
    }
}

#[cfg(test)]
mod tests;
