//! How a column is fetched and what its bytes mean. The plan stores this beside the file type.

use serde::{Deserialize, Serialize};

use crate::message::setting::InfinityMode;
use crate::relation::{Column, Frozen};
use crate::source::SourceError;
use crate::source::decode::{Form, StreamColumn};

/// How a column is selected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fetch {
    /// In the binary form that the server sends.
    #[default]
    Native,
    /// Cast to VARCHAR.
    AsText,
    /// Cast to LONG VARCHAR.
    AsLongText,
    /// As well-known binary.
    AsShape,
    /// As well-known text.
    AsShapeText,
}

/// What a plan stores about a column for this source only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reading {
    /// How the column is selected.
    #[serde(default)]
    pub(super) fetch: Fetch,
    /// What its bytes mean.
    #[serde(rename = "type")]
    pub(super) form: Form,
    /// How infinite values are stored in files: see [`StreamColumn`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) infinity: Option<InfinityMode>,
    /// The table to which the column belonged when it was planned, by the number in the catalogue.
    pub(super) table: i64,
    /// The number of the column in the catalogue then; empty for views and in plans of older releases.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) column: String,
    /// Whether that is a view.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_view: bool,
}

impl Reading {
    /// Reads what the plan stores about a column.
    ///
    /// # Errors
    /// When this release does not understand it. The table is then planned again.
    pub(super) fn of(column: &Column) -> Result<Self, SourceError> {
        column.reading.thaw().map_err(|_| {
            SourceError::changed(
                "column_type",
                format!(
                    "column {:?} of type {} was planned to be read in a way that this version does not know",
                    column.name, column.source_type
                ),
            )
        })
    }

    /// Stores the reading in a column, with the file type that follows from it.
    pub(super) fn put_into(self, column: &mut Column) {
        column.ty = self.form.column_type();
        column.reading = Frozen::of(&self);
    }
}

/// Columns of a plan, each with its reading.
pub(super) struct Readings(Vec<(Column, Reading)>);

impl Readings {
    /// Reads what the plan stores for these columns.
    ///
    /// # Errors
    /// When this release does not understand what is stored about one of them.
    pub(super) fn of(columns: &[Column]) -> Result<Self, SourceError> {
        let each = columns.iter().map(|column| Ok((column.clone(), Reading::of(column)?)));
        each.collect::<Result<_, _>>().map(Self)
    }

    /// The columns, to be selected.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Reading)> {
        self.0.iter().map(|(column, reading)| (column.name.as_str(), reading))
    }

    /// The columns, to be compared with those of the catalogue.
    pub(super) fn planned(&self) -> impl ExactSizeIterator<Item = (&Column, &Reading)> {
        self.0.iter().map(|(column, reading)| (column, reading))
    }

    /// The columns, to be decoded.
    pub(super) fn into_stream(self) -> Vec<StreamColumn> {
        let columns = self.0.into_iter();
        columns
            .map(|(column, Reading { form, infinity, .. })| StreamColumn { column, form, infinity })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::ErrorKind;

    #[test]
    fn a_reading_is_stored_and_read_again_or_planned_again() {
        let reading = Reading {
            fetch: Fetch::AsText,
            form: Form::Text,
            infinity: None,
            table: 45_035_996_273_704_980,
            column: "45035996273704980-2".into(),
            is_view: true,
        };
        let mut column = Column::plain("c", "int", Form::Int64.column_type(), true);
        reading.clone().put_into(&mut column);
        assert_eq!(column.ty, Form::Text.column_type());
        assert_eq!(Reading::of(&column).expect("known"), reading);
        let other = Column { reading: Frozen::of(&"by telepathy"), ..column };
        assert_eq!(Reading::of(&other).expect_err("unknown").kind, ErrorKind::Changed);
    }
}
