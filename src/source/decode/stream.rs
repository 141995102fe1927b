//! Carries the rows of a chunk, as one or several streams of binary COPY, to the thread that decodes.
//!
//! Rows pass through a channel of a few blocks. When the decoder is slow, the server waits, so memory stays
//! bounded (invariant I8). The stream ends with `None` only after the trailer of each COPY *and* the source's
//! word that the end is certain.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::RecordBatch;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{CopyDecoder, StreamColumn};
use crate::config::Advice;
use crate::message::request::OnUnfit;
use crate::source::{ChunkRead, ChunkStream, Progress, SourceError};

/// Number of blocks in the channel.
const BLOCKS: usize = 4;

/// Bytes of a binary COPY. An empty block says that another COPY follows.
pub(in crate::source) type Block = Vec<u8>;

/// The result of a chunk, once it is known.
pub(in crate::source) type End = Arc<OnceLock<Result<(), SourceError>>>;

/// What a chunk will read.
pub(in crate::source) struct Rows<'a> {
    pub(in crate::source) read: &'a ChunkRead<'a>,
    /// The columns, in the form that the decoder reads.
    pub(in crate::source) columns: Vec<StreamColumn>,
    /// Action and object, for errors.
    pub(in crate::source) what: String,
}

/// The other side of a [`RowStream`]: where rows and the result go.
pub(in crate::source) struct Feed {
    /// Keeps the channel open until the result is known.
    pub(in crate::source) sink: mpsc::Sender<Block>,
    pub(in crate::source) end: End,
    pub(in crate::source) cancel: CancellationToken,
    pub(in crate::source) progress: Arc<Progress>,
    pub(in crate::source) what: String,
    pub(in crate::source) stall: Duration,
}

/// The rows of a chunk, read from a blocking thread. If the stream is dropped before its end, the query on
/// the server ends.
pub(in crate::source) struct RowStream {
    blocks: mpsc::Receiver<Block>,
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

impl RowStream {
    /// A stream and its other side.
    pub(in crate::source) fn new(rows: Rows<'_>, stall: Duration) -> (Self, Feed) {
        let Rows { read, columns, what } = rows;
        let (feed, blocks) = Feed::new(read, &what, stall);
        let stream = Self {
            blocks,
            end: feed.end.clone(),
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

    /// Adds the table to an error of the decoder, which knows only columns.
    fn named(&self, error: SourceError) -> SourceError {
        error.named(&self.what)
    }

    /// Called after the last block of a COPY: its last rows, one batch per call, then `None`. The next COPY
    /// begins with another decoder.
    fn rest(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        let rest = self.decoder.finish().map_err(|e| self.named(e))?;
        if rest.is_none() {
            self.decoder = CopyDecoder::new(&self.columns, &self.key, self.on_unfit);
            self.is_between = false;
        }
        Ok(rest)
    }

    /// Called after the last block: returns the last rows, or the error that ended the chunk.
    fn last_batch(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        the_end(&self.end, &self.what)?;
        self.decoder.finish().map_err(|e| self.named(e))
    }
}

impl ChunkStream for RowStream {
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
            match self.blocks.blocking_recv() {
                Some(block) if block.is_empty() => self.is_between = true,
                Some(block) => self.decoder.take(block),
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
    /// One side of a channel of blocks, and the blocks.
    pub(in crate::source) fn new(
        read: &ChunkRead<'_>,
        what: &str,
        stall: Duration,
    ) -> (Self, mpsc::Receiver<Block>) {
        let (sink, blocks) = mpsc::channel(BLOCKS);
        let feed = Self {
            sink,
            end: End::default(),
            cancel: read.cancel.clone(),
            progress: read.progress.clone(),
            what: what.to_owned(),
            stall,
        };
        (feed, blocks)
    }

    /// Says that the next block belongs to another COPY. `false` if nobody reads any more.
    pub(in crate::source) async fn next_copy(&self) -> bool {
        self.sink.send(Block::new()).await.is_ok()
    }

    /// Reports the result. No block may follow.
    pub(in crate::source) fn report(self, result: Result<(), SourceError>) {
        let _ = self.end.set(result);
    }
}

/// The result of a chunk after its last block.
pub(in crate::source) fn the_end(end: &End, what: &str) -> Result<(), SourceError> {
    match end.get() {
        Some(result) => result.clone(),
        None => Err(SourceError::transient("aborted", format!("{what}: the process is ending"))),
    }
}

/// The error of a chunk that was cancelled.
pub(in crate::source) fn cancelled(relation: &str) -> SourceError {
    SourceError::cancelled(format!("{relation}: cancelled"))
}

/// The error of a chunk whose server sends nothing.
pub(in crate::source) fn stalled(relation: &str, after: Duration) -> SourceError {
    SourceError::transient(
        "stalled",
        format!("{relation}: not a byte from the server for {} s", after.as_secs()),
    )
    .with_remedy(Advice::Stall)
}
