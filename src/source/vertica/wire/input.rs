//! Reads messages from a stream: type, length, body.
//!
//! Bytes are gathered in one buffer, which grows only as bytes arrive. Reading may stop at any wait and go on
//! later: no byte is lost.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::super::sqlstate::Stage;
use super::backend::Malformed;
use crate::config::Advice;
use crate::source::SourceError;

/// A message's type and length.
pub(super) const HEADER: usize = 5;
/// Bytes of one read.
const READ_BYTES: usize = 64 << 10;
/// Longest body of a message that is no row. The longest is a RowDescription: 9,800 columns with three names
/// of up to 128 characters each.
const MOST_BYTES: usize = 32 << 20;

/// Why no message could be read or sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("the connection is lost: {0}")]
    Lost(#[from] io::Error),
    #[error("the server closed the connection")]
    Closed,
    #[error("not a byte from the server for {} s", .0.as_secs())]
    Stalled(Duration),
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("this is not a Vertica server: it does not know LoadBalanceRequest")]
    NotVertica,
    #[error("the server sends {0}, which does not belong here")]
    Unexpected(&'static str),
    #[error("the server asks the client for files or rows ({0})")]
    AsksForData(&'static str),
}

impl Fault {
    /// The error of a call. `what` names the action and the object.
    pub(super) fn error(&self, stage: Stage, what: &str) -> SourceError {
        let message = format!("{what}: {self}");
        match self {
            Self::Lost(_) | Self::Closed if stage == Stage::Connect => {
                SourceError::unreachable(message).with_remedy(Advice::Address)
            }
            // A crashed node ends the connection without an SQLSTATE.
            Self::Lost(_) | Self::Closed => SourceError::transient("connection_lost", message),
            Self::Stalled(_) if stage == Stage::Connect => {
                SourceError::unreachable(message).with_remedy(Advice::Silence)
            }
            Self::Stalled(_) => SourceError::transient("stalled", message).with_remedy(Advice::Stall),
            Self::Malformed(_) | Self::Unexpected(_) | Self::NotVertica => {
                SourceError::permanent("protocol", message).with_remedy(Advice::NotVertica)
            }
            Self::AsksForData(_) => SourceError::permanent("protocol", message)
                .with_remedy("a view or function that loads files cannot be exported"),
        }
    }
}

/// A stream of messages.
pub(super) struct Link<S> {
    stream: S,
    input: Vec<u8>,
    /// Bytes of `input` that are already used.
    used: usize,
    stall: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    pub(super) fn new(stream: S, stall: Duration) -> Self {
        Self { stream, input: Vec::new(), used: 0, stall }
    }

    /// Bytes that have arrived and are not used yet.
    pub(super) fn buffered(&self) -> &[u8] {
        &self.input[self.used..]
    }

    /// Drops bytes that are used.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.used += bytes;
        if self.used == self.input.len() {
            self.input.clear();
            self.used = 0;
        }
    }

    /// Waits for more bytes.
    pub(super) async fn fill(&mut self) -> Result<(), Fault> {
        let stall = self.stall;
        within(stall, self.read()).await
    }

    async fn read(&mut self) -> Result<(), Fault> {
        if self.used >= READ_BYTES {
            self.input.drain(..self.used);
            self.used = 0;
        }
        if self.input.is_empty() && self.input.capacity() > 4 * READ_BYTES {
            self.input = Vec::new();
        }
        self.input.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.input).await {
            Ok(0) => Err(Fault::Closed),
            Ok(_) => Ok(()),
            // TLS that ends without a farewell.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Fault::Closed),
            Err(error) => Err(error.into()),
        }
    }

    /// Type and body length of the next message, if its header has arrived.
    fn header(&self) -> Result<Option<(u8, usize)>, Fault> {
        let Some([tag, length @ ..]) = self.buffered().first_chunk::<HEADER>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        match length.checked_sub(4) {
            Some(length) if length <= MOST_BYTES => Ok(Some((*tag, length))),
            _ => Err(Malformed("a message of the server has an impossible length").into()),
        }
    }

    /// Waits until the next message is there, whole. Returns its type.
    pub(super) async fn next(&mut self) -> Result<u8, Fault> {
        loop {
            if let Some((tag, length)) = self.header()?
                && self.buffered().len() - HEADER >= length
            {
                return Ok(tag);
            }
            self.fill().await?;
        }
    }

    /// The body of the message that `next` found.
    pub(super) fn body(&self) -> &[u8] {
        match self.header() {
            Ok(Some((_, length))) => self.buffered().get(HEADER..HEADER + length).unwrap_or_default(),
            _ => &[],
        }
    }

    /// Drops the message that `next` found.
    pub(super) fn pass(&mut self) {
        let bytes = HEADER + self.body().len();
        self.consume(bytes);
    }

    /// Drops everything up to the end of the next message of this type. `left` bytes of a message that was
    /// partly read are dropped first.
    pub(super) async fn skip_past(&mut self, last: u8, left: &mut usize) -> Result<(), Fault> {
        let mut is_last = false;
        loop {
            let dropped = (*left).min(self.buffered().len());
            self.consume(dropped);
            *left -= dropped;
            if *left == 0 && is_last {
                return Ok(());
            }
            match self.buffered().first_chunk::<HEADER>() {
                Some([tag, length @ ..]) if *left == 0 => {
                    is_last = *tag == last;
                    *left = (u32::from_be_bytes(*length) as usize).saturating_sub(4);
                    self.consume(HEADER);
                }
                _ => self.fill().await?,
            }
        }
    }

    /// Sends messages. If the future is dropped, the stream can no longer be used.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let stall = self.stall;
        within(stall, async {
            self.stream.write_all(bytes).await?;
            Ok(self.stream.flush().await?)
        })
        .await
    }

    /// Whether the server has closed the stream, or sent something. Does not wait.
    pub(super) fn is_quiet(&mut self) -> bool {
        use futures_util::FutureExt;
        self.buffered().is_empty() && self.read().now_or_never().is_none()
    }
}

async fn within<T>(limit: Duration, done: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    timeout(limit, done).await.unwrap_or(Err(Fault::Stalled(limit)))
}
