//! A block of complete rows, column by column: where in its bytes each value begins. Values are fields of a
//! COPY, or as PostgreSQL stores them in a heap.

/// Size of a block: small enough to stay in the second-level cache while its columns are decoded.
pub(super) const BLOCK_BYTES: usize = 192 << 10;
/// Maximum rows of a block of few columns.
const BLOCK_ROWS: usize = 1024;

/// Maximum rows of a block: fewer if there are many columns.
pub(super) fn block_rows(columns: usize) -> usize {
    (BLOCK_ROWS * 64 / columns.max(1)).clamp(32, BLOCK_ROWS)
}

/// A position outside every block: the value is NULL.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Complete rows that are not decoded yet.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    /// The bytes of the rows.
    pub(super) raw: &'a [u8],
    /// Positions in `raw`, column by column; `stride` entries for each column.
    pub(super) starts: &'a [u32],
    pub(super) stride: usize,
    /// Number of rows.
    pub(super) rows: usize,
}

/// Fields of one column of a block, or of values nested in it. `starts` are positions of length words in
/// `raw`, or [`NOWHERE`]. All fields lie within `raw`.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) raw: &'a [u8],
    pub(super) starts: &'a [u32],
}

/// Values of one column of a block as a heap stores them. `starts` are positions of values in `raw`, or
/// [`NOWHERE`]. Values of any length begin with their header. All values lie within `raw`.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    pub(super) raw: &'a [u8],
    pub(super) starts: &'a [u32],
}

impl<'a> Block<'a> {
    /// The values of `rows` rows of a column, beginning with row `first`.
    pub(super) fn column(self, column: usize, first: usize, rows: usize) -> Fields<'a> {
        let first = column * self.stride + first;
        Fields { raw: self.raw, starts: &self.starts[first..first + rows] }
    }
}

impl<'a> Fields<'a> {
    /// The field whose length word is at `start`; `None` for NULL.
    #[inline]
    pub(super) fn get(self, start: u32) -> Option<&'a [u8]> {
        self.window(start).map(|(field, _)| field)
    }

    /// The field whose length word is at `start`, and the bytes from its first byte to the end of the block.
    /// Code that reads fixed windows may look beyond a short field. `None` for NULL.
    #[inline]
    pub(super) fn window(self, start: u32) -> Option<(&'a [u8], &'a [u8])> {
        let (word, rest) = self.raw.get(start as usize..)?.split_first_chunk::<4>()?;
        // -1 is the only negative length that is ever indexed.
        let length = usize::try_from(i32::from_be_bytes(*word)).ok()?;
        Some((rest.get(..length)?, rest))
    }

    /// The field at `start` if it is not NULL and has exactly `W` bytes.
    #[inline]
    pub(super) fn fixed<const W: usize>(self, start: u32) -> Option<[u8; W]> {
        let (word, rest) = self.raw.get(start as usize..)?.split_first_chunk::<4>()?;
        if u32::from_be_bytes(*word) as usize != W {
            return None;
        }
        rest.first_chunk::<W>().copied()
    }

    /// All fields in order.
    pub(super) fn iter(self) -> impl Iterator<Item = Option<&'a [u8]>> {
        self.starts.iter().map(move |&start| self.get(start))
    }
}

impl<'a> Stored<'a> {
    /// The number at `start`, in the order of bytes that a field has; `None` for NULL.
    #[inline]
    pub(super) fn number<const W: usize>(self, start: u32) -> Option<[u8; W]> {
        let mut bytes = *self.raw.get(start as usize..)?.first_chunk::<W>()?;
        bytes.reverse();
        Some(bytes)
    }

    /// The bytes of the value of any length at `start`, without its header, and the bytes from the first of
    /// them to the end of the block, as [`Fields::window`]. `None` for NULL.
    #[inline]
    pub(super) fn window(self, start: u32) -> Option<(&'a [u8], &'a [u8])> {
        let here = self.raw.get(start as usize..)?;
        let first = *here.first()?;
        // The size counts the header.
        let (header, size) = if first & 1 == 1 {
            (1, usize::from(first >> 1))
        } else {
            (4, (u32::from_le_bytes(*here.first_chunk()?) >> 2) as usize)
        };
        Some((here.get(header..size)?, here.get(header..)?))
    }
}
