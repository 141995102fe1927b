//! Estimates the size of a selection.

use crate::relation::{Relation, SurveyColumn};

/// Estimated rows and bytes to export from a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub rows: u64,
    /// Bytes that these rows take in the table.
    pub bytes: u64,
}

impl Size {
    /// Estimates the size from the catalogue. `selected_rows` is the source's estimate for a filtered
    /// selection or a view. Without statistics, the column widths give the number of rows.
    #[must_use]
    pub fn of(relation: &Relation, selected_rows: Option<u64>) -> Self {
        let guess = || relation.heap_bytes / row_width(&relation.columns);
        let all = relation.estimated_rows.unwrap_or_else(guess);
        let Some(selected) = selected_rows else {
            return Self { rows: all, bytes: relation.bytes };
        };
        let share = u128::from(relation.bytes) * u128::from(selected.min(all)) / u128::from(all.max(1));
        Self { rows: selected, bytes: u64::try_from(share).unwrap_or(relation.bytes) }
    }
}

/// Approximate bytes of a row in a table.
fn row_width(columns: &[SurveyColumn]) -> u64 {
    const ROW_HEADER: u64 = 28;
    ROW_HEADER + columns.iter().map(|c| c.width).sum::<u64>()
}
