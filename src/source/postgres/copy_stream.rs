//! Carries rows of one or several COPYs from the connection to the thread that decodes.
//!
//! The connection's tap passes rows on through a channel of a few pieces. When the decoder is slow, the
//! server waits, so memory stays bounded (invariant I8). The stream ends with `None` only after the trailer of
//! each COPY *and* the server's confirmation that the transaction succeeded.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::RecordBatch;
use futures_util::StreamExt;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::time::timeout;
use tokio_postgres::{CopyOutStream, Statement};
use tokio_util::sync::CancellationToken;

use super::definitions::Definitions;
use super::greenplum;
use super::pages;
use super::session::Session;
use super::sqlstate::Stage;
use super::tap::{Piece, Sink, TapHandle};
use crate::config::Advice;
use crate::message::request::OnUnfit;
use crate::source::decode::{CopyDecoder, StreamColumn};
use crate::source::{ChunkRead, ChunkStream, Progress, SourceError};

/// Number of pieces in the channel.
pub(super) const PIECES: usize = 4;

type Copied = Pin<Box<CopyOutStream>>;
/// The result of a chunk, once it is known.
pub(super) type End = Arc<OnceLock<Result<(), SourceError>>>;

/// What a chunk will read.
pub(super) struct Rows<'a> {
    pub(super) read: &'a ChunkRead<'a>,
    /// The columns, in the form that the decoder reads.
    pub(super) columns: Vec<StreamColumn>,
    /// Action and object, for errors.
    pub(super) what: String,
}

/// The COPYs of a chunk, which run one after the other.
pub(super) struct Copies {
    pub(super) first: Statement,
    pub(super) more: VecDeque<String>,
}

/// What a chunk's connection does after the last row, before the chunk counts as read.
pub(super) enum Ending {
    /// Commits.
    Commit,
    /// Commits and compares definitions.
    Definitions(Definitions),
    /// Commits, and proves that the snapshot lived until then.
    Greenplum(greenplum::Ending),
    /// Commits, and proves that the pages were those of the table.
    Pages(pages::Ending),
}

impl Ending {
    pub(super) async fn run(self, session: Session, what: &str) -> Result<(), SourceError> {
        match self {
            Self::Commit => session.end(what).await,
            Self::Definitions(definitions) => definitions.end(session, what).await,
            Self::Greenplum(ending) => ending.run(session, what).await,
            Self::Pages(ending) => ending.run(session, what).await,
        }
    }
}

/// Which COPYs follow the first.
pub(super) enum More {
    /// These.
    Listed(VecDeque<String>),
    /// Those that the reader orders, each once it has read the one before it; none for the end.
    Ordered(UnboundedReceiver<Option<String>>),
}

/// The other side of a [`CopyStream`]: where rows and the result go.
pub(super) struct Feed {
    /// Keeps the channel open until the result is known.
    pub(super) sink: mpsc::Sender<Piece>,
    pub(super) end: End,
    pub(super) cancel: CancellationToken,
    pub(super) progress: Arc<Progress>,
    pub(super) what: String,
    pub(super) stall: Duration,
}

/// The rows of a chunk, read from a blocking thread. If the stream is dropped before its end, the query on
/// the server ends.
pub(super) struct CopyStream {
    pieces: mpsc::Receiver<Piece>,
    end: End,
    decoder: CopyDecoder,
    /// Whether another COPY follows the one that the decoder reads.
    is_between: bool,
    columns: Vec<StreamColumn>,
    key: Vec<String>,
    on_unfit: OnUnfit,
    cancel: CancellationToken,
    progress: Arc<Progress>,
    what: String,
}

impl CopyStream {
    /// A stream and its other side.
    pub(super) fn new(rows: Rows<'_>, stall: Duration) -> (Self, Feed) {
        let Rows { read, columns, what } = rows;
        let (sink, pieces) = mpsc::channel(PIECES);
        let end = End::default();
        let feed = Feed {
            sink,
            end: end.clone(),
            cancel: read.cancel.clone(),
            progress: read.progress.clone(),
            what: what.clone(),
            stall,
        };
        let stream = Self {
            pieces,
            end,
            decoder: CopyDecoder::new(&columns, read.key, read.on_unfit),
            is_between: false,
            columns,
            key: read.key.to_vec(),
            on_unfit: read.on_unfit,
            cancel: read.cancel.clone(),
            progress: read.progress.clone(),
            what,
        };
        (stream, feed)
    }

    /// Starts the first COPY and the task that waits for the end of all.
    pub(super) async fn start(
        session: Session,
        copies: Copies,
        rows: Rows<'_>,
        stall: Duration,
        ending: Ending,
    ) -> Result<Self, SourceError> {
        let (stream, feed) = Self::new(rows, stall);
        launch(session, feed, &copies.first, More::Listed(copies.more), ending).await?;
        Ok(stream)
    }

    /// Adds the table to an error of the decoder, which knows only columns.
    fn named(&self, error: SourceError) -> SourceError {
        error.named(&self.what)
    }

    /// Called after the last piece of a COPY: its last rows, one batch per call, then `None`. The next COPY
    /// begins with another decoder.
    fn rest(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        let rest = self.decoder.finish().map_err(|e| self.named(e))?;
        if rest.is_none() {
            self.decoder = CopyDecoder::new(&self.columns, &self.key, self.on_unfit);
            self.is_between = false;
        }
        Ok(rest)
    }

    /// Called after the last piece: returns the last rows, or the error that ended the chunk.
    fn last_batch(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        the_end(&self.end, &self.what)?;
        self.decoder.finish().map_err(|e| self.named(e))
    }
}

/// Starts the first COPY and the task that waits for the end of all.
pub(super) async fn launch(
    session: Session,
    feed: Feed,
    first: &Statement,
    more: More,
    ending: Ending,
) -> Result<(), SourceError> {
    let tap = session.tap().clone();
    tap.take_rows(feed.rows_of_copy());
    let rows =
        session.client().copy_out(first).await.map_err(|e| session.explain(&e, Stage::Chunk, &feed.what))?;
    let tasks = session.tasks();
    tasks.spawn(Pump { feed, tap, ending, more }.run(session, Box::pin(rows)));
    Ok(())
}

/// The result of a chunk after its last piece.
pub(super) fn the_end(end: &End, what: &str) -> Result<(), SourceError> {
    match end.get() {
        Some(result) => result.clone(),
        None => Err(SourceError::transient("aborted", format!("{what}: the process is ending"))),
    }
}

impl ChunkStream for CopyStream {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        let batch = loop {
            if self.cancel.is_cancelled() {
                return Err(cancelled(&self.what));
            }
            let ready = if self.is_between {
                self.rest()?
            } else {
                self.decoder.next_batch().map_err(|e| self.named(e))?
            };
            if let Some(batch) = ready {
                break Some(batch);
            }
            match self.pieces.blocking_recv() {
                Some(piece) if piece.is_empty() => self.is_between = true,
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

impl Feed {
    /// Where the rows of the next COPY go.
    fn rows_of_copy(&self) -> Sink {
        Sink { pieces: self.sink.clone(), progress: self.progress.clone() }
    }

    /// Says that the next piece belongs to another COPY. `false` if nobody reads any more.
    async fn next_copy(&self) -> bool {
        self.sink.send(Piece::new()).await.is_ok()
    }

    /// Reports the result. No piece may follow.
    pub(super) fn report(self, result: Result<(), SourceError>) {
        let _ = self.end.set(result);
    }

    /// The error of a chunk that stopped early.
    pub(super) fn stopped(&self, stop: Stop, session: &Session) -> SourceError {
        match stop {
            Stop::Server(e) => session.explain(&e, Stage::Chunk, &self.what),
            Stop::Source(e) => e,
            Stop::Unread | Stop::Cancelled => cancelled(&self.what),
            Stop::Stalled => stalled(&self.what, self.stall),
        }
    }
}

/// Why a chunk stops early.
pub(super) enum Stop {
    /// The server reported an error.
    Server(tokio_postgres::Error),
    /// We found an error.
    Source(SourceError),
    /// The reader is gone.
    Unread,
    Cancelled,
    Stalled,
}

/// Waits for the end of the COPYs while the tap takes their rows.
struct Pump {
    feed: Feed,
    tap: TapHandle,
    ending: Ending,
    more: More,
}

impl Pump {
    async fn run(mut self, session: Session, mut rows: Copied) {
        let stop = loop {
            if let Err(stop) = self.wait(&mut rows).await {
                break stop;
            }
            let copy = match self.next().await {
                Ok(copy) => copy,
                Err(stop) => break stop,
            };
            let Some(copy) = copy else {
                // Report success only after the transaction is known to be complete.
                let Self { feed, ending, .. } = self;
                let ended = timeout(feed.stall, ending.run(session, &feed.what)).await;
                let ended = ended.unwrap_or_else(|_| Err(stalled(&feed.what, feed.stall)));
                feed.report(ended);
                return;
            };
            match self.begin(&session, &copy).await {
                Ok(begun) => rows = begun,
                Err(stop) => break stop,
            }
        };
        let why = self.feed.stopped(stop, &session);
        drop(rows);
        self.feed.report(Err(why));
        session.abort().await;
    }

    /// The next COPY; none after the last one.
    async fn next(&mut self) -> Result<Option<String>, Stop> {
        let ordered = match &mut self.more {
            More::Listed(copies) if copies.is_empty() => return Ok(None),
            More::Listed(copies) => {
                let copy = copies.pop_front();
                return if self.feed.next_copy().await { Ok(copy) } else { Err(Stop::Unread) };
            }
            More::Ordered(ordered) => ordered,
        };
        if !self.feed.next_copy().await {
            return Err(Stop::Unread);
        }
        tokio::select! {
            biased;
            () = self.feed.cancel.cancelled() => Err(Stop::Cancelled),
            order = ordered.recv() => order.ok_or(Stop::Unread),
        }
    }

    /// Begins the next COPY.
    async fn begin(&self, session: &Session, copy: &str) -> Result<Copied, Stop> {
        self.tap.take_rows(self.feed.rows_of_copy());
        tokio::select! {
            biased;
            () = self.feed.cancel.cancelled() => Err(Stop::Cancelled),
            begun = session.client().copy_out(copy) => begun.map(Box::pin).map_err(Stop::Server),
            () = self.tap.silence(self.feed.stall) => Err(Stop::Stalled),
        }
    }

    /// Waits until the server ends the COPY. All rows have then left the tap.
    async fn wait(&self, rows: &mut Copied) -> Result<(), Stop> {
        tokio::select! {
            biased;
            () = self.feed.cancel.cancelled() => Err(Stop::Cancelled),
            () = self.feed.sink.closed() => Err(Stop::Unread),
            next = rows.next() => match next {
                None => Ok(()),
                Some(Err(e)) => Err(Stop::Server(e)),
                Some(Ok(_)) => unreachable!("the tap takes all rows"),
            },
            () = self.tap.silence(self.feed.stall) => Err(Stop::Stalled),
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
