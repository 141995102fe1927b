//! Finds the nested values of a value.
//!
//! Elements, attributes and bounds have the same form as a field of a row, so that the builder of a column's
//! type can also read nested values.

/// Steps through one field. Lengths are not trusted: each step returns `None` when the bytes run out.
pub(super) struct Walk<'a> {
    rest: &'a [u8],
    /// End of the field in the block.
    end: usize,
}

impl<'a> Walk<'a> {
    /// Begins at the first byte of a field. `start` is the position of the field's length word.
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

    /// Steps over the next nested value. Returns the position of its length word, and whether it is NULL.
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
