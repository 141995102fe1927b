//! Carries rows of a COPY from the connection to the thread that decodes.
//!
//! The connection's tap passes rows on through a channel of a few pieces. When the decoder is slow, the
//! server waits, so memory stays bounded (invariant I8). The stream ends with `None` only after the trailer
//! *and* the server's confirmation that the transaction succeeded.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::RecordBatch;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_postgres::{CopyOutStream, Statement};
use tokio_util::sync::CancellationToken;

use super::definitions::Definitions;
use super::session::Session;
use super::sqlstate::Stage;
use super::tap::{Piece, Sink, TapHandle};
use crate::config::Advice;
use crate::source::decode::{CopyDecoder, StreamColumn};
use crate::source::{ChunkRead, ChunkStream, Progress, SourceError};

/// Number of pieces in the channel.
const PIECES: usize = 4;

type Copied = Pin<Box<CopyOutStream>>;
type End = Arc<OnceLock<Result<(), SourceError>>>;

/// What a COPY will read.
pub(super) struct Rows<'a> {
    pub(super) read: &'a ChunkRead<'a>,
    /// The columns, in the form that the decoder reads.
    pub(super) columns: Vec<StreamColumn>,
    /// Action and object, for errors.
    pub(super) what: String,
}

/// The rows of a chunk, read from a blocking thread. If the stream is dropped before its end, the query on
/// the server ends.
pub(super) struct CopyStream {
    pieces: mpsc::Receiver<Piece>,
    end: End,
    decoder: CopyDecoder,
    cancel: CancellationToken,
    progress: Arc<Progress>,
    what: String,
}

impl CopyStream {
    /// Starts the COPY and the task that waits for its end.
    pub(super) async fn start(
        session: Session,
        copy: &Statement,
        rows: Rows<'_>,
        stall: Duration,
        definitions: Option<Definitions>,
    ) -> Result<Self, SourceError> {
        let Rows { read, columns, what } = rows;
        let (sink, pieces) = mpsc::channel(PIECES);
        let tap = session.tap().clone();
        tap.take_rows(Sink { pieces: sink.clone(), progress: read.progress.clone() });
        let rows =
            session.client().copy_out(copy).await.map_err(|e| session.explain(&e, Stage::Chunk, &what))?;
        let end = End::default();
        let tasks = session.tasks();
        let pump = Pump { sink, tap, cancel: read.cancel.clone(), what: what.clone(), stall, definitions };
        tasks.spawn(pump.run(session, Box::pin(rows), end.clone()));
        Ok(Self {
            pieces,
            end,
            decoder: CopyDecoder::new(&columns, read.key, read.on_unfit),
            cancel: read.cancel.clone(),
            progress: read.progress.clone(),
            what,
        })
    }

    /// Adds the table to an error of the decoder, which knows only columns.
    fn named(&self, error: SourceError) -> SourceError {
        error.named(&self.what)
    }

    /// Called after the last piece: returns the last rows, or the error that ended the COPY.
    fn last_batch(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        match self.end.get() {
            Some(Ok(())) => self.decoder.finish().map_err(|e| self.named(e)),
            Some(Err(e)) => Err(e.clone()),
            None => Err(SourceError::transient("aborted", format!("{}: the process is ending", self.what))),
        }
    }
}

impl ChunkStream for CopyStream {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        let batch = loop {
            if self.cancel.is_cancelled() {
                return Err(cancelled(&self.what));
            }
            if let Some(batch) = self.decoder.next_batch().map_err(|e| self.named(e))? {
                break Some(batch);
            }
            match self.pieces.blocking_recv() {
                Some(piece) => self.decoder.take(piece),
                None => break self.last_batch()?,
            }
        };
        if let Some(batch) = &batch {
            self.progress.add(batch.num_rows() as u64, 0);
        }
        Ok(batch)
    }
}

/// Why a pump stops early.
enum Stop {
    /// The server reported an error.
    Server(tokio_postgres::Error),
    /// The reader is gone.
    Unread,
    Cancelled,
    Stalled,
}

/// Waits for the end of a COPY while the tap takes its rows.
struct Pump {
    /// Keeps the channel open until the result of the COPY is known.
    sink: mpsc::Sender<Piece>,
    tap: TapHandle,
    cancel: CancellationToken,
    what: String,
    stall: Duration,
    definitions: Option<Definitions>,
}

impl Pump {
    async fn run(mut self, session: Session, mut rows: Copied, end: End) {
        let stop = match self.wait(&mut rows).await {
            Ok(()) => {
                // Report success only after the transaction is known to be complete.
                let definitions = self.definitions.take();
                let ended = async {
                    match definitions {
                        Some(definitions) => definitions.end(session, &self.what).await,
                        None => session.end(&self.what).await,
                    }
                };
                let ended = timeout(self.stall, ended).await;
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
        drop((self.sink, rows));
        session.abort().await;
    }

    /// Waits until the server ends the COPY. All rows have then left the tap.
    async fn wait(&self, rows: &mut Copied) -> Result<(), Stop> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Stop::Cancelled),
            () = self.sink.closed() => Err(Stop::Unread),
            next = rows.next() => match next {
                None => Ok(()),
                Some(Err(e)) => Err(Stop::Server(e)),
                Some(Ok(_)) => unreachable!("the tap takes all rows"),
            },
            () = self.tap.silence(self.stall) => Err(Stop::Stalled),
        }
    }
}

/// The error of a chunk that was cancelled.
pub(super) fn cancelled(relation: &str) -> SourceError {
    SourceError::cancelled(format!("{relation}: cancelled"))
}

/// The error of a chunk whose server sends nothing.
pub(super) fn stalled(relation: &str, after: Duration) -> SourceError {
    SourceError::transient(
        "stalled",
        format!("{relation}: not a byte from the server for {} s", after.as_secs()),
    )
    .with_remedy(Advice::Stall)
}
