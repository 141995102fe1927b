//! Frames of every kind, in pieces of every size. The library's own parser decides what the library can read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_io::AsyncRead;
use lapin::BasicProperties;
use lapin::protocol::{AMQPClass, basic, parse_class};
use proptest::prelude::*;

use super::super::super::Properties;
use super::super::message::received;
use super::Wire;
use super::frames::Frames;
use crate::bus::body::MAX_BODY;
use amqp::{TEXTS, field, frame, long, nested, short};

#[path = "../../../../tests/support/amqp.rs"]
mod amqp;

/// A content header frame on channel 1.
fn header(body: u64, flags: u16, properties: &[u8]) -> Vec<u8> {
    frame(2, 1, &amqp::header(body, flags, properties))
}

fn headers(table: &[u8]) -> Vec<u8> {
    header(0, 1 << 13, &long(table))
}

fn deliver(exchange: &[u8], routing_key: &[u8]) -> Vec<u8> {
    let arguments = [short(b"ctag"), vec![0; 9], short(exchange), short(routing_key)].concat();
    frame(1, 1, &[&[0, 60, 0, 60], &arguments[..]].concat())
}

fn screened<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let (mut frames, mut out) = (Frames::default(), Vec::new());
    for piece in pieces {
        frames.screen(piece, &mut out);
    }
    out
}

#[derive(Debug, PartialEq)]
enum Parsed {
    Method(AMQPClass),
    Header(u64, Box<BasicProperties>),
    Other(Vec<u8>),
}

/// The frames that the library parses from a stream; `None` if it would end the connection.
fn parsed(mut stream: &[u8]) -> Option<Vec<Parsed>> {
    let mut frames = Vec::new();
    while !stream.is_empty() {
        let size = u32::from_be_bytes(stream.get(3..7)?.try_into().ok()?) as usize;
        let payload = stream.get(7..7 + size)?;
        (*stream.get(7 + size)? == 0xCE).then_some(())?;
        frames.push(match stream[0] {
            1 => match parse_class(payload).ok()? {
                ([], method) => Parsed::Method(method),
                _ => return None,
            },
            2 => match basic::parse_properties(payload.get(12..)?).ok()? {
                ([], read) => {
                    Parsed::Header(u64::from_be_bytes(payload[4..12].try_into().ok()?), Box::new(read))
                }
                _ => return None,
            },
            3 | 8 => Parsed::Other(payload.to_vec()),
            _ => return None,
        });
        stream = &stream[8 + size..];
    }
    Some(frames)
}

/// The properties that handlers get from the only header in a stream.
fn properties(stream: &[u8]) -> Properties {
    let out = screened([stream]);
    match &parsed(&out).expect("the library reads it")[..] {
        [Parsed::Header(_, properties)] => received(properties),
        other => panic!("not one header: {other:?}"),
    }
}

#[test]
fn a_message_is_delivered_with_what_is_read_of_it() {
    let table =
        [short(b"x-count"), vec![b'l'], vec![0; 8], short(b"traceparent"), vec![b'S'], long(b"00-a-b-01")];
    let values: [&[u8]; 14] = [
        &short(b"text/plain"),
        &short(b"gzip"),
        &long(&table.concat()),
        &[2],
        &[9],
        &short("größe".as_bytes()),
        &short(b"a.queue"),
        &short(b"1000"),
        &short(b"id-1"),
        &[0xFF; 8],
        &short(b"a type"),
        &short(b"guest"),
        &short(b"app"),
        &short(b"cluster"),
    ];
    let read = properties(&header(5, !0b11, &values.concat()));
    let expected = Properties {
        message_id: Some("id-1".into()),
        correlation_id: Some("größe".into()),
        reply_to: Some("a.queue".into()),
        user_id: Some("guest".into()),
        traceparent: Some("00-a-b-01".into()),
        content_type: Some("text/plain".into()),
        content_encoding: Some("gzip".into()),
        ..Properties::default()
    };
    assert_eq!(format!("{read:?}"), format!("{expected:?}"));
    let empty = screened([&header(0, 0, &[])[..]]);
    assert_eq!(empty, header(0, 0, &[]), "nothing is added where nothing is wrong");
}

#[test]
fn a_text_that_is_not_utf8_is_left_out_and_named() {
    for (bit, name) in TEXTS {
        let others = if bit == 7 { (1 << 9, short(b"q")) } else { (1 << 7, short(b"id")) };
        let (first, second) = match bit > if bit == 7 { 9 } else { 7 } {
            true => (short(b"caf\xe9"), others.1),
            false => (others.1, short(b"caf\xe9")),
        };
        let read = properties(&header(0, 1 << bit | others.0, &[first, second].concat()));
        assert_eq!(
            read.unreadable.as_deref(),
            Some(&*format!(r"its property `{name}` is not UTF-8: caf\xe9"))
        );
        assert!(read.message_id.or(read.reply_to).is_some(), "the other one is read beside {name}");
    }
}

#[test]
fn headers_that_cannot_be_read_are_told_at_every_depth() {
    let bad = [short(b"\xff"), vec![b'V']].concat();
    let listed = [&[b'F'][..], &long(&bad)].concat();
    for table in [bad.clone(), field(b'F', &bad), field(b'F', &field(b'F', &bad)), field(b'A', &listed)] {
        let read = properties(&headers(&table));
        let why = read.unreadable.expect("unreadable");
        assert_eq!(why, r"the name of one of its `headers` is not UTF-8: \xff");
    }
    let after = [field(b'F', &[]), field(b'A', b"VV"), bad].concat();
    assert!(properties(&headers(&after)).unreadable.is_some(), "what follows a table is looked at as well");
    let unknown = [short(b"a"), vec![b'Z', 0, 0]].concat();
    assert!(properties(&headers(&unknown)).unreadable.expect("unreadable").contains("unknown type Z"));
    assert!(
        properties(&headers(&field(b'S', b"x")[..5])).unreadable.expect("unreadable").contains("end within")
    );
    let ours = [short(super::UNREADABLE.as_bytes()), vec![b'S'], long(b"forged")].concat();
    assert_eq!(properties(&headers(&ours)).unreadable, None, "only the wire says it");
}

#[test]
fn depth_and_size_of_headers_cost_nothing() {
    for table in [nested(20_000, true), nested(25_000, false)] {
        let stream = headers(&table);
        assert_eq!(properties(&stream).unreadable, None);
        assert!(screened([&stream[..]]).len() < 100, "nothing of it is handed on");
    }
    let text = [short(b"a"), vec![b'S'], long(&vec![b'x'; 1 << 20])].concat();
    assert!(properties(&headers(&text)).unreadable.expect("unreadable").contains("more than"));
    let mut frames = Frames::default();
    for piece in headers(&text).chunks(1000) {
        frames.screen(piece, &mut Vec::new());
        assert!(frames.held() <= 600 * 1024);
    }
    assert!(frames.held() <= 1024, "and it is given back");
}

#[test]
fn properties_of_another_form_are_told() {
    for (flags, bytes, why) in [
        (1, &b"\0\0"[..], "flags"),
        (1 << 7, b"\x05ab", "end within `message_id`"),
        (1 << 6, b"\0", "end within `timestamp`"),
        (1 << 13, b"\0\0\0\x09ab", "end within `headers`"),
        (0, b"garbage", "7 bytes follow"),
    ] {
        let read = properties(&header(0, flags, bytes));
        let said = read.unreadable.expect("unreadable");
        assert!(said.contains(why), "{said}");
    }
    assert_eq!(properties(&frame(2, 1, &[0; 12])).unreadable.as_deref(), Some("it has no property flags"));
}

#[test]
fn a_body_that_is_too_large_is_left_out_and_the_next_one_is_not() {
    let piece = vec![b'x'; 100_000];
    let body = |bytes: usize| -> Vec<u8> {
        (0..bytes)
            .step_by(piece.len())
            .flat_map(|at| frame(3, 1, &piece[..piece.len().min(bytes - at)]))
            .collect()
    };
    let small = [header(3, 0, &[]), frame(3, 1, b"abc")].concat();
    let other = frame(3, 2, b"of another channel");
    let size = 3 * MAX_BODY + 1;
    let large = [header(size as u64, 0, &[]), other.clone(), body(size)].concat();
    let out = screened([&large[..], &small]);
    let mut frames = parsed(&out).expect("readable");
    let before = frames.len();
    frames.retain(|frame| *frame != Parsed::Other(vec![]));
    assert!(before - frames.len() > 30, "the library sees that the broker lives");
    let [Parsed::Header(0, said), Parsed::Other(theirs), Parsed::Header(3, _), Parsed::Other(last)] =
        &frames[..]
    else {
        panic!("{frames:?}")
    };
    assert_eq!(received(said).left_out, Some(size as u64));
    assert_eq!((&theirs[..], &last[..]), (&b"of another channel"[..], &b"abc"[..]));
    let exact = [header(MAX_BODY as u64, 0, &[]), body(MAX_BODY)].concat();
    assert_eq!(screened([&exact[..]]), exact);
    // A content that ends early does not take bytes of the next one.
    let cut = [header(size as u64, 0, &[]), deliver(b"", b"q"), small.clone()].concat();
    assert!(screened([&cut[..]]).ends_with(&small));
}

#[test]
fn strings_of_methods_are_made_readable_in_place() {
    let stream = [deliver(b"caf\xe9", "grö\u{df}e".as_bytes()), deliver(b"\xff\xfe", b"cut \xc3")].concat();
    assert_eq!(parsed(&stream), None, "the library refuses it");
    let fixed = screened([&stream[..]]);
    assert_eq!(fixed.len(), stream.len());
    assert!(parsed(&fixed).is_some());
    let readable = deliver("grö\u{df}e".as_bytes(), b"cut ?");
    assert_eq!(screened([&deliver("grö\u{df}e".as_bytes(), b"cut \xc3")[..]]), readable);
    let close = [&[0, 10, 0, 50, 1, 64][..], &short(b"access to '\xe9' refused"), &[0; 4]].concat();
    assert!(parsed(&screened([&frame(1, 0, &close)[..]])).is_some());
}

#[test]
fn what_is_no_amqp_passes_as_it_is() {
    for answer in
        [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"AMQP\0\0\x09\x01", b"\x15\x03\x01\0\x02\x02\x0a", b"\0"]
    {
        assert_eq!(screened(answer.chunks(1)), answer);
        assert_eq!(screened([answer]), answer);
    }
    let torn = [&[1, 0, 1, 0, 0, 0, 2, 0, 0, 7][..], b"and so on"].concat();
    assert_eq!(screened([&torn[..]]), torn);
    let no_size = frame(2, 1, b"short");
    assert_eq!(screened([&no_size[..]])[..12], no_size[..12]);
}

/// Gives a stream in pieces of these sizes, with a pause before each.
struct Pieces(Vec<u8>, Vec<usize>, bool);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.2 = !self.2;
        if self.2 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let size = self.1.pop().unwrap_or(usize::MAX).min(buffer.len()).min(self.0.len());
        let piece: Vec<u8> = self.0.drain(..size).collect();
        buffer[..size].copy_from_slice(&piece);
        Poll::Ready(Ok(size))
    }
}

fn read_all(mut wire: Wire<Pieces>, room: usize) -> Vec<u8> {
    let (mut out, mut buffer) = (Vec::new(), vec![0; room]);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match Pin::new(&mut wire).poll_read(&mut cx, &mut buffer) {
            Poll::Pending => {}
            Poll::Ready(read) => match read.expect("no error") {
                0 => return out,
                n => out.extend_from_slice(&buffer[..n]),
            },
        }
    }
}

prop_compose! {
    /// A frame as brokers send them, with whatever publishers wrote.
    fn any_frame()(
        kind in 0..6,
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        flags in any::<u16>(),
        size in prop_oneof![0..400u64, 0..u64::MAX],
        channel in 0..3u16,
    ) -> Vec<u8> {
        match kind {
            0 => deliver(&bytes[..bytes.len().min(255)], &bytes[..bytes.len() / 2]),
            1 => header(size, flags & !0b11, &bytes),
            2 => header(size, 1 << 13 | flags & 0xff, &[long(&bytes), short(&bytes[..bytes.len() / 2])].concat()),
            3 => frame(3, channel, &bytes),
            4 => frame(8, channel, &[]),
            _ => frame(1, channel, &[&[0, 20, 0, 41], &bytes[..]].concat()),
        }
    }
}

proptest! {
    #[test]
    fn pieces_of_any_size_give_the_same_stream(
        stream in prop::collection::vec(any_frame(), 1..8),
        sizes in prop::collection::vec(1..40usize, 0..200),
        room in 1..200usize,
    ) {
        let stream = stream.concat();
        let whole = screened([&stream[..]]);
        prop_assert_eq!(&read_all(Wire::new(Pieces(stream, sizes, false)), room), &whole);
    }

    #[test]
    fn the_library_can_read_whatever_a_publisher_wrote(stream in prop::collection::vec(
        any_frame().prop_filter("channel.close-ok with garbage is not a publisher's", |f| f[0] != 1 || f[8] == 60), 1..8,
    )) {
        let out = screened([&stream.concat()[..]]);
        prop_assert!(parsed(&out).is_some(), "{:x?}", out);
    }

    #[test]
    fn garbage_never_panics_and_passes_or_waits(
        stream in prop::collection::vec(any::<u8>(), 0..2000),
        first in prop_oneof![Just(1u8), Just(2), Just(3), Just(8), any::<u8>()],
    ) {
        let stream = [&[first, 0, 0, 0, 0], &stream[..]].concat();
        let out = screened(stream.chunks(7));
        prop_assert!(out.len() <= stream.len() + 4096);
    }
}
