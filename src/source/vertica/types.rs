//! What each type of Vertica becomes, in files and on the way.
//!
//! Types are told apart by their number in the catalogue; user-defined ones, whose numbers differ from database to
//! database, by their name. Values that no file type holds exactly are fetched as the server's text.

use super::condition::KeyType;
use super::reading::Fetch;
use super::wire::oid;
use crate::relation::column::Geometry;
use crate::source::decode::{Form, Shape};

/// A type as the catalogue describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct VerticaType {
    /// The number of the type.
    pub(super) oid: u32,
    /// The type in the catalogue's words, e.g. `numeric(12,2)`.
    pub(super) name: String,
    /// Most digits, of a numeric.
    pub(super) precision: u16,
    /// Digits after the decimal point, of a numeric.
    pub(super) scale: u16,
    /// The table that the column belongs to.
    pub(super) table: i64,
    /// Whether that is a view.
    pub(super) is_view: bool,
}

impl VerticaType {
    fn is_named(&self, name: &str) -> bool {
        self.name.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
    }

    /// Whether values are texts.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.oid, oid::CHAR | oid::VARCHAR | oid::LONG_VARCHAR)
    }

    /// What the bytes mean, and how they are fetched.
    pub(super) fn map(&self) -> (Form, Fetch) {
        let native = |form| (form, Fetch::Native);
        match self.oid {
            oid::BOOL => native(Form::Bool),
            oid::INT8 => native(Form::Int64),
            oid::FLOAT8 => native(Form::Float64),
            oid::CHAR | oid::VARCHAR | oid::LONG_VARCHAR => native(Form::Text),
            oid::BINARY | oid::VARBINARY if !self.is_shape() => native(Form::Bytes),
            oid::LONG_VARBINARY if !self.is_shape() => native(Form::Bytes),
            oid::UUID => native(Form::Uuid),
            oid::TIME => native(Form::Time),
            oid::TIMESTAMP => native(Form::Timestamp),
            oid::TIMESTAMPTZ => native(Form::TimestampTz),
            oid::ROW | oid::ARRAY | oid::MAP => native(Form::Text),
            other if oid::ARRAYS.contains(&other) || oid::SETS.contains(&other) => native(Form::Text),
            _ if self.is_shape() => {
                let geodesic = self.is_named("geography");
                let declared = Geometry { srid: None, kind: None, geodesic };
                (Form::Geometry(Shape { schema: None, declared }), Fetch::AsShape)
            }
            _ if self.is_complex() => native(Form::Text),
            _ => (Form::Text, Fetch::AsText),
        }
    }

    fn is_shape(&self) -> bool {
        self.is_named("geometry") || self.is_named("geography")
    }

    /// Whether values consist of others; they arrive as JSON.
    fn is_complex(&self) -> bool {
        ["_ct_", "row(", "array[", "set[", "map<", "map("].iter().any(|name| self.is_named(name))
    }

    /// How a value becomes text, if it does not fit its file type.
    pub(super) fn as_text(&self) -> (Form, Fetch) {
        match self.oid {
            // The text itself is what does not fit.
            oid::CHAR | oid::VARCHAR | oid::LONG_VARCHAR => (Form::Bytes, Fetch::Native),
            oid::LONG_VARBINARY => (Form::Text, Fetch::AsLongText),
            _ => (Form::Text, Fetch::AsText),
        }
    }

    /// How bounds of a range are compared with values; none if the order of the texts of bounds is not certain.
    pub(super) fn range_key(&self) -> Option<KeyType> {
        Some(match self.oid {
            oid::INT8 => KeyType::Int,
            oid::NUMERIC => KeyType::Numeric { precision: self.precision, scale: self.scale },
            oid::DATE => KeyType::Date,
            oid::TIMESTAMP => KeyType::Timestamp,
            oid::TIMESTAMPTZ => KeyType::TimestampTz,
            oid::UUID => KeyType::Uuid,
            oid::VARCHAR => KeyType::Text,
            _ => return None,
        })
    }

    /// Whether the column may stand in a hash.
    pub(super) fn is_hashable(&self) -> bool {
        matches!(
            self.oid,
            oid::BOOL
                | oid::INT8
                | oid::FLOAT8
                | oid::CHAR
                | oid::VARCHAR
                | oid::DATE
                | oid::TIME
                | oid::TIMESTAMP
                | oid::TIMESTAMPTZ
                | oid::TIMETZ
                | oid::INTERVAL
                | oid::INTERVAL_YM
                | oid::NUMERIC
                | oid::UUID
        ) || matches!(self.oid, oid::BINARY | oid::VARBINARY) && !self.is_shape()
    }
}
