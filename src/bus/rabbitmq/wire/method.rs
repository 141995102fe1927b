//! Repairs strings in methods that the broker sends.

use super::table::Bytes;

/// An argument of a method.
#[derive(Clone, Copy)]
enum Field {
    Text,
    Octets(usize),
}
use Field::{Octets, Text};

/// The arguments of a method up to its last string; empty if it has none that other people chose.
fn layout(class: u16, method: u16) -> &'static [Field] {
    match (class, method) {
        // connection.close, channel.close: code and text.
        (10, 50) | (20, 40) => &[Octets(2), Text],
        // connection.open-ok, connection.blocked; queue.declare-ok; basic.consume-ok, cancel, cancel-ok, get-empty.
        (10, 41 | 60) | (50, 11) | (60, 21 | 30 | 31 | 72) => &[Text],
        // basic.return: code, text, exchange, routing key.
        (60, 50) => &[Octets(2), Text, Text, Text],
        // basic.deliver: consumer, tag, redelivered, exchange, routing key.
        (60, 60) => &[Text, Octets(9), Text, Text],
        // basic.get-ok: tag, redelivered, exchange, routing key.
        (60, 71) => &[Octets(9), Text, Text],
        _ => &[],
    }
}

/// Replaces each byte that is not UTF-8 by `?`, so that lengths stay the same. A method with an unexpected
/// form stays unchanged.
pub(super) fn repair(payload: &mut [u8]) {
    let mut head = Bytes(payload);
    let (Some(class), Some(method)) = (head.array(), head.array()) else { return };
    let mut at = 4;
    for field in layout(u16::from_be_bytes(class), u16::from_be_bytes(method)) {
        let length = match field {
            Octets(n) => *n,
            Text => {
                let Some(length) = payload.get(at) else { return };
                at += 1;
                usize::from(*length)
            }
        };
        let Some(value) = payload.get_mut(at..at + length) else { return };
        if matches!(field, Text) {
            to_utf8(value);
        }
        at += length;
    }
}

fn to_utf8(text: &mut [u8]) {
    let mut start = 0;
    while let Err(error) = std::str::from_utf8(&text[start..]) {
        let wrong = start + error.valid_up_to();
        let end = error.error_len().map_or(text.len(), |n| wrong + n);
        text[wrong..end].fill(b'?');
        start = end;
    }
}
