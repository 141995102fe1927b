//! What one column becomes: decided once, frozen in the plan (rule: decide per
//! column once, the loop over rows only moves bytes).

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use serde::{Deserialize, Serialize};

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
    /// UUID, 16 bytes
    Uuid,
    /// days
    Date,
    /// microseconds of a day
    Time,
    /// microseconds, without time zone
    Timestamp,
    /// microseconds, UTC
    TimestampTz,
    /// one-dimensional list; elements may be NULL
    List(Box<ColumnType>),
}

/// How the column is selected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fetch {
    /// As the source sends it.
    #[default]
    Native,
    /// As the server's text (`::text`).
    AsText,
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
    /// Why it is not what its type suggests: asked for, or a value did not fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Metadata key of a field that carries the exact type of the source.
pub const SOURCE_TYPE: &str = "adu.source_type";

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
            Self::Text | Self::Json => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Uuid => DataType::FixedSizeBinary(16),
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::List(element) => DataType::List(std::sync::Arc::new(element.field("element", true))),
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
            field.with_metadata(metadata)
        })
        .collect();
    std::sync::Arc::new(arrow::datatypes::Schema::new(fields))
}
