//! The rows of the database's tables at each version: finished directories are compared with them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use adu_export::source::memory::MemoryDatabase;
use arrow::array::{ArrayRef, Int64Array, RecordBatch};

/// A row: id and value.
pub(crate) type Row = (i64, i64);

pub(crate) struct Ledger {
    version: i64,
    tables: BTreeMap<String, Vec<(i64, Vec<Row>)>>,
    /// Tables that were rewritten at some time.
    pub(crate) rewritten: BTreeSet<String>,
}

fn batch(rows: &[Row]) -> RecordBatch {
    let column = |of: fn(&Row) -> i64| -> ArrayRef { Arc::new(rows.iter().map(of).collect::<Int64Array>()) };
    RecordBatch::try_from_iter_with_nullable([
        ("id", column(|r| r.0), false),
        ("value", column(|r| r.1), true),
    ])
    .expect("two columns of one length")
}

impl Ledger {
    pub(crate) fn new(database: &MemoryDatabase, tables: &BTreeMap<String, i64>) -> Self {
        let mut ledger = Self { version: 0, tables: BTreeMap::new(), rewritten: BTreeSet::new() };
        for (name, rows) in tables {
            let rows = ledger.next(name, 0..*rows);
            database.create("s", name, &batch(&rows));
        }
        ledger
    }

    /// Makes the next version of a table. The values tell versions apart.
    fn next(&mut self, table: &str, ids: impl IntoIterator<Item = i64>) -> Vec<Row> {
        self.version += 1;
        let rows: Vec<Row> = ids.into_iter().map(|id| (id, self.version * 1_000 + id)).collect();
        self.tables.entry(table.to_owned()).or_default().push((self.version, rows.clone()));
        rows
    }

    fn ids(&self, table: &str) -> Vec<i64> {
        let last = self.tables.get(table).and_then(|versions| versions.last());
        last.map(|(_, rows)| rows.iter().map(|r| r.0).collect()).unwrap_or_default()
    }

    pub(crate) fn update(&mut self, database: &MemoryDatabase, table: &str) {
        let rows = self.next(table, self.ids(table));
        database.update("s", table, &batch(&rows));
    }

    pub(crate) fn rewrite(&mut self, database: &MemoryDatabase, table: &str) {
        self.rewritten.insert(table.to_owned());
        let mut ids = self.ids(table);
        // Other ids than before, and one row more or less.
        ids.iter_mut().for_each(|id| *id += 2);
        if self.version % 2 == 0 {
            ids.push(0);
        } else {
            ids.pop();
        }
        let rows = self.next(table, ids);
        database.rewrite("s", table, &batch(&rows));
    }

    /// The rows that a version shows, sorted.
    pub(crate) fn at(&self, table: &str, version: i64) -> Vec<Row> {
        let versions = self.tables.get(table).map_or(&[][..], Vec::as_slice);
        let mut rows =
            versions.iter().rev().find(|(v, _)| *v <= version).map(|(_, r)| r.clone()).unwrap_or_default();
        rows.sort_unstable();
        rows
    }

    /// Whether some version has a row.
    pub(crate) fn ever(&self, table: &str, row: Row) -> bool {
        self.tables.get(table).is_some_and(|versions| versions.iter().any(|(_, rows)| rows.contains(&row)))
    }
}
