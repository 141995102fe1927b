//! Types of values: secrets, `auto`, `off`.

use std::fmt;

use serde::{Deserialize, Deserializer};

use crate::message::setting::Span;

/// A secret, given directly or read from a file. It is never shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself. Use it only to pass it to a library.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A number, or `auto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auto<T> {
    /// The number follows from the machine.
    #[default]
    Auto,
    /// A given number.
    Exactly(T),
}

impl<T> Auto<T> {
    /// The number, unless it is `auto`.
    pub fn exactly(self) -> Option<T> {
        match self {
            Self::Auto => None,
            Self::Exactly(value) => Some(value),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Auto<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected \"auto\" or a positive number")]
        enum Raw<T> {
            Word(Word),
            Number(T),
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Word {
            Auto,
        }
        Ok(match Raw::deserialize(deserializer)? {
            Raw::Word(Word::Auto) => Self::Auto,
            Raw::Number(n) => Self::Exactly(n),
        })
    }
}

/// A span, or `off`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OptionalSpan(pub Option<Span>);

impl<'de> Deserialize<'de> for OptionalSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "off" {
            return Ok(Self(None));
        }
        text.parse().map(|s| Self(Some(s))).map_err(serde::de::Error::custom)
    }
}
