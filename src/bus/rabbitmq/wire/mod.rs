//! The stream between the broker and the library that speaks AMQP: what any
//! publisher can have delivered is made harmless on it.
//!
//! AMQP's strings are bytes, and a broker passes on whatever a publisher wrote
//! into the properties of a message. The library refuses a frame with a string
//! that is not UTF-8, or one that grew beyond `frame_max` because the broker
//! added a header, and the connection with it; it walks nested header tables
//! by recursion until the stack ends. The broker keeps the message and delivers
//! it again: one message would stop every daemon for good. So:
//!
//! - The **content header** of each message is taken apart here and made anew
//!   from the few properties that are read ([`header`]). What could not be read
//!   is said in a header of our own, which no publisher can forge, as all other
//!   headers are left out.
//! - A **body** larger than any message of ours may be is left out too, and its
//!   size is said: 32 requests of 128 MiB would be 4 GiB.
//! - Strings of **methods** get `?` for bytes that are no UTF-8 ([`method`]):
//!   routing keys, and texts that a broker cut within a character.
//!
//! Everything else passes as it is: what is no AMQP at all is for the library
//! to refuse. A copy of the library's parser with all of this mended would have
//! to be kept up with every release; frames do not change.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};

mod frames;
mod header;
mod kit;
mod method;
mod table;

pub(super) use header::{LEFT_OUT, UNREADABLE};
pub(super) use kit::{Kit, Socket, runtime};

use frames::Frames;

/// Bytes that are read from the socket at once.
const PIECE: usize = 16 * 1024;

/// A stream whose incoming frames are screened.
#[derive(Debug)]
pub(super) struct Wire<S> {
    inner: S,
    input: Box<[u8]>,
    frames: Frames,
    /// Screened, and not yet handed out.
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
