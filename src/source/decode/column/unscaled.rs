//! Numerics that arrive as whole numbers, as Vertica sends them.
//!
//! A numeric is a big-endian number in two's complement of a multiple of eight bytes: the value without its
//! decimal point (`deserializer.py: load_numeric_binary` of `vertica-python`).

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringBuilder};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, i256};
use arrow::error::ArrowError;

use super::each::each;
use super::{Builder, Faults, Fields, Misfit};

const FOREIGN: Misfit = Misfit::Foreign("a field is not the binary form of a numeric");
const TOO_LARGE: Misfit = Misfit::Unfit("a numeric has more digits than the precision");
/// Most bytes of a value: room for more than 2,400 digits. Vertica's numerics have up to 1,024.
const MOST_BYTES: usize = 1024;
/// Digits that are rendered at once.
const GROUP: usize = 18;
const GROUP_POWER: u64 = 10_u64.pow(GROUP as u32);

/// A builder of exact decimals. If no decimal has this precision, no value fits.
pub(super) fn decimal(precision: u8, scale: i8) -> Box<dyn Builder> {
    if let Some(limit) = 10_i128.checked_pow(precision.into()) {
        return each::<Decimal128Type, _>(DataType::Decimal128(precision, scale), move |field, _| {
            let value = match field.first_chunk::<8>() {
                Some(only) if field.len() == 8 => i128::from(i64::from_be_bytes(*only)),
                _ => i128::from_be_bytes(extended(field)?),
            };
            if (-limit < value) & (value < limit) { Ok(value) } else { Err(TOO_LARGE) }
        });
    }
    let limit = i256::from_i128(10).checked_pow(precision.into());
    each::<Decimal256Type, _>(DataType::Decimal256(precision, scale), move |field, _| {
        let value = i256::from_be_bytes(extended(field)?);
        match limit {
            Some(limit) if -limit < value && value < limit => Ok(value),
            _ => Err(TOO_LARGE),
        }
    })
}

/// The number in `N` bytes.
fn extended<const N: usize>(field: &[u8]) -> Result<[u8; N], Misfit> {
    check(field)?;
    let sign = sign_byte(field);
    let mut bytes = [sign; N];
    match N.checked_sub(field.len()) {
        Some(missing) => bytes[missing..].copy_from_slice(field),
        None => {
            let (high, low) = field.split_at(field.len() - N);
            if high.iter().any(|byte| *byte != sign) || sign_byte(low) != sign {
                return Err(TOO_LARGE);
            }
            bytes.copy_from_slice(low);
        }
    }
    Ok(bytes)
}

fn check(field: &[u8]) -> Result<(), Misfit> {
    let sound = !field.is_empty() && field.len().is_multiple_of(8) && field.len() <= MOST_BYTES;
    if sound { Ok(()) } else { Err(FOREIGN) }
}

fn sign_byte(field: &[u8]) -> u8 {
    if field.first().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 }
}

struct Texts {
    scale: usize,
    text: String,
    values: StringBuilder,
    faults: Faults,
}

/// A builder of the server's text.
pub(super) fn text(scale: u16) -> Box<dyn Builder> {
    Box::new(Texts {
        scale: scale.into(),
        text: String::new(),
        values: StringBuilder::new(),
        faults: Faults::default(),
    })
}

/// Appends the text of a number, with a decimal point before the last `scale` digits.
fn render(field: &[u8], scale: usize, out: &mut String) -> Result<(), Misfit> {
    check(field)?;
    let (words, _) = field.as_chunks::<8>();
    // The magnitude, highest word first.
    let mut words: Vec<u64> = words.iter().map(|word| u64::from_be_bytes(*word)).collect();
    let negative = sign_byte(field) != 0;
    if negative {
        let mut carries = true;
        for word in words.iter_mut().rev() {
            (*word, carries) = (!*word).overflowing_add(u64::from(carries));
        }
    }
    // Groups of digits, lowest first.
    let mut groups = Vec::new();
    while words.iter().any(|word| *word != 0) {
        let mut rest = 0;
        for word in &mut words {
            let part = u128::from(rest) << 64 | u128::from(*word);
            *word = (part / u128::from(GROUP_POWER)) as u64;
            rest = (part % u128::from(GROUP_POWER)) as u64;
        }
        groups.push(rest);
    }
    if negative {
        out.push('-');
    }
    let start = out.len();
    for group in groups.iter().rev() {
        // Writing to a text cannot fail.
        let _ = write!(out, "{group:0GROUP$}");
    }
    // Exactly one digit before the point if the number is smaller than one.
    let digits = out[start..].trim_start_matches('0').len().max(scale + 1);
    match (out.len() - start).checked_sub(digits) {
        Some(surplus) => out.replace_range(start..start + surplus, ""),
        None => out.insert_str(start, &"0".repeat(digits - (out.len() - start))),
    }
    if scale > 0 {
        out.insert(out.len() - scale, '.');
    }
    Ok(())
}

impl Builder for Texts {
    fn append(&mut self, fields: Fields<'_>) {
        for field in fields.iter() {
            self.text.clear();
            match field.map(|field| render(field, self.scale, &mut self.text)) {
                Some(Ok(())) => self.values.append_value(&self.text),
                Some(Err(misfit)) => {
                    self.faults.note(misfit);
                    self.values.append_null();
                }
                None => self.values.append_null(),
            }
        }
    }

    fn is_unfit(&self) -> bool {
        self.faults.unfit.is_some()
    }

    fn finish(&mut self) -> Result<(ArrayRef, Faults), ArrowError> {
        Ok((Arc::new(self.values.finish()), std::mem::take(&mut self.faults)))
    }
}

#[cfg(test)]
#[path = "unscaled_tests.rs"]
mod tests;
