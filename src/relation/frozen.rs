//! What a source stores in a plan for itself.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
use serde_json::Value;

/// A value that one source writes and reads. Everybody else only passes it on, in memory and in plans. The
/// value is JSON, so that a process without this source can still read the plan. In memory it is the text of
/// that JSON: a plan has one such value for each of its columns, and a tree of values takes ten times as
/// much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen(Box<str>);

const NOTHING: &str = "null";

impl Default for Frozen {
    fn default() -> Self {
        Self(NOTHING.into())
    }
}

impl Serialize for Frozen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<Value>(&self.0).map_err(ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Frozen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::of_value(&Value::deserialize(deserializer)?))
    }
}

impl Frozen {
    /// Freezes a value.
    ///
    /// # Panics
    /// When JSON cannot hold the value, e.g. a map whose keys are not texts.
    #[must_use]
    pub fn of(value: &impl Serialize) -> Self {
        // Converted to a JSON value first, so that equal values have equal texts.
        Self::of_value(&serde_json::to_value(value).expect("sources freeze structs, enums and texts"))
    }

    fn of_value(value: &Value) -> Self {
        Self(value.to_string().into())
    }

    /// The value that was frozen.
    ///
    /// # Errors
    /// When the value has another type, because another source or another release wrote it.
    pub fn thaw<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }

    /// Whether no value is stored.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self.0 == *NOTHING
    }
}
