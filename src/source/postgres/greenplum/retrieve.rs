//! Reads one piece from its segment's host by a parallel retrieve cursor.
//!
//! The coordinator declares a cursor and says where its endpoints are: host, port, token (`gp_get_endpoints`).
//! A retrieve session logs in there and fetches rows in batches (`segment`). The body of its DataRow is byte
//! for byte a tuple of binary COPY, so header and trailer of a COPY are put around the rows here, and the same
//! decoder reads them.
//!
//! A RETRIEVE can end normally and short when the sending backend or the coordinator's session is ended. So
//! the end of the rows is believed only when the coordinator confirms it in the cursor's own transaction
//! (`gp_wait_parallel_retrieve_cursor`).
//!
//! Source: `gpcontrib/gp_parallel_retrieve_cursor` of Greenplum 6 and `src/backend/cdb/endpoint` of 7.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::super::connect::Connector;
use super::super::copy_stream::{EndOfChunk, Feed, RowStream, Rows, Stop, stalled};
use super::super::pool::Connections;
use super::super::quote::literal;
use super::super::session::Session;
use super::super::sqlstate::Stage;
use super::super::tap::{BLOCK_BYTES, Block};
use super::ending::Ending;
use super::prepared::{Prepared, query};
use super::segment::{Endpoint, Fetched, SegmentSession};
use crate::failpoint;
use crate::source::decode::{COPY_HEADER, COPY_TRAILER};
use crate::source::{ChunkRead, ChunkStream, SourceError};

/// The cursor's name. A session has one cursor at a time.
const CURSOR: &str = "adu_export";

/// Declares the cursor and starts to retrieve.
pub(super) async fn open(
    connections: &Connections,
    prepared: Prepared,
    read: &ChunkRead<'_>,
    stall: Duration,
) -> Result<Box<dyn ChunkStream>, SourceError> {
    let Prepared { session, columns, piece, ending, filter, what } = prepared;
    let queries: Vec<String> =
        piece.leaves.iter().map(|leaf| query(leaf, &piece, &columns, filter.as_deref())).collect();
    let declare = format!("DECLARE {CURSOR} PARALLEL RETRIEVE CURSOR FOR {}", queries.join(" UNION ALL "));
    session.run(&declare, Stage::Chunk, &what).await?;
    let endpoints = endpoints(&session, &what).await?;
    let (stream, feed) = RowStream::new(Rows { read, columns: columns.into_stream(), what }, stall);
    let tasks = session.tasks();
    let connector = Arc::clone(&connections.connector);
    tasks.spawn(Retrieving { feed, connector, endpoints }.run(session, ending));
    Ok(Box::new(stream))
}

/// Where the rows of the cursor can be fetched.
async fn endpoints(session: &Session, what: &str) -> Result<Vec<Endpoint>, SourceError> {
    let sql = format!(
        "SELECT e.hostname, e.port, e.auth_token, e.endpointname, e.gp_segment_id \
         FROM pg_catalog.gp_get_endpoints() e \
         WHERE e.cursorname = {} AND e.sessionid = pg_catalog.current_setting('gp_session_id')::pg_catalog.int4 \
         ORDER BY e.gp_segment_id",
        literal(CURSOR)
    );
    let rows = session.rows(&sql, Stage::Chunk, what).await?;
    let endpoint = |row: &tokio_postgres::SimpleQueryRow| {
        Some(Endpoint {
            host: row.get(0)?.to_owned(),
            port: row.get(1)?.parse().ok()?,
            token: row.get(2)?.to_owned(),
            name: row.get(3)?.to_owned(),
        })
    };
    let endpoints: Option<Vec<Endpoint>> = rows.iter().map(endpoint).collect();
    endpoints.filter(|all| !all.is_empty()).ok_or_else(|| {
        SourceError::permanent("protocol", format!("{what}: the server names no endpoint of the cursor"))
            .with_remedy("ask for read \"query\"")
    })
}

/// Fetches the rows while the coordinator's session holds the cursor.
struct Retrieving {
    feed: Feed,
    connector: Arc<Connector>,
    endpoints: Vec<Endpoint>,
}

impl Retrieving {
    async fn run(self, session: Session, ending: Ending) {
        let ended = async {
            self.send(COPY_HEADER.to_vec()).await?;
            for endpoint in &self.endpoints {
                self.fetch(endpoint).await?;
            }
            self.confirm(&session).await.map_err(Stop::Source)?;
            self.send(COPY_TRAILER.to_vec()).await
        };
        let ended = tokio::select! {
            biased;
            () = self.feed.cancel.cancelled() => Err(Stop::Cancelled),
            () = self.feed.sink.closed() => Err(Stop::Unread),
            ended = ended => ended,
        };
        match ended {
            Ok(()) => {
                let ending = EndOfChunk::Greenplum(ending);
                let ended = timeout(self.feed.stall, ending.run(session, &self.feed.what)).await;
                let ended = ended.unwrap_or_else(|_| Err(stalled(&self.feed.what, self.feed.stall)));
                self.feed.report(ended);
            }
            Err(stop) => {
                let why = stop.error(&self.feed, &session);
                self.feed.report(Err(why));
                session.abort().await;
            }
        }
    }

    async fn send(&self, block: Block) -> Result<(), Stop> {
        self.feed.progress.add(0, block.len() as u64);
        self.feed.sink.send(block).await.map_err(|_| Stop::Unread)
    }

    /// Fetches all rows of an endpoint.
    async fn fetch(&self, endpoint: &Endpoint) -> Result<(), Stop> {
        let mut rows =
            SegmentSession::open(&self.connector, endpoint, &self.feed.what).await.map_err(Stop::Source)?;
        let mut block = Block::with_capacity(BLOCK_BYTES);
        loop {
            let fetched =
                timeout(self.feed.stall, rows.fetch(&mut block)).await.map_err(|_| Stop::Stalled)?;
            match fetched.map_err(Stop::Source)? {
                Fetched::Rows if block.len() < BLOCK_BYTES => {}
                Fetched::Rows => {
                    self.send(std::mem::replace(&mut block, Block::with_capacity(BLOCK_BYTES))).await?
                }
                Fetched::End => break,
            }
        }
        if block.is_empty() { Ok(()) } else { self.send(block).await }
    }

    /// Asks the coordinator whether all rows were fetched.
    async fn confirm(&self, session: &Session) -> Result<(), SourceError> {
        if failpoint::is_left_out("confirm", "cursor") {
            return Ok(());
        }
        let what = &self.feed.what;
        let sql = format!("SELECT pg_catalog.gp_wait_parallel_retrieve_cursor({}, -1)", literal(CURSOR));
        let asked = timeout(self.feed.stall, session.value(&sql, Stage::Chunk, what)).await;
        let finished = asked.map_err(|_| stalled(what, self.feed.stall))??;
        if finished.as_deref() == Some("t") {
            return Ok(());
        }
        let why = "the coordinator does not confirm that all rows were fetched";
        Err(SourceError::transient("incomplete", format!("{what}: {why}")))
    }
}
