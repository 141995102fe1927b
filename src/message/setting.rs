//! Small settings that requests and the configuration share: compression, durations, sets of choices. Each is
//! parsed from one string.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

/// A setting that could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{value}` is not {expected}")]
pub struct InvalidSetting {
    value: String,
    expected: &'static str,
}

fn invalid(value: &str, expected: &'static str) -> InvalidSetting {
    InvalidSetting { value: value.chars().take(80).collect(), expected }
}

/// For fields with a default: `null` means the default.
pub(super) fn or_default<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// For texts in files whose format has an empty text where there is none.
pub mod text_or_empty {
    use std::fmt::Display;

    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Writes the text; an empty one for `None`.
    ///
    /// # Errors
    /// As the serializer.
    pub fn serialize<T: Display, S: Serializer>(text: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        match text {
            Some(text) => to.collect_str(text),
            None => to.serialize_str(""),
        }
    }

    /// Reads the text; `None` if it is empty.
    ///
    /// # Errors
    /// If the value is no text or the wrong one.
    pub fn deserialize<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
    where
        T: TryFrom<String, Error: Display>,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(from)?;
        if text.is_empty() {
            return Ok(None);
        }
        T::try_from(text).map(Some).map_err(de::Error::custom)
    }
}

/// Like `or_default`, for objects.
pub(super) fn object_or_default<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(object(deserializer)?.unwrap_or_default())
}

/// An object or `null`. Derived code would also accept a list of the fields' values in their order, which
/// nobody intends.
pub(super) fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|object| object.0))
}

struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Object<T>, M::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// How pages of the Parquet files are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Compression {
    /// Snappy: the default for PostgreSQL.
    Snappy,
    /// Zstandard with a level from 1 to 22.
    Zstd(u8),
    /// LZ4 (raw blocks).
    Lz4,
    /// Gzip.
    Gzip,
    /// None.
    None,
}

impl std::str::FromStr for Compression {
    type Err = InvalidSetting;
    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        const EXPECTED: &str = "a compression: use snappy, zstd, zstd:1 to zstd:22, lz4, gzip or none";
        Ok(match text {
            "snappy" => Self::Snappy,
            "zstd" => Self::Zstd(3),
            "lz4" => Self::Lz4,
            "gzip" => Self::Gzip,
            "none" => Self::None,
            _ => {
                let level = text.strip_prefix("zstd:").and_then(|l| l.parse().ok());
                match level {
                    Some(level @ 1..=22) => Self::Zstd(level),
                    _ => return Err(invalid(text, EXPECTED)),
                }
            }
        })
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snappy => f.write_str("snappy"),
            Self::Zstd(level) => write!(f, "zstd:{level}"),
            Self::Lz4 => f.write_str("lz4"),
            Self::Gzip => f.write_str("gzip"),
            Self::None => f.write_str("none"),
        }
    }
}

/// A duration written as a person does: `90s`, `2m`, `12h`, `250ms`, `3d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

impl Span {
    /// A span of whole seconds.
    #[must_use]
    pub const fn seconds(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }
}

impl std::str::FromStr for Span {
    type Err = InvalidSetting;
    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        const EXPECTED: &str = "a duration: use a number and a unit, e.g. 250ms, 90s, 2m, 12h or 3d";
        let fail = || invalid(text, EXPECTED);
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(fail)?;
        let number: u64 = text[..digits].parse().map_err(|_| fail())?;
        let millis = match text[digits..].trim() {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(fail()),
        };
        number.checked_mul(millis).map(|ms| Self(Duration::from_millis(ms))).ok_or_else(fail)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        match () {
            () if !ms.is_multiple_of(1_000) || ms == 0 => write!(f, "{ms}ms"),
            () if ms.is_multiple_of(86_400_000) => write!(f, "{}d", ms / 86_400_000),
            () if ms.is_multiple_of(3_600_000) => write!(f, "{}h", ms / 3_600_000),
            () if ms.is_multiple_of(60_000) => write!(f, "{}m", ms / 60_000),
            () => write!(f, "{}s", ms / 1_000),
        }
    }
}

/// The type that `numeric` columns get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NumericMode {
    /// Text as the server prints it: exact.
    Text,
    /// A double, which may lose digits.
    Double,
    /// A decimal with this precision and scale.
    Decimal(u8, i8),
}

impl std::str::FromStr for NumericMode {
    type Err = InvalidSetting;
    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        const EXPECTED: &str =
            "a numeric mode: use text, double or decimal(p,s) with 1 <= p <= 76 and 0 <= s <= p";
        let fail = || invalid(text, EXPECTED);
        match text {
            "text" => return Ok(Self::Text),
            "double" => return Ok(Self::Double),
            _ => {}
        }
        let inner = text.strip_prefix("decimal(").and_then(|t| t.strip_suffix(')')).ok_or_else(fail)?;
        let (p, s) = inner.split_once(',').ok_or_else(fail)?;
        let p: u8 = p.trim().parse().map_err(|_| fail())?;
        let s: i8 = s.trim().parse().map_err(|_| fail())?;
        if (1..=76).contains(&p) && s >= 0 && s as u8 <= p { Ok(Self::Decimal(p, s)) } else { Err(fail()) }
    }
}

impl fmt::Display for NumericMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("text"),
            Self::Double => f.write_str("double"),
            Self::Decimal(p, s) => write!(f, "decimal({p},{s})"),
        }
    }
}

/// What happens to infinite dates and timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InfinityMode {
    /// The largest value of the type for infinity, and its negative for -infinity. DuckDB reads both as
    /// infinities.
    #[default]
    Max,
    /// NULL.
    Null,
    /// The value counts as one that does not fit: the column becomes text, unless `on_unfit` says otherwise.
    Text,
}

/// What becomes of arrays of more than one dimension.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ArrayMode {
    /// They do not fit: the column becomes text, unless `on_unfit` says otherwise.
    #[default]
    Text,
    /// Lists of lists, if all arrays of the column have the same number of dimensions. Otherwise they do not
    /// fit.
    Nested,
}

/// Which types and encodings files may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileTypes {
    /// Types that keep every value exactly, and the smallest encodings.
    #[default]
    Exact,
    /// Only types that every common Parquet reader supports: other types become text, and infinite dates and
    /// timestamps become NULL. The only encodings are plain and dictionary.
    Portable,
}

impl FileTypes {
    /// Whether this is the default.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        *self == Self::Exact
    }
}

impl std::str::FromStr for FileTypes {
    type Err = InvalidSetting;
    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        match text {
            "exact" => Ok(Self::Exact),
            "portable" => Ok(Self::Portable),
            _ => Err(invalid(text, "a kind of types: use exact or portable")),
        }
    }
}

/// How the rows of a table are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReadWay {
    /// The source chooses. The plan says how, and why.
    #[default]
    Auto,
    /// By a COPY of the table (PostgreSQL, Greenplum).
    Copy,
    /// From the hosts of the segments, by parallel retrieve cursors (Greenplum).
    Retrieve,
    /// By a COPY of a query (Greenplum).
    Query,
    /// By pages, as the server stores them, wherever this gives the same rows (PostgreSQL).
    Pages,
}

impl ReadWay {
    /// Whether this is the default.
    #[must_use]
    pub fn is_auto(&self) -> bool {
        *self == Self::Auto
    }

    /// Its name in requests and plans.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Copy => "copy",
            Self::Retrieve => "retrieve",
            Self::Query => "query",
            Self::Pages => "pages",
        }
    }
}

impl std::str::FromStr for ReadWay {
    type Err = InvalidSetting;
    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        [Self::Auto, Self::Copy, Self::Retrieve, Self::Query, Self::Pages]
            .into_iter()
            .find(|way| way.as_str() == text)
            .ok_or_else(|| invalid(text, "a way to read: use auto, copy, pages, retrieve or query"))
    }
}

macro_rules! string_setting {
    ($name:ident, $schema:tt) => {
        impl TryFrom<String> for $name {
            type Error = InvalidSetting;
            fn try_from(text: String) -> Result<Self, InvalidSetting> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

string_setting!(Compression, {"type": "string", "pattern": "^(snappy|zstd(:([1-9]|1[0-9]|2[0-2]))?|lz4|gzip|none)$"});
string_setting!(Span, {"type": "string", "pattern": "^[0-9]+(ms|s|m|min|h|d)$", "examples": ["250ms", "90s", "12h"]});
string_setting!(NumericMode, {"type": "string", "pattern": "^(text|double|decimal\\([0-9]+, ?[0-9]+\\))$"});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_a_round_trip_through_text() {
        for text in ["snappy", "zstd:3", "lz4", "gzip", "none"] {
            assert_eq!(text.parse::<Compression>().expect(text).to_string(), text);
        }
        for text in ["250ms", "90s", "2m", "12h", "3d", "0ms"] {
            assert_eq!(text.parse::<Span>().expect(text).to_string(), text);
        }
        for text in ["text", "double", "decimal(38,9)"] {
            assert_eq!(text.parse::<NumericMode>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        assert!("zstd:23".parse::<Compression>().is_err());
        assert!("5".parse::<Span>().is_err());
        assert!("99999999999999999999d".parse::<Span>().is_err());
        assert!("decimal(10,11)".parse::<NumericMode>().is_err());
    }
}
