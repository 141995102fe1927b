//! Reads text that people and other programs write: UTF-8, with or without the byte order mark of Windows
//! editors. Errors name other encodings, so that nobody has to guess from a syntax error in column 1.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::Path;

use percent_encoding::percent_decode;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Bytes that are not text in UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotUtf8 {
    /// The first bytes show another character set.
    #[error("it is {0}, not UTF-8")]
    Charset(&'static str),
    /// The first bytes show compressed data.
    #[error("it is compressed by {0}")]
    Compressed(&'static str),
    /// Some byte is not UTF-8.
    #[error("it is not UTF-8: byte 0x{byte:02x} at position {at}")]
    Byte {
        /// Position, from 0.
        at: usize,
        /// Value of the byte.
        byte: u8,
    },
}

/// The text of an error with its causes, in one line. Errors of TLS and of HTTP hide the reason there.
#[must_use]
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// The bytes after a byte order mark, if there is one.
#[must_use]
pub fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

/// The text, without a byte order mark.
///
/// # Errors
/// Says what the bytes are instead.
pub fn utf8(bytes: &[u8]) -> Result<&str, NotUtf8> {
    if let Some(charset) = wide(bytes) {
        return Err(NotUtf8::Charset(charset));
    }
    let text = without_mark(bytes);
    std::str::from_utf8(text).map_err(|e| {
        if let Some(method) = compression(bytes) {
            return NotUtf8::Compressed(method);
        }
        let at = e.valid_up_to();
        NotUtf8::Byte { at: at + (bytes.len() - text.len()), byte: text.get(at).copied().unwrap_or_default() }
    })
}

/// The encoding of UTF-16 or UTF-32 text. Without a mark it shows by the zero bytes in the first character,
/// which is ASCII in JSON and TOML.
fn wide(bytes: &[u8]) -> Option<&'static str> {
    Some(match bytes {
        [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] => "UTF-32",
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => "UTF-16",
        [0, 0, 0, 1..=0x7F, ..] | [1..=0x7F, 0, 0, 0, ..] => "UTF-32",
        [0, 1..=0x7F, ..] | [1..=0x7F, 0, ..] => "UTF-16",
        _ => return None,
    })
}

/// The compression that the first bytes show. Some of these are valid text as well, such as `x^`.
fn compression(bytes: &[u8]) -> Option<&'static str> {
    Some(match bytes {
        [0x1F, 0x8B, ..] => "gzip",
        [0x28, 0xB5, 0x2F, 0xFD, ..] => "zstd",
        [b'B', b'Z', b'h', ..] => "bzip2",
        [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => "xz",
        // RFC 1950.
        [0x78, 0x01 | 0x5E | 0x9C | 0xDA, ..] => "deflate",
        _ => return None,
    })
}

/// Decodes percent-encoded bytes. `None` if a `%` has no two hex digits after it: the library would keep it
/// as it is.
#[must_use]
pub fn percent_decoded(raw: &[u8]) -> Option<Vec<u8>> {
    let is_escape =
        |rest: &[u8]| rest.first_chunk::<2>().is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    raw.split(|b| *b == b'%').skip(1).all(is_escape).then(|| percent_decode(raw).collect())
}

/// Reads a file that people write, as text without a byte order mark.
///
/// # Errors
/// If the file cannot be read or is not UTF-8. The error never shows the content.
pub fn read_file(path: &Path) -> io::Result<String> {
    let bytes = std::fs::read(path)?;
    match utf8(&bytes) {
        Ok(text) if text.len() == bytes.len() => Ok(String::from_utf8(bytes).unwrap_or_default()),
        Ok(text) => Ok(text.to_owned()),
        Err(NotUtf8::Byte { at, .. }) => {
            Err(not_text(format!("it is not UTF-8 at byte {at}; save it as UTF-8")))
        }
        Err(other) => Err(not_text(format!("{other}; save it as UTF-8"))),
    }
}

/// Reads a file with a secret: one line, with or without a newline.
///
/// # Errors
/// As [`read_file`].
pub fn read_secret(path: &Path) -> io::Result<String> {
    let mut text = read_file(path)?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

fn not_text(why: impl Into<Cow<'static, str>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

/// A number of rows for people: `950`, `12 k`, `1.0 M`.
#[derive(Clone, Copy, Debug)]
pub struct Rows(pub u64);

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&scaled(self.0, 1_000, &["", " k", " M", " B", " T", " Q"]))
    }
}

/// A number of bytes for people: `4.0 GiB`.
#[must_use]
pub fn bytes_text(bytes: u64) -> String {
    scaled(bytes, 1_024, &[" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"])
}

fn scaled(number: u64, step: u64, units: &[&str]) -> String {
    let mut unit = 0;
    let mut divisor = 1_u64;
    while number / divisor >= step && unit + 1 < units.len() {
        divisor *= step;
        unit += 1;
    }
    let name = units[unit];
    let value = number as f64 / divisor as f64;
    if unit == 0 || value >= 99.95 { format!("{value:.0}{name}") } else { format!("{value:.1}{name}") }
}

/// A duration for people: `8.5 s`, `3 min 20 s`, `2 h 5 min`, `4 d 1 h`.
#[must_use]
pub fn seconds_text(seconds: f64) -> String {
    let s = seconds.max(0.0);
    let whole = s.round() as u64;
    match whole {
        _ if s < 0.0005 => "0 s".into(),
        _ if s < 1.0 => format!("{:.0} ms", s * 1e3),
        _ if s < 9.95 => format!("{s:.1} s"),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// `1 table`, `2 tables`, `3 batches`.
#[must_use]
pub fn count(n: u64, noun: &str) -> String {
    match n {
        1 => format!("1 {noun}"),
        n if noun.ends_with("ch") => format!("{n} {noun}es"),
        n => format!("{n} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text in UTF-16 or UTF-32.
    fn widened(text: &str, width: usize, big: bool) -> Vec<u8> {
        let wide = text.chars().map(u32::from).map(|c| c.to_be_bytes()[4 - width..].to_vec());
        wide.flat_map(|mut unit| {
            if !big {
                unit.reverse();
            }
            unit
        })
        .collect()
    }

    #[test]
    fn text_is_read_with_and_without_a_mark_and_what_is_none_is_named() {
        assert_eq!(utf8(b"{}"), Ok("{}"));
        assert_eq!(utf8(b"\xEF\xBB\xBF{}"), Ok("{}"));
        assert_eq!(utf8(b""), Ok(""));
        for big in [true, false] {
            for mark in ["", "\u{FEFF}"] {
                let text = format!("{mark}{{\"tables\": []}}");
                assert_eq!(utf8(&widened(&text, 2, big)), Err(NotUtf8::Charset("UTF-16")));
                assert_eq!(utf8(&widened(&text, 4, big)), Err(NotUtf8::Charset("UTF-32")));
            }
        }
        assert_eq!(utf8(b"\x1f\x8b\x08"), Err(NotUtf8::Compressed("gzip")));
        assert_eq!(utf8(b"\x78\x9c\x01"), Err(NotUtf8::Compressed("deflate")));
        assert_eq!(utf8(b"x^a password"), Ok("x^a password"));
        assert_eq!(utf8(b"\xEF\xBB\xBFab\xe9"), Err(NotUtf8::Byte { at: 5, byte: 0xE9 }));
        assert_eq!(utf8("größe".as_bytes()), Ok("größe"));
    }

    #[test]
    fn a_percent_sign_without_two_digits_is_refused() {
        assert_eq!(percent_decoded(b"a%20%c3%BC%2541").as_deref(), Some("a ü%41".as_bytes()));
        for wrong in ["%", "%4", "a%zz", "%%41", "%4%31", "%+1"] {
            assert_eq!(percent_decoded(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn numbers_are_short() {
        let rows = |n| Rows(n).to_string();
        assert_eq!((rows(0), rows(999), rows(1_000)), ("0".into(), "999".into(), "1.0 k".into()));
        assert_eq!((rows(1_000_000), rows(123_456_789)), ("1.0 M".into(), "123 M".into()));
        assert_eq!(rows(u64::MAX), "18447 Q");
        assert_eq!(bytes_text(4 << 30), "4.0 GiB");
        let spans = [0.0, 0.25, 9.0, 59.4, 200.0, 7500.0, 349_200.0].map(seconds_text);
        assert_eq!(spans, ["0 s", "250 ms", "9.0 s", "59 s", "3 min 20 s", "2 h 5 min", "4 d 1 h"]);
        assert_eq!(bytes_text(u64::MAX), "16.0 EiB");
    }
}
