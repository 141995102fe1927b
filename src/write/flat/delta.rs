//! Whole numbers as differences, DELTA_BINARY_PACKED
//! (<https://parquet.apache.org/docs/file-format/data-pages/encodings/>).

use super::pack::{pack, read_varint, unpack, varint, width_of};

/// Number of differences with a common minimum.
const BLOCK: usize = 128;
/// Number of differences with a common bit width.
const MINIBLOCK: usize = 32;

/// The numbers of a page.
#[derive(Default)]
pub(super) struct Delta {
    first: i64,
    last: i64,
    count: usize,
    /// Differences of the current block.
    block: Vec<i64>,
    /// The encoded blocks before it.
    blocks: Vec<u8>,
    /// Whether the numbers have 32 bits; their differences wrap around at 32 bits then.
    is_int32: bool,
}

impl Delta {
    pub(super) fn new(is_int32: bool) -> Self {
        Self { is_int32, ..Self::default() }
    }

    /// Appends numbers to the page.
    #[inline]
    pub(super) fn extend(&mut self, mut numbers: impl Iterator<Item = i64>) {
        if self.count == 0 {
            let Some(first) = numbers.next() else { return };
            (self.first, self.last, self.count) = (first, first, 1);
        }
        loop {
            let (before, mut last) = (self.block.len(), self.last);
            self.block.extend(numbers.by_ref().take(BLOCK - before).map(|number| {
                let difference = number.wrapping_sub(last);
                last = number;
                if self.is_int32 { i64::from(difference as i32) } else { difference }
            }));
            self.last = last;
            self.count += self.block.len() - before;
            if self.block.len() < BLOCK {
                return;
            }
            self.finish_block();
        }
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

    /// Appends the page to `out` and begins the next one. If the page would take more than `limit` bytes per
    /// number, it is not appended, and `hand_out` gets each number instead. Returns whether the page was
    /// appended.
    pub(super) fn finish(&mut self, limit: usize, out: &mut Vec<u8>, hand_out: impl FnMut(i64)) -> bool {
        self.finish_block();
        let start = out.len();
        self.header(out);
        let is_small = out.len() - start + self.blocks.len() <= limit * self.count;
        if is_small {
            out.extend_from_slice(&self.blocks);
            self.clear();
        } else {
            out.truncate(start);
            self.give_up(hand_out);
        }
        is_small
    }

    /// Begins the page anew. `hand_out` gets each number that it had.
    pub(super) fn give_up(&mut self, hand_out: impl FnMut(i64)) {
        self.finish_block();
        self.hand_out(hand_out);
        self.clear();
    }

    fn clear(&mut self) {
        self.blocks.clear();
        self.count = 0;
    }

    /// Number of numbers in the page.
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.count
    }

    fn header(&self, out: &mut Vec<u8>) {
        varint(BLOCK as u64, out);
        varint((BLOCK / MINIBLOCK) as u64, out);
        varint(self.count as u64, out);
        varint(zigzag(self.first), out);
    }

    /// Computes the numbers of the page from their differences.
    fn hand_out(&self, mut hand_out: impl FnMut(i64)) {
        if self.count == 0 {
            return;
        }
        let (mut at, mut number) = (0, self.first);
        hand_out(number);
        for rest in (1..self.count).step_by(BLOCK).map(|before| self.count - before) {
            let least = unzigzag(read_varint(&self.blocks, &mut at));
            let widths = at..at + BLOCK / MINIBLOCK;
            at = widths.end;
            for (miniblock, &width) in self.blocks[widths].iter().enumerate() {
                let width = usize::from(width);
                for index in 0..rest.saturating_sub(miniblock * MINIBLOCK).min(MINIBLOCK) {
                    let above = unpack(&self.blocks[at..], width, index) as i64;
                    number = number.wrapping_add(above.wrapping_add(least));
                    hand_out(number);
                }
                at += MINIBLOCK / 8 * width;
            }
        }
    }

    /// Approximate size of the current page, in bytes.
    pub(super) fn encoded_bytes(&self) -> usize {
        self.blocks.len() + self.block.len() * 2
    }

    /// Size in memory, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.blocks.capacity() + self.block.capacity() * 8
    }
}

/// Size of these numbers as differences, without the header of their page, in bytes. Plain numbers have
/// `width` bytes each.
pub(in crate::write) fn bytes_of_differences(numbers: &[i64], width: usize) -> usize {
    let is_int32 = width == size_of::<i32>();
    let mut bytes = 0;
    let mut block = [0; BLOCK];
    for start in (1..numbers.len()).step_by(BLOCK) {
        let numbers = &numbers[start - 1..numbers.len().min(start + BLOCK)];
        let block = &mut block[..numbers.len() - 1];
        for (difference, pair) in block.iter_mut().zip(numbers.windows(2)) {
            *difference = pair[1].wrapping_sub(pair[0]);
            if is_int32 {
                *difference = i64::from(*difference as i32);
            }
        }
        let Some(&least) = block.iter().min() else { break };
        bytes += width_of(zigzag(least)).div_ceil(7).max(1) + BLOCK / MINIBLOCK;
        for miniblock in block.chunks(MINIBLOCK) {
            let above = miniblock.iter().fold(0, |all, difference| all | difference.wrapping_sub(least));
            bytes += MINIBLOCK / 8 * width_of(above as u64);
        }
    }
    bytes
}

/// The inverse of [`zigzag`].
fn unzigzag(small: u64) -> i64 {
    (small >> 1) as i64 ^ -((small & 1) as i64)
}

/// Maps numbers near zero, of either sign, to small numbers.
fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}
