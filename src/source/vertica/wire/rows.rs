//! Rows of a big result: gathers the bodies of DataRows in blocks.
//!
//! A DataRow's body is byte for byte a tuple of PostgreSQL's binary COPY: a 16-bit number of fields, then for
//! each field a 32-bit length, -1 for NULL, and the bytes (`data_row.py`, `bedatarowmsg.go`, `parser.ts:
//! parseDataRowMessage`). Header and trailer of a COPY are put around the rows.

use super::backend::{Malformed, tag};
use super::input::HEADER;
use crate::source::decode::stream::Block;
use crate::source::decode::{COPY_HEADER, COPY_TRAILER, MAX_ROW};

/// Maximum size of a block: large, so that the decoding thread wakes up once for many rows.
pub(super) const BLOCK_BYTES: usize = 256 << 10;
/// Bytes of a full block. The trailer always has room.
const FULL: usize = BLOCK_BYTES - COPY_TRAILER.len();

/// What [`Rows::absorb`] found after the rows that it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The block is full.
    Block,
    /// The bytes have run out.
    Nothing,
    /// Another message begins.
    Message,
}

/// The rows of a result on their way.
pub(super) struct Rows {
    columns: u16,
    block: Block,
    /// Bytes of a row that are still to come.
    left: usize,
}

impl Rows {
    pub(super) fn new(columns: usize) -> Self {
        let mut block = Block::with_capacity(BLOCK_BYTES);
        block.extend(COPY_HEADER);
        // A description has no more.
        Self { columns: columns as u16, block, left: 0 }
    }

    /// Takes rows from the bytes that have arrived. Returns how many bytes are used.
    pub(super) fn absorb(&mut self, input: &[u8]) -> Result<(usize, Found), Malformed> {
        let mut rest = input;
        let found = loop {
            if self.left > 0 {
                let taken = self.left.min(rest.len()).min(FULL - self.block.len());
                let (row, after) = rest.split_at(taken);
                self.block.extend_from_slice(row);
                self.left -= taken;
                rest = after;
                if self.block.len() == FULL {
                    break Found::Block;
                }
                if self.left > 0 {
                    break Found::Nothing;
                }
            }
            match rest.first() {
                Some(&tag::DATA_ROW) => {}
                Some(_) => break Found::Message,
                None => break Found::Nothing,
            }
            let Some([_, l0, l1, l2, l3, c0, c1]) = rest.first_chunk::<{ HEADER + 2 }>() else {
                break Found::Nothing;
            };
            let length = (u32::from_be_bytes([*l0, *l1, *l2, *l3]) as usize).wrapping_sub(4);
            if !(2..=MAX_ROW).contains(&length) {
                return Err(Malformed("a row has an impossible length"));
            }
            if u16::from_be_bytes([*c0, *c1]) != self.columns {
                return Err(Malformed("a row does not have the columns of its result"));
            }
            self.left = length;
            rest = &rest[HEADER..];
        };
        Ok((input.len() - rest.len(), found))
    }

    /// Whether rows wait for the block to be full.
    pub(super) fn is_empty(&self) -> bool {
        self.block.is_empty()
    }

    /// The rows so far.
    pub(super) fn take(&mut self) -> Block {
        std::mem::replace(&mut self.block, Block::with_capacity(BLOCK_BYTES))
    }

    /// Bytes of the row that is under way.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// The last block, after the server has confirmed the end.
    pub(super) fn finish(mut self) -> Block {
        self.block.extend(COPY_TRAILER);
        self.block
    }
}
