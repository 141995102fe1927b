//! Decodes the body of a request as its properties say.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use super::MAX_BYTES;
use crate::bus::Properties;
use crate::message::event::ErrorReport;

/// Codings that do not change a body. Some clients name the charset here.
const IDENTITIES: [&str; 9] =
    ["", "identity", "utf-8", "utf8", "us-ascii", "ascii", "binary", "8bit", "7bit"];
const CHARSETS: [&str; 4] = ["utf-8", "utf8", "us-ascii", "ascii"];

/// The body without its `content_encoding`.
///
/// # Errors
/// The error names a coding or charset that is not supported, or says what is wrong with the body.
pub(super) fn decoded<'a>(body: &'a [u8], properties: &Properties) -> Result<Cow<'a, [u8]>, ErrorReport> {
    let said = properties.content_encoding.as_deref().unwrap_or_default();
    let codings: Vec<String> = said.split(',').map(|c| c.trim().to_ascii_lowercase()).collect();
    let mut codings = codings.iter().map(String::as_str).filter(|c| !IDENTITIES.contains(c));
    let plain = match (codings.next(), codings.next()) {
        (None, _) => Cow::Borrowed(body),
        (Some("gzip" | "x-gzip"), None) => unpacked(MultiGzDecoder::new(body), said)?.into(),
        (Some("deflate"), None) if has_zlib_header(body) => unpacked(ZlibDecoder::new(body), said)?.into(),
        (Some("deflate"), None) => unpacked(DeflateDecoder::new(body), said)?.into(),
        _ => {
            return Err(ErrorReport::permanent(
                "unsupported_encoding",
                format!("the request's content_encoding `{said}` is not read"),
                "send JSON in UTF-8 as it is, or compressed by gzip or deflate",
            ));
        }
    };
    if let Some(charset) = charset(properties)
        && !CHARSETS.contains(&charset.as_str())
        && !plain.is_ascii()
    {
        return Err(ErrorReport::permanent(
            "unsupported_encoding",
            format!("the request's content_type names the charset `{charset}`, which is not read"),
            "send JSON in UTF-8",
        ));
    }
    Ok(plain)
}

/// HTTP servers call two formats deflate: RFC 1950 and bare RFC 1951. Clients tell them apart like this.
fn has_zlib_header(body: &[u8]) -> bool {
    matches!(*body, [method, flags, ..] if method & 0x0F == 8 && u16::from_be_bytes([method, flags]).is_multiple_of(31))
}

fn unpacked(packed: impl Read, coding: &str) -> Result<Vec<u8>, ErrorReport> {
    let mut plain = Vec::new();
    packed.take(MAX_BYTES as u64 + 1).read_to_end(&mut plain).map_err(|e| {
        ErrorReport::permanent(
            "bad_encoding",
            format!("the request's body is not what its content_encoding `{coding}` says: {e}"),
            "compress the body, or leave content_encoding out",
        )
    })?;
    if plain.len() > MAX_BYTES {
        return Err(too_large("more than 1 MiB when it is unpacked"));
    }
    Ok(plain)
}

/// The `charset` of `content_type`.
fn charset(properties: &Properties) -> Option<String> {
    let parameters = properties.content_type.as_deref()?.split(';').skip(1);
    parameters.filter_map(|p| p.split_once('=')).find_map(|(name, value)| {
        let value = value.trim().trim_matches('"').to_ascii_lowercase();
        name.trim().eq_ignore_ascii_case("charset").then_some(value)
    })
}

/// The rejection of a request that is too large.
pub(super) fn too_large(size: &str) -> ErrorReport {
    ErrorReport::permanent(
        "too_large",
        format!("the request has {size}, at most 1 MiB is read"),
        "use patterns such as sales.*, or several requests",
    )
}

#[cfg(test)]
#[path = "../../tests/support/packed.rs"]
mod packed;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::DeflateEncoder;

    use super::packed::{gzip, zlib};
    use super::*;

    const BODY: &[u8] = br#"{"tables": ["public.gr\u00f6\u00dfe"]}"#;

    fn read(body: &[u8], coding: &str, content_type: &str) -> Result<Vec<u8>, String> {
        let properties = Properties {
            content_encoding: Some(coding.to_owned()),
            content_type: Some(content_type.to_owned()),
            ..Properties::default()
        };
        decoded(body, &properties).map(Cow::into_owned).map_err(|e| format!("{} {}", e.code, e.message))
    }

    fn deflate(body: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(body).expect("memory");
        encoder.finish().expect("memory")
    }

    #[test]
    fn a_body_is_read_in_the_encoding_that_is_named() {
        for coding in ["", "identity", "UTF-8", "utf8", "binary", " , identity"] {
            assert_eq!(read(BODY, coding, "application/json").as_deref(), Ok(BODY), "{coding}");
        }
        for (coding, body) in [
            ("gzip", gzip(BODY)),
            ("x-gzip", gzip(BODY)),
            ("GZIP", gzip(BODY)),
            ("gzip, utf-8", gzip(BODY)),
            ("gzip", [gzip(&BODY[..9]), gzip(&BODY[9..])].concat()),
            ("deflate", zlib(BODY)),
            ("deflate", deflate(BODY)),
        ] {
            assert_eq!(
                read(&body, coding, "application/json; charset=utf-8").as_deref(),
                Ok(BODY),
                "{coding}"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for coding in ["br", "zstd", "base64", "utf-16", "gzip, gzip", "gzip,deflate", "x"] {
            let error = read(BODY, coding, "application/json").expect_err(coding);
            assert!(error.contains("unsupported_encoding") && error.contains(coding), "{error}");
        }
        let cut = gzip(BODY);
        for (coding, body) in [("gzip", BODY), ("deflate", &[0xFF; 9][..]), ("gzip", &cut[..cut.len() - 9])] {
            let error = read(body, coding, "application/json").expect_err(coding);
            assert!(error.contains("bad_encoding") && error.contains(coding), "{error}");
        }
        let bomb = vec![b' '; 64 << 20];
        for (coding, body) in [("gzip", gzip(&bomb)), ("deflate", zlib(&bomb)), ("deflate", deflate(&bomb))] {
            let error = read(&body, coding, "application/json").expect_err(coding);
            assert!(error.contains("too_large") && error.contains("1 MiB"), "{error}");
        }
    }

    #[test]
    fn another_charset_is_refused_where_it_matters() {
        let latin = b"{\"tables\": [\"public.caf\xe9\"]}";
        let error = read(latin, "", "application/json; charset=\"ISO-8859-1\"").expect_err("latin");
        assert!(error.contains("iso-8859-1"), "{error}");
        assert_eq!(read(BODY, "", "text/plain; charset=iso-8859-1").as_deref(), Ok(BODY), "it is ASCII");
        assert!(read(latin, "", "application/json").is_ok(), "the parser says where it is not UTF-8");
    }
}
