//! Numerics: turns digits to the base 10,000 into exact decimals.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringBuilder};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, i256};
use arrow::error::ArrowError;

use super::each::each;
use super::fixed::WIDTH;
use super::{Builder, Faults, Fields, Misfit, Room};

pub(super) const FOREIGN: Misfit = Misfit::Foreign("a field is not the binary form of a numeric");
const NOT_A_NUMBER: Misfit = Misfit::Unfit("a numeric is NaN");
const INFINITE: Misfit = Misfit::Unfit("a numeric is infinite");
const TOO_LARGE: Misfit = Misfit::Unfit("a numeric has more digits than the precision");
const TOO_FINE: Misfit = Misfit::Unfit("a numeric has more fractional digits than the scale");
const BEYOND_DOUBLE: Misfit = Misfit::Unfit("a numeric is beyond the range of doubles");

pub(super) const POW10_64: [u64; 20] = {
    let mut table = [1; 20];
    let mut i = 1;
    while i < table.len() {
        table[i] = table[i - 1] * 10;
        i += 1;
    }
    table
};

pub(super) const POW10_128: [u128; 39] = {
    let mut table = [1; 39];
    let mut i = 1;
    while i < table.len() {
        table[i] = table[i - 1] * 10;
        i += 1;
    }
    table
};

/// A numeric in binary form: the sum of `digit × 10000^(weight - i)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numeric<'a> {
    weight: i32,
    sign: Sign,
    /// Digits after the decimal point in the number's text form.
    shown: usize,
    /// Big-endian pairs, each at most 9999.
    digits: &'a [[u8; 2]],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Positive,
    Negative,
    NaN,
    Infinity,
    NegativeInfinity,
}

impl<'a> Numeric<'a> {
    #[inline]
    pub(super) fn parse(field: &'a [u8]) -> Result<Self, Misfit> {
        let Some(([n0, n1, w0, w1, s0, s1, d0, d1], rest)) = field.split_first_chunk::<8>() else {
            return Err(FOREIGN);
        };
        let (digits, odd) = rest.as_chunks::<2>();
        if !odd.is_empty() || digits.len() != usize::from(u16::from_be_bytes([*n0, *n1])) {
            return Err(FOREIGN);
        }
        let sign = match u16::from_be_bytes([*s0, *s1]) {
            0x0000 => Sign::Positive,
            0x4000 => Sign::Negative,
            0xC000 => Sign::NaN,
            0xD000 => Sign::Infinity,
            0xF000 => Sign::NegativeInfinity,
            _ => return Err(FOREIGN),
        };
        let weight = i32::from(i16::from_be_bytes([*w0, *w1]));
        let shown = usize::from(u16::from_be_bytes([*d0, *d1]));
        Ok(Self { weight, sign, shown, digits })
    }

    /// Whether the number is negative. NaN and infinity are errors.
    #[inline]
    fn negative(self) -> Result<bool, Misfit> {
        match self.sign {
            Sign::Positive => Ok(false),
            Sign::Negative => Ok(true),
            Sign::NaN => Err(NOT_A_NUMBER),
            Sign::Infinity | Sign::NegativeInfinity => Err(INFINITE),
        }
    }

    /// The value times `10^scale`, if it is a whole number below `10^precision`.
    #[inline]
    pub(super) fn to_i128(self, precision: usize, scale: i32) -> Result<i128, Misfit> {
        let negative = self.negative()?;
        // The sum is less than 10^(4 × (weight + 1) + scale), and 10^19 fits into 64 bits.
        let magnitude = if 4 * (self.weight + 1) + scale <= 19 {
            let mut sum = 0_u64;
            for (digit, exponent) in self.scaled(scale) {
                let digit = u64::from(digit?);
                sum += match usize::try_from(exponent) {
                    Ok(exponent) => digit * POW10_64[exponent],
                    Err(_) => cut(digit, exponent)?,
                };
            }
            u128::from(sum)
        } else {
            let mut sum = 0_u128;
            for (digit, exponent) in self.scaled(scale) {
                let digit = u64::from(digit?);
                if digit == 0 {
                    continue;
                }
                let part = match usize::try_from(exponent) {
                    Ok(exponent) => POW10_128
                        .get(exponent)
                        .and_then(|power| power.checked_mul(u128::from(digit)))
                        .ok_or(TOO_LARGE)?,
                    Err(_) => u128::from(cut(digit, exponent)?),
                };
                sum = sum.checked_add(part).ok_or(TOO_LARGE)?;
            }
            sum
        };
        if magnitude >= POW10_128[precision] {
            return Err(TOO_LARGE);
        }
        // Below 10^38, so it fits.
        let magnitude = magnitude as i128;
        Ok(if negative { -magnitude } else { magnitude })
    }

    /// Like [`to_i128`](Self::to_i128). `powers` are the powers of ten up to the precision.
    pub(super) fn to_i256(self, powers: &[i256], scale: i32) -> Result<i256, Misfit> {
        let negative = self.negative()?;
        let mut sum = i256::ZERO;
        for (digit, exponent) in self.scaled(scale) {
            let digit = u64::from(digit?);
            if digit == 0 {
                continue;
            }
            let part = match usize::try_from(exponent) {
                Ok(exponent) => powers
                    .get(exponent)
                    .and_then(|power| power.checked_mul(i256::from_i128(i128::from(digit))))
                    .ok_or(TOO_LARGE)?,
                Err(_) => i256::from_i128(i128::from(cut(digit, exponent)?)),
            };
            sum = sum.checked_add(part).ok_or(TOO_LARGE)?;
        }
        match powers.last() {
            Some(limit) if sum >= *limit => Err(TOO_LARGE),
            _ => Ok(if negative { -sum } else { sum }),
        }
    }

    /// Each digit with its power of ten after scaling.
    #[inline]
    fn scaled(self, scale: i32) -> impl Iterator<Item = (Result<u16, Misfit>, i32)> {
        let mut exponent = 4 * self.weight + scale + 4;
        self.digits.iter().map(move |&pair| {
            let digit = u16::from_be_bytes(pair);
            exponent -= 4;
            (if digit < 10_000 { Ok(digit) } else { Err(FOREIGN) }, exponent)
        })
    }

    /// The text that the server would show.
    fn render(self, out: &mut String) -> Result<(), Misfit> {
        match self.sign {
            Sign::Positive => {}
            Sign::Negative => out.push('-'),
            Sign::NaN => out.push_str("NaN"),
            Sign::Infinity => out.push_str("Infinity"),
            Sign::NegativeInfinity => out.push_str("-Infinity"),
        }
        if !matches!(self.sign, Sign::Positive | Sign::Negative) {
            return Ok(());
        }
        if self.digits.iter().any(|pair| u16::from_be_bytes(*pair) > 9_999) {
            return Err(FOREIGN);
        }
        let group = |position: i32| {
            let index = usize::try_from(self.weight - position).ok();
            index.and_then(|i| self.digits.get(i)).map_or(0, |pair| u16::from_be_bytes(*pair))
        };
        // The server leaves out zeros at the end in groups of four digits: up to 131,068 digits.
        let unsent = self.weight - self.digits.len() as i32;
        let zeros = |out: &mut String, count: usize| out.extend(std::iter::repeat_n('0', count));
        out.push_str(&group(self.weight.max(0)).to_string());
        for position in ((unsent + 1).max(0)..self.weight).rev() {
            out.push_str(&format!("{:04}", group(position)));
        }
        zeros(out, 4 * (unsent + 1).clamp(0, self.weight.max(0)) as usize);
        if self.shown > 0 {
            out.push('.');
            let end = out.len() + self.shown;
            let mut position = -1;
            while out.len() < end && position > unsent {
                out.push_str(&format!("{:04}", group(position)));
                position -= 1;
            }
            zeros(out, end.saturating_sub(out.len()));
            out.truncate(end);
        }
        Ok(())
    }
}

/// The value times `10^scale` of a numeric with up to four digits. The code has no branches that depend on
/// the number of digits. `None` leaves the value to [`Numeric::to_i128`]. `window` begins with the field and
/// extends to the end of the block.
#[inline]
pub(super) fn small_decimal(field: &[u8], window: &[u8], limit: u64, scale: i32) -> Option<i64> {
    let [n0, n1, w0, w1, s0, s1, _, _, digits @ ..] = window.first_chunk::<16>()?;
    let count = u16::from_be_bytes([*n0, *n1]);
    let negative = *s0 == 0x40;
    if count > 4 || field.len() != 8 + 2 * usize::from(count) || *s0 & 0xBF != 0 || *s1 != 0 {
        return None;
    }
    // Bytes after the last digit belong to the next field.
    let lanes = u64::from_be_bytes(*digits).checked_shr(64 - 16 * u32::from(count)).unwrap_or(0);
    let magnitude = small(lanes, u32::from(count), i16::from_be_bytes([*w0, *w1]), limit, scale)?;
    Some(if negative { -magnitude } else { magnitude })
}

/// The magnitude of [`small_decimal`]: `count` digits in lanes of 16 bits, the last digit in the lowest lane, zeros
/// above the first.
#[inline]
pub(super) fn small(lanes: u64, count: u32, weight: i16, limit: u64, scale: i32) -> Option<i64> {
    /// The highest bit of each lane of 16 bits.
    const HIGH: u64 = 0x8000_8000_8000_8000;
    /// Added to a lane, it sets the highest bit exactly if the lane is 10,000 or more.
    const LIFT: u64 = 0x58F0_58F0_58F0_58F0;
    if (lanes | ((lanes & !HIGH) + LIFT)) & HIGH != 0 {
        return None;
    }
    let lane = |shift: u32| (lanes >> shift) & 0xFFFF;
    let whole = (lane(48) * 10_000 + lane(32)) * 100_000_000 + (lane(16) * 10_000 + lane(0));
    // The value is `whole × 10^exponent`. The server sends no last digit that is 0, so a value that needs a
    // division by more than 1,000 has too many decimal places. Such values, and those that overflow 64 bits,
    // are left to `to_i128`.
    let exponent = 4 * (i32::from(weight) + 1 - count as i32) + scale;
    let power = POW10_64.get(usize::try_from(exponent + 4).ok()?)?;
    let ten_thousandths = whole.checked_mul(*power)?;
    let magnitude = ten_thousandths / 10_000;
    if magnitude * 10_000 != ten_thousandths {
        return None;
    }
    // The limit is 10^18 at most.
    (magnitude < limit).then_some(magnitude as i64)
}

/// `digit × 10^exponent` for a negative exponent, if no digits are lost.
#[inline]
fn cut(digit: u64, exponent: i32) -> Result<u64, Misfit> {
    let (whole, rest) = match exponent {
        -1 => (digit / 10, digit % 10),
        -2 => (digit / 100, digit % 100),
        -3 => (digit / 1000, digit % 1000),
        _ => (0, digit),
    };
    if rest == 0 { Ok(whole) } else { Err(TOO_FINE) }
}

/// A builder of decimals from `money`, which is a number of the smallest unit.
pub(super) fn money(ty: DataType) -> Box<dyn Builder> {
    each::<Decimal128Type, _>(ty, |field, _| {
        let amount = field.try_into().map_err(|_| WIDTH)?;
        Ok(i128::from(i64::from_be_bytes(amount)))
    })
}

/// A builder of doubles from the server's text, rounded to the nearest.
pub(super) fn double_from_text() -> Box<dyn Builder> {
    each::<Float64Type, _>(DataType::Float64, |field, _| {
        let text = std::str::from_utf8(field).map_err(|_| FOREIGN)?;
        let value: f64 = text.parse().map_err(|_| FOREIGN)?;
        let spelled = text.trim_start_matches('-').starts_with(|c: char| c.is_ascii_alphabetic());
        if value.is_infinite() && !spelled { Err(BEYOND_DOUBLE) } else { Ok(value) }
    })
}

/// A builder of doubles from binary numerics, rounded to the nearest.
pub(super) fn double_from_numeric() -> Box<dyn Builder> {
    let mut text = String::new();
    each::<Float64Type, _>(DataType::Float64, move |field, _| {
        let numeric = Numeric::parse(field)?;
        text.clear();
        numeric.render(&mut text)?;
        let value: f64 = text.parse().map_err(|_| FOREIGN)?;
        if value.is_infinite() && numeric.negative().is_ok() { Err(BEYOND_DOUBLE) } else { Ok(value) }
    })
}

struct Rendered {
    room: Room,
    text: String,
    values: StringBuilder,
    faults: Faults,
}

/// A builder of the server's text from binary numerics.
pub(super) fn text_from_numeric(room: Room) -> Box<dyn Builder> {
    Box::new(Rendered { room, text: String::new(), values: StringBuilder::new(), faults: Faults::default() })
}

impl Builder for Rendered {
    fn append(&mut self, fields: Fields<'_>) {
        for field in fields.iter() {
            self.text.clear();
            let rendered = field.map(|field| {
                Numeric::parse(field)?.render(&mut self.text)?;
                self.room.take(self.text.len())
            });
            match rendered {
                Some(Ok(())) => self.values.append_value(&self.text),
                Some(Err(misfit)) => {
                    self.faults.note(misfit);
                    self.values.append_null();
                }
                None => self.values.append_null(),
            }
        }
    }

    /// A numeric of a few bytes has up to 147,457 characters.
    fn step(&self) -> usize {
        16
    }

    fn is_unfit(&self) -> bool {
        self.faults.unfit.is_some()
    }

    fn finish(&mut self) -> Result<(ArrayRef, Faults), ArrowError> {
        Ok((Arc::new(self.values.finish()), std::mem::take(&mut self.faults)))
    }
}

#[cfg(test)]
#[path = "numeric_tests.rs"]
mod tests;
