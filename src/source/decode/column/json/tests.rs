//! Reads what the server prints, and what it never would.

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{Date32Type, Int64Type, TimestampMicrosecondType, i256};
use arrow::util::display::array_value_to_string;
use proptest::prelude::*;

use super::super::{Faults, Fields, FormAttribute, Room};
use super::leaf::{clock, date, octets, timestamp, unscaled};
use super::*;

fn list_of(form: Form) -> Form {
    Form::ListFromJson(Box::new(form))
}

fn row_of(attributes: &[(&str, Form)]) -> Form {
    let attribute = |(name, form): &(&str, Form)| FormAttribute { name: (*name).into(), form: form.clone() };
    Form::StructFromJson(attributes.iter().map(attribute).collect())
}

fn built(form: &Form, values: &[Option<&str>]) -> (ArrayRef, Faults) {
    let (mut raw, mut starts) = (Vec::new(), Vec::new());
    for value in values {
        starts.push(raw.len() as u32);
        match value {
            Some(text) => {
                raw.extend((text.len() as i32).to_be_bytes());
                raw.extend_from_slice(text.as_bytes());
            }
            None => raw.extend((-1_i32).to_be_bytes()),
        }
    }
    let mut builder = form.builder(None, &Room::default());
    builder.append(Fields { raw: &raw, starts: &starts });
    builder.finish().expect("an array")
}

/// Each value as Arrow prints it.
fn shown(form: &Form, values: &[Option<&str>]) -> Vec<String> {
    let (array, faults) = built(form, values);
    assert_eq!(faults, Faults::default(), "{values:?}");
    (0..array.len())
        .map(|row| {
            if array.is_null(row) {
                "NULL".into()
            } else {
                array_value_to_string(&array, row).expect("printable")
            }
        })
        .collect()
}

fn is_unfit(form: &Form, value: &str) -> bool {
    let (array, faults) = built(form, &[Some("null"), Some(value)]);
    faults.unfit.is_some() && array.is_null(1)
}

#[test]
fn lists_are_those_that_the_server_prints() {
    assert_eq!(
        shown(
            &list_of(Form::Int64),
            &[Some("[1,2,3]"), None, Some("[]"), Some("[-1, null ,9223372036854775807]")]
        ),
        ["[1, 2, 3]", "NULL", "[]", "[-1, , 9223372036854775807]"]
    );
    assert_eq!(shown(&list_of(Form::Bool), &[Some("[true,false,null]")]), ["[true, false, ]"]);
    assert_eq!(
        shown(&list_of(Form::Text), &[Some(r#"["","a\"b","\\","ä\u00e4\ud83d\ude00\n",null,1.50]"#)]),
        ["[, a\"b, \\, ää😀\n, , 1.50]"]
    );
    assert_eq!(
        shown(&list_of(Form::JulianDate), &[Some(r#"["2001-12-01","0001-01-01",null]"#)]),
        ["[2001-12-01, 0001-01-01, ]"]
    );
    let numeric = Form::Unscaled { precision: 12, scale: 3 };
    assert_eq!(shown(&list_of(numeric), &[Some(r#"["1.5","-0.001",7]"#)]), ["[1.500, -0.001, 7.000]"]);
    assert_eq!(
        shown(&list_of(Form::UnscaledText { scale: 3 }), &[Some(r#"["1.500",2.000]"#)]),
        ["[1.500, 2.000]"]
    );
    let uuid = "00010203-0405-0607-0809-0a0b0c0d0e0f";
    assert_eq!(shown(&list_of(Form::UuidText), &[Some(&format!("[\"{uuid}\"]"))]), [format!("[{uuid}]")]);
    assert_eq!(shown(&list_of(Form::TimeText), &[Some(r#"["01:02:03.040"]"#)]), ["[01:02:03.04]"]);
    assert_eq!(shown(&list_of(Form::Bytes), &[Some(r#"["a\\\\b\\000\\377"]"#)]), ["[615c6200ff]"]);
}

#[test]
fn lists_and_rows_nest() {
    let form = list_of(list_of(Form::Int64));
    assert_eq!(shown(&form, &[Some("[[1,2],[],null,[3]]"), None]), ["[[1, 2], [], , [3]]", "NULL"]);
    let form = row_of(&[("name", Form::Text), ("age", Form::Int64), ("c", list_of(Form::Int64))]);
    let values = [
        Some(r#"{"name":"Amy","age":25,"c":[1,2,3]}"#),
        None,
        Some(r#"{ "name" : null, "age":1,"c":null }"#),
    ];
    assert_eq!(
        shown(&form, &values),
        ["{name: Amy, age: 25, c: [1, 2, 3]}", "NULL", "{name: , age: 1, c: }"]
    );
    let form = list_of(row_of(&[("f0", Form::Int64), ("f0", Form::Text)]));
    assert_eq!(shown(&form, &[Some(r#"[{"f0":1,"f0":"}]"},null]"#)]), ["[{f0: 1, f0: }]}, ]"]);
    assert_eq!(shown(&row_of(&[]), &[Some("{}"), None]), ["{}", "NULL"]);
}

#[test]
fn what_cannot_be_read_exactly_does_not_fit() {
    let ints = list_of(Form::Int64);
    for value in [
        "",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1]x",
        "{}",
        "1",
        "[1.5]",
        "[\"1\"]",
        "[true]",
        "[9223372036854775808]",
        "[[1]]",
        "[1}",
        "[\"",
        "[\"\\",
    ] {
        assert!(is_unfit(&ints, value), "{value}");
    }
    let texts = list_of(Form::Text);
    for value in
        [r#"["\x"]"#, r#"["\u12"]"#, r#"["\ud800"]"#, r#"["\ud800\u0041"]"#, r#"["\udc00"]"#, r#"["a"b]"#]
    {
        assert!(is_unfit(&texts, value), "{value}");
    }
    let row = row_of(&[("a", Form::Int64), ("b", Form::Int64)]);
    for value in [
        "{}",
        r#"{"a":1}"#,
        r#"{"b":1,"a":1}"#,
        r#"{"a":1,"b":1,"c":1}"#,
        r#"{"a":1,"b":"x"}"#,
        r#"{"a" 1,"b":2}"#,
        r#"{a:1,"b":2}"#,
        "[1,2]",
    ] {
        assert!(is_unfit(&row, value), "{value}");
    }
    let numeric = list_of(Form::Unscaled { precision: 4, scale: 2 });
    for value in ["[0.001]", "[1e2]", "[\"\"]", "[\".\"]", "[\"NaN\"]", "[-]"] {
        assert!(is_unfit(&numeric, value), "{value}");
    }
    let (_, faults) = built(&numeric, &[Some("[100]")]);
    assert!(faults.unfit.is_some(), "its element is beyond the precision");
    assert!(is_unfit(&list_of(Form::Int16), "[1]"), "a form that JSON does not have");
    // The next value is read again.
    let (array, faults) = built(&ints, &[Some("[1,x"), Some("[2]")]);
    assert!(faults.unfit.is_some() && array.is_null(0));
    assert_eq!(array.as_list::<i32>().value(1).as_primitive::<Int64Type>().values(), &[2]);
}

#[test]
fn deep_nesting_needs_no_stack() {
    let deep = format!("[{}{}]", "[".repeat(1 << 20), "]".repeat(1 << 20));
    assert_eq!(shown(&list_of(Form::Text), &[Some(&deep)])[0].len(), deep.len());
    assert!(is_unfit(&list_of(Form::Text), &"[".repeat(1 << 20)));
}

#[test]
fn elements_are_passed_on_in_pieces() {
    let wide = format!("[{}]", vec!["\"x\""; 100_000].join(","));
    let (array, faults) =
        built(&list_of(Form::Text), &[Some(&wide), Some("[]"), Some(&wide), None, Some("[\"y\"]")]);
    assert_eq!(faults, Faults::default());
    let list = array.as_list::<i32>();
    let lengths: Vec<_> = (0..5).map(|row| list.value(row).len()).collect();
    assert_eq!(lengths, [100_000, 0, 100_000, 0, 1]);
    assert_eq!(list.value(4).as_string::<i32>().value(0), "y");
}

#[test]
fn days_are_those_of_the_calendar() {
    assert_eq!(date("2000-01-01"), Some(2_451_545));
    assert_eq!(date("4714-11-24 BC"), Some(0));
    assert_eq!(date("0001-12-31 BC"), Some(1_721_425));
    // 1 BC is a leap year.
    assert_eq!(date("0001-02-29 BC").map(|day| day + 1), date("0001-03-01 BC"));
    assert_eq!(date("5881580-07-11"), Some(2_440_588 + i64::from(i32::MAX)));
    for wrong in [
        "",
        "2001-1-1",
        "2001-13-01",
        "2001-00-01",
        "2001-02-29",
        "1900-02-29",
        "2001-04-31",
        "2001-01-00",
        "2001-01",
        "2001-01-01 AD",
        "-2001-01-01",
        "infinity",
        "99999999999999999999-01-01",
    ] {
        assert_eq!(date(wrong), None, "{wrong}");
    }
}

#[test]
fn moments_are_those_of_their_zone() {
    assert_eq!(timestamp("2000-01-01 00:00:00", false), Some(0));
    assert_eq!(timestamp("1999-12-31 19:00:00.5-05", true), Some(500_000));
    assert_eq!(timestamp("2000-01-01 05:30:00+05:30", true), Some(0));
    assert_eq!(timestamp("2000-01-01 00:00:00-00:00:01", true), Some(1_000_000));
    assert_eq!(timestamp("infinity", true), Some(i64::MAX));
    assert_eq!(timestamp("-infinity", false), Some(-i64::MAX));
    let before = timestamp("0044-03-15 12:00:00+00 BC", true).expect("a moment");
    assert_eq!(before, (date("0044-03-15 BC").expect("a day") - 2_451_545) * 86_400_000_000 + 43_200_000_000);
    for wrong in [
        "2000-01-01",
        "2000-01-01 00:00",
        "2000-01-01 00:00:00+00",
        "2000-01-01T00:00:00",
        "400000-01-01 00:00:00",
    ] {
        assert_eq!(timestamp(wrong, false), None, "{wrong}");
    }
    assert_eq!(timestamp("2000-01-01 00:00:00", true), None);
    assert_eq!(clock("24:00:00"), Some(86_400_000_000));
    for wrong in ["24:00:01", "1:00:00", "00:60:00", "00:00:61", "00:00:00.1234567", "00:00:00.", "00:00"] {
        assert_eq!(clock(wrong), None, "{wrong}");
    }
}

#[test]
fn bytes_are_those_behind_the_escapes() {
    let read = |text: &[u8]| {
        let mut out = Vec::new();
        octets(text, &mut out).map(|()| out)
    };
    assert_eq!(read(b"a\\\\\\001\\377z"), Some(b"a\\\x01\xffz".to_vec()));
    for wrong in [&b"\\"[..], b"\\1", b"\\12", b"\\128", b"\\400", b"\\x41"] {
        assert_eq!(read(wrong), None, "{wrong:?}");
    }
}

#[test]
fn floats_are_not_exact_and_others_are() {
    for form in [Form::Int64, Form::Text, Form::JulianDate, list_of(Form::Bool), row_of(&[("a", Form::Uuid)])]
    {
        assert!(form.is_exact_in_json(), "{form:?}");
    }
    for form in [
        Form::Float64,
        Form::Int16,
        Form::Microseconds,
        list_of(Form::Float64),
        row_of(&[("a", Form::Float64)]),
    ] {
        assert!(!form.is_exact_in_json(), "{form:?}");
    }
}

/// A text in quotes, with escapes where `escapes` says so.
fn quoted(text: &str, escapes: bool) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if escapes || c < ' ' => {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out += &format!("\\u{unit:04x}"))
            }
            c => out.push(c),
        }
    }
    out + "\""
}

proptest! {
    #[test]
    fn texts_come_back(texts in proptest::collection::vec(proptest::option::of(".*"), 0..8), escapes: bool) {
        let json: Vec<_> = texts.iter().map(|text| text.as_ref().map_or("null".into(), |text| quoted(text, escapes))).collect();
        let (array, faults) = built(&list_of(Form::Text), &[Some(&format!("[{}]", json.join(",")))]);
        prop_assert_eq!(faults, Faults::default());
        let elements = array.as_list::<i32>().value(0);
        let found: Vec<_> = elements.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect();
        prop_assert_eq!(found, texts);
    }

    /// Against another calendar.
    #[test]
    fn dates_and_moments_come_back(year in -4712_i16..9999, day in 1_i16..366, micros in 0..86_400_000_000_i64) {
        let civil = jiff::civil::Date::new(year, 1, 1).expect("a year").saturating_add(jiff::Span::new().days(day - 1));
        let epoch = jiff::civil::date(1970, 1, 1);
        let days = civil.since((jiff::Unit::Day, epoch)).expect("near").get_days();
        let (shown, era) = if civil.year() > 0 { (civil.year(), "") } else { (1 - civil.year(), " BC") };
        let text = format!("{shown:04}-{:02}-{:02}", civil.month(), civil.day());
        let form = list_of(Form::JulianDate);
        let (array, faults) = built(&form, &[Some(&format!("[\"{text}{era}\"]"))]);
        prop_assert_eq!(faults, Faults::default());
        let element = array.as_list::<i32>().value(0);
        prop_assert_eq!(element.as_primitive::<Date32Type>().value(0), days);
        let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
        let clock = format!("{:02}:{:02}:{:02}.{fraction:06}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let (array, faults) = built(&list_of(Form::Timestamp), &[Some(&format!("[\"{text} {clock}{era}\"]"))]);
        prop_assert_eq!(faults, Faults::default());
        let element = array.as_list::<i32>().value(0);
        let found = element.as_primitive::<TimestampMicrosecondType>().value(0);
        prop_assert_eq!(found, i64::from(days) * 86_400_000_000 + micros);
    }

    #[test]
    fn numerics_are_their_digits(value: i128, scale in 0_usize..20) {
        let digits = format!("{:0>1$}", value.unsigned_abs(), scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let sign = if value < 0 { "-" } else { "" };
        let text = if scale > 0 { format!("{sign}{whole}.{fraction}") } else { format!("{sign}{whole}") };
        prop_assert_eq!(unscaled(&text, scale as i8), Ok(i256::from_i128(value)));
    }

    #[test]
    fn no_text_causes_a_panic(text in r#"[\[\]{},:"\\ntrue0-9.ud]{0,40}"#) {
        for form in [list_of(list_of(Form::Text)), list_of(Form::Bytes), row_of(&[("t", list_of(Form::Int64))])] {
            let _ = built(&form, &[Some(&text), Some(&format!("[{text}]"))]);
        }
        let _ = (date(&text), clock(&text), timestamp(&text, true), unscaled(&text, 3));
    }
}
