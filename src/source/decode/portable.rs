//! Chooses types that every common reader of Parquet supports. Pure.
//!
//! Which readers refuse or change a type is measured: `make readers` writes the table in the README.

use super::form::{Form, FormAttribute};

/// Maximum precision of a decimal that all readers support.
pub const MAX_DIGITS: u8 = 38;

/// The portable form to use instead of this one, and the names of the types that became text.
#[must_use]
pub fn portable(ty: &Form) -> (Form, Vec<&'static str>) {
    let mut texts = Vec::new();
    let ty = replaced(ty, &mut texts);
    (ty, texts)
}

fn replaced(ty: &Form, texts: &mut Vec<&'static str>) -> Form {
    let mut text = |what, ty| {
        if !texts.contains(&what) {
            texts.push(what);
        }
        ty
    };
    match ty {
        Form::Uuid => text("UUID", Form::UuidText),
        Form::Time => text("time", Form::TimeText),
        Form::Json => text("JSON", Form::JsonText),
        Form::Decimal { precision, .. } if *precision > MAX_DIGITS => {
            text("numeric of more than 38 digits", Form::NumericText)
        }
        // pyarrow before 26 refuses lists of a fixed length if one of them is NULL.
        Form::Vector { half, .. } => Form::Vector { length: None, half: *half },
        Form::List(element) => Form::List(Box::new(replaced(element, texts))),
        Form::Range(bound) => Form::Range(Box::new(replaced(bound, texts))),
        Form::Multirange(bound) => Form::Multirange(Box::new(replaced(bound, texts))),
        Form::Struct(attributes) => {
            let attribute = |attribute: &FormAttribute| FormAttribute {
                name: attribute.name.clone(),
                form: replaced(&attribute.form, texts),
            };
            Form::Struct(attributes.iter().map(attribute).collect())
        }
        Form::Bool
        | Form::Int16
        | Form::Int32
        | Form::Int64
        | Form::UInt32
        | Form::Float32
        | Form::Float64
        | Form::DoubleFromText
        | Form::Decimal { .. }
        | Form::Text
        | Form::JsonText
        | Form::Bytes
        | Form::UuidText
        | Form::Date
        | Form::TimeText
        | Form::Timestamp
        | Form::TimestampTz
        | Form::NumericText
        | Form::NumericDouble
        | Form::Money { .. }
        | Form::Interval
        | Form::Point
        | Form::Geometry(_)
        | Form::SourceText
        | Form::Map => ty.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wide(precision: u8) -> Form {
        Form::Decimal { precision, scale: 2 }
    }

    #[test]
    fn what_some_reader_refuses_is_text_wherever_it_stands() {
        use Form::{Date, Json, JsonText, List, Multirange, NumericText, Range, Struct, Time, TimeText};
        use Form::{Uuid, UuidText};
        let composite = |ty| Struct(vec![FormAttribute { name: "p".into(), form: ty }]);
        let holders: [&dyn Fn(Form) -> Form; 6] = [
            &|ty| ty,
            &|ty| List(Box::new(ty)),
            &|ty| Range(Box::new(ty)),
            &|ty| Multirange(Box::new(ty)),
            &composite,
            &|ty| List(Box::new(composite(List(Box::new(ty))))),
        ];
        for hold in holders {
            for (ty, text) in [
                (Uuid, UuidText),
                (Time, TimeText),
                (Json, JsonText),
                (wide(39), NumericText),
                (wide(76), NumericText),
            ] {
                let (found, texts) = portable(&hold(ty));
                assert_eq!((&found, texts.len()), (&hold(text), 1));
                assert_eq!(portable(&found), (found, vec![]));
            }
            for ty in [Date, wide(38), Form::UInt32, Form::Map, Form::Interval] {
                assert_eq!(portable(&hold(ty.clone())), (hold(ty), vec![]));
            }
        }
    }

    #[test]
    fn vectors_are_lists_of_any_length() {
        let vector = |length| Form::Vector { length, half: true };
        assert_eq!(portable(&vector(Some(3))), (vector(None), vec![]));
    }

    #[test]
    fn each_kind_is_told_once() {
        let attributes =
            [Form::Uuid, Form::Time, Form::Uuid].map(|ty| FormAttribute { name: String::new(), form: ty });
        assert_eq!(portable(&Form::Struct(attributes.into())).1, ["UUID", "time"]);
    }
}
