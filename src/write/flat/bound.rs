//! Minima and maxima of pages and column chunks.

use std::str;

use parquet::basic::Type;
use parquet::data_type::ByteArray;
use parquet::file::statistics::{Statistics, ValueStatistics};

/// A minimum or a maximum. Those of one column are of one kind.
#[derive(Clone, PartialEq, PartialOrd)]
pub(super) enum Bound {
    Int32(i32),
    Int64(i64),
    /// UTF-8, compared byte by byte.
    Text(Vec<u8>),
}

/// The least and the greatest value.
#[derive(Clone)]
pub(super) struct Bounds {
    pub(super) min: Bound,
    pub(super) max: Bound,
}

impl Bounds {
    /// Widens them to what is in others.
    pub(super) fn include(&mut self, other: &Self) {
        if other.min < self.min {
            self.min = other.min.clone();
        }
        if other.max > self.max {
            self.max = other.max.clone();
        }
    }

    /// As the column index holds them, no text longer than this.
    pub(super) fn to_bytes(&self, limit: usize) -> (Vec<u8>, Vec<u8>) {
        let bytes = |bound: &Bound, cut: fn(&[u8], usize) -> Option<Vec<u8>>| match bound {
            Bound::Int32(number) => number.to_le_bytes().to_vec(),
            Bound::Int64(number) => number.to_le_bytes().to_vec(),
            Bound::Text(text) => cut(text, limit).unwrap_or_else(|| text.clone()),
        };
        (bytes(&self.min, lower), bytes(&self.max, upper))
    }
}

/// What the footer says of a column chunk; no bounds where all of it is NULL.
pub(super) fn statistics(ty: Type, bounds: Option<Bounds>, nulls: u64, limit: usize) -> Statistics {
    let (min, max) = bounds.map_or((None, None), |bounds| (Some(bounds.min), Some(bounds.max)));
    let nulls = Some(nulls);
    match ty {
        Type::INT32 => {
            let value = |bound| if let Some(Bound::Int32(number)) = bound { Some(number) } else { None };
            // Readers of old find them, too: signed numbers were compared right
            // before Parquet said how.
            ValueStatistics::new(value(min), value(max), None, nulls, false)
                .with_backwards_compatible_min_max(true)
                .into()
        }
        Type::INT64 => {
            let value = |bound| if let Some(Bound::Int64(number)) = bound { Some(number) } else { None };
            ValueStatistics::new(value(min), value(max), None, nulls, false)
                .with_backwards_compatible_min_max(true)
                .into()
        }
        _ => {
            let value = |bound| if let Some(Bound::Text(text)) = bound { Some(text) } else { None };
            let cut = |text: Option<Vec<u8>>, cut: fn(&[u8], usize) -> Option<Vec<u8>>| {
                let short = text.as_ref().and_then(|text| cut(text, limit));
                let is_exact = short.is_none();
                (short.or(text).map(ByteArray::from), is_exact)
            };
            let ((min, min_is_exact), (max, max_is_exact)) = (cut(value(min), lower), cut(value(max), upper));
            ValueStatistics::new(min, max, None, nulls, false)
                .with_min_is_exact(min_is_exact)
                .with_max_is_exact(max_is_exact)
                .into()
        }
    }
}

/// A text of at most `limit` bytes that is not greater, where this one is longer.
fn lower(text: &[u8], limit: usize) -> Option<Vec<u8>> {
    prefix(text, limit).map(|prefix| prefix.as_bytes().to_vec())
}

/// A text of at most `limit` bytes that is greater, where this one is longer
/// and there is such a text: the last character that has a successor of the
/// same length becomes that, and what follows it goes.
fn upper(text: &[u8], limit: usize) -> Option<Vec<u8>> {
    let prefix = prefix(text, limit)?;
    prefix.char_indices().rev().find_map(|(start, last)| {
        let next = char::from_u32(u32::from(last) + 1).filter(|next| next.len_utf8() == last.len_utf8())?;
        let mut upper = prefix[..start].to_owned();
        upper.push(next);
        Some(upper.into_bytes())
    })
}

/// The characters of a longer text that have room in `limit` bytes.
fn prefix(text: &[u8], limit: usize) -> Option<&str> {
    let cut = text.get(..limit).filter(|_| text.len() > limit)?;
    match str::from_utf8(cut) {
        Ok(prefix) => Some(prefix),
        Err(error) => str::from_utf8(&cut[..error.valid_up_to()]).ok(),
    }
}
