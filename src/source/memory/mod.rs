//! A database in memory, for tests and simulation: tables with their history, snapshots that are versions,
//! keepers that several processes share, and ways to break each of them. It has no clock and no threads.

use std::any::Any;
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use self::database::MemoryDatabase;
use self::database::{MemoryKeeper, Table};
use self::rows::{Greater, Key, greater, key, select};
use super::{
    ChunkRead, ChunkStream, ErrorKind, Keeper, PoolUse, Prepared, Progress, Snapshots, Source, SourceError,
    SourceFacts,
};
use crate::message::SourceName;
use crate::message::pattern::qualified;
use crate::relation::pieces::{MostChunks, Pieces, Wanted};
use crate::relation::{
    Boundaries, BoundaryMethod, Column, ColumnType, Division, Extent, Facts, Filter, Frozen, MappingOptions,
    Numbered, Relation, RelationKind, Selection, SplitKey, SurveyColumn, SurveyRequest,
};

mod database;
mod rows;
#[cfg(test)]
mod tests;

/// Rows of one page.
pub const PAGE_ROWS: u32 = 10;
/// Rows of one batch of a chunk.
const BATCH_ROWS: usize = 100;

fn failure(kind: ErrorKind, code: &str, message: String) -> SourceError {
    SourceError::of(kind, code, message)
}

/// One process's view of the database.
pub struct MemorySource {
    name: SourceName,
    database: MemoryDatabase,
    process: u64,
}

impl MemorySource {
    /// Connects a process to the database. `process` is a number that no other process has.
    #[must_use]
    pub fn new(name: SourceName, database: MemoryDatabase, process: u64) -> Self {
        Self { name, database, process }
    }

    /// The version that a living keeper shows; without a keeper, the newest version.
    fn version(&self, under: Option<&dyn Keeper>) -> Result<u64, SourceError> {
        let Some(keeper) = under else { return Ok(self.database.newest()) };
        let ours = (keeper as &dyn Any).downcast_ref::<MemoryKeeper>();
        ours.filter(|keeper| !keeper.is_lost()).map(MemoryKeeper::version).ok_or_else(|| {
            let message = format!("this process holds no snapshot of lineage {}", keeper.snapshot().lineage);
            failure(ErrorKind::LineageLost, "lineage_lost", message)
        })
    }

    /// Columns and rows of a selection, as the snapshot shows them.
    fn rows(
        &self,
        selection: &Selection<'_>,
        under: Option<&dyn Keeper>,
    ) -> Result<(Vec<Column>, RecordBatch), SourceError> {
        let shown = qualified(selection.schema, selection.name);
        let version = self.version(under)?;
        let state = self.database.state();
        let gone = || failure(ErrorKind::Changed, "changed", format!("{shown} is not there"));
        let table = state.tables.get(&(selection.schema.into(), selection.name.into())).ok_or_else(gone)?;
        if table.rewritten > version {
            return Err(failure(ErrorKind::Changed, "changed", format!("{shown} was rewritten")));
        }
        let rows = table.rows(version).ok_or_else(gone)?;
        let rows = selection.filter.map_or_else(|| Ok(rows.clone()), |filter| greater(rows, filter))?;
        Ok((table.columns.clone(), rows))
    }
}

struct MemoryStream {
    table: String,
    rows: RecordBatch,
    given: usize,
    cancel: CancellationToken,
    progress: Arc<Progress>,
}

impl ChunkStream for MemoryStream {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        if self.cancel.is_cancelled() {
            return Err(failure(ErrorKind::Cancelled, "cancelled", format!("{}: cancelled", self.table)));
        }
        let length = BATCH_ROWS.min(self.rows.num_rows() - self.given);
        if length == 0 {
            return Ok(None);
        }
        let batch = self.rows.slice(self.given, length);
        self.given += length;
        self.progress.add(length as u64, batch.get_array_memory_size() as u64);
        Ok(Some(batch))
    }
}

#[async_trait]
impl Source for MemorySource {
    async fn close(&self) {}

    fn name(&self) -> &SourceName {
        &self.name
    }

    async fn check(&self) -> Result<SourceFacts, SourceError> {
        let version = env!("CARGO_PKG_VERSION").into();
        Ok(SourceFacts { product: "memory".into(), version, snapshots: true, notes: Vec::new() })
    }

    async fn survey(
        &self,
        request: &SurveyRequest,
        under: Option<&dyn Keeper>,
    ) -> Result<Vec<Relation>, SourceError> {
        let version = self.version(under)?;
        let state = self.database.state();
        let meant = |s: &str, t: &str| {
            (request.schemas.is_empty() || request.schemas.iter().any(|allowed| allowed == s))
                && request.tables.iter().any(|p| p.matches(s, t))
        };
        let tables = state.tables.iter().filter(|((s, t), _)| meant(s, t));
        Ok(tables
            .filter_map(|((s, t), table)| {
                let rows = table.rows(version)?;
                Some(relation(s, t, table, rows))
            })
            .collect())
    }

    fn map_column(&self, column: &SurveyColumn, options: &MappingOptions<'_>) -> Column {
        let mut mapped = column.column.clone();
        if let Some(unfit) = options.as_text.iter().find(|u| u.column == mapped.name) {
            mapped.ty = ColumnType::Text;
            mapped.note = Some(unfit.because());
        }
        mapped
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }

    async fn most_chunks(&self, _: Option<&dyn Keeper>) -> Result<Option<MostChunks>, SourceError> {
        Ok(None)
    }

    fn pieces(&self, _: &Relation, _: &[Column], _: &Wanted) -> Result<Option<Pieces>, SourceError> {
        Ok(None)
    }

    fn print(&self, filter: &Filter, _columns: &[SurveyColumn]) -> Result<Frozen, SourceError> {
        match filter {
            Filter::Newer { column, value, overlap: None } => {
                Ok(Frozen::of(&Greater { column: column.clone(), value: value.clone() }))
            }
            Filter::Newer { overlap: Some(_), .. } => {
                Err(failure(ErrorKind::Permanent, "overlap", "there is no overlap here".into()))
            }
            Filter::Where(_) | Filter::IsNull(_) | Filter::Both(_) | Filter::Either(_) => {
                let message = "only values of a column are compared here".into();
                Err(failure(ErrorKind::Permanent, "filter", message))
            }
        }
    }

    async fn boundaries(
        &self,
        selection: &Selection<'_>,
        key: SplitKey<'_>,
        method: BoundaryMethod,
        division: Division,
        under: Option<&dyn Keeper>,
    ) -> Result<Boundaries, SourceError> {
        let keys = self.keys(selection, key.column, under)?;
        let step = keys.len().div_ceil(division.ranges.max(1) as usize).max(1);
        let mut values: Vec<String> = keys.iter().step_by(step).skip(1).map(Key::text).collect();
        values.dedup();
        Ok(Boundaries { values, method })
    }

    async fn estimate(
        &self,
        selection: &Selection<'_>,
        under: Option<&dyn Keeper>,
    ) -> Result<u64, SourceError> {
        self.count(selection, under).await
    }

    async fn count(&self, selection: &Selection<'_>, under: Option<&dyn Keeper>) -> Result<u64, SourceError> {
        Ok(self.rows(selection, under)?.1.num_rows() as u64)
    }

    async fn maximum(
        &self,
        selection: &Selection<'_>,
        column: &str,
        under: Option<&dyn Keeper>,
    ) -> Result<Option<String>, SourceError> {
        Ok(self.keys(selection, column, under)?.last().map(Key::text))
    }

    async fn read_chunk(&self, read: ChunkRead<'_>) -> Result<Box<dyn ChunkStream>, SourceError> {
        let table = qualified(read.selection.schema, read.selection.name);
        let (columns, rows) = self.rows(&read.selection, read.under.as_deref())?;
        let rows = select(&rows, read.slice)?;
        let wanted: Option<Vec<usize>> =
            read.columns.iter().map(|c| columns.iter().position(|own| own.name == c.name)).collect();
        let rows = wanted.and_then(|wanted| rows.project(&wanted).ok()).ok_or_else(|| {
            failure(ErrorKind::Changed, "changed", format!("{table} has other columns now"))
        })?;
        let (cancel, progress) = (read.cancel, read.progress);
        Ok(Box::new(MemoryStream { table, rows, given: 0, cancel, progress }))
    }

    fn pool_use(&self) -> PoolUse {
        PoolUse::default()
    }
}

#[async_trait]
impl Snapshots for MemorySource {
    async fn open(&self, lineage: Uuid) -> Result<Arc<dyn Keeper>, SourceError> {
        Ok(self.database.hold(lineage, self.process, self.database.newest()))
    }

    async fn join(&self, lineage: Uuid, _: Option<Prepared>) -> Result<Option<Arc<dyn Keeper>>, SourceError> {
        let version = self.database.held(lineage);
        Ok(version.map(|version| self.database.hold(lineage, self.process, version)))
    }

    async fn keepers(&self, lineage: Uuid) -> Result<u32, SourceError> {
        Ok(u32::try_from(self.database.keepers(lineage)).unwrap_or(u32::MAX))
    }
}

impl MemorySource {
    /// The sorted keys of a column, without NULL.
    fn keys(
        &self,
        selection: &Selection<'_>,
        column: &str,
        under: Option<&dyn Keeper>,
    ) -> Result<Vec<Key>, SourceError> {
        let (_, rows) = self.rows(selection, under)?;
        let Some(array) = rows.column_by_name(column) else { return Ok(Vec::new()) };
        let mut keys: Vec<Key> = (0..rows.num_rows()).filter_map(|row| key(array, row)).collect();
        keys.sort();
        Ok(keys)
    }
}

fn relation(table_schema: &str, name: &str, table: &Table, rows: &RecordBatch) -> Relation {
    let columns = table.columns.iter().map(|column| {
        let number = matches!(column.ty, ColumnType::Int16 | ColumnType::Int32 | ColumnType::Int64);
        let sortable = number || column.ty == ColumnType::Text;
        SurveyColumn {
            column: column.clone(),
            facts: Facts::of(()),
            width: 8,
            order: sortable.then(|| Frozen::of(&column.source_type)),
            ordered: sortable,
            numeric: number,
            correlation: number.then_some(1.0),
            histogram_bounds: 0,
            common_share: 0.0,
            indexed: true,
            doubt: None,
            readable: true,
            canonical: true,
        }
    });
    let pages = (rows.num_rows() as u64).div_ceil(PAGE_ROWS.into());
    Relation {
        schema: table_schema.into(),
        name: name.into(),
        kind: RelationKind::Table,
        unreadable: None,
        elsewhere: None,
        partial: None,
        contains: Vec::new(),
        alone: None,
        ways: None,
        has_own_rows: true,
        foreign: false,
        estimated_rows: Some(rows.num_rows() as u64),
        bytes: rows.get_array_memory_size() as u64,
        heap_bytes: rows.get_array_memory_size() as u64,
        outdated: false,
        extent: (pages > 0).then_some(Extent { of: Numbered::Pages, end: pages }),
        primary_key: table.primary_key.clone(),
        own: None,
        columns: columns.collect(),
    }
}
