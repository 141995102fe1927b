//! Keepers: transactions that hold a snapshot. Each process has one for each lineage, on a connection outside
//! the pool.
//!
//! The name of a keeper in `pg_stat_activity` is `aduk:<lineage>:<snapshot id>`. Any process of the same role
//! can therefore import its snapshot and export it again. The snapshot lives as long as one keeper does. The
//! last statement of a keeper contains the time of the snapshot in a comment.

use std::any::Any;
use std::sync::Arc;

use jiff::Timestamp;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::connect::{Connector, Opened};
use super::quote::literal;
use super::session::{base_settings, set_config};
use super::sqlstate::{Stage, explain};
use crate::failpoint;
use crate::relation::Snapshot;
use crate::source::{ErrorKind, Keeper, SourceError};

/// Longest `application_name` of the server.
const NAME_BYTES: usize = 63;
/// First version with `transaction_timeout`.
const HAS_TRANSACTION_TIMEOUT: u32 = 170_000;
/// Marks the snapshot's time in the keeper's last statement.
const TIME_MARK: &str = "snapshot-time-us=";

/// A transaction that holds a snapshot.
pub(super) struct PostgresKeeper {
    lineage: Uuid,
    time: Timestamp,
    snapshot: String,
    lost: CancellationToken,
    /// Dropping the client ends the connection, which ends the transaction.
    _client: Client,
}

impl Keeper for PostgresKeeper {
    fn snapshot(&self) -> Snapshot {
        Snapshot { lineage: self.lineage, time: self.time }
    }

    fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }
}

/// The id of a keeper's snapshot, to import it.
pub(super) fn id(keeper: &dyn Keeper) -> Result<&str, SourceError> {
    let ours = (keeper as &dyn Any).downcast_ref::<PostgresKeeper>();
    ours.filter(|k| !k.lost.is_cancelled()).map(|k| k.snapshot.as_str()).ok_or_else(|| {
        SourceError::lineage_lost(format!(
            "this process holds no snapshot of lineage {}",
            keeper.snapshot().lineage
        ))
    })
}

/// Takes a new snapshot.
pub(super) async fn open(connector: &Connector, lineage: Uuid) -> Result<Arc<dyn Keeper>, SourceError> {
    let opening = Transaction::begin(connector, None).await?;
    Ok(Arc::new(opening.export(lineage, None).await?))
}

/// Counts living keepers of a lineage, in all processes.
pub(super) async fn keepers(connector: &Connector, lineage: Uuid) -> Result<u32, SourceError> {
    let found = find(connector, lineage).await?;
    Ok(u32::try_from(found.len()).unwrap_or(u32::MAX))
}

/// Imports the snapshot of any living keeper. Two calls at the same time for one lineage would make two
/// keepers, so callers take turns.
pub(super) async fn join(
    connector: &Connector,
    lineage: Uuid,
) -> Result<Option<Arc<dyn Keeper>>, SourceError> {
    for other in find(connector, lineage).await? {
        match Transaction::begin(connector, Some(&other.snapshot)).await {
            Ok(joined) => {
                failpoint::step("mid", "join", "keeper");
                return Ok(Some(Arc::new(joined.export(lineage, other.time).await?)));
            }
            // This keeper has ended meanwhile: try the next one.
            Err(e) if e.kind == ErrorKind::LineageLost => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

/// A living keeper as `pg_stat_activity` shows it.
struct LivingKeeper {
    snapshot: String,
    time: Option<Timestamp>,
}

/// Finds living keepers of a lineage, in this database and of this role.
async fn find(connector: &Connector, lineage: Uuid) -> Result<Vec<LivingKeeper>, SourceError> {
    let looking = Transaction::connect(connector).await?;
    let prefix = application_name(lineage, "");
    // The oldest transaction comes first. If a keeper lacks the comment, the start of the oldest transaction
    // is nearest to the snapshot's time.
    let sql = format!(
        "SELECT pg_catalog.substr(application_name, {}), query, \
                (extract(epoch FROM xact_start) * 1000000)::pg_catalog.int8 \
         FROM pg_catalog.pg_stat_activity \
         WHERE datname = pg_catalog.current_database() AND usename = current_user \
           AND pg_catalog.starts_with(application_name, {}) AND xact_start IS NOT NULL \
         ORDER BY xact_start",
        prefix.len() + 1,
        literal(&prefix),
    );
    let rows = looking.rows(&sql, Stage::Question, "look for keepers of the snapshot").await?;
    Ok(rows.iter().filter_map(living_keeper).collect())
}

fn living_keeper(row: &SimpleQueryRow) -> Option<LivingKeeper> {
    let snapshot = row.get(0).filter(|id| is_snapshot_id(id))?.to_owned();
    let time = row
        .get(1)
        .and_then(time_of_query)
        .or_else(|| row.get(2).and_then(|us| us.parse().ok()))
        .and_then(|us| Timestamp::from_microsecond(us).ok());
    Some(LivingKeeper { snapshot, time })
}

/// Reads the snapshot's time from the keeper's last statement.
fn time_of_query(query: &str) -> Option<i64> {
    let (_, rest) = query.rsplit_once(TIME_MARK)?;
    rest.split(|c: char| !c.is_ascii_digit() && c != '-').next()?.parse().ok()
}

fn is_snapshot_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

fn application_name(lineage: Uuid, snapshot: &str) -> String {
    format!("aduk:{}:{snapshot}", lineage.simple())
}

/// A connection outside the pool, with its transaction.
struct Transaction {
    client: Client,
    lost: CancellationToken,
    version: u32,
}

impl Transaction {
    async fn connect(connector: &Connector) -> Result<Self, SourceError> {
        let Opened { client, connection, .. } = connector.connect().await?;
        let lost = CancellationToken::new();
        // Fires whenever the task ends, for whatever reason.
        let ended = lost.clone().drop_guard();
        connector.tasks.spawn(async move {
            let _ended = ended;
            if let Err(e) = connection.await {
                tracing::debug!(error = %e, "the connection of a keeper ended with an error");
            }
        });
        Ok(Self { client, lost, version: connector.version() })
    }

    /// Begins with the snapshot of another keeper, or with a new one.
    async fn begin(connector: &Connector, import: Option<&str>) -> Result<Self, SourceError> {
        let new = Self::connect(connector).await?;
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        match import {
            None => new.rows(begin, Stage::Setup, "begin a transaction").await?,
            Some(id) => {
                let sql = format!("{begin}; SET TRANSACTION SNAPSHOT {}", literal(id));
                new.rows(&sql, Stage::Import, "import the snapshot").await?
            }
        };
        let timeout = (new.version >= HAS_TRANSACTION_TIMEOUT).then_some(("transaction_timeout", "0"));
        let settings = base_settings(new.version)
            .chain([("idle_in_transaction_session_timeout", "0"), ("statement_timeout", "0")])
            .chain(timeout);
        new.rows(&set_config(settings), Stage::Setup, "set the keeper's settings").await?;
        Ok(new)
    }

    /// Exports the snapshot and makes the keeper visible. `time` is the time of an imported snapshot. Without
    /// it, the start of the transaction is used.
    async fn export(self, lineage: Uuid, time: Option<Timestamp>) -> Result<PostgresKeeper, SourceError> {
        let what = "export the snapshot";
        let sql = "SELECT pg_catalog.pg_export_snapshot(), \
                   (extract(epoch FROM pg_catalog.now()) * 1000000)::pg_catalog.int8";
        let rows = self.rows(sql, Stage::Setup, what).await?;
        let answer = rows.first().and_then(|row| {
            let snapshot = row.get(0).filter(|id| is_snapshot_id(id))?.to_owned();
            let now = row.get(1)?.parse().ok().and_then(|us| Timestamp::from_microsecond(us).ok())?;
            Some((snapshot, now))
        });
        let Some((snapshot, now)) = answer else {
            return Err(unusable(what, "the server's answer is not a snapshot id and a time"));
        };
        let time = time.unwrap_or(now);
        let name = application_name(lineage, &snapshot);
        if name.len() > NAME_BYTES {
            return Err(unusable(what, "the snapshot's id is longer than application_name has room for"));
        }
        let show = format!(
            "SET LOCAL application_name = {} /* {TIME_MARK}{} */",
            literal(&name),
            time.as_microsecond()
        );
        self.rows(&show, Stage::Setup, what).await?;
        Ok(PostgresKeeper { lineage, time, snapshot, lost: self.lost, _client: self.client })
    }

    async fn rows(&self, sql: &str, stage: Stage, what: &str) -> Result<Vec<SimpleQueryRow>, SourceError> {
        let messages = self.client.simple_query(sql).await.map_err(|e| explain(&e, stage, what, false))?;
        Ok(messages
            .into_iter()
            .filter_map(|m| if let SimpleQueryMessage::Row(row) = m { Some(row) } else { None })
            .collect())
    }
}

fn unusable(what: &str, why: &str) -> SourceError {
    SourceError::permanent("snapshot", format!("{what}: {why}"))
        .with_remedy("ask for `\"consistency\": \"none\"` if this server cannot give snapshots")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keeper_s_name_fits_the_server_s_limit() {
        let name = application_name(Uuid::from_u128(u128::MAX), "00000003-FFFFFFFF-1234567");
        assert!(name.len() <= NAME_BYTES, "{}", name.len());
    }

    #[test]
    fn the_time_of_a_snapshot_is_read_from_the_keeper_s_last_statement() {
        let query = "SET LOCAL application_name = 'aduk:…' /* snapshot-time-us=1732272000123456 */";
        assert_eq!(time_of_query(query), Some(1_732_272_000_123_456));
        assert_eq!(time_of_query("<insufficient privilege>"), None);
    }

    #[test]
    fn what_is_not_a_snapshot_id_is_never_imported() {
        assert!(is_snapshot_id("00000003-0000001B-1"));
        assert!(!is_snapshot_id(""));
        assert!(!is_snapshot_id("x'; DROP TABLE y"));
    }
}
