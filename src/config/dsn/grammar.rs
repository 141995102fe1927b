//! Splits the two forms of a connection string byte by byte, as libpq's `conninfo_uri_parse_options` and
//! `conninfo_parse` (`fe-connect.c`) do.
//!
//! libpq is lenient: if a password contains `@`, the rest of the password becomes part of the host or the
//! database, and messages show these. If the author cannot have meant the pieces like this, the string is
//! refused.

use super::InvalidDsn;
use super::keyword::{known, like, of_verticas_clients};
use super::settings::Values;
use crate::text::percent_decoded;

/// Reads a URL with one of these schemes, or `keyword=value …`.
pub(super) fn read(text: &str, schemes: &[&str]) -> Result<Values, InvalidDsn> {
    let url = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
    match url {
        Some(rest) => read_url(rest.as_bytes()),
        None => read_pairs(text.as_bytes()),
    }
}

fn read_url(mut rest: &[u8]) -> Result<Values, InvalidDsn> {
    let mut values = Values::default();
    if rest.iter().any(|b| b.is_ascii_whitespace() || b.is_ascii_control()) {
        return Err(InvalidDsn::Whitespace);
    }
    // User and password end at the first `@`, unless a slash comes before it.
    if let Some(at) = position(rest, b"@/").filter(|at| rest[*at] == b'@') {
        let (credentials, after) = (&rest[..at], &rest[at + 1..]);
        if holds_parameters(credentials) {
            return Err(InvalidDsn::StrayAt);
        }
        let colon = position(credentials, b":");
        let (user, password) = match colon {
            Some(colon) => (&credentials[..colon], &credentials[colon + 1..]),
            None => (credentials, &[][..]),
        };
        if user.contains(&b'?') {
            return Err(InvalidDsn::StrayAt);
        }
        store(&mut values, "user", user)?;
        store(&mut values, "password", password)?;
        rest = after;
    }
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    loop {
        let host = match rest.strip_prefix(b"[") {
            Some(inside) => {
                let end = position(inside, b"]").filter(|end| *end > 0).ok_or(InvalidDsn::Brackets)?;
                rest = &inside[end + 1..];
                if !rest.first().is_none_or(|b| b":/?,".contains(b)) {
                    return Err(InvalidDsn::Brackets);
                }
                &inside[..end]
            }
            None => cut(&mut rest, b":/?,"),
        };
        hosts.extend_from_slice(host);
        if let Some(after) = rest.strip_prefix(b":") {
            rest = after;
            ports.extend_from_slice(cut(&mut rest, b"/?,"));
        }
        let Some(after) = rest.strip_prefix(b",") else { break };
        rest = after;
        hosts.push(b',');
        ports.push(b',');
    }
    if hosts.contains(&b'@') || ports.contains(&b'@') {
        return Err(InvalidDsn::StrayAt);
    }
    store(&mut values, "host", &hosts)?;
    store(&mut values, "port", &ports)?;
    if let Some(after) = rest.strip_prefix(b"/") {
        rest = after;
        let database = cut(&mut rest, b"?");
        // The text before the `@` is not a database: a slash in the password has ended the host.
        if database.contains(&b'@') {
            return Err(InvalidDsn::StrayAt);
        }
        store(&mut values, "dbname", database)?;
    }
    if let Some(parameters) = rest.strip_prefix(b"?") {
        read_parameters(parameters, &mut values)?;
    }
    Ok(values)
}

/// Reads `name=value&…` to the end. One `&` may follow the last value.
fn read_parameters(mut rest: &[u8], values: &mut Values) -> Result<(), InvalidDsn> {
    let mut number = 0;
    while !rest.is_empty() {
        number += 1;
        let pair = cut(&mut rest, b"&");
        rest = rest.strip_prefix(b"&").unwrap_or(rest);
        let equals = position(pair, b"=").ok_or(InvalidDsn::NoEquals(number))?;
        let (name, value) = (&pair[..equals], &pair[equals + 1..]);
        if value.contains(&b'=') {
            return Err(InvalidDsn::TwoEquals(number));
        }
        let (name, value) = (decoded(name)?, decoded(value)?);
        // For compatibility with JDBC, as in libpq.
        if name == b"ssl" && value == b"true" {
            values.insert("sslmode", b"require".to_vec());
        } else {
            insert(values, &name, value, number)?;
        }
    }
    Ok(())
}

/// Whether the text before the first `@` contains a parameter of a URL.
fn holds_parameters(credentials: &[u8]) -> bool {
    let Some(mark) = position(credentials, b"?") else { return false };
    let mut pairs = credentials[mark + 1..].split(|b| *b == b'&');
    pairs.any(|pair| position(pair, b"=").is_some_and(|equals| is_name(&pair[..equals])))
}

/// Whether a value contains a setting (`name=…`) after a character that separates no settings in this form. A
/// message would show the value of that setting as part of a name.
pub(super) fn holds_settings(value: &str) -> bool {
    let pairs = value.split([';', '&', ',', '?', '#']).skip(1).filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, _)| name.trim().to_ascii_lowercase()).any(|name| is_name(name.as_bytes()))
}

fn is_name(bytes: &[u8]) -> bool {
    bytes == b"ssl" || std::str::from_utf8(bytes).is_ok_and(|name| known(name).is_some())
}

/// Reads `keyword = value …`. Values with spaces are in quotes.
fn read_pairs(text: &[u8]) -> Result<Values, InvalidDsn> {
    let mut values = Values::default();
    let mut bytes = text.iter().copied().peekable();
    let mut number = 0;
    loop {
        while bytes.next_if(|b| is_space(*b)).is_some() {}
        if bytes.peek().is_none() {
            return Ok(values);
        }
        number += 1;
        let mut name = Vec::new();
        while let Some(b) = bytes.next_if(|b| !is_space(*b) && *b != b'=') {
            name.push(b);
        }
        while bytes.next_if(|b| is_space(*b)).is_some() {}
        if bytes.next() != Some(b'=') {
            return Err(InvalidDsn::NoEquals(number));
        }
        while bytes.next_if(|b| is_space(*b)).is_some() {}
        let quoted = bytes.next_if_eq(&b'\'').is_some();
        let mut value = Vec::new();
        loop {
            match bytes.next() {
                Some(b'\'') if quoted => break,
                Some(b'\\') => value.extend(bytes.next()),
                Some(b) if is_space(b) && !quoted => break,
                Some(b) => value.push(b),
                None if quoted => return Err(InvalidDsn::OpenQuote(number)),
                None => break,
            }
        }
        insert(&mut values, &name, value, number)?;
    }
}

/// Like `isspace` in the C locale.
pub(super) fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// Stores a component of a URL; nothing if it is empty.
fn store(values: &mut Values, keyword: &'static str, raw: &[u8]) -> Result<(), InvalidDsn> {
    if !raw.is_empty() {
        values.insert(keyword, decoded(raw)?);
    }
    Ok(())
}

/// Reads one setting.
fn insert(values: &mut Values, name: &[u8], value: Vec<u8>, number: usize) -> Result<(), InvalidDsn> {
    let name = std::str::from_utf8(name).map_err(|_| InvalidDsn::Unknown(number))?;
    if name == "requiressl" {
        let mode = if value.first() == Some(&b'1') { "require" } else { "prefer" };
        values.insert("sslmode", mode.into());
        return Ok(());
    }
    let keyword = known(name).ok_or_else(|| match (of_verticas_clients(name), like(name)) {
        (Some(of_vertica), _) => of_vertica,
        (None, Some(meant)) => InvalidDsn::Misspelled(number, meant),
        (None, None) => InvalidDsn::Unknown(number),
    })?;
    if value.contains(&0) {
        return Err(InvalidDsn::Value(keyword, "a value without zero bytes"));
    }
    values.insert(keyword, value);
    Ok(())
}

/// Cuts off everything before the first of these bytes.
fn cut<'a>(rest: &mut &'a [u8], ends: &[u8]) -> &'a [u8] {
    let (head, tail) = rest.split_at(position(rest, ends).unwrap_or(rest.len()));
    *rest = tail;
    head
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.iter().position(|b| wanted.contains(b))
}

fn decoded(raw: &[u8]) -> Result<Vec<u8>, InvalidDsn> {
    percent_decoded(raw).filter(|bytes| !bytes.contains(&0)).ok_or(InvalidDsn::Percent)
}
