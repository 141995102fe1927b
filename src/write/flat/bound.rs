//! Minima and maxima of pages and column chunks. Texts may have any length, so only the bytes that the file
//! will have are kept.

use std::str;

use parquet::basic::Type;
use parquet::data_type::ByteArray;
use parquet::file::statistics::{Statistics, ValueStatistics};

/// Largest length of a text in a minimum or maximum, in bytes.
pub(in crate::write) const BOUND_BYTES: usize = 64;

/// A minimum or a maximum. All bounds of a column have the same variant.
#[derive(Clone, PartialEq, PartialOrd)]
pub(super) enum Bound {
    Int32(i32),
    Int64(i64),
    Text(Cut),
}

/// The first bytes of a text. These bytes sort like the whole texts if the texts differ in them. The file
/// gets only whole characters, which may sort differently.
#[derive(Clone, Default, PartialEq, PartialOrd)]
pub(super) struct Cut {
    bytes: Vec<u8>,
    /// Whether the text is longer than `bytes`. A longer text sorts after the text that ends there.
    is_cut: bool,
}

impl Cut {
    pub(super) fn of(text: &[u8]) -> Self {
        let (bytes, is_cut) = cut(text);
        Self { bytes: bytes.to_vec(), is_cut }
    }

    pub(super) fn set(&mut self, text: &[u8]) {
        let (bytes, is_cut) = cut(text);
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.is_cut = is_cut;
    }

    pub(super) fn is_above(&self, text: &[u8]) -> bool {
        (&self.bytes[..], self.is_cut) > cut(text)
    }

    pub(super) fn is_below(&self, text: &[u8]) -> bool {
        (&self.bytes[..], self.is_cut) < cut(text)
    }

    /// The characters of which every byte is kept.
    fn characters(&self) -> &str {
        match str::from_utf8(&self.bytes) {
            Ok(text) => text,
            Err(error) => str::from_utf8(&self.bytes[..error.valid_up_to()]).unwrap_or_default(),
        }
    }

    /// A lower bound: a text that is not greater than the whole text.
    fn lower(&self) -> Vec<u8> {
        self.characters().as_bytes().to_vec()
    }

    /// An upper bound: a text that is not less than the whole text. If the text was cut, the last character
    /// that has a successor is replaced by its successor, and the characters after it are removed. `None` if
    /// no character has a successor.
    fn upper(&self) -> Option<Vec<u8>> {
        if !self.is_cut {
            return Some(self.bytes.clone());
        }
        self.characters().char_indices().rev().find_map(|(start, last)| {
            // The code points between these two are surrogates, not characters.
            let next = if last == '\u{D7FF}' { '\u{E000}' } else { char::from_u32(u32::from(last) + 1)? };
            let upper = || [&self.bytes[..start], next.encode_utf8(&mut [0; 4]).as_bytes()].concat();
            (start + next.len_utf8() <= BOUND_BYTES).then(upper)
        })
    }
}

/// The bytes of a text that a bound keeps, and whether the text is longer.
#[inline]
fn cut(text: &[u8]) -> (&[u8], bool) {
    text.get(..BOUND_BYTES).filter(|_| text.len() > BOUND_BYTES).map_or((text, false), |cut| (cut, true))
}

/// The smallest and the largest value.
#[derive(Clone)]
pub(super) struct Bounds {
    pub(super) min: Bound,
    pub(super) max: Bound,
}

impl Bounds {
    /// Widens the bounds so that they include `other`.
    pub(super) fn include(&mut self, other: &Self) {
        if other.min < self.min {
            self.min = other.min.clone();
        }
        if other.max > self.max {
            self.max = other.max.clone();
        }
    }

    /// The bounds as the file has them. `None` if no text of at most [`BOUND_BYTES`] is an upper bound.
    pub(super) fn written(&self) -> Option<Self> {
        let whole = |bytes| Bound::Text(Cut { bytes, is_cut: false });
        let min = if let Bound::Text(text) = &self.min { whole(text.lower()) } else { self.min.clone() };
        let max = if let Bound::Text(text) = &self.max { whole(text.upper()?) } else { self.max.clone() };
        Some(Self { min, max })
    }

    /// The [`written`](Self::written) bounds in the form of the column index.
    pub(super) fn to_bytes(&self) -> (Vec<u8>, Vec<u8>) {
        let bytes = |bound: &Bound| match bound {
            Bound::Int32(number) => number.to_le_bytes().to_vec(),
            Bound::Int64(number) => number.to_le_bytes().to_vec(),
            Bound::Text(text) => text.bytes.clone(),
        };
        (bytes(&self.min), bytes(&self.max))
    }
}

/// The statistics of a column chunk in the footer. They have no bounds if all values are NULL.
pub(super) fn statistics(ty: Type, bounds: Option<Bounds>, nulls: u64) -> Statistics {
    let nulls = Some(nulls);
    match bounds.map(|bounds| (bounds.min, bounds.max)) {
        // Old readers may use these bounds, too: they compared signed numbers correctly even before Parquet
        // defined the order.
        Some((Bound::Int32(min), Bound::Int32(max))) => {
            ValueStatistics::new(Some(min), Some(max), None, nulls, false)
                .with_backwards_compatible_min_max(true)
                .into()
        }
        Some((Bound::Int64(min), Bound::Int64(max))) => {
            ValueStatistics::new(Some(min), Some(max), None, nulls, false)
                .with_backwards_compatible_min_max(true)
                .into()
        }
        Some((Bound::Text(min), Bound::Text(max))) => {
            let upper = max.upper().map(ByteArray::from);
            ValueStatistics::new(Some(ByteArray::from(min.lower())), upper, None, nulls, false)
                .with_min_is_exact(!min.is_cut)
                .with_max_is_exact(!max.is_cut)
                .into()
        }
        _ => match ty {
            Type::INT32 => Statistics::int32(None, None, None, nulls, false),
            Type::INT64 => Statistics::int64(None, None, None, nulls, false),
            _ => Statistics::byte_array(None, None, None, nulls, false),
        },
    }
}
