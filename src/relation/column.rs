//! What one column becomes: decided once, frozen in the plan (rule: decide per
//! column once, the loop over rows only moves bytes).
//!
//! A file type says what files have. How the source finds the values and what
//! their bytes mean stands beside it, as the source's own [`Frozen`] value.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Frozen;

/// The value kinds that files may have; independent of the source. The other names are of plans of before, which named
/// each way to make a text or a decimal.
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
        /// Digits in all, 1 to 76.
        #[serde(default = "digits_of_money")]
        precision: u8,
        /// Digits after the point, 0 to `precision`.
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
    /// months, days and microseconds: three numbers that nothing converts into each other
    Interval,
    /// x and y
    Point,
    /// a shape on a map, as well-known binary
    Geometry(Geometry),
    /// one-dimensional list; elements may be NULL
    List(Box<ColumnType>),
    /// list of numbers in single precision, of a fixed length or any
    Vector {
        /// Its length, where all values have the same.
        length: Option<u16>,
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

/// One column of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredColumn")]
pub struct Column {
    /// Its name, here and in the files.
    pub name: String,
    /// The exact type in the source's own words, e.g. `numeric(12,2)`.
    pub source_type: String,
    /// What it becomes.
    #[serde(rename = "type")]
    pub ty: ColumnType,
    /// Whether the source may send NULL.
    pub nullable: bool,
    /// How the source fetches it, and what the bytes that come mean.
    #[serde(skip_serializing_if = "Frozen::is_nothing")]
    pub reading: Frozen,
    /// Why it is not what its type suggests: asked for, or a value did not fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A column as plans have it. Those of before had no `reading` but said the same in three fields, of which the type was
/// also how it is made; the source reads these as one value.
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
    /// A column that needs no word on how it is read.
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

/// Name of the elements of lists, as Parquet has it.
pub const ELEMENT: &str = "element";
/// Digits of a whole number of 64 bits.
pub const INT64_DIGITS: u8 = 19;
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

/// Amounts of money had no precision of their own in plans of before.
fn digits_of_money() -> u8 {
    INT64_DIGITS
}

/// The Arrow schema of columns, each field with its exact source type.
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
