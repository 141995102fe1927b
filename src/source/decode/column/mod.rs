//! The forms that bytes of a field can have, each with its file type, its portable form and its builder. A new
//! form is a variant here, and a builder in a file of its own.
//!
//! A builder is chosen once per column, and then fed block by block. It reads one column of a block in one
//! tight loop. A value that it cannot take becomes NULL in its array and is recorded in its [`Faults`]. The
//! decoder decides what to do about it. So one pass over the data finds all columns with such values.

use serde::{Deserialize, Serialize};

pub(in crate::source) use self::builder::StoredForm;
pub(super) use self::builder::{Builder, Faults, bytes_of_null};
use self::builder::{Misfit, step_of_whole};
pub(in crate::source) use self::portable::make_portable;
pub(super) use self::room::Room;
pub(in crate::source) use self::stored_numeric::{numeric_is_sound, send_numeric};
use super::block::{Fields, NOWHERE, Stored};
use crate::message::setting::InfinityMode;
use crate::relation::Column;
use crate::relation::column::{Attribute, ColumnType, Geometry, INT64_DIGITS};

mod builder;
mod composite;
mod decimal;
mod each;
mod fixed;
mod json;
mod list;
mod map;
mod numeric;
mod packed;
mod portable;
mod range;
mod rendered;
mod room;
mod stored_numeric;
mod temporal;
mod text;
mod unscaled;
mod vector;
mod walk;
mod wkb;

/// Maximum precision of a decimal that all readers support.
pub const MAX_DIGITS: u8 = 38;

/// One column of a stream.
#[derive(Clone, Debug)]
pub struct StreamColumn {
    /// The column in the files.
    pub column: Column,
    /// What its bytes mean.
    pub form: Form,
    /// How infinite dates and timestamps are stored. `None` if the type has no infinity, and in plans of
    /// version 1. Such a plan stores -infinity as the lowest value of the type until its job ends, because
    /// all parts of a table must store it in the same way.
    pub infinity: Option<InfinityMode>,
}

/// What the bytes of a field mean, and what they become. Plans store the names, so a name must never change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Boolean, one byte.
    Bool,
    /// 16-bit integer.
    Int16,
    /// 32-bit integer.
    Int32,
    /// 64-bit integer.
    Int64,
    /// Unsigned 32-bit integer.
    UInt32,
    /// Single-precision number.
    Float32,
    /// Double-precision number.
    Float64,
    /// A number as text. Files contain the nearest double.
    DoubleFromText,
    /// A binary numeric (digits to the base 10,000). Files contain a decimal.
    Decimal {
        /// Number of digits, 1 to 76.
        precision: u8,
        /// Digits after the decimal point, 0 to `precision`.
        scale: i8,
    },
    /// UTF-8 text.
    Text,
    /// Text that the source makes from a nested value, because its binary form cannot be decoded here.
    SourceText,
    /// JSON as UTF-8; the binary form of `jsonb` begins with its version.
    Json,
    /// JSON as UTF-8. Files contain it as plain text.
    JsonText,
    /// A byte string.
    Bytes,
    /// UUID, 16 bytes.
    Uuid,
    /// UUID, 16 bytes. Files contain its text.
    UuidText,
    /// Days since 2000-01-01.
    Date,
    /// Microseconds since midnight.
    Time,
    /// Microseconds since midnight. Files contain the time as text.
    TimeText,
    /// Microseconds since 2000-01-01, without time zone.
    Timestamp,
    /// Microseconds since 2000-01-01, UTC.
    TimestampTz,
    /// A binary numeric (digits to the base 10,000). Files contain its exact text.
    NumericText,
    /// A binary numeric (digits to the base 10,000). Files contain the nearest double.
    NumericDouble,
    /// A 64-bit amount in the smallest unit of a currency. Files contain a decimal.
    Money {
        /// Digits after the decimal point.
        scale: u8,
    },
    /// Months, days and microseconds: three separate numbers, because none can be converted into another.
    Interval,
    /// A point: x and y.
    Point,
    /// A shape on a map.
    Geometry(Shape),
    /// One-dimensional array; elements may be NULL.
    List(Box<Form>),
    /// Array of several dimensions; elements may be NULL.
    Nested {
        /// What the bytes of an element mean.
        element: Box<Form>,
        /// Number of dimensions, 1 to 6.
        dimensions: u8,
        /// Whether the values have not said yet how many dimensions they have. An array of another number of
        /// dimensions then has its table planned again, whatever the request says of values that do not fit.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        guessed: bool,
    },
    /// Numbers of single or half precision, as `pgvector` sends them.
    Vector {
        /// The number of elements, if it is the same in all values.
        length: Option<u16>,
        /// Whether the numbers have half precision.
        half: bool,
    },
    /// A composite.
    Struct(Vec<FormAttribute>),
    /// A range.
    Range(Box<Form>),
    /// A multirange.
    Multirange(Box<Form>),
    /// Pairs of texts (`hstore`); the second text may be NULL.
    Map,
    /// A numeric as a whole number: big-endian two's complement of a multiple of eight bytes. Files contain a
    /// decimal.
    Unscaled {
        /// Number of digits, 1 to 76.
        precision: u8,
        /// Digits after the decimal point, 0 to `precision`.
        scale: i8,
    },
    /// A numeric as a whole number of any size. Files contain its exact text.
    UnscaledText {
        /// Digits after the decimal point.
        scale: u16,
    },
    /// A Julian day of 64 bits.
    JulianDate,
    /// Microseconds in UTC and a time zone in 64 bits. Files contain its text.
    TimeTz,
    /// An interval of 64-bit microseconds.
    Microseconds,
    /// An interval of 64-bit months.
    Months,
    /// JSON of a list; elements may be null. An element has the form that a field of its type has.
    ListFromJson(Box<Form>),
    /// JSON of an object with exactly these attributes, in this order.
    StructFromJson(Vec<FormAttribute>),
}

/// A shape on a map. Files contain EWKB if the column declares no spatial reference. Otherwise they contain
/// ISO WKB, made from EWKB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Schema of the functions with which the source converts a shape to well-known binary. Only plans of
    /// version 1 have this field. Without it the source sends EWKB, and the decoder converts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// What the files declare about the shapes.
    #[serde(flatten)]
    pub declared: Geometry,
}

/// A named attribute of a [`Form::Struct`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormAttribute {
    /// Name of the attribute.
    pub name: String,
    /// What its bytes mean.
    #[serde(rename = "type")]
    pub form: Form,
}

impl Form {
    /// The file type of values of this form.
    #[must_use]
    pub fn column_type(&self) -> ColumnType {
        let inner = |form: &Self| Box::new(form.column_type());
        match self {
            Self::Bool => ColumnType::Bool,
            Self::Int16 => ColumnType::Int16,
            Self::Int32 => ColumnType::Int32,
            Self::Int64 => ColumnType::Int64,
            Self::UInt32 => ColumnType::UInt32,
            Self::Float32 => ColumnType::Float32,
            Self::Float64 | Self::DoubleFromText | Self::NumericDouble => ColumnType::Float64,
            Self::Decimal { precision, scale } | Self::Unscaled { precision, scale } => {
                ColumnType::Decimal { precision: *precision, scale: *scale }
            }
            Self::Money { scale } => ColumnType::Decimal { precision: INT64_DIGITS, scale: *scale as i8 },
            Self::Text
            | Self::SourceText
            | Self::JsonText
            | Self::UuidText
            | Self::TimeText
            | Self::TimeTz
            | Self::UnscaledText { .. }
            | Self::NumericText => ColumnType::Text,
            Self::Json => ColumnType::Json,
            Self::Bytes => ColumnType::Bytes,
            Self::Uuid => ColumnType::Uuid,
            Self::Date | Self::JulianDate => ColumnType::Date,
            Self::Time => ColumnType::Time,
            Self::Timestamp => ColumnType::Timestamp,
            Self::TimestampTz => ColumnType::TimestampTz,
            Self::Interval | Self::Microseconds | Self::Months => ColumnType::Interval,
            Self::Point => ColumnType::Point,
            Self::Geometry(shape) => ColumnType::Geometry(shape.declared.clone()),
            Self::List(element) | Self::ListFromJson(element) => ColumnType::List(inner(element)),
            Self::Nested { element, dimensions, .. } => {
                (0..*dimensions).fold(element.column_type(), |ty, _| ColumnType::List(Box::new(ty)))
            }
            Self::Vector { length, .. } => ColumnType::Vector { length: *length },
            Self::Struct(attributes) | Self::StructFromJson(attributes) => {
                let attribute = |attribute: &FormAttribute| Attribute {
                    name: attribute.name.clone(),
                    ty: attribute.form.column_type(),
                };
                ColumnType::Struct(attributes.iter().map(attribute).collect())
            }
            Self::Range(bound) => ColumnType::Range(inner(bound)),
            Self::Multirange(bound) => ColumnType::Multirange(inner(bound)),
            Self::Map => ColumnType::Map,
        }
    }

    /// Approximate bytes of a value in a table.
    #[must_use]
    pub fn width(&self) -> u64 {
        match self {
            Self::Bool => 1,
            Self::Int16 => 2,
            Self::Int32 | Self::UInt32 | Self::Float32 | Self::Date => 4,
            Self::Int64
            | Self::Float64
            | Self::DoubleFromText
            | Self::NumericDouble
            | Self::Money { .. }
            | Self::Time
            | Self::TimeText
            | Self::Timestamp
            | Self::TimestampTz
            | Self::JulianDate
            | Self::TimeTz
            | Self::Microseconds
            | Self::Months => 8,
            Self::Decimal { .. } | Self::NumericText => 12,
            Self::Unscaled { precision, .. } => 8 * (u64::from(*precision) / 19 + 1),
            Self::UnscaledText { .. } => 40,
            Self::Uuid | Self::UuidText | Self::Interval | Self::Point => 16,
            Self::Text | Self::SourceText => 32,
            Self::Bytes
            | Self::Geometry(_)
            | Self::List(_)
            | Self::Nested { .. }
            | Self::ListFromJson(_)
            | Self::Multirange(_)
            | Self::Map => 64,
            Self::Vector { length, half } => {
                let width = if *half { 2 } else { 4 };
                8 + width * u64::from(length.unwrap_or(256))
            }
            Self::Struct(attributes) | Self::StructFromJson(attributes) => {
                24 + attributes.iter().map(|attribute| attribute.form.width()).sum::<u64>()
            }
            Self::Range(bound) => 8 + 2 * bound.width(),
            Self::Json | Self::JsonText => 128,
        }
    }

    /// The builder of values of this form.
    fn builder(&self, infinity: Option<InfinityMode>, room: &Room) -> Box<dyn Builder> {
        match self {
            Self::Bool => fixed::bool(),
            Self::Int16 => fixed::primitive::<fixed::Int16, 2>(),
            Self::Int32 => fixed::primitive::<fixed::Int32, 4>(),
            Self::Int64 => fixed::primitive::<fixed::Int64, 8>(),
            Self::UInt32 => fixed::primitive::<fixed::UInt32, 4>(),
            Self::Float32 => fixed::primitive::<fixed::Float32, 4>(),
            Self::Float64 => fixed::primitive::<fixed::Float64, 8>(),
            Self::Decimal { precision, scale } => decimal::decimal(*precision, *scale),
            Self::NumericText => numeric::text_from_numeric(room.clone()),
            Self::NumericDouble => numeric::double_from_numeric(),
            Self::Money { .. } => numeric::money(self.column_type().data_type()),
            Self::DoubleFromText => numeric::double_from_text(),
            Self::Text | Self::SourceText => text::text(),
            Self::Json | Self::JsonText => text::json(),
            Self::Geometry(Shape { schema: None, declared: Geometry { srid: Some(_), .. } }) => wkb::iso(),
            Self::Bytes | Self::Geometry(_) => text::bytes(),
            Self::Uuid => fixed::uuid(),
            Self::UuidText => rendered::uuid(),
            Self::TimeText => rendered::time(),
            Self::Date => temporal::infinite::<temporal::Date, 4>(infinity),
            Self::Time => fixed::primitive::<temporal::Time, 8>(),
            Self::Timestamp => temporal::infinite::<temporal::Timestamp, 8>(infinity),
            Self::TimestampTz => temporal::infinite::<temporal::TimestampTz, 8>(infinity),
            Self::Interval => packed::interval(),
            Self::Point => packed::point(),
            Self::List(element) => list::list(element, 1, infinity, room),
            Self::Nested { element, dimensions, .. } => list::list(element, *dimensions, infinity, room),
            Self::Vector { length, half } => vector::vector(*length, *half),
            Self::Struct(attributes) => composite::composite(attributes, infinity, room),
            Self::Range(bound) => range::range(bound, infinity, room),
            Self::Multirange(bound) => list::multirange(bound, infinity, room),
            Self::Map => map::map(),
            Self::Unscaled { precision, scale } => unscaled::decimal(*precision, *scale),
            Self::UnscaledText { scale } => unscaled::text(*scale),
            Self::JulianDate => fixed::primitive::<temporal::JulianDate, 8>(),
            Self::TimeTz => rendered::time_tz(),
            Self::Microseconds => packed::microseconds(),
            Self::Months => packed::months(),
            Self::ListFromJson(element) => json::list(element, infinity, room),
            Self::StructFromJson(attributes) => json::row(attributes, infinity, room),
        }
    }

    /// Whether values of this form can be read exactly from JSON, where they are elements of a list or
    /// attributes of a row.
    #[must_use]
    pub fn is_exact_in_json(&self) -> bool {
        json::is_exact(self)
    }
}

/// The builder of a column.
pub(super) fn builder(column: &StreamColumn, room: &Room) -> Box<dyn Builder> {
    column.form.builder(column.infinity, room)
}

/// Which values of this column its builder reads as a heap stores them; none if it reads fields only.
pub(in crate::source) fn stored_form(column: &StreamColumn) -> Option<StoredForm> {
    builder(column, &Room::default()).stored().map(|builder| builder.form())
}
