//! The cluster: its segments, whether rows can be retrieved from them, and how much a role may run at once.

use futures_util::future::join_all;
use tokio_postgres::SimpleQueryRow;

use super::super::connect::Connector;
use super::super::named::WHAT;
use super::super::session::Session;
use super::super::sqlstate::Stage;
use super::answer;
use crate::relation::pieces::MostChunks;
use crate::source::{SourceError, SourceFacts};
use crate::text::count;

/// The extension that Greenplum 6 needs for parallel retrieve cursors. Version 7 has them built in.
pub(super) const EXTENSION: &str = "gp_parallel_retrieve_cursor";

/// A primary segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Segment {
    /// Its content id, which `gp_segment_id` shows.
    pub(in super::super) id: i32,
    /// Host and port for retrieve sessions.
    pub(in super::super) host: String,
    pub(in super::super) port: u16,
}

/// What planning must know of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Cluster {
    pub(in super::super) segments: Vec<Segment>,
    /// Whether the database stores texts in UTF-8.
    pub(in super::super) is_utf8: bool,
    /// Whether the database has parallel retrieve cursors.
    pub(in super::super) has_retrieve: bool,
    /// The role's limit; none for superusers.
    limit: Option<Limit>,
}

impl Cluster {
    /// Asks the server.
    pub(in super::super) async fn read(session: &Session) -> Result<Self, SourceError> {
        let mut segments = Vec::new();
        let sql = "SELECT s.content, s.hostname, s.port FROM pg_catalog.gp_segment_configuration s \
                   WHERE s.role = 'p' AND s.content >= 0 ORDER BY s.content";
        let segment = |row: &SimpleQueryRow| {
            Some(Segment {
                id: row.get(0)?.parse().ok()?,
                host: row.get(1)?.to_owned(),
                port: row.get(2)?.parse().ok()?,
            })
        };
        answer::each(session, sql, "segments", segment, |segment| segments.push(segment)).await?;
        if segments.is_empty() {
            return Err(answer::strange("segments"));
        }
        let has_retrieve = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_proc p \
                            WHERE p.proname = 'gp_wait_parallel_retrieve_cursor')";
        let has_retrieve = session.value(has_retrieve, Stage::Question, WHAT).await?.as_deref() == Some("t");
        let limit = Limit::read(session).await?;
        let encoding = session.value("SHOW server_encoding", Stage::Question, WHAT).await?;
        Ok(Self { segments, is_utf8: encoding.as_deref() == Some("UTF8"), has_retrieve, limit })
    }

    /// Why rows cannot be retrieved from the segments; none if they can.
    pub(super) async fn no_retrieve(&self, connector: &Connector) -> Option<String> {
        if !self.has_retrieve {
            return Some(format!("the database has no extension {EXTENSION}"));
        }
        // A cursor and the question for its endpoints are two statements.
        if self.limit.as_ref().is_some_and(|limit| limit.slots < 2) {
            return Some(
                "the role's resource queue or group has one slot, and a cursor needs two".to_owned(),
            );
        }
        let tries = self.segments.iter().map(|segment| connector.unreached(&segment.host, segment.port));
        let unreached: Vec<String> = join_all(tries).await.into_iter().flatten().collect();
        let more = unreached.len().checked_sub(1)?;
        let others = if more > 0 { format!(", and {more} more segments") } else { String::new() };
        Some(format!("{}{others}", unreached[0]))
    }
}

/// What `check` says about the cluster.
pub(in super::super) async fn check(
    session: &Session,
    connector: &Connector,
) -> Result<SourceFacts, SourceError> {
    let version = session.value("SELECT pg_catalog.version()", Stage::Question, WHAT).await?;
    let (product, version) = product(&version.unwrap_or_default());
    let cluster = Cluster::read(session).await?;
    let mut notes = vec![count(cluster.segments.len() as u64, "segment")];
    notes.push(match cluster.no_retrieve(connector).await {
        None => "rows can be retrieved from the segments".to_owned(),
        Some(why) => format!("rows cannot be retrieved from the segments: {why}"),
    });
    notes.push(match cluster.limit.map(Limit::most_chunks) {
        None => "no resource queue limits the role".to_owned(),
        Some(most) => format!("at most {} at once ({})", count(most.chunks.into(), "chunk"), most.reason),
    });
    Ok(SourceFacts { product, version, snapshots: true, notes })
}

/// Product and version in the answer of `version()`, e.g. `PostgreSQL 9.4.26 (Greenplum Database 6.24.3 build
/// commit:…) on x86_64…`.
fn product(text: &str) -> (String, String) {
    let inner = text.split_once('(').and_then(|(_, rest)| rest.split_once(" build")).map(|(inner, _)| inner);
    match inner.and_then(|inner| inner.rsplit_once(' ')) {
        Some((product, version)) => (product.to_owned(), version.to_owned()),
        None => ("Greenplum".to_owned(), text.to_owned()),
    }
}

/// How many chunks the role's resource queue or group allows at once.
pub(in super::super) async fn most_chunks(session: &Session) -> Result<Option<MostChunks>, SourceError> {
    Ok(Limit::read(session).await?.map(Limit::most_chunks))
}

/// The role's limit of statements or transactions at once.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Limit {
    slots: u32,
    /// Name of the resource queue or group.
    name: String,
    is_queue: bool,
}

impl Limit {
    /// Superusers are exempt from queues.
    async fn read(session: &Session) -> Result<Option<Self>, SourceError> {
        let manager = session.value("SHOW gp_resource_manager", Stage::Question, WHAT).await?;
        let sql = match manager.as_deref() {
            Some("queue") => {
                "SELECT q.rsqname, q.rsqcountlimit::pg_catalog.int4 FROM pg_catalog.pg_roles r \
                 JOIN pg_catalog.pg_resqueue q ON q.oid = r.rolresqueue \
                 WHERE r.rolname = current_user AND NOT r.rolsuper AND q.rsqcountlimit > 0"
            }
            Some("group" | "group-v2") => {
                "SELECT g.rsgname, c.value::pg_catalog.int4 FROM pg_catalog.pg_roles r \
                 JOIN pg_catalog.pg_resgroup g ON g.oid = r.rolresgroup \
                 JOIN pg_catalog.pg_resgroupcapability c ON c.resgroupid = g.oid AND c.reslimittype = 1 \
                 WHERE r.rolname = current_user AND c.value::pg_catalog.int4 > 0"
            }
            _ => return Ok(None),
        };
        let is_queue = manager.as_deref() == Some("queue");
        let limit = |row: &SimpleQueryRow| {
            Some(Self { slots: row.get(1)?.parse().ok()?, name: row.get(0)?.to_owned(), is_queue })
        };
        let mut found = None;
        answer::each(session, sql, "the role's resource queue or group", limit, |limit| found = Some(limit))
            .await?;
        Ok(found)
    }

    /// A COPY, a query and an open retrieve cursor take a slot each. One slot stays free for the short questions of
    /// planning and of retrieve cursors, which would otherwise wait for a slot that the asking chunk holds.
    fn most_chunks(self) -> MostChunks {
        let Self { slots, name, is_queue } = self;
        let kind = if is_queue { "queue" } else { "group" };
        // A group counts transactions, and so the snapshot's; a queue counts statements.
        let kept = if is_queue { 1 } else { 2 };
        let why = match (slots > kept, is_queue) {
            (true, true) => "one of them kept free for questions",
            (true, false) => "two of them, with the snapshot, kept free for questions",
            (false, true) => "which chunks and questions take in turn",
            (false, false) => "and a chunk, the snapshot and a question need 3",
        };
        let reason = format!("resource {kind} {name}: {}, {why}", count(slots.into(), "slot"));
        MostChunks { chunks: slots.saturating_sub(kept).max(1), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_limit_allows_is_said_also_of_a_single_slot() {
        let most = |slots, is_queue| Limit { slots, name: "q".into(), is_queue }.most_chunks();
        let both = |most: MostChunks| (most.chunks, most.reason);
        assert_eq!(
            both(most(33, true)),
            (32, "resource queue q: 33 slots, one of them kept free for questions".into())
        );
        assert_eq!(
            both(most(1, true)),
            (1, "resource queue q: 1 slot, which chunks and questions take in turn".into())
        );
        assert_eq!(most(20, false).chunks, 18);
        assert_eq!(most(2, false).chunks, 1);
    }

    #[test]
    fn product_and_version_are_read_from_what_the_server_says() {
        let said = |text| product(text);
        let both = |product: &str, version: &str| (product.to_owned(), version.to_owned());
        assert_eq!(
            said(
                "PostgreSQL 9.4.26 (Greenplum Database 6.24.3 build commit:25d3498) on x86_64-unknown-linux-gnu"
            ),
            both("Greenplum Database", "6.24.3")
        );
        assert_eq!(
            said("PostgreSQL 14.4 (Apache Cloudberry 2.0.0 build 1) on x86_64-pc-linux-gnu"),
            both("Apache Cloudberry", "2.0.0")
        );
        assert_eq!(said("PostgreSQL 9.4"), both("Greenplum", "PostgreSQL 9.4"));
    }
}
