//! Where and how the files of a request are written.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU64;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::setting::{Compression, FileTypes, or_default};

/// The smallest `file_bytes`: smaller files cost readers more than they bring.
pub const LEAST_FILE_BYTES: u64 = 1 << 20;

/// How many partitions a table may have, unless the configuration says otherwise.
pub const PARTITIONS_MAX: u32 = 1_000;

/// How many columns may partition a table: each is a level of directories.
pub(super) const MOST_LEVELS: usize = 8;

/// Bounds of `row_group_bytes` in a request: a request must not use up the memory of a daemon.
pub(super) const ROW_GROUP_BYTES: std::ops::RangeInclusive<u64> = 1024..=256 << 20;

/// Where and how files are written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputRequest {
    /// Directory below the root: a relative path without `..`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<OutputDirectory>,
    /// Compression of the pages; else that of the source's preset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// Size of a row group in encoded bytes: 1 KiB to 256 MiB. A worker's memory grows with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 268_435_456))]
    pub row_group_bytes: Option<NonZeroU64>,
    /// Size in bytes at which a file is followed by the next one: at least 1 MiB. A file ends with the row
    /// group that reaches this size. Else `[export] file_bytes` of the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_048_576))]
    pub file_bytes: Option<NonZeroU64>,
    /// Columns that the files leave out: each combination of their values has a directory of its own, as in
    /// `region=EU/year=2026`. NULL is `__HIVE_DEFAULT_PARTITION__`. The types text, char, enum, integer, date, boolean
    /// and uuid are possible.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("uniqueItems" = true))]
    pub partition_by: Vec<String>,
    /// Which types and encodings the files may have; else `[export] types` of the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub types: Option<FileTypes>,
    /// What happens if the directory of a table exists already.
    #[serde(default, deserialize_with = "or_default")]
    pub on_conflict: OnConflict,
}

/// A directory below the root, in normal form: `a/b`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OutputDirectory(String);

impl OutputDirectory {
    /// Parses a relative directory.
    ///
    /// # Errors
    /// If the path is absolute, leaves the root, is hidden or has control characters.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fail =
            |why: &str| Err(format!("directory `{text}` {why}; use a relative directory such as crm/daily"));
        if text.starts_with('/') {
            return fail("is absolute");
        }
        if text.len() > 1024 || text.chars().any(|c| c.is_control() || c == '\\') {
            return fail("is too long or has control characters or a backslash");
        }
        let mut names = Vec::new();
        for name in text.split('/').filter(|name| !name.is_empty() && *name != ".") {
            match name {
                ".." => return fail("contains `..`"),
                _ if name.starts_with('.') => {
                    return fail("has a hidden directory (its name begins with a dot)");
                }
                _ if name.len() > 255 => return fail("has a name of more than 255 bytes"),
                _ => names.push(name),
            }
        }
        if names.is_empty() {
            return fail("is empty");
        }
        Ok(Self(names.join("/")))
    }

    /// The directory, relative to the root.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directories from the root down to it: `a`, then `a/b`.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        let ends = self.0.match_indices('/').map(|(at, _)| at);
        ends.chain([self.0.len()]).map(|end| &self.0[..end])
    }
}

impl fmt::Display for OutputDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for OutputDirectory {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<OutputDirectory> for String {
    fn from(directory: OutputDirectory) -> String {
        directory.0
    }
}

impl fmt::Debug for OutputDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for OutputDirectory {
    fn schema_name() -> Cow<'static, str> {
        "OutputDirectory".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({"type": "string", "description": "relative to the root, without `..` and without hidden directories"})
    }
}

/// What happens if a directory with the table's name exists already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// The name gets `_v2`, `_v3`, …
    #[default]
    Version,
    /// The name gets the date, as in `_2025-08-05`; if that exists too, also the time.
    Timestamp,
    /// The table fails.
    Fail,
}
