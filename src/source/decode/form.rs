//! What the bytes of a field mean: the forms that sources with PostgreSQL's
//! rows have for their values, each with the file type that it becomes.

use serde::{Deserialize, Serialize};

use crate::message::setting::InfinityMode;
use crate::relation::Column;
use crate::relation::column::{Attribute, ColumnType, Geometry, INT64_DIGITS};

/// One column of a stream.
#[derive(Clone, Debug)]
pub struct StreamColumn {
    /// What it becomes.
    pub column: Column,
    /// What its bytes mean.
    pub form: Form,
    /// What becomes of infinite dates and timestamps. None where none can be, and in plans of version 1, where
    /// -infinity is the lowest value of the type: the parts of a table have one meaning.
    pub infinity: Option<InfinityMode>,
}

/// What the bytes of a field mean, and what is made of them. Plans hold it: a name stays what it is.
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
    /// Digits of a text that become a double, rounded to the nearest.
    DoubleFromText,
    /// Digits to the base of 10,000 that become a decimal.
    Decimal {
        /// Digits in all, 1 to 76.
        precision: u8,
        /// Digits after the point, 0 to `precision`.
        scale: i8,
    },
    /// UTF-8.
    Text,
    /// A text that the source made of a part which has no other form that we read.
    SourceText,
    /// JSON as UTF-8, perhaps after the version that `jsonb` has.
    Json,
    /// The same; readers do not take it for JSON.
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
    /// The same as a text.
    TimeText,
    /// Microseconds since 2000, without time zone.
    Timestamp,
    /// Microseconds since 2000, UTC.
    TimestampTz,
    /// Digits to the base of 10,000 that become an exact text.
    NumericText,
    /// Digits to the base of 10,000 that become a double, rounded to the nearest.
    NumericDouble,
    /// 64 bits of the smallest unit of a currency, as a decimal.
    Money {
        /// Digits after the point.
        scale: u8,
    },
    /// Months, days and microseconds: three numbers that nothing converts into each other.
    Interval,
    /// x and y.
    Point,
    /// A shape on a map.
    Geometry(Shape),
    /// One-dimensional array; elements may be NULL.
    List(Box<Form>),
    /// Numbers of single or half precision, as `pgvector` sends them.
    Vector {
        /// Their number, where all values have the same.
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
    /// Texts by texts, whose values may be NULL.
    Map,
}

/// A shape on a map: EWKB where it declares no reference, else ISO WKB made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Schema of the functions by which the source makes well-known binary of it: in plans of version 1 only. Without it
    /// the source sends EWKB, and what else is wanted is made of that here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// What files say of it.
    #[serde(flatten)]
    pub declared: Geometry,
}

/// A named part of a [`Form::Struct`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormAttribute {
    /// Its name.
    pub name: String,
    /// What its bytes mean.
    #[serde(rename = "type")]
    pub form: Form,
}

impl Form {
    /// The file type that its values have.
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
