//! Opens streams to servers of PostgreSQL's family, Vertica among them: addresses, sockets, TLS.
//!
//! `tokio-postgres` could do this itself, but the tap of `postgres` must read above TLS and below the
//! protocol, for every kind of socket. Vertica's protocol asks for TLS in the same way, and its client is our
//! own.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::either::Either;
use uuid::Uuid;

use self::bulk::BulkStream;
use self::tls::Security;
use crate::config::dsn::{Dsn, Host, Keepalive, Server, TlsDemand};

mod bulk;
mod refusal;
pub(super) mod tls;

/// Defaults for TCP keepalive, unless the connection string says otherwise: silence before the kernel asks
/// whether the other side is still there, pause between questions, and number of questions without an answer.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 4);
/// Longest time that sent data may remain unacknowledged, unless the connection string says
/// `tcp_user_timeout`. Keepalive does not work while data are unacknowledged, and retransmission would go on
/// for a quarter of an hour, tcp(7). The value is the sum of the keepalive times.
const USER_TIMEOUT: Duration = Duration::from_secs(70);
/// SSLRequest: length and code,
/// <https://www.postgresql.org/docs/current/protocol-message-formats.html>.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A socket.
pub(super) type Socket = Either<BulkStream, UnixStream>;
/// A socket with TLS.
pub(super) type TlsSocket = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
/// The stream that the protocol runs on.
pub(super) type Wire = Either<Socket, TlsSocket>;

/// One address where a server may listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// The server as it was given: its name checks its certificate and finds its password.
    server: Server,
    place: Place,
}

impl Address {
    /// The address of the server at the other end of a name that the operator gave. Its certificate is checked
    /// against that name, because the server that names another one is not known yet.
    pub(super) fn behind(&self, socket: SocketAddr) -> Self {
        Self { server: self.server.clone(), place: Place::Tcp(socket) }
    }

    /// The server as it was given.
    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// An address for tests that do not connect.
    #[cfg(test)]
    pub(super) fn nowhere() -> Self {
        let server = Server { host: Some(Host::Unix("/nowhere".into())), address: None, port: 0 };
        Self { server, place: Place::Unix("/nowhere".into()) }
    }

    /// The address of a TCP socket.
    pub(super) fn tcp(&self) -> Option<SocketAddr> {
        match self.place {
            Place::Tcp(socket) => Some(socket),
            Place::Unix(_) => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Why no stream could be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// No server answers.
    #[error("error connecting to server: {0}")]
    Unreachable(io::Error),
    /// A server answers, but it is not of the kind that was asked for.
    #[error("the server is not of the kind that target_session_attrs asks for")]
    Unwanted,
    /// A server answers, but TLS cannot be agreed on.
    #[error("error performing TLS handshake: {0}")]
    Tls(String),
}

/// Opens streams to the servers of a connection string.
#[derive(Clone)]
pub(super) struct Dialer {
    servers: Vec<Server>,
    shuffled: bool,
    keepalive: Keepalive,
    security: Security,
}

impl Dialer {
    pub(super) fn new(dsn: &Dsn, security: Security) -> Self {
        Self { servers: dsn.servers.clone(), shuffled: dsn.shuffled, keepalive: dsn.keepalive, security }
    }

    /// Opens streams to one server, whose addresses are tried in a random order.
    pub(super) fn to(server: Server, keepalive: Keepalive, security: Security) -> Self {
        Self { servers: vec![server], shuffled: true, keepalive, security }
    }

    /// The addresses, in the order in which to try them. Each name is looked up again. A name without an
    /// address is an error only if no other server has an address.
    pub(super) async fn addresses(&self) -> Result<Vec<Address>, DialError> {
        let mut servers: Vec<_> = self.servers.iter().collect();
        self.shuffle(&mut servers);
        let mut all = Vec::new();
        let mut error = None;
        for server in servers {
            let port = server.port;
            let tcp = |socket| Address { server: server.clone(), place: Place::Tcp(socket) };
            match (&server.host, server.address) {
                (_, Some(address)) => all.push(tcp(SocketAddr::new(address, port))),
                (Some(Host::Tcp(host)), None) => match lookup_host((host.as_str(), port)).await {
                    Ok(found) => {
                        let mut found: Vec<_> = found.map(tcp).collect();
                        self.shuffle(&mut found);
                        all.extend(found);
                    }
                    Err(e) => error = Some(e),
                },
                (Some(Host::Unix(dir)), None) => {
                    let path = dir.join(format!(".s.PGSQL.{port}"));
                    all.push(Address { server: server.clone(), place: Place::Unix(path) });
                }
                (None, None) => {}
            }
        }
        if all.is_empty() {
            let none = || io::Error::new(io::ErrorKind::NotFound, "the host has no address");
            return Err(DialError::Unreachable(error.unwrap_or_else(none)));
        }
        Ok(all)
    }

    /// The first address of a host.
    pub(super) async fn address_of(&self, host: &str, port: u16) -> Result<Address, DialError> {
        let mut found = lookup_host((host, port)).await.map_err(DialError::Unreachable)?;
        let none = || io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        let socket = found.next().ok_or_else(|| DialError::Unreachable(none()))?;
        let server = Server { host: Some(Host::Tcp(host.to_owned())), address: None, port };
        Ok(Address { server, place: Place::Tcp(socket) })
    }

    fn shuffle<T>(&self, list: &mut [T]) {
        if self.shuffled {
            list.sort_by_cached_key(|_| Uuid::new_v4());
        }
    }

    /// Connects and agrees on TLS as `sslmode` demands. The caller sets a time limit.
    pub(super) async fn open(&self, address: &Address) -> Result<Wire, DialError> {
        let socket = self.socket(address).await?;
        self.secure(socket, address).await
    }

    /// Connects. Nothing is sent yet.
    pub(super) async fn socket(&self, address: &Address) -> Result<Socket, DialError> {
        self.connect(&address.place).await.map_err(DialError::Unreachable)
    }

    async fn connect(&self, place: &Place) -> io::Result<Socket> {
        match place {
            Place::Unix(path) => Ok(Either::Right(UnixStream::connect(path).await?)),
            Place::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                self.watch(SockRef::from(&stream))?;
                Ok(Either::Left(BulkStream::new(stream)))
            }
        }
    }

    /// Configures the kernel to notice when the other side is gone. A zero in the connection string means the
    /// system's default.
    fn watch(&self, socket: SockRef<'_>) -> io::Result<()> {
        let Keepalive { on, idle, interval, count, user_timeout } = self.keepalive;
        if on {
            let mut keepalive = TcpKeepalive::new();
            let (time, pause, retries) =
                (idle.unwrap_or(KEEPALIVE.0), interval.unwrap_or(KEEPALIVE.1), count.unwrap_or(KEEPALIVE.2));
            if !time.is_zero() {
                keepalive = keepalive.with_time(time);
            }
            if !pause.is_zero() {
                keepalive = keepalive.with_interval(pause);
            }
            if retries > 0 {
                keepalive = keepalive.with_retries(retries);
            }
            socket.set_tcp_keepalive(&keepalive)?;
        }
        let user_timeout = user_timeout.unwrap_or(USER_TIMEOUT);
        socket.set_tcp_user_timeout((!user_timeout.is_zero()).then_some(user_timeout))
    }

    /// Agrees on TLS as `sslmode` demands.
    pub(super) async fn secure(&self, mut socket: Socket, address: &Address) -> Result<Wire, DialError> {
        let Security { demand, direct, connector } = &self.security;
        if *demand == TlsDemand::Disable || matches!(socket, Either::Right(_)) {
            return Ok(Either::Left(socket));
        }
        if !direct {
            socket.write_all(&SSL_REQUEST).await.map_err(DialError::Unreachable)?;
            // The answer must be the only byte in plain text: CVE-2021-23222.
            let answer = socket.read_u8().await.map_err(DialError::Unreachable)?;
            if answer != b'S' {
                return if *demand == TlsDemand::Prefer {
                    Ok(Either::Left(socket))
                } else {
                    Err(DialError::Tls("server does not support TLS".into()))
                };
            }
        }
        let failed = |e: io::Error| DialError::Tls(e.to_string());
        let mut tls = connector.clone();
        let connect = MakeTlsConnect::<Socket>::make_tls_connect(&mut tls, &address.server.name())
            .map_err(|e| DialError::Tls(e.to_string()))?;
        Ok(Either::Right(connect.connect(socket).await.map_err(failed)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn addresses(dsn: &str) -> Vec<Address> {
        let dsn: Dsn = dsn.parse().expect("valid");
        let security = Security::new(&dsn.tls, None).expect("valid");
        Dialer::new(&dsn, security).addresses().await.expect("some")
    }

    /// The name of the server and the place of each address.
    fn places(addresses: &[Address]) -> Vec<(String, String)> {
        let place = |address: &Address| match &address.place {
            Place::Tcp(socket) => socket.to_string(),
            Place::Unix(path) => path.display().to_string(),
        };
        addresses.iter().map(|address| (address.server.name(), place(address))).collect()
    }

    #[tokio::test]
    async fn hosts_addresses_and_ports_go_together_as_in_libpq() {
        for (dsn, expected) in [
            (
                "host=db.example,other.example hostaddr=10.0.0.1,::1 port=1,2",
                vec![("db.example", "10.0.0.1:1"), ("other.example", "[::1]:2")],
            ),
            (
                "host=127.0.0.1,127.0.0.2 port=6000",
                vec![("127.0.0.1", "127.0.0.1:6000"), ("127.0.0.2", "127.0.0.2:6000")],
            ),
            ("host=/run/postgresql", vec![("/run/postgresql", "/run/postgresql/.s.PGSQL.5432")]),
            ("hostaddr=10.0.0.1", vec![("10.0.0.1", "10.0.0.1:5432")]),
        ] {
            let found = places(&addresses(&format!("{dsn} user=u dbname=d")).await);
            let found: Vec<_> = found.iter().map(|(name, place)| (name.as_str(), place.as_str())).collect();
            assert_eq!(found, expected, "{dsn}");
        }
    }
}
