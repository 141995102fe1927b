//! Whole numbers that are in no dictionary: as differences where these are no larger, else plainly.

use parquet::basic::Encoding;

use super::delta::Delta;

/// Pages that are plain after one whose differences were larger, before differences are tried again.
const PLAIN_PAGES: u32 = 15;
/// Fewer numbers say nothing of the pages to come.
const MANY: usize = 512;

/// The numbers of a page.
pub(super) struct Numbers {
    /// Bytes of a plain one.
    width: usize,
    /// Whether there may be differences at all.
    has_differences: bool,
    delta: Delta,
    /// The page under way, where it is plain.
    plain: Vec<u8>,
    /// Pages that are plain before differences are tried again, that under way included.
    plain_pages: u32,
}

impl Numbers {
    pub(super) fn new(is_int32: bool, has_differences: bool) -> Self {
        Self {
            width: if is_int32 { size_of::<i32>() } else { size_of::<i64>() },
            has_differences,
            delta: Delta::new(is_int32),
            plain: Vec::new(),
            plain_pages: 0,
        }
    }

    /// Whether the page under way is plain from its first number on.
    #[inline]
    fn is_plain(&self) -> bool {
        !self.has_differences || self.plain_pages > 0
    }

    /// Appends numbers to the page.
    #[inline]
    pub(super) fn extend(&mut self, numbers: impl Iterator<Item = i64>) {
        if !self.is_plain() {
            return self.delta.extend(numbers);
        }
        self.plain.reserve(numbers.size_hint().0 * self.width);
        if self.width == size_of::<i32>() {
            numbers.for_each(|number| self.plain.extend_from_slice(&(number as i32).to_le_bytes()));
        } else {
            numbers.for_each(|number| self.plain.extend_from_slice(&number.to_le_bytes()));
        }
    }

    /// Appends the page to `body`, and begins the next.
    pub(super) fn finish(&mut self, body: &mut Vec<u8>) -> Encoding {
        if !self.is_plain() {
            let (width, plain) = (self.width, &mut self.plain);
            if self
                .delta
                .finish(width, body, |number| plain.extend_from_slice(&number.to_le_bytes()[..width]))
            {
                return Encoding::DELTA_BINARY_PACKED;
            }
            self.plain_pages = if plain.len() >= MANY * width { PLAIN_PAGES + 1 } else { 0 };
        }
        body.append(&mut self.plain);
        self.plain_pages = self.plain_pages.saturating_sub(1);
        Encoding::PLAIN
    }

    /// Bytes of the page under way, nearly.
    pub(super) fn encoded_bytes(&self) -> usize {
        self.delta.encoded_bytes() + self.plain.len()
    }

    /// Bytes that it has in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.delta.memory_bytes() + self.plain.capacity()
    }
}
