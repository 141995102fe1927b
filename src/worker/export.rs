//! Turns the rows of one chunk into durable parts. The source is opened on the async side; rows are decoded
//! and encoded on a blocking thread.

use std::sync::Arc;

use arrow::array::RecordBatch;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::context::Context;
use crate::destination::PartPlace;
use crate::job::record::RecordedTable;
use crate::message::pattern::qualified;
use crate::message::task::ChunkTask;
use crate::parts::{ExportError, PartOrder};
use crate::plan::ExportPlan;
use crate::plan::export_plan::PlannedTable;
use crate::relation::{Selection, Slice};
use crate::source::{ChunkRead, ChunkStream, Keeper, Progress, Source, SourceError};
use crate::write::metadata::Provenance;

/// A chunk of one table, with all that is needed to export it.
pub struct TableChunk<'a> {
    /// The task.
    pub task: &'a ChunkTask,
    /// The plan of the task's epoch.
    pub plan: &'a Arc<ExportPlan>,
    /// The table.
    pub table: &'a PlannedTable,
    /// The source that the table is read from.
    pub source: &'a Arc<dyn Source>,
    /// Fires when the chunk is no longer wanted.
    pub cancel: &'a CancellationToken,
    /// Counts rows and bytes while the chunk runs.
    pub progress: &'a Arc<Progress>,
    /// The span of the chunk.
    pub trace: &'a Span,
}

/// The turn of a table among the tables of its chunk. It allows the table to use the chunk's connection and
/// to have rows in memory.
pub type Turn = OwnedSemaphorePermit;

/// The rows of a table, and the table's turn, which ends when this is dropped.
struct Rows {
    rows: Box<dyn ChunkStream>,
    _turn: Turn,
}

impl ChunkStream for Rows {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        self.rows.next_batch()
    }
}

/// Exports a chunk of one table, under a snapshot if the plan names one. The turn ends when the part is
/// written and only has to become durable.
///
/// # Errors
/// The error of the source or of the storage. Only temporary files may stay behind.
pub async fn export(
    context: &Context,
    chunk: &TableChunk<'_>,
    under: Option<Arc<dyn Keeper>>,
    turn: Turn,
) -> Result<RecordedTable, ExportError> {
    let (plan, table, task) = (chunk.plan, chunk.table, chunk.task);
    let slice = table.strategy.slice(task.chunk.0).ok_or_else(|| no_such_chunk(chunk))?;
    let pages = Arc::default();
    let rows = chunk
        .source
        .read_chunk(ChunkRead {
            selection: Selection {
                schema: &table.schema,
                name: &table.name,
                only: table.only,
                filter: table.filter_of(slice),
            },
            columns: &table.columns,
            key: &table.key,
            slice,
            under,
            way: table.read,
            session: &plan.session,
            on_unfit: plan.on_unfit,
            cancel: chunk.cancel.clone(),
            progress: Arc::clone(chunk.progress),
            pages: Arc::clone(&pages),
        })
        .await
        .map_err(ExportError::Source)?;
    let provenance = provenance(chunk, slice);
    let order = PartOrder {
        place: PartPlace {
            job: task.job.clone(),
            of: task.batch_id(),
            table: table.number,
            chunk: task.chunk,
            id: context.machine.fresh(),
            nth: 0,
        },
        plan: Arc::clone(plan),
        // The first chunk always writes a part: a table without rows is published with it.
        even_empty: task.chunk.0 == 0,
        provenance,
        cancel: chunk.cancel.clone(),
        trace: chunk.trace.clone(),
    };
    let parts = context.parts.write(order, Box::new(Rows { rows, _turn: turn })).await?;
    for part in &parts {
        context.metrics.fsync_duration_seconds.observe(part.fsync_seconds);
    }
    Ok(RecordedTable { table: table.number, parts, pages: pages.get().copied() })
}

fn no_such_chunk(chunk: &TableChunk<'_>) -> ExportError {
    ExportError::Source(SourceError::permanent(
        "no_such_chunk",
        format!("{} has no chunk {}", chunk.table.name, chunk.task.chunk),
    ))
}

fn provenance(chunk: &TableChunk<'_>, slice: Slice<'_>) -> Provenance {
    let (plan, table) = (chunk.plan, chunk.table);
    let mut predicate = slice.predicate();
    if table.filter.is_some() {
        predicate.push_str(", filtered");
    }
    Provenance {
        job: chunk.task.job.clone(),
        source: plan.source.clone(),
        table: qualified(&table.schema, &table.name),
        epoch: chunk.task.epoch,
        chunk: chunk.task.chunk,
        predicate,
        snapshot: plan.snapshot.as_ref().map(|s| (s.time, s.lineage)),
    }
}
