//! Sessions over TLS.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;
use crate::config::dsn::Roots;

fn node() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/source/vertica/wire/tests/node.pem"))
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a port")
}

fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().expect("an address").port()
}

/// Answers the question for a node with another port.
fn name(stream: &mut TcpStream, port: u16) -> std::io::Result<()> {
    let named = [&u32::from(port).to_be_bytes()[..], b"127.0.0.1\0"].concat();
    stream.read_exact(&mut [0; 8])?;
    stream.write_all(&message(b'Y', &named))
}

/// A server that does something first, then offers TLS and takes one session.
fn serve_after(
    listener: TcpListener,
    first: impl FnOnce(&mut TcpStream) -> std::io::Result<()> + Send + 'static,
) -> std::thread::JoinHandle<std::io::Result<()>> {
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        first(&mut stream)?;
        let mut request = [0; 8];
        stream.read_exact(&mut request)?;
        assert_eq!(request[4..], 80_877_103_u32.to_be_bytes());
        stream.write_all(b"S")?;
        let (chain, key) = crate::certificates::identity(node(), node()).map_err(std::io::Error::other)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(std::io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(std::io::Error::other)?;
        let tls = ServerConnection::new(Arc::new(config)).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(tls, stream);
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        stream.read_exact(&mut vec![0; u32::from_be_bytes(length) as usize - 4])?;
        stream.write_all(&greeting())?;
        stream.flush()?;
        // Until the client is gone.
        let _ = stream.read(&mut [0]);
        Ok(())
    })
}

fn login_with((host, port): (&str, u16), demand: TlsDemand, load_balance: bool) -> Login {
    let roots = (demand >= TlsDemand::VerifyCa).then(|| Roots::File(node().to_owned()));
    let tls = Tls { demand, roots, client_cert: None, direct: false, sni: true, versions: (true, true) };
    Login {
        hosts: vec![(host.to_owned(), port)],
        tls: Security::new(&tls, None).expect("certificates"),
        load_balance,
        ..login_as(Credential::Password(None))
    }
}

/// Logs in at `host`, which is the server itself or the one that names it.
async fn log_in(host: &str, demand: TlsDemand, balanced: bool) -> Result<(), crate::source::SourceError> {
    let server = listener();
    let mut at = port(&server);
    let served = serve_after(server, |_| Ok(()));
    if balanced {
        let (first, node) = (listener(), at);
        at = port(&first);
        std::thread::spawn(move || {
            let (mut stream, _) = first.accept()?;
            name(&mut stream, node)?;
            let _ = stream.read(&mut [0]);
            Ok::<_, std::io::Error>(())
        });
    }
    let session = Session::open(&login_with((host, at), demand, balanced)).await;
    let result = session.map(|mut session| assert!(session.is_healthy()));
    let _ = served.join().expect("no panic");
    result
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_checked_as_far_as_sslmode_says() {
    for demand in [TlsDemand::Prefer, TlsDemand::Require, TlsDemand::VerifyCa] {
        log_in("127.0.0.1", demand, false).await.expect("a session");
    }
    log_in("localhost", TlsDemand::VerifyFull, false).await.expect("a session");
    let error = log_in("127.0.0.1", TlsDemand::VerifyFull, false).await.expect_err("another name");
    assert_eq!(error.code, "tls", "{error}");
}

/// The certificate of a node may have the node's own name only.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_node_takes_the_session_if_tls_fails_at_the_one_that_it_names() {
    let (first, named) = (listener(), listener());
    let (at, other) = (port(&first), port(&named));
    std::thread::spawn(move || {
        let (mut stream, _) = named.accept()?;
        stream.read_exact(&mut [0; 8])?;
        stream.write_all(b"N")
    });
    let served = serve_after(first, move |stream| name(stream, other));
    let login = login_with(("localhost", at), TlsDemand::VerifyFull, true);
    let mut session = Session::open(&login).await.expect("a session of the first node");
    assert!(session.is_healthy());
    drop(session);
    served.join().expect("no panic").expect("served");
}

/// Who may write in the network before TLS could else send us to a node with a certificate of its own name.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_the_server_names_must_have_the_name_that_the_operator_gave() {
    log_in("localhost", TlsDemand::VerifyFull, true).await.expect("a session");
    // The first node of this test takes no session.
    let error = log_in("127.0.0.1", TlsDemand::VerifyFull, true).await.expect_err("another name");
    assert_eq!(error.code, "unreachable", "{error}");
}
