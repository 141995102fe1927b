//! Keepers: transactions that hold a snapshot. Each process has one for each lineage, on a connection outside
//! the pool.
//!
//! The name of a keeper in `pg_stat_activity` is `aduk:<lineage>:<snapshot id>`. Any process of the same role
//! can therefore import its snapshot and export it again. The snapshot lives as long as one keeper does. The
//! last statement of a keeper contains the time of the snapshot in a comment.
//!
//! Greenplum is different: a session that imports a snapshot does not hold it. When the exporting session
//! ends, importers read other rows, without an error. So there a process that joins a snapshot only borrows
//! it from the session that holds it, unless its own transaction began before the export (`begin_early`). Every chunk
//! proves at its end that the snapshot lived until then (`greenplum/ending.rs`).

use std::any::Any;
use std::sync::Arc;

use jiff::Timestamp;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::connect::{Connector, Opened};
use super::quote::literal;
use super::server::{ServerFacts, TIMEOUTS};
use super::session::{apply, base_settings};
use super::sqlstate::{Stage, explain};
use crate::failpoint;
use crate::relation::{Frozen, Snapshot};
use crate::source::{ErrorKind, Keeper, SourceError};

/// Longest `application_name` of the server.
const NAME_BYTES: usize = 63;
/// Marks the snapshot's time in the keeper's last statement.
const TIME_MARK: &str = "snapshot-time-us=";
/// Marks the oldest transaction that was open at the export, on Greenplum.
const HORIZON_MARK: &str = "horizon=";
/// Says whether the server was a primary before the first snapshot of the lineage was taken. A standby may become a
/// primary while its snapshots live.
const PRIMARY_MARK: &str = "primary=";

/// A transaction that holds a snapshot.
pub(super) struct PostgresKeeper {
    lineage: Uuid,
    time: Timestamp,
    /// Whether the snapshot was taken on a primary.
    primary: bool,
    snapshot: String,
    lost: CancellationToken,
    /// The session that holds the snapshot; none if a session of another process does. Dropping it ends the
    /// connection, which ends the transaction.
    session: Option<Client>,
}

impl Keeper for PostgresKeeper {
    fn snapshot(&self) -> Snapshot {
        Snapshot { lineage: self.lineage, time: self.time, recall: Frozen::default() }
    }

    fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    fn holds(&self) -> bool {
        self.session.is_some()
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

/// Whether a keeper's snapshot was taken on a primary.
pub(super) fn is_of_primary(keeper: &dyn Keeper) -> bool {
    (keeper as &dyn Any).downcast_ref::<PostgresKeeper>().is_some_and(|keeper| keeper.primary)
}

/// Takes a new snapshot.
pub(super) async fn open(connector: &Connector, lineage: Uuid) -> Result<Arc<dyn Keeper>, SourceError> {
    let opening = Transaction::connect(connector).await?;
    let primary = opening.is_on_primary().await?;
    opening.begin_here(None).await?;
    let exported = opening.export().await?;
    let mark = match connector.server_facts().greenplum {
        None => Mark { time: exported.now, horizon: None, primary },
        Some(_) => {
            probe(connector, &opening, &exported.id).await?;
            Mark { time: exported.now, horizon: opening.horizon().await?, primary: false }
        }
    };
    Ok(Arc::new(opening.show(lineage, exported.id, mark).await?))
}

/// Checks that an importer really sees this snapshot. An early Greenplum 7 imports a snapshot without an error
/// and ignores it.
async fn probe(connector: &Connector, exporter: &Transaction, snapshot: &str) -> Result<(), SourceError> {
    const SNAPSHOT: &str = "SELECT pg_catalog.txid_current_snapshot()";
    let what = "try the snapshot";
    let exported = value(&exporter.client, SNAPSHOT, what).await?;
    // Another transaction commits. A new snapshot would show it.
    let other = Transaction::connect(connector).await?;
    other.rows("SELECT pg_catalog.txid_current()", Stage::Setup, what).await?;
    let importer = Transaction::begin(connector, Some(snapshot)).await?;
    let imported = value(&importer.client, SNAPSHOT, what).await?;
    if exported.is_some() && exported == imported {
        return Ok(());
    }
    Err(unusable(what, "the server imports a snapshot and shows another one"))
}

/// The first value of a question.
async fn value(client: &Client, sql: &str, what: &str) -> Result<Option<String>, SourceError> {
    let messages = client.simple_query(sql).await.map_err(|e| explain(&e, Stage::Setup, what, false))?;
    let first = |m: &SimpleQueryMessage| match m {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    Ok(messages.iter().find_map(first))
}

/// Counts living keepers of a lineage, in all processes.
pub(super) async fn keepers(connector: &Connector, lineage: Uuid) -> Result<u32, SourceError> {
    let found = find(connector, lineage).await?;
    Ok(u32::try_from(found.len()).unwrap_or(u32::MAX))
}

/// Begins a transaction on Greenplum that can hold a snapshot which another session exports later.
pub(super) async fn begin_early(connector: &Connector) -> Result<EarlyTransaction, SourceError> {
    let transaction = Transaction::connect(connector).await?;
    let what = "begin a keeper's transaction";
    // SHOW gives the transaction its number. It takes no snapshot.
    let sql = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SHOW gp_session_id";
    let rows = transaction.rows(sql, Stage::Setup, what).await?;
    let session: u32 = rows.first().and_then(|row| row.get(0)?.parse().ok()).unwrap_or_default();
    let looking = Transaction::connect(connector).await?;
    let sql = format!(
        "SELECT d.distributed_xid FROM pg_catalog.gp_distributed_xacts d WHERE d.gp_session_id = {session}"
    );
    let number = value(&looking.client, &sql, what).await?.and_then(|number| number.parse().ok());
    Ok(EarlyTransaction { transaction, number })
}

/// A transaction that began before a snapshot was exported.
pub(super) struct EarlyTransaction {
    transaction: Transaction,
    /// Its number in the cluster.
    number: Option<u64>,
}

/// Imports the snapshot of any living keeper. Two calls at the same time for one lineage would make two
/// keepers, so callers take turns.
pub(super) async fn join(
    connector: &Connector,
    lineage: Uuid,
) -> Result<Option<Arc<dyn Keeper>>, SourceError> {
    for LivingKeeper { snapshot, mark } in find(connector, lineage).await? {
        match Transaction::begin(connector, Some(&snapshot)).await {
            Ok(joined) => {
                failpoint::step("mid", "join", "keeper");
                let exported = joined.export().await?;
                return Ok(Some(Arc::new(joined.show(lineage, exported.id, mark).await?)));
            }
            // This keeper has ended meanwhile: try the next one.
            Err(e) if e.kind == ErrorKind::LineageLost => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

/// Joins a snapshot of Greenplum. The early transaction holds the snapshot too if its number is at most the
/// horizon: then no older transaction was open at the export. Otherwise the holder's session is borrowed.
pub(super) async fn join_greenplum(
    connector: &Connector,
    lineage: Uuid,
    early: Option<EarlyTransaction>,
) -> Result<Option<Arc<dyn Keeper>>, SourceError> {
    let Some(LivingKeeper { snapshot, mark }) = find(connector, lineage).await?.into_iter().next() else {
        return Ok(None);
    };
    if let Some(EarlyTransaction { transaction, number: Some(number) }) = early
        && mark.horizon.is_some_and(|horizon| number <= horizon)
    {
        let import = format!("SET TRANSACTION SNAPSHOT {}", literal(&snapshot));
        transaction.rows(&import, Stage::Import, "import the snapshot").await?;
        transaction.configure().await?;
        let exported = transaction.export().await?;
        failpoint::step("mid", "join", "keeper");
        return Ok(Some(Arc::new(transaction.show(lineage, exported.id, mark).await?)));
    }
    let lost = CancellationToken::new();
    let (time, primary) = (mark.time, mark.primary);
    Ok(Some(Arc::new(PostgresKeeper { lineage, time, primary, snapshot, lost, session: None })))
}

/// A living keeper as `pg_stat_activity` shows it.
struct LivingKeeper {
    snapshot: String,
    mark: Mark,
}

/// What a keeper's last statement says about its snapshot, in a comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    /// The time that the snapshot shows.
    time: Timestamp,
    /// On Greenplum: the oldest transaction that was open when the snapshot was exported. Transactions with at
    /// most this number can hold the snapshot.
    horizon: Option<u64>,
    /// Whether the server was a primary before the snapshot was taken. False if the keeper does not say so.
    primary: bool,
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
           AND pg_catalog.substr(application_name, 1, {}) = {} AND xact_start IS NOT NULL \
         ORDER BY xact_start",
        prefix.len() + 1,
        prefix.len(),
        literal(&prefix),
    );
    let rows = looking.rows(&sql, Stage::Question, "look for keepers of the snapshot").await?;
    Ok(rows.iter().filter_map(living_keeper).collect())
}

fn living_keeper(row: &SimpleQueryRow) -> Option<LivingKeeper> {
    let snapshot = row.get(0).filter(|id| is_snapshot_id(id))?.to_owned();
    let query = row.get(1).unwrap_or_default();
    let begun = || row.get(2).and_then(|us| us.parse().ok());
    let time = Timestamp::from_microsecond(marked(query, TIME_MARK).or_else(begun)?).ok()?;
    let horizon = marked(query, HORIZON_MARK).and_then(|number| u64::try_from(number).ok());
    let primary = marked(query, PRIMARY_MARK) == Some(1);
    Some(LivingKeeper { snapshot, mark: Mark { time, horizon, primary } })
}

/// Reads a number from the comment of a keeper's last statement.
fn marked(query: &str, mark: &str) -> Option<i64> {
    let (_, rest) = query.rsplit_once(mark)?;
    rest.split(|c: char| !c.is_ascii_digit() && c != '-').next()?.parse().ok()
}

fn is_snapshot_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

fn application_name(lineage: Uuid, snapshot: &str) -> String {
    format!("aduk:{}:{snapshot}", lineage.simple())
}

/// A snapshot that was exported.
struct Exported {
    id: String,
    /// When its transaction began.
    now: Timestamp,
}

/// A connection outside the pool, with its transaction.
struct Transaction {
    client: Client,
    lost: CancellationToken,
    server: Arc<ServerFacts>,
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
        Ok(Self { client, lost, server: connector.server_facts() })
    }

    /// Begins with the snapshot of another keeper, or with a new one.
    async fn begin(connector: &Connector, import: Option<&str>) -> Result<Self, SourceError> {
        let new = Self::connect(connector).await?;
        new.begin_here(import).await?;
        Ok(new)
    }

    /// Begins on this connection.
    async fn begin_here(&self, import: Option<&str>) -> Result<(), SourceError> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        match import {
            None => self.rows(begin, Stage::Setup, "begin a transaction").await?,
            Some(id) => {
                let sql = format!("{begin}; SET TRANSACTION SNAPSHOT {}", literal(id));
                self.rows(&sql, Stage::Import, "import the snapshot").await?
            }
        };
        self.configure().await
    }

    /// Whether the server is a primary. Ask before the transaction begins.
    async fn is_on_primary(&self) -> Result<bool, SourceError> {
        if self.server.greenplum.is_some() {
            return Ok(false);
        }
        let sql = "SELECT pg_catalog.pg_is_in_recovery()";
        Ok(value(&self.client, sql, "begin a transaction").await?.as_deref() == Some("f"))
    }

    /// Applies the settings of keepers.
    async fn configure(&self) -> Result<(), SourceError> {
        let timeouts = TIMEOUTS.into_iter().filter(|timeout| self.server.knows(timeout));
        let settings = base_settings(&self.server)
            .chain(timeouts.map(|timeout| (timeout, "0")))
            .chain([("statement_timeout", "0")]);
        self.rows(&apply(&self.server, settings), Stage::Setup, "set the keeper's settings").await?;
        Ok(())
    }

    /// Exports the snapshot.
    async fn export(&self) -> Result<Exported, SourceError> {
        let what = "export the snapshot";
        let sql = "SELECT pg_catalog.pg_export_snapshot(), \
                   (extract(epoch FROM pg_catalog.now()) * 1000000)::pg_catalog.int8";
        let rows = self.rows(sql, Stage::Setup, what).await?;
        let answer = rows.first().and_then(|row| {
            let id = row.get(0).filter(|id| is_snapshot_id(id))?.to_owned();
            let now = row.get(1)?.parse().ok().and_then(|us| Timestamp::from_microsecond(us).ok())?;
            Some(Exported { id, now })
        });
        answer.ok_or_else(|| unusable(what, "the server's answer is not a snapshot id and a time"))
    }

    /// The oldest transaction that was open when this one took its snapshot, on Greenplum.
    async fn horizon(&self) -> Result<Option<u64>, SourceError> {
        let sql = "SELECT d.xmin_distributed_snapshot FROM pg_catalog.gp_distributed_xacts d \
                   WHERE d.gp_session_id = pg_catalog.current_setting('gp_session_id')::pg_catalog.int4";
        let horizon = value(&self.client, sql, "export the snapshot").await?;
        Ok(horizon.and_then(|number| number.parse().ok()).filter(|number| *number > 0))
    }

    /// Makes the keeper visible to other processes.
    async fn show(self, lineage: Uuid, snapshot: String, mark: Mark) -> Result<PostgresKeeper, SourceError> {
        let what = "export the snapshot";
        let name = application_name(lineage, &snapshot);
        if name.len() > NAME_BYTES {
            return Err(unusable(what, "the snapshot's id is longer than application_name has room for"));
        }
        let horizon = mark.horizon.map(|number| format!(" {HORIZON_MARK}{number}")).unwrap_or_default();
        let show = format!(
            "SET LOCAL application_name = {} /* {TIME_MARK}{} {PRIMARY_MARK}{}{horizon} */",
            literal(&name),
            mark.time.as_microsecond(),
            u8::from(mark.primary)
        );
        self.rows(&show, Stage::Setup, what).await?;
        let (time, primary) = (mark.time, mark.primary);
        Ok(PostgresKeeper { lineage, time, primary, snapshot, lost: self.lost, session: Some(self.client) })
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
        let query = "SET LOCAL application_name = 'aduk:…' /* snapshot-time-us=1732272000123456 primary=1 horizon=19 */";
        assert_eq!(marked(query, TIME_MARK), Some(1_732_272_000_123_456));
        assert_eq!(marked(query, HORIZON_MARK), Some(19));
        assert_eq!(marked(query, PRIMARY_MARK), Some(1));
        assert_eq!(marked("<insufficient privilege>", TIME_MARK), None);
    }

    #[test]
    fn what_is_not_a_snapshot_id_is_never_imported() {
        assert!(is_snapshot_id("00000003-0000001B-1"));
        assert!(!is_snapshot_id(""));
        assert!(!is_snapshot_id("x'; DROP TABLE y"));
    }
}
