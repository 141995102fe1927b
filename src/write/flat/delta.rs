//! Whole numbers as differences, DELTA_BINARY_PACKED
//! (<https://parquet.apache.org/docs/file-format/data-pages/encodings/>).

use super::pack::{pack, varint, width_of};

/// Differences that share their minimum.
const BLOCK: usize = 128;
/// Differences that share the bits they take.
const MINIBLOCK: usize = 32;

/// The numbers of a page.
#[derive(Default)]
pub(super) struct Delta {
    first: i64,
    last: i64,
    count: usize,
    /// Differences of the block under way.
    block: Vec<i64>,
    /// The blocks before.
    blocks: Vec<u8>,
    /// Of 32 bits: differences wrap around there.
    is_int32: bool,
}

impl Delta {
    pub(super) fn new(is_int32: bool) -> Self {
        Self { is_int32, ..Self::default() }
    }

    #[inline]
    pub(super) fn push(&mut self, number: i64) {
        if self.count == 0 {
            self.first = number;
        } else {
            let difference = number.wrapping_sub(self.last);
            self.block.push(if self.is_int32 { i64::from(difference as i32) } else { difference });
            if self.block.len() == BLOCK {
                self.finish_block();
            }
        }
        self.last = number;
        self.count += 1;
    }

    fn finish_block(&mut self) {
        let Some(&least) = self.block.iter().min() else { return };
        varint(zigzag(least), &mut self.blocks);
        let widths = self.blocks.len();
        self.blocks.extend_from_slice(&[0; BLOCK / MINIBLOCK]);
        for (index, miniblock) in self.block.chunks(MINIBLOCK).enumerate() {
            let above = |&difference: &i64| difference.wrapping_sub(least) as u64;
            let width = width_of(miniblock.iter().map(above).fold(0, |all, bits| all | bits));
            self.blocks[widths + index] = width as u8;
            let end = self.blocks.len() + MINIBLOCK / 8 * width;
            pack(miniblock.iter().map(above), width, &mut self.blocks);
            self.blocks.resize(end, 0);
        }
        self.block.clear();
    }

    /// Appends the page, and begins the next.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        self.finish_block();
        varint(BLOCK as u64, out);
        varint((BLOCK / MINIBLOCK) as u64, out);
        varint(self.count as u64, out);
        varint(zigzag(if self.count == 0 { 0 } else { self.first }), out);
        out.extend_from_slice(&self.blocks);
        self.blocks.clear();
        self.count = 0;
    }

    /// Bytes of the page under way, nearly.
    pub(super) fn encoded_bytes(&self) -> usize {
        self.blocks.len() + self.block.len() * 2
    }

    /// Bytes that it has in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.blocks.capacity() + self.block.capacity() * 8
    }
}

/// Small for numbers near zero, of either sign.
fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}
