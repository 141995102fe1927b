//! What one column becomes: decided once, frozen in the plan (rule: decide per
//! column once, the loop over rows only moves bytes).

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::message::setting::InfinityMode;

/// The value kinds that files may have; independent of the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// true, false
    Bool,
    /// 16-bit integer
    Int16,
    /// 32-bit integer
    Int32,
    /// 64-bit integer
    Int64,
    /// unsigned 32-bit integer
    UInt32,
    /// single precision
    Float32,
    /// double precision
    Float64,
    /// exact decimal
    Decimal {
        /// Digits in all, 1 to 76.
        precision: u8,
        /// Digits after the point, 0 to `precision`.
        scale: i8,
    },
    /// UTF-8 text
    Text,
    /// JSON as UTF-8 text
    Json,
    /// bytes
    Bytes,
    /// JSON as UTF-8 text, which readers do not take for JSON
    JsonText,
    /// UUID, 16 bytes
    Uuid,
    /// UUID as text, made here
    UuidText,
    /// days
    Date,
    /// microseconds of a day
    Time,
    /// time of a day as text, made here
    TimeText,
    /// microseconds, without time zone
    Timestamp,
    /// microseconds, UTC
    TimestampTz,
    /// exact text of a numeric, made here from its binary form
    NumericText,
    /// double of a numeric, rounded to the nearest here
    NumericDouble,
    /// decimal of 19 digits from an amount in the smallest unit of a currency
    Money {
        /// Digits after the point.
        scale: u8,
    },
    /// months, days and microseconds: three numbers that nothing converts into each other
    Interval,
    /// x and y
    Point,
    /// a shape on a map, as well-known binary
    Geometry(Geometry),
    /// a part that the source must turn into text (see [`Fetch::Parts`])
    SourceText,
    /// one-dimensional list; elements may be NULL
    List(Box<ColumnType>),
    /// list of numbers in single precision, of a fixed length or any
    Vector {
        /// Its length, where all values have the same.
        length: Option<u16>,
        /// Whether the source sends half precision.
        half: bool,
    },
    /// named parts
    Struct(Vec<Part>),
    /// lower and upper bound, whether they belong to it, and whether it is empty
    Range(Box<ColumnType>),
    /// list of ranges
    Multirange(Box<ColumnType>),
    /// text to text, whose values may be NULL
    Map,
}

/// What is known of the shapes of a [`ColumnType::Geometry`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    /// Schema of the functions by which the source makes well-known binary of them: in plans of version 1 only. Without it
    /// the source sends EWKB, and what else is wanted is made of that here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Their spatial reference, where the column declares one: values are ISO
    /// WKB then. Without it each value carries its own: EWKB.
    pub srid: Option<u32>,
    /// Their kind as GeoParquet calls it, e.g. `Point Z`; none for several.
    pub kind: Option<String>,
    /// Edges are geodesics on a sphere (`geography`), not straight lines.
    pub geodesic: bool,
}

/// A named part of a [`ColumnType::Struct`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// What it becomes.
    #[serde(rename = "type")]
    pub ty: ColumnType,
}

/// How the column is selected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fetch {
    /// As the source sends it.
    #[default]
    Native,
    /// As the server's text, which the type's output function writes.
    AsText,
    /// The bytes that the server has of a text, whatever their encoding.
    AsBytes,
    /// As the source sends it, but every part that is [`ColumnType::SourceText`] as the server's text.
    Parts,
}

/// One column of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name, here and in the files.
    pub name: String,
    /// The exact type in the source's own words, e.g. `numeric(12,2)`.
    pub source_type: String,
    /// How it is selected.
    #[serde(default)]
    pub fetch: Fetch,
    /// What it becomes.
    #[serde(rename = "type")]
    pub ty: ColumnType,
    /// Whether the source may send NULL.
    pub nullable: bool,
    /// What becomes of infinite dates and timestamps. None where none can be, and in plans of version 1, where
    /// -infinity is the lowest value of the type: the parts of a table have one meaning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infinity: Option<InfinityMode>,
    /// Why it is not what its type suggests: asked for, or a value did not fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Name of the elements of lists, as Parquet has it.
pub const ELEMENT: &str = "element";
/// Digits of a whole number of 64 bits.
const MONEY_DIGITS: u8 = 19;
/// Metadata key of a field that carries the exact type of the source.
pub const SOURCE_TYPE: &str = "adu.source_type";
/// Metadata key of a field that carries the spatial reference of its shapes.
pub const SRID: &str = "adu.srid";

impl ColumnType {
    /// The Arrow type of values of this kind.
    #[must_use]
    pub fn data_type(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int16 => DataType::Int16,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::UInt32 => DataType::UInt32,
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Decimal { precision, scale } if *precision <= 38 => {
                DataType::Decimal128(*precision, *scale)
            }
            Self::Decimal { precision, scale } => DataType::Decimal256(*precision, *scale),
            Self::Money { scale } => DataType::Decimal128(MONEY_DIGITS, *scale as i8),
            Self::NumericDouble => DataType::Float64,
            Self::Text
            | Self::Json
            | Self::JsonText
            | Self::UuidText
            | Self::TimeText
            | Self::NumericText
            | Self::SourceText => DataType::Utf8,
            Self::Bytes | Self::Geometry(_) => DataType::Binary,
            Self::Uuid => DataType::FixedSizeBinary(16),
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Interval => DataType::Struct(Fields::from(vec![
                Field::new("months", DataType::Int32, false),
                Field::new("days", DataType::Int32, false),
                Field::new("microseconds", DataType::Int64, false),
            ])),
            Self::Point => DataType::Struct(Fields::from(vec![
                Field::new("x", DataType::Float64, false),
                Field::new("y", DataType::Float64, false),
            ])),
            Self::List(element) => DataType::List(Arc::new(element.field(ELEMENT, true))),
            Self::Vector { length, .. } => {
                let element = Arc::new(Field::new(ELEMENT, DataType::Float32, false));
                match length {
                    Some(length) => DataType::FixedSizeList(element, i32::from(*length)),
                    None => DataType::List(element),
                }
            }
            Self::Struct(parts) => {
                DataType::Struct(parts.iter().map(|part| part.ty.field(&part.name, true)).collect())
            }
            Self::Range(bound) => DataType::Struct(Fields::from(vec![
                bound.field("lower", true),
                bound.field("upper", true),
                Field::new("lower_inc", DataType::Boolean, false),
                Field::new("upper_inc", DataType::Boolean, false),
                Field::new("empty", DataType::Boolean, false),
            ])),
            Self::Multirange(bound) => {
                DataType::List(Arc::new(Self::Range(bound.clone()).field(ELEMENT, true)))
            }
            Self::Map => {
                let entries = Fields::from(vec![
                    Field::new("key", DataType::Utf8, false),
                    Field::new("value", DataType::Utf8, true),
                ]);
                DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entries), false)), false)
            }
        }
    }

    /// Whether some value of it is a date or a timestamp, which may be infinite.
    #[must_use]
    pub fn may_be_infinite(&self) -> bool {
        match self {
            Self::Date | Self::Timestamp | Self::TimestampTz => true,
            Self::List(inner) | Self::Range(inner) | Self::Multirange(inner) => inner.may_be_infinite(),
            Self::Struct(parts) => parts.iter().any(|part| part.ty.may_be_infinite()),
            _ => false,
        }
    }

    /// A field of this kind, with the canonical extension type where one exists.
    #[must_use]
    pub fn field(&self, name: &str, nullable: bool) -> Field {
        let field = Field::new(name, self.data_type(), nullable);
        match self {
            Self::Uuid => field.with_extension_type(arrow_schema::extension::Uuid),
            Self::Json => field.with_extension_type(arrow_schema::extension::Json::default()),
            _ => field,
        }
    }
}

/// The Arrow schema of columns, each field with its exact source type.
#[must_use]
pub fn schema(columns: &[Column]) -> arrow::datatypes::SchemaRef {
    let fields: Fields = columns
        .iter()
        .map(|c| {
            let field = c.ty.field(&c.name, c.nullable);
            let mut metadata = field.metadata().clone();
            metadata.insert(SOURCE_TYPE.to_owned(), c.source_type.clone());
            if let ColumnType::Geometry(Geometry { srid: Some(srid), .. }) = &c.ty {
                metadata.insert(SRID.to_owned(), srid.to_string());
            }
            field.with_metadata(metadata)
        })
        .collect();
    Arc::new(arrow::datatypes::Schema::new(fields))
}
