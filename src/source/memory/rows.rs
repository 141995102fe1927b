//! Keys and slices of rows in memory.

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Int16Type, Int32Type, Int64Type};
use serde::{Deserialize, Serialize};

use super::{PAGE_ROWS, failure};
use crate::relation::{Frozen, Numbered, Slice};
use crate::source::{ErrorKind, SourceError};

/// A key that can be compared: numbers by value, texts by bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Number(i64),
    Text(String),
}

pub(super) fn key(array: &dyn Array, row: usize) -> Option<Key> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Int16 => Key::Number(array.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => Key::Number(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Key::Number(array.as_primitive::<Int64Type>().value(row)),
        DataType::Utf8 => Key::Text(array.as_string::<i32>().value(row).to_owned()),
        _ => return None,
    })
}

impl Key {
    fn parse(text: &str, like: &DataType) -> Option<Self> {
        if like == &DataType::Utf8 {
            Some(Self::Text(text.into()))
        } else {
            text.parse().ok().map(Self::Number)
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Number(n) => n.to_string(),
            Self::Text(t) => t.clone(),
        }
    }
}

/// The rows of a slice.
pub(super) fn select(rows: &RecordBatch, slice: Slice<'_>) -> Result<RecordBatch, SourceError> {
    let no_column = || failure(ErrorKind::Changed, "changed", "the chunk column is not there".into());
    let inside: BooleanArray = match slice {
        Slice::Piece(_) => unreachable!("tables in memory are split by keys and pages"),
        Slice::All => return Ok(rows.clone()),
        Slice::Nulls { column } => {
            let array = rows.column_by_name(column).ok_or_else(no_column)?;
            (0..rows.num_rows()).map(|row| Some(array.is_null(row))).collect()
        }
        Slice::Range { column, from, to, .. } => {
            let array = rows.column_by_name(column).ok_or_else(no_column)?;
            let bound = |text: Option<&str>| text.map(|t| Key::parse(t, array.data_type()));
            let (from, to) = (bound(from), bound(to));
            (0..rows.num_rows())
                .map(|row| {
                    let key = key(array, row);
                    let above = from.as_ref().is_none_or(|from| key >= *from);
                    let below = to.as_ref().is_none_or(|to| key < *to);
                    Some(key.is_some() && above && below)
                })
                .collect()
        }
        Slice::Numbers(numbers) => {
            let unknown = || failure(ErrorKind::Permanent, "strategy", format!("no rows have {slice}"));
            let (from, to) = numbers.of(Numbered::Pages).ok_or_else(unknown)?;
            (0..rows.num_rows() as u64)
                .map(|row| {
                    let page = row / u64::from(PAGE_ROWS);
                    Some(from.is_none_or(|from| page >= from) && to.is_none_or(|to| page < to))
                })
                .collect()
        }
    };
    filtered(rows, &inside)
}

/// The only filter of this source: rows whose column is greater than a value.
#[derive(Serialize, Deserialize)]
pub(super) struct Greater {
    pub(super) column: String,
    pub(super) value: String,
}

/// The rows that pass a filter.
pub(super) fn greater(rows: &RecordBatch, filter: &Frozen) -> Result<RecordBatch, SourceError> {
    let unknown = || failure(ErrorKind::Permanent, "filter", "the filter is of another source".into());
    let Greater { column, value } = filter.thaw().map_err(|_| unknown())?;
    let array = rows.column_by_name(&column).ok_or_else(unknown)?;
    let value = Key::parse(&value, array.data_type()).ok_or_else(unknown)?;
    let inside: BooleanArray =
        (0..rows.num_rows()).map(|row| Some(key(array, row).is_some_and(|key| key > value))).collect();
    filtered(rows, &inside)
}

fn filtered(rows: &RecordBatch, inside: &BooleanArray) -> Result<RecordBatch, SourceError> {
    filter_record_batch(rows, inside)
        .map_err(|e| failure(ErrorKind::Permanent, "memory", format!("filter rows: {e}")))
}
