//! Directories that hold the rows of one value each, named as Hive names them: `region=EU`. Readers get the
//! column back from the names, which are decoded by all that read partitions.

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

use super::column::ColumnType;
use crate::text::count;

/// The name of NULL.
pub const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// Longest name of a directory, in bytes.
const LONGEST: usize = 255;

/// What Hive encodes (`FileUtils.escapePathName`).
const ENCODED: &AsciiSet = &CONTROLS
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'\'')
    .add(b'*')
    .add(b'/')
    .add(b':')
    .add(b'=')
    .add(b'?')
    .add(b'\\')
    .add(b'{')
    .add(b'[')
    .add(b']')
    .add(b'^');

/// Why a value cannot be the name of a directory. The text never has the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unnameable {
    /// Readers take it for NULL.
    Empty,
    /// It is the name of NULL.
    LikeNull,
    /// Too many bytes.
    Long,
}

impl Unnameable {
    /// What is wrong with the value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "an empty text, which readers of partitions take for NULL",
            Self::LikeNull => {
                "the text __HIVE_DEFAULT_PARTITION__, which means NULL as the name of a partition"
            }
            Self::Long => {
                "a value that is too long for the name of a directory (255 bytes with the column's name)"
            }
        }
    }
}

/// The directory of the rows with this value. A value cannot lead elsewhere: the name begins with the column's
/// and has no slash.
///
/// # Errors
/// When readers would not get the value back.
pub fn directory(column: &str, value: Option<&str>) -> Result<String, Unnameable> {
    let name = match value {
        None => format!("{column}={NULL}"),
        Some("") => return Err(Unnameable::Empty),
        Some(NULL) => return Err(Unnameable::LikeNull),
        // DuckDB (1.5) takes the bare word for NULL.
        Some(value) if value.eq_ignore_ascii_case("null") => {
            format!("{column}=%{:02X}{}", value.as_bytes()[0], &value[1..])
        }
        Some(value) => format!("{column}={}", encoded(value)),
    };
    if name.len() > LONGEST { Err(Unnameable::Long) } else { Ok(name) }
}

/// A value as Hive encodes it. Other characters than those of ASCII stay as they are.
fn encoded(value: &str) -> String {
    value.chars().fold(String::with_capacity(value.len()), |mut name, c| {
        match c.is_ascii() {
            true => name.extend(percent_encode(&[c as u8], ENCODED)),
            false => name.push(c),
        }
        name
    })
}

/// Whether rows can be partitioned by a column of this name: it must not need any encoding, because readers
/// decode values only, and it must not be hidden.
#[must_use]
pub fn is_column(name: &str) -> bool {
    let fits = !name.is_empty() && name.len() + 1 + NULL.len() <= LONGEST;
    fits && encoded(name) == name && !name.starts_with(['.', '_'])
}

/// Whether values of this type have one text each that readers turn back into the value.
#[must_use]
pub fn is_nameable(ty: &ColumnType) -> bool {
    match ty {
        ColumnType::Bool
        | ColumnType::Int16
        | ColumnType::Int32
        | ColumnType::Int64
        | ColumnType::UInt32
        | ColumnType::Text
        | ColumnType::Uuid
        | ColumnType::Date => true,
        ColumnType::Float32
        | ColumnType::Float64
        | ColumnType::Decimal { .. }
        | ColumnType::Json
        | ColumnType::Bytes
        | ColumnType::Time
        | ColumnType::Timestamp
        | ColumnType::TimestampTz
        | ColumnType::Interval
        | ColumnType::Point
        | ColumnType::Geometry(_)
        | ColumnType::List(_)
        | ColumnType::Vector { .. }
        | ColumnType::Struct(_)
        | ColumnType::Range(_)
        | ColumnType::Multirange(_)
        | ColumnType::Map => false,
    }
}

/// What to do about too many partitions.
pub const FEWER: &str = "partition by a column with fewer values, or choose rows by `where`; daemons allow more with a larger partitions_max";

/// Says that a table has too many partitions.
#[must_use]
pub fn too_many(table: &str, columns: &[&str], most: usize) -> String {
    let what = if columns.len() == 1 { "column" } else { "columns" };
    let (columns, values) = (columns.join(", "), count(most as u64, "value"));
    format!(
        "{table}: {what} {columns} of output.partition_by would give more than {values}, each with a directory"
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_encoded_as_hive_does() {
        for (value, name) in [
            ("EU", "r=EU"),
            ("a b+c&d", "r=a b+c&d"),
            ("a/b", "r=a%2Fb"),
            ("../../etc", "r=..%2F..%2Fetc"),
            ("..", "r=.."),
            ("100%", "r=100%25"),
            ("k=v", "r=k%3Dv"),
            ("x:\"y'*?#[]{^\\", "r=x%3A%22y%27%2A%3F%23%5B%5D%7B%5E%5C"),
            ("a\nb\u{7f}", "r=a%0Ab%7F"),
            ("Übermaß 東京", "r=Übermaß 東京"),
            ("NULL", "r=%4EULL"),
            ("null", "r=%6Eull"),
            ("nullable", "r=nullable"),
            ("__hive_default_partition__", "r=__hive_default_partition__"),
        ] {
            assert_eq!(directory("r", Some(value)).as_deref(), Ok(name), "{value:?}");
        }
        assert_eq!(directory("r", None).as_deref(), Ok("r=__HIVE_DEFAULT_PARTITION__"));
        assert_eq!(directory("r", Some("")), Err(Unnameable::Empty));
        assert_eq!(directory("r", Some(NULL)), Err(Unnameable::LikeNull));
        assert!(directory("r", Some(&"x".repeat(253))).is_ok());
        assert_eq!(directory("r", Some(&"x".repeat(254))), Err(Unnameable::Long));
        assert_eq!(directory("r", Some(&"/".repeat(85))), Err(Unnameable::Long));
    }

    #[test]
    fn columns_whose_names_readers_would_not_decode_are_refused() {
        for name in ["region", "Region", "ob st", "größe", "a.b"] {
            assert!(is_column(name), "{name}");
        }
        for name in ["", "a/b", "a=b", "..", ".a", "_a", "a%41", "a\n", &"x".repeat(229)] {
            assert!(!is_column(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn different_values_have_different_names_below_the_tables_directory(
            one in ".{1,40}", other in ".{1,40}"
        ) {
            let name = |value: &str| directory("r", Some(value));
            if let (Ok(a), Ok(b)) = (name(&one), name(&other)) {
                prop_assert_eq!(a == b, one == other);
                prop_assert!(!a.contains(['/', '\\', '\0']) && a.starts_with("r="));
                let decoded = percent_encoding::percent_decode_str(&a["r=".len()..]).decode_utf8();
                prop_assert_eq!(decoded.expect("UTF-8"), one);
            }
        }
    }
}
