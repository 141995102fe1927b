//! Values as a heap stores them, and the same values as a binary COPY sends them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::expand::expand;

/// How a stored value becomes a field of COPY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Bool,
    /// A number of two bytes.
    Two,
    /// A number of four bytes.
    Four,
    /// A number of eight bytes.
    Eight,
    Interval,
    /// 16 bytes as they are.
    Uuid,
    /// 64 bytes that end with a zero.
    Name,
    /// Bytes of any length as they are.
    Bytes,
    Numeric,
    /// The labels of an enum, by oid.
    Label(Arc<BTreeMap<u32, String>>),
}

/// Tag of a value that is stored out of line.
const ON_DISK: u8 = 18;
/// Its size: two bytes of header, and where the value is.
const ON_DISK_BYTES: usize = 18;

/// Size of a value of any length that begins here, with its header. `None` if it is not one that a page can
/// hold.
#[inline]
pub(super) fn size(bytes: &[u8]) -> Option<usize> {
    let first = *bytes.first()?;
    if first & 1 == 1 {
        return match first {
            1 => (*bytes.get(1)? == ON_DISK).then_some(ON_DISK_BYTES),
            _ => Some(usize::from(first >> 1)),
        };
    }
    let size = (u32::from_le_bytes(*bytes.first_chunk()?) >> 2) as usize;
    (size >= 4).then_some(size)
}

/// Appends a field: its length and its bytes. `stored` has exactly the bytes of the value. `None` if the value
/// must be asked of the server.
#[inline]
pub(super) fn put(wire: &Wire, stored: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match wire {
        Wire::Bool => sized(out, &[u8::from(*stored.first()? != 0)]),
        Wire::Two => number::<2, 6>(stored, out)?,
        Wire::Four => number::<4, 8>(stored, out)?,
        Wire::Eight => number::<8, 12>(stored, out)?,
        Wire::Uuid => sized(out, stored),
        Wire::Interval => {
            let (time, rest) = stored.split_at_checked(8)?;
            let (days, months) = rest.split_at_checked(4)?;
            out.extend_from_slice(&16u32.to_be_bytes());
            out.extend_from_slice(&turned::<8>(time)?);
            out.extend_from_slice(&turned::<4>(days)?);
            out.extend_from_slice(&turned::<4>(months)?);
        }
        Wire::Name => sized(out, stored.get(..stored.iter().position(|byte| *byte == 0)?)?),
        Wire::Bytes => match inline(stored)? {
            Inline::Plain(bytes) => sized(out, bytes),
            Inline::Compressed(info, bytes) => {
                let start = out.len();
                out.extend_from_slice(&[0; 4]);
                expand(info, bytes, out)?;
                let length = u32::try_from(out.len() - start - 4).ok()?;
                out.get_mut(start..start + 4)?.copy_from_slice(&length.to_be_bytes());
            }
        },
        Wire::Numeric => match inline(stored)? {
            Inline::Plain(bytes) => numeric(bytes, out)?,
            Inline::Compressed(info, bytes) => {
                let mut plain = Vec::new();
                expand(info, bytes, &mut plain)?;
                numeric(&plain, out)?;
            }
        },
        Wire::Label(labels) => {
            let oid = u32::from_le_bytes(*stored.first_chunk()?);
            sized(out, labels.get(&oid)?.as_bytes());
        }
    }
    Some(())
}

#[inline]
fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a number of `N` bytes with its length, at once.
#[inline]
fn number<const N: usize, const FIELD: usize>(stored: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut field = [0; FIELD];
    field[3] = N as u8;
    field[4..].copy_from_slice(&turned::<N>(stored)?);
    out.extend_from_slice(&field);
    Some(())
}

/// The bytes of a number in the order of COPY.
#[inline]
fn turned<const N: usize>(stored: &[u8]) -> Option<[u8; N]> {
    let mut bytes: [u8; N] = *stored.first_chunk()?;
    bytes.reverse();
    Some(bytes)
}

/// What is behind the header of a value of any length.
enum Inline<'a> {
    Plain(&'a [u8]),
    /// Its size and method, and the compressed bytes.
    Compressed(u32, &'a [u8]),
}

#[inline]
fn inline(stored: &[u8]) -> Option<Inline<'_>> {
    let first = *stored.first()?;
    if first & 1 == 1 {
        return (first != 1).then(|| Inline::Plain(&stored[1..]));
    }
    let (_, rest) = stored.split_at_checked(4)?;
    match first & 3 {
        0 => Some(Inline::Plain(rest)),
        _ => rest.split_first_chunk().map(|(info, rest)| Inline::Compressed(u32::from_le_bytes(*info), rest)),
    }
}

/// Marks of a numeric's first word (`numeric.c`).
mod mark {
    pub(super) const FORM: u16 = 0xc000;
    pub(super) const SHORT: u16 = 0x8000;
    pub(super) const SPECIAL: u16 = 0xc000;
    pub(super) const WHICH: u16 = 0xf000;
    pub(super) const NEGATIVE: u16 = 0x4000;
    pub(super) const SHORT_NEGATIVE: u16 = 0x2000;
}

/// Appends a numeric: number of digits, weight, sign, scale, digits to the base 10,000.
fn numeric(stored: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (first, rest) = stored.split_first_chunk::<2>()?;
    let first = u16::from_le_bytes(*first);
    let (weight, sign, scale, digits) = match first & mark::FORM {
        mark::SPECIAL if rest.is_empty() => (0, first & mark::WHICH, first >> 7 & 0x3f, rest),
        mark::SPECIAL => return None,
        mark::SHORT => {
            let negative = if first & mark::SHORT_NEGATIVE != 0 { mark::NEGATIVE } else { 0 };
            // Seven bits with a sign.
            let weight = ((first & 0x7f) << 9).cast_signed() >> 9;
            (weight, negative, first >> 7 & 0x3f, rest)
        }
        sign => {
            let (weight, digits) = rest.split_first_chunk::<2>()?;
            (i16::from_le_bytes(*weight), sign, first & 0x3fff, digits)
        }
    };
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let count = u16::try_from(digits.len() / 2).ok()?;
    out.reserve(12 + digits.len());
    out.extend_from_slice(&(8 + u32::from(count) * 2).to_be_bytes());
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&scale.to_be_bytes());
    for digit in digits.chunks_exact(2) {
        out.extend_from_slice(&[digit[1], digit[0]]);
    }
    Some(())
}
