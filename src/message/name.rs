//! Names that become part of paths, routing keys and metrics. They are validated once, here.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Why a name was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{what} `{value}` is not allowed: {rule}")]
pub struct InvalidName {
    what: &'static str,
    value: String,
    rule: &'static str,
}

const RULE: &str = "use 1 to 64 of the characters A-Z a-z 0-9 _ -";

/// Splits off the suffix `.rN` of a retry.
fn split_retry(value: &str) -> (&str, Option<&str>) {
    match value.rsplit_once(".r") {
        Some((stem, n)) if !n.is_empty() && n.len() <= 4 && n.bytes().all(|b| b.is_ascii_digit()) => {
            (stem, Some(n))
        }
        _ => (value, None),
    }
}

fn check(what: &'static str, value: &str) -> Result<(), InvalidName> {
    let fits = (1..=64).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if fits {
        return Ok(());
    }
    let shown: String = value.chars().take(80).collect();
    Err(InvalidName { what, value: shown, rule: RULE })
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $stem:expr, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Parses a name.
            ///
            /// # Errors
            /// If the name is empty, longer than 64 bytes, or has other characters than `[A-Za-z0-9_-]`.
            pub fn parse(value: &str) -> Result<Self, InvalidName> {
                let stem: fn(&str) -> &str = $stem;
                check($what, stem(value))?;
                Ok(Self(value.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(value: String) -> Result<Self, InvalidName> {
                Self::parse(&value)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;
            fn from_str(value: &str) -> Result<Self, InvalidName> {
                Self::parse(value)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "pattern": $pattern})
            }
        }
    };
}

name!(
    /// Id of a job. The name of its workspace and the ids of its events contain it.
    JobId,
    "job id",
    |value| split_retry(value).0,
    r"^[A-Za-z0-9_-]{1,64}(\.r[0-9]{1,4})?$"
);
name!(
    /// Name of a source in the configuration.
    SourceName,
    "source name",
    |value| value,
    "^[A-Za-z0-9_-]{1,64}$"
);

impl JobId {
    /// The job id of a request that gives none: the broker's `message_id` if it is a valid job id, else the
    /// UUIDv5 of the `message_id`, else a new UUID.
    #[must_use]
    pub fn from_message_id(message_id: Option<&str>, fresh: uuid::Uuid) -> Self {
        let text = match message_id.filter(|id| !id.is_empty()) {
            None => fresh.to_string(),
            Some(id) => match Self::parse(id) {
                Ok(job) => return job,
                Err(_) => uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, id.as_bytes()).to_string(),
            },
        };
        Self(text.into())
    }

    /// The id of the n-th retry of this job: `<job_id>.rN`. The retry of a retry has the same form.
    #[must_use]
    pub fn retry(&self, n: u32) -> Self {
        Self(format!("{}.r{n}", split_retry(&self.0).0).into())
    }

    /// The number of this retry; 0 for a job that is not a retry.
    #[must_use]
    pub fn retry_number(&self) -> u32 {
        split_retry(&self.0).1.and_then(|n| n.parse().ok()).unwrap_or(0)
    }
}

impl SourceName {
    /// The name of the source of `--dsn`: `<host>_<database>`, or `<host>_<port>_<database>` with a port. Other
    /// characters than letters, digits and `-` become `_`.
    #[must_use]
    pub fn of_dsn(host: &str, port: Option<&str>, database: &str) -> Self {
        let port = port.map_or_else(String::new, |p| format!("_{p}"));
        let name: String = format!("{host}{port}_{database}")
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
            .take(64)
            .collect();
        Self(name.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_leave_its_directory_is_refused() {
        for bad in ["", "a/b", "..", "a b", "ä", &"x".repeat(65)] {
            assert!(JobId::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(JobId::parse("nightly_2025-08").expect("valid").as_str(), "nightly_2025-08");
    }

    #[test]
    fn a_message_id_that_is_no_name_becomes_the_same_uuid_every_time() {
        let fresh = uuid::Uuid::new_v4();
        let a = JobId::from_message_id(Some("order 7/2025"), fresh);
        let b = JobId::from_message_id(Some("order 7/2025"), uuid::Uuid::new_v4());
        assert_eq!(a, b);
        assert_eq!(JobId::from_message_id(Some("ok-1"), fresh).as_str(), "ok-1");
        assert_eq!(JobId::from_message_id(None, fresh).as_str(), fresh.to_string());
    }
}
