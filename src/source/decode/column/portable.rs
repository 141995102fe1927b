//! Which forms files for every common reader have.

use super::{Form, FormAttribute, MAX_DIGITS};
use crate::message::setting::InfinityMode;

impl Form {
    /// The form to use instead of this one in files for every common reader of Parquet, and the names of the
    /// types that became text. Which readers refuse or change a type is measured: `make readers` writes the
    /// table in the README.
    #[must_use]
    pub fn portable(&self) -> (Self, Vec<&'static str>) {
        let mut texts = Vec::new();
        let form = self.replaced(&mut texts);
        (form, texts)
    }

    fn replaced(&self, texts: &mut Vec<&'static str>) -> Self {
        let mut text = |what, form| {
            if !texts.contains(&what) {
                texts.push(what);
            }
            form
        };
        match self {
            Self::Uuid => text("UUID", Self::UuidText),
            Self::Time => text("time", Self::TimeText),
            Self::Json => text("JSON", Self::JsonText),
            Self::Decimal { precision, .. } if *precision > MAX_DIGITS => {
                text("numeric of more than 38 digits", Self::NumericText)
            }
            Self::Unscaled { precision, scale } if *precision > MAX_DIGITS => text(
                "numeric of more than 38 digits",
                // A scale is not negative.
                Self::UnscaledText { scale: (*scale).try_into().unwrap_or_default() },
            ),
            // pyarrow before 26 refuses lists of a fixed length if one of them is NULL.
            Self::Vector { half, .. } => Self::Vector { length: None, half: *half },
            Self::List(element) => Self::List(Box::new(element.replaced(texts))),
            Self::Nested { element, dimensions, guessed } => Self::Nested {
                element: Box::new(element.replaced(texts)),
                dimensions: *dimensions,
                guessed: *guessed,
            },
            Self::ListFromJson(element) => Self::ListFromJson(Box::new(element.replaced(texts))),
            Self::Range(bound) => Self::Range(Box::new(bound.replaced(texts))),
            Self::Multirange(bound) => Self::Multirange(Box::new(bound.replaced(texts))),
            Self::Struct(attributes) => {
                let attribute = |attribute: &FormAttribute| FormAttribute {
                    name: attribute.name.clone(),
                    form: attribute.form.replaced(texts),
                };
                Self::Struct(attributes.iter().map(attribute).collect())
            }
            Self::StructFromJson(attributes) => {
                let attribute = |attribute: &FormAttribute| FormAttribute {
                    name: attribute.name.clone(),
                    form: attribute.form.replaced(texts),
                };
                Self::StructFromJson(attributes.iter().map(attribute).collect())
            }
            Self::Bool
            | Self::Int16
            | Self::Int32
            | Self::Int64
            | Self::UInt32
            | Self::Float32
            | Self::Float64
            | Self::DoubleFromText
            | Self::Decimal { .. }
            | Self::Text
            | Self::JsonText
            | Self::Bytes
            | Self::UuidText
            | Self::Date
            | Self::TimeText
            | Self::Timestamp
            | Self::TimestampTz
            | Self::NumericText
            | Self::NumericDouble
            | Self::Money { .. }
            | Self::Interval
            | Self::Point
            | Self::Geometry(_)
            | Self::SourceText
            | Self::Map
            | Self::Unscaled { .. }
            | Self::UnscaledText { .. }
            | Self::JulianDate
            | Self::TimeTz
            | Self::Microseconds
            | Self::Months => self.clone(),
        }
    }
}

/// Replaces a form by one that every reader knows, with a note for the column.
pub(in crate::source) fn make_portable(form: &Form, infinity: &mut InfinityMode) -> (Form, Option<String>) {
    let (form, texts) = form.portable();
    let mut notes = Vec::new();
    if !texts.is_empty() {
        notes.push(format!("{} as text", texts.join(", ")));
    }
    if form.column_type().may_be_infinite() && *infinity == InfinityMode::Max {
        *infinity = InfinityMode::Null;
        notes.push("infinite values are NULL".to_owned());
    }
    let note = (!notes.is_empty()).then(|| format!("{}, since types are portable", notes.join("; ")));
    (form, note)
}

#[cfg(test)]
#[path = "portable_tests.rs"]
mod tests;
