//! Portable forms.

use super::*;

fn wide(precision: u8) -> Form {
    Form::Decimal { precision, scale: 2 }
}

#[test]
fn what_some_reader_refuses_is_text_wherever_it_stands() {
    use Form::{Date, Json, JsonText, List, Multirange, NumericText, Range, Struct, Time, TimeText};
    use Form::{ListFromJson, StructFromJson, Unscaled, UnscaledText, Uuid, UuidText};
    let from_json = |ty| StructFromJson(vec![FormAttribute { name: "p".into(), form: ty }]);
    let composite = |ty| Struct(vec![FormAttribute { name: "p".into(), form: ty }]);
    let holders: [&dyn Fn(Form) -> Form; 8] = [
        &|ty| ty,
        &|ty| List(Box::new(ty)),
        &|ty| Range(Box::new(ty)),
        &|ty| Multirange(Box::new(ty)),
        &composite,
        &|ty| ListFromJson(Box::new(ty)),
        &from_json,
        &|ty| List(Box::new(composite(List(Box::new(ty))))),
    ];
    for hold in holders {
        for (ty, text) in [
            (Uuid, UuidText),
            (Time, TimeText),
            (Json, JsonText),
            (wide(39), NumericText),
            (wide(76), NumericText),
            (Unscaled { precision: 39, scale: 2 }, UnscaledText { scale: 2 }),
        ] {
            let (found, texts) = hold(ty).portable();
            assert_eq!((&found, texts.len()), (&hold(text), 1));
            assert_eq!(found.portable(), (found, vec![]));
        }
        for ty in [Date, wide(38), Form::UInt32, Form::Map, Form::Interval, Form::JulianDate, Form::Months] {
            assert_eq!(hold(ty.clone()).portable(), (hold(ty), vec![]));
        }
    }
}

#[test]
fn vectors_are_lists_of_any_length() {
    let vector = |length| Form::Vector { length, half: true };
    assert_eq!(vector(Some(3)).portable(), (vector(None), vec![]));
}

#[test]
fn each_kind_is_told_once() {
    let attributes =
        [Form::Uuid, Form::Time, Form::Uuid].map(|ty| FormAttribute { name: String::new(), form: ty });
    assert_eq!(Form::Struct(attributes.into()).portable().1, ["UUID", "time"]);
}
