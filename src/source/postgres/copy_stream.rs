//! Runs one or several COPYs, whose rows the connection's tap passes on to the thread that decodes
//! (`decode/stream`). Success is reported only after the server's confirmation that the transaction succeeded.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;
use tokio_postgres::{CopyOutStream, Statement};

use super::definitions::Definitions;
use super::greenplum;
use super::pages;
use super::session::Session;
use super::sqlstate::Stage;
use super::tap::{Sink, TapHandle};
use crate::source::SourceError;
pub(super) use crate::source::decode::stream::{Feed, RowStream, Rows, cancelled, stalled};

type Copied = Pin<Box<CopyOutStream>>;

/// The COPYs of a chunk, which run one after the other.
pub(super) struct Copies {
    pub(super) first: Statement,
    pub(super) more: VecDeque<String>,
}

/// What a chunk's connection does after the last row, before the chunk counts as read.
pub(super) enum EndOfChunk {
    /// Commits.
    Commit,
    /// Commits and compares definitions.
    Definitions(Definitions),
    /// Commits, and proves that the snapshot lived until then.
    Greenplum(greenplum::Ending),
    /// Commits, and proves that the pages were those of the table.
    Pages(pages::Ending),
}

impl EndOfChunk {
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

/// Starts the first COPY and the task that waits for the end of all.
pub(super) async fn start(
    session: Session,
    copies: Copies,
    rows: Rows<'_>,
    stall: Duration,
    ending: EndOfChunk,
) -> Result<RowStream, SourceError> {
    let (stream, feed) = RowStream::new(rows, stall);
    launch(session, feed, &copies.first, More::Listed(copies.more), ending).await?;
    Ok(stream)
}

/// Starts the first COPY of a stream and the task that waits for the end of all.
pub(super) async fn launch(
    session: Session,
    feed: Feed,
    first: &Statement,
    more: More,
    ending: EndOfChunk,
) -> Result<(), SourceError> {
    let tap = session.tap().clone();
    tap.take_rows(sink(&feed));
    let rows =
        session.client().copy_out(first).await.map_err(|e| session.explain(&e, Stage::Chunk, &feed.what))?;
    let tasks = session.tasks();
    tasks.spawn(Pump { feed, tap, ending, more }.run(session, Box::pin(rows)));
    Ok(())
}

/// Where the rows of the next COPY go.
fn sink(feed: &Feed) -> Sink {
    Sink { blocks: feed.sink.clone(), progress: feed.progress.clone() }
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

impl Stop {
    /// The error of the chunk.
    pub(super) fn error(self, feed: &Feed, session: &Session) -> SourceError {
        match self {
            Self::Server(e) => session.explain(&e, Stage::Chunk, &feed.what),
            Self::Source(e) => e,
            Self::Unread | Self::Cancelled => cancelled(&feed.what),
            Self::Stalled => stalled(&feed.what, feed.stall),
        }
    }
}

/// Waits for the end of the COPYs while the tap takes their rows.
struct Pump {
    feed: Feed,
    tap: TapHandle,
    ending: EndOfChunk,
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
        let why = stop.error(&self.feed, &session);
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
        self.tap.take_rows(sink(&self.feed));
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
