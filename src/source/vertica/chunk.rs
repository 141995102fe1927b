//! Reads one chunk.
//!
//! Before the rows and after the last of them the server is asked for its ancient history mark and for the
//! columns that the table's name stands for. Changes of a table show in all epochs, so a table that differs from
//! its plan is planned again, and an epoch behind the mark is given up. What the server cannot tell, that rows of
//! the epoch were removed by TRUNCATE or with a partition, the coordinator finds by their number
//! (`PlannedTable::snapshot_rows`).
//!
//! The client hands the rows out as one binary COPY, so the decoder is the one of all sources.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::condition::Condition;
use super::epoch::{EpochKeeper, Epochs};
use super::reading::{Reading, Readings};
use super::sessions::{Leased, Sessions};
use super::sqlstate::Stage;
use super::statements::{self, From};
use super::{filter_of, result, shown};
use crate::relation::{Column, Selection};
use crate::source::decode::stream::{Block, Feed, RowStream, Rows, cancelled, stalled};
use crate::source::{ChunkRead, ChunkStream, ErrorKind, Keeper, Refusal, SourceError};

/// Opens the rows of a chunk. When the future is dropped, or the token fires, the work on the server ends too.
pub(super) async fn open(
    sessions: &Sessions,
    read: ChunkRead<'_>,
) -> Result<Box<dyn ChunkStream>, SourceError> {
    let relation = shown(read.selection.schema, read.selection.name);
    let stall = sessions.stall();
    tokio::select! {
        biased;
        () = read.cancel.cancelled() => Err(cancelled(&relation)),
        begun = timeout(stall, begin(sessions, &read, &relation)) => {
            begun.unwrap_or_else(|_| Err(stalled(&relation, stall)))
        }
    }
}

async fn begin(
    sessions: &Sessions,
    read: &ChunkRead<'_>,
    relation: &str,
) -> Result<Box<dyn ChunkStream>, SourceError> {
    let what = format!("read {relation}");
    let columns = Readings::of(read.columns)?;
    let condition = Condition::of(read.slice)?;
    let filter = filter_of(&read.selection)?;
    let guard = Guard::new(read, &columns, condition.as_ref(), &what)?;
    let epoch = guard.keeper().map(|keeper| keeper.map(EpochKeeper::epoch)).transpose()?;
    let Selection { schema, name, .. } = read.selection;
    let from = From { epoch, schema, name, filter: filter.as_deref() };
    let statement = statements::rows(&from, columns.iter(), condition.as_ref());
    let mut session = sessions.get().await?;
    guard.check(&mut session).await?;
    let described = match session.rows(&statement, Stage::Chunk, &what).await {
        Ok(described) => described,
        // The table may have changed between the two statements.
        Err(error) => return Err(guard.explained(&mut session, error).await),
    };
    if let Some(why) = result::difference(&described, columns.planned()) {
        let error = guard.wrong_result(&format!("{what}: {why}"));
        // The table may have changed between the two statements.
        session.abort().await;
        return Err(guard.explained(&mut sessions.get().await?, error).await);
    }
    let (stream, feed) =
        RowStream::new(Rows { read, columns: columns.into_stream(), what }, sessions.stall());
    sessions.tasks().spawn(Pump { feed, guard }.run(session));
    Ok(Box::new(stream))
}

/// What must be the same before and after the rows.
struct Guard {
    schema: String,
    name: String,
    what: String,
    under: Option<Arc<dyn Keeper>>,
    /// Columns with their readings.
    planned: Vec<(Column, Reading)>,
    /// The columns whose values decide which rows the chunk has, with their types where these matter.
    key: Vec<(String, Option<String>)>,
}

impl Guard {
    fn new(
        read: &ChunkRead<'_>,
        columns: &Readings,
        condition: Option<&Condition>,
        what: &str,
    ) -> Result<Self, SourceError> {
        let key = condition.map(Condition::columns).unwrap_or_default();
        let guard = Self {
            schema: read.selection.schema.to_owned(),
            name: read.selection.name.to_owned(),
            what: what.to_owned(),
            under: read.under.clone(),
            planned: columns.planned().map(|(column, reading)| (column.clone(), reading.clone())).collect(),
            key: key.into_iter().map(|(name, ty)| (name.to_owned(), ty.map(str::to_owned))).collect(),
        };
        guard.keeper().transpose()?;
        Ok(guard)
    }

    fn keeper(&self) -> Option<Result<&EpochKeeper, SourceError>> {
        self.under.as_deref().map(EpochKeeper::of)
    }

    /// Asks for mark and columns, and compares.
    async fn check(&self, session: &mut Leased) -> Result<(), SourceError> {
        if let Some(keeper) = self.keeper() {
            let keeper = keeper?;
            let epochs = Epochs::ask(session, Stage::Chunk, &self.what).await?;
            epochs.check(keeper.epoch()).inspect_err(|_| keeper.lose()).map_err(|e| e.named(&self.what))?;
        }
        self.compare(session).await
    }

    /// Compares the columns of the name with those of the plan.
    async fn compare(&self, session: &mut Leased) -> Result<(), SourceError> {
        let is_view = self.planned.iter().any(|(_, reading)| reading.is_view);
        let statement = statements::columns_now(&self.schema, &self.name, is_view);
        let answer = session.query(&statement, Stage::Chunk, &self.what).await?;
        let mut now = Vec::new();
        for row in answer.rows() {
            let (Some(table), Some(name), Some(ty)) = (row.int(0)?, row.text(1)?, row.text(2)?) else {
                continue;
            };
            let number = if is_view { None } else { row.text(3)? };
            now.push(Seen { table, name, ty, number: number.unwrap_or_default() });
        }
        let planned = self.planned.iter().map(|(column, reading)| Seen {
            table: reading.table,
            name: &column.name,
            ty: &column.source_type,
            number: &reading.column,
        });
        match difference(&now, planned, &self.key) {
            None => Ok(()),
            Some(why) => Err(SourceError::changed("changed", format!("{}: {why}", self.what))),
        }
    }

    /// The error of a result whose columns are not what the plan reads. A view may have changed without a sign in
    /// the catalogue.
    fn wrong_result(&self, message: &str) -> SourceError {
        if self.planned.iter().any(|(_, reading)| reading.is_view) {
            return SourceError::changed("changed", message);
        }
        SourceError::permanent("protocol", message).with_remedy(
            "the catalogue (v_catalog.columns) tells another type than the server sends: report this; until then \
             export a view that casts the column",
        )
    }

    /// An error of the server, or what it comes from: a table that has changed, or an epoch that is gone.
    async fn explained(&self, session: &mut Leased, error: SourceError) -> SourceError {
        if error.kind == ErrorKind::LineageLost {
            return error.refusing(Refusal::SnapshotGone);
        }
        if error.kind != ErrorKind::Permanent {
            return error;
        }
        match self.check(session).await {
            Err(other) if matches!(other.kind, ErrorKind::Changed | ErrorKind::LineageLost) => other,
            _ => error,
        }
    }
}

/// A column as the catalogue has it.
#[derive(Clone, Copy)]
struct Seen<'a> {
    /// The number of its table.
    table: i64,
    name: &'a str,
    ty: &'a str,
    /// Its own number; empty for views and in plans of older releases.
    number: &'a str,
}

/// What differs between the columns of the catalogue and those of a plan.
fn difference<'a>(
    now: &[Seen<'_>],
    planned: impl Iterator<Item = Seen<'a>>,
    key: &[(String, Option<String>)],
) -> Option<String> {
    if now.is_empty() {
        return Some("it is not there any more, or may not be seen".into());
    }
    for Seen { table, name, ty, number } in planned {
        let Some(found) = now.iter().find(|column| column.name == name) else {
            return Some(format!("column `{name}` is not there any more"));
        };
        if found.table != table {
            return Some("its name stands for another table now".into());
        }
        if found.ty != ty {
            return Some(format!("column `{name}` is of type {} now, and was {ty}", found.ty));
        }
        // All epochs show the new column, and none of them the old one's values.
        if !number.is_empty() && found.number != number {
            return Some(format!("column `{name}` was dropped and added again"));
        }
    }
    let is_same = |(key, ty): &&(String, Option<String>)| {
        now.iter().any(|column| column.name == key && ty.as_ref().is_none_or(|ty| column.ty == ty))
    };
    let differs = key.iter().find(|key| !is_same(key));
    differs.map(|(key, _)| format!("column `{key}`, by which it is split, is not what it was"))
}

/// Why a chunk stops early.
enum Stop {
    Source(SourceError),
    /// The reader is gone.
    Unread,
    Cancelled,
}

/// Passes the rows on.
struct Pump {
    feed: Feed,
    guard: Guard,
}

impl Pump {
    async fn run(self, mut session: Leased) {
        let ended = tokio::select! {
            biased;
            () = self.feed.cancel.cancelled() => Err(Stop::Cancelled),
            () = self.feed.sink.closed() => Err(Stop::Unread),
            ended = self.pass(&mut session) => ended,
        };
        match ended {
            Ok(()) => {
                drop(session);
                self.feed.report(Ok(()));
            }
            Err(stop) => {
                let why = match stop {
                    Stop::Source(error) => error,
                    Stop::Unread | Stop::Cancelled => cancelled(&self.feed.what),
                };
                self.feed.report(Err(why));
                session.abort().await;
            }
        }
    }

    async fn pass(&self, session: &mut Leased) -> Result<(), Stop> {
        loop {
            match session.next().await {
                Ok(Some(block)) => self.send(block).await?,
                Ok(None) => break,
                Err(error) => {
                    let explained = timeout(EXPLAIN, self.guard.explained(session, error.clone())).await;
                    return Err(Stop::Source(explained.unwrap_or(error)));
                }
            }
        }
        self.guard.check(session).await.map_err(Stop::Source)
    }

    async fn send(&self, block: Block) -> Result<(), Stop> {
        self.feed.progress.add(0, block.len() as u64);
        self.feed.sink.send(block).await.map_err(|_| Stop::Unread)
    }
}

/// Longest time to find out where an error comes from.
const EXPLAIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_differs_from_its_plan_is_found_out() {
        fn now<'a>(table: i64, columns: &[(&'a str, &'a str)]) -> Vec<Seen<'a>> {
            columns.iter().map(|(name, ty)| Seen { table, name, ty, number: name }).collect()
        }
        let planned = now(7, &[("id", "int"), ("t", "varchar(20)")]);
        let differs = |now: &[Seen<'_>], key: Option<&str>| {
            let key = key.map(|ty| ("k".to_owned(), Some(ty.to_owned())));
            difference(now, planned.iter().copied(), &key.into_iter().collect::<Vec<_>>())
        };
        let same = now(7, &[("new", "date"), ("id", "int"), ("t", "varchar(20)"), ("k", "int")]);
        assert_eq!(differs(&same, Some("int")), None);
        let older = planned.iter().map(|column| Seen { number: "", ..*column });
        assert_eq!(difference(&same, older, &[]), None);
        let again = [Seen { number: "another", ..planned[0] }, planned[1]];
        for (now, key, expected) in [
            (now(7, &[]), None, "not there"),
            (now(7, &[("id", "int")]), None, "column `t`"),
            (now(8, &[("id", "int"), ("t", "varchar(20)")]), None, "another table"),
            (now(7, &[("id", "int"), ("t", "varchar(21)")]), None, "varchar(21)"),
            (again.to_vec(), None, "column `id` was dropped and added again"),
            (now(7, &[("id", "int"), ("t", "varchar(20)")]), Some("int"), "column `k`"),
            (now(7, &[("id", "int"), ("t", "varchar(20)"), ("k", "date")]), Some("int"), "column `k`"),
        ] {
            let found = differs(&now, key).expect("a difference");
            assert!(found.contains(expected), "{found}");
        }
    }
}
