//! Turns single values of JSON into the bytes that a field of their form has.
//!
//! Which text a value of each type has: `deserializer.py: parse_json_element` of `vertica-python`.

use arrow::datatypes::i256;

use super::super::temporal::{DAY_MICROS, EPOCH_JULIAN, LAST_TIME, Y2000_JULIAN};
use super::super::{Form, Misfit};
use super::UNREADABLE;
use super::scan::{Value, unescape};

/// What a value is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    Bool,
    Int64,
    Float64,
    /// The text between quotes. Of all other values, the text as it stands.
    Text,
    Bytes,
    Uuid,
    Date,
    Time,
    Timestamp {
        zoned: bool,
    },
    Decimal {
        scale: i8,
    },
    /// A list or an object, which the builder reads.
    Nested,
    /// A form that JSON does not have.
    None,
}

/// Whether values of this form can be read exactly from JSON.
pub(in super::super) fn is_exact(form: &Form) -> bool {
    match form {
        Form::ListFromJson(element) => is_exact(element),
        Form::StructFromJson(attributes) => attributes.iter().all(|attribute| is_exact(&attribute.form)),
        // The server prints 15 digits of a float.
        form => !matches!(Leaf::of(form), Leaf::None | Leaf::Float64),
    }
}

impl Leaf {
    pub(super) fn of(form: &Form) -> Self {
        match form {
            Form::Bool => Self::Bool,
            Form::Int64 => Self::Int64,
            Form::Float64 => Self::Float64,
            Form::Text | Form::SourceText | Form::JsonText | Form::TimeTz | Form::UnscaledText { .. } => {
                Self::Text
            }
            Form::Bytes => Self::Bytes,
            Form::Uuid | Form::UuidText => Self::Uuid,
            Form::JulianDate => Self::Date,
            Form::Time | Form::TimeText => Self::Time,
            Form::Timestamp => Self::Timestamp { zoned: false },
            Form::TimestampTz => Self::Timestamp { zoned: true },
            Form::Unscaled { scale, .. } => Self::Decimal { scale: *scale },
            Form::ListFromJson(_) | Form::StructFromJson(_) => Self::Nested,
            _ => Self::None,
        }
    }

    /// Appends the bytes of a value that is not NULL.
    pub(super) fn write(self, value: Value<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
        let read = match (self, value) {
            (Self::Text, Value::Text(text)) => unescape(text, out),
            (Self::Text, Value::Word(text) | Value::Nested(text)) | (Self::Nested, Value::Nested(text)) => {
                out.extend_from_slice(text);
                Some(())
            }
            (Self::Bool, Value::Word(word @ (b"true" | b"false"))) => {
                out.push(u8::from(word == b"true"));
                Some(())
            }
            (Self::Bool | Self::Text | Self::Nested | Self::None, _)
            | (_, Value::Null | Value::Nested(_)) => None,
            (_, Value::Word(text)) => self.parse(std::str::from_utf8(text).map_err(|_| UNREADABLE)?, out)?,
            (Self::Int64, Value::Text(_)) => None,
            (Self::Bytes, Value::Text(text)) => {
                let mut plain = Vec::new();
                unescape(text, &mut plain).and_then(|()| octets(&plain, out))
            }
            (_, Value::Text(text)) => {
                let mut plain = Vec::new();
                unescape(text, &mut plain).ok_or(UNREADABLE)?;
                self.parse(std::str::from_utf8(&plain).map_err(|_| UNREADABLE)?, out)?
            }
        };
        read.ok_or(UNREADABLE)
    }

    /// Appends what a plain text means.
    fn parse(self, text: &str, out: &mut Vec<u8>) -> Result<Option<()>, Misfit> {
        let eight = match self {
            Self::Int64 => text.parse::<i64>().ok(),
            Self::Float64 => text.parse().ok().map(|value: f64| value.to_bits() as i64),
            Self::Date => date(text),
            Self::Time => clock(text),
            Self::Timestamp { zoned } => timestamp(text, zoned),
            Self::Uuid => {
                let Ok(value) = uuid::Uuid::try_parse(text) else { return Ok(None) };
                out.extend_from_slice(value.as_bytes());
                return Ok(Some(()));
            }
            Self::Decimal { scale } => {
                out.extend_from_slice(&unscaled(text, scale)?.to_be_bytes());
                return Ok(Some(()));
            }
            Self::Bool | Self::Text | Self::Bytes | Self::Nested | Self::None => None,
        };
        Ok(eight.map(|value| out.extend_from_slice(&value.to_be_bytes())))
    }
}

/// Bytes as the server prints them: a backslash is doubled, and what cannot be printed is a backslash with
/// three octal digits.
pub(super) fn octets(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        if let Some(after) = rest.strip_prefix(b"\\") {
            out.push(b'\\');
            rest = after;
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<3>()?;
        let value =
            digits.iter().try_fold(0, |value, digit| Some(value << 3 | char::from(*digit).to_digit(8)?))?;
        out.push(u8::try_from(value).ok()?);
        rest = after;
    }
    Some(())
}

/// A numeric times `10^scale`.
pub(super) fn unscaled(text: &str, scale: i8) -> Result<i256, Misfit> {
    let scale = usize::try_from(scale).map_err(|_| UNREADABLE)?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let kept = fraction.trim_end_matches('0');
    let is_plain = !(whole.is_empty() && fraction.is_empty())
        && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !is_plain {
        return Err(UNREADABLE);
    }
    if kept.len() > scale {
        return Err(Misfit::Unfit("a numeric has more fractional digits than the scale"));
    }
    let digits = whole.bytes().chain(kept.bytes()).chain(std::iter::repeat_n(b'0', scale - kept.len()));
    let ten = i256::from_i128(10);
    let value = digits
        .map(|digit| i256::from_i128(i128::from(digit - b'0')))
        .try_fold(i256::ZERO, |sum, digit| sum.checked_mul(ten)?.checked_add(digit));
    let value = value.ok_or(Misfit::Unfit("a numeric has more digits than the precision"))?;
    Ok(if negative { -value } else { value })
}

/// The number of so many digits at least.
fn number(text: &str, least: usize) -> Option<i64> {
    let is_number = text.len() >= least && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// The Julian day of `YYYY-MM-DD`, with ` BC` for years before 1.
pub(super) fn date(text: &str) -> Option<i64> {
    let (text, is_before) = text.strip_suffix(" BC").map_or((text, false), |text| (text, true));
    day(text, is_before)
}

fn day(text: &str, is_before: bool) -> Option<i64> {
    let mut parts = text.splitn(3, '-');
    let (year, month, day) =
        (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let year = if is_before { 1 - year } else { year };
    let (leap, long) =
        (year % 4 == 0 && (year % 100 != 0 || year % 400 == 0), matches!(month, 4 | 6 | 9 | 11));
    let days = match month {
        2 => 28 + i64::from(leap),
        1..=12 => 31 - i64::from(long),
        _ => return None,
    };
    // The server's last year has 17 digits, and its days would not overflow here.
    if !(1..=days).contains(&day) || year.abs() > 1 << 54 {
        return None;
    }
    // Years begin in March here, so that the leap day is the last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let days = era * 146_097 + year * 365 + year / 4 - year / 100 + (153 * month + 2) / 5 + day - 1;
    // From 0000-03-01 to 1970-01-01.
    Some(days - 719_468 + EPOCH_JULIAN)
}

/// Microseconds of `HH:MM:SS[.ffffff]`.
pub(super) fn clock(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = whole.splitn(3, ':');
    let (hours, minutes, seconds) =
        (number(parts.next()?, 2)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    if !(1..=6).contains(&fraction.len()) || hours > 24 || minutes > 59 || seconds > 60 {
        return None;
    }
    let fraction = number(&format!("{fraction:0<6}"), 6)?;
    let micros = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + fraction;
    (micros <= LAST_TIME).then_some(micros)
}

/// Microseconds since 2000-01-01 of `YYYY-MM-DD HH:MM:SS[.ffffff][±HH[:MM[:SS]]][ BC]`.
pub(super) fn timestamp(text: &str, zoned: bool) -> Option<i64> {
    match text {
        "infinity" => return Some(i64::MAX),
        "-infinity" => return Some(-i64::MAX),
        _ => {}
    }
    let (text, is_before) = text.strip_suffix(" BC").map_or((text, false), |text| (text, true));
    let (days, time) = text.split_once(' ')?;
    let (time, zone) = match time.find(['+', '-']) {
        Some(at) if zoned => time.split_at(at),
        None if !zoned => (time, "+00"),
        _ => return None,
    };
    let mut parts = zone[1..].splitn(3, ':');
    let hours = number(parts.next()?, 2)?;
    let mut rest = || parts.next().map_or(Some(0), |part| number(part, 2));
    let east = (hours * 60 + rest()?) * 60 + rest()?;
    let east = if zone.starts_with('-') { -east } else { east };
    let days = day(days, is_before)?.checked_sub(Y2000_JULIAN)?;
    days.checked_mul(DAY_MICROS)?.checked_add(clock(time)?)?.checked_sub(east.checked_mul(1_000_000)?)
}
