//! Turns the bytes of a COPY stream into record batches of the planned schema.

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;

use super::column::{self, Builder, Faults, Form, Room, StreamColumn};
use super::frame::{Fields, Frames, Malformed};
use crate::message::request::OnUnfit;
use crate::relation::UnfitColumn;
use crate::relation::column::schema;
use crate::source::{ErrorKind, SourceError};

/// Rows of a batch: so few that they are still in the processor's cache when they are encoded. On lineitem,
/// 2048 rows take 5 % less time than 8192.
const BATCH_ROWS: usize = 2048;
/// Maximum characters of a key in a report.
const KEY_CHARS: usize = 100;
/// A batch ends once it has this many bytes, in the stream or in memory. A single row may have more.
const BATCH_BYTES: usize = 4 << 20;

/// Decodes one binary COPY stream.
///
/// Pass it each piece that arrives, then ask for batches until there is none. At the end of the stream, call
/// `finish`. If a value does not fit under [`OnUnfit::Text`], the rest of the stream is only checked. There
/// are no more batches, and the stream ends with one error that names all columns with such values.
pub struct CopyDecoder {
    schema: SchemaRef,
    columns: Vec<DecodedColumn>,
    on_unfit: OnUnfit,
    frames: Frames,
    /// Rows of the block that are already decoded.
    taken: usize,
    /// Rows to decode before the size in memory is checked again.
    step: usize,
    /// Maximum number of rows of a batch.
    max_rows: usize,
    room: Room,
    batch_rows: usize,
    batch_bytes: usize,
    /// Whether a column has values that do not fit, so that no batch may be returned.
    checking: bool,
}

struct DecodedColumn {
    of: StreamColumn,
    is_key: bool,
    builder: Box<dyn Builder>,
    /// Row of the batch with the first value that does not fit.
    unfit_row: Option<usize>,
    /// The first value that did not fit.
    unfit: Option<UnfitColumn>,
}

impl CopyDecoder {
    /// A decoder of rows with these columns. `key` names the key columns, for reports about rows.
    #[must_use]
    pub fn new(columns: &[StreamColumn], key: &[String], on_unfit: OnUnfit) -> Self {
        let schema = schema(columns.iter().map(|column| &column.column));
        let frames = Frames::new(columns.len());
        let room = Room::default();
        let width: usize = schema.fields().iter().map(|field| column::bytes_of_null(field.data_type())).sum();
        let columns: Vec<_> = columns
            .iter()
            .map(|column| DecodedColumn {
                is_key: key.contains(&column.column.name),
                builder: column::builder(column, &room),
                of: column.clone(),
                unfit_row: None,
                unfit: None,
            })
            .collect();
        Self {
            schema,
            step: columns.iter().map(|column| column.builder.step()).min().unwrap_or(usize::MAX),
            max_rows: (BATCH_BYTES / width.max(1)).clamp(1, BATCH_ROWS),
            room,
            columns,
            on_unfit,
            frames,
            taken: 0,
            batch_rows: 0,
            batch_bytes: 0,
            checking: false,
        }
    }

    /// The schema of the batches.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows read so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.frames.total_rows()
    }

    /// Bytes received so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.frames.bytes()
    }

    /// Takes the next piece of the stream, of any size.
    pub fn take(&mut self, piece: Vec<u8>) {
        self.frames.take(piece);
    }

    /// The next batch, or `None` if more bytes are needed. Call it after each piece until it returns `None`,
    /// so that memory stays bounded.
    ///
    /// # Errors
    /// When the stream does not match the plan, or values do not fit.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        if self.taken == 0 && !self.frames.ready() {
            return Ok(None);
        }
        self.full_batch()
    }

    /// The next batch of the remaining rows after the end of the stream, or `None` after the last one.
    ///
    /// # Errors
    /// When the trailer is missing, when something follows it, or when values did not fit.
    pub fn finish(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        if let Some(batch) = self.full_batch()? {
            return Ok(Some(batch));
        }
        if !self.frames.ended() {
            return Err(SourceError::transient(
                "copy_truncated",
                format!("the COPY stream ended without its trailer after {} rows", self.rows()),
            ));
        }
        let batch = if self.batch_rows > 0 { self.take_batch()? } else { None };
        if self.checking { Err(SourceError::unfit(self.unfit_columns())) } else { Ok(batch) }
    }

    /// The next full batch, or `None` if more bytes are needed.
    fn full_batch(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        loop {
            // Rows that remain from the last block come first.
            let more =
                self.taken > 0 || self.frames.scan(self.max_rows - self.batch_rows).map_err(malformed)?;
            self.decode_block();
            if self.is_full() {
                let batch = self.take_batch()?;
                if batch.is_some() {
                    return Ok(batch);
                }
            } else if !more {
                return Ok(None);
            }
        }
    }

    fn is_full(&self) -> bool {
        self.batch_rows >= self.max_rows || self.batch_bytes >= BATCH_BYTES
    }

    /// Decodes rows of the block until the batch is full.
    fn decode_block(&mut self) {
        let block = self.frames.block();
        while self.taken < block.rows() {
            let rows = self.step.min(block.rows() - self.taken);
            for (index, column) in self.columns.iter_mut().enumerate() {
                column.append(block.column(index).rows(self.taken, rows), self.batch_rows);
            }
            self.taken += rows;
            self.batch_rows += rows;
            let built = self.room.taken();
            if built >= BATCH_BYTES {
                self.batch_bytes = built;
                break;
            }
        }
        if self.taken == block.rows() {
            self.batch_bytes += block.bytes();
            self.taken = 0;
            self.frames.consume();
        }
    }

    /// The collected rows; `None` if no batch may be returned because a value did not fit.
    fn take_batch(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        let rows = std::mem::take(&mut self.batch_rows);
        self.batch_bytes = 0;
        self.room.clear();
        let mut arrays = Vec::with_capacity(self.columns.len());
        let mut unfit = Vec::new();
        for (index, column) in self.columns.iter_mut().enumerate() {
            let name = &column.of.column.name;
            let (array, faults) = column.builder.finish().map_err(|e| unbuildable(name, &e))?;
            column.check(&array, &faults, self.on_unfit)?;
            unfit.extend(faults.unfit.map(|reason| (index, reason, faults.dimensions)));
            arrays.push(array);
        }
        let unfit_now = !unfit.is_empty();
        for (index, reason, dimensions) in unfit {
            let row = self.columns[index].unfit_row.take().map(|row| self.row_name(row, rows, &arrays));
            let DecodedColumn { of, unfit, .. } = &mut self.columns[index];
            unfit.get_or_insert_with(|| UnfitColumn {
                column: of.column.name.clone(),
                reason: reason.to_owned(),
                dimensions,
                row,
            });
        }
        if unfit_now {
            match self.on_unfit {
                OnUnfit::Text => self.checking = true,
                _ if self.columns.iter().any(DecodedColumn::has_learnt) => self.checking = true,
                OnUnfit::Error => return Err(SourceError::refused_values(self.unfit_columns())),
                OnUnfit::Null => {}
            }
        }
        if self.checking {
            return Ok(None);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map(Some)
            .map_err(|e| unbuildable("?", &e))
    }

    fn unfit_columns(&self) -> Vec<UnfitColumn> {
        let all = self.on_unfit == OnUnfit::Text || !self.columns.iter().any(DecodedColumn::has_learnt);
        let counts = |c: &&DecodedColumn| all || c.has_learnt();
        self.columns.iter().filter(counts).filter_map(|c| c.unfit.clone()).collect()
    }

    /// Names a row of this batch in reports: by its key, or by its position if it has no key.
    fn row_name(&self, row: usize, rows: usize, arrays: &[ArrayRef]) -> String {
        let keys: Vec<String> = self
            .columns
            .iter()
            .zip(arrays)
            .filter(|(column, array)| column.is_key && array.is_valid(row))
            .filter_map(|(column, array)| {
                let text = array_value_to_string(array, row).ok()?;
                let text: String = text.chars().take(KEY_CHARS).collect();
                Some(format!("{} = {text}", column.of.column.name))
            })
            .collect();
        if keys.is_empty() {
            let ahead = if self.taken > 0 { self.frames.block().rows() - self.taken } else { 0 };
            let place = self.frames.total_rows() - (ahead + rows) as u64 + row as u64 + 1;
            format!("row {place} of its chunk")
        } else {
            keys.join(", ")
        }
    }
}

impl DecodedColumn {
    /// Whether a value says that the column has another number of dimensions than was guessed.
    fn has_learnt(&self) -> bool {
        let guessed = matches!(self.of.form, Form::Nested { guessed: true, .. });
        guessed && self.unfit.as_ref().is_some_and(|unfit| unfit.dimensions.is_some())
    }

    /// Reads the fields of a block. `before` is the number of rows that the batch already has.
    fn append(&mut self, fields: Fields<'_>, before: usize) {
        self.builder.append(fields);
        if self.unfit_row.is_none() && self.builder.is_unfit() {
            let alone = |start: &u32| {
                let mut builder = column::builder(&self.of, &Room::default());
                builder.append(Fields { starts: std::slice::from_ref(start), ..fields });
                builder.is_unfit()
            };
            self.unfit_row = fields.starts.iter().position(alone).map(|row| before + row);
        }
    }

    /// Returns an error if planning again with another type would not help.
    fn check(&self, array: &ArrayRef, faults: &Faults, on_unfit: OnUnfit) -> Result<(), SourceError> {
        let name = &self.of.column.name;
        if let Some(reason) = faults.foreign {
            let message = format!("column {name:?} is not of the type that was planned: {reason}");
            return Err(SourceError::changed("column_type", message));
        }
        if faults.not_utf8 && on_unfit != OnUnfit::Null {
            let message = format!("column {name:?} has a text that is not UTF-8");
            let remedy =
                "correct the text in the database, name the column in as_bytes, or set on_unfit to \"null\"";
            return Err(SourceError::permanent("not_utf8", message).with_remedy(remedy));
        }
        let unfit = faults.unfit.is_some();
        let replaced = on_unfit == OnUnfit::Null && (unfit || faults.not_utf8);
        if !self.of.column.nullable && array.null_count() > 0 && (replaced || !unfit) {
            return Err(if replaced {
                let reason = faults.unfit.unwrap_or("a text is not UTF-8");
                let message = format!(
                    "column {name:?} is NOT NULL, so a value that does not fit cannot be NULL: {reason}"
                );
                SourceError::permanent("unfit_value", message).with_remedy("set on_unfit to \"text\"")
            } else {
                let message =
                    format!("column {name:?} has NULLs although it was NOT NULL when it was planned");
                SourceError::changed("unexpected_null", message)
            });
        }
        Ok(())
    }
}

fn malformed(error: Malformed) -> SourceError {
    let kind = match error {
        Malformed::Fields { .. } => ErrorKind::Changed,
        Malformed::Row { .. }
        | Malformed::Signature
        | Malformed::Flags(_)
        | Malformed::Extension(_)
        | Malformed::Length { .. }
        | Malformed::AfterTrailer => ErrorKind::Permanent,
    };
    SourceError::of(kind, "copy_malformed", error.to_string())
}

fn unbuildable(column: &str, error: &ArrowError) -> SourceError {
    SourceError::permanent("batch", format!("column {column:?} cannot be put together: {error}"))
}

#[cfg(test)]
mod tests;
