//! Numerics as a heap stores them, without the header of a value of any length (`numeric.c`).

use super::numeric::small;

/// Marks of the first word.
mod mark {
    pub(super) const FORM: u16 = 0xc000;
    pub(super) const SHORT: u16 = 0x8000;
    pub(super) const SPECIAL: u16 = 0xc000;
    pub(super) const WHICH: u16 = 0xf000;
    pub(super) const NEGATIVE: u16 = 0x4000;
    pub(super) const SHORT_NEGATIVE: u16 = 0x2000;
}

/// Whether the bytes have the size of a numeric with such a first word.
#[inline]
pub(in crate::source) fn numeric_is_sound(stored: &[u8]) -> bool {
    let Some([_, high]) = stored.first_chunk() else { return false };
    let least = match u16::from(*high) << 8 & mark::FORM {
        mark::SPECIAL => return stored.len() == 2,
        mark::SHORT => 2,
        _ => 4,
    };
    stored.len() >= least && stored.len().is_multiple_of(2)
}

/// Appends the field that a COPY sends: number of digits, weight, sign, scale, digits to the base 10,000. `None` if
/// the numeric is not sound.
pub(in crate::source) fn send_numeric(stored: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if !numeric_is_sound(stored) {
        return None;
    }
    let (first, rest) = stored.split_first_chunk::<2>()?;
    let first = u16::from_le_bytes(*first);
    let (weight, sign, scale, digits) = match first & mark::FORM {
        mark::SPECIAL => (0, first & mark::WHICH, first >> 7 & 0x3f, rest),
        mark::SHORT => {
            let (weight, is_negative) = short(first);
            (weight, if is_negative { mark::NEGATIVE } else { 0 }, first >> 7 & 0x3f, rest)
        }
        sign => {
            let (weight, digits) = rest.split_first_chunk::<2>()?;
            (i16::from_le_bytes(*weight), sign, first & 0x3fff, digits)
        }
    };
    let count = u16::try_from(digits.len() / 2).ok()?;
    out.reserve(8 + digits.len());
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&scale.to_be_bytes());
    for digit in digits.chunks_exact(2) {
        out.extend_from_slice(&[digit[1], digit[0]]);
    }
    Some(())
}

/// The weight in the first word of a short numeric, seven bits with a sign, and whether the number is negative.
#[inline]
fn short(first: u16) -> (i16, bool) {
    (((first & 0x7f) << 9).cast_signed() >> 9, first & mark::SHORT_NEGATIVE != 0)
}

/// Like [`small_decimal`](super::numeric::small_decimal) for a stored numeric.
#[inline]
pub(super) fn small_stored(stored: &[u8], window: &[u8], limit: u64, scale: i32) -> Option<i64> {
    let [low, high, digits @ ..] = window.first_chunk::<10>()?;
    let first = u16::from_le_bytes([*low, *high]);
    let count = match stored.len() {
        length @ (2 | 4 | 6 | 8 | 10) => length as u32 / 2 - 1,
        _ => return None,
    };
    if first & mark::FORM != mark::SHORT {
        return None;
    }
    // The first digit is in the lowest lane; what follows the last one does not belong to the number.
    let lanes = u64::from_le_bytes(*digits).checked_shl(64 - 16 * count).unwrap_or(0).rotate_left(32);
    let lanes = (lanes & 0xffff_0000_ffff_0000) >> 16 | (lanes & 0x0000_ffff_0000_ffff) << 16;
    let (weight, is_negative) = short(first);
    small(lanes, count, weight, limit, scale).map(|value| if is_negative { -value } else { value })
}
