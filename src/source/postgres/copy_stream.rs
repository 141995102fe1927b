//! Rows of a COPY on their way from the connection to the thread that decodes.
//!
//! The connection's tap hands rows on through a channel of a few pieces: when
//! the decoder is slow, the server waits, and memory stays bounded (invariant
//! I8). The stream ends with `None` only after the trailer *and* the server's
//! confirmation that the transaction is whole.

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

/// Pieces on their way.
const PIECES: usize = 4;

type Copied = Pin<Box<CopyOutStream>>;
type End = Arc<OnceLock<Result<(), SourceError>>>;

/// What a COPY is to bring.
pub(super) struct Rows<'a> {
    pub(super) read: &'a ChunkRead<'a>,
    /// Its columns, as they are decoded.
    pub(super) columns: Vec<StreamColumn>,
    /// What is done, for errors.
    pub(super) what: String,
}

/// The rows of a chunk; read from a blocking thread. Dropped before its end,
/// it ends the query on the server.
pub(super) struct CopyStream {
    pieces: mpsc::Receiver<Piece>,
    end: End,
    decoder: CopyDecoder,
    cancel: CancellationToken,
    progress: Arc<Progress>,
    what: String,
}

impl CopyStream {
    /// Sends the COPY, and starts the task that sees it through.
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

    /// The decoder knows columns and no tables.
    fn named(&self, error: SourceError) -> SourceError {
        error.named(&self.what)
    }

    /// After the last piece: how it ended.
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

/// Why a pump stops before the end.
enum Stop {
    /// The server said why.
    Server(tokio_postgres::Error),
    /// Nobody reads any more.
    Unread,
    Cancelled,
    Stalled,
}

/// Waits for the end of a COPY whose rows the tap takes.
struct Pump {
    /// Keeps the channel open until it is known how the COPY ended.
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
                // Nothing is said before the transaction is known to be whole.
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

    /// Returns when the server ends the COPY: then all its rows have left the tap.
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

/// The chunk is not wanted any more.
pub(super) fn cancelled(relation: &str) -> SourceError {
    SourceError::cancelled(format!("{relation}: cancelled"))
}

/// The server is silent.
pub(super) fn stalled(relation: &str, after: Duration) -> SourceError {
    SourceError::transient(
        "stalled",
        format!("{relation}: not a byte from the server for {} s", after.as_secs()),
    )
    .with_remedy(Advice::Stall)
}
