//! The parts of one chunk and table, one after the other: where they begin, how they are called, and how many
//! there may be.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use tokio::sync::mpsc;
use tracing::Span;

use super::{ExportError, PartOrder, numbered_part_path, part_path};
use crate::destination::{Destination, NewPart, PartPlace};
use crate::message::pattern::qualified;
use crate::plan::export_plan::{PlannedTable, WriterSettings};
use crate::relation::{Column, column};
use crate::source::SourceError;
use crate::traces;
use crate::write::{PartWriter, WriteError, WrittenPart};

/// How many parts a chunk may give for a table. Its record names them all.
const MOST_PARTS: u32 = 10_000;

/// A part that is being written.
pub(super) struct Begun {
    nth: u32,
    /// The directory of its partition, below that of the table.
    directory: Option<String>,
    trace: Span,
    pub(super) writer: PartWriter<Box<dyn NewPart>>,
}

/// A part whose bytes are written, and that is not durable yet.
pub(super) struct Ended {
    /// Path below the table's directory.
    pub(super) path: String,
    pub(super) written: WrittenPart<Box<dyn NewPart>>,
    /// Its span, which ends when it is durable.
    pub(super) trace: Span,
}

pub(super) struct Series {
    destination: Arc<dyn Destination>,
    order: PartOrder,
    /// The columns of files.
    columns: Vec<Column>,
    schema: SchemaRef,
    begun: u32,
    ended: mpsc::Sender<Ended>,
}

impl Series {
    pub(super) fn new(
        destination: Arc<dyn Destination>,
        order: PartOrder,
        ended: mpsc::Sender<Ended>,
    ) -> Self {
        let table = of(&order);
        let columns = table.columns.iter().filter(|c| !table.partition_by.contains(&c.name));
        let columns: Vec<Column> = columns.cloned().collect();
        let schema = column::schema(&columns);
        Self { destination, order, columns, schema, begun: 0, ended }
    }

    pub(super) fn table(&self) -> &PlannedTable {
        of(&self.order)
    }

    pub(super) fn settings(&self) -> &WriterSettings {
        &self.order.plan.writer
    }

    /// Whether a part is wanted although there are no rows.
    pub(super) fn even_empty(&self) -> bool {
        self.order.even_empty
    }

    pub(super) fn is_empty(&self) -> bool {
        self.begun == 0
    }

    /// An error if nobody wants the parts any more, because the work was cancelled or an earlier part could not be
    /// made durable.
    pub(super) fn go_on(&self) -> Result<(), ExportError> {
        if self.ended.is_closed() || self.order.cancel.is_cancelled() {
            Err(ExportError::Gone)
        } else {
            Ok(())
        }
    }

    /// An error if there will be more parts than a chunk may give.
    pub(super) fn has_room_for(&self, parts: usize) -> Result<(), ExportError> {
        let most = usize::try_from(MOST_PARTS).unwrap_or(usize::MAX);
        if parts > most { Err(ExportError::Source(too_many(self.table()))) } else { Ok(()) }
    }

    /// Begins the next part, in the directory of its partition if there is one.
    pub(super) fn begin(&mut self, directory: Option<&str>) -> Result<Begun, ExportError> {
        let nth = self.begun;
        if nth == MOST_PARTS {
            return Err(ExportError::Source(too_many(self.table())));
        }
        self.begun += 1;
        let PartOrder { place, plan, provenance, trace, .. } = &self.order;
        let trace = traces::part(trace, &provenance.table, place.chunk, nth);
        let place = PartPlace { nth, ..place.clone() };
        let path = part_path(place.chunk);
        let part = self.destination.begin(&place).map_err(|e| WriteError::storage(path.as_ref(), e))?;
        let (shown, schema) = (PathBuf::from(part.shown()), self.schema.clone());
        let writer = PartWriter::create(part, shown, schema, &plan.writer, provenance, &self.columns)?;
        Ok(Begun { nth, directory: directory.map(ToOwned::to_owned), trace, writer })
    }

    /// The columns of the parts.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// A file for rows that wait, and what errors call it.
    pub(super) fn scratch(&self) -> Result<(File, PathBuf), WriteError> {
        let PlannedTable { schema, name, .. } = self.table();
        let shown =
            PathBuf::from(format!("rows of {} that wait for their partition", qualified(schema, name)));
        let file = self.destination.scratch(&self.order.place).map_err(|e| WriteError::storage(&shown, e))?;
        Ok((file, shown))
    }

    /// Ends a part.
    pub(super) fn end(&mut self, part: Begun) -> Result<(), ExportError> {
        let (chunk, is_one) = (self.order.place.chunk, self.settings().file_bytes.is_none());
        // The parts of a chunk have different names even in different directories.
        let path = match part.directory {
            None if is_one => part_path(chunk),
            None => numbered_part_path(chunk, part.nth),
            Some(directory) => format!("{directory}/{}", numbered_part_path(chunk, part.nth)),
        };
        let ended = Ended { path, written: part.writer.close()?, trace: part.trace };
        // If nobody takes the part, the error of the earlier part is the one to report.
        self.ended.blocking_send(ended).map_err(|_| ExportError::Gone)
    }
}

fn of(order: &PartOrder) -> &PlannedTable {
    order.plan.table(order.place.table).expect("whoever orders a part has its table from this plan")
}

fn too_many(table: &PlannedTable) -> SourceError {
    let name = qualified(&table.schema, &table.name);
    let message = format!("{name}: a chunk would give more than {MOST_PARTS} files");
    let remedy = match table.partition_by.is_empty() {
        true => "raise output.file_bytes, or lower chunk_rows",
        false => {
            "partition by a column with fewer values, raise output.file_bytes if the request has it, or lower chunk_rows"
        }
    };
    SourceError::permanent("too_many_files", message).with_remedy(remedy)
}
