//! How a column becomes one of files, with the options of a request.

use super::reading::{Fetch, Reading};
use super::types::{PgType, map, map_bytes, nested};
use crate::message::request::OnUnfit;
use crate::message::setting::{ArrayMode, FileTypes, InfinityMode, NumericMode};
use crate::relation::{Column, MappingOptions, SurveyColumn, UnfitColumn};
use crate::source::decode::{Form, MAX_DIGITS, make_portable};

/// Maps a column again, with options.
pub(super) fn map_column(column: &SurveyColumn, options: &MappingOptions<'_>) -> Column {
    let mut mapped = column.column.clone();
    let unfit: Vec<&UnfitColumn> = options.as_text.iter().filter(|u| u.column == mapped.name).collect();
    let facts = column.facts.get::<PgType>();
    let dimensions = match facts {
        Some(facts) if options.arrays == ArrayMode::Nested => dimensions(facts, &unfit, options.on_unfit),
        _ => None,
    };
    if let Some(first) = unfit.first()
        && dimensions.is_none()
    {
        Reading { fetch: Fetch::AsText, form: Form::Text, infinity: None }.put_into(&mut mapped);
        mapped.note = Some(format!("text, because {}", first.because()));
        return mapped;
    }
    let Some(facts) = facts else { return mapped };
    let as_bytes = options.as_bytes.contains(&mapped.name);
    if let Some((form, fetch)) = as_bytes.then(|| map_bytes(facts)).flatten() {
        Reading { fetch, form, infinity: None }.put_into(&mut mapped);
        mapped.note = Some("text as bytes, as asked for".into());
        return mapped;
    }
    let as_it_is = map(facts, None);
    let (mut form, mut fetch) = as_it_is.clone();
    if let Some(mode) = options.numeric {
        let asked = map(facts, Some(mode));
        let is_changed = asked != as_it_is;
        if options.types == FileTypes::Portable
            && matches!(mode, NumericMode::Decimal(digits, _) if digits > MAX_DIGITS)
        {
            let note = || format!("numeric as text instead of {mode}, since types are portable");
            mapped.note = is_changed.then(note);
        } else if is_changed {
            mapped.note = Some(format!("numeric as {mode}, as asked for"));
            (form, fetch) = asked;
        }
    }
    if let Some((dimensions, guessed)) = dimensions {
        (form, fetch) = nested((form, fetch), dimensions, guessed);
    }
    if let Form::Nested { dimensions: dimensions @ 2.., .. } = form {
        let note = format!("arrays of {dimensions} dimensions as lists of lists, as asked for");
        mapped.note = mapped.note.into_iter().chain([note]).reduce(|all, note| format!("{all}; {note}"));
    }
    let mut infinity = options.infinity;
    if options.types == FileTypes::Portable {
        let (made, note) = make_portable(&form, &mut infinity);
        form = made;
        mapped.note = mapped.note.into_iter().chain(note).reduce(|all, note| format!("{all}; {note}"));
    }
    let infinity = form.column_type().may_be_infinite().then_some(infinity);
    mapped.nullable |= infinity == Some(InfinityMode::Null);
    Reading { fetch, form, infinity }.put_into(&mut mapped);
    mapped
}

/// How many dimensions the arrays of a column have, and whether that is a guess: those that values had which did
/// not fit, else those that the column declares, which bind no value. `None` if lists of lists cannot hold the
/// values, so that the column becomes text.
fn dimensions(facts: &PgType, unfit: &[&UnfitColumn], on_unfit: OnUnfit) -> Option<(u8, bool)> {
    let (Form::Nested { .. }, _) = nested(map(facts, None), 2, false) else { return None };
    let declared = facts.dimensions.max(1);
    let Some((first, others)) = unfit.split_first() else { return Some((declared, true)) };
    match first.dimensions.filter(|_| others.iter().all(|other| other.dimensions == first.dimensions)) {
        Some(dimensions) => Some((dimensions, true)),
        None if on_unfit == OnUnfit::Text => None,
        // The arrays differ: those that are not as declared do not fit.
        None => Some((declared, false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relation::{ColumnType, Facts};
    use crate::source::postgres::columns::tests::{column, reading};

    #[test]
    fn options_change_the_mapping_and_say_so() {
        let numeric = column(1700, -1, "numeric");
        let as_is = map_column(&numeric, &MappingOptions::default());
        assert_eq!(as_is, numeric.column);
        let options = MappingOptions { numeric: Some(NumericMode::Decimal(38, 9)), ..Default::default() };
        let asked = map_column(&numeric, &options);
        assert_eq!(asked.ty, ColumnType::Decimal { precision: 38, scale: 9 });
        assert_eq!(asked.note.as_deref(), Some("numeric as decimal(38,9), as asked for"));
        let unfit = UnfitColumn {
            column: "c".into(),
            reason: "NaN has no decimal form".into(),
            dimensions: None,
            row: None,
        };
        let text = map_column(&numeric, &MappingOptions { as_text: vec![unfit], ..Default::default() });
        assert_eq!((&text.ty, reading(&text).fetch), (&ColumnType::Text, Fetch::AsText));
        assert!(text.note.is_some_and(|n| n.contains("NaN")));
    }

    #[test]
    fn arrays_become_lists_of_lists_if_all_have_as_many_dimensions() {
        let list = |ty| ColumnType::List(Box::new(ty));
        let mut dates = column(1182, -1, "date[]");
        let unfit = |reason: &str, dimensions| UnfitColumn {
            column: "c".into(),
            reason: reason.into(),
            dimensions,
            row: None,
        };
        let two = || unfit("an array has more than one dimension", Some(2));
        let mapped = |column: &SurveyColumn, arrays, as_text| {
            map_column(column, &MappingOptions { arrays, as_text, ..Default::default() })
        };
        let nested = |column: &SurveyColumn, as_text| mapped(column, ArrayMode::Nested, as_text);
        assert_eq!(nested(&dates, vec![]).ty, list(ColumnType::Date));
        let found = nested(&dates, vec![two()]);
        assert_eq!(found.ty, list(list(ColumnType::Date)));
        assert!(found.note.is_some_and(|n| n.contains("2 dimensions")));
        assert_eq!(reading(&nested(&dates, vec![two()])).infinity, Some(InfinityMode::Max));
        let differ = nested(&dates, vec![two(), unfit("an array has another number", Some(3))]);
        assert_eq!((&differ.ty, differ.note.is_some()), (&ColumnType::Text, true));
        let shifted = nested(&dates, vec![unfit("an array does not begin at index 1", None)]);
        assert_eq!(shifted.ty, ColumnType::Text);
        assert_eq!(mapped(&dates, ArrayMode::Text, vec![two()]).ty, ColumnType::Text);
        let options = MappingOptions {
            arrays: ArrayMode::Nested,
            on_unfit: OnUnfit::Null,
            as_text: vec![two(), unfit("an array has another number", Some(1))],
            ..Default::default()
        };
        let settled = map_column(&dates, &options);
        assert_eq!(
            settled.ty,
            list(ColumnType::Date),
            "as declared, where values differ and may become NULL"
        );
        assert!(matches!(reading(&settled).form, Form::Nested { dimensions: 1, guessed: false, .. }));
        let declared = PgType { dimensions: 3, ..dates.facts.get::<PgType>().expect("known").clone() };
        dates.facts = Facts::of(declared);
        assert_eq!(nested(&dates, vec![]).ty, list(list(list(ColumnType::Date))));
        assert_eq!(
            nested(&dates, vec![two()]).ty,
            list(list(ColumnType::Date)),
            "values count, not what is declared"
        );
        assert_eq!(mapped(&dates, ArrayMode::Text, vec![]).ty, list(ColumnType::Date));
        assert_eq!(nested(&column(25, -1, "text"), vec![]).ty, ColumnType::Text);
    }

    #[test]
    fn infinity_as_null_makes_a_column_nullable() {
        for (ty, nullable) in [(1082, true), (1182, true), (25, false)] {
            let options = MappingOptions { infinity: InfinityMode::Null, ..Default::default() };
            let mapped = map_column(&column(ty, -1, "?"), &options);
            assert_eq!(
                (mapped.nullable, reading(&mapped).infinity == Some(InfinityMode::Null)),
                (nullable, nullable)
            );
        }
        let options = MappingOptions { infinity: InfinityMode::Text, ..Default::default() };
        assert!(!map_column(&column(1082, -1, "date"), &options).nullable);
    }

    #[test]
    fn portable_types_override_what_is_not_and_say_so() {
        let portable = MappingOptions { types: FileTypes::Portable, ..Default::default() };
        let date = map_column(&column(1082, -1, "date"), &portable);
        assert_eq!((reading(&date).infinity, date.nullable), (Some(InfinityMode::Null), true));
        assert_eq!(date.note.as_deref(), Some("infinite values are NULL, since types are portable"));
        let text = MappingOptions { infinity: InfinityMode::Text, ..portable.clone() };
        let kept = map_column(&column(1082, -1, "date"), &text);
        assert_eq!(
            (reading(&kept).infinity, kept.nullable, kept.note),
            (Some(InfinityMode::Text), false, None)
        );
        let numeric = column(1700, -1, "numeric");
        let asked = |mode| map_column(&numeric, &MappingOptions { numeric: Some(mode), ..portable.clone() });
        let narrow = asked(NumericMode::Decimal(38, 9));
        assert_eq!(narrow.ty, ColumnType::Decimal { precision: 38, scale: 9 });
        assert_eq!(narrow.note.as_deref(), Some("numeric as decimal(38,9), as asked for"));
        let wide = asked(NumericMode::Decimal(39, 9));
        assert_eq!((&wide.ty, reading(&wide).fetch), (&ColumnType::Text, Fetch::AsText));
        let note = "numeric as text instead of decimal(39,9), since types are portable";
        assert_eq!(wide.note.as_deref(), Some(note));
        assert_eq!(asked(NumericMode::Double).ty, ColumnType::Float64);
        let plain = column(23, -1, "integer");
        assert_eq!(map_column(&plain, &portable), plain.column);
    }

    #[test]
    fn texts_are_bytes_where_asked_for() {
        let as_bytes = ["c".to_owned()];
        let options = MappingOptions { as_bytes: &as_bytes, ..Default::default() };
        let mapped = map_column(&column(25, -1, "text"), &options);
        assert_eq!((&mapped.ty, reading(&mapped).fetch), (&ColumnType::Bytes, Fetch::AsBytes));
        assert!(mapped.note.is_some());
        let number = column(23, -1, "integer");
        assert_eq!(map_column(&number, &options), number.column);
    }
}
