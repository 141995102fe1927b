//! AMQP as it stands on the wire. The unit tests of `src/bus/rabbitmq/wire/` include this file as well.

/// Bits and names of the properties that are short strings.
pub(crate) const TEXTS: [(u16, &str); 10] = [
    (15, "content_type"),
    (14, "content_encoding"),
    (10, "correlation_id"),
    (9, "reply_to"),
    (8, "expiration"),
    (7, "message_id"),
    (5, "type"),
    (4, "user_id"),
    (3, "app_id"),
    (2, "cluster_id"),
];

/// A short string.
pub(crate) fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).expect("short")], text].concat()
}

/// A long string, or a table.
pub(crate) fn long(text: &[u8]) -> Vec<u8> {
    [&u32::try_from(text.len()).expect("fits").to_be_bytes(), text].concat()
}

/// A field of a table, called `a`: a string, a table or an array.
pub(crate) fn field(kind: u8, content: &[u8]) -> Vec<u8> {
    [short(b"a"), vec![kind], long(content)].concat()
}

/// A frame.
pub(crate) fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    [&[kind], &channel.to_be_bytes()[..], &long(payload), &[0xCE]].concat()
}

/// The payload of a content header: size of the body, flags and values of the properties.
pub(crate) fn header(body: u64, flags: u16, properties: &[u8]) -> Vec<u8> {
    [&[0, 60, 0, 0], &body.to_be_bytes()[..], &flags.to_be_bytes(), properties].concat()
}

/// Nested values, so many that a recursive reader has no stack left.
pub(crate) fn nested(levels: usize, table: bool) -> Vec<u8> {
    let mut bytes = if table { vec![] } else { short(b"a") };
    for level in (0..levels).rev() {
        bytes.extend(if table { &[0, b'F'][..] } else { b"A" });
        bytes.extend(u32::try_from(level * if table { 6 } else { 5 }).expect("fits").to_be_bytes());
    }
    bytes
}
