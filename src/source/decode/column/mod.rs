//! Column builders: chosen once per column, then fed block by block.
//!
//! A builder reads one column of a block in one tight loop. A value that it cannot take becomes NULL in its
//! array and is recorded in its [`Faults`]. The decoder decides what to do about it. So one pass over the
//! data finds all columns with such values.

mod composite;
mod each;
mod fixed;
mod list;
mod map;
mod numeric;
mod packed;
mod range;
mod rendered;
mod room;
mod temporal;
mod text;
mod vector;
mod walk;
mod wkb;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

pub(super) use self::room::Room;
use super::form::{Form, Shape, StreamColumn};
use super::frame::{Fields, NOWHERE};
use crate::message::setting::InfinityMode;
use crate::relation::column::Geometry;

/// Which values a builder could not take so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// Why a value does not fit the column's type (the first reason).
    pub(super) unfit: Option<&'static str>,
    /// Why a field does not match the planned type (the first reason).
    pub(super) foreign: Option<&'static str>,
    /// Whether a text was not UTF-8.
    pub(super) not_utf8: bool,
}

/// Why one value was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// A valid value that the column's type cannot hold.
    Unfit(&'static str),
    /// The field is not a value of the planned type.
    Foreign(&'static str),
    /// A value that is stored as NULL, as the request asks.
    Absent,
}

impl Faults {
    fn note(&mut self, misfit: Misfit) {
        match misfit {
            Misfit::Unfit(reason) => {
                self.unfit.get_or_insert(reason);
            }
            Misfit::Foreign(reason) => {
                self.foreign.get_or_insert(reason);
            }
            Misfit::Absent => {}
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.unfit = self.unfit.or(other.unfit);
        self.foreign = self.foreign.or(other.foreign);
        self.not_utf8 |= other.not_utf8;
    }
}

/// [`Builder::step`] of values with nested values. If nested values can become large in memory, every row is
/// checked, because a value may contain many of them.
fn step_of_whole(inner: usize) -> usize {
    if inner == usize::MAX { usize::MAX } else { 1 }
}

/// Builds the array of one column.
pub(super) trait Builder: Send {
    /// Reads the fields of a block.
    fn append(&mut self, fields: Fields<'_>);

    /// After how many rows to check how much [`Room`] was taken: few rows if a few bytes of the stream can
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

/// The builder of a column.
pub(super) fn builder(column: &StreamColumn, room: &Room) -> Box<dyn Builder> {
    of_form(&column.form, column.infinity, room)
}

/// The builder of values of a form.
fn of_form(form: &Form, infinity: Option<InfinityMode>, room: &Room) -> Box<dyn Builder> {
    match form {
        Form::Bool => fixed::bool(),
        Form::Int16 => fixed::primitive::<fixed::Int16, 2>(),
        Form::Int32 => fixed::primitive::<fixed::Int32, 4>(),
        Form::Int64 => fixed::primitive::<fixed::Int64, 8>(),
        Form::UInt32 => fixed::primitive::<fixed::UInt32, 4>(),
        Form::Float32 => fixed::primitive::<fixed::Float32, 4>(),
        Form::Float64 => fixed::primitive::<fixed::Float64, 8>(),
        Form::Decimal { precision, scale } => numeric::decimal(*precision, *scale),
        Form::NumericText => numeric::text_from_numeric(room.clone()),
        Form::NumericDouble => numeric::double_from_numeric(),
        Form::Money { .. } => numeric::money(form.column_type().data_type()),
        Form::DoubleFromText => numeric::double_from_text(),
        Form::Text | Form::SourceText => text::text(),
        Form::Json | Form::JsonText => text::json(),
        Form::Geometry(Shape { schema: None, declared: Geometry { srid: Some(_), .. } }) => wkb::iso(),
        Form::Bytes | Form::Geometry(_) => text::bytes(),
        Form::Uuid => fixed::uuid(),
        Form::UuidText => rendered::uuid(),
        Form::TimeText => rendered::time(),
        Form::Date => temporal::infinite::<temporal::Date, 4>(infinity),
        Form::Time => fixed::primitive::<temporal::Time, 8>(),
        Form::Timestamp => temporal::infinite::<temporal::Timestamp, 8>(infinity),
        Form::TimestampTz => temporal::infinite::<temporal::TimestampTz, 8>(infinity),
        Form::Interval => packed::interval(),
        Form::Point => packed::point(),
        Form::List(element) => list::list(element, infinity, room),
        Form::Vector { length, half } => vector::vector(*length, *half),
        Form::Struct(attributes) => composite::composite(attributes, infinity, room),
        Form::Range(bound) => range::range(bound, infinity, room),
        Form::Multirange(bound) => list::multirange(bound, infinity, room),
        Form::Map => map::map(),
    }
}

/// Minimum bytes of a NULL in memory. In the stream a NULL has four bytes.
pub(super) fn bytes_of_null(ty: &DataType) -> usize {
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
