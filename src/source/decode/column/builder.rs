//! What every column builder offers, and how it tells which values it could not take.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use super::{Fields, Stored};

/// Which values a builder could not take so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::source::decode) struct Faults {
    /// Why a value does not fit the column's type (the first reason).
    pub(in crate::source::decode) unfit: Option<&'static str>,
    /// How many dimensions the array has that did not fit, if they are the reason.
    pub(in crate::source::decode) dimensions: Option<u8>,
    /// Why a field does not match the planned type (the first reason).
    pub(in crate::source::decode) foreign: Option<&'static str>,
    /// Whether a text was not UTF-8.
    pub(in crate::source::decode) not_utf8: bool,
}

/// Why one value was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source::decode) enum Misfit {
    /// A valid value that the column's type cannot hold.
    Unfit(&'static str),
    /// An array of this number of dimensions, which is not that of the column, and how to say so.
    Dimensions(u8, &'static str),
    /// The field is not a value of the planned type.
    Foreign(&'static str),
    /// A value that is stored as NULL, as the request asks.
    Absent,
}

impl Faults {
    pub(super) fn note(&mut self, misfit: Misfit) {
        match misfit {
            Misfit::Unfit(reason) => {
                self.unfit.get_or_insert(reason);
            }
            Misfit::Dimensions(dimensions, reason) => {
                if self.unfit.is_none() {
                    (self.unfit, self.dimensions) = (Some(reason), Some(dimensions));
                }
            }
            Misfit::Foreign(reason) => {
                self.foreign.get_or_insert(reason);
            }
            Misfit::Absent => {}
        }
    }

    /// Adds the faults of nested values. The dimensions of nested arrays say nothing about the column.
    pub(in crate::source::decode) fn merge(&mut self, other: Self) {
        self.unfit = self.unfit.or(other.unfit);
        self.foreign = self.foreign.or(other.foreign);
        self.not_utf8 |= other.not_utf8;
    }
}

/// [`Builder::step`] of values with nested values. If nested values can become large in memory, every row is
/// checked, because a value may contain many of them.
pub(super) fn step_of_whole(inner: usize) -> usize {
    if inner == usize::MAX { usize::MAX } else { 1 }
}

/// Builds the array of one column.
pub(in crate::source::decode) trait Builder: Send {
    /// Reads the fields of a block.
    fn append(&mut self, fields: Fields<'_>);

    /// The same builder for values as a heap stores them, if it reads such.
    fn stored(&mut self) -> Option<&mut dyn StoredBuilder> {
        None
    }

    /// After how many rows to check how much [`Room`](super::Room) was taken: few rows if a few bytes of the stream can
    /// become large in memory.
    fn step(&self) -> usize {
        usize::MAX
    }

    /// Whether a value since the last `finish` does not fit.
    fn is_unfit(&self) -> bool;

    /// The array of all values since the last call, and its faults. A value that could not be taken is NULL
    /// in the array.
    fn finish(&mut self) -> Result<(ArrayRef, Faults), ArrowError>;
}

/// Which values a builder reads as a heap stores them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) enum StoredForm {
    /// Numbers of so many bytes.
    Number(usize),
    /// Values of any length whose bytes are those that a COPY sends.
    Bytes,
    /// Numerics that [`numeric_is_sound`](super::numeric_is_sound).
    Numeric,
}

/// Builds the array of one column from values as a heap stores them.
pub(in crate::source::decode) trait StoredBuilder {
    /// Which values these are.
    fn form(&self) -> StoredForm;

    /// Reads the values of a block.
    fn append_stored(&mut self, values: Stored<'_>);
}

/// Minimum bytes of a NULL in memory. In the stream a NULL has four bytes.
pub(in crate::source::decode) fn bytes_of_null(ty: &DataType) -> usize {
    match ty {
        DataType::Boolean => 1,
        DataType::FixedSizeBinary(width) => usize::try_from(*width).unwrap_or(0),
        DataType::FixedSizeList(element, length) => {
            usize::try_from(*length).unwrap_or(0) * bytes_of_null(element.data_type())
        }
        DataType::Struct(fields) => fields.iter().map(|field| bytes_of_null(field.data_type())).sum(),
        // A type without a fixed width needs one offset.
        _ => ty.primitive_width().unwrap_or(size_of::<i32>()),
    }
}
