//! Reads one piece by COPY: of its tables, or of queries of them.

use std::collections::VecDeque;

use super::super::chunk::{Limits, opened};
use super::super::copy_stream::{self, Copies, EndOfChunk, Rows};
use super::super::pool::Connections;
use super::super::quote::{ident, shown, table};
use super::super::reading::Readings;
use super::piece::Leaf;
use super::prepared::{self, Prepared, query};
use crate::message::setting::ReadWay;
use crate::source::{ChunkRead, ChunkStream, SourceError};

/// Opens the rows of a chunk. When the future is dropped, or the token fires, the work on the server ends too.
pub(in super::super) async fn open(
    connections: &Connections,
    limits: Limits,
    read: ChunkRead<'_>,
) -> Result<Box<dyn ChunkStream>, SourceError> {
    let relation = shown(read.selection.schema, read.selection.name);
    opened(limits, &read, &relation, begin(connections, limits, &read, &relation)).await
}

async fn begin(
    connections: &Connections,
    limits: Limits,
    read: &ChunkRead<'_>,
    relation: &str,
) -> Result<Box<dyn ChunkStream>, SourceError> {
    let prepared = Prepared::within(connections, limits, read, relation).await?;
    if read.way == ReadWay::Retrieve {
        return super::retrieve::open(connections, prepared, read, limits.stall).await;
    }
    let Prepared { session, columns, piece, ending, filter, what } = prepared;
    let copy = |leaf: &Leaf| {
        if read.way == ReadWay::Copy {
            return copy_of_table(leaf, &columns);
        }
        // The coordinator formats its rows.
        format!("COPY ({}) TO STDOUT (FORMAT binary)", query(leaf, &piece, &columns, filter.as_deref()))
    };
    let mut copies: VecDeque<String> = piece.leaves.iter().map(copy).collect();
    let Some(first) = copies.pop_front() else { return Err(prepared::unknown_piece(relation)) };
    let first = session.prepare(&first, &what).await?;
    let rows = Rows { read, columns: columns.into_stream(), what };
    let copies = Copies { first, more: copies };
    let stream =
        copy_stream::start(session, copies, rows, limits.stall, EndOfChunk::Greenplum(ending)).await?;
    Ok(Box::new(stream))
}

/// `COPY leaf (columns) TO`, which the segments format.
fn copy_of_table(leaf: &Leaf, columns: &Readings) -> String {
    let list: Vec<String> = columns.iter().map(|(name, _)| ident(name)).collect();
    format!("COPY {} ({}) TO STDOUT (FORMAT binary)", table(&leaf.schema, &leaf.name), list.join(", "))
}
