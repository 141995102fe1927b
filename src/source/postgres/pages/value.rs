//! Values as a heap stores them: where they end, which of them can be decoded as they are, and the same values
//! as a binary COPY sends them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::expand::expand;
use crate::source::decode::{StoredForm, numeric_is_sound, send_numeric};

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
        Wire::Name => sized(out, name(stored)?),
        Wire::Bytes => match inline(stored)? {
            Inline::Plain(bytes) => sized(out, bytes),
            Inline::Compressed(info, bytes) => field(out, |out| expand(info, bytes, out))?,
        },
        Wire::Numeric => field(out, |out| send_numeric(&plain(stored)?, out))?,
        Wire::Label(labels) => sized(out, label(labels, stored)?),
    }
    Some(())
}

/// Whether a builder that reads this form takes values that are sent so. Some are made first, by [`make`].
pub(super) fn suits(wire: &Wire, form: StoredForm) -> bool {
    match (wire, form) {
        (Wire::Two, StoredForm::Number(bytes)) => bytes == 2,
        (Wire::Four, StoredForm::Number(bytes)) => bytes == 4,
        (Wire::Eight, StoredForm::Number(bytes)) => bytes == 8,
        (Wire::Name | Wire::Bytes | Wire::Label(_), StoredForm::Bytes) => true,
        (Wire::Numeric, StoredForm::Numeric) => true,
        _ => false,
    }
}

/// Whether a stored value can be decoded as it is. `None` if it must be asked of the server.
#[inline]
pub(super) fn is_plain(wire: &Wire, stored: &[u8]) -> Option<bool> {
    match wire {
        Wire::Name | Wire::Label(_) => Some(false),
        Wire::Bytes => inline(stored).map(|value| matches!(value, Inline::Plain(_))),
        Wire::Numeric => match inline(stored)? {
            Inline::Plain(bytes) => numeric_is_sound(bytes).then_some(true),
            Inline::Compressed(..) => Some(false),
        },
        _ => Some(true),
    }
}

/// Appends a value that cannot be decoded as it is, as a value of any length with a header of four bytes. `None` as
/// for [`put`].
pub(super) fn make(wire: &Wire, stored: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    match wire {
        Wire::Name => out.extend_from_slice(name(stored)?),
        Wire::Label(labels) => out.extend_from_slice(label(labels, stored)?),
        _ => {
            let Inline::Compressed(info, bytes) = inline(stored)? else { return None };
            expand(info, bytes, out)?;
            if *wire == Wire::Numeric && !numeric_is_sound(out.get(start + 4..)?) {
                return None;
            }
        }
    }
    let size = u32::try_from(out.len() - start).ok().filter(|size| *size < 1 << 30)?;
    out.get_mut(start..start + 4)?.copy_from_slice(&(size << 2).to_le_bytes());
    Some(())
}

/// A text of 64 bytes, up to its end.
fn name(stored: &[u8]) -> Option<&[u8]> {
    stored.get(..stored.iter().position(|byte| *byte == 0)?)
}

fn label<'a>(labels: &'a BTreeMap<u32, String>, stored: &[u8]) -> Option<&'a [u8]> {
    labels.get(&u32::from_le_bytes(*stored.first_chunk()?)).map(|label| label.as_bytes())
}

/// Appends a field whose bytes `write` appends.
fn field(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Option<()>) -> Option<()> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out)?;
    let length = u32::try_from(out.len() - start - 4).ok()?;
    out.get_mut(start..start + 4)?.copy_from_slice(&length.to_be_bytes());
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

/// The bytes behind the header, expanded if they are compressed.
fn plain(stored: &[u8]) -> Option<Cow<'_, [u8]>> {
    match inline(stored)? {
        Inline::Plain(bytes) => Some(Cow::Borrowed(bytes)),
        Inline::Compressed(info, bytes) => {
            let mut plain = Vec::new();
            expand(info, bytes, &mut plain)?;
            Some(Cow::Owned(plain))
        }
    }
}
