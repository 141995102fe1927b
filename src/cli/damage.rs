//! Damaged files of the export folder. A list names them and goes on without them.

use std::fmt;

use serde_json::{Value, json};

use crate::folder::FolderError;

/// The files that could not be read, with the reasons.
#[derive(Debug, Default)]
pub(super) struct Damage(Vec<String>);

const REMEDY: &str =
    "restore the file; without a copy, move it away together with the directories of its job";

impl Damage {
    /// What was read, if the file is not damaged. A damaged file is noted.
    ///
    /// # Errors
    /// All other errors.
    pub(super) fn apart<T>(
        &mut self,
        read: Result<Option<T>, FolderError>,
    ) -> Result<Option<T>, FolderError> {
        match read {
            Err(error @ FolderError::Unreadable { .. }) => {
                self.0.push(error.to_string());
                Ok(None)
            }
            other => other,
        }
    }

    /// Whether there is none.
    pub(super) fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the damage, if there is any, to the JSON object of a list.
    pub(super) fn told(&self, mut list: Value) -> Value {
        if !self.is_none() {
            list["damaged"] = self.0.iter().map(|error| json!({"error": error, "remedy": REMEDY})).collect();
        }
        list
    }
}

impl fmt::Display for Damage {
    /// One line for each file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|error| writeln!(f, "damaged: {error}; {REMEDY}"))
    }
}
