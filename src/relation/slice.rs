//! What one chunk of a relation holds.

use super::Frozen;

/// What one chunk holds, half-open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slice<'a> {
    /// Everything.
    All,
    /// `from <= column < to`; a side without bound is open. With both sides
    /// open it is every row whose column is not NULL.
    Range {
        /// The column.
        column: &'a str,
        /// How its values are compared.
        order: &'a Frozen,
        /// Lower bound, inclusive.
        from: Option<&'a str>,
        /// Upper bound, exclusive.
        to: Option<&'a str>,
    },
    /// Rows whose column is NULL.
    Nulls {
        /// The column.
        column: &'a str,
    },
    /// `from <= page < to`.
    Pages {
        /// First page.
        from: Option<u32>,
        /// Page after the last.
        to: Option<u32>,
    },
}
