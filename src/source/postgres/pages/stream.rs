//! The rows of a chunk that is read by pages. A blocking thread takes the pages apart, says what the server must
//! read next, and decodes the rows of both.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio_util::sync::CancellationToken;

use super::super::copy_stream::{EndOfChunk, More, launch};
use super::super::session::Session;
use super::route::{Next, Route, listed_rows};
use super::server::Server;
use super::sheets::{Sheet, Sheets};
use super::tuple::{Refused, Taker};
use crate::failpoint;
use crate::message::event::PagesRead;
use crate::message::request::OnUnfit;
use crate::source::decode::stream::{Block, End, Feed, Rows, cancelled, the_end};
use crate::source::decode::{CopyDecoder, HeapDecoder, StreamColumn};
use crate::source::{ChunkStream, Progress, SourceError};

/// The SQL of a chunk that is read by pages.
pub(in super::super) struct Queries {
    pub(super) server: Server,
    /// The table's oid.
    pub(super) oid: u32,
    /// The columns.
    pub(super) list: String,
    /// The table.
    pub(super) table: String,
}

impl Queries {
    fn copy(query: &str) -> String {
        format!("COPY ({query}) TO STDOUT (FORMAT binary)")
    }

    /// Takes the answer to a query of pages.
    fn sheets(&self) -> Sheets {
        Sheets::new(self.server.has_groups().then_some(self.server.block))
    }

    /// The COPY of a step; `None` for the end.
    fn of(&self, next: &Next) -> Option<String> {
        let rows = |ranges: &[Range<u64>]| Self::copy(&listed_rows(&self.list, &self.table, ranges));
        match next {
            Next::Pages(pages) => self.server.query(self.oid, pages).map(|query| Self::copy(&query)),
            Next::Rows(pages) => Some(rows(std::slice::from_ref(pages))),
            Next::Listed(ranges) => Some(rows(ranges)),
            Next::End => None,
        }
    }
}

/// What a chunk needs to take pages apart.
pub(in super::super) struct Pages {
    pub(super) taker: Taker,
    pub(super) route: Route,
    pub(super) queries: Queries,
    /// The columns of rows that are taken from pages. Those of COPY may have other forms.
    pub(super) columns: Vec<StreamColumn>,
}

/// Decodes what is being read.
enum Decoder {
    Pages(HeapDecoder),
    Copy(CopyDecoder),
}

impl Decoder {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        match self {
            Self::Pages(decoder) => decoder.next_batch(),
            Self::Copy(decoder) => decoder.next_batch(),
        }
    }

    fn finish(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        match self {
            Self::Pages(decoder) => decoder.finish(),
            Self::Copy(decoder) => decoder.finish(),
        }
    }
}

/// The rows of a chunk, read from a blocking thread. If the stream is dropped before its end, the query on the
/// server ends.
pub(in super::super) struct PageStream {
    blocks: mpsc::Receiver<Block>,
    /// Says which COPY comes next; none for the end.
    orders: UnboundedSender<Option<String>>,
    end: End,
    pages: Pages,
    sheets: Sheets,
    /// The number of the next page.
    expected: u64,
    decoder: Decoder,
    /// Whether the last rows of what was read come next, before those of another COPY.
    is_between: bool,
    /// The columns of rows that COPY sends.
    columns: Vec<StreamColumn>,
    key: Vec<String>,
    on_unfit: OnUnfit,
    cancel: CancellationToken,
    progress: Arc<Progress>,
    counts: Arc<OnceLock<PagesRead>>,
    what: String,
}

impl PageStream {
    /// Starts with the first pages.
    pub(in super::super) async fn start(
        session: Session,
        rows: Rows<'_>,
        mut pages: Pages,
        stall: std::time::Duration,
        ending: EndOfChunk,
    ) -> Result<Self, SourceError> {
        let Rows { read, columns, what } = rows;
        let (feed, blocks) = Feed::new(read, &what, stall);
        let (orders, ordered) = mpsc::unbounded_channel();
        let first = pages.route.next();
        let window = pages.route.window();
        let mut stream = Self {
            blocks,
            orders,
            end: feed.end.clone(),
            sheets: pages.queries.sheets(),
            expected: window.start,
            decoder: Decoder::Pages(HeapDecoder::new(
                &pages.columns,
                pages.taker.stored(),
                read.key,
                read.on_unfit,
            )),
            is_between: false,
            columns,
            key: read.key.to_vec(),
            on_unfit: read.on_unfit,
            cancel: read.cancel.clone(),
            progress: read.progress.clone(),
            counts: Arc::clone(&read.pages),
            what,
            pages,
        };
        // A table without pages is read by a COPY of none.
        let copy = stream.pages.queries.of(&first).unwrap_or_else(|| {
            stream.decoder = stream.decoder_of_copy();
            Queries::copy(&listed_rows(&stream.pages.queries.list, &stream.pages.queries.table, &[]))
        });
        let copy = session.prepare(&copy, &stream.what).await?;
        launch(session, feed, &copy, More::Ordered(ordered), ending).await?;
        Ok(stream)
    }

    fn decoder_of_copy(&self) -> Decoder {
        Decoder::Copy(CopyDecoder::new(&self.columns, &self.key, self.on_unfit))
    }

    /// A batch that is complete; `None` if more bytes are needed.
    fn ready(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        let ready = if self.is_between { self.decoder.finish() } else { self.decoder.next_batch() };
        ready.map_err(|e| e.named(&self.what))
    }

    /// Takes pages apart until there are enough rows. `false` if there is no whole page left.
    fn take_pages(&mut self) -> Result<bool, SourceError> {
        let Self { sheets, pages, decoder: Decoder::Pages(decoder), expected, what, .. } = self else {
            return Ok(false);
        };
        let strange = || {
            let why = "the server's answer is not the pages that were asked for";
            SourceError::permanent("pages", format!("{what}: {why}")).with_remedy("ask for read \"copy\"")
        };
        while !decoder.is_full() {
            let Some((number, page)) = sheets.next().map_err(|_| strange())? else { return Ok(false) };
            if number != *expected {
                return Err(strange());
            }
            *expected += 1;
            let take = |Sheet { bytes, size }| pages.taker.take(bytes, size, decoder.rows());
            match page.map_or(Err(Refused::Listed), take) {
                Ok(()) => {}
                Err(Refused::Listed) => pages.route.list(number),
                Err(Refused::Newer) => {
                    let why = format!("a row of page {number} has columns that its snapshot does not show");
                    return Err(SourceError::changed("changed", format!("{what}: {why}")));
                }
            }
        }
        Ok(true)
    }

    /// After the end of a COPY: orders the next one.
    fn turn(&mut self) -> Result<(), SourceError> {
        if self.reads_pages() {
            let window = self.pages.route.window();
            if !self.sheets.has_ended() || self.expected != window.end {
                let why = format!("the pages end before page {}", window.end);
                return Err(SourceError::transient("copy_truncated", format!("{}: {why}", self.what)));
            }
        }
        let mut next = self.pages.route.next();
        if matches!(next, Next::Listed(_)) && failpoint::is_left_out("copy", "listed") {
            next = Next::End;
        }
        let order = self.pages.queries.of(&next);
        // The pump reports why it has ended.
        let _ = self.orders.send(order);
        match next {
            Next::Pages(window) => {
                self.sheets = self.pages.queries.sheets();
                self.expected = window.start;
            }
            Next::Rows(_) | Next::Listed(_) => self.is_between = true,
            Next::End => {}
        }
        Ok(())
    }

    fn reads_pages(&self) -> bool {
        matches!(self.decoder, Decoder::Pages(_))
    }

    fn next(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        loop {
            if self.cancel.is_cancelled() {
                return Err(cancelled(&self.what));
            }
            if let Some(batch) = self.ready()? {
                return Ok(Some(batch));
            }
            if self.is_between {
                self.decoder = self.decoder_of_copy();
                self.is_between = false;
            }
            if self.take_pages()? {
                continue;
            }
            match self.blocks.blocking_recv() {
                Some(block) if block.is_empty() => self.turn()?,
                Some(block) => match &mut self.decoder {
                    Decoder::Pages(_) => self.sheets.take(block),
                    Decoder::Copy(decoder) => decoder.take(block),
                },
                None => {
                    the_end(&self.end, &self.what)?;
                    return self.decoder.finish().map_err(|e| e.named(&self.what));
                }
            }
        }
    }
}

impl ChunkStream for PageStream {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        let batch = self.next()?;
        match &batch {
            Some(batch) => self.progress.add(batch.num_rows() as u64, 0),
            None => {
                let (read, recopied) = self.pages.route.counts();
                // The reader asks once more only after an error of its own.
                let _ = self.counts.set(PagesRead { read, recopied });
            }
        }
        Ok(batch)
    }
}
