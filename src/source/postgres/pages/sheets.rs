//! Pages out of a binary COPY of their numbers and bytes. A row has one page, or an array of several without
//! their holes.

use std::ops::Range;

use crate::source::decode::COPY_HEADER;

/// Most bytes of a row: 64 pages of the largest size.
const MOST_BYTES: usize = 65 * (32 << 10);

/// The pages of one COPY, in pieces of any size.
#[derive(Default)]
pub(super) struct Sheets {
    raw: Vec<u8>,
    /// Bytes of `raw` that are used.
    used: usize,
    has_begun: bool,
    has_ended: bool,
    /// The size of a page, if a row has several without their holes.
    block: Option<u64>,
    /// The pages of a row that are still to come: how many, and the number of the first.
    group: (u32, u64),
}

/// The stream has something else than pages.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Strange;

/// A page, perhaps without its hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sheet<'a> {
    pub(super) bytes: &'a [u8],
    /// Size of the page with its hole.
    pub(super) size: usize,
}

/// A page and its number. None: the server did not show the page.
type Numbered<'a> = (u64, Option<Sheet<'a>>);

impl Sheets {
    /// `block` is the size of a page, if a row has several without their holes.
    pub(super) fn new(block: Option<u64>) -> Self {
        Self { block, ..Self::default() }
    }

    /// Takes the next piece.
    pub(super) fn take(&mut self, piece: Vec<u8>) {
        if self.used == self.raw.len() {
            self.raw = piece;
        } else {
            self.raw.drain(..self.used);
            self.raw.extend_from_slice(&piece);
        }
        self.used = 0;
    }

    /// Whether the trailer has arrived and nothing follows it.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended && self.used == self.raw.len()
    }

    /// The next page; `None` if more bytes are needed.
    pub(super) fn next(&mut self) -> Result<Option<Numbered<'_>>, Strange> {
        if self.group.0 > 0 {
            return self.of_group().map(Some);
        }
        if !self.has_begun {
            let Some(header) = self.raw.get(self.used..self.used + COPY_HEADER.len()) else {
                return Ok(None);
            };
            if header != COPY_HEADER {
                return Err(Strange);
            }
            self.used += COPY_HEADER.len();
            self.has_begun = true;
        }
        let Some((number, bytes)) = self.row()? else { return Ok(None) };
        if self.block.is_none() {
            self.used = bytes.end;
            let bytes = &self.raw[bytes];
            return Ok(Some((number, Some(Sheet { bytes, size: bytes.len() }))));
        }
        // An array: dimensions, flags, type of elements, their number, the lowest index. Its bytes have arrived.
        let [dimensions, _, _, count, _] = self.words(bytes.start).ok_or(Strange)?;
        if dimensions != 1 || count == 0 {
            return Err(Strange);
        }
        self.used = bytes.start + 20;
        self.group = (count, number);
        self.of_group().map(Some)
    }

    /// The next page of a row with several.
    fn of_group(&mut self) -> Result<Numbered<'_>, Strange> {
        let (left, number) = self.group;
        self.group = (left - 1, number.wrapping_add(1));
        let [length] = self.words(self.used).ok_or(Strange)?;
        self.used += 4;
        let Ok(length) = usize::try_from(length.cast_signed()) else { return Ok((number, None)) };
        let bytes = self.raw.get(self.used..self.used + length).ok_or(Strange)?;
        self.used += length;
        let size = usize::try_from(self.block.unwrap_or_default()).map_err(|_| Strange)?;
        Ok((number, Some(Sheet { bytes, size })))
    }

    fn words<const N: usize>(&self, at: usize) -> Option<[u32; N]> {
        let mut words = self.raw.get(at..)?.chunks_exact(4);
        let mut all = [0; N];
        for word in &mut all {
            *word = u32::from_be_bytes(*words.next()?.first_chunk()?);
        }
        Some(all)
    }

    /// A row: its number, and where its bytes are. `None` if it has not arrived completely.
    fn row(&mut self) -> Result<Option<(u64, Range<usize>)>, Strange> {
        let rest = &self.raw[self.used..];
        let Some((count, rest)) = rest.split_first_chunk::<2>() else { return Ok(None) };
        match i16::from_be_bytes(*count) {
            2 if !self.has_ended => {}
            -1 if !self.has_ended => {
                self.has_ended = true;
                self.used += 2;
                return if self.used == self.raw.len() { Ok(None) } else { Err(Strange) };
            }
            _ => return Err(Strange),
        }
        let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        if u32::from_be_bytes(*length) != 8 {
            return Err(Strange);
        }
        let Some((number, rest)) = rest.split_first_chunk::<8>() else { return Ok(None) };
        let number = u64::from_be_bytes(*number);
        let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MOST_BYTES {
            return Err(Strange);
        }
        let start = self.raw.len() - rest.len();
        let is_there = rest.len() >= length;
        Ok(is_there.then_some((number, start..start + length)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::source::decode::COPY_TRAILER;

    fn stream(pages: &[(u64, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = COPY_HEADER.to_vec();
        for (number, page) in pages {
            bytes.extend_from_slice(&[0, 2, 0, 0, 0, 8]);
            bytes.extend_from_slice(&number.to_be_bytes());
            bytes.extend_from_slice(&(page.len() as u32).to_be_bytes());
            bytes.extend_from_slice(page);
        }
        bytes.extend_from_slice(&COPY_TRAILER);
        bytes
    }

    /// A page: its number, and its bytes with its whole size.
    type Found = (u64, Option<(Vec<u8>, usize)>);

    /// All pages of a stream that comes in pieces of these sizes, with their whole sizes.
    fn found(mut sheets: Sheets, bytes: &[u8], cuts: &[usize]) -> Vec<Found> {
        let (mut found, mut rest) = (Vec::new(), bytes);
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            rest = after;
            sheets.take(piece.to_vec());
            while let Some((number, page)) = sheets.next().expect("sound") {
                found.push((number, page.map(|page| (page.bytes.to_vec(), page.size))));
            }
        }
        assert!(sheets.has_ended());
        found
    }

    #[test]
    fn pages_of_a_group_come_one_by_one() {
        let pages = [vec![1; 64], vec![2; 24], vec![3; 50]];
        let mut array = [1u32, 1, 17, 4, 1].map(u32::to_be_bytes).concat();
        for page in &pages {
            array.extend_from_slice(&(page.len() as u32).to_be_bytes());
            array.extend_from_slice(page);
        }
        array.extend_from_slice(&u32::MAX.to_be_bytes());
        let bytes = stream(&[(7, array.clone()), (90, array)]);
        for cuts in [vec![1], vec![1000], vec![3, 50, 7]] {
            let found = found(Sheets::new(Some(64)), &bytes, &cuts);
            assert_eq!(found.len(), 8);
            for (first, group) in [7, 90].into_iter().zip(found.chunks(4)) {
                for (number, (page, cut)) in (first..).zip(group.iter().zip(&pages)) {
                    assert_eq!(page, &(number, Some((cut.clone(), 64))));
                }
                assert_eq!(group[3], (first + 3, None), "a page that the server did not show");
            }
        }
    }

    proptest! {
        #[test]
        fn pages_do_not_depend_on_pieces(
            pages in prop::collection::vec((any::<u64>(), prop::collection::vec(any::<u8>(), 0..50)), 0..6),
            cuts in prop::collection::vec(1usize..40, 1..30),
        ) {
            let found = found(Sheets::default(), &stream(&pages), &cuts);
            let whole = |page: Vec<u8>| (page.clone(), page.len());
            let pages: Vec<_> = pages.into_iter().map(|(number, page)| (number, Some(whole(page)))).collect();
            prop_assert_eq!(found, pages);
        }

        #[test]
        fn garbage_is_no_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            array in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            for block in [None, Some(64)] {
                for garbage in [&bytes, &stream(&[(1, array.clone())])[19..].to_vec()] {
                    let mut sheets = Sheets::new(block);
                    sheets.take(COPY_HEADER.to_vec());
                    sheets.take(garbage.clone());
                    while let Ok(Some(_)) = sheets.next() {}
                }
            }
        }
    }
}
