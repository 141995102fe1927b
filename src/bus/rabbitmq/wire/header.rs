//! The content header of a message: the size of the body, and the properties.
//!
//! Only listed properties are kept, so the library sees no value that was not checked here. A value that we
//! use is never changed: it is passed on as it was sent, or it is removed and its name is reported.

use std::fmt::Write;

use super::table::{self, Broken, Bytes};

/// Our header that describes what could not be read.
pub(in crate::bus::rabbitmq) const UNREADABLE: &str = "adu-export-unreadable";
/// Our header with the size of a body that was removed.
pub(in crate::bus::rabbitmq) const LEFT_OUT: &str = "adu-export-left-out";

/// The trace context of a message.
pub(in crate::bus::rabbitmq) const TRACEPARENT: &str = "traceparent";

/// Headers that we use, and their largest length in bytes. Version 00 of a trace context has 55 characters. A
/// much longer value is none.
const HEADERS: [&str; 1] = [TRACEPARENT];
const HEADER_AT_MOST: usize = 256;
/// Largest length of the text about unreadable values, in bytes.
const SAID_AT_MOST: usize = 1024;
/// How many bytes of a value the text shows.
const SHOWN: usize = 40;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Text that we use.
    Kept,
    /// Text that nobody uses.
    Text,
    Table,
    Octets(usize),
}

/// The properties of class `basic` in their order; the first one has the highest bit of the flags.
const PROPERTIES: [(&str, Kind); 14] = [
    ("content_type", Kind::Kept),
    ("content_encoding", Kind::Kept),
    ("headers", Kind::Table),
    ("delivery_mode", Kind::Octets(1)),
    ("priority", Kind::Octets(1)),
    ("correlation_id", Kind::Kept),
    ("reply_to", Kind::Kept),
    ("expiration", Kind::Text),
    ("message_id", Kind::Kept),
    ("timestamp", Kind::Octets(8)),
    ("type", Kind::Text),
    ("user_id", Kind::Kept),
    ("app_id", Kind::Text),
    ("cluster_id", Kind::Text),
];
const HEADERS_BIT: u16 = 1 << 13;
/// All bits of [`PROPERTIES`].
const KNOWN: u16 = !0b11;

/// A content header as the library will receive it.
#[derive(Debug, Default)]
pub(super) struct Content<'a> {
    class: u16,
    body: u64,
    /// Bit of the flags, and value.
    texts: Vec<(u16, &'a [u8])>,
    headers: Vec<(&'static str, &'a [u8])>,
    unreadable: String,
    /// Size of a body that is removed because it is too large.
    pub(super) left_out: Option<u64>,
}

impl<'a> Content<'a> {
    /// Parses a payload. `whole` says whether it is complete. `None` if it ends before the size of the body.
    pub(super) fn read(payload: &'a [u8], whole: bool, largest_body: u64) -> Option<Self> {
        let mut rest = Bytes(payload);
        let class = u16::from_be_bytes(rest.array()?);
        let _weight: [u8; 2] = rest.array()?;
        let body = u64::from_be_bytes(rest.array()?);
        let left_out = (body > largest_body).then_some(body);
        let mut content =
            Self { class, body: if left_out.is_some() { 0 } else { body }, left_out, ..Self::default() };
        if whole {
            content.properties(rest);
        } else {
            content.say(format_args!("its properties have more than {} bytes", payload.len()));
        }
        Some(content)
    }

    fn properties(&mut self, mut rest: Bytes<'a>) {
        let Some(flags) = rest.array().map(u16::from_be_bytes) else {
            return self.say(format_args!("it has no property flags"));
        };
        if flags & !KNOWN != 0 {
            return self.say(format_args!("its property flags {flags:#06x} are not those of AMQP 0-9-1"));
        }
        let mut bit = 1 << 15;
        for (name, kind) in PROPERTIES {
            if flags & bit != 0 && self.property(&mut rest, bit, name, kind).is_none() {
                return self.say(format_args!("its properties end within `{name}`"));
            }
            bit >>= 1;
        }
        if !rest.0.is_empty() {
            self.say(format_args!("{} bytes follow its properties", rest.0.len()));
        }
    }

    /// Reads one property; `None` if the payload ends within it.
    fn property(&mut self, rest: &mut Bytes<'a>, bit: u16, name: &str, kind: Kind) -> Option<()> {
        match kind {
            Kind::Octets(n) => drop(rest.take(n)?),
            Kind::Table => self.table(rest.long()?),
            Kind::Kept | Kind::Text => {
                let value = rest.short()?;
                if std::str::from_utf8(value).is_err() {
                    self.say(format_args!("its property `{name}` is not UTF-8: {}", Shown(value)));
                } else if kind == Kind::Kept {
                    self.texts.push((bit, value));
                }
            }
        }
        Some(())
    }

    fn table(&mut self, table: &'a [u8]) {
        let mut kept: Vec<(&'static str, &'a [u8])> = Vec::new();
        let walked = table::walk(table, |name, kind, value| {
            let known = HEADERS.into_iter().find(|h| h.as_bytes() == name);
            if let Some(name) = known
                && kind == b'S'
                && value.len() <= HEADER_AT_MOST
                && kept.iter().all(|(other, _)| *other != name)
            {
                kept.push((name, value));
            }
        });
        self.headers = kept;
        match walked {
            Ok(()) => {}
            Err(Broken::Name(name)) => {
                self.say(format_args!("the name of one of its `headers` is not UTF-8: {}", Shown(name)));
            }
            Err(Broken::Type(kind)) => {
                self.say(format_args!("one of its `headers` has the unknown type {}", Shown(&[kind])));
            }
            Err(Broken::Short) => self.say(format_args!("its `headers` end within a value")),
        }
    }

    fn say(&mut self, what: std::fmt::Arguments<'_>) {
        let separator = if self.unreadable.is_empty() { "" } else { ", " };
        if self.unreadable.len() < SAID_AT_MOST {
            // Writing to a String cannot fail.
            let _ = write!(self.unreadable, "{separator}{what}");
        }
    }

    /// The payload of the new frame.
    pub(super) fn encode(&self) -> Vec<u8> {
        let size = self.left_out.map(|bytes| bytes.to_string());
        let mut headers = Vec::new();
        let ours =
            [(UNREADABLE, self.unreadable.as_bytes()), (LEFT_OUT, size.as_deref().unwrap_or("").as_bytes())];
        let ours = ours.into_iter().filter(|(_, value)| !value.is_empty());
        for (name, value) in self.headers.iter().copied().chain(ours) {
            short(&mut headers, name.as_bytes());
            headers.push(b'S');
            long(&mut headers, value);
        }
        let flags = self.texts.iter().fold(0, |flags, (bit, _)| flags | bit);
        let flags = if headers.is_empty() { flags } else { flags | HEADERS_BIT };
        let mut payload = Vec::with_capacity(512);
        payload.extend_from_slice(&self.class.to_be_bytes());
        payload.extend_from_slice(&[0; 2]);
        payload.extend_from_slice(&self.body.to_be_bytes());
        payload.extend_from_slice(&flags.to_be_bytes());
        let (before, after) = self.texts.split_at(self.texts.partition_point(|(bit, _)| *bit > HEADERS_BIT));
        before.iter().for_each(|(_, value)| short(&mut payload, value));
        if !headers.is_empty() {
            long(&mut payload, &headers);
        }
        after.iter().for_each(|(_, value)| short(&mut payload, value));
        payload
    }
}

/// Appends a short string. It has at most 255 bytes, because it is a name of ours or came as a short string.
fn short(out: &mut Vec<u8>, text: &[u8]) {
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(text);
}

fn long(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(text);
}

/// Bytes in an escaped form that people can compare with what they sent: `caf\xe9`.
struct Shown<'a>(&'a [u8]);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cut = self.0.len() > SHOWN;
        write!(f, "{}{}", self.0[..self.0.len().min(SHOWN)].escape_ascii(), if cut { "…" } else { "" })
    }
}
