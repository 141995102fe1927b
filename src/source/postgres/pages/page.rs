//! One page of a heap: its header and its items. A page is read only if all of it is as PostgreSQL writes it.
//! The layout is the same in versions 14 to 18 (`bufpage.h`, `itemid.h`).

/// Size of the header.
const HEADER: usize = 24;
/// Version of the layout.
const LAYOUT: u16 = 4;
/// Flags that a page can have.
const KNOWN_FLAGS: u16 = 0x0007;
/// All rows of the page are visible to all transactions.
const ALL_VISIBLE: u16 = 0x0004;
/// Sizes that a page can have.
const SIZES: std::ops::RangeInclusive<usize> = 1 << 10..=32 << 10;
/// Fewest bytes of a tuple: its header.
const SHORTEST: usize = 24;
/// Tuples begin at multiples of this.
const ALIGNMENT: usize = 8;
/// State of an item that has a tuple.
const NORMAL: u32 = 1;

/// What a page holds.
#[derive(Debug)]
pub(super) enum Page<'a> {
    /// No rows: the page has never been used.
    New,
    /// Exactly these tuples, for every snapshot.
    Tuples(Tuples<'a>),
    /// The server must say what it holds.
    Doubtful,
}

/// The tuples of a page.
#[derive(Clone, Debug)]
pub(super) struct Tuples<'a> {
    page: &'a [u8],
    /// Bytes of the page that were left out, before its tuples.
    hole: usize,
    items: std::slice::ChunksExact<'a, u8>,
    /// How many tuples the page has.
    number: usize,
}

impl<'a> Page<'a> {
    /// Looks at a page of `size` bytes, as the server stores it, or without the hole between its items and its tuples.
    /// `looks` says whether the mark counts; tests leave it out to show that it matters.
    pub(super) fn of(page: &'a [u8], size: usize, looks: bool) -> Self {
        Self::read(page, size, looks).unwrap_or(Self::Doubtful)
    }

    fn read(page: &'a [u8], size: usize, looks: bool) -> Option<Self> {
        if !SIZES.contains(&size) || !size.is_power_of_two() {
            return None;
        }
        let hole = size.checked_sub(page.len())?;
        if hole == 0 && page.iter().all(|byte| *byte == 0) {
            return Some(Self::New);
        }
        let flags = word(page, 10)?;
        let [lower, upper, special] = [word(page, 12)?, word(page, 14)?, word(page, 16)?].map(usize::from);
        // A server of another byte order writes another number here.
        let size_and_layout = word(page, 18)?;
        let is_sound = usize::from(size_and_layout & 0xff00) == size
            && size_and_layout & 0x00ff == LAYOUT
            && flags & !KNOWN_FLAGS == 0
            && (flags & ALL_VISIBLE != 0 || !looks)
            && HEADER <= lower
            && lower <= upper
            && upper <= special
            && special == size
            && (hole == 0 || hole == upper - lower);
        if !is_sound || !(lower - HEADER).is_multiple_of(4) {
            return None;
        }
        let items = page.get(HEADER..lower)?.chunks_exact(4);
        let (mut bytes, mut number) = (0, 0);
        for Item { offset, length } in items.clone().filter_map(Item::of) {
            let is_within = offset >= upper && offset + length <= special && length >= SHORTEST;
            if !is_within || !offset.is_multiple_of(ALIGNMENT) {
                return None;
            }
            bytes += length;
            number += 1;
        }
        // Items that share a tuple would make more of it than a page can hold.
        (bytes <= special - upper).then_some(Self::Tuples(Tuples { page, hole, items, number }))
    }
}

impl Tuples<'_> {
    /// How many tuples the page has.
    pub(super) fn number(&self) -> usize {
        self.number
    }
}

impl<'a> Iterator for Tuples<'a> {
    /// Where a tuple begins in the bytes of the page, and its bytes.
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let Item { offset, length } = self.items.by_ref().find_map(Item::of)?;
        // `Page::read` has checked the bounds of all items.
        let start = offset - self.hole;
        self.page.get(start..start + length).map(|tuple| (start, tuple))
    }
}

/// Where a tuple is.
#[derive(Clone, Copy)]
struct Item {
    offset: usize,
    length: usize,
}

impl Item {
    /// An item of a page; `None` if it has no tuple: unused, dead, or the former place of a row.
    fn of(bytes: &[u8]) -> Option<Self> {
        let bits = u32::from_le_bytes(*bytes.first_chunk()?);
        let (offset, state, length) = (bits & 0x7fff, bits >> 15 & 3, bits >> 17);
        (state == NORMAL).then_some(Self { offset: offset as usize, length: length as usize })
    }
}

fn word(page: &[u8], at: usize) -> Option<u16> {
    page.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}
