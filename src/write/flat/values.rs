//! What encoders of the values of one column have in common.

use std::ops::Range;

use arrow::array::Array;
use arrow::buffer::NullBuffer;
use arrow::util::bit_iterator::BitSliceIterator;
use parquet::basic::Encoding;

use super::bound::Bounds;

/// Encodes the values of a column, page after page.
pub(super) trait Values: Send {
    /// Takes rows of an array, all of them or until the page must end; says how many.
    fn append(&mut self, array: &dyn Array, rows: Range<usize>) -> usize;

    /// Appends the encoded values of the page to `body`, and begins the next.
    fn finish_page(&mut self, body: &mut Vec<u8>) -> Encoded;

    /// The dictionary, plainly, and the values in it, once all pages are finished.
    fn take_dictionary(&mut self) -> Option<(Vec<u8>, usize)>;

    /// Bytes of the page under way and of the dictionary, before compression, nearly.
    fn encoded_bytes(&self) -> usize;

    /// Bytes in memory, nearly.
    fn memory_bytes(&self) -> usize;
}

/// What is known of the encoded values of a page.
pub(super) struct Encoded {
    pub(super) encoding: Encoding,
    /// None where there is no value but NULL, or none are wanted.
    pub(super) bounds: Option<Bounds>,
    /// Bytes of texts without their lengths.
    pub(super) text_bytes: Option<u64>,
}

/// Hands out the runs of valid rows until one is not taken whole; `take` says
/// how many rows it took, and so does this.
pub(super) fn take_runs(
    nulls: Option<&NullBuffer>,
    rows: Range<usize>,
    mut take: impl FnMut(Range<usize>) -> usize,
) -> usize {
    let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) else {
        return take(rows);
    };
    for (start, end) in BitSliceIterator::new(nulls.validity(), nulls.offset() + rows.start, rows.len()) {
        let taken = take(rows.start + start..rows.start + end);
        if taken < end - start {
            return start + taken;
        }
    }
    rows.len()
}
