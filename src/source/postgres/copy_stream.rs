//! Rows of a COPY on their way from the connection to the thread that decodes.
//!
//! A task gathers the server's many small messages and hands them on through a
//! channel of a few pieces: when the decoder is slow, the server waits, and
//! memory stays bounded (invariant I8). The stream ends with `None` only after
//! the trailer *and* the server's confirmation that the transaction is whole.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::RecordBatch;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::CopyOutStream;
use tokio_util::sync::CancellationToken;

use super::chunk::{cancelled, stalled};
use super::session::Session;
use super::sqlstate::Stage;
use crate::decode::CopyDecoder;
use crate::source::{ChunkRead, ChunkStream, ErrorKind, Progress, SourceError};

/// Bytes that travel together: one wake-up of the decoding thread for many rows.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces on their way.
const PIECES: usize = 4;
/// A connection's buffer keeps the size of the widest row that it has seen: one
/// that has seen a wider row than this does not go back to the pool (I8).
const WIDE_ROW: usize = 4 << 20;
/// Longest time that rows wait for company.
const GATHER: Duration = Duration::from_millis(10);

type Piece = Vec<Bytes>;
type Rows = Pin<Box<CopyOutStream>>;
type End = Arc<OnceLock<Result<(), SourceError>>>;

/// The rows of a chunk; read from a blocking thread. Dropped before its end,
/// it ends the query on the server.
pub(super) struct CopyStream {
    pieces: mpsc::Receiver<Piece>,
    end: End,
    decoder: CopyDecoder,
    finished: bool,
    cancel: CancellationToken,
    progress: Arc<Progress>,
    what: String,
}

impl CopyStream {
    /// Starts the task that reads the connection.
    pub(super) fn start(
        session: Session,
        bytes: CopyOutStream,
        read: &ChunkRead<'_>,
        what: String,
        stall: Duration,
    ) -> Self {
        let (sink, pieces) = mpsc::channel(PIECES);
        let end = End::default();
        let tasks = session.tasks();
        let pump = Pump {
            sink,
            cancel: read.cancel.clone(),
            progress: read.progress.clone(),
            what: what.clone(),
            stall,
        };
        tasks.spawn(pump.run(session, Box::pin(bytes), end.clone()));
        Self {
            pieces,
            end,
            decoder: CopyDecoder::new(read.columns, read.on_unfit),
            finished: false,
            cancel: read.cancel.clone(),
            progress: read.progress.clone(),
            what,
        }
    }

    /// After the last piece: how it ended.
    fn last_batch(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        match self.end.get() {
            Some(Ok(())) => {
                self.finished = true;
                self.decoder.finish()
            }
            Some(Err(e)) => Err(e.clone()),
            None => Err(SourceError {
                kind: ErrorKind::Transient,
                code: "aborted".into(),
                message: format!("{}: the process is ending", self.what),
                remedy: None,
            }),
        }
    }
}

impl ChunkStream for CopyStream {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        let batch = loop {
            if self.finished {
                return Ok(None);
            }
            if self.cancel.is_cancelled() {
                return Err(cancelled(&self.what));
            }
            if let Some(batch) = self.decoder.next_batch()? {
                break Some(batch);
            }
            match self.pieces.blocking_recv() {
                Some(piece) => piece.iter().for_each(|bytes| self.decoder.push(bytes)),
                None => break self.last_batch()?,
            }
        };
        if let Some(batch) = &batch {
            self.progress.add(batch.num_rows() as u64, 0);
        }
        Ok(batch)
    }
}

/// Why a pump stops before the end.
enum Stop {
    /// The server said why.
    Server(tokio_postgres::Error),
    /// Nobody reads any more.
    Unread,
    Cancelled,
    Stalled,
}

struct Pump {
    sink: mpsc::Sender<Piece>,
    cancel: CancellationToken,
    progress: Arc<Progress>,
    what: String,
    stall: Duration,
}

impl Pump {
    async fn run(self, session: Session, mut bytes: Rows, end: End) {
        let stop = match self.forward(&mut bytes).await {
            Ok(widest) => {
                // Nothing is said before the transaction is known to be whole.
                let ending = async {
                    if widest > WIDE_ROW {
                        session.end_and_close(&self.what).await
                    } else {
                        session.end(&self.what).await
                    }
                };
                let ended = timeout(self.stall, ending).await;
                let _ = end.set(ended.unwrap_or_else(|_| Err(stalled(&self.what, self.stall))));
                return;
            }
            Err(stop) => stop,
        };
        let why = match stop {
            Stop::Server(e) => session.explain(&e, Stage::Chunk, &self.what),
            Stop::Unread | Stop::Cancelled => cancelled(&self.what),
            Stop::Stalled => stalled(&self.what, self.stall),
        };
        let _ = end.set(Err(why));
        drop((self.sink, bytes));
        session.abort().await;
    }

    /// Hands pieces on until the server ends the COPY; returns the bytes of
    /// the widest message.
    async fn forward(&self, bytes: &mut Rows) -> Result<usize, Stop> {
        let mut widest = 0;
        loop {
            let first = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(Stop::Cancelled),
                () = self.sink.closed() => return Err(Stop::Unread),
                next = timeout(self.stall, bytes.next()) => match next {
                    Err(_) => return Err(Stop::Stalled),
                    Ok(next) => next,
                },
            };
            let Some(first) = first.transpose().map_err(Stop::Server)? else {
                return Ok(widest);
            };
            let (piece, size, ended) = gather(first, bytes).await.map_err(Stop::Server)?;
            widest = piece.iter().map(Bytes::len).fold(widest, usize::max);
            self.progress.add(0, size as u64);
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(Stop::Cancelled),
                sent = self.sink.send(piece) => sent.map_err(|_| Stop::Unread)?,
            }
            if ended {
                return Ok(widest);
            }
        }
    }
}

/// What comes soon after the first bytes: the piece, its size, and whether the
/// COPY has ended with it.
async fn gather(first: Bytes, bytes: &mut Rows) -> Result<(Piece, usize, bool), tokio_postgres::Error> {
    let mut size = first.len();
    let mut piece = vec![first];
    let patience = Instant::now() + GATHER;
    while size < PIECE_BYTES {
        let next = match bytes.next().now_or_never() {
            Some(next) => next,
            None => match timeout_at(patience, bytes.next()).await {
                Ok(next) => next,
                Err(_) => break,
            },
        };
        match next.transpose()? {
            Some(more) => {
                size += more.len();
                piece.push(more);
            }
            None => return Ok((piece, size, true)),
        }
    }
    Ok((piece, size, false))
}
