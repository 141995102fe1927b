//! A TCP stream that sleeps until much has come, while much comes.
//!
//! A server sends a COPY in pieces of 8 KiB, and each of them would wake the
//! reader: a fifth of an export's CPU time, and as much again of the server's,
//! which does the waking. So once a stream is bulky the kernel is told to wake
//! nobody for less than [`MUCH`] (`SO_RCVLOWAT`, socket(7)); what is less waits
//! [`PATIENCE`] at most.

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// Bytes without an answer of ours, after which a stream is bulky.
const BULKY: usize = 512 << 10;
/// Bytes that the kernel gathers then.
const MUCH: libc::c_int = 192 << 10;
/// How long they may take: short beside a chunk, long beside what they take from a server at work.
const PATIENCE: Duration = Duration::from_millis(5);

/// A TCP stream.
pub(super) struct BulkStream {
    stream: TcpStream,
    /// Bytes read since something was written, or since they came slowly.
    came: usize,
    /// Whether the kernel gathers.
    gathers: bool,
    patience: Option<Pin<Box<Sleep>>>,
    /// Whether `patience` runs.
    waits: bool,
}

impl BulkStream {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, came: 0, gathers: false, patience: None, waits: false }
    }

    /// Has the kernel gather, or give out what there is and all that comes.
    fn gather(&mut self, gathers: bool) -> io::Result<()> {
        if self.gathers != gathers {
            set_low_watermark(&self.stream, if gathers { MUCH } else { 1 })?;
            self.gathers = gathers;
        }
        Ok(())
    }
}

/// Sets the number of bytes below which a socket does not become readable. Less than there is wakes at once.
#[expect(unsafe_code, reason = "no safe wrapper of this option is to be had")]
fn set_low_watermark(stream: &TcpStream, bytes: libc::c_int) -> io::Result<()> {
    let size = size_of_val(&bytes) as libc::socklen_t;
    let value = std::ptr::from_ref(&bytes).cast();
    // SAFETY: `value` points at `size` bytes that live through the call, and the descriptor is open.
    let result =
        unsafe { libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVLOWAT, value, size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl AsyncRead for BulkStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, out) {
            this.came += out.filled().len() - before;
            this.waits = false;
            if read.is_ok() && this.came >= BULKY {
                this.gather(true)?;
            }
            return Poll::Ready(read);
        }
        if this.gathers {
            let patience = this.patience.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
            if !this.waits {
                patience.as_mut().reset(Instant::now() + PATIENCE);
                this.waits = true;
            }
            ready!(patience.as_mut().poll(cx));
            this.waits = false;
            this.came = 0;
            this.gather(false)?;
        }
        Poll::Pending
    }
}

impl AsyncWrite for BulkStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // An answer to it may be short.
        this.came = 0;
        this.gather(false)?;
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (BulkStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        let (server, _) = listener.accept().await.expect("it has connected");
        server.set_nodelay(true).expect("a socket");
        (BulkStream::new(client), server)
    }

    /// A stream that has just read much.
    async fn bulky() -> (BulkStream, TcpStream) {
        let (mut client, mut server) = pair().await;
        let sending = tokio::spawn(async move {
            server.write_all(&vec![7; BULKY]).await.expect("somebody reads");
            server
        });
        client.read_exact(&mut vec![0; BULKY]).await.expect("all of it");
        assert!(client.gathers);
        (client, sending.await.expect("no panic"))
    }

    #[tokio::test]
    async fn much_is_gathered_and_little_comes_late_but_comes() {
        let (mut client, mut server) = bulky().await;
        let mut buffer = vec![0; MUCH as usize];
        let began = Instant::now();
        // Somebody waits for it already: what there is when it is asked for comes at once.
        let (read, sent) = tokio::join!(client.read(&mut buffer), server.write_all(b"the end"));
        sent.expect("somebody reads");
        assert_eq!(read.expect("it comes"), 7);
        assert!(began.elapsed() >= PATIENCE, "the kernel did not gather");
        assert!(!client.gathers, "what comes slowly is not gathered");
        drop(server);
        assert_eq!(client.read(&mut buffer).await.expect("the end"), 0);
    }

    #[tokio::test]
    async fn the_end_of_a_bulky_stream_is_seen_at_once() {
        let (mut client, server) = bulky().await;
        drop(server);
        assert_eq!(client.read(&mut [0; 1]).await.expect("the end"), 0);
        assert!(client.gathers, "the end needs no patience");
    }

    #[tokio::test]
    async fn what_is_asked_is_answered_without_gathering() {
        let (mut client, mut server) = bulky().await;
        client.write_all(b"question").await.expect("somebody reads");
        assert!(!client.gathers);
        server.read_exact(&mut [0; 8]).await.expect("all of it");
        server.write_all(b"answer").await.expect("somebody reads");
        client.read_exact(&mut [0; 6]).await.expect("all of it");
    }
}
