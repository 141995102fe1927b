//! Hosts, nodes and cancel requests, over sockets.

use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::source::ErrorKind;

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

/// A port where nobody listens.
async fn closed() -> u16 {
    listener().await.1
}

fn login_at(ports: &[u16]) -> Login {
    let hosts = ports.iter().map(|port| ("127.0.0.1".to_owned(), *port)).collect();
    Login { hosts, connect_timeout: Duration::from_millis(500), ..login_as(Credential::Password(None)) }
}

/// Takes a session.
async fn take(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.expect("a client");
    untyped(&mut stream).await;
    stream.write_all(&greeting()).await.expect("the client reads");
    stream
}

#[tokio::test]
async fn hosts_are_tried_in_turn() {
    let (silent, silent_port) = listener().await;
    let (good, good_port) = listener().await;
    let login = login_at(&[closed().await, silent_port, good_port]);
    let (session, _stream) = tokio::join!(Session::open(&login), take(&good));
    assert!(session.expect("a session").is_healthy());
    drop(silent);
    let nobody = Session::open(&login_at(&[closed().await])).await;
    let Err(error) = nobody else { panic!("nobody is there") };
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(error.message.starts_with("connect to 127.0.0.1:"), "{error}");
}

#[tokio::test]
async fn a_full_node_is_passed_and_a_wrong_password_is_not_tried_elsewhere() {
    let refuse = async |listener: &TcpListener, code: &str| {
        let (mut stream, _) = listener.accept().await.expect("a client");
        untyped(&mut stream).await;
        stream.write_all(&error("FATAL", code, 1)).await.expect("the client reads");
    };
    let ((first, first_port), (second, second_port)) = (listener().await, listener().await);
    let login = login_at(&[first_port, second_port]);
    let (session, (), _stream) = tokio::join!(Session::open(&login), refuse(&first, "53300"), take(&second));
    assert!(session.is_ok());
    let (session, ()) = tokio::join!(Session::open(&login), refuse(&first, "28000"));
    let Err(error) = session else { panic!("refused") };
    assert_eq!(error.kind, ErrorKind::Authentication);
    assert!(tokio::time::timeout(Duration::from_millis(50), second.accept()).await.is_err());
}

#[tokio::test]
async fn the_server_may_name_another_node() {
    let ((first, first_port), (second, second_port)) = (listener().await, listener().await);
    let login = Login { load_balance: true, ..login_at(&[first_port]) };
    // Answers a LoadBalanceRequest.
    let name = async |answer: &[u8]| {
        let (mut stream, _) = first.accept().await.expect("a client");
        assert_eq!(untyped(&mut stream).await, 80_936_960_u32.to_be_bytes());
        stream.write_all(answer).await.expect("the client reads");
        stream
    };
    let node = |port: u16| message(b'Y', &[&u32::from(port).to_be_bytes()[..], b"127.0.0.1\0"].concat());
    let greet = async |mut stream: TcpStream| {
        untyped(&mut stream).await;
        stream.write_all(&greeting()).await.expect("the client reads");
        stream
    };
    let other = node(second_port);
    let (session, _asked, _stream) = tokio::join!(Session::open(&login), name(&other), take(&second));
    assert!(session.is_ok());
    // The same node, no load balancing, and a node that cannot be reached: the first one takes the session.
    for answer in [node(first_port), b"N".to_vec(), node(closed().await)] {
        let served = async { greet(name(&answer).await).await };
        let (session, _stream) = tokio::join!(Session::open(&login), served);
        assert!(session.is_ok(), "{answer:?}");
    }
    for wrong in
        [b"E".to_vec(), vec![b'Y', 0xff, 0xff, 0xff, 0xff], message(b'Y', &[0xff; 8]), message(b'Y', &[0; 4])]
    {
        let (session, _stream) = tokio::join!(Session::open(&login), name(&wrong));
        assert!(session.is_err(), "{wrong:?}");
    }
}

#[tokio::test]
async fn tls_that_is_demanded_is_not_left_out() {
    let (server, port) = listener().await;
    for (demand, taken) in [(TlsDemand::Require, false), (TlsDemand::Prefer, true)] {
        let tls =
            Tls { demand, roots: None, client_cert: None, direct: false, sni: true, versions: (true, true) };
        let login = Login { tls: Security::new(&tls, None).expect("no certificates"), ..login_at(&[port]) };
        let serve = async {
            let (mut stream, _) = server.accept().await.expect("a client");
            assert_eq!(untyped(&mut stream).await, 80_877_103_u32.to_be_bytes());
            stream.write_all(b"N").await.expect("the client reads");
            if taken {
                untyped(&mut stream).await;
                stream.write_all(&greeting()).await.expect("the client reads");
            }
            stream
        };
        let (session, _stream) = tokio::join!(Session::open(&login), serve);
        assert_eq!(session.as_ref().err().map(|error| error.code.as_str()), (!taken).then_some("tls"));
    }
}

#[tokio::test]
async fn a_statement_is_cancelled_by_its_key() {
    let (server, port) = listener().await;
    let (session, mut stream) =
        tokio::join!(async { Session::open(&login_at(&[port])).await }, take(&server));
    let mut session = session.expect("a session");
    let canceller = session.canceller.clone();
    let serve = async {
        received(&mut stream).await;
        let sent = [description(&[field("id", oid::INT8, -1)]), row(&[Some(&[7; 8])])].concat();
        stream.write_all(&sent).await.expect("the client reads");
        let (mut cancel, _) = server.accept().await.expect("a second connection");
        assert_eq!(untyped(&mut cancel).await, [80_877_102_u32, 42, 4711].map(u32::to_be_bytes).concat());
        drop(cancel);
        let end = [error("ERROR", "57014", 3326), ready()].concat();
        stream.write_all(&end).await.expect("the client reads");
        stream
    };
    let read = async {
        session.rows(&QUESTION).await.expect("a result");
        assert!(session.next().await.expect("rows").is_some());
        canceller.cancel().await;
        let error = session.next().await.expect_err("cancelled");
        (error, session.is_healthy())
    };
    let ((error, is_healthy), _stream) = tokio::join!(read, serve);
    assert!(error.code == "57014" && is_healthy, "{error}");
}

#[tokio::test]
async fn stopping_ends_the_work_of_a_reader_that_no_longer_reads() {
    let (server, port) = listener().await;
    let (session, mut stream) =
        tokio::join!(async { Session::open(&login_at(&[port])).await }, take(&server));
    let mut session = session.expect("a session");
    let serve = async {
        received(&mut stream).await;
        let mut sent = description(&[field("id", oid::INT8, -1)]);
        sent.extend(row(&[Some(&[7; 8])]));
        // A row that is still under way when the session is stopped.
        sent.extend(&row(&[Some(&[7; 100_000])])[..50_000]);
        stream.write_all(&sent).await.expect("the client reads");
        let (mut cancel, _) = server.accept().await.expect("a second connection");
        untyped(&mut cancel).await;
        drop(cancel);
        stream.write_all(&row(&[Some(&[7; 100_000])])[50_000..]).await.expect("the client reads");
        stream.write_all(&[error("ERROR", "57014", 3326), ready()].concat()).await.expect("the client reads");
        let (tag, _) = received(&mut stream).await;
        assert_eq!(tag, b'X', "the session is closed in order");
    };
    let stop = async {
        session.rows(&QUESTION).await.expect("a result");
        session.next().await.expect("rows");
        session.stop().await;
    };
    tokio::join!(serve, stop);
}

#[tokio::test]
async fn a_statement_that_stalls_is_cancelled_when_its_session_is_stopped() {
    for rows in [false, true] {
        let (server, port) = listener().await;
        let login = Login { stall: Duration::from_millis(300), ..login_at(&[port]) };
        let (session, mut stream) = tokio::join!(async { Session::open(&login).await }, take(&server));
        let mut session = session.expect("a session");
        let serve = async {
            received(&mut stream).await;
            if rows {
                let sent = [description(&[field("id", oid::INT8, -1)]), row(&[Some(&[7; 8])])].concat();
                stream.write_all(&sent).await.expect("the client reads");
            }
            let (mut cancel, _) = server.accept().await.expect("a second connection");
            assert_eq!(untyped(&mut cancel).await[..4], 80_877_102_u32.to_be_bytes());
            drop(cancel);
            let end = [error("ERROR", "57014", 3326), ready()].concat();
            stream.write_all(&end).await.expect("the client reads");
            assert_eq!(received(&mut stream).await.0, b'X', "the session is closed in order");
        };
        let stalled = async {
            let error = if rows {
                session.rows(&QUESTION).await.expect("a result");
                session.next().await.expect("rows");
                session.next().await.map(|_| ()).expect_err("stalled")
            } else {
                session.query(&QUESTION).await.map(|_| ()).expect_err("stalled")
            };
            assert!(error.code == "stalled" && !session.is_healthy(), "{error}");
            assert_eq!(session.query(&QUESTION).await.map(|_| ()).expect_err("busy").code, "aborted");
            session.stop().await;
        };
        tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(serve, stalled) })
            .await
            .expect("a cancel arrives");
    }
}

/// A server that computes does not notice that its client is gone.
#[tokio::test]
async fn a_statement_whose_answer_cannot_be_read_is_cancelled() {
    let (server, port) = listener().await;
    let (session, mut stream) =
        tokio::join!(async { Session::open(&login_at(&[port])).await }, take(&server));
    let mut session = session.expect("a session");
    let serve = async {
        received(&mut stream).await;
        stream.write_all(&message(b'?', b"")).await.expect("the client reads");
        let (mut cancel, _) = server.accept().await.expect("a second connection");
        assert_eq!(untyped(&mut cancel).await[..4], 80_877_102_u32.to_be_bytes());
    };
    let broken = async {
        let error = session.query(&QUESTION).await.map(|_| ()).expect_err("no answer");
        assert!(error.code == "protocol" && !session.is_healthy(), "{error}");
        session.stop().await;
    };
    tokio::time::timeout(Duration::from_secs(5), async { tokio::join!(serve, broken) })
        .await
        .expect("the cancel arrives");
}
