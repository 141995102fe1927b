//! Compares the columns that the server describes with the way in which the plan reads them (pure).
//!
//! The plan's readings come from the catalogue. The bytes of a row do not say what they mean, so a reading that is
//! wrong would give wrong values without an error.

use super::reading::{Fetch, Reading};
use super::wire::{Described, Description, oid};
use crate::relation::Column;
use crate::source::decode::Form;

/// The first column that is not what the plan reads, in words.
pub(super) fn difference<'a>(
    described: &Description,
    planned: impl ExactSizeIterator<Item = (&'a Column, &'a Reading)>,
) -> Option<String> {
    let (found, asked) = (described.columns.len(), planned.len());
    if found != asked {
        return Some(format!("the server describes {found} columns, and {asked} were asked for"));
    }
    let mut pairs = planned.zip(&described.columns);
    let ((column, _), found) = pairs.find(|((_, reading), found)| !fits(reading, found))?;
    Some(format!(
        "column `{}` was planned as {} and the server sends {}",
        column.name,
        column.source_type,
        shown(found)
    ))
}

/// Whether the bytes of a described column mean what a reading takes them for.
fn fits(reading: &Reading, found: &Described) -> bool {
    match reading.fetch {
        Fetch::AsText | Fetch::AsLongText | Fetch::AsShapeText => {
            matches!(found.oid, oid::VARCHAR | oid::LONG_VARCHAR)
        }
        Fetch::AsShape => matches!(found.oid, oid::VARBINARY | oid::LONG_VARBINARY),
        Fetch::Native => is(&reading.form, found.oid) && has_digits(&reading.form, found),
    }
}

/// Whether values of a type have the bytes of a form.
fn is(form: &Form, ty: u32) -> bool {
    match form {
        Form::Bool => ty == oid::BOOL,
        Form::Int64 => ty == oid::INT8,
        Form::Float64 => ty == oid::FLOAT8,
        Form::Text => {
            // Values that consist of others arrive as JSON.
            matches!(
                ty,
                oid::CHAR
                    | oid::VARCHAR
                    | oid::LONG_VARCHAR
                    | oid::UNKNOWN
                    | oid::ROW
                    | oid::ARRAY
                    | oid::MAP
            ) || oid::element(ty).is_some()
                || oid::ARRAYS.contains(&ty)
                || oid::SETS.contains(&ty)
        }
        // A text may be read as bytes.
        Form::Bytes => matches!(
            ty,
            oid::BINARY | oid::VARBINARY | oid::LONG_VARBINARY | oid::CHAR | oid::VARCHAR | oid::LONG_VARCHAR
        ),
        Form::Uuid | Form::UuidText => ty == oid::UUID,
        Form::JulianDate => ty == oid::DATE,
        Form::Time | Form::TimeText => ty == oid::TIME,
        Form::TimeTz => ty == oid::TIMETZ,
        Form::Timestamp => ty == oid::TIMESTAMP,
        Form::TimestampTz => ty == oid::TIMESTAMPTZ,
        Form::Microseconds => ty == oid::INTERVAL,
        Form::Months => ty == oid::INTERVAL_YM,
        Form::Unscaled { .. } | Form::UnscaledText { .. } => ty == oid::NUMERIC,
        // The JSON of a complex type names its fields, and what does not fit is found there.
        Form::StructFromJson(_) => ty == oid::ROW,
        Form::ListFromJson(element) => ty == oid::ARRAY || oid::element(ty).is_some_and(|of| is(element, of)),
        // No type of this source has another form.
        _ => false,
    }
}

/// Whether a numeric has the digits of its form: the scale, which is nowhere in its bytes, and their number as far
/// as it decides how wide they are.
fn has_digits(form: &Form, found: &Described) -> bool {
    let (precision, scale) = found.precision_and_scale();
    // A description has one byte for the scale.
    let is_scale = |planned: i64| planned & 0xff == i64::from(scale & 0xff);
    match form {
        Form::Unscaled { precision: planned, scale } => {
            is_scale(i64::from(*scale)) && (found.typmod == -1 || u32::from(*planned) / 19 == precision / 19)
        }
        Form::UnscaledText { scale } => is_scale(i64::from(*scale)),
        _ => true,
    }
}

/// A described type, in words.
fn shown(found: &Described) -> String {
    let name = match found.oid {
        oid::BOOL => "boolean",
        oid::INT8 => "int",
        oid::FLOAT8 => "float",
        oid::CHAR => "char",
        oid::VARCHAR => "varchar",
        oid::LONG_VARCHAR => "long varchar",
        oid::BINARY => "binary",
        oid::VARBINARY => "varbinary",
        oid::LONG_VARBINARY => "long varbinary",
        oid::UUID => "uuid",
        oid::DATE => "date",
        oid::TIME => "time",
        oid::TIMETZ => "timetz",
        oid::TIMESTAMP => "timestamp",
        oid::TIMESTAMPTZ => "timestamptz",
        oid::INTERVAL => "interval day to second",
        oid::INTERVAL_YM => "interval year to month",
        oid::NUMERIC => {
            let (precision, scale) = found.precision_and_scale();
            return format!("numeric({precision},{scale})");
        }
        other => return format!("type {other}"),
    };
    name.into()
}

#[cfg(test)]
mod tests {
    use super::super::types::VerticaType;
    use super::*;

    fn described(oid: u32, typmod: i32) -> Described {
        Described { oid, typmod, ..Described::default() }
    }

    fn numeric(precision: u16, scale: u16) -> (VerticaType, Described) {
        let ty = VerticaType { oid: oid::NUMERIC, precision, scale, ..VerticaType::default() };
        (ty, described(oid::NUMERIC, ((i32::from(precision) << 16) | i32::from(scale)) + 4))
    }

    /// Whether a column that was planned as this type may be described as that.
    fn accepts(ty: &VerticaType, found: &Described) -> bool {
        let (form, fetch) = ty.map();
        let reading =
            Reading { fetch, form, infinity: None, table: 1, column: String::new(), is_view: false };
        let column = Column::plain("c", "planned", reading.form.column_type(), true);
        let description = Description { columns: vec![found.clone()] };
        let differs = difference(&description, [(&column, &reading)].into_iter());
        if let Some(why) = &differs {
            assert!(why.contains("column `c` was planned as planned"), "{why}");
        }
        differs.is_none()
    }

    #[test]
    fn a_type_is_read_as_itself_and_as_no_other() {
        let all = [
            oid::BOOL,
            oid::INT8,
            oid::FLOAT8,
            oid::VARCHAR,
            oid::UUID,
            oid::DATE,
            oid::TIME,
            oid::TIMETZ,
            oid::TIMESTAMP,
            oid::TIMESTAMPTZ,
            oid::INTERVAL,
            oid::INTERVAL_YM,
            oid::VARBINARY,
        ];
        for planned in all {
            let ty = VerticaType { oid: planned, ..VerticaType::default() };
            for found in all {
                let may = planned == found || (planned, found) == (oid::VARBINARY, oid::VARCHAR);
                assert_eq!(accepts(&ty, &described(found, -1)), may, "{planned} {found}");
            }
        }
        // Casts and shapes.
        let unknown = VerticaType { oid: 4711, name: "something".into(), ..VerticaType::default() };
        let shape = VerticaType { oid: 4711, name: "geometry(100)".into(), ..VerticaType::default() };
        assert!(
            accepts(&unknown, &described(oid::VARCHAR, -1)) && !accepts(&unknown, &described(oid::INT8, -1))
        );
        assert!(accepts(&shape, &described(oid::LONG_VARBINARY, -1)));
        assert!(!accepts(&shape, &described(oid::VARCHAR, -1)));
    }

    #[test]
    fn a_numeric_has_the_scale_and_the_width_of_its_plan() {
        let (planned, same) = numeric(12, 2);
        assert!(accepts(&planned, &same));
        for (precision, scale, may) in [(12, 3, false), (12, 0, false), (18, 2, true), (20, 2, false)] {
            assert_eq!(accepts(&planned, &numeric(precision, scale).1), may, "{precision} {scale}");
        }
        let (long, _) = numeric(1000, 300);
        assert!(accepts(&long, &numeric(1000, 300).1) && !accepts(&long, &numeric(1000, 299).1));
        assert!(accepts(&numeric(37, 15).0, &described(oid::NUMERIC, -1)));
        assert!(!accepts(&planned, &described(oid::NUMERIC, -1)));
        // A list has numbers as text.
        let list = VerticaType { oid: 1506, name: "array[int]".into(), ..VerticaType::default() };
        assert!(accepts(&list, &described(1506, -1)) && !accepts(&list, &described(1507, -1)));
    }

    #[test]
    fn structs_are_rows_and_lists_of_them_arrays() {
        let form = Form::StructFromJson(vec![]);
        assert!(is(&form, oid::ROW) && !is(&form, oid::VARCHAR) && !is(&form, oid::MAP));
        let list = Form::ListFromJson(Box::new(form));
        assert!(is(&list, oid::ARRAY) && !is(&list, oid::ROW) && !is(&list, 1506));
    }

    #[test]
    fn a_column_too_many_is_found() {
        let description = Description { columns: vec![described(oid::INT8, -1)] };
        assert!(difference(&description, std::iter::empty()).expect("one too many").contains("1 columns"));
    }
}
