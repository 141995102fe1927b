//! Turns rows whose values are as PostgreSQL's heap stores them into record batches of the planned schema.

use arrow::array::RecordBatch;

use super::batch::Batches;
use super::block::{BLOCK_BYTES, Block, NOWHERE, block_rows};
use super::column::StreamColumn;
use crate::message::request::OnUnfit;
use crate::source::SourceError;

/// Capacity that is kept after large values.
const KEEP_BYTES: usize = 4 << 20;

/// Rows that are not decoded yet. Values lie in pages, or are written beside them.
pub(in crate::source) struct HeapRows {
    /// Pages and written values.
    raw: Vec<u8>,
    /// Where values begin in `raw`, column by column; `stride` entries for each column.
    starts: Vec<u32>,
    stride: usize,
    columns: usize,
    block_rows: usize,
    rows: usize,
}

/// What there was before a page.
pub(in crate::source) struct Mark {
    raw: usize,
    rows: usize,
}

impl HeapRows {
    fn new(columns: usize) -> Self {
        let block_rows = block_rows(columns);
        Self { raw: Vec::new(), starts: Vec::new(), stride: 0, columns, block_rows, rows: 0 }
    }

    /// Appends a page that has at most so many rows. Returns where it begins, and what there was before it.
    pub(in crate::source) fn begin(&mut self, page: &[u8], rows: usize) -> (usize, Mark) {
        let mark = Mark { raw: self.raw.len(), rows: self.rows };
        self.raw.extend_from_slice(page);
        if self.rows + rows > self.stride {
            self.widen(self.rows + rows);
        }
        (mark.raw, mark)
    }

    /// Makes room for so many rows.
    fn widen(&mut self, rows: usize) {
        // Not a power of two, because the writes of all columns would then share a few cache sets.
        let stride = rows.next_multiple_of(64) + 16;
        let mut starts = vec![NOWHERE; stride * self.columns];
        for column in 0..self.columns {
            let known = &self.starts[column * self.stride..][..self.rows];
            starts[column * stride..][..self.rows].copy_from_slice(known);
        }
        (self.starts, self.stride) = (starts, stride);
    }

    /// Drops a page and all that came after it.
    pub(in crate::source) fn back(&mut self, mark: &Mark) {
        self.raw.truncate(mark.raw);
        self.rows = mark.rows;
    }

    /// The row's value of a column begins at this place. The caller has seen that all of it is there.
    #[inline]
    pub(in crate::source) fn put(&mut self, column: usize, start: usize) {
        self.starts[column * self.stride + self.rows] = start as u32;
    }

    /// The row's value of a column is NULL.
    #[inline]
    pub(in crate::source) fn put_null(&mut self, column: usize) {
        self.starts[column * self.stride + self.rows] = NOWHERE;
    }

    /// The row's value of a column is what the caller appends to these bytes.
    pub(in crate::source) fn write(&mut self, column: usize) -> &mut Vec<u8> {
        self.put(column, self.raw.len());
        &mut self.raw
    }

    /// All values of the row are there.
    #[inline]
    pub(in crate::source) fn end_row(&mut self) {
        self.rows += 1;
    }

    /// Bytes that pages and values may take.
    #[cfg(test)]
    pub(in crate::source) fn capacity(&self) -> usize {
        self.raw.capacity()
    }

    /// Whether the rows should be decoded before others come.
    fn is_full(&self) -> bool {
        self.rows >= self.block_rows || self.raw.len() >= BLOCK_BYTES
    }

    fn block(&self) -> Block<'_> {
        Block { raw: &self.raw, starts: &self.starts, stride: self.stride, rows: self.rows }
    }

    fn clear(&mut self) {
        self.rows = 0;
        self.raw.clear();
        self.raw.shrink_to(KEEP_BYTES);
    }
}

/// Decodes rows of pages. Append rows to [`rows`](Self::rows) while [`is_full`](Self::is_full) says no, then ask for
/// batches until there is none. Unfit values are treated as by [`CopyDecoder`](super::CopyDecoder).
pub(in crate::source) struct HeapDecoder {
    rows: HeapRows,
    /// Rows that are already decoded.
    taken: usize,
    batches: Batches,
}

impl HeapDecoder {
    /// A decoder of rows with these columns. `stored` says for each whether its values are as a heap stores them; others
    /// are fields of a COPY. `key` names the key columns, for reports about rows.
    pub(in crate::source) fn new(
        columns: &[StreamColumn],
        stored: &[bool],
        key: &[String],
        on_unfit: OnUnfit,
    ) -> Self {
        let batches = Batches::new(columns.iter().zip(stored.iter().copied()), key, on_unfit);
        Self { rows: HeapRows::new(columns.len()), taken: 0, batches }
    }

    /// Where rows are appended.
    pub(in crate::source) fn rows(&mut self) -> &mut HeapRows {
        &mut self.rows
    }

    /// Whether batches should be asked for before more rows come.
    pub(in crate::source) fn is_full(&self) -> bool {
        self.rows.is_full()
    }

    /// The next batch, or `None` if more rows are needed.
    pub(in crate::source) fn next_batch(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        while self.taken > 0 || self.is_full() {
            if let Some(batch) = self.decode()? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// The next batch of the remaining rows; `None` after the last one, or an error if values did not fit.
    pub(in crate::source) fn finish(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        while self.rows.rows > 0 {
            if let Some(batch) = self.decode()? {
                return Ok(Some(batch));
            }
        }
        let batch = if self.batches.is_empty() { None } else { self.batches.take()? };
        self.batches.end()?;
        Ok(batch)
    }

    /// Decodes rows until the batch is full, and returns it then.
    fn decode(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        let block = self.rows.block();
        self.taken = self.batches.append(block, self.taken);
        if self.taken == block.rows {
            self.taken = 0;
            self.rows.clear();
        }
        if self.batches.is_full() { self.batches.take() } else { Ok(None) }
    }
}
