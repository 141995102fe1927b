//! One AMQP connection that can be torn down whatever state it is in.
//!
//! A connection that the broker has blocked writes nothing, not even its own
//! close: left alone it would linger until the alarm ends and then send what
//! its publisher had given up. Hence a second handle on the socket: severing
//! it ends the library's I/O loop at once.
//!
//! Between socket and library is the [`Wire`], above TLS where there is TLS.

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_rs::Runtime;
use lapin::tcp::AsyncTcpStream;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use rustls::ClientConfig;
use tokio::runtime::Handle;

use super::super::BusError;
use super::address::Address;
use super::fault;
use super::life::Life;
use super::wire::{self, Kit, Wire};

/// What the connection is for, as the broker's management shows it.
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

/// All that it takes to connect.
#[derive(Clone)]
pub(super) struct Dial {
    pub(super) address: Arc<Address>,
    /// How the broker's management shows the connections.
    pub(super) name: String,
    pub(super) io: Handle,
    pub(super) call_timeout: Duration,
}

impl Dial {
    /// A connection with a life of its own.
    pub(super) async fn open(&self, purpose: Purpose) -> Result<(Link, Life), BusError> {
        let life = Life::new(self.call_timeout, &self.address.to_string());
        Ok((self.link(purpose).await?, life))
    }

    /// A connection that belongs to the life of others.
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
            // An error means that the peer was faster.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Link {
    /// Connects and authenticates within `deadline`, with all I/O on `runtime`.
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
            let tokio = Runtime::tokio_with_handle(runtime.clone());
            async move |uri: AMQPUri, _: Runtime<Kit>| {
                let stream = tokio::time::timeout(deadline, dial(&uri, &tls, &socket, &tokio)).await;
                stream
                    .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut)))
                    .map(|stream| AsyncTcpStream::Plain(Wire::new(stream)))
                    .map_err(lapin::Error::from)
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

    /// Whether the broker has blocked it because of an alarm.
    pub(super) fn blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Says goodbye, for at most `deadline`, then severs.
    pub(super) async fn close(&self, deadline: Duration) {
        if self.connection.status().connected() && !self.blocked() {
            let _ = tokio::time::timeout(deadline, self.connection.close(200, "bye".into())).await;
        }
        self.sever();
    }

    /// Ends it now, without a word.
    pub(super) fn sever(&self) {
        self.socket.sever();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.sever();
    }
}

async fn dial(
    uri: &AMQPUri,
    tls: &Option<Arc<ClientConfig>>,
    socket: &Socket,
    runtime: &Runtime<async_rs::Tokio>,
) -> std::io::Result<wire::Socket> {
    let host = uri.authority.host.clone();
    let addresses = runtime.to_socket_addrs((host, uri.authority.port));
    let stream = AsyncTcpStream::connect(runtime, addresses).await?;
    if let AsyncTcpStream::Plain(plain) = &stream {
        socket.keep(TcpStream::from(plain.get_ref().as_fd().try_clone_to_owned()?));
    }
    match tls {
        None => Ok(stream),
        Some(config) => stream.into_rustls(&Arc::clone(config).into(), &uri.authority.host).await,
    }
}
