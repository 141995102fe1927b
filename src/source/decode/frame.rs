//! The frame of a binary COPY: header, tuples, trailer.
//!
//! The stream may arrive in pieces of any size. Bytes are gathered in one buffer, and complete rows are
//! indexed column by column: for each column, the index holds where the length word of each row's field
//! starts. Every index that leaves this module points to a length word whose field lies within the buffer.
//! Nothing is allocated for a length before its bytes have arrived.

use super::block::{BLOCK_BYTES, Block, block_rows};

/// First bytes of every stream.
const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, length of the header's extension.
const HEADER: usize = 19;
/// PostgreSQL allocates no value above this, so no field can be longer.
const MAX_FIELD: i32 = 1 << 30;
/// Maximum size of a row, so that the 32-bit offsets of a batch can address it.
pub(in crate::source) const MAX_ROW: usize = (1 << 31) - (16 << 20);
/// Rows are indexed in runs of at least this many bytes, because pieces may be tiny.
const RUN_BYTES: usize = 64 << 10;
/// The fields of a column have different lengths.
const VARIES: i32 = -1;
/// Capacity of the buffer that is kept after a wide row.
const KEEP_BYTES: usize = 4 << 20;

/// What is wrong with a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("the data do not begin with the signature of a binary COPY")]
    Signature,
    #[error("the COPY header has flags {0:#010x}, which are not understood")]
    Flags(u32),
    #[error("the COPY header claims an extension of {0} bytes")]
    Extension(i32),
    #[error("row {row} has {found} fields instead of {expected}")]
    Fields { row: u64, found: i16, expected: usize },
    #[error("field {field} of row {row} claims a length of {length} bytes")]
    Length { row: u64, field: usize, length: i32 },
    #[error("row {row} is longer than 2 GiB")]
    Row { row: u64 },
    #[error("data follow the trailer of the COPY")]
    AfterTrailer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The header has not arrived completely.
    Header,
    /// This many bytes of the header's extension must still be skipped.
    Extension(usize),
    /// Before a tuple.
    Tuple,
    /// Before this field of a tuple.
    Field(usize),
    /// The trailer has arrived.
    Ended,
}

/// Gathers bytes and indexes complete rows.
pub(super) struct Frames {
    columns: usize,
    /// All bytes from the first row that is not decoded yet.
    raw: Vec<u8>,
    /// Start of the block in `raw`. Everything before it is decoded.
    base: usize,
    /// End of the bytes that are indexed.
    position: usize,
    /// Start of the row at `position`.
    row_start: usize,
    /// Bytes that `raw` must have before the next scan can make progress.
    need: usize,
    state: State,
    /// Positions of length words, column by column, relative to `base`; `stride` entries for each column.
    starts: Vec<u32>,
    /// The length of each column's field if it is the same in all rows, else [`VARIES`]. NULL counts as
    /// another length.
    lengths: Vec<i32>,
    stride: usize,
    block_rows: usize,
    /// Rows of the current block.
    rows: usize,
    total_rows: u64,
    total_bytes: u64,
}

impl Frames {
    pub(super) fn new(columns: usize) -> Self {
        let block_rows = block_rows(columns);
        // Not a power of two, because the writes of all columns would then share a few cache sets.
        let stride = block_rows + 16;
        Self {
            columns,
            raw: Vec::new(),
            base: 0,
            position: 0,
            row_start: 0,
            need: 0,
            state: State::Header,
            starts: vec![0; stride * columns],
            lengths: vec![VARIES; columns],
            stride,
            block_rows,
            rows: 0,
            total_rows: 0,
            total_bytes: 0,
        }
    }

    /// Takes the next piece of the stream.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total_bytes += bytes.len() as u64;
        let length = self.raw.len() + bytes.len();
        if length > self.raw.capacity() {
            // Reserve no more than the next row needs, and at most a quarter more than has arrived, so that a
            // wide row is not in memory twice.
            let room = if self.need > length {
                self.need.min(2 * self.raw.capacity()).max(length)
            } else {
                length + length / 4
            };
            self.raw.reserve_exact(room - self.raw.len());
        }
        self.raw.extend_from_slice(bytes);
    }

    /// Takes the next piece by value. Nothing is copied if the buffer is empty, i.e. if the last piece ended
    /// with a row.
    pub(super) fn take(&mut self, piece: Vec<u8>) {
        if self.raw.is_empty() {
            self.total_bytes += piece.len() as u64;
            self.raw = piece;
        } else {
            self.push(&piece);
        }
    }

    /// Bytes taken.
    pub(super) fn bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Complete rows seen.
    pub(super) fn total_rows(&self) -> u64 {
        self.total_rows
    }

    /// Whether the trailer has arrived.
    pub(super) fn ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether another scan can make progress.
    pub(super) fn ready(&self) -> bool {
        self.raw.len() >= self.need.max(self.position + RUN_BYTES) || self.state == State::Header
    }

    /// The rows that the last scan found.
    pub(super) fn block(&self) -> Block<'_> {
        let raw = &self.raw[self.base..self.row_start];
        Block { raw, starts: &self.starts, stride: self.stride, rows: self.rows }
    }

    /// Indexes rows until a block of at most `limit` rows is full (`true`) or the bytes run out (`false`).
    pub(super) fn scan(&mut self, limit: usize) -> Result<bool, Malformed> {
        let limit = limit.min(self.block_rows);
        loop {
            if self.rows >= limit || self.row_start - self.base >= BLOCK_BYTES {
                return Ok(true);
            }
            let more = match self.state {
                State::Header => self.header()?,
                State::Extension(left) => self.extension(left),
                State::Tuple => self.tuple()?,
                State::Field(first) => self.fields(first)?,
                State::Ended if self.raw.len() > self.position => return Err(Malformed::AfterTrailer),
                State::Ended => false,
            };
            if !more {
                return Ok(false);
            }
        }
    }

    /// Drops the block, because its rows are decoded.
    pub(super) fn consume(&mut self) {
        if let State::Field(known) = self.state {
            // Keep the fields of the next row that are already indexed.
            let shift = (self.row_start - self.base) as u32;
            for column in self.starts.chunks_exact_mut(self.stride).take(known) {
                column[0] = column[self.rows] - shift;
            }
        }
        self.rows = 0;
        self.base = self.row_start;
        // Move the remaining bytes to the front only when they are less than half, so that a large piece is
        // not moved again and again.
        if self.base >= self.raw.len() - self.base {
            self.raw.copy_within(self.base.., 0);
            self.raw.truncate(self.raw.len() - self.base);
            self.position -= self.base;
            self.row_start = 0;
            self.need = self.need.saturating_sub(self.base);
            self.base = 0;
            if self.raw.capacity() > KEEP_BYTES && self.raw.len() < KEEP_BYTES / 4 {
                self.raw.shrink_to(KEEP_BYTES);
            }
        }
    }

    fn header(&mut self) -> Result<bool, Malformed> {
        let known = self.raw.len().min(SIGNATURE.len());
        if self.raw[..known] != SIGNATURE[..known] {
            return Err(Malformed::Signature);
        }
        let Some(header) = self.raw.first_chunk::<HEADER>() else {
            self.need = HEADER;
            return Ok(false);
        };
        let [.., f0, f1, f2, f3, e0, e1, e2, e3] = *header;
        // The upper half of the flags are critical: a reader must refuse those that it does not know. None is
        // in use any more (bit 16 said that rows carry oids).
        let flags = u32::from_be_bytes([f0, f1, f2, f3]);
        if flags >> 16 != 0 {
            return Err(Malformed::Flags(flags));
        }
        let extension = i32::from_be_bytes([e0, e1, e2, e3]);
        if !(0..=MAX_FIELD).contains(&extension) {
            return Err(Malformed::Extension(extension));
        }
        self.skip(HEADER);
        self.state = State::Extension(extension as usize);
        Ok(true)
    }

    fn extension(&mut self, left: usize) -> bool {
        let there = left.min(self.raw.len() - self.position);
        self.skip(there);
        self.consume();
        if there < left {
            self.state = State::Extension(left - there);
            self.need = self.raw.len() + 1;
            return false;
        }
        self.state = State::Tuple;
        true
    }

    /// Skips bytes that belong to no row.
    fn skip(&mut self, bytes: usize) {
        self.position += bytes;
        self.row_start = self.position;
    }

    fn tuple(&mut self) -> Result<bool, Malformed> {
        let Some(count) = self.raw.get(self.position..).and_then(|rest| rest.first_chunk::<2>()) else {
            self.need = self.position + 2;
            return Ok(false);
        };
        let found = i16::from_be_bytes(*count);
        self.position += 2;
        self.state = match found {
            -1 => State::Ended,
            _ if usize::try_from(found) == Ok(self.columns) => State::Field(0),
            _ => {
                return Err(Malformed::Fields { row: self.total_rows + 1, found, expected: self.columns });
            }
        };
        if found == -1 {
            self.row_start = self.position;
        }
        Ok(true)
    }

    /// Indexes the fields of the row, beginning with field `first`.
    fn fields(&mut self, first: usize) -> Result<bool, Malformed> {
        let mut position = self.position;
        // A row that ends beyond MAX_ROW is refused below, so this never wraps.
        for field in first..self.columns {
            // Guess the length before reading the word, so that the processor need not wait for the word to
            // find the next field.
            let expected = self.lengths[field];
            let Some(word) = self.raw.get(position..).and_then(|rest| rest.first_chunk::<4>()) else {
                return Ok(self.wait(field, position, 4));
            };
            let length = i32::from_be_bytes(*word);
            let payload = if length == expected {
                expected.max(0) as usize
            } else {
                self.lengths[field] = if self.total_rows == 0 { length } else { VARIES };
                match length {
                    0..=MAX_FIELD => length as usize,
                    -1 => 0,
                    _ => {
                        return Err(Malformed::Length { row: self.total_rows + 1, field: field + 1, length });
                    }
                }
            };
            let end = position + 4 + payload;
            if end > self.raw.len() {
                if end - self.row_start > MAX_ROW {
                    return Err(Malformed::Row { row: self.total_rows + 1 });
                }
                return Ok(self.wait(field, position, 4 + payload));
            }
            self.starts[field * self.stride + self.rows] = (position - self.base) as u32;
            position = end;
        }
        if position - self.row_start > MAX_ROW {
            return Err(Malformed::Row { row: self.total_rows + 1 });
        }
        self.position = position;
        self.row_start = position;
        self.rows += 1;
        self.total_rows += 1;
        self.state = State::Tuple;
        Ok(true)
    }

    fn wait(&mut self, field: usize, position: usize, bytes: usize) -> bool {
        self.position = position;
        self.need = position + bytes;
        self.state = State::Field(field);
        false
    }
}
