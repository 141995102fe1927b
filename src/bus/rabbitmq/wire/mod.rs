//! A filter between the broker and the AMQP library. It repairs frames that a publisher can cause and the
//! library cannot read.
//!
//! Strings in AMQP are bytes, and a broker delivers the properties of a message as the publisher wrote them.
//! The library ends the connection if a string is not UTF-8, or if a frame exceeds `frame_max` because the
//! broker added a header. It parses nested header tables by recursion until the stack overflows. The broker
//! keeps such a message and delivers it again, so one message would stop every daemon for good. Therefore:
//!
//! - The **content header** of each message is parsed here and written anew with the few properties that we
//!   use ([`header`]). A header of our own describes what could not be read. No publisher can forge it,
//!   because all other headers are removed.
//! - A **body** that is larger than any message of ours may be is removed, and a header tells its size: 32
//!   requests of 128 MiB would need 4 GiB of memory.
//! - In strings of **methods** each byte that is not UTF-8 becomes `?` ([`method`]). This concerns routing
//!   keys, and texts that the broker cut in the middle of a character.
//!
//! Everything else passes unchanged; the library refuses a stream that is not AMQP. The alternative, a
//! patched copy of the library's parser, would need work at every release, while the frame format of AMQP
//! does not change.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};

mod frames;
mod header;
mod kit;
mod method;
mod table;

pub(super) use header::{LEFT_OUT, TRACEPARENT, UNREADABLE};
pub(super) use kit::{Kit, Socket, runtime, socket};

use frames::Frames;

/// Size of the buffer for one read from the socket.
const PIECE: usize = 16 * 1024;

/// A stream that filters incoming frames.
#[derive(Debug)]
pub(super) struct Wire<S> {
    inner: S,
    input: Box<[u8]>,
    frames: Frames,
    /// Filtered bytes; the first `handed` of them are handed out already.
    output: Vec<u8>,
    handed: usize,
}

impl<S> Wire<S> {
    pub(super) fn new(inner: S) -> Self {
        let input = vec![0; PIECE].into_boxed_slice();
        Self { inner, input, frames: Frames::default(), output: Vec::new(), handed: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        while this.handed == this.output.len() {
            this.output.clear();
            this.output.shrink_to(2 * PIECE);
            this.handed = 0;
            let read = ready!(Pin::new(&mut this.inner).poll_read(cx, &mut this.input))?;
            if read == 0 {
                return Poll::Ready(Ok(0));
            }
            this.frames.screen(&this.input[..read], &mut this.output);
        }
        let waiting = &this.output[this.handed..];
        let given = waiting.len().min(buffer.len());
        buffer[..given].copy_from_slice(&waiting[..given]);
        this.handed += given;
        Poll::Ready(Ok(given))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, pieces)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[cfg(test)]
mod tests;
