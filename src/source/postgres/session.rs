//! One transaction on a pooled connection: read-only, repeatable read, with
//! its settings, under a snapshot where one is given.
//!
//! Everything is `SET LOCAL` inside the one transaction, so that a pooler in
//! transaction mode may stand in between. A session that is dropped before its
//! end takes its connection out of the pool and ends what runs there.

use std::sync::Arc;

use deadpool::managed::Object;
use futures_util::TryStreamExt;
use futures_util::future::{join, join3};
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow, Statement};
use tokio_util::task::TaskTracker;

use super::connect::{Connector, Pooled};
use super::pool::{Connections, Manager};
use super::quote::literal;
use super::sqlstate::{Stage, explain};
use super::tap::TapHandle;
use crate::source::SourceError;

/// Settings that shape texts, names, what literals mean or which rows are seen, the same for planning and for every
/// chunk, whatever role and database set; a plan may override them. `row_security = off` makes the server refuse a query
/// that a policy would filter silently, which would be loss. What is not here: settings that only a superuser may
/// change, limits and costs, and those without a value that is right everywhere, because they follow the
/// installation: `lc_monetary`, `default_text_search_config`, and those of extensions.
const SETTINGS: [(&str, &str); 22] = [
    ("TimeZone", "UTC"),
    ("timezone_abbreviations", "Default"),
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("xmlbinary", "base64"),
    ("xmloption", "content"),
    ("lc_numeric", "C"),
    ("lc_time", "C"),
    ("quote_all_identifiers", "off"),
    ("array_nulls", "on"),
    ("backslash_quote", "safe_encoding"),
    ("standard_conforming_strings", "on"),
    ("transform_null_equals", "off"),
    // A GIN index answers with a random part of what it finds.
    ("gin_fuzzy_search_limit", "0"),
    ("search_path", "pg_catalog"),
    ("row_security", "off"),
    // Chunks are the parallelism, and plans of one scan gain nothing from JIT.
    ("max_parallel_workers_per_gather", "0"),
    ("jit", "off"),
    // Whole-table scans begin at the beginning: the same file every time.
    ("synchronize_seqscans", "off"),
    // Constraints of now say nothing of the rows of a snapshot.
    ("constraint_exclusion", "off"),
];

/// Lets the server notice a vanished client: within a second while a query
/// runs, and within about two minutes while none does.
const KEEPALIVES: [(&str, &str); 3] =
    [("tcp_keepalives_idle", "60"), ("tcp_keepalives_interval", "10"), ("tcp_keepalives_count", "6")];

/// First version with `client_connection_check_interval`.
const HAS_CONNECTION_CHECK: u32 = 140_000;

/// `SELECT set_config(…), …`: unlike `SET LOCAL`, it takes lists as they are
/// shown, and names with dots.
pub(super) fn set_config<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let calls: Vec<String> = settings
        .into_iter()
        .map(|(name, value)| {
            let set = format!("pg_catalog.set_config({}, {}, true)", literal(name), literal(value));
            // The server would read a file each time.
            if name == "timezone_abbreviations" {
                let (name, value) = (literal(name), literal(value));
                return format!("CASE WHEN pg_catalog.current_setting({name}) <> {value} THEN {set} END");
            }
            set
        })
        .collect();
    format!("SELECT {}", calls.join(", "))
}

/// Settings of this module for a server of this version.
pub(super) fn base_settings<'a>(version: u32) -> impl Iterator<Item = (&'a str, &'a str)> {
    let check = (version >= HAS_CONNECTION_CHECK).then_some(("client_connection_check_interval", "1s"));
    SETTINGS.into_iter().chain(KEEPALIVES).chain(check)
}

/// How a session begins.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Opening<'a> {
    /// Snapshot to import.
    pub(super) snapshot: Option<&'a str>,
    /// Settings after the base ones.
    pub(super) settings: &'a [(String, String)],
    /// `lock_timeout` in milliseconds.
    pub(super) lock_timeout_ms: u128,
}

/// A transaction on a pooled connection.
pub(super) struct Session {
    /// Taken when it has ended.
    conn: Option<Object<Manager>>,
    connector: Arc<Connector>,
    /// Whether a `statement_timeout` is in force: it tells a cancel from it.
    statement_timeout: bool,
}

impl Session {
    /// Takes a connection and begins.
    pub(super) async fn begin(connections: &Connections, opening: Opening<'_>) -> Result<Self, SourceError> {
        let mut session = Self::take(connections).await?;
        let (begun, set) = join(session.start(opening), session.configure(opening)).await;
        begun?;
        session.statement_timeout = set?;
        Ok(session)
    }

    /// The same, and the first question: all of it is sent before the first answer is there.
    pub(super) async fn begin_asking(
        connections: &Connections,
        opening: Opening<'_>,
        sql: &str,
        what: &str,
    ) -> Result<(Self, Vec<SimpleQueryRow>), SourceError> {
        let mut session = Self::take(connections).await?;
        let mut rows = Vec::new();
        let ask = session.stream(sql, |row| rows.push(row));
        let (begun, set, asked) = join3(session.start(opening), session.configure(opening), ask).await;
        begun?;
        session.statement_timeout = set?;
        asked.map_err(|e| session.explain(&e, Stage::Chunk, what))?;
        Ok((session, rows))
    }

    async fn take(connections: &Connections) -> Result<Self, SourceError> {
        let conn = connections.get().await?;
        Ok(Self { conn: Some(conn), connector: connections.connector.clone(), statement_timeout: false })
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

    async fn configure(&self, opening: Opening<'_>) -> Result<bool, SourceError> {
        let lock_timeout = opening.lock_timeout_ms.to_string();
        let base = base_settings(self.connector.version()).chain([("lock_timeout", lock_timeout.as_str())]);
        let given = opening.settings.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        self.set_all(base.chain(given)).await
    }

    /// The connection.
    pub(super) fn client(&self) -> &Client {
        &self.pooled().client
    }

    /// The server's version.
    pub(super) fn version(&self) -> u32 {
        self.connector.version()
    }

    /// Where rows of its COPY go.
    pub(super) fn tap(&self) -> &TapHandle {
        &self.pooled().tap
    }

    fn pooled(&self) -> &Pooled {
        self.conn.as_ref().expect("only `end` takes it, and it takes the session as well")
    }

    /// Where tasks of this session are counted.
    pub(super) fn tasks(&self) -> TaskTracker {
        self.connector.tasks.clone()
    }

    /// An error of this session in words.
    pub(super) fn explain(&self, error: &tokio_postgres::Error, stage: Stage, what: &str) -> SourceError {
        explain(error, stage, what, self.statement_timeout)
    }

    /// Settings for the rest of the transaction.
    pub(super) async fn set<'a>(
        &mut self,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), SourceError> {
        self.statement_timeout = self.set_all(settings).await?;
        Ok(())
    }

    /// Whether a `statement_timeout` is in force with these settings.
    async fn set_all<'a>(
        &self,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<bool, SourceError> {
        let sql = format!("{}, pg_catalog.current_setting('statement_timeout')", set_config(settings));
        let rows = self.rows(&sql, Stage::Setup, "set the session's settings").await?;
        Ok(rows.first().is_some_and(|r| r.get(r.len().saturating_sub(1)) != Some("0")))
    }

    /// Runs statements whose results do not matter.
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

    /// Runs statements and hands their rows on as they come.
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

    /// Commits and gives the connection back. Where the transaction had failed
    /// without anybody noticing, the `SELECT` does.
    pub(super) async fn end(self, what: &str) -> Result<(), SourceError> {
        self.run("SELECT; COMMIT", Stage::Question, what).await?;
        self.give_back();
        Ok(())
    }

    /// Gives the connection back after the transaction.
    pub(super) fn give_back(mut self) {
        drop(self.conn.take());
    }

    /// Ends what runs on the connection and closes it.
    pub(super) async fn abort(mut self) {
        if let Some(conn) = self.conn.take() {
            self.connector.end(Object::take(conn)).await;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            self.connector.abandon(Object::take(conn));
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
    fn old_servers_are_not_asked_for_settings_that_they_lack() {
        let has =
            |version| base_settings(version).any(|(name, _)| name == "client_connection_check_interval");
        assert!(!has(130_014));
        assert!(has(140_000));
    }
}
