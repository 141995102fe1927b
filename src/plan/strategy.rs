//! How a table is split: from what was asked for and the facts of
//! the catalogue to a draft that lacks nothing but, for ranges, the boundary
//! values. Pure; the draft says why.

use std::num::NonZeroU64;

use super::export_plan::Strategy;
use super::size::Size;
use crate::config::{ExportConfig, SourceConfig};
use crate::message::event::ErrorReport;
use crate::message::request::{StrategyRequest, TableRequest};
use crate::relation::{Boundaries, BoundaryMethod, Frozen, Relation, RelationKind};

mod choice;

use choice::Table;

/// Chunks of one table at most: part numbers have six digits.
const MAX_CHUNKS: u64 = 100_000;

/// What is asked for about the split of one table.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The strategy.
    pub strategy: StrategyRequest,
    /// Column of ranges.
    pub chunk_column: Option<&'a str>,
    /// Rows of a chunk; none: by the size of the table.
    pub chunk_rows: Option<NonZeroU64>,
    /// Bytes of table in a chunk, where its rows were not given.
    pub chunk_bytes: NonZeroU64,
    /// Whether all chunks read one snapshot.
    pub snapshot: bool,
    /// Only some rows are wanted: the column's statistics do not describe them.
    pub filtered: bool,
    /// Of these, only rows that are greater than a value of this column.
    pub after: Option<&'a str>,
}

impl<'a> Wish<'a> {
    /// What the request asks for, else the source, else the whole configuration.
    #[must_use]
    pub fn of(table: &'a TableRequest, source: &SourceConfig, export: &ExportConfig, snapshot: bool) -> Self {
        Self {
            strategy: table.strategy,
            chunk_column: table.chunk_column.as_deref(),
            chunk_rows: table.chunk_rows.or_else(|| source.chunk_rows(export)),
            chunk_bytes: export.chunk_bytes,
            snapshot,
            filtered: table.where_.is_some() || table.after.is_some(),
            after: table.after.as_ref().map(|after| after.column.as_str()),
        }
    }

    /// Whether the catalogue does not tell how many rows are meant: the source
    /// is to be asked for an estimate.
    #[must_use]
    pub fn needs_estimate(&self, relation: &Relation) -> bool {
        self.filtered || (relation.kind == RelationKind::View && self.chunk_column.is_some())
    }
}

/// A split that may lack its boundary values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Split {
    /// One chunk.
    Single,
    /// Ranges of pages, complete.
    Ctid {
        /// Ascending page numbers.
        bounds: Vec<u32>,
    },
    /// Ranges whose boundaries the source has to tell.
    NeedsBoundaries {
        /// The column.
        column: String,
        /// How its values are compared.
        order: Frozen,
        /// Where boundaries come from.
        method: BoundaryMethod,
        /// Parts wanted; at least two.
        parts: u32,
        /// Whether a chunk for NULL is needed.
        nulls: bool,
    },
}

/// How a table is to be split, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The split.
    pub split: Split,
    /// Why it is split like this.
    pub reason: String,
    /// Rows expected.
    pub estimated_rows: u64,
}

impl Draft {
    /// The strategy and its reason, now that the boundaries are known (they
    /// are ignored by splits that need none).
    #[must_use]
    pub fn finish(self, found: Boundaries) -> (Strategy, String) {
        match self.split {
            Split::Single => (Strategy::Single, self.reason),
            Split::Ctid { bounds } => (Strategy::Ctid { bounds }, self.reason),
            Split::NeedsBoundaries { column, order, parts, nulls, method } => {
                let mut bounds = found.values;
                bounds.dedup();
                if bounds.is_empty() {
                    let reason = format!("single: `{column}` has no two values to split between");
                    return (Strategy::Single, reason);
                }
                let mut reason = self.reason;
                if found.method != method {
                    reason += "; the sample held too few rows: from one ordered pass";
                }
                if bounds.len() + 1 < parts as usize {
                    reason = format!("{reason}; its values allow {} chunks only", bounds.len() + 1);
                }
                (Strategy::Range { column, order, bounds, nulls }, reason)
            }
        }
    }
}

/// Chooses the split of a table. `selected_rows`: the source's estimate where
/// [`Wish::needs_estimate`] asked for one.
///
/// # Errors
/// When what was asked for cannot be done with this table: names it, the
/// column and the remedy.
pub fn draft(relation: &Relation, wish: &Wish<'_>, selected_rows: Option<u64>) -> Result<Draft, ErrorReport> {
    let size = Size::of(relation, selected_rows);
    let table = Table { relation, wish, size, parts: parts(size, wish) };
    let (split, reason) = match wish.strategy {
        StrategyRequest::Single => (Split::Single, "single: asked for".to_owned()),
        StrategyRequest::Ctid => table.asked_ctid()?,
        StrategyRequest::Range => table.asked_range()?,
        StrategyRequest::Auto if wish.chunk_column.is_some() => table.asked_range()?,
        StrategyRequest::Auto => table.auto(),
        StrategyRequest::Segment => return Err(table.unavailable("segment", "it is for Greenplum sources")),
        StrategyRequest::Hash => return Err(table.unavailable("hash", "it is for Vertica sources")),
    };
    Ok(Draft { split, reason, estimated_rows: size.rows })
}

/// Chunks of a table of this size.
fn parts(size: Size, wish: &Wish<'_>) -> u32 {
    let parts = match wish.chunk_rows {
        Some(rows) => size.rows.div_ceil(rows.get()),
        None => {
            let by_rows = match size.rows {
                0..=1_000_000 => 1,
                // To the nearest: a seventh chunk for the last row of 6,000,001 would be one that runs alone.
                n @ ..=10_000_000 => ((n + 500_000) / 1_000_000).max(2),
                n @ ..=100_000_000 => n.div_ceil(2_000_000),
                n @ ..=1_000_000_000 => n.div_ceil(5_000_000),
                n => n.div_ceil(10_000_000),
            };
            by_rows.max(size.bytes.div_ceil(wish.chunk_bytes.get()))
        }
    };
    u32::try_from(parts.clamp(1, MAX_CHUNKS)).unwrap_or(1)
}

/// Inner bounds of about equal page ranges: ascending, distinct, never 0. The
/// last range stays open, because page counts are not covered by the snapshot.
fn page_bounds(pages: u32, parts: u32) -> Vec<u32> {
    let parts = u64::from(parts.min(pages).max(1));
    (1..parts).filter_map(|i| u32::try_from(i * u64::from(pages) / parts).ok()).collect()
}

#[cfg(test)]
mod tests;
