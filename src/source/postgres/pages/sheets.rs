//! Pages out of a binary COPY of their numbers and bytes.

use std::ops::Range;

/// What a binary COPY begins with: signature, flags, length of the extension.
pub(super) const COPY_HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with.
pub(super) const COPY_TRAILER: [u8; 2] = [0xff, 0xff];
/// Most bytes of a page.
const MOST_BYTES: usize = 32 << 10;

/// The pages of one COPY, in pieces of any size.
#[derive(Default)]
pub(super) struct Sheets {
    raw: Vec<u8>,
    /// Bytes of `raw` that are used.
    used: usize,
    has_begun: bool,
    has_ended: bool,
}

/// The stream has something else than pages.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Strange;

/// One row of the stream: the page's number, and where its bytes are.
struct Row {
    number: u64,
    bytes: Range<usize>,
}

impl Sheets {
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

    /// The next page and its number; `None` if more bytes are needed.
    pub(super) fn next(&mut self) -> Result<Option<(u64, &[u8])>, Strange> {
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
        let Some(Row { number, bytes }) = self.row()? else { return Ok(None) };
        self.used = bytes.end;
        Ok(Some((number, &self.raw[bytes])))
    }

    fn row(&mut self) -> Result<Option<Row>, Strange> {
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
        Ok(is_there.then_some(Row { number, bytes: start..start + length }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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

    proptest! {
        #[test]
        fn pages_do_not_depend_on_pieces(
            pages in prop::collection::vec((any::<u64>(), prop::collection::vec(any::<u8>(), 0..50)), 0..6),
            cuts in prop::collection::vec(1usize..40, 1..30),
        ) {
            let bytes = stream(&pages);
            let (mut sheets, mut found, mut rest) = (Sheets::default(), Vec::new(), bytes.as_slice());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                rest = after;
                sheets.take(piece.to_vec());
                while let Some((number, page)) = sheets.next().expect("sound") {
                    found.push((number, page.to_vec()));
                }
            }
            prop_assert!(sheets.has_ended());
            prop_assert_eq!(found, pages);
        }

        #[test]
        fn garbage_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut sheets = Sheets::default();
            sheets.take(COPY_HEADER.to_vec());
            sheets.take(bytes);
            while let Ok(Some(_)) = sheets.next() {}
        }
    }
}
