//! Compares numerics with sums of their digits, digit by digit.

use arrow::array::AsArray;
use proptest::prelude::*;

use super::*;

/// The binary form of a text without a decimal point, in so many words. Multiplies by ten digit by digit.
fn encode(text: &str, words: usize) -> Vec<u8> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let mut bytes = vec![0_u8; 8 * words];
    for digit in digits.bytes() {
        let mut carry = u32::from(digit - b'0');
        for byte in bytes.iter_mut().rev() {
            let value = u32::from(*byte) * 10 + carry;
            (*byte, carry) = (value as u8, value >> 8);
        }
        assert_eq!(carry, 0, "{text} does not fit into {words} words");
    }
    if negative {
        let mut carry = true;
        for byte in bytes.iter_mut().rev() {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    }
    bytes
}

/// Words of a numeric in the server's stream.
fn words(precision: usize) -> usize {
    precision / 19 + 1
}

fn built(mut builder: Box<dyn Builder>, fields: &[&[u8]]) -> (ArrayRef, Faults) {
    let (mut raw, mut starts) = (Vec::new(), Vec::new());
    for field in fields {
        starts.push(raw.len() as u32);
        raw.extend((field.len() as u32).to_be_bytes());
        raw.extend_from_slice(field);
    }
    builder.append(Fields { raw: &raw, starts: &starts });
    builder.finish().expect("an array")
}

fn texted(field: &[u8], scale: u16) -> String {
    let (array, faults) = built(text(scale), &[field]);
    assert_eq!(faults, Faults::default());
    array.as_string::<i32>().value(0).to_owned()
}

/// The decimal as Arrow prints it.
fn printed(field: &[u8], precision: u8, scale: i8) -> Result<String, Faults> {
    let (array, faults) = built(decimal(precision, scale), &[field]);
    if faults != Faults::default() {
        return Err(faults);
    }
    Ok(arrow::util::display::array_value_to_string(&array, 0).expect("a decimal"))
}

#[test]
fn decimals_are_exact_to_the_last_digit() {
    assert_eq!(printed(&0_i64.to_be_bytes(), 15, 2), Ok("0.00".into()));
    assert_eq!(printed(&(-5_i64).to_be_bytes(), 15, 2), Ok("-0.05".into()));
    for precision in [1, 18, 19, 37, 38, 39, 56, 57, 75, 76] {
        for sign in ["", "-"] {
            let all = format!("{sign}{}", "9".repeat(precision));
            let field = encode(&all, words(precision));
            assert_eq!(printed(&field, precision as u8, 0), Ok(all.clone()), "{precision}");
            assert_eq!(texted(&field, 0), all);
            // One more digit.
            let beyond = encode(&format!("{sign}1{}", "0".repeat(precision)), words(precision + 1));
            let faults = printed(&beyond, precision as u8, 0).expect_err("too large");
            assert!(faults.unfit.is_some() && faults.foreign.is_none());
        }
    }
}

#[test]
fn the_number_of_words_does_not_matter() {
    for text in ["0", "-1", "1", "-170141183460469231731687303715884105728"] {
        for words in 3..7 {
            let field = encode(text, words);
            assert_eq!(texted(&field, 0), text);
            assert_eq!(printed(&field, 76, 0), Ok(text.into()));
        }
    }
    let faults = printed(&encode("-170141183460469231731687303715884105728", 3), 38, 0);
    assert!(faults.expect_err("39 digits").unfit.is_some());
    // The low words alone would be a small number.
    for high in [1_u64, 0x7fff_ffff_ffff_ffff, 0xffff_ffff_ffff_fffe] {
        let field = [&high.to_be_bytes()[..], &[0; 16]].concat();
        assert!(printed(&field, 38, 0).expect_err("too large").unfit.is_some());
    }
    let field = [&[0; 8][..], &[0xff; 16]].concat();
    assert!(printed(&field, 38, 0).expect_err("a positive number").unfit.is_some());
}

#[test]
fn texts_have_all_decimal_places_and_one_digit_before_them() {
    for (value, scale, expected) in [
        ("0", 0, "0"),
        ("0", 3, "0.000"),
        ("7", 3, "0.007"),
        ("-7", 1, "-0.7"),
        ("-70", 1, "-7.0"),
        ("1000000000000000000", 18, "1.000000000000000000"),
        ("999999999999999999", 18, "0.999999999999999999"),
        ("1000000000000000000000", 0, "1000000000000000000000"),
    ] {
        assert_eq!(texted(&encode(value, 2), scale), expected);
    }
    let long = "123456789".repeat(113);
    assert_eq!(texted(&encode(&long, words(1024)), 1000), format!("{}.{}", &long[..17], &long[17..]));
}

#[test]
fn what_is_no_numeric_is_foreign() {
    for field in [&[][..], &[1; 7], &[1; 9], &[1; 1032]] {
        for builder in [decimal(18, 2), decimal(38, 2), decimal(60, 2), text(2)] {
            let (array, faults) = built(builder, &[field]);
            assert!(faults.foreign.is_some() && array.is_null(0), "{} bytes", field.len());
        }
    }
}

proptest! {
    #[test]
    fn values_are_those_of_their_digits(
        digits in "[1-9][0-9]{0,74}|0",
        negative: bool,
        scale in 0_u16..76,
        more in 0_usize..3,
    ) {
        let negative = negative && digits != "0";
        let value = if negative { format!("-{digits}") } else { digits.clone() };
        let padded = format!("{}{digits}", "0".repeat((scale as usize + 1).saturating_sub(digits.len())));
        let (whole, fraction) = padded.split_at(padded.len() - scale as usize);
        let point = if scale > 0 { "." } else { "" };
        let expected = format!("{}{whole}{point}{fraction}", if negative { "-" } else { "" });
        let field = encode(&value, words(digits.len()) + more);
        prop_assert_eq!(texted(&field, scale), expected.clone());
        prop_assert_eq!(printed(&field, 76, scale as i8), Ok(expected.clone()));
        if digits.len() <= 38 && scale <= 38 {
            prop_assert_eq!(printed(&field, 38, scale as i8), Ok(expected));
        }
    }

    #[test]
    fn no_bytes_cause_a_panic(field in proptest::collection::vec(any::<u8>(), 0..80), precision in 1_u8..77) {
        let _ = built(decimal(precision, 0), &[&field]);
        let _ = built(text(u16::from(precision) * 20), &[&field]);
    }
}
