//! Reads one chunk: opens the transaction, checks the table, then starts the COPY.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::future::join3;
use tokio::time::timeout;
use tracing::debug;

use super::collation;
use super::copy_stream::{self, Copies, EndOfChunk, Rows, cancelled, stalled};
use super::definitions::Definitions;
use super::guard;
use super::order::cast;
use super::pages::{self, PageStream};
use super::path;
use super::pool::Connections;
use super::quote::shown;
use super::reading::Readings;
use super::seen::{self, Conditions};
use super::server::ServerFacts;
use super::session::{Opening, Session};
use super::slice::{
    HAS_TID_RANGE_SCAN, Selected, condition, filter_of, from_only_where, from_where, select_list,
};
use super::snapshot;
use super::sqlstate::Stage;
use crate::message::setting::ReadWay;
use crate::relation::Slice;
use crate::source::{ChunkRead, ChunkStream, SourceError};

/// Limits of a chunk, from the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Longest wait for a lock.
    pub(super) lock: Duration,
    /// Longest time without a byte.
    pub(super) stall: Duration,
}

/// Opens the rows of a chunk. When the future is dropped, or the token fires, the work on the server ends
/// too.
pub(super) async fn open(
    connections: &Connections,
    limits: Limits,
    read: ChunkRead<'_>,
) -> Result<Box<dyn ChunkStream>, SourceError> {
    let relation = shown(read.selection.schema, read.selection.name);
    opened(limits, &read, &relation, begin(connections, limits, &read, &relation)).await
}

/// Opens a chunk, unless it is cancelled or the server is silent for too long.
pub(super) async fn opened<T>(
    limits: Limits,
    read: &ChunkRead<'_>,
    relation: &str,
    opening: impl Future<Output = Result<T, SourceError>>,
) -> Result<T, SourceError> {
    tokio::select! {
        biased;
        () = read.cancel.cancelled() => Err(cancelled(relation)),
        opened = timeout(limits.stall, opening) => {
            opened.unwrap_or_else(|_| Err(stalled(relation, limits.stall)))
        }
    }
}

async fn begin(
    connections: &Connections,
    limits: Limits,
    read: &ChunkRead<'_>,
    relation: &str,
) -> Result<Box<dyn ChunkStream>, SourceError> {
    let snapshot = read.under.as_deref().map(snapshot::id).transpose()?;
    let filter = filter_of(&read.selection)?;
    let selected = Selected::of(&read.selection, filter.as_deref());
    let (schema, name) = (selected.schema, selected.name);
    // An index may lack rows of the snapshot (see `definitions`). A chunk that reads a whole table needs no
    // index. The setting is sent here because it then costs no extra round trip.
    let all = matches!(read.slice, Slice::All) && selected.filter.is_none();
    let whole_tables = [("enable_indexonlyscan".to_owned(), "off".to_owned())];
    let settings = if all { &whole_tables[..] } else { &[] };
    let opening = Opening { snapshot, settings, lock_timeout_ms: limits.lock.as_millis() };
    let question = |server: &ServerFacts| seen::question(schema, name, selected.filter.is_some(), server);
    let look = format!("look at {relation}");
    let by_pages = read.way == ReadWay::Pages;
    let schema_before = match by_pages {
        true => pages::schema_before(connections, schema, &look).await?,
        false => None,
    };
    let (mut session, rows) = Session::begin_asking(connections, opening, question, &look).await?;
    let version = session.version();
    check_pages(read.slice, snapshot, version, relation)?;

    let columns = Readings::of(read.columns)?;
    let order = read.slice.order().map(cast).transpose()?;
    let key = read.slice.column();
    let conditions = Conditions { key, filter: selected.filter };
    let seen = seen::compare(&rows, &selected, read.columns, conditions)?;
    let mut settings: Vec<(&str, &str)> = Vec::new();
    // Without this setting the server would scan the whole table for every range of an eighth of it. The
    // setting makes it use an index. No index is needed if the range skips whole partitions. For a view
    // nobody knows what the query reads.
    let by_index = match (key, order) {
        (Some(column), Some(order)) => !order.is_by_bytes() && !seen.is_pruned_by(column),
        _ => false,
    };
    if by_index && !seen.is_view() {
        settings.push(("enable_seqscan", "off"));
    }
    if all && seen.is_view() {
        settings.push(("enable_indexonlyscan", "on"));
    }
    let what = format!("read {relation}");
    let ordered = order.is_some_and(|order| order.has_collation);
    let compared = Conditions { key: conditions.key.filter(|_| ordered), ..conditions };
    let care = collation::care(&session, &seen, compared, Stage::Chunk, &what).await?;
    if let Some(doubt) = care.key {
        return Err(seen::changed(schema, name, &doubt));
    }
    let path = path::of(&seen, conditions);
    settings.extend(path.as_deref().map(|path| ("search_path", path)));
    settings.extend(read.session.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    settings.extend(care.settings);
    if !settings.is_empty() {
        session.set(settings).await?;
    }
    if path.is_some() && !seen.is_view() {
        path::check(&session, &selected, Stage::Chunk, &what).await?;
    }

    let slice = condition(read.slice)?;
    let list = select_list(&columns);
    let selection = Selected { filter: care.filter.as_deref(), ..selected };
    let whole = format!("SELECT {list} {}", from_where(&selection, slice.as_deref()));
    let alone = format!("SELECT {list} {}", from_only_where(&selection, slice.as_deref()));
    let copy = format!("COPY ({}) TO STDOUT (FORMAT binary)", if seen.is_alone { &alone } else { &whole });
    let (same, files, prepared) = join3(
        guard::same_columns(&session, schema, name, &seen),
        async {
            if seen.is_alone {
                return guard::same_file(&session, schema, name, &seen).await;
            }
            let queries = guard::Locking { whole: &whole, alone: &alone };
            guard::same_files(&session, schema, name, queries, &seen).await
        },
        session.prepare(&copy, &what),
    )
    .await;
    same?;
    files?;
    let copy = prepared?;

    let by_pages = if by_pages {
        let chunk = pages::Chunk {
            selected: &selection,
            seen: &seen,
            columns: &columns,
            slice: read.slice,
            condition: slice.as_deref(),
            schema: schema_before,
            is_of_primary: read.under.as_deref().is_some_and(snapshot::is_of_primary),
        };
        pages::prepare(&session, &chunk, &what).await?
    } else {
        Err(String::new())
    };

    let definitions = Definitions::of(&seen, (schema, name), conditions, read.slice, version);
    let rows = Rows { read, columns: columns.into_stream(), what };
    match by_pages {
        Ok((pages, schema)) => {
            let ending = EndOfChunk::Pages(pages::Ending { schema, definitions });
            let stream = PageStream::start(session, rows, pages, limits.stall, ending).await?;
            return Ok(Box::new(stream));
        }
        Err(why) if !why.is_empty() => {
            debug!(reason = why, "a chunk that was planned by pages is read by COPY");
        }
        Err(_) => {}
    }
    let ending = definitions.map_or(EndOfChunk::Commit, EndOfChunk::Definitions);
    let copies = Copies { first: copy, more: VecDeque::new() };
    Ok(Box::new(copy_stream::start(session, copies, rows, limits.stall, ending).await?))
}

/// Page numbers are valid only while all chunks read one snapshot. Older servers would read the whole table
/// for each range of pages.
fn check_pages(
    slice: Slice<'_>,
    snapshot: Option<&str>,
    version: u32,
    relation: &str,
) -> Result<(), SourceError> {
    let why = match slice {
        Slice::Numbers(_) if snapshot.is_none() => "page ranges need a snapshot",
        Slice::Numbers(_) if version < HAS_TID_RANGE_SCAN => "page ranges need PostgreSQL 14",
        _ => return Ok(()),
    };
    Err(SourceError::permanent("strategy", format!("read {relation}: {why}"))
        .with_remedy("ask for the strategy range or single"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relation::Strategy;

    #[test]
    fn pages_are_read_only_under_a_snapshot_and_from_version_14() {
        let ctid = Strategy::Ctid { bounds: vec![1] };
        let pages = ctid.slice(1).expect("the last chunk");
        assert!(check_pages(pages, Some("3-1"), 150_000, "a.b").is_ok());
        assert!(check_pages(pages, None, 150_000, "a.b").is_err());
        assert!(check_pages(pages, Some("3-1"), 130_000, "a.b").is_err());
        assert!(check_pages(Slice::All, None, 120_000, "a.b").is_ok());
    }
}
