//! Tables with their history, keepers, and ways to break each of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::relation::column::{Column, ColumnType, schema};
use crate::relation::{Frozen, Snapshot};
use crate::source::Keeper;

/// One state of a table.
struct Version {
    since: u64,
    rows: RecordBatch,
}

pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    pub(super) primary_key: Vec<String>,
    versions: Vec<Version>,
    /// Version of the last truncation or rewrite. Older snapshots can no longer read the table.
    pub(super) rewritten: u64,
}

impl Table {
    /// The rows that a version shows; `None` if the table is younger than the version.
    pub(super) fn rows(&self, version: u64) -> Option<&RecordBatch> {
        self.versions.iter().rev().find(|v| v.since <= version).map(|v| &v.rows)
    }
}

struct Held {
    lineage: Uuid,
    process: u64,
    version: u64,
    lost: CancellationToken,
}

#[derive(Default)]
pub(super) struct State {
    version: u64,
    pub(super) tables: BTreeMap<(String, String), Table>,
    held: BTreeMap<u64, Held>,
    next: u64,
}

/// The database. Clones share the same data.
#[derive(Clone, Default)]
pub struct MemoryDatabase(Arc<Mutex<State>>);

impl MemoryDatabase {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a table. The first column of `rows` is the primary key if it cannot be NULL. The Arrow types
    /// of `rows` decide the column types.
    ///
    /// # Panics
    /// When a column has an Arrow type that this source does not know.
    pub fn create(&self, table_schema: &str, name: &str, rows: &RecordBatch) {
        let columns: Vec<Column> = rows
            .schema()
            .fields()
            .iter()
            .map(|f| {
                let (name, ty) = source_type(f.data_type());
                Column::plain(f.name(), name, ty, f.is_nullable())
            })
            .collect();
        let primary_key = columns.first().filter(|c| !c.nullable).map(|c| c.name.clone());
        let mut state = self.state();
        state.version += 1;
        let version = Version { since: state.version, rows: conform(rows, &columns) };
        let table = Table {
            columns,
            primary_key: primary_key.into_iter().collect(),
            versions: vec![version],
            rewritten: 0,
        };
        state.tables.insert((table_schema.into(), name.into()), table);
    }

    /// Replaces the rows of a table as an ordinary transaction does: older snapshots still show the old rows.
    pub fn update(&self, table_schema: &str, name: &str, rows: &RecordBatch) {
        self.change(table_schema, name, rows, false);
    }

    /// Truncates or rewrites a table: older snapshots can no longer read it.
    pub fn rewrite(&self, table_schema: &str, name: &str, rows: &RecordBatch) {
        self.change(table_schema, name, rows, true);
    }

    fn change(&self, table_schema: &str, name: &str, rows: &RecordBatch, rewrite: bool) {
        let mut state = self.state();
        state.version += 1;
        let since = state.version;
        if let Some(table) = state.tables.get_mut(&(table_schema.to_owned(), name.to_owned())) {
            let rows = conform(rows, &table.columns);
            table.versions.push(Version { since, rows });
            if rewrite {
                table.rewritten = since;
            }
        }
    }

    /// Ends the keepers of one process, or of all processes, as a crash or an administrator does.
    pub fn kill_keepers(&self, process: Option<u64>) {
        let mut state = self.state();
        state.held.retain(|_, held| {
            let stays = process.is_some_and(|p| p != held.process);
            if !stays {
                held.lost.cancel();
            }
            stays
        });
    }

    /// Number of living keepers of a lineage, in all processes.
    #[must_use]
    pub fn keepers(&self, lineage: Uuid) -> usize {
        self.state().held.values().filter(|h| h.lineage == lineage).count()
    }

    /// The newest version.
    pub(super) fn newest(&self) -> u64 {
        self.state().version
    }

    /// The version of a lineage, if any process has a living keeper of it.
    pub(super) fn held(&self, lineage: Uuid) -> Option<u64> {
        self.state().held.values().find(|h| h.lineage == lineage).map(|h| h.version)
    }

    /// Creates a keeper.
    pub(super) fn hold(&self, lineage: Uuid, process: u64, version: u64) -> Arc<dyn Keeper> {
        let mut state = self.state();
        state.next += 1;
        let (id, lost) = (state.next, CancellationToken::new());
        state.held.insert(id, Held { lineage, process, version, lost: lost.clone() });
        Arc::new(MemoryKeeper { id, lineage, version, lost, database: self.clone() })
    }
}

/// The type name and the file type for an Arrow type that this source supports.
fn source_type(ty: &DataType) -> (&'static str, ColumnType) {
    match ty {
        DataType::Boolean => ("boolean", ColumnType::Bool),
        DataType::Int16 => ("smallint", ColumnType::Int16),
        DataType::Int32 => ("integer", ColumnType::Int32),
        DataType::Int64 => ("bigint", ColumnType::Int64),
        DataType::Float64 => ("double precision", ColumnType::Float64),
        DataType::Utf8 => ("text", ColumnType::Text),
        other => panic!("the memory source has no columns of {other}"),
    }
}

fn conform(rows: &RecordBatch, columns: &[Column]) -> RecordBatch {
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(schema(columns), rows.columns().to_vec(), &options)
        .expect("rows have the columns of their table")
}

pub(super) struct MemoryKeeper {
    id: u64,
    lineage: Uuid,
    version: u64,
    lost: CancellationToken,
    database: MemoryDatabase,
}

impl MemoryKeeper {
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }
}

impl Keeper for MemoryKeeper {
    /// The time of the snapshot: as many seconds after the epoch as the number of the version.
    fn snapshot(&self) -> Snapshot {
        let seconds = i64::try_from(self.version).ok();
        let time = seconds.and_then(|s| Timestamp::from_second(s).ok()).unwrap_or_default();
        Snapshot { lineage: self.lineage, time, recall: Frozen::default() }
    }

    fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }
}

impl Drop for MemoryKeeper {
    fn drop(&mut self) {
        self.database.state().held.remove(&self.id);
        self.lost.cancel();
    }
}
