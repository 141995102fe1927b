//! The interface of the encoders of one column's values.

use std::ops::Range;

use arrow::array::Array;
use arrow::buffer::NullBuffer;
use arrow::util::bit_iterator::BitSliceIterator;
use parquet::basic::Encoding;

use super::bound::Bounds;

/// Encodes the values of a column, page after page.
pub(super) trait Values: Send {
    /// Takes rows of an array: all of them, or fewer if the page must end before. Returns their number.
    fn append(&mut self, array: &dyn Array, rows: Range<usize>) -> usize;

    /// Appends the encoded values of the page to `body` and begins the next page, unless it is the last one.
    fn finish_page(&mut self, is_last: bool, body: &mut Vec<u8>) -> Encoded;

    /// The dictionary as plain values, and their number. Call it when all pages are finished.
    fn take_dictionary(&mut self) -> Option<(Vec<u8>, usize)>;

    /// Approximate size of the current page and the dictionary before compression, in bytes.
    fn encoded_bytes(&self) -> usize;

    /// Approximate size in memory, in bytes.
    fn memory_bytes(&self) -> usize;
}

/// Facts about the encoded values of a page.
pub(super) struct Encoded {
    pub(super) encoding: Encoding,
    /// `None` if all values are NULL or no bounds are wanted.
    pub(super) bounds: Option<Bounds>,
    /// Size of the texts without their lengths, in bytes.
    pub(super) text_bytes: Option<u64>,
}

/// Gives `take` each run of valid rows, until it takes less than a whole run. `take` returns how many rows it
/// took, and so does this function.
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
