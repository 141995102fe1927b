//! What the bytes of a field mean. These are the forms of values for sources with PostgreSQL's row format.
//! Each form has one file type.

use serde::{Deserialize, Serialize};

use crate::message::setting::InfinityMode;
use crate::relation::Column;
use crate::relation::column::{Attribute, ColumnType, Geometry, INT64_DIGITS};

/// One column of a stream.
#[derive(Clone, Debug)]
pub struct StreamColumn {
    /// The column in the files.
    pub column: Column,
    /// What its bytes mean.
    pub form: Form,
    /// How infinite dates and timestamps are stored. `None` if the type has none, and in plans of version 1,
    /// where -infinity is the lowest value of the type. It then stays so, because all parts of a table must
    /// store it in the same way.
    pub infinity: Option<InfinityMode>,
}

/// What the bytes of a field mean, and what they become. Plans store the names, so a name must never change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A byte.
    Bool,
    /// 16-bit integer.
    Int16,
    /// 32-bit integer.
    Int32,
    /// 64-bit integer.
    Int64,
    /// Unsigned 32-bit integer.
    UInt32,
    /// Single precision.
    Float32,
    /// Double precision.
    Float64,
    /// A number as text that becomes a double, rounded to the nearest.
    DoubleFromText,
    /// A binary numeric (digits to the base 10,000) that becomes a decimal.
    Decimal {
        /// Number of digits, 1 to 76.
        precision: u8,
        /// Digits after the decimal point, 0 to `precision`.
        scale: i8,
    },
    /// UTF-8.
    Text,
    /// Text that the source makes from a nested value whose binary form we cannot read.
    SourceText,
    /// JSON as UTF-8; `jsonb` sends its version first.
    Json,
    /// The same, but as plain text in the files.
    JsonText,
    /// Bytes.
    Bytes,
    /// 16 bytes.
    Uuid,
    /// 16 bytes that become a text.
    UuidText,
    /// Days since 2000.
    Date,
    /// Microseconds of a day.
    Time,
    /// The same, as text in the files.
    TimeText,
    /// Microseconds since 2000, without time zone.
    Timestamp,
    /// Microseconds since 2000, UTC.
    TimestampTz,
    /// A binary numeric (digits to the base 10,000) that becomes an exact text.
    NumericText,
    /// A binary numeric (digits to the base 10,000) that becomes a double, rounded to the nearest.
    NumericDouble,
    /// A 64-bit amount in the smallest unit of a currency that becomes a decimal.
    Money {
        /// Digits after the decimal point.
        scale: u8,
    },
    /// Months, days and microseconds: three separate numbers, because none can be converted into another.
    Interval,
    /// x and y.
    Point,
    /// A shape on a map.
    Geometry(Shape),
    /// One-dimensional array; elements may be NULL.
    List(Box<Form>),
    /// Numbers of single or half precision, as `pgvector` sends them.
    Vector {
        /// The length, if all values have the same.
        length: Option<u16>,
        /// Whether they have half precision.
        half: bool,
    },
    /// A composite.
    Struct(Vec<FormAttribute>),
    /// A range.
    Range(Box<Form>),
    /// A multirange.
    Multirange(Box<Form>),
    /// Text to text; values may be NULL.
    Map,
}

/// A shape on a map. Files have EWKB if the column declares no spatial reference. Otherwise they have ISO
/// WKB, made from EWKB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Schema of the functions with which the source converts a shape to well-known binary. Only plans of
    /// version 1 have it. Without it the source sends EWKB, and the conversion is done here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// What the files declare about the shapes.
    #[serde(flatten)]
    pub declared: Geometry,
}

/// A named attribute of a [`Form::Struct`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormAttribute {
    /// Its name.
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
