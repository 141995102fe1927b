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
    /// As the server's text, which the type's output function writes.
    AsText,
    /// The stored bytes of a text, in whatever encoding.
    AsBytes,
    /// In binary form, except that every value of form [`Form::SourceText`] inside it is fetched as text.
    Parts,
}

/// What a plan stores about a column for this source only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reading {
    /// How the column is selected.
    #[serde(default)]
    pub(super) fetch: Fetch,
    /// What the bytes of its fields mean.
    #[serde(rename = "type")]
    pub(super) form: Form,
    /// How infinite values are stored in files: see [`StreamColumn`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) infinity: Option<InfinityMode>,
}

impl Reading {
    /// Reads what the plan stores about a column.
    ///
    /// # Errors
    /// When this release does not understand it. The table is then planned again.
    pub(super) fn of(column: &Column) -> Result<Self, SourceError> {
        let unknown = || {
            SourceError::changed(
                "column_type",
                format!(
                    "column {:?} of type {} was planned to be read in a way that this version does not know",
                    column.name, column.source_type
                ),
            )
        };
        let mut reading: Self = column.reading.thaw().map_err(|_| unknown())?;
        if reading.fetch == Fetch::AsText {
            reading.form = match reading.form {
                // Plans of earlier releases call a double that is sent as text by this name.
                Form::Float64 => Form::DoubleFromText,
                Form::DoubleFromText => Form::DoubleFromText,
                Form::Text | Form::Json => Form::Text,
                _ => return Err(unknown()),
            };
        }
        Ok(reading)
    }

    /// Stores the reading in a column, with the file type that follows from it.
    pub(super) fn put_into(self, column: &mut Column) {
        column.ty = self.form.column_type();
        column.reading = Frozen::of(&self);
    }
}

/// Most columns that a reason names.
const NAMED: usize = 5;

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

    /// The columns with their readings.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Column, &Reading)> {
        self.0.iter().map(|(column, reading)| (column, reading))
    }

    /// The columns that are not selected as they are stored: "column `e` (inet), which is exported as text". `None` if
    /// there are columns, and none of them is such.
    pub(super) fn converted(&self) -> Option<String> {
        let how = |fetch| match fetch {
            Fetch::Native => None,
            Fetch::AsText => Some("exported as text"),
            Fetch::AsBytes => Some("exported as bytes"),
            Fetch::Parts => Some("exported with text inside"),
        };
        if self.0.is_empty() {
            return Some("no columns".to_owned());
        }
        let first = self.0.iter().find_map(|(_, reading)| how(reading.fetch))?;
        let same = self.0.iter().filter(|(_, reading)| how(reading.fetch) == Some(first));
        let names: Vec<String> =
            same.map(|(column, _)| format!("`{}` ({})", column.name, column.source_type)).collect();
        let shown = names[..names.len().min(NAMED)].join(", ");
        Some(match names.len().saturating_sub(NAMED) {
            0 if names.len() == 1 => format!("column {shown}, which is {first}"),
            0 => format!("columns {shown}, which are {first}"),
            more => format!("columns {shown} and {more} more, which are {first}"),
        })
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
    use serde_json::{Value, json};

    use super::*;
    use crate::source::ErrorKind;

    fn old(fetch: &str, ty: Value, infinity: Option<&str>) -> Column {
        let mut column =
            json!({"name": "c", "source_type": "t", "fetch": fetch, "type": ty, "nullable": true});
        if let Some(infinity) = infinity {
            column["infinity"] = json!(infinity);
        }
        serde_json::from_value(column).expect("an old column")
    }

    #[test]
    fn columns_that_are_not_fetched_as_stored_are_named() {
        let said = |columns: &[Column]| Readings::of(columns).expect("known").converted();
        let plain = || old("native", json!("int32"), None);
        let text = |name: &str| Column { name: name.into(), ..old("as_text", json!("text"), None) };
        assert_eq!(said(&[plain()]), None);
        assert_eq!(said(&[]).as_deref(), Some("no columns"));
        assert_eq!(said(&[plain(), text("e")]).as_deref(), Some("column `e` (t), which is exported as text"));
        let many: Vec<Column> = ["a", "b", "c", "d", "e", "f", "g"].map(text).to_vec();
        assert_eq!(said(&many[..2]).as_deref(), Some("columns `a` (t), `b` (t), which are exported as text"));
        assert!(said(&many).is_some_and(|said| said.contains("`e` (t) and 2 more, which are")));
    }

    #[test]
    fn columns_of_plans_of_before_are_read_as_they_were() {
        let reading = |fetch, form, infinity| Reading { fetch, form, infinity };
        for (column, expected) in [
            (old("native", json!("int32"), None), reading(Fetch::Native, Form::Int32, None)),
            (
                old("native", json!("date"), Some("max")),
                reading(Fetch::Native, Form::Date, Some(InfinityMode::Max)),
            ),
            (old("as_text", json!("float64"), None), reading(Fetch::AsText, Form::DoubleFromText, None)),
            (old("as_text", json!("text"), None), reading(Fetch::AsText, Form::Text, None)),
            (old("as_bytes", json!("bytes"), None), reading(Fetch::AsBytes, Form::Bytes, None)),
            (
                old("parts", json!({"list": "source_text"}), None),
                reading(Fetch::Parts, Form::List(Box::new(Form::SourceText)), None),
            ),
            (
                old("native", json!({"money": {"scale": 2}}), None),
                reading(Fetch::Native, Form::Money { scale: 2 }, None),
            ),
            (
                old("native", json!({"vector": {"length": null, "half": true}}), None),
                reading(Fetch::Native, Form::Vector { length: None, half: true }, None),
            ),
        ] {
            let found = Reading::of(&column).expect("known");
            assert_eq!(found, expected);
            assert_eq!(column.ty, expected.form.column_type());
            let mut again = column.clone();
            found.put_into(&mut again);
            assert_eq!(Reading::of(&again).expect("known"), expected);
        }
    }

    #[test]
    fn shapes_of_plans_of_version_1_keep_the_schema_of_their_functions() {
        let shape =
            json!({"geometry": {"schema": "gis", "srid": 4326, "kind": "Point Z", "geodesic": false}});
        let Form::Geometry(shape) = Reading::of(&old("parts", shape, None)).expect("known").form else {
            panic!("no shape");
        };
        assert_eq!((shape.schema.as_deref(), shape.declared.srid), (Some("gis"), Some(4326)));
    }

    #[test]
    fn what_this_release_does_not_know_is_planned_again() {
        let column = Column { reading: Frozen::of(&"by telepathy"), ..old("native", json!("int32"), None) };
        assert_eq!(Reading::of(&column).expect_err("unknown").kind, ErrorKind::Changed);
        assert_eq!(
            Reading::of(&old("as_text", json!("int32"), None)).expect_err("unknown").kind,
            ErrorKind::Changed
        );
    }
}
