//! The beginning of every chunk: a transaction in which the tables of its piece are locked and compared with the
//! snapshot.

use std::time::Duration;

use tokio::time::timeout;

use super::super::chunk::Limits;
use super::super::path;
use super::super::pool::Connections;
use super::super::reading::Readings;
use super::super::seen::Conditions;
use super::super::session::{Opening, Session, base_settings};
use super::super::slice::{Selected, filter_of, from_where, select_list};
use super::super::snapshot;
use super::super::sqlstate::Stage;
use super::ending::Ending;
use super::piece::{Leaf, Piece};
use super::seen::{self, Fingerprint};
use crate::message::setting::ReadWay;
use crate::relation::Slice;
use crate::source::{ChunkRead, SourceError};

/// Our questions look up single rows of the catalogue. Greenplum's default (100) would read the whole catalogue.
const LOOK_UP: [(&str, &str); 1] = [("random_page_cost", "1")];

/// Settings of a chunk that reads by a query. Indexes hold texts in the order of the operating system's collation,
/// and the server has no version of it on record. A chunk reads whole tables or large parts of them, so it needs
/// no index.
const NO_INDEX: [(&str, &str); 3] =
    [("enable_indexscan", "off"), ("enable_bitmapscan", "off"), ("enable_indexonlyscan", "off")];

/// Longest time until a chunk has locked and compared its tables. These are short questions.
const QUEUE_WAIT: Duration = Duration::from_secs(120);

/// A transaction in which the tables of a piece are locked and compared with the snapshot.
pub(super) struct Prepared {
    pub(super) session: Session,
    pub(super) columns: Readings,
    pub(super) piece: Piece,
    pub(super) ending: Ending,
    /// The filter, in SQL.
    pub(super) filter: Option<String>,
    pub(super) what: String,
}

impl Prepared {
    /// Prepares a chunk. A session waits silently while the role's resource queue is full, so the wait has a
    /// limit.
    pub(super) async fn within(
        connections: &Connections,
        limits: Limits,
        read: &ChunkRead<'_>,
        relation: &str,
    ) -> Result<Self, SourceError> {
        let wait = limits.stall.min(QUEUE_WAIT);
        let prepared = timeout(wait, prepare(connections, limits, read, relation)).await;
        prepared.unwrap_or_else(|_| Err(queue_full(connections, relation, wait)))
    }
}

fn queue_full(connections: &Connections, relation: &str, wait: Duration) -> SourceError {
    let limit =
        connections.connector.limit().unwrap_or_else(|| "the role's resource queue or group".to_owned());
    let wait = wait.as_secs_f64();
    SourceError::exhausted(
        "queue_full",
        format!(
            "read {relation}: the server has not answered a short question for {wait} s; {limit} may be full"
        ),
    )
    .with_remedy("see gp_toolkit.gp_resqueue_status; give the role more slots, or run fewer chunks at once")
}

/// Begins the transaction, locks the tables and compares them with the snapshot.
async fn prepare(
    connections: &Connections,
    limits: Limits,
    read: &ChunkRead<'_>,
    relation: &str,
) -> Result<Prepared, SourceError> {
    let piece = match read.slice {
        Slice::Piece(piece) => piece.of.thaw::<Piece>().map_err(|_| unknown_piece(relation))?,
        _ => return Err(unknown_piece(relation)),
    };
    let snapshot = read.under.as_deref().map(snapshot::id).transpose()?;
    let (schema, name) = (read.selection.schema, read.selection.name);
    let filter = filter_of(&read.selection)?;
    let columns = Readings::of(read.columns)?;
    let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
    let settings: Vec<(String, String)> =
        LOOK_UP.iter().map(owned).chain(read.session.iter().cloned()).collect();
    let opening = Opening { snapshot, settings: &settings, lock_timeout_ms: limits.lock.as_millis() };
    let what = format!("read {relation}");
    let is_whole = piece.is_whole;
    let mut question = seen::question(&piece, read.columns);
    if !is_whole {
        question = format!("{}; {question}", seen::lock(&piece.leaves));
    }
    let (mut session, rows) = Session::begin_asking(connections, opening, |_| question, &what).await?;
    let own_types = seen::compare(&rows, (schema, name), &piece.leaves, read.columns)?;
    if columns.converted().is_some() {
        // Segments write the texts. Their processes may be younger than the session's settings.
        let server = session.server_facts();
        let given = read.session.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        session.set(base_settings(&server).chain(given)).await?;
    }
    let fingerprint = Fingerprint::take(&session, (schema, name), &own_types, is_whole, &what).await?;
    if filter.is_some() || is_whole {
        set_path(&mut session, read, filter.as_deref(), is_whole, &what).await?;
    }
    if read.way != ReadWay::Copy {
        let given = |name: &str| read.session.iter().any(|(given, _)| given == name);
        session.set(NO_INDEX.into_iter().filter(|(name, _)| !given(name))).await?;
    }
    let ending = Ending { under: read.under.clone(), fingerprint };
    Ok(Prepared { session, columns, piece, ending, filter, what })
}

/// Views and filters may depend on the role's own search path, as with PostgreSQL.
async fn set_path(
    session: &mut Session,
    read: &ChunkRead<'_>,
    filter: Option<&str>,
    is_whole: bool,
    what: &str,
) -> Result<(), SourceError> {
    let (schema, name) = (read.selection.schema, read.selection.name);
    let selected = Selected::of(&read.selection, filter);
    let question = super::super::seen::question(schema, name, true, &session.server_facts());
    let rows = session.rows(&question, Stage::Chunk, what).await?;
    let conditions = Conditions { key: None, filter };
    let seen = super::super::seen::compare(&rows, &selected, read.columns, conditions)?;
    let Some(path) = path::of(&seen, conditions) else { return Ok(()) };
    session.set([("search_path", path.as_str())]).await?;
    if !is_whole {
        path::check(session, &selected, Stage::Chunk, what).await?;
    }
    Ok(())
}

/// `SELECT … FROM leaf WHERE …` of one segment, or of all.
pub(super) fn query(leaf: &Leaf, piece: &Piece, columns: &Readings, filter: Option<&str>) -> String {
    let selected = Selected { schema: &leaf.schema, name: &leaf.name, only: !piece.is_whole, filter };
    let segment = piece.segment.map(|segment| format!("gp_segment_id = {segment}"));
    format!("SELECT {} {}", select_list(columns), from_where(&selected, segment.as_deref()))
}

/// The error of a chunk whose plan this release does not understand.
pub(super) fn unknown_piece(relation: &str) -> SourceError {
    SourceError::changed(
        "piece",
        format!("{relation}: the chunk was planned by another kind of source or release"),
    )
}
