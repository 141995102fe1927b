//! Tests against a scripted server, whose messages are written from the vendor's clients.

mod login;
mod network;
mod session;
mod tls;

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::frontend::Client;
use super::input::Link;
use super::login::Greeting;
use super::*;
use crate::config::dsn::{Host, Keepalive, Server, Tls, TlsDemand};
use crate::source::dial::Dialer;

const STALL: Duration = Duration::from_secs(5);

fn login_as(secret: Credential) -> Login {
    let tls = Tls {
        demand: TlsDemand::Disable,
        roots: None,
        client_cert: None,
        direct: false,
        sni: true,
        versions: (true, true),
    };
    Login {
        hosts: Vec::new(),
        database: "vdb".into(),
        user: "dbadmin".into(),
        secret,
        tls: Security::new(&tls, None).expect("no certificates"),
        label: "adu-export test".into(),
        load_balance: false,
        connect_timeout: STALL,
        stall: STALL,
    }
}

fn password(text: &str) -> Credential {
    Credential::Password(Some(Secret::new(text)))
}

/// A message of the server.
fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend((body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(body);
    out
}

fn authentication(code: u32, more: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes()[..], more].concat())
}

fn parameter(name: &str, value: &str) -> Vec<u8> {
    message(b'S', format!("{name}\0{value}\0").as_bytes())
}

fn key(process: u32, secret: u32) -> Vec<u8> {
    message(b'K', &[process.to_be_bytes(), secret.to_be_bytes()].concat())
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

fn complete() -> Vec<u8> {
    message(b'C', b"SELECT\0")
}

fn error(severity: &str, code: &str, number: u32) -> Vec<u8> {
    message(b'E', format!("S{severity}\0C{code}\0Mit failed\0Dsecret row\0V{number}\0\0").as_bytes())
}

/// A binary column, as a field of a RowDescription with complex types.
fn field(name: &str, oid: u32, typmod: i32) -> Vec<u8> {
    let mut out = format!("{name}\0").into_bytes();
    out.extend([0; 8]);
    out.extend([0, 0, 0, 0, 0]);
    out.extend(oid.to_be_bytes());
    out.extend([0, 8, 0, 1, 0, 0]);
    out.extend(typmod.to_be_bytes());
    out.extend([0, 1]);
    out
}

fn description(fields: &[Vec<u8>]) -> Vec<u8> {
    let mut out = (fields.len() as u16).to_be_bytes().to_vec();
    out.extend([0; 4]);
    out.extend(fields.concat());
    message(b'T', &out)
}

fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
    message(b'D', &tuple(values))
}

fn tuple(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut out = (values.len() as u16).to_be_bytes().to_vec();
    for value in values {
        match value {
            Some(value) => {
                out.extend((value.len() as u32).to_be_bytes());
                out.extend_from_slice(value);
            }
            None => out.extend([0xff; 4]),
        }
    }
    out
}

/// A server that has greeted the session, and the session.
fn connected() -> (DuplexStream, Session<DuplexStream>) {
    let (server, client) = duplex(1 << 20);
    (server, session_over(client, STALL))
}

fn session_over(stream: DuplexStream, stall: Duration) -> Session<DuplexStream> {
    let server = Server { host: Some(Host::Tcp("127.0.0.1".into())), address: None, port: 1 };
    let keepalive = Keepalive { on: true, idle: None, interval: None, count: None, user_timeout: None };
    let login = login_as(Credential::Password(None));
    let dialer = Dialer::to(server, keepalive, login.tls);
    let canceller = Canceller::new(dialer, crate::source::dial::Address::nowhere(), None);
    let greeting = Greeting { key: None, protocol: frontend::NEWEST_VERSION, complex: true };
    Session::new(Link::new(stream, stall), &greeting, canceller)
}

/// Reads a message with a type: its type and body.
async fn received(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> (u8, Vec<u8>) {
    let tag = stream.read_u8().await.expect("a message");
    let length = stream.read_u32().await.expect("a length");
    let mut body = vec![0; length as usize - 4];
    stream.read_exact(&mut body).await.expect("a body");
    (tag, body)
}

/// Reads a message without a type: its body.
async fn untyped(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let length = stream.read_u32().await.expect("a length");
    let mut body = vec![0; length as usize - 4];
    stream.read_exact(&mut body).await.expect("a body");
    body
}

/// What a server sends after a login without a password.
fn greeting() -> Vec<u8> {
    [
        authentication(0, &[]),
        parameter("protocol_version", &(3_u32 << 16 | 16).to_string()),
        parameter("request_complex_types", "on"),
        key(42, 4711),
        ready(),
    ]
    .concat()
}

const QUESTION: Statement<'_> = Statement { sql: "SELECT 1", stage: Stage::Chunk, what: "read s.t" };
