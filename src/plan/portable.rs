//! What columns become where every common reader of Parquet has to read them. Pure.
//!
//! Which readers refuse or change what is measured: `make readers` writes the table in the README.

use super::column::{ColumnType, Part};

/// Digits of the widest decimal that all readers know.
pub const MAX_DIGITS: u8 = 38;

/// The type that files have instead of this one, and what became text on the way, in words.
#[must_use]
pub fn portable(ty: &ColumnType) -> (ColumnType, Vec<&'static str>) {
    let mut texts = Vec::new();
    let ty = replaced(ty, &mut texts);
    (ty, texts)
}

fn replaced(ty: &ColumnType, texts: &mut Vec<&'static str>) -> ColumnType {
    let mut text = |what, ty| {
        if !texts.contains(&what) {
            texts.push(what);
        }
        ty
    };
    match ty {
        ColumnType::Uuid => text("UUID", ColumnType::UuidText),
        ColumnType::Time => text("time", ColumnType::TimeText),
        ColumnType::Json => text("JSON", ColumnType::JsonText),
        ColumnType::Decimal { precision, .. } if *precision > MAX_DIGITS => {
            text("numeric of more than 38 digits", ColumnType::NumericText)
        }
        // pyarrow before 26 refuses lists of a fixed length where one is NULL.
        ColumnType::Vector { half, .. } => ColumnType::Vector { length: None, half: *half },
        ColumnType::List(element) => ColumnType::List(Box::new(replaced(element, texts))),
        ColumnType::Range(bound) => ColumnType::Range(Box::new(replaced(bound, texts))),
        ColumnType::Multirange(bound) => ColumnType::Multirange(Box::new(replaced(bound, texts))),
        ColumnType::Struct(parts) => {
            let part = |part: &Part| Part { name: part.name.clone(), ty: replaced(&part.ty, texts) };
            ColumnType::Struct(parts.iter().map(part).collect())
        }
        ColumnType::Bool
        | ColumnType::Int16
        | ColumnType::Int32
        | ColumnType::Int64
        | ColumnType::UInt32
        | ColumnType::Float32
        | ColumnType::Float64
        | ColumnType::Decimal { .. }
        | ColumnType::Text
        | ColumnType::JsonText
        | ColumnType::Bytes
        | ColumnType::UuidText
        | ColumnType::Date
        | ColumnType::TimeText
        | ColumnType::Timestamp
        | ColumnType::TimestampTz
        | ColumnType::NumericText
        | ColumnType::NumericDouble
        | ColumnType::Money { .. }
        | ColumnType::Interval
        | ColumnType::Point
        | ColumnType::Geometry(_)
        | ColumnType::SourceText
        | ColumnType::Map => ty.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wide(precision: u8) -> ColumnType {
        ColumnType::Decimal { precision, scale: 2 }
    }

    #[test]
    fn what_some_reader_refuses_is_text_wherever_it_stands() {
        use ColumnType::{
            Date, Json, JsonText, List, Multirange, NumericText, Range, Struct, Time, TimeText,
        };
        use ColumnType::{Uuid, UuidText};
        let part = |ty| Struct(vec![Part { name: "p".into(), ty }]);
        let holders: [&dyn Fn(ColumnType) -> ColumnType; 6] = [
            &|ty| ty,
            &|ty| List(Box::new(ty)),
            &|ty| Range(Box::new(ty)),
            &|ty| Multirange(Box::new(ty)),
            &part,
            &|ty| List(Box::new(part(List(Box::new(ty))))),
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
            for ty in [Date, wide(38), ColumnType::UInt32, ColumnType::Map, ColumnType::Interval] {
                assert_eq!(portable(&hold(ty.clone())), (hold(ty), vec![]));
            }
        }
    }

    #[test]
    fn vectors_are_lists_of_any_length() {
        let vector = |length| ColumnType::Vector { length, half: true };
        assert_eq!(portable(&vector(Some(3))), (vector(None), vec![]));
    }

    #[test]
    fn each_kind_is_told_once() {
        let parts =
            [ColumnType::Uuid, ColumnType::Time, ColumnType::Uuid].map(|ty| Part { name: String::new(), ty });
        assert_eq!(portable(&ColumnType::Struct(parts.into())).1, ["UUID", "time"]);
    }
}
