//! Sessions over TLS.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;
use crate::config::dsn::Roots;

fn node() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/source/vertica/wire/tests/node.pem"))
}

/// A server that offers TLS and takes one session.
fn serve(listener: TcpListener) -> std::thread::JoinHandle<std::io::Result<()>> {
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
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

/// Logs in at `host`, which is the server itself or the one that names it.
async fn log_in(host: &str, demand: TlsDemand, balanced: bool) -> Result<(), crate::source::SourceError> {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut port = server.local_addr().expect("an address").port();
    let served = serve(server);
    let roots = (demand >= TlsDemand::VerifyCa).then(|| Roots::File(node().to_owned()));
    let tls = Tls { demand, roots, client_cert: None, direct: false, sni: true, versions: (true, true) };
    if balanced {
        let first = TcpListener::bind("127.0.0.1:0").expect("a port");
        let named = [&u32::from(port).to_be_bytes()[..], b"127.0.0.1\0"].concat();
        port = first.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            let (mut stream, _) = first.accept()?;
            stream.read_exact(&mut [0; 8])?;
            stream.write_all(&message(b'Y', &named))?;
            let _ = stream.read(&mut [0]);
            Ok::<_, std::io::Error>(())
        });
    }
    let login = Login {
        hosts: vec![(host.to_owned(), port)],
        tls: Security::new(&tls, None).expect("certificates"),
        load_balance: balanced,
        ..login_as(Credential::Password(None))
    };
    let session = Session::open(&login).await;
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

/// Who may write in the network before TLS could else send us to a node with a certificate of its own name.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_the_server_names_must_have_the_name_that_the_operator_gave() {
    log_in("localhost", TlsDemand::VerifyFull, true).await.expect("a session");
    let error = log_in("127.0.0.1", TlsDemand::VerifyFull, true).await.expect_err("another name");
    assert_eq!(error.code, "tls", "{error}");
}
