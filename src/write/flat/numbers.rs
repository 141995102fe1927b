//! Whole numbers without a dictionary: differences if these are not larger, else plain numbers.

use parquet::basic::Encoding;

use super::delta::Delta;

/// After a page whose differences were larger, this many pages are plain before differences are tried again.
const PLAIN_PAGES: u32 = 15;
/// A page with fewer numbers does not decide how the next pages are encoded.
const MANY: usize = 512;
/// If the differences of this many numbers are larger, the rest of the page is not tried.
const TRIED: usize = 2048;

/// The numbers of a page.
pub(super) struct Numbers {
    /// Size of a plain number in bytes.
    width: usize,
    /// Whether differences are allowed.
    has_differences: bool,
    delta: Delta,
    /// The current page, if it is plain.
    plain: Vec<u8>,
    /// Number of plain pages before differences are tried again, with the current one.
    plain_pages: u32,
    /// Whether the first numbers of the page were smaller as differences.
    is_tried: bool,
}

impl Numbers {
    pub(super) fn new(is_int32: bool, has_differences: bool) -> Self {
        Self {
            width: if is_int32 { size_of::<i32>() } else { size_of::<i64>() },
            has_differences,
            delta: Delta::new(is_int32),
            plain: Vec::new(),
            plain_pages: 0,
            is_tried: false,
        }
    }

    /// Whether the current page is plain from its first number on.
    #[inline]
    fn is_plain(&self) -> bool {
        !self.has_differences || self.plain_pages > 0
    }

    /// Appends numbers to the page.
    #[inline]
    pub(super) fn extend(&mut self, numbers: impl Iterator<Item = i64>) {
        if !self.is_plain() {
            self.delta.extend(numbers);
            if self.delta.count() >= TRIED && !self.is_tried {
                self.try_differences();
            }
            return;
        }
        self.plain.reserve(numbers.size_hint().0 * self.width);
        if self.width == size_of::<i32>() {
            numbers.for_each(|number| self.plain.extend_from_slice(&(number as i32).to_le_bytes()));
        } else {
            numbers.for_each(|number| self.plain.extend_from_slice(&number.to_le_bytes()));
        }
    }

    /// Makes the page plain if its differences are larger so far.
    fn try_differences(&mut self) {
        let (width, plain) = (self.width, &mut self.plain);
        self.is_tried = true;
        if self.delta.encoded_bytes() > self.delta.count() * width {
            self.delta.give_up(|number| plain.extend_from_slice(&number.to_le_bytes()[..width]));
            self.plain_pages = PLAIN_PAGES + 1;
        }
    }

    /// Appends the page to `body` and begins the next one.
    pub(super) fn finish(&mut self, body: &mut Vec<u8>) -> Encoding {
        self.is_tried = false;
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

    /// Forgets what the last page was.
    pub(super) fn forget(&mut self) {
        self.plain_pages = 0;
    }

    /// Approximate size of the current page, in bytes.
    pub(super) fn encoded_bytes(&self) -> usize {
        self.delta.encoded_bytes() + self.plain.len()
    }

    /// Size in memory, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.delta.memory_bytes() + self.plain.capacity()
    }
}
