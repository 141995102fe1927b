//! Estimates the size of a selection, and writes sizes for people.

use std::fmt;

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

/// A number of rows for people: `950`, `12 k`, `1.0 M`.
#[derive(Clone, Copy, Debug)]
pub struct Rows(pub u64);

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&scaled(self.0, 1_000, &["", " k", " M", " B", " T", " Q"]))
    }
}

/// A number of bytes for people: `4.0 GiB`.
#[must_use]
pub fn bytes_text(bytes: u64) -> String {
    scaled(bytes, 1_024, &[" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"])
}

fn scaled(number: u64, step: u64, units: &[&str]) -> String {
    let mut unit = 0;
    let mut divisor = 1_u64;
    while number / divisor >= step && unit + 1 < units.len() {
        divisor *= step;
        unit += 1;
    }
    let name = units[unit];
    let value = number as f64 / divisor as f64;
    if unit == 0 || value >= 99.95 { format!("{value:.0}{name}") } else { format!("{value:.1}{name}") }
}

/// `1 table`, `2 tables`, `3 batches`.
#[must_use]
pub fn count(n: u64, noun: &str) -> String {
    match n {
        1 => format!("1 {noun}"),
        n if noun.ends_with("ch") => format!("{n} {noun}es"),
        n => format!("{n} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let rows = |n| Rows(n).to_string();
        assert_eq!((rows(0), rows(999), rows(1_000)), ("0".into(), "999".into(), "1.0 k".into()));
        assert_eq!((rows(1_000_000), rows(123_456_789)), ("1.0 M".into(), "123 M".into()));
        assert_eq!(rows(u64::MAX), "18447 Q");
        assert_eq!(bytes_text(4 << 30), "4.0 GiB");
        assert_eq!(bytes_text(u64::MAX), "16.0 EiB");
    }
}
