//! What a source stores in a plan for itself.

use serde::{Deserialize, Serialize};

/// A value that one source writes and reads. Everybody else only passes it on, in memory and in plans. It is
/// JSON, so that a process without this source can still read the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Frozen(serde_json::Value);

impl Frozen {
    /// Freezes a value.
    ///
    /// # Panics
    /// When JSON cannot hold the value, e.g. a map whose keys are not texts.
    #[must_use]
    pub fn of(value: &impl Serialize) -> Self {
        Self(serde_json::to_value(value).expect("sources freeze structs, enums and texts"))
    }

    /// The value that was frozen.
    ///
    /// # Errors
    /// When the value has another type, because another source or another release wrote it.
    pub fn thaw<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.0)
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.0.is_null()
    }
}
