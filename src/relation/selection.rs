//! What is read of a relation, and where that is split.

use super::Frozen;

/// A relation and what is read of it.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a> {
    /// Schema.
    pub schema: &'a str,
    /// Name.
    pub name: &'a str,
    /// Without the rows of tables that inherit from it.
    pub only: bool,
    /// Which rows, as the source has printed it.
    pub filter: Option<&'a Frozen>,
}

/// What ranges are made of.
#[derive(Clone, Copy, Debug)]
pub struct SplitKey<'a> {
    /// The column.
    pub column: &'a str,
    /// How its values are compared, as the survey has it.
    pub order: &'a Frozen,
}

/// Parts that a selection is wanted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Division {
    /// So many of them.
    pub parts: u32,
    /// Rows that each was estimated to have: where all rows are passed and counted, fewer make fewer parts.
    pub rows: u64,
}

/// Where boundaries of ranges come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundaryMethod {
    /// The histogram of the column's statistics.
    Statistics,
    /// A sample of so many millionths of the pages.
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
    /// Distinct, ascending in the source's order, as text.
    pub values: Vec<String>,
    /// How they were found: a sample that is too small is followed by an ordered pass.
    pub method: BoundaryMethod,
}

impl Boundaries {
    /// Of what is not split by them.
    #[must_use]
    pub fn none() -> Self {
        Self { values: Vec::new(), method: BoundaryMethod::Statistics }
    }
}
