//! One transaction on a pooled connection: read-only, repeatable read, with its settings, and with a snapshot
//! if one is given.
//!
//! All settings are `SET LOCAL` inside the one transaction, so that it works through a pooler in transaction
//! mode. If a session is dropped before its end, its connection leaves the pool and the work on the server is
//! ended.

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

/// Settings that decide how texts and names are written, what literals mean, and which rows are visible. They
/// are the same for planning and for every chunk, whatever role and database set. A plan may override them.
/// `row_security = off` makes the server refuse a query from which a policy would silently remove rows,
/// because that would lose data. The list leaves out settings that only a superuser may change, limits and
/// costs, and settings without one right value, because they depend on the installation: `lc_monetary`,
/// `default_text_search_config`, and settings of extensions.
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
    // A GIN index would return only a random part of the matching rows.
    ("gin_fuzzy_search_limit", "0"),
    ("search_path", "pg_catalog"),
    ("row_security", "off"),
    // Chunks already run in parallel, and queries with a single scan gain nothing from JIT.
    ("max_parallel_workers_per_gather", "0"),
    ("jit", "off"),
    // A scan of a whole table begins at its first page, so that the file is the same every time.
    ("synchronize_seqscans", "off"),
    // Current constraints say nothing about the rows of a snapshot.
    ("constraint_exclusion", "off"),
];

/// Let the server notice that a client is gone: within a second while a query runs, and within about two
/// minutes otherwise.
const KEEPALIVES: [(&str, &str); 3] =
    [("tcp_keepalives_idle", "60"), ("tcp_keepalives_interval", "10"), ("tcp_keepalives_count", "6")];

/// First version with `client_connection_check_interval`.
const HAS_CONNECTION_CHECK: u32 = 140_000;

/// `SELECT set_config(…), …`: unlike `SET LOCAL`, it accepts lists in the form that the server shows, and
/// names with dots.
pub(super) fn set_config<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
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

/// The settings of this module for this version of the server.
pub(super) fn base_settings<'a>(version: u32) -> impl Iterator<Item = (&'a str, &'a str)> {
    let check = (version >= HAS_CONNECTION_CHECK).then_some(("client_connection_check_interval", "1s"));
    SETTINGS.into_iter().chain(KEEPALIVES).chain(check)
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

/// A transaction on a pooled connection.
pub(super) struct Session {
    /// `None` once the session has ended.
    conn: Option<Object<Manager>>,
    connector: Arc<Connector>,
    /// Whether a `statement_timeout` is in force. It helps to tell a timeout from a cancel.
    statement_timeout: bool,
}

impl Session {
    /// Takes a connection from the pool and begins.
    pub(super) async fn begin(connections: &Connections, opening: Opening<'_>) -> Result<Self, SourceError> {
        let mut session = Self::take(connections).await?;
        let (begun, set) = join(session.start(opening), session.configure(opening)).await;
        begun?;
        session.statement_timeout = set?;
        Ok(session)
    }

    /// Like `begin`, but with a first question. Everything is sent before the first answer arrives.
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
        explain(error, stage, what, self.statement_timeout)
    }

    /// Applies settings for the rest of the transaction.
    pub(super) async fn set<'a>(
        &mut self,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), SourceError> {
        self.statement_timeout = self.set_all(settings).await?;
        Ok(())
    }

    /// Applies settings. Returns whether a `statement_timeout` is then in force.
    async fn set_all<'a>(
        &self,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<bool, SourceError> {
        let sql = format!("{}, pg_catalog.current_setting('statement_timeout')", set_config(settings));
        let rows = self.rows(&sql, Stage::Setup, "set the session's settings").await?;
        Ok(rows.first().is_some_and(|r| r.get(r.len().saturating_sub(1)) != Some("0")))
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
