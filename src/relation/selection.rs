//! What to read of a relation, and where to split it.

use super::Frozen;

/// A relation and what to read of it.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a> {
    /// Schema.
    pub schema: &'a str,
    /// Name.
    pub name: &'a str,
    /// Whether to leave out the rows of tables that inherit from it.
    pub only: bool,
    /// The filter, as the source has printed it.
    pub filter: Option<&'a Frozen>,
}

/// The key that ranges are made of.
#[derive(Clone, Copy, Debug)]
pub struct SplitKey<'a> {
    /// The column.
    pub column: &'a str,
    /// How its values are compared, as the survey reports it.
    pub order: &'a Frozen,
}

/// How finely to split a selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Division {
    /// Number of ranges wanted.
    pub ranges: u32,
    /// Estimated rows of each range. An ordered pass counts all rows; if it finds fewer rows, it makes fewer
    /// ranges.
    pub rows: u64,
}

/// How boundaries of ranges are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundaryMethod {
    /// The histogram of the column's statistics.
    Statistics,
    /// A random sample of the pages, in millionths.
    Sample {
        /// From 1 to 1,000,000.
        ppm: u32,
    },
    /// One ordered pass that picks every n-th key.
    OrderedPass,
}

/// Where a selection is split, and how that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boundaries {
    /// Distinct values, ascending in the source's order, as text.
    pub values: Vec<String>,
    /// How the values were found: as it was asked for, or by an ordered pass if a sample was too small.
    pub method: BoundaryMethod,
}
