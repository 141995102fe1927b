//! The parts of one chunk and table, one after the other: where they begin, how they are called, and how many
//! there may be.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use tokio::sync::mpsc;

use super::{ExportError, PartOrder, numbered_part_path, part_path};
use crate::destination::{Destination, NewPart, PartPlace};
use crate::message::pattern::qualified;
use crate::plan::export_plan::PlannedTable;
use crate::relation::column;
use crate::source::SourceError;
use crate::write::{PartWriter, WriteError, WrittenPart};

/// How many parts a chunk may give for a table. Its record names them all.
const MOST_PARTS: u32 = 10_000;

/// A part that is being written.
pub(super) struct Begun {
    nth: u32,
    pub(super) writer: PartWriter<Box<dyn NewPart>>,
}

/// A part whose bytes are written, and that is not durable yet.
pub(super) struct Ended {
    /// Path below the table's directory.
    pub(super) path: String,
    pub(super) written: WrittenPart<Box<dyn NewPart>>,
}

pub(super) struct Series {
    destination: Arc<dyn Destination>,
    order: PartOrder,
    schema: SchemaRef,
    begun: u32,
    ended: mpsc::Sender<Ended>,
}

impl Series {
    pub(super) fn new(destination: Arc<dyn Destination>, order: PartOrder, ended: mpsc::Sender<Ended>) -> Self {
        let schema = column::schema(&of(&order).columns);
        Self { destination, order, schema, begun: 0, ended }
    }

    pub(super) fn table(&self) -> &PlannedTable {
        of(&self.order)
    }

    /// Whether a part is wanted although there are no rows.
    pub(super) fn even_empty(&self) -> bool {
        self.order.even_empty
    }

    pub(super) fn is_empty(&self) -> bool {
        self.begun == 0
    }

    /// Begins the next part.
    pub(super) fn begin(&mut self) -> Result<Begun, ExportError> {
        let nth = self.begun;
        if nth == MOST_PARTS {
            return Err(ExportError::Source(too_many(self.table())));
        }
        self.begun += 1;
        let PartOrder { place, plan, provenance, .. } = &self.order;
        let place = PartPlace { nth, ..place.clone() };
        let path = part_path(place.chunk);
        let part = self.destination.begin(&place).map_err(|e| WriteError::storage(path.as_ref(), e))?;
        let (shown, schema) = (PathBuf::from(part.shown()), self.schema.clone());
        let columns = &self.table().columns;
        let writer = PartWriter::create(part, shown, schema, &plan.writer, provenance, columns)?;
        Ok(Begun { nth, writer })
    }

    /// Ends a part.
    pub(super) fn end(&mut self, part: Begun) -> Result<(), ExportError> {
        let chunk = self.order.place.chunk;
        let path = match self.order.plan.writer.file_bytes {
            None => part_path(chunk),
            Some(_) => numbered_part_path(chunk, part.nth),
        };
        let ended = Ended { path, written: part.writer.close()? };
        // Nobody takes the part if an earlier one could not be made durable. That error is the one to report.
        self.ended.blocking_send(ended).map_err(|_| ExportError::Gone)
    }
}

fn of(order: &PartOrder) -> &PlannedTable {
    order.plan.table(order.place.table).expect("whoever orders a part has its table from this plan")
}

fn too_many(table: &PlannedTable) -> SourceError {
    let table = qualified(&table.schema, &table.name);
    let message = format!("{table}: a chunk would give more than {MOST_PARTS} files");
    SourceError::permanent("too_many_files", message)
        .with_remedy("raise output.file_bytes, or lower chunk_rows")
}
