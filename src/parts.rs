//! From the rows of a chunk to finished parts. This is a seam: Parquet is behind it, and tests put something
//! simpler there. The bytes go to the destination.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::destination::{Destination, NewPart, PartPlace};
use crate::failpoint;
use crate::folder::files::record::RecordedPart;
pub use crate::folder::files::record::part_path;
use crate::message::pattern::qualified;
use crate::plan::ExportPlan;
use crate::relation::column;
use crate::source::{ChunkStream, SourceError};
use crate::write::metadata::Provenance;
use crate::write::{PartWriter, WriteError, WrittenPart};

/// An order for the parts of one chunk.
#[derive(Clone, Debug)]
pub struct PartOrder {
    /// The chunk and table that they belong to.
    pub place: PartPlace,
    /// The plan, which contains the table.
    pub plan: Arc<ExportPlan>,
    /// Whether a part is written even if there are no rows.
    pub even_empty: bool,
    /// The metadata that a file carries about its origin.
    pub provenance: Provenance,
}

/// Writes parts.
#[async_trait]
pub trait Parts: Send + Sync {
    /// Reads a chunk to its end and writes its parts, in the order of the rows. When this returns `Ok`, all
    /// parts are finished; on an error there are none. A chunk without rows gets a part only if the order
    /// says so. The parts are durable once the caller has had the destination secure their batch. The
    /// implementation must drop `rows` as soon as none of them is in memory: other tables wait for that.
    async fn write(
        &self,
        order: PartOrder,
        rows: Box<dyn ChunkStream>,
    ) -> Result<Vec<RecordedPart>, ExportError>;
}

/// Why a part could not be made.
#[derive(Debug)]
pub enum ExportError {
    /// The source.
    Source(SourceError),
    /// The storage is full.
    Full(String),
    /// The storage lets nobody write.
    ReadOnly(String),
    /// The storage failed otherwise.
    Storage(String),
    /// The workspace is gone, so nobody needs the part.
    Gone,
}

impl From<WriteError> for ExportError {
    fn from(error: WriteError) -> Self {
        let text = error.to_string();
        match &error {
            _ if error.is_full() => Self::Full(text),
            WriteError::Storage { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Self::Gone,
            WriteError::Storage { source, .. } => {
                let text = format!("{text}: {source}");
                if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem {
                    Self::ReadOnly(text)
                } else {
                    Self::Storage(text)
                }
            }
            WriteError::Encode { source, .. } => Self::Source(
                SourceError::permanent("encode", format!("{text}: {source}"))
                    .with_remedy("leave the column out by `columns`, and report this"),
            ),
        }
    }
}

/// Parquet files. Rows are decoded and encoded on a blocking thread.
pub struct ParquetParts {
    destination: Arc<dyn Destination>,
}

impl ParquetParts {
    /// Parts for a destination.
    #[must_use]
    pub fn new(destination: Arc<dyn Destination>) -> Self {
        Self { destination }
    }
}

/// A part whose bytes are written.
type Written = WrittenPart<Box<dyn NewPart>>;

#[async_trait]
impl Parts for ParquetParts {
    async fn write(
        &self,
        order: PartOrder,
        rows: Box<dyn ChunkStream>,
    ) -> Result<Vec<RecordedPart>, ExportError> {
        let PartOrder { place, plan, even_empty, provenance } = order;
        let shown = plan.table(place.table).map(|t| qualified(&t.schema, &t.name)).unwrap_or_default();
        let (destination, path) = (Arc::clone(&self.destination), part_path(place.chunk));
        let written = tokio::task::spawn_blocking(move || {
            let table = plan.table(place.table).expect("whoever orders a part has its table from this plan");
            let create = || {
                let begun = destination.begin(&place);
                let part = begun.map_err(|e| WriteError::storage(part_path(place.chunk).as_ref(), e))?;
                let (shown, schema) = (PathBuf::from(part.shown()), column::schema(&table.columns));
                PartWriter::create(part, shown, schema, &plan.writer, &provenance, &table.columns)
            };
            pump(rows, even_empty, create, &table.name)
        });
        let written = written.await.unwrap_or_else(|panic| {
            Err(ExportError::Source(
                SourceError::permanent("panic", format!("{shown}: the export of a chunk broke: {panic}"))
                    .with_remedy("report this with the log"),
            ))
        });
        let Some(WrittenPart { sink, path: shown, rows, bytes, sha256, row_groups }) = written? else {
            return Ok(Vec::new());
        };
        let finished = sink.finish().await.map_err(|e| WriteError::storage(&shown, e))?;
        let (reference, fsync_seconds) = (finished.reference, finished.synced.as_secs_f64());
        Ok(vec![RecordedPart { path, reference, rows, bytes, sha256, row_groups, fsync_seconds }])
    }
}

/// Moves batches from the stream to the file, on a blocking thread.
fn pump(
    mut stream: Box<dyn ChunkStream>,
    even_empty: bool,
    create: impl FnOnce() -> Result<PartWriter<Box<dyn NewPart>>, WriteError>,
    table: &str,
) -> Result<Option<Written>, ExportError> {
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
