//! How one column is stored in files. Planning decides this once and the plan keeps it, so that the loop over
//! rows only moves bytes.
//!
//! The file type says what files contain. How the source fetches the values and what their bytes mean is
//! stored beside it, as the source's own [`Frozen`] value.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Frozen;

/// The types that files can have, independent of the source. The aliases are names in plans of earlier
/// releases, which had one name for each way to make a text or a decimal.
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
    #[serde(alias = "numeric_double")]
    Float64,
    /// exact decimal
    #[serde(alias = "money")]
    Decimal {
        /// Number of digits, 1 to 76.
        #[serde(default = "digits_of_money")]
        precision: u8,
        /// Digits after the decimal point, 0 to `precision`.
        scale: i8,
    },
    /// UTF-8 text
    #[serde(
        alias = "json_text",
        alias = "uuid_text",
        alias = "time_text",
        alias = "numeric_text",
        alias = "source_text"
    )]
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
    /// months, days and microseconds: three separate numbers, because none can be converted into another
    Interval,
    /// x and y
    Point,
    /// a shape on a map, as well-known binary
    Geometry(Geometry),
    /// one-dimensional list; elements may be NULL
    List(Box<ColumnType>),
    /// list of single-precision numbers, of fixed or variable length
    Vector {
        /// The number of elements, if it is the same in all values.
        length: Option<u16>,
    },
    /// named attributes
    Struct(Vec<Attribute>),
    /// lower and upper bound, whether each bound is inclusive, and whether the range is empty
    Range(Box<ColumnType>),
    /// list of ranges
    Multirange(Box<ColumnType>),
    /// text to text; values may be NULL
    Map,
}

/// What is known about the shapes of a [`ColumnType::Geometry`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    /// The spatial reference that the column declares. Values are then ISO WKB. Without a declared reference,
    /// each value is EWKB and carries its own.
    pub srid: Option<u32>,
    /// The kind of shape as GeoParquet names it, e.g. `Point Z`; none if there may be several kinds.
    pub kind: Option<String>,
    /// Whether edges are geodesics on a sphere (`geography`), not straight lines.
    pub geodesic: bool,
}

/// A named attribute of a [`ColumnType::Struct`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// Name of the attribute.
    pub name: String,
    /// Type of its values in the files.
    #[serde(rename = "type")]
    pub ty: ColumnType,
}

/// One column of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredColumn")]
pub struct Column {
    /// The name of the column, also in the files.
    pub name: String,
    /// The exact type in the source's own words, e.g. `numeric(12,2)`.
    pub source_type: String,
    /// The type in the files.
    #[serde(rename = "type")]
    pub ty: ColumnType,
    /// Whether the source may send NULL.
    pub nullable: bool,
    /// How the source fetches the column, and what the bytes mean.
    #[serde(skip_serializing_if = "Frozen::is_nothing")]
    pub reading: Frozen,
    /// Why the type in the files is not the usual one: the request asked for another, or a value did not fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A column as plans store it. Plans of earlier releases had no `reading`: they said the same in three
/// fields, and the type also said how the source reads the column. The source reads these three fields as one
/// value.
#[derive(Deserialize)]
struct StoredColumn {
    name: String,
    source_type: String,
    #[serde(rename = "type")]
    ty: serde_json::Value,
    nullable: bool,
    #[serde(default)]
    reading: Frozen,
    #[serde(default)]
    note: Option<String>,
    #[serde(default)]
    fetch: Option<serde_json::Value>,
    #[serde(default)]
    infinity: Option<serde_json::Value>,
}

impl TryFrom<StoredColumn> for Column {
    type Error = serde_json::Error;

    fn try_from(stored: StoredColumn) -> Result<Self, Self::Error> {
        let StoredColumn { name, source_type, ty, nullable, mut reading, note, fetch, infinity } = stored;
        if reading.is_nothing()
            && let Some(fetch) = fetch
        {
            reading = Frozen::of(&json!({"fetch": fetch, "type": ty, "infinity": infinity}));
        }
        Ok(Self { name, source_type, ty: ColumnType::deserialize(ty)?, nullable, reading, note })
    }
}

impl Column {
    /// A column whose source needs no note on how to read it.
    #[must_use]
    pub fn plain(name: &str, source_type: &str, ty: ColumnType, nullable: bool) -> Self {
        Self {
            name: name.into(),
            source_type: source_type.into(),
            ty,
            nullable,
            reading: Frozen::default(),
            note: None,
        }
    }
}

/// Name of the elements of lists, as Parquet requires it.
pub const ELEMENT: &str = "element";
/// Digits of the largest 64-bit integer.
pub const INT64_DIGITS: u8 = 19;
/// Metadata key of a field for the exact type in the source.
pub const SOURCE_TYPE: &str = "adu.source_type";
/// Metadata key of a field for the spatial reference of its shapes.
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
            Self::Text | Self::Json => DataType::Utf8,
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
            Self::Vector { length } => {
                let element = Arc::new(Field::new(ELEMENT, DataType::Float32, false));
                match length {
                    Some(length) => DataType::FixedSizeList(element, i32::from(*length)),
                    None => DataType::List(element),
                }
            }
            Self::Struct(attributes) => DataType::Struct(
                attributes.iter().map(|attribute| attribute.ty.field(&attribute.name, true)).collect(),
            ),
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

    /// Whether a value of this type can contain a date or a timestamp, which may be infinite.
    #[must_use]
    pub fn may_be_infinite(&self) -> bool {
        match self {
            Self::Date | Self::Timestamp | Self::TimestampTz => true,
            Self::List(inner) | Self::Range(inner) | Self::Multirange(inner) => inner.may_be_infinite(),
            Self::Struct(attributes) => attributes.iter().any(|attribute| attribute.ty.may_be_infinite()),
            _ => false,
        }
    }

    /// An Arrow field of this type, with the canonical extension type if there is one.
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

/// The precision of amounts of money in plans of earlier releases, which did not store it.
fn digits_of_money() -> u8 {
    INT64_DIGITS
}

/// The Arrow schema of these columns. Each field carries its exact source type.
#[must_use]
pub fn schema<'a>(columns: impl IntoIterator<Item = &'a Column>) -> arrow::datatypes::SchemaRef {
    let fields: Fields = columns
        .into_iter()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_plans_of_before_have_the_same_file_types() {
        let old = |ty: serde_json::Value| {
            let column = json!({
                "name": "c", "source_type": "t", "fetch": "native", "type": ty, "nullable": true, "infinity": "null",
            });
            serde_json::from_value::<Column>(column).expect("an old column")
        };
        let list = |ty| ColumnType::List(Box::new(ty));
        for (ty, expected) in [
            (json!("int32"), ColumnType::Int32),
            (json!("json_text"), ColumnType::Text),
            (json!("uuid_text"), ColumnType::Text),
            (json!("time_text"), ColumnType::Text),
            (json!("numeric_text"), ColumnType::Text),
            (json!({"list": "source_text"}), list(ColumnType::Text)),
            (json!({"list": "numeric_double"}), list(ColumnType::Float64)),
            (
                json!({"decimal": {"precision": 12, "scale": 2}}),
                ColumnType::Decimal { precision: 12, scale: 2 },
            ),
            (json!({"money": {"scale": 2}}), ColumnType::Decimal { precision: 19, scale: 2 }),
            (json!({"vector": {"length": 3, "half": true}}), ColumnType::Vector { length: Some(3) }),
            (
                json!({"geometry": {"schema": "gis", "srid": 4326, "kind": null, "geodesic": true}}),
                ColumnType::Geometry(Geometry { srid: Some(4326), kind: None, geodesic: true }),
            ),
        ] {
            let column = old(ty.clone());
            assert_eq!(column.ty, expected, "{ty}");
            let reading = json!({"fetch": "native", "type": ty, "infinity": "null"});
            assert_eq!(column.reading, Frozen::of(&reading));
            let again = serde_json::to_value(&column).expect("JSON");
            assert_eq!(serde_json::from_value::<Column>(again).expect("a column"), column);
        }
    }
}
