//! From the rows of a chunk to finished parts. This is a seam: Parquet is behind it, and tests put something
//! simpler there. The bytes go to the destination.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{Span, warn};

use crate::destination::{Destination, PartPlace};
use crate::failpoint;
use crate::folder::files::record::RecordedPart;
pub use crate::folder::files::record::{numbered_part_path, part_path};
use crate::message::pattern::qualified;
use crate::plan::ExportPlan;
use crate::source::{ChunkStream, SourceError};
use crate::traces;
use crate::write::metadata::Provenance;
use crate::write::{WriteError, WrittenPart};

mod partitions;
mod series;

use partitions::Partitions;
use series::{Ended, Series};

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
    /// Ends the work.
    pub cancel: CancellationToken,
    /// The span of the chunk.
    pub trace: Span,
}

/// Writes parts.
#[async_trait]
pub trait Parts: Send + Sync {
    /// Reads a chunk to its end and writes its parts, in the order of the rows; those of partitions may come later. When this returns `Ok`, all
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

/// Parquet files. Rows are decoded and encoded on a blocking thread, while parts that are written become
/// durable.
pub struct ParquetParts {
    destination: Arc<dyn Destination>,
}

impl ParquetParts {
    /// Parts for a destination.
    #[must_use]
    pub fn new(destination: Arc<dyn Destination>) -> Self {
        Self { destination }
    }

    /// Removes parts of a chunk that failed.
    async fn give_up(&self, place: &PartPlace, parts: &[RecordedPart]) {
        for RecordedPart { reference, .. } in parts {
            if let Err(e) = self.destination.drop_part(&place.job, place.of, reference).await {
                let part = reference.as_str();
                warn!(error = %e, part, "a part of a chunk that failed stays until the workspace goes");
            }
        }
    }
}

#[async_trait]
impl Parts for ParquetParts {
    async fn write(
        &self,
        order: PartOrder,
        rows: Box<dyn ChunkStream>,
    ) -> Result<Vec<RecordedPart>, ExportError> {
        let place = order.place.clone();
        let table = order.plan.table(place.table).map(|t| qualified(&t.schema, &t.name)).unwrap_or_default();
        // The next part is written while one becomes durable. More of them would only hold files open.
        let (ended, mut written) = mpsc::channel(1);
        let series = Series::new(Arc::clone(&self.destination), order, ended);
        let pump = tokio::task::spawn_blocking(move || pump(rows, series));
        let (mut parts, mut refused) = (Vec::new(), None);
        while let Some(part) = written.recv().await {
            match finish(part).await {
                Ok(part) => parts.push(part),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        // From here on the series ends with an error.
        drop(written);
        let pumped = pump.await.unwrap_or_else(|panic| {
            Err(ExportError::Source(
                SourceError::permanent("panic", format!("{table}: the export of a chunk broke: {panic}"))
                    .with_remedy("report this with the log"),
            ))
        });
        match refused.map_or(pumped, |error| Err(error.into())) {
            Ok(()) => Ok(parts),
            Err(error) => {
                self.give_up(&place, &parts).await;
                Err(error)
            }
        }
    }
}

/// Makes a part durable.
async fn finish(part: Ended) -> Result<RecordedPart, WriteError> {
    let Ended { path, written, trace } = part;
    let WrittenPart { sink, path: shown, rows, bytes, sha256, row_groups } = written;
    let finished = sink.finish().await.map_err(|e| {
        traces::fail(&trace, "storage");
        WriteError::storage(&shown, e)
    })?;
    let (reference, fsync_seconds) = (finished.reference, finished.synced.as_secs_f64());
    traces::note(&trace, "rows", rows);
    traces::note(&trace, "bytes", bytes);
    traces::note(&trace, "row_groups", row_groups.into());
    trace.record("fsync_seconds", fsync_seconds);
    Ok(RecordedPart { path, reference, rows, bytes, sha256, row_groups, fsync_seconds })
}

/// Moves batches from the stream to the files, on a blocking thread.
fn pump(mut stream: Box<dyn ChunkStream>, mut series: Series) -> Result<(), ExportError> {
    let table = series.table().name.clone();
    if !series.table().partition_by.is_empty() {
        let mut partitions = Partitions::new(series)?;
        while let Some(batch) = stream.next_batch().map_err(ExportError::Source)? {
            partitions.write(batch)?;
            failpoint::step("mid", "copy", &table);
        }
        return partitions.close();
    }
    let mut part = None;
    while let Some(batch) = stream.next_batch().map_err(ExportError::Source)? {
        series.go_on()?;
        let mut open = match part.take() {
            Some(open) => open,
            None => series.begin(None)?,
        };
        open.writer.write(batch)?;
        failpoint::step("mid", "copy", &table);
        if open.writer.is_full() {
            series.end(open)?;
        } else {
            part = Some(open);
        }
    }
    if part.is_none() && series.is_empty() && series.even_empty() {
        part = Some(series.begin(None)?);
    }
    part.map_or(Ok(()), |last| series.end(last))
}
