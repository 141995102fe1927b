//! The runtime for the library's I/O: tokio's, but with filtered streams.

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::Stream;
use tokio::io::{AsyncRead as TokioRead, AsyncWrite as TokioWrite};
use tokio::runtime::Handle;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use super::Wire;

/// A connection to the broker, with or without TLS.
pub(in crate::bus::rabbitmq) type Socket = Compat<Box<dyn Connected>>;

/// What bytes are read from and written to.
pub(in crate::bus::rabbitmq) trait Connected:
    TokioRead + TokioWrite + Debug + Send + Sync + Unpin
{
}

impl<S: TokioRead + TokioWrite + Debug + Send + Sync + Unpin> Connected for S {}

/// The connection in the terms of the library.
pub(in crate::bus::rabbitmq) fn socket(connected: impl Connected + 'static) -> Socket {
    let connected: Box<dyn Connected> = Box::new(connected);
    connected.compat()
}

/// Runs tasks like tokio, and opens filtered streams.
pub(in crate::bus::rabbitmq) type Kit = RuntimeParts<Tokio, Screened>;

/// Tokio's I/O with filtered streams.
#[derive(Clone, Debug)]
pub(in crate::bus::rabbitmq) struct Screened(Tokio);

/// The runtime behind `handle`.
pub(in crate::bus::rabbitmq) fn runtime(handle: &Handle) -> Runtime<Kit> {
    let tokio = Tokio::default().with_handle(handle.clone());
    Runtime::new(RuntimeParts::new(tokio.clone(), Screened(tokio)))
}

impl Reactor for Screened {
    /// The filter is above TLS, so it sees plain frames.
    type TcpStream = Wire<Socket>;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, time: Duration) -> Self::Sleep {
        self.0.sleep(time)
    }

    fn interval(&self, time: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(time)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connect = self.0.tcp_connect_addr(address);
        async move { Ok(Wire::new(socket(connect.await?.into_inner()))) }
    }
}
