//! What the bytes of a field mean, for sources with PostgreSQL's row format. Each form has one file type.

use serde::{Deserialize, Serialize};

use crate::message::setting::InfinityMode;
use crate::relation::Column;
use crate::relation::column::{Attribute, ColumnType, Geometry, INT64_DIGITS};

/// One column of a stream.
#[derive(Clone, Debug)]
pub struct StreamColumn {
    /// The column in the files.
    pub column: Column,
    /// What the bytes of its fields mean.
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
    /// What the bytes of its values mean.
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
            Self::Decimal { precision, scale } => {
                ColumnType::Decimal { precision: *precision, scale: *scale }
            }
            Self::Money { scale } => ColumnType::Decimal { precision: INT64_DIGITS, scale: *scale as i8 },
            Self::Text
            | Self::SourceText
            | Self::JsonText
            | Self::UuidText
            | Self::TimeText
            | Self::NumericText => ColumnType::Text,
            Self::Json => ColumnType::Json,
            Self::Bytes => ColumnType::Bytes,
            Self::Uuid => ColumnType::Uuid,
            Self::Date => ColumnType::Date,
            Self::Time => ColumnType::Time,
            Self::Timestamp => ColumnType::Timestamp,
            Self::TimestampTz => ColumnType::TimestampTz,
            Self::Interval => ColumnType::Interval,
            Self::Point => ColumnType::Point,
            Self::Geometry(shape) => ColumnType::Geometry(shape.declared.clone()),
            Self::List(element) => ColumnType::List(inner(element)),
            Self::Vector { length, .. } => ColumnType::Vector { length: *length },
            Self::Struct(attributes) => {
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
}
