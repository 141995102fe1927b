//! Questions and results.

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;

use super::super::rows::BLOCK_BYTES;
use super::*;
use crate::message::request::OnUnfit;
use crate::relation::Column;
use crate::source::decode::{CopyDecoder, Form, StreamColumn};
use crate::source::{ErrorKind, SourceError};

/// Sends these bytes in answer to the next statement.
async fn answer(server: &mut DuplexStream, sent: &[u8]) -> String {
    let (tag, body) = received(server).await;
    assert_eq!(tag, b'Q');
    server.write_all(sent).await.expect("the client reads");
    String::from_utf8(body).expect("a text").trim_end_matches('\0').to_owned()
}

/// The result of a question to which the server sends these bytes.
async fn asked(sent: &[u8]) -> (Result<Answer, SourceError>, Session<DuplexStream>, DuplexStream) {
    let (mut server, mut session) = connected();
    let (answer, _) = tokio::join!(session.query(&QUESTION), answer(&mut server, sent));
    (answer, session, server)
}

/// All blocks of a result, one after the other.
async fn read<S>(session: &mut Session<S>) -> Result<Vec<u8>, SourceError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut all = Vec::new();
    session.rows(&QUESTION).await?;
    while let Some(block) = session.next().await? {
        assert!(block.len() <= BLOCK_BYTES);
        all.extend(block);
    }
    Ok(all)
}

/// The binary COPY of these rows.
fn copy(rows: &[&[Option<&[u8]>]]) -> Vec<u8> {
    let mut out = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    rows.iter().for_each(|row| out.extend(tuple(row)));
    out.extend([0xff, 0xff]);
    out
}

const ONE: [u8; 8] = 1_i64.to_be_bytes();
const MINUS_INFINITY: [u8; 8] = (-i64::MAX).to_be_bytes();

/// A result of two columns and three rows, and its messages.
fn result() -> (Vec<Vec<u8>>, Vec<u8>) {
    let rows: [&[Option<&[u8]>]; 3] =
        [&[Some(&ONE), Some(b"a")], &[None, Some(b"")], &[Some(&MINUS_INFINITY), None]];
    let messages = vec![
        description(&[field("id", oid::INT8, -1), field("text", oid::VARCHAR, 84)]),
        row(rows[0]),
        row(rows[1]),
        row(rows[2]),
        complete(),
        ready(),
    ];
    (messages, copy(&rows))
}

#[tokio::test]
async fn answers_have_rows_of_each_type() {
    let columns = [
        field("b", oid::BOOL, -1),
        field("i", oid::INT8, -1),
        field("n", oid::NUMERIC, ((19 << 16) | 2) + 4),
        field("f", oid::FLOAT8, -1),
        field("t", oid::VARCHAR, 84),
    ];
    let numeric = (-700_i128).to_be_bytes();
    let float = 2.0_f64.to_be_bytes();
    let first = row(&[Some(&[1]), Some(&ONE), Some(&numeric), Some(&float), Some("ä".as_bytes())]);
    let sent = [description(&columns), first, row(&[None; 5]), complete(), ready()].concat();
    let (answer, mut session, _server) = asked(&sent).await;
    let answer = answer.expect("an answer");
    let rows: Vec<_> = answer.rows().collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].bool(0).expect("a boolean"), Some(true));
    let ints: Vec<_> = (1..4).map(|column| rows[0].int(column).expect("whole")).collect();
    assert_eq!(ints, [Some(1), Some(-7), Some(2)]);
    assert_eq!(rows[0].text(4).expect("a text"), Some("ä"));
    assert!(rows[1].text(4).expect("a text").is_none() && rows[1].int(2).expect("whole").is_none());
    for wrong in [
        rows[0].text(1).map(|_| ()),
        rows[0].int(4).map(|_| ()),
        rows[0].bool(1).map(|_| ()),
        rows[0].int(5).map(|_| ()),
    ] {
        assert!(wrong.expect_err("another type").message.starts_with("read s.t: "));
    }
    assert!(session.is_healthy());
}

#[tokio::test]
async fn statements_without_a_result_are_answered_empty() {
    for end in [complete(), message(b'I', &[])] {
        let (answer, mut session, _server) = asked(&[end, ready()].concat()).await;
        assert_eq!(answer.expect("an answer").rows().len(), 0);
        assert!(session.is_healthy());
    }
}

#[tokio::test]
async fn a_result_becomes_the_copy_that_the_decoder_reads() {
    let (mut server, mut session) = connected();
    let columns = [field("id", oid::INT8, -1), field("at", oid::TIMESTAMP, -1)];
    let sent = [
        description(&columns),
        row(&[Some(&ONE), Some(&MINUS_INFINITY)]),
        row(&[None, None]),
        complete(),
        ready(),
    ];
    let sent = sent.concat();
    let (blocks, _) = tokio::join!(read(&mut session), answer(&mut server, &sent));
    let column = |name: &str, form: Form| StreamColumn {
        column: Column::plain(name, "t", form.column_type(), true),
        form,
        infinity: Some(crate::message::setting::InfinityMode::Max),
    };
    let mut decoder =
        CopyDecoder::new(&[column("id", Form::Int64), column("at", Form::Timestamp)], &[], OnUnfit::Error);
    decoder.take(blocks.expect("rows"));
    let batch = decoder.finish().expect("sound").expect("rows");
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(1), None]);
    assert_eq!(batch.column(1).as_primitive::<TimestampMicrosecondType>().value(0), -i64::MAX);
}

#[tokio::test]
async fn no_short_read_changes_a_result() {
    let (messages, expected) = result();
    let sent = messages.concat();
    for split in 0..=sent.len() {
        // A tiny pipe makes every read short, too.
        for pipe in [1, 7, 1 << 16] {
            let (mut server, client) = duplex(pipe);
            let mut session = session_over(client, STALL);
            let serve = async {
                received(&mut server).await;
                server.write_all(&sent[..split]).await.expect("the client reads");
                tokio::task::yield_now().await;
                server.write_all(&sent[split..]).await.expect("the client reads");
                server
            };
            let (found, _server) = tokio::join!(read(&mut session), serve);
            assert_eq!(found.expect("rows"), expected);
            assert!(session.is_healthy());
        }
    }
}

#[tokio::test]
async fn no_result_that_is_cut_off_is_whole() {
    let (messages, _) = result();
    let sent = messages.concat();
    for end in 0..sent.len() {
        let (mut server, mut session) = connected();
        let serve = async {
            received(&mut server).await;
            server.write_all(&sent[..end]).await.expect("the client reads");
            drop(server);
        };
        let mut found = Vec::new();
        let read = async {
            session.rows(&QUESTION).await?;
            while let Some(block) = session.next().await? {
                found.extend(block);
            }
            Ok::<_, SourceError>(())
        };
        let (result, ()) = tokio::join!(read, serve);
        let error = result.expect_err("cut off");
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Transient, "connection_lost"), "{end}");
        assert!(!found.ends_with(&[0xff, 0xff]) && !session.is_healthy());
        assert!(session.next().await.is_err(), "an error is not followed by an end");
    }
}

#[tokio::test]
async fn a_message_that_is_missing_or_too_much_ends_the_session() {
    let (messages, _) = result();
    let text = message(b'T', &{
        let mut body = [&[0, 1, 0, 0, 0, 0][..], &field("d", oid::DATE, -1)].concat();
        *body.last_mut().expect("a format") = 0;
        body
    });
    let cases: [(Vec<Vec<u8>>, &str); 11] = [
        (vec![messages[0].clone(), ready()], "ReadyForQuery"),
        (vec![messages[0].clone(), complete(), messages[1].clone(), ready()], "DataRow"),
        (vec![messages[0].clone(), complete(), complete()], "CommandComplete"),
        (vec![messages[0].clone(), messages[0].clone()], "RowDescription"),
        (vec![messages[1].clone()], "DataRow"),
        (vec![complete(), ready()], "CommandComplete"),
        (vec![messages[0].clone(), row(&[None])], "columns"),
        (vec![messages[0].clone(), message(b's', &[])], "PortalSuspended"),
        (vec![message(b'G', &[0, 0, 0])], "CopyInResponse"),
        (vec![messages[0].clone(), message(b'O', &[0; 5])], "WriteFile"),
        (vec![text], "as text"),
    ];
    for (sent, named) in cases {
        let (mut server, mut session) = connected();
        let sent = sent.concat();
        let (found, _) = tokio::join!(read(&mut session), answer(&mut server, &sent));
        let error = found.expect_err("refused");
        assert!(error.kind == ErrorKind::Permanent && error.message.contains(named), "{named}: {error}");
        assert!(!session.is_healthy(), "{named}");
        assert!(session.query(&QUESTION).await.is_err());
    }
    for length in [0_u32, 3, 4, 5, 2 << 30, u32::MAX] {
        let (mut server, mut session) = connected();
        let mut sent = [messages[0].clone(), vec![b'D']].concat();
        sent.extend(length.to_be_bytes());
        sent.extend([0, 2]);
        let (found, _) = tokio::join!(read(&mut session), answer(&mut server, &sent));
        assert!(found.expect_err("impossible").message.contains("length"), "{length}");
    }
}

#[tokio::test]
async fn an_error_ends_the_statement_and_not_the_session() {
    let (messages, expected) = result();
    for before in 0..4 {
        let (mut server, mut session) = connected();
        let failed = [messages[..before].concat(), error("ERROR", "22V21", 2318), ready()].concat();
        let (found, _) = tokio::join!(read(&mut session), answer(&mut server, &failed));
        let found = found.expect_err("failed");
        assert_eq!((found.kind, found.code.as_str()), (ErrorKind::LineageLost, "22V21"));
        assert!(
            found.message.starts_with("read s.t: it failed") && !found.message.contains("secret"),
            "{found}"
        );
        assert!(session.next().await.is_err(), "an error is not followed by an end");
        assert!(session.is_healthy());
        let sent = messages.concat();
        let (found, _) = tokio::join!(read(&mut session), answer(&mut server, &sent));
        assert_eq!(found.expect("rows"), expected);
    }
    let (answer, mut session, server) = asked(&error("FATAL", "57V01", 4060)).await;
    drop(server);
    assert_eq!(answer.expect_err("ended").kind, ErrorKind::Exhausted);
    assert!(!session.is_healthy());
}

#[tokio::test]
async fn notices_and_parameters_come_at_any_time() {
    let (messages, expected) = result();
    let chatter = [
        message(b'N', b"SWARNING\0C01000\0M\xff\0\0"),
        parameter("auto_commit", "on"),
        message(b'm', b"SELECT\0\0\0\0"),
        message(b'1', &[]),
    ]
    .concat();
    let mut sent = chatter.clone();
    for message in &messages[..5] {
        sent.extend(message);
        sent.extend(&chatter);
    }
    sent.extend(&messages[5]);
    let (mut server, mut session) = connected();
    let (found, sql) = tokio::join!(read(&mut session), answer(&mut server, &sent));
    assert_eq!((found.expect("rows"), sql.as_str()), (expected, "SELECT 1"));
}

#[tokio::test]
async fn wide_and_many_rows_come_in_pieces() {
    let wide = vec![7; 3 * BLOCK_BYTES];
    let fields: Vec<[Option<&[u8]>; 1]> = (0..20_000)
        .map(|row| [if row % 5_000 == 0 { Some(wide.as_slice()) } else { Some(&ONE[..]) }])
        .collect();
    let rows: Vec<&[Option<&[u8]>]> = fields.iter().map(|row| row.as_slice()).collect();
    let mut sent = description(&[field("b", oid::LONG_VARBINARY, -1)]);
    rows.iter().for_each(|fields| sent.extend(row(fields)));
    sent.extend([complete(), ready()].concat());
    let (mut server, mut session) = connected();
    let (found, _) = tokio::join!(read(&mut session), answer(&mut server, &sent));
    assert!(found.expect("rows") == copy(&rows));
}

#[tokio::test(start_paused = true)]
async fn rows_do_not_wait_for_a_slow_server() {
    let (messages, _) = result();
    let (mut server, mut session) = connected();
    let serve = async {
        answer(&mut server, &messages[..2].concat()).await;
        server
    };
    let (described, _server) = tokio::join!(session.rows(&QUESTION), serve);
    assert_eq!(described.expect("a result").columns.len(), 2);
    let began = tokio::time::Instant::now();
    let block = session.next().await.expect("rows").expect("not the end");
    assert_eq!(block.len(), 19 + 2 + 12 + 5);
    assert!(began.elapsed() < Duration::from_millis(100));
    // Nothing more comes.
    let error = session.next().await.expect_err("stalled");
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Transient, "stalled"));
    assert!(began.elapsed() >= STALL && !session.is_healthy());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_when_a_wait_is_given_up() {
    let (messages, expected) = result();
    let sent = messages.concat();
    let (mut server, mut session) = connected();
    let serve = async {
        received(&mut server).await;
        for byte in sent {
            tokio::time::sleep(Duration::from_millis(7)).await;
            server.write_all(&[byte]).await.expect("the client reads");
        }
        server
    };
    let read = async {
        session.rows(&QUESTION).await.expect("a result");
        let mut all = Vec::new();
        loop {
            match tokio::time::timeout(Duration::from_millis(3), session.next()).await {
                Ok(Ok(Some(block))) => all.extend(block),
                Ok(Ok(None)) => return all,
                Ok(Err(error)) => panic!("{error}"),
                Err(_) => {}
            }
        }
    };
    let (found, _server) = tokio::join!(read, serve);
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_session_with_an_open_question_is_not_used_again() {
    let (mut server, mut session) = connected();
    let given_up = tokio::time::timeout(Duration::from_millis(20), session.query(&QUESTION)).await;
    assert!(given_up.is_err() && !session.is_healthy());
    assert_eq!(received(&mut server).await.0, b'Q');
    assert_eq!(session.query(&QUESTION).await.expect_err("busy").code, "aborted");
    // A server that closes an idle session is noticed.
    let (server, mut session) = connected();
    assert!(session.is_healthy());
    drop(server);
    assert!(!session.is_healthy());
}

#[tokio::test]
async fn complex_columns_are_one_column_each() {
    // row(name varchar, c array[array[int]]), then a geometry, then an int of a table.
    let mut body = vec![0, 6, 0, 0, 0, 1];
    body.extend([&[0, 0, 0, 116][..], b"geometry\0"].concat());
    let part = |name: &str, attribute: u16, parent: u16, user: u8, ty: u32| {
        let mut out = format!("{name}\0").into_bytes();
        out.extend(9_u64.to_be_bytes());
        out.extend(b"s\0t\0");
        out.extend([attribute.to_be_bytes(), parent.to_be_bytes()].concat());
        out.push(user);
        out.extend(ty.to_be_bytes());
        out.extend([0xff, 0xff, 0, 1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 1]);
        out
    };
    body.extend(part("r", 1, 0, 0, oid::ROW));
    body.extend(part("name", 2, 1, 0, oid::VARCHAR));
    body.extend(part("c", 3, 1, 0, oid::ARRAY));
    body.extend(part("", 4, 3, 0, 1506));
    body.extend(part("g", 5, 0, 1, 0));
    body.extend(part("i", 6, 0, 0, oid::INT8));
    let described = Description::parse(&body, true).expect("well-formed");
    let names: Vec<_> = described.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["r", "g", "i"]);
    assert_eq!(described.columns[1].oid, oid::LONG_VARBINARY);
    assert_eq!(described.columns[2].precision_and_scale(), (1024, 15));
    for end in 0..body.len() {
        assert!(Description::parse(&body[..end], true).is_err(), "{end}");
    }
    assert!(Description::parse(&[0, 0], true).expect("no column").columns.is_empty());
    assert!(Description::parse(&[0x80, 0], true).is_err());
    // A part without its column, and a user-defined type that is not there.
    for wrong in [part("x", 1, 7, 0, 6), part("x", 1, 0, 1, 0)] {
        assert!(Description::parse(&[&[0, 1, 0, 0, 0, 0][..], &wrong].concat(), true).is_err());
    }
}

#[test]
fn elements_have_the_oids_of_the_vendors_table() {
    let expected = [
        (1505, oid::BOOL),
        (1506, oid::INT8),
        (1516, oid::NUMERIC),
        (1517, oid::VARBINARY),
        (1518, oid::LONG_VARBINARY),
        (1519, oid::LONG_VARCHAR),
        (1520, oid::UUID),
        (1521, oid::INTERVAL_YM),
        (1522, oid::BINARY),
    ];
    for (array, element) in expected {
        assert_eq!(oid::element(array), Some(element));
        assert_eq!(oid::element(array + 1200), Some(element));
    }
    for other in [0, 5, 300, 301, 1504, 1523, 2704, 2723, u32::MAX] {
        assert_eq!(oid::element(other), None);
    }
}

/// Bytes that look like messages.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let tag = proptest::sample::select(b"1CDEFGHIKNORSTYZcmns".to_vec());
    let body = proptest::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..40);
    let message = (tag, body, -3_i64..4).prop_map(|(tag, body, off)| {
        let length = if off == 3 { i64::from(u32::MAX) } else { body.len() as i64 + 4 + off.min(0) };
        let mut out = vec![tag];
        out.extend((length as u32).to_be_bytes());
        out.extend(body);
        out
    });
    proptest::collection::vec(
        prop_oneof![4 => message, 1 => proptest::collection::vec(any::<u8>(), 0..20)],
        0..12,
    )
    .prop_map(|messages| messages.concat())
}

proptest! {
    #[test]
    fn no_bytes_of_a_server_cause_a_panic_or_an_end(sent in bytes(), described: bool, is_question: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let (mut server, mut session) = connected();
            let sent = if described { [result().0[0].clone(), sent].concat() } else { sent };
            let serve = async {
                received(&mut server).await;
                let _ = server.write_all(&sent).await;
                drop(server);
            };
            if is_question {
                let (answer, ()) = tokio::join!(session.query(&QUESTION), serve);
                let complete = [complete(), ready()].map(|message| message[0]);
                prop_assert!(answer.is_err() || complete.iter().all(|tag| sent.contains(tag)) || sent.contains(&b'I'));
            } else {
                let (rows, ()) = tokio::join!(read(&mut session), serve);
                prop_assert!(rows.is_err() || (sent.contains(&b'C') && sent.contains(&b'Z')));
            }
            Ok(())
        })?;
    }

    #[test]
    fn no_description_causes_a_panic(body in proptest::collection::vec(prop_oneof![3 => Just(0_u8), 1 => any::<u8>()], 0..200), complex: bool) {
        let _ = Description::parse(&body, complex);
    }
}
