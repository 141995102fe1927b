//! One AMQP connection that can be closed in any state.
//!
//! A connection that the broker has blocked writes nothing, not even its own close. It would stay open until
//! the alarm ends, and would then send messages that its publisher had given up. So we keep a second handle
//! on the socket: shutting the socket down ends the I/O loop of the library at once.
//!
//! The [`Wire`] stands between the library and the socket, or the TLS stream if there is one.

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_rs::Runtime;
use lapin::tcp::AsyncTcpStream;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::runtime::Handle;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::super::BusError;
use super::address::Address;
use super::fault;
use super::life::Life;
use super::wire::{self, Kit, Wire};

/// The purpose of a connection. The broker's management page shows it.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Publish,
    Consume,
    Reply,
    Client,
}

impl Purpose {
    fn word(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Consume => "consume",
            Self::Reply => "reply",
            Self::Client => "client",
        }
    }
}

/// Everything that is needed to connect.
#[derive(Clone)]
pub(super) struct Dial {
    pub(super) address: Arc<Address>,
    /// The broker's management page shows the connections under this name.
    pub(super) name: String,
    pub(super) io: Handle,
    pub(super) call_timeout: Duration,
}

impl Dial {
    /// Opens a connection with its own lifetime.
    pub(super) async fn open(&self, purpose: Purpose) -> Result<(Link, Life), BusError> {
        let life = Life::new(self.call_timeout, &self.address.to_string());
        Ok((self.link(purpose).await?, life))
    }

    /// Opens a connection that shares the lifetime of another one.
    pub(super) async fn link(&self, purpose: Purpose) -> Result<Link, BusError> {
        Link::open(&self.address, &self.name, purpose, &self.io, self.call_timeout).await
    }
}

/// An open connection.
pub(super) struct Link {
    connection: Connection,
    socket: Socket,
}

#[derive(Clone, Default)]
struct Socket(Arc<Mutex<Option<TcpStream>>>);

impl Socket {
    fn keep(&self, stream: TcpStream) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
    }

    fn sever(&self) {
        if let Some(stream) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // An error means that the peer has closed the connection already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Link {
    /// Connects and authenticates within `deadline`. All I/O runs on `runtime`.
    async fn open(
        address: &Address,
        name: &str,
        purpose: Purpose,
        runtime: &Handle,
        deadline: Duration,
    ) -> Result<Self, BusError> {
        let socket = Socket::default();
        let options = ConnectionProperties::default()
            .with_connection_name(format!("{name} {}", purpose.word()).into())
            .with_client_property("product".into(), "adu-export".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
        let connect = {
            let socket = socket.clone();
            let tls = address.tls.clone();
            let runtime = runtime.clone();
            async move |uri: AMQPUri, _: Runtime<Kit>| {
                // The runtime in which a socket is opened does its I/O.
                let dialled = tokio::time::timeout(deadline, dial(uri, tls.clone(), socket.clone()));
                let stream = match AbortOnDropHandle::new(runtime.spawn(dialled)).await {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(_)) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut)),
                    Err(stopped) => Err(std::io::Error::other(stopped)),
                };
                stream.map(|stream| AsyncTcpStream::Plain(Wire::new(stream))).map_err(lapin::Error::from)
            }
        };
        let open = Connection::connector(address.uri.clone(), wire::runtime(runtime), connect, options);
        match tokio::time::timeout(deadline, open).await {
            Ok(Ok(connection)) => Ok(Self { connection, socket }),
            Ok(Err(error)) => Err(fault::unconnected(format!("connecting to {address}"), &error)),
            Err(_) => {
                socket.sever();
                Err(BusError::Connection {
                    what: format!("connecting to {address}"),
                    why: format!(
                        "no answer within {} s; check host and port of broker.url",
                        deadline.as_secs().max(1)
                    ),
                })
            }
        }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether the broker blocks this connection because of an alarm.
    pub(super) fn blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Closes the connection in an orderly way, which may take `deadline`, then shuts the socket down.
    pub(super) async fn close(&self, deadline: Duration) {
        if self.connection.status().connected() && !self.blocked() {
            let _ = tokio::time::timeout(deadline, self.connection.close(200, "bye".into())).await;
        }
        self.sever();
    }

    /// Shuts the socket down at once, without an AMQP close.
    pub(super) fn sever(&self) {
        self.socket.sever();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.sever();
    }
}

async fn dial(uri: AMQPUri, tls: Option<Arc<ClientConfig>>, socket: Socket) -> std::io::Result<wire::Socket> {
    let host = uri.authority.host;
    let stream = tokio::net::TcpStream::connect((host.as_str(), uri.authority.port)).await?;
    stream.set_nodelay(true)?;
    socket.keep(TcpStream::from(stream.as_fd().try_clone_to_owned()?));
    let Some(config) = tls else { return Ok(wire::socket(stream)) };
    let name =
        ServerName::try_from(host).map_err(|e| std::io::Error::new(std::io::ErrorKind::InvalidInput, e))?;
    Ok(wire::socket(TlsConnector::from(config).connect(name, stream).await?))
}
