//! One transaction on a pooled connection: read-only, repeatable read, with its settings, and with a snapshot
//! if one is given.
//!
//! All settings are `SET LOCAL` inside the one transaction, so that it works through a pooler in transaction
//! mode. On Greenplum without a pooler they belong to the session, and are sent only if they differ from those of
//! the last transaction: the coordinator tells each segment each setting, which took 6 ms per transaction. If a
//! session is dropped before its end, its connection leaves the pool and the work on the server is ended.

use std::sync::{Arc, PoisonError};

use deadpool::managed::Object;
use futures_util::TryStreamExt;
use futures_util::future::{join, join3};
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow, Statement};
use tokio_util::task::TaskTracker;

use super::configured::{Configured, InForce};
use super::connect::{Connector, Pooled};
use super::pool::{Connections, Manager};
use super::quote::{ident, literal};
use super::server::{SETTINGS, ServerFacts};
use super::sqlstate::{Stage, explain};
use super::tap::TapHandle;
use crate::source::SourceError;

/// `SELECT set_config(…), …`: unlike `SET LOCAL`, it accepts lists in the form that the server shows, and
/// names with dots.
fn set_config<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let calls: Vec<String> = settings
        .into_iter()
        .map(|(name, value)| {
            let set = format!("pg_catalog.set_config({}, {}, true)", literal(name), literal(value));
            // This setting is set only if it differs, because the server reads a file each time.
            if name == "timezone_abbreviations" {
                let (name, value) = (literal(name), literal(value));
                return format!("CASE WHEN pg_catalog.current_setting({name}) <> {value} THEN {set} END");
            }
            set
        })
        .collect();
    format!("SELECT {}", calls.join(", "))
}

/// SQL that applies settings for the rest of the transaction, and answers the `statement_timeout` that is then in
/// force, and the server's process. On Greenplum, `set_config` after the import of a snapshot makes the
/// segments read the present rows instead of those of the snapshot, without an error. `SET LOCAL` does not.
pub(super) fn apply<'a>(
    server: &ServerFacts,
    settings: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> String {
    if server.greenplum.is_none() {
        return format!("{}, {IN_FORCE}", set_config(settings));
    }
    set("SET LOCAL", settings)
}

/// Undoes all settings of a session. `RESET ALL` leaves the role as it is.
const RESET: &str = "RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; ";

/// What [`InForce`] is read from.
const IN_FORCE: &str = "pg_catalog.current_setting('statement_timeout'), pg_catalog.pg_backend_pid()";

/// `SET` or `SET LOCAL` for each setting, and then what is in force.
fn set<'a>(set: &str, settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let each = settings.into_iter().map(|(name, value)| match (name, value.trim()) {
        // A list of names, which are quoted where they have to be.
        ("search_path", list) if !list.is_empty() => format!("{set} search_path = {list}; "),
        _ => format!("{set} {} = {}; ", ident(name), literal(value)),
    });
    each.collect::<String>() + "SELECT " + IN_FORCE
}

/// The settings of this module that the server knows.
pub(super) fn base_settings(server: &ServerFacts) -> impl Iterator<Item = (&str, &str)> {
    SETTINGS.into_iter().filter(|(name, _)| server.knows(name))
}

/// How a session begins.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Opening<'a> {
    /// Snapshot to import.
    pub(super) snapshot: Option<&'a str>,
    /// Settings to apply after the base settings.
    pub(super) settings: &'a [(String, String)],
    /// `lock_timeout` in milliseconds.
    pub(super) lock_timeout_ms: u128,
}

impl<'a> Opening<'a> {
    /// The settings of the transaction, in order.
    fn settings<'b>(
        &self,
        server: &'b ServerFacts,
        lock_timeout: &'b str,
    ) -> impl Iterator<Item = (&'b str, &'b str)>
    where
        'a: 'b,
    {
        let base = base_settings(server).chain([("lock_timeout", lock_timeout)]);
        base.chain(self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }
}

/// A transaction on a pooled connection.
pub(super) struct Session {
    /// `None` once the session has ended.
    conn: Option<Object<Manager>>,
    connector: Arc<Connector>,
    in_force: InForce,
}

impl Session {
    /// Takes a connection from the pool and begins.
    pub(super) async fn begin(connections: &Connections, opening: Opening<'_>) -> Result<Self, SourceError> {
        let mut session = Self::take(connections).await?;
        let (in_force, ()) = session.start_and(opening, async {}).await?;
        session.in_force = in_force;
        Ok(session)
    }

    /// Like `begin`, but with a first question.
    pub(super) async fn begin_asking(
        connections: &Connections,
        opening: Opening<'_>,
        question: impl FnOnce(&ServerFacts) -> String,
        what: &str,
    ) -> Result<(Self, Vec<SimpleQueryRow>), SourceError> {
        let mut session = Self::take(connections).await?;
        let sql = question(&session.server_facts());
        let mut rows = Vec::new();
        let ask = session.stream(&sql, |row| rows.push(row));
        let (in_force, asked) = session.start_and(opening, ask).await?;
        session.in_force = in_force;
        asked.map_err(|e| session.explain(&e, Stage::Chunk, what))?;
        Ok((session, rows))
    }

    /// Begins the transaction, with its settings, and runs what follows. Everything is sent before the first
    /// answer arrives, but for the settings of a session of Greenplum: they come before the transaction.
    async fn start_and<T>(
        &self,
        opening: Opening<'_>,
        follows: impl Future<Output = T>,
    ) -> Result<(InForce, T), SourceError> {
        if self.server_facts().greenplum.is_some() && self.is_direct().await? {
            let in_force = self.configure_session(opening).await?;
            let (begun, followed) = join(self.start(opening), follows).await;
            begun?;
            return Ok((in_force, followed));
        }
        let (begun, set, followed) = join3(self.start(opening), self.configure(opening), follows).await;
        begun?;
        Ok((set?, followed))
    }

    async fn take(connections: &Connections) -> Result<Self, SourceError> {
        let conn = connections.get().await?;
        Ok(Self { conn: Some(conn), connector: connections.connector.clone(), in_force: InForce::default() })
    }

    async fn start(&self, opening: Opening<'_>) -> Result<(), SourceError> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        match opening.snapshot {
            None => self.run(begin, Stage::Setup, "begin a transaction").await,
            Some(id) => {
                let sql = format!("{begin}; SET TRANSACTION SNAPSHOT {}", literal(id));
                self.run(&sql, Stage::Import, "import the snapshot").await
            }
        }
    }

    async fn configure(&self, opening: Opening<'_>) -> Result<InForce, SourceError> {
        let lock_timeout = opening.lock_timeout_ms.to_string();
        let server = self.connector.server_facts();
        let settings = opening.settings(&server, &lock_timeout);
        self.set_all(&apply(&server, settings)).await
    }

    /// Whether the server's process is the one that logged us in. Behind a pooler it is another one, and the next
    /// transaction may run in yet another.
    async fn is_direct(&self) -> Result<bool, SourceError> {
        let configured = &self.pooled().configured;
        if let Some(known) = configured.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            return Ok(known.is_direct);
        }
        let sql = "SELECT pg_catalog.pg_backend_pid()";
        let process = self.value(sql, Stage::Setup, "ask for the server's process").await?;
        let is_direct = process.and_then(|process| process.parse().ok()) == self.tap().process();
        let known = Configured { is_direct, sql: String::new(), in_force: InForce::default() };
        *configured.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        Ok(is_direct)
    }

    /// Applies settings to a session of Greenplum, outside of a transaction, unless it has exactly these.
    async fn configure_session(&self, opening: Opening<'_>) -> Result<InForce, SourceError> {
        let lock_timeout = opening.lock_timeout_ms.to_string();
        let server = self.connector.server_facts();
        let sql = set("SET", opening.settings(&server, &lock_timeout));
        let configured = &self.pooled().configured;
        // Taken first: if setting fails, nothing is known of the session.
        let before = configured.lock().unwrap_or_else(PoisonError::into_inner).take();
        let in_force = match before {
            Some(before) if before.sql == sql => before.in_force,
            _ => self.set_all(&format!("{RESET}{sql}")).await?,
        };
        let known = Configured { is_direct: true, sql, in_force };
        *configured.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        Ok(in_force)
    }

    /// The connection.
    pub(super) fn client(&self) -> &Client {
        &self.pooled().client
    }

    /// The server's version.
    pub(super) fn version(&self) -> u32 {
        self.server_facts().version
    }

    /// What the server is.
    pub(super) fn server_facts(&self) -> Arc<ServerFacts> {
        self.connector.server_facts()
    }

    /// Takes the rows of the session's COPY.
    pub(super) fn tap(&self) -> &TapHandle {
        &self.pooled().tap
    }

    fn pooled(&self) -> &Pooled {
        self.conn.as_ref().expect("only `end` takes it, and it takes the session as well")
    }

    /// The tracker for tasks of this session.
    pub(super) fn tasks(&self) -> TaskTracker {
        self.connector.tasks.clone()
    }

    /// Describes an error of this session.
    pub(super) fn explain(&self, error: &tokio_postgres::Error, stage: Stage, what: &str) -> SourceError {
        explain(error, stage, what, self.in_force.statement_timeout)
    }

    /// Applies settings for the rest of the transaction.
    pub(super) async fn set<'a>(
        &mut self,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), SourceError> {
        self.in_force = self.set_all(&apply(&self.connector.server_facts(), settings)).await?;
        Ok(())
    }

    /// Runs SQL that applies settings. Returns what is then in force.
    async fn set_all(&self, sql: &str) -> Result<InForce, SourceError> {
        let rows = self.rows(sql, Stage::Setup, "set the session's settings").await?;
        let last = |back: usize| rows.first().and_then(|row| row.get(row.len().checked_sub(back)?));
        Ok(InForce {
            statement_timeout: last(2).is_some_and(|timeout| timeout != "0"),
            process: last(1).and_then(|process| process.parse().ok()),
        })
    }

    /// Runs statements and ignores their results.
    pub(super) async fn run(&self, sql: &str, stage: Stage, what: &str) -> Result<(), SourceError> {
        self.client().batch_execute(sql).await.map_err(|e| self.explain(&e, stage, what))
    }

    /// Runs statements and collects their rows.
    pub(super) async fn rows(
        &self,
        sql: &str,
        stage: Stage,
        what: &str,
    ) -> Result<Vec<SimpleQueryRow>, SourceError> {
        let mut rows = Vec::new();
        self.each(sql, stage, what, |row| rows.push(row)).await?;
        Ok(rows)
    }

    /// Runs statements and passes on each row when it arrives.
    pub(super) async fn each(
        &self,
        sql: &str,
        stage: Stage,
        what: &str,
        take: impl FnMut(SimpleQueryRow),
    ) -> Result<(), SourceError> {
        self.stream(sql, take).await.map_err(|e| self.explain(&e, stage, what))
    }

    async fn stream(
        &self,
        sql: &str,
        mut take: impl FnMut(SimpleQueryRow),
    ) -> Result<(), tokio_postgres::Error> {
        let mut stream = std::pin::pin!(self.client().simple_query_raw(sql).await?);
        while let Some(message) = stream.try_next().await? {
            if let SimpleQueryMessage::Row(row) = message {
                take(row);
            }
        }
        Ok(())
    }

    /// Prepares a statement of a chunk.
    pub(super) async fn prepare(&self, sql: &str, what: &str) -> Result<Statement, SourceError> {
        self.client().prepare(sql).await.map_err(|e| self.explain(&e, Stage::Chunk, what))
    }

    /// Runs a query of one row and one column.
    pub(super) async fn value(
        &self,
        sql: &str,
        stage: Stage,
        what: &str,
    ) -> Result<Option<String>, SourceError> {
        let rows = self.rows(sql, stage, what).await?;
        Ok(rows.first().and_then(|r| r.try_get(0).ok().flatten()).map(str::to_owned))
    }

    /// Commits and returns the connection to the pool. If the transaction has failed unnoticed, the `SELECT`
    /// fails.
    pub(super) async fn end(self, what: &str) -> Result<(), SourceError> {
        self.run("SELECT; COMMIT", Stage::Question, what).await?;
        self.give_back();
        Ok(())
    }

    /// Returns the connection to the pool, after the end of the transaction.
    pub(super) fn give_back(mut self) {
        drop(self.conn.take());
    }

    /// Ends what runs on the connection and closes it.
    pub(super) async fn abort(mut self) {
        if let Some(conn) = self.conn.take() {
            self.connector.end(Object::take(conn), self.in_force.process).await;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            self.connector.abandon(Object::take(conn), self.in_force.process);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_quoted_and_lists_stay_lists() {
        assert_eq!(
            set_config([("search_path", "a, \"B\""), ("my.x", "it's")]),
            "SELECT pg_catalog.set_config('search_path', 'a, \"B\"', true), \
             pg_catalog.set_config('my.x', 'it''s', true)"
        );
    }

    #[test]
    fn greenplum_gets_no_set_config() {
        let settings = [("search_path", "a, \"B\""), ("search_path", ""), ("my.x", "it's")];
        let facts = ServerFacts::greenplum();
        assert_eq!(
            apply(&facts, settings),
            format!(
                "SET LOCAL search_path = a, \"B\"; SET LOCAL \"search_path\" = ''; \
                 SET LOCAL \"my.x\" = 'it''s'; SELECT {IN_FORCE}"
            )
        );
    }

    #[test]
    fn a_server_gets_only_settings_that_it_knows() {
        let server = ServerFacts::knowing(90_426, &["TimeZone", "optimizer"]);
        let names: Vec<&str> = base_settings(&server).map(|(name, _)| name).collect();
        assert_eq!(names, ["TimeZone", "optimizer"]);
    }
}
