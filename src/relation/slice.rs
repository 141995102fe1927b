//! What one chunk of a relation holds.

use super::Frozen;

/// Which rows one chunk holds. Ranges are half-open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slice<'a> {
    /// Everything.
    All,
    /// `from <= column < to`. A missing bound leaves that side open. If both are missing, the slice is every
    /// row whose column is not NULL.
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
