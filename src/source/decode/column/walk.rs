//! A value that is made of others: where its parts lie.
//!
//! Parts of arrays, composites, ranges and maps have the form of a field of a
//! row, so that the builder of a part is the one that a column of its type has.

/// Walks through one field. Nothing is believed that the bytes do not have:
/// each step is `None` when they run out.
pub(super) struct Walk<'a> {
    rest: &'a [u8],
    /// End of the field in the block.
    end: usize,
}

impl<'a> Walk<'a> {
    /// From the begin of a field whose length word is at `start`.
    pub(super) fn new(start: u32, field: &'a [u8]) -> Self {
        Self { rest: field, end: start as usize + 4 + field.len() }
    }

    /// A big-endian word.
    pub(super) fn word(&mut self) -> Option<i32> {
        let (word, rest) = self.rest.split_first_chunk::<4>()?;
        self.rest = rest;
        Some(i32::from_be_bytes(*word))
    }

    /// A byte.
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    /// Where the length word of the next part is, and whether the part is
    /// NULL; steps over it.
    pub(super) fn nested(&mut self) -> Option<(u32, bool)> {
        let here = self.end - self.rest.len();
        let length = self.word()?;
        if length != -1 {
            self.rest = self.rest.get(usize::try_from(length).ok()?..)?;
        }
        Some((here as u32, length == -1))
    }

    /// Whether nothing is left.
    pub(super) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }
}
