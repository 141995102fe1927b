//! Compares numerics with a text conversion of our own that does not use the base 10,000.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use arrow::array::Array;

use super::super::Stored;
use super::super::decimal::decimal;
use super::super::stored_numeric::{numeric_is_sound, send_numeric};
use super::*;

/// The binary form of `text`, built digit by digit.
fn encode(text: &str) -> Vec<u8> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |t| (true, t));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let shown = fraction.len() as u16;
    let whole = format!("{}{whole}", "0".repeat((4 - whole.len() % 4) % 4));
    let fraction = format!("{fraction}{}", "0".repeat((4 - fraction.len() % 4) % 4));
    let all = format!("{whole}{fraction}");
    let mut digits: Vec<u16> =
        all.as_bytes().chunks(4).map(|c| std::str::from_utf8(c).unwrap().parse().unwrap()).collect();
    let mut weight = (whole.len() / 4) as i16 - 1;
    while digits.first() == Some(&0) {
        digits.remove(0);
        weight -= 1;
    }
    while digits.last() == Some(&0) {
        digits.pop();
    }
    if digits.is_empty() {
        weight = 0;
    }
    let negative = negative && !digits.is_empty();
    let mut out = Vec::new();
    out.extend((digits.len() as u16).to_be_bytes());
    out.extend(weight.to_be_bytes());
    out.extend((if negative { 0x4000_u16 } else { 0 }).to_be_bytes());
    out.extend(shown.to_be_bytes());
    digits.iter().for_each(|d| out.extend(d.to_be_bytes()));
    out
}

fn special(sign: u16) -> Vec<u8> {
    let mut out = vec![0; 4];
    out.extend(sign.to_be_bytes());
    out.extend([0; 2]);
    out
}

fn to_i128(text: &str, precision: usize, scale: i32) -> Result<i128, Misfit> {
    Numeric::parse(&encode(text))?.to_i128(precision, scale)
}

fn powers(precision: usize) -> Vec<i256> {
    std::iter::successors(Some(i256::ONE), |p| p.checked_mul(i256::from_i128(10)))
        .take(precision + 1)
        .collect()
}

#[test]
fn decimals_are_exact_to_the_last_digit() {
    assert_eq!(to_i128("0", 1, 0), Ok(0));
    assert_eq!(to_i128("0.00", 12, 2), Ok(0));
    assert_eq!(to_i128("12345.67", 15, 2), Ok(1_234_567));
    assert_eq!(to_i128("-0.05", 15, 2), Ok(-5));
    assert_eq!(to_i128("0.0001", 38, 38), Ok(10_i128.pow(34)));
    let nines = "9".repeat(38);
    assert_eq!(to_i128(&nines, 38, 0), Ok(10_i128.pow(38) - 1));
    assert_eq!(to_i128("12300", 7, 0), Ok(12_300));
    let wide = "-".to_owned() + &"9".repeat(76);
    let expected = i256::from_string(&wide).unwrap();
    assert_eq!(Numeric::parse(&encode(&wide)).unwrap().to_i256(&powers(76), 0), Ok(expected));
}

#[test]
fn the_short_way_is_taken_for_money() {
    for (text, value) in
        [("0.00", 0), ("901.00", 90_100), ("12345.67", 1_234_567), ("-104949.50", -10_494_950)]
    {
        let field = encode(text);
        let window = [&field[..], &[0xff; 8]].concat();
        assert_eq!(small_decimal(&field, &window, POW10_64[15], 2), Some(value));
    }
}

#[test]
fn what_a_decimal_cannot_hold_is_unfit() {
    assert_eq!(to_i128("1000", 3, 0), Err(TOO_LARGE));
    assert_eq!(to_i128("10", 3, 2), Err(TOO_LARGE));
    assert_eq!(to_i128(&format!("1{}", "0".repeat(300)), 38, 0), Err(TOO_LARGE));
    assert_eq!(to_i128("0.001", 15, 2), Err(TOO_FINE));
    assert_eq!(to_i128("0.00000001", 15, 2), Err(TOO_FINE));
    let read = |field: &[u8]| Numeric::parse(field).and_then(|n| n.to_i128(38, 0));
    assert_eq!(read(&special(0xC000)), Err(NOT_A_NUMBER));
    assert_eq!(read(&special(0xD000)), Err(INFINITE));
    assert_eq!(read(&special(0xF000)), Err(INFINITE));
    let wide = format!("1{}", "0".repeat(76));
    assert_eq!(Numeric::parse(&encode(&wide)).unwrap().to_i256(&powers(76), 0), Err(TOO_LARGE));
}

#[test]
fn what_is_no_numeric_is_foreign() {
    for field in [&b""[..], &[0; 7], &[0, 1, 0, 0, 0, 0, 0, 0], &[0, 0, 0, 0, 0x12, 0, 0, 0]] {
        assert_eq!(Numeric::parse(field).map(|_| ()), Err(FOREIGN));
    }
    let digit = [0, 1, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    assert_eq!(Numeric::parse(&digit).unwrap().to_i128(38, 0), Err(FOREIGN));
    assert_eq!(Numeric::parse(&digit).unwrap().render(&mut String::new()), Err(FOREIGN));
}

#[test]
fn a_decimal_holds_as_many_digits_as_its_precision() {
    for (precision, scale) in [(5, 2), (18, 3), (19, 0), (38, 10), (39, 0), (76, 30)] {
        for sign in ["", "-"] {
            let (whole, fraction) = (precision - scale, scale);
            let (most, point) = ("9".repeat(whole), if fraction == 0 { "" } else { "." });
            let fits = encode(&format!("{sign}{most}{point}{}", "9".repeat(fraction)));
            let next = encode(&format!("{sign}1{}", "0".repeat(whole)));
            for (field, unfit) in [(fits, None), (next, Some("a numeric has more digits than the precision"))]
            {
                let mut builder = decimal(precision as u8, scale as i8);
                let raw = [&(field.len() as i32).to_be_bytes()[..], &field].concat();
                builder.append(Fields { raw: &raw, starts: &[0] });
                let (array, faults) = builder.finish().expect("an array");
                assert_eq!((faults.unfit, array.null_count()), (unfit, usize::from(unfit.is_some())));
            }
        }
    }
}

#[test]
fn special_values_have_the_servers_names() {
    for (sign, name) in [(0xC000, "NaN"), (0xD000, "Infinity"), (0xF000, "-Infinity")] {
        let mut text = String::new();
        Numeric::parse(&special(sign)).unwrap().render(&mut text).unwrap();
        assert_eq!(text, name);
    }
}

/// A numeric as a heap stores it, with a header of one byte. `is_short`: in the short form, if it can.
fn store(field: &[u8], is_short: bool) -> Vec<u8> {
    let word = |at: usize| u16::from_be_bytes([field[at], field[at + 1]]);
    let (weight, sign, scale) = (word(2), word(4), word(6));
    let mut stored = vec![0];
    if is_short && (-64..64).contains(&weight.cast_signed()) && scale < 64 {
        let first = 0x8000 | (sign >> 1) | scale << 7 | weight & 0x7f;
        stored.extend_from_slice(&first.to_le_bytes());
    } else {
        stored.extend_from_slice(&(sign | scale).to_le_bytes());
        stored.extend_from_slice(&weight.to_le_bytes());
    }
    for digit in field[8..].chunks(2) {
        stored.extend_from_slice(&[digit[1], digit[0]]);
    }
    stored[0] = (stored.len() << 1) as u8 | 1;
    stored
}

proptest! {
    #[test]
    fn stored_numerics_become_what_fields_become(
        negative: bool, whole in "0|[1-9][0-9]{0,19}", fraction in "[0-9]{0,12}", is_short: bool,
        precision in 1..=76_u8, scale in 0..=20_i8, after in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let field = encode(&format!("{}{whole}.{fraction}", if negative { "-" } else { "" }));
        let stored = store(&field, is_short);
        prop_assert!(numeric_is_sound(&stored[1..]));
        let mut sent = Vec::new();
        send_numeric(&stored[1..], &mut sent).unwrap();
        prop_assert_eq!(&sent, &field);
        let [mut of_field, mut of_stored] = [(); 2].map(|()| decimal(precision, scale.min(precision as i8)));
        let raw = [&(field.len() as i32).to_be_bytes()[..], &field, &after].concat();
        of_field.append(Fields { raw: &raw, starts: &[0] });
        let raw = [&stored[..], &after].concat();
        of_stored.stored().unwrap().append_stored(Stored { raw: &raw, starts: &[0] });
        let [(a, faults), (b, others)] = [of_field, of_stored].map(|mut builder| builder.finish().unwrap());
        prop_assert_eq!((&a, faults), (&b, others));
    }

    #[test]
    fn decimals_agree_with_their_text(
        negative: bool, whole in "0|[1-9][0-9]{0,19}", fraction in "[0-9]{0,15}", wider in 0..3_i32,
    ) {
        let sign = if negative { "-" } else { "" };
        let point = if fraction.is_empty() { "" } else { "." };
        let text = format!("{sign}{whole}{point}{fraction}");
        let scale = fraction.len() as i32 + wider;
        let expected: i128 =
            format!("{sign}{whole}{fraction}{}", "0".repeat(wider as usize)).parse().unwrap();
        let numeric_bytes = encode(&text);
        let numeric = Numeric::parse(&numeric_bytes).unwrap();
        if expected.unsigned_abs() < POW10_128[38] {
            prop_assert_eq!(numeric.to_i128(38, scale), Ok(expected));
        }
        prop_assert_eq!(numeric.to_i256(&powers(76), scale), Ok(i256::from_i128(expected)));
        let mut rendered = String::new();
        numeric.render(&mut rendered).unwrap();
        let zero = text.chars().all(|c| "-0.".contains(c));
        prop_assert_eq!(rendered.as_str(), if zero { text.trim_start_matches('-') } else { &text });
    }

    #[test]
    fn the_short_way_agrees_with_the_long_one(
        negative: bool, whole in "0|[1-9][0-9]{0,17}", fraction in "[0-9]{0,6}",
        precision in 1..=18_usize, scale in 0..=18_i32, after in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let sign = if negative { "-" } else { "" };
        let field = encode(&format!("{sign}{whole}.{fraction}"));
        let window = [&field[..], &after].concat();
        if let Some(short) = small_decimal(&field, &window, POW10_64[precision], scale) {
            let long = Numeric::parse(&field).unwrap().to_i128(precision, scale);
            prop_assert_eq!(long, Ok(i128::from(short)));
        }
    }

    #[test]
    fn the_short_way_reads_only_sound_numerics(
        field in proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(0x40), any::<u8>()], 0..24), length in 0..24_usize,
    ) {
        let short = &field[..length.min(field.len())];
        if let Some(value) = small_decimal(short, &field, POW10_64[18], 2) {
            prop_assert_eq!(Numeric::parse(short).unwrap().to_i128(18, 2), Ok(i128::from(value)));
        }
    }

    #[test]
    fn garbage_is_never_a_panic(field in proptest::collection::vec(any::<u8>(), 0..40), scale in 0..76_i32) {
        if let Ok(numeric) = Numeric::parse(&field) {
            let _ = numeric.to_i128(38, scale.min(38));
            let _ = numeric.to_i256(&powers(76), scale);
        }
    }
}
