//! A TCP stream that wakes its reader less often while much data arrives.
//!
//! A server sends a COPY in packets of 8 KiB, and each packet would wake the reader. These wake-ups take a
//! fifth of an export's CPU time, and as much of the server's, because the sender does the waking. So once a
//! stream is bulky, the kernel is told to wake the reader only when [`MUCH`] has arrived (`SO_RCVLOWAT`,
//! socket(7)). A smaller rest waits at most [`PATIENCE`].

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// A stream is bulky after it has read this many bytes since the last write.
const BULKY: usize = 512 << 10;
/// Bytes of a bulky stream that the kernel gathers before it wakes the reader.
const MUCH: libc::c_int = 192 << 10;
/// Longest time that the kernel gathers bytes: short compared with a chunk, but longer than a busy server
/// needs to send [`MUCH`].
const PATIENCE: Duration = Duration::from_millis(5);

/// A TCP stream that may gather bytes in the kernel.
pub(in crate::source) struct BulkStream {
    stream: TcpStream,
    /// Bytes read since the last write, or since data last came slowly.
    came: usize,
    /// Whether the kernel gathers bytes.
    gathers: bool,
    patience: Option<Pin<Box<Sleep>>>,
    /// Whether the timer `patience` runs.
    waits: bool,
}

impl BulkStream {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, came: 0, gathers: false, patience: None, waits: false }
    }

    /// Tells the kernel to gather bytes, or to pass them on at once.
    fn gather(&mut self, gathers: bool) -> io::Result<()> {
        if self.gathers != gathers {
            set_low_watermark(&self.stream, if gathers { MUCH } else { 1 })?;
            self.gathers = gathers;
        }
        Ok(())
    }
}

/// Sets the number of bytes from which on a socket becomes readable. If that many bytes have already arrived,
/// the reader is woken at once.
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
        // The answer to what is written may be short.
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

    /// A stream that has just read enough to be bulky.
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
        // The read starts before the write, because a read returns at once what has already arrived.
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
