//! Takes the rows of a COPY out of a connection's stream before `tokio-postgres` sees them.
//!
//! The server sends each row as a message of its own. `tokio-postgres` returns one buffer for each message,
//! and keeps a buffer as large as the widest message so far. Both cost more than decoding a usual row, and
//! the size of that buffer is not bounded (invariant I8). The tap reads the message frames itself, gathers
//! the payloads of CopyData in blocks of [`BLOCK_BYTES`], whatever the width of a row, and passes everything
//! else on in order. The last block of a COPY is sent before `tokio-postgres` sees its CopyDone.
//!
//! Frames: <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::PollSender;

use crate::source::Progress;

/// Size of a block: large, so that the decoding thread wakes up once for many rows.
pub(super) const BLOCK_BYTES: usize = 256 << 10;
/// Longest time that rows wait in an incomplete block.
const GATHER: Duration = Duration::from_millis(10);
/// Bytes of one read: before the first COPY, and from then on.
const READ_BYTES: (usize, usize) = (4 << 10, 64 << 10);
/// A message's type and length.
const HEADER: usize = 5;

const COPY_DATA: u8 = b'd';
const COPY_DONE: u8 = b'c';
const ERROR_RESPONSE: u8 = b'E';
const BACKEND_KEY_DATA: u8 = b'K';
/// The number of the process, with which the payload of BackendKeyData begins.
const PROCESS_BYTES: usize = 4;

/// Rows of a COPY. A block may end anywhere, also inside a row.
pub(super) type Block = Vec<u8>;

/// Where the rows of the next COPY go.
pub(super) struct Sink {
    /// If the channel is full, the server has to wait.
    pub(super) blocks: mpsc::Sender<Block>,
    /// Counts the bytes.
    pub(super) progress: Arc<Progress>,
}

/// Controls a tap: says where rows go, and notices when none arrive.
#[derive(Clone)]
pub(super) struct TapHandle(Arc<Shared>);

struct Shared {
    next: Mutex<Option<Sink>>,
    discard: AtomicBool,
    /// Wakes a tap that waits for room in the channel.
    waiting: AtomicWaker,
    is_full: AtomicBool,
    /// From the message BackendKeyData.
    process: OnceLock<i32>,
    born: Instant,
    /// Milliseconds from `born` to the last byte that arrived or was passed on.
    moved: AtomicU64,
}

/// The stream that `tokio-postgres` reads, in place of the socket.
pub(super) struct Tap<S> {
    stream: S,
    shared: Arc<Shared>,
    input: Vec<u8>,
    /// Bytes of `input` that are not processed yet.
    rest: std::ops::Range<usize>,
    at: At,
    gathering: Option<Gathering>,
    /// What has arrived of the process in BackendKeyData.
    process: Vec<u8>,
}

/// Position in the stream of messages.
#[derive(Clone, Copy)]
enum At {
    /// Inside a header, of which this many bytes have arrived.
    Header([u8; HEADER], usize),
    /// Inside rows: this many bytes of the payload are still to come.
    Rows(usize),
    /// Inside a message that is passed on unchanged: this many bytes of its header have been passed on, and
    /// this many bytes of its payload are still to come.
    Passing([u8; HEADER], usize, usize),
}

const START: At = At::Header([0; HEADER], 0);

/// Rows that wait until the block is full.
struct Gathering {
    blocks: PollSender<Block>,
    progress: Arc<Progress>,
    block: Block,
    patience: Option<Pin<Box<Sleep>>>,
}

impl TapHandle {
    /// Says where the rows of the next COPY go. Call it before the COPY is sent. It replaces any earlier
    /// sink.
    pub(super) fn take_rows(&self, sink: Sink) {
        self.0.discard.store(false, Ordering::Release);
        *self.0.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(sink);
    }

    /// The process of the server that answered the login. A pooler makes a number up.
    pub(super) fn process(&self) -> Option<i32> {
        self.0.process.get().copied()
    }

    /// Drops all rows from now on.
    pub(super) fn discard(&self) {
        self.0.discard.store(true, Ordering::Release);
        self.0.waiting.wake();
    }

    /// Returns once the server has sent nothing for this long although there was room.
    pub(super) async fn silence(&self, longest: Duration) {
        loop {
            let silent = self.0.silent();
            let Some(left) = longest.checked_sub(silent).filter(|left| !left.is_zero()) else {
                return;
            };
            sleep(left).await;
        }
    }
}

impl Shared {
    fn moves(&self) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(now, Ordering::Relaxed);
    }

    fn silent(&self) -> Duration {
        if self.is_full.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        self.born.elapsed().saturating_sub(Duration::from_millis(self.moved.load(Ordering::Relaxed)))
    }
}

impl<S> Tap<S> {
    /// Wraps a stream before its first byte.
    pub(super) fn new(stream: S) -> (Self, TapHandle) {
        let shared = Arc::new(Shared {
            next: Mutex::new(None),
            discard: false.into(),
            waiting: AtomicWaker::new(),
            is_full: false.into(),
            process: OnceLock::new(),
            born: Instant::now(),
            moved: 0.into(),
        });
        let handle = TapHandle(shared.clone());
        let input = vec![0; READ_BYTES.0];
        (Self { stream, shared, input, rest: 0..0, at: START, gathering: None, process: Vec::new() }, handle)
    }

    /// The stream below the tap.
    pub(super) fn stream(&self) -> &S {
        &self.stream
    }

    /// Processes the bytes that have arrived. Returns `Ok` when all of them are used. Pending if `out` is
    /// full, or if the channel for the rows is.
    fn sort(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if matches!(self.at, At::Header(_, 0) | At::Rows(0)) {
                self.gather_whole_rows();
            }
            let came = &self.input[self.rest.clone()];
            match self.at {
                At::Passing(header, passed, left) if passed < HEADER => {
                    // Gathered rows must be sent before this message.
                    ready!(self.poll_send(cx));
                    if matches!(header[0], COPY_DONE | ERROR_RESPONSE) {
                        self.gathering = None;
                        self.shared.next.lock().unwrap_or_else(PoisonError::into_inner).take();
                    }
                    let n = (HEADER - passed).min(out.remaining());
                    if n == 0 {
                        return Poll::Pending;
                    }
                    out.put_slice(&header[passed..passed + n]);
                    self.at = At::Passing(header, passed + n, left);
                }
                At::Passing(_, _, 0) | At::Rows(0) => self.at = START,
                _ if came.is_empty() => return Poll::Ready(Ok(())),
                At::Header(mut header, have) => {
                    let n = (HEADER - have).min(came.len());
                    header[have..have + n].copy_from_slice(&came[..n]);
                    self.rest.start += n;
                    self.at =
                        if have + n < HEADER { At::Header(header, have + n) } else { self.message(header)? };
                }
                At::Passing(header, passed, left) => {
                    let n = left.min(came.len()).min(out.remaining());
                    if n == 0 {
                        return Poll::Pending;
                    }
                    out.put_slice(&came[..n]);
                    if header[0] == BACKEND_KEY_DATA && self.process.len() < PROCESS_BYTES {
                        self.process.extend(came[..n].iter().take(PROCESS_BYTES - self.process.len()));
                        if let Ok(process) = <[u8; PROCESS_BYTES]>::try_from(self.process.as_slice()) {
                            self.shared.process.get_or_init(|| i32::from_be_bytes(process));
                        }
                    }
                    self.rest.start += n;
                    self.at = At::Passing(header, passed, left - n);
                }
                At::Rows(left) => {
                    let n = left.min(came.len());
                    let taken = if self.shared.discard.load(Ordering::Acquire) {
                        n
                    } else {
                        ready!(self.poll_gather(cx, n, left))
                    };
                    self.rest.start += taken;
                    self.at = At::Rows(left - taken);
                }
            }
        }
    }

    /// Decides from a header how to treat the message.
    fn message(&mut self, header: [u8; HEADER]) -> io::Result<At> {
        let [kind, length @ ..] = header;
        let Some(payload) = u32::from_be_bytes(length).checked_sub(4).and_then(|n| usize::try_from(n).ok())
        else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is shorter than its length"));
        };
        if kind != COPY_DATA {
            return Ok(At::Passing(header, 0, payload));
        }
        if self.gathering.is_none() {
            let next = self.shared.next.lock().unwrap_or_else(PoisonError::into_inner).take();
            self.gathering = next.map(|sink| Gathering {
                blocks: PollSender::new(sink.blocks),
                progress: sink.progress,
                block: Block::new(),
                patience: None,
            });
        }
        Ok(if self.gathering.is_some() { At::Rows(payload) } else { At::Passing(header, 0, payload) })
    }

    /// Takes all complete messages that fit into the block. Nearly all messages of a COPY are taken here.
    fn gather_whole_rows(&mut self) {
        let Some(Gathering { block, .. }) = &mut self.gathering else { return };
        if self.shared.discard.load(Ordering::Acquire) {
            return;
        }
        let mut came = &self.input[self.rest.clone()];
        while let Some(([COPY_DATA, length @ ..], payload)) = came.split_first_chunk::<HEADER>() {
            let Some(length) = u32::from_be_bytes(*length).checked_sub(4) else { break };
            let Some((row, rest)) = payload.split_at_checked(length as usize) else { break };
            if row.len() > BLOCK_BYTES.min(block.capacity()) - block.len() {
                break;
            }
            block.extend_from_slice(row);
            came = rest;
        }
        self.rest.start = self.rest.end - came.len();
    }

    /// Takes up to `n` bytes of `input` as rows, and returns how many. `left` bytes of the message are still
    /// to come. A message that fits into one block is not cut, so that the decoder can use blocks without
    /// copying.
    fn poll_gather(&mut self, cx: &mut Context<'_>, n: usize, left: usize) -> Poll<usize> {
        let is_full = |block: &Block| {
            block.len() >= BLOCK_BYTES || left <= BLOCK_BYTES && block.len() + left > BLOCK_BYTES
        };
        if self.gathering.as_ref().is_some_and(|g| is_full(&g.block)) {
            ready!(self.poll_send(cx));
        }
        let Some(Gathering { block, .. }) = &mut self.gathering else {
            return Poll::Ready(n);
        };
        if block.capacity() == 0 {
            block.reserve_exact(BLOCK_BYTES);
        }
        let n = n.min(BLOCK_BYTES - block.len());
        let start = self.rest.start;
        block.extend_from_slice(&self.input[start..start + n]);
        Poll::Ready(n)
    }

    /// Sends the gathered rows once there is room. Drops them if there is no reader.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(Gathering { blocks, progress, block, patience }) = &mut self.gathering else {
            return Poll::Ready(());
        };
        *patience = None;
        if block.is_empty() {
            return Poll::Ready(());
        }
        self.shared.waiting.register(cx.waker());
        if self.shared.discard.load(Ordering::Acquire) {
            block.clear();
            return Poll::Ready(());
        }
        let Poll::Ready(room) = blocks.poll_reserve(cx) else {
            self.shared.is_full.store(true, Ordering::Relaxed);
            return Poll::Pending;
        };
        if self.shared.is_full.swap(false, Ordering::Relaxed) {
            self.shared.moves();
        }
        let size = block.len() as u64;
        match room.and_then(|()| blocks.send_item(std::mem::take(block))) {
            Ok(()) => progress.add(0, size),
            Err(_) => self.shared.discard.store(true, Ordering::Release),
        }
        Poll::Ready(())
    }

    /// Called when nothing more has arrived: sends the gathered rows after a short wait.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(gathering) = self.gathering.as_mut().filter(|g| !g.block.is_empty()) else {
            return Poll::Pending;
        };
        let patience = gathering.patience.get_or_insert_with(|| Box::pin(sleep(GATHER)));
        ready!(patience.as_mut().poll(cx));
        self.poll_send(cx)
    }
}

impl<S: AsyncRead + Unpin> Tap<S> {
    /// Reads more bytes. 0 bytes mean the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.gathering.is_some() && self.input.len() < READ_BYTES.1 {
            self.input = vec![0; READ_BYTES.1];
        }
        let mut buffer = ReadBuf::new(&mut self.input);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        let came = buffer.filled().len();
        self.rest = 0..came;
        self.shared.moves();
        Poll::Ready(Ok(came))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            let sorted = this.sort(cx, out)?;
            if out.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
            ready!(sorted);
            match this.poll_fill(cx)? {
                Poll::Ready(0) => {
                    ready!(this.poll_send(cx));
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(_) => {}
                Poll::Pending => ready!(this.poll_patience(cx)),
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[path = "tap_tests.rs"]
mod tests;
