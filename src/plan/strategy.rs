//! Decides how a table is split, from the request and the facts of the catalogue. The result is a proposal
//! that is complete except for the boundary values of ranges. Pure. The proposal says why.

use std::num::NonZeroU64;

use super::size::Size;
use crate::config::{ExportConfig, SourceConfig};
use crate::message::event::ErrorReport;
use crate::message::request::{StrategyRequest, TableRequest};
use crate::relation::pieces::Pieces;
use crate::relation::{Boundaries, BoundaryMethod, Frozen, Relation, RelationKind, Strategy};

mod choice;

use choice::{Table, single};

/// Maximum number of chunks of one table: part numbers have six digits.
const MAX_CHUNKS: u64 = 100_000;

/// What request and configuration ask for about the split of one table.
#[derive(Clone, Copy, Debug)]
pub struct SplitRequest<'a> {
    /// The strategy.
    pub strategy: StrategyRequest,
    /// The chunk column for ranges.
    pub chunk_column: Option<&'a str>,
    /// Rows of a chunk; if none, the size of the table decides.
    pub chunk_rows: Option<NonZeroU64>,
    /// Bytes of the table in a chunk, if the rows of a chunk are not given.
    pub chunk_bytes: NonZeroU64,
    /// Whether all chunks read one snapshot.
    pub snapshot: bool,
    /// Whether only some rows are exported, so that the column's statistics do not describe them.
    pub filtered: bool,
    /// Whether the table is read in a way that needs chunks made of numbers of the source.
    pub by_numbers: bool,
    /// The column of an incremental export: only rows greater than a value of it are exported.
    pub after: Option<&'a str>,
}

impl<'a> SplitRequest<'a> {
    /// The setting of the request, or else of the source, or else of the whole configuration.
    #[must_use]
    pub fn of(table: &'a TableRequest, source: &SourceConfig, export: &ExportConfig, snapshot: bool) -> Self {
        Self {
            strategy: table.strategy,
            chunk_column: table.chunk_column.as_deref(),
            chunk_rows: table.chunk_rows.or_else(|| source.chunk_rows(export)),
            chunk_bytes: export.chunk_bytes,
            snapshot,
            filtered: table.where_.is_some() || table.after.is_some(),
            by_numbers: false,
            after: table.after.as_ref().map(|after| after.column.as_str()),
        }
    }

    /// Whether the catalogue does not say how many rows will be read, so that the source must estimate them.
    #[must_use]
    pub fn needs_estimate(&self, relation: &Relation) -> bool {
        self.filtered || (relation.kind == RelationKind::View && self.chunk_column.is_some())
    }
}

/// How a table is split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Split {
    /// By this strategy.
    By(Strategy),
    /// Into ranges of keys between which the source must find boundaries.
    IntoRanges(KeyRanges),
}

/// Ranges whose boundaries the source must find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRanges {
    /// The column.
    pub column: String,
    /// How its values are compared.
    pub order: Frozen,
    /// Where boundaries come from.
    pub method: BoundaryMethod,
    /// Number of ranges wanted; at least two.
    pub ranges: u32,
    /// Whether a chunk for NULL is needed.
    pub nulls: bool,
}

/// How a table is to be split, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The split.
    pub split: Split,
    /// Why the table is split like this.
    pub reason: String,
    /// Estimated rows.
    pub estimated_rows: u64,
}

impl Proposal {
    /// The split that the source made.
    #[must_use]
    pub fn of_source(own: Pieces, size: Size) -> Self {
        let strategy = Strategy::Pieces { name: own.strategy.to_owned(), pieces: own.pieces };
        Self { split: Split::By(strategy), reason: own.reason, estimated_rows: size.rows }
    }

    /// The ranges whose boundaries the source must find, if there are any.
    #[must_use]
    pub fn ranges(&self) -> Option<&KeyRanges> {
        match &self.split {
            Split::IntoRanges(ranges) => Some(ranges),
            Split::By(_) => None,
        }
    }

    /// The strategy and its reason. `found` are the boundaries of [`Self::ranges`]; a table that is split
    /// without them is not split if there are none.
    #[must_use]
    pub fn finish(self, found: Option<Boundaries>) -> (Strategy, String) {
        let KeyRanges { column, order, method, ranges, nulls } = match self.split {
            Split::By(strategy) => return (strategy, self.reason),
            Split::IntoRanges(ranges) => ranges,
        };
        let Some(Boundaries { values: mut bounds, method: used }) = found.filter(|f| !f.values.is_empty())
        else {
            let reason = format!("single: `{column}` has no two values to split between");
            return (Strategy::Single, reason);
        };
        bounds.dedup();
        let mut reason = self.reason;
        if used != method {
            reason += "; the sample held too few rows: from one ordered pass";
        }
        if bounds.len() + 1 < ranges as usize {
            reason = format!("{reason}; its values allow {} chunks only", bounds.len() + 1);
        }
        (Strategy::Range { column, order, bounds, nulls }, reason)
    }
}

/// Chooses the split of a table. `selected_rows` is the source's estimate, if
/// [`SplitRequest::needs_estimate`] asked for one.
///
/// # Errors
/// When this table cannot be split as requested. The error names the table, the column and the remedy.
pub fn propose(
    relation: &Relation,
    request: &SplitRequest<'_>,
    selected_rows: Option<u64>,
) -> Result<Proposal, ErrorReport> {
    let size = Size::of(relation, selected_rows);
    let table = Table { relation, request, size, chunks: chunks(size, request) };
    let (split, reason) = match request.strategy {
        StrategyRequest::Auto if request.chunk_column.is_none() => table.auto(),
        StrategyRequest::Auto | StrategyRequest::Range => table.asked_range()?,
        StrategyRequest::Single => single("asked for"),
        // All others are made of numbers of the source.
        _ => table.asked_extent()?,
    };
    Ok(Proposal { split, reason, estimated_rows: size.rows })
}

/// Number of chunks of a table of this size.
fn chunks(size: Size, request: &SplitRequest<'_>) -> u32 {
    let chunks = match request.chunk_rows {
        Some(rows) => size.rows.div_ceil(rows.get()),
        None => {
            let by_rows = match size.rows {
                0..=1_000_000 => 1,
                // Rounded to the nearest number: 6,000,001 rows do not need a seventh chunk, which would run
                // alone.
                n @ ..=10_000_000 => ((n + 500_000) / 1_000_000).max(2),
                n @ ..=100_000_000 => n.div_ceil(2_000_000),
                n @ ..=1_000_000_000 => n.div_ceil(5_000_000),
                n => n.div_ceil(10_000_000),
            };
            by_rows.max(size.bytes.div_ceil(request.chunk_bytes.get()))
        }
    };
    u32::try_from(chunks.clamp(1, MAX_CHUNKS)).unwrap_or(1)
}

#[cfg(test)]
mod tests;
