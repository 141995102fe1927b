//! What a source notes in a plan for itself.

use serde::{Deserialize, Serialize};

/// A value that one source makes and reads. Everybody else only carries it, in memory and in plans. It is JSON, so that
/// a plan can be read by a process that does not have the source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Frozen(serde_json::Value);

impl Frozen {
    /// Freezes a value.
    ///
    /// # Panics
    /// When JSON cannot hold the value: a map whose keys are no text.
    #[must_use]
    pub fn of(value: &impl Serialize) -> Self {
        Self(serde_json::to_value(value).expect("sources freeze structs, enums and texts"))
    }

    /// The value that was frozen.
    ///
    /// # Errors
    /// When it is not of this type: another source, or another release, made it.
    pub fn thaw<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.0)
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.0.is_null()
    }
}
