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
    /// The number of the column in the catalogue, except of views. A column that is dropped and added again has another
    /// one.
    pub(super) column: String,
    /// Whether that is a view.
    pub(super) is_view: bool,
    /// What the JSON of a complex type means, if that is known.
    pub(super) complex: Option<Form>,
}

/// What the bytes of a type that is built in and has no parts mean; none for other types.
fn plain(oid: u32, precision: u16, scale: u16) -> Option<Form> {
    Some(match oid {
        oid::BOOL => Form::Bool,
        oid::INT8 => Form::Int64,
        oid::FLOAT8 => Form::Float64,
        oid::CHAR | oid::VARCHAR | oid::LONG_VARCHAR => Form::Text,
        oid::BINARY | oid::VARBINARY | oid::LONG_VARBINARY => Form::Bytes,
        oid::UUID => Form::Uuid,
        oid::DATE => Form::JulianDate,
        oid::TIME => Form::Time,
        oid::TIMETZ => Form::TimeTz,
        oid::TIMESTAMP => Form::Timestamp,
        oid::TIMESTAMPTZ => Form::TimestampTz,
        oid::INTERVAL => Form::Microseconds,
        oid::INTERVAL_YM => Form::Months,
        // The bytes do not tell the scale. Without it the server must write the number.
        oid::NUMERIC if precision == 0 => return None,
        oid::NUMERIC => match (u8::try_from(precision), i8::try_from(scale)) {
            (Ok(precision @ 1..=76), Ok(scale)) => Form::Unscaled { precision, scale },
            _ => Form::UnscaledText { scale },
        },
        _ => return None,
    })
}

/// Precision and scale in a name such as `array[numeric(12,2)]`.
fn digits(name: &str) -> Option<(u16, u16)> {
    let (_, rest) = name.split_once("numeric(")?;
    let (precision, scale) = rest.split_once(')')?.0.split_once(',')?;
    Some((precision.trim().parse().ok()?, scale.trim().parse().ok()?))
}

/// What the bytes of a type mean, by its name in the catalogue; none for types that are not built in. Precision and
/// scale of a numeric are in its name too.
pub(super) fn named(name: &str, known: Option<(u16, u16)>) -> Option<Form> {
    let name = name.trim().to_lowercase();
    for list in ["array[", "set["] {
        if let Some(element) = name.strip_prefix(list).and_then(|rest| rest.strip_suffix(']')) {
            return Some(Form::ListFromJson(Box::new(named(element, known)?)));
        }
    }
    let base = name.split('(').next().unwrap_or_default().trim();
    let oid = match base {
        "boolean" => oid::BOOL,
        "int" | "integer" => oid::INT8,
        "float" => oid::FLOAT8,
        "char" | "varchar" | "long varchar" => oid::VARCHAR,
        "binary" | "varbinary" | "long varbinary" => oid::VARBINARY,
        "uuid" => oid::UUID,
        "date" => oid::DATE,
        "time" => oid::TIME,
        "timetz" => oid::TIMETZ,
        "timestamp" => oid::TIMESTAMP,
        "timestamptz" => oid::TIMESTAMPTZ,
        "numeric" => oid::NUMERIC,
        _ => return None,
    };
    let (precision, scale) = digits(&name).or(known).unwrap_or_default();
    plain(oid, precision, scale)
}

impl VerticaType {
    fn is_named(&self, name: &str) -> bool {
        self.name.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
    }

    /// Whether values are texts.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.oid, oid::CHAR | oid::VARCHAR | oid::LONG_VARCHAR)
    }

    /// Whether equal values have one text, which is the value.
    pub(super) fn is_canonical(&self) -> bool {
        self.is_text() || matches!(self.oid, oid::BOOL | oid::INT8 | oid::DATE | oid::UUID)
    }

    /// What the bytes mean, and how they are fetched.
    pub(super) fn map(&self) -> (Form, Fetch) {
        if self.is_shape() {
            let declared = Geometry { srid: None, kind: None, geodesic: self.is_named("geography") };
            return (Form::Geometry(Shape { schema: None, declared }), Fetch::AsShape);
        }
        if let Some(form) = plain(self.oid, self.precision, self.scale) {
            return (form, Fetch::Native);
        }
        let native = |form| (form, Fetch::Native);
        match oid::element(self.oid) {
            Some(of) => {
                let (precision, scale) = digits(&self.name).unwrap_or_default();
                let list = plain(of, precision, scale).map(|element| Form::ListFromJson(Box::new(element)));
                native(list.filter(Form::is_exact_in_json).unwrap_or(Form::Text))
            }
            None if self.is_complex() => native(self.complex.clone().unwrap_or(Form::Text)),
            // A numeric whose digits are not known.
            None if self.oid == oid::NUMERIC => (Form::Text, Fetch::AsText),
            // Nobody knows how long their texts are, and a cast to a shorter type may cut them without an error.
            None => (Form::Text, Fetch::AsLongText),
        }
    }

    fn is_shape(&self) -> bool {
        self.is_named("geometry") || self.is_named("geography")
    }

    /// Whether values consist of others. They arrive as JSON.
    fn is_complex(&self) -> bool {
        if matches!(self.oid, oid::ROW | oid::ARRAY | oid::MAP) {
            return true;
        }
        ["_ct_", "row(", "array[", "set[", "map<", "map("].iter().any(|name| self.is_named(name))
    }

    /// How a value becomes text, if it does not fit its file type.
    pub(super) fn as_text(&self) -> (Form, Fetch) {
        match self.oid {
            _ if self.is_shape() => (Form::Text, Fetch::AsShapeText),
            oid::CHAR | oid::VARCHAR | oid::LONG_VARCHAR => (Form::Text, Fetch::Native),
            // A byte may be four characters.
            oid::BINARY | oid::VARBINARY | oid::LONG_VARBINARY => (Form::Text, Fetch::AsLongText),
            // They arrive as JSON.
            _ if oid::element(self.oid).is_some() || self.is_complex() => (Form::Text, Fetch::Native),
            ty if ty != oid::NUMERIC && plain(ty, self.precision, self.scale).is_none() => {
                (Form::Text, Fetch::AsLongText)
            }
            // The longest is a numeric of 1,024 digits.
            _ => (Form::Text, Fetch::AsText),
        }
    }

    /// How bounds of a range are compared with values; none if the order of the texts of bounds is not certain.
    pub(super) fn range_key(&self) -> Option<KeyType> {
        Some(match self.oid {
            oid::INT8 => KeyType::Int,
            oid::NUMERIC if self.precision > 0 => {
                KeyType::Numeric { precision: self.precision, scale: self.scale }
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relation::ColumnType;

    fn ty(oid: u32, name: &str) -> VerticaType {
        VerticaType { oid, name: name.into(), ..VerticaType::default() }
    }

    fn numeric(precision: u16, scale: u16) -> VerticaType {
        VerticaType { precision, scale, ..ty(oid::NUMERIC, "numeric") }
    }

    #[test]
    fn every_type_is_fetched_in_the_form_that_the_server_sends() {
        for (oid, form) in [
            (oid::BOOL, Form::Bool),
            (oid::INT8, Form::Int64),
            (oid::FLOAT8, Form::Float64),
            (oid::CHAR, Form::Text),
            (oid::VARCHAR, Form::Text),
            (oid::LONG_VARCHAR, Form::Text),
            (oid::BINARY, Form::Bytes),
            (oid::VARBINARY, Form::Bytes),
            (oid::LONG_VARBINARY, Form::Bytes),
            (oid::UUID, Form::Uuid),
            (oid::DATE, Form::JulianDate),
            (oid::TIME, Form::Time),
            (oid::TIMETZ, Form::TimeTz),
            (oid::TIMESTAMP, Form::Timestamp),
            (oid::TIMESTAMPTZ, Form::TimestampTz),
            (oid::INTERVAL, Form::Microseconds),
            (oid::INTERVAL_YM, Form::Months),
            (oid::ROW, Form::Text),
            (oid::ARRAY, Form::Text),
            (oid::MAP, Form::Text),
        ] {
            assert_eq!(ty(oid, "a type").map(), (form, Fetch::Native), "{oid}");
        }
    }

    #[test]
    fn numerics_are_decimals_as_long_as_there_are_decimals_so_wide() {
        for (precision, scale, form) in [
            (37, 15, Form::Unscaled { precision: 37, scale: 15 }),
            (76, 76, Form::Unscaled { precision: 76, scale: 76 }),
            (77, 0, Form::UnscaledText { scale: 0 }),
            (1024, 1000, Form::UnscaledText { scale: 1000 }),
        ] {
            assert_eq!(numeric(precision, scale).map(), (form, Fetch::Native));
        }
        // Nobody knows the scale.
        let (form, fetch) = numeric(0, 0).map();
        assert!(form == Form::Text && fetch != Fetch::Native && numeric(0, 0).range_key().is_none());
    }

    #[test]
    fn arrays_and_sets_are_lists_where_json_is_exact() {
        let list = |form| (Form::ListFromJson(Box::new(form)), Fetch::Native);
        assert_eq!(ty(1506, "array[int]").map(), list(Form::Int64));
        assert_eq!(ty(2709, "set[varchar(20)]").map(), list(Form::Text));
        let decimal = Form::Unscaled { precision: 12, scale: 2 };
        if decimal.is_exact_in_json() {
            assert_eq!(ty(1516, "array[numeric(12,2)]").map(), list(decimal));
        }
        assert_eq!(ty(1517, "array[varbinary(9)]").map().1, Fetch::Native);
        assert_eq!(ty(45_035_996, "_ct_45035996273833610").map(), (Form::Text, Fetch::Native));
    }

    #[test]
    fn types_of_users_are_known_by_name_or_become_text() {
        for (oid, name, geodesic) in [
            (116, "geometry(1048576)", false),
            (4_503_599, "geometry", false),
            (4_503_600, "geography(100)", true),
        ] {
            let (form, fetch) = ty(oid, name).map();
            let ColumnType::Geometry(declared) = form.column_type() else { panic!("{name}: {form:?}") };
            assert_eq!((declared.geodesic, fetch), (geodesic, Fetch::AsShape));
        }
        assert_eq!(ty(4_711, "something").map(), (Form::Text, Fetch::AsLongText));
    }

    #[test]
    fn values_that_do_not_fit_become_the_text_that_the_server_has() {
        assert_eq!(ty(oid::DATE, "date").as_text(), (Form::Text, Fetch::AsText));
        // A cast to VARCHAR could cut these without an error.
        for (oid, name) in [(oid::LONG_VARBINARY, "x"), (oid::VARBINARY, "x"), (4_711, "something")] {
            assert_eq!(ty(oid, name).as_text(), (Form::Text, Fetch::AsLongText), "{oid}");
        }
        assert_eq!(ty(1506, "array[int]").as_text(), (Form::Text, Fetch::Native));
        assert_eq!(ty(116, "geometry(100)").as_text(), (Form::Text, Fetch::AsShapeText));
        assert_eq!(ty(oid::ROW, "row(a int)").as_text(), (Form::Text, Fetch::Native));
    }

    #[test]
    fn ranges_are_made_of_types_whose_texts_are_exact() {
        assert_eq!(numeric(10, 2).range_key(), Some(KeyType::Numeric { precision: 10, scale: 2 }));
        assert_eq!(ty(oid::INT8, "int").range_key(), Some(KeyType::Int));
        for oid in [oid::FLOAT8, oid::CHAR, oid::TIME, oid::INTERVAL, oid::LONG_VARCHAR, 1506] {
            assert_eq!(ty(oid, "a type").range_key(), None);
        }
    }
}
