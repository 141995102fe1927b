//! From the rows of a chunk to a durable part: a seam with Parquet on the disk
//! behind it.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::export::ExportError;
use crate::failpoint;
use crate::folder::layout;
use crate::message::TableNo;
use crate::message::pattern::qualified;
use crate::message::task::ChunkTask;
use crate::plan::ExportPlan;
use crate::plan::column;
use crate::source::{ChunkStream, ErrorKind, SourceError};
use crate::write::metadata::Provenance;
use crate::write::{PartFile, PartWriter, WriteError, WrittenPart};

/// A part that is to be written.
#[derive(Clone, Debug)]
pub struct PartOrder {
    /// The chunk.
    pub task: ChunkTask,
    /// Its plan.
    pub plan: Arc<ExportPlan>,
    /// Number of the table, which the plan has.
    pub table: TableNo,
    /// Name of the file in the directory of its batch's parts.
    pub file: String,
    /// Whether it is written also where there are no rows.
    pub even_empty: bool,
    /// What the file says of itself.
    pub provenance: Provenance,
}

/// Writes parts.
#[async_trait]
pub trait Parts: Send + Sync {
    /// Reads a chunk to its end and makes it a part: whole and durable when
    /// this returns, else there is none. A chunk without rows has one only if
    /// the order says so. Its name is durable once its directory
    /// is synced, which the caller does for all parts of a batch. The rows are
    /// dropped when nothing of them is in memory any more: others wait for that.
    async fn write(&self, order: PartOrder, rows: Box<dyn ChunkStream>) -> Result<PartFile, ExportError>;
}

/// Parquet below a root on disk. Rows are decoded and encoded on a blocking thread.
pub struct ParquetParts {
    root: PathBuf,
}

impl ParquetParts {
    /// Parts below the root.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }
}

#[async_trait]
impl Parts for ParquetParts {
    async fn write(&self, order: PartOrder, rows: Box<dyn ChunkStream>) -> Result<PartFile, ExportError> {
        let task = &order.task;
        let dir = self.root.join(layout::parts(&task.job, task.batch_id()));
        let shown = order.plan.table(order.table).map(|t| qualified(&t.schema, &t.name)).unwrap_or_default();
        let written = tokio::task::spawn_blocking(move || {
            let PartOrder { plan, table, file, even_empty, provenance, .. } = order;
            let table = plan.table(table).expect("whoever orders a part has its table from this plan");
            let create = || {
                let schema = column::schema(&table.columns);
                PartWriter::create(&dir, &file, schema, &plan.writer, &provenance, &table.columns)
            };
            match pump(rows, even_empty, create, &table.name)? {
                Some(part) => Ok(part.commit()?),
                None => Ok(PartFile::not_written(file)),
            }
        });
        written.await.unwrap_or_else(|panic| {
            Err(ExportError::Source(SourceError {
                kind: ErrorKind::Permanent,
                code: "panic".into(),
                message: format!("{shown}: the export of a chunk broke: {panic}"),
                remedy: Some("report this with the log".into()),
            }))
        })
    }
}

/// Moves batches from the stream to the file, on a blocking thread.
fn pump(
    mut stream: Box<dyn ChunkStream>,
    even_empty: bool,
    create: impl FnOnce() -> Result<PartWriter, WriteError>,
    table: &str,
) -> Result<Option<WrittenPart>, ExportError> {
    let mut next = stream.next_batch().map_err(ExportError::Source)?;
    if next.is_none() && !even_empty {
        return Ok(None);
    }
    let mut writer = create()?;
    while let Some(batch) = next {
        writer.write(batch)?;
        failpoint::step("mid", "copy", table);
        next = stream.next_batch().map_err(ExportError::Source)?;
    }
    Ok(Some(writer.close()?))
}
