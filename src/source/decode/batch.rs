//! Gathers decoded rows until they are a batch, and says which values do not fit.

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;

use super::block::{Block, Fields, Stored};
use super::column::{self, Builder, Faults, Form, Room, StreamColumn};
use crate::message::request::OnUnfit;
use crate::relation::UnfitColumn;
use crate::relation::column::schema;
use crate::source::SourceError;

/// Rows of a batch: so few that they are still in the processor's cache when they are encoded. On lineitem,
/// 2048 rows take 5 % less time than 8192.
const BATCH_ROWS: usize = 2048;
/// Maximum characters of a key in a report.
const KEY_CHARS: usize = 100;
/// A batch ends once it has this many bytes, in the stream or in memory. A single row may have more.
pub(super) const BATCH_BYTES: usize = 4 << 20;

/// The batches of a stream, one after the other.
pub(super) struct Batches {
    schema: SchemaRef,
    columns: Vec<DecodedColumn>,
    on_unfit: OnUnfit,
    /// Rows to decode before the size in memory is checked again.
    step: usize,
    /// Maximum number of rows of a batch.
    max_rows: usize,
    room: Room,
    batch_rows: usize,
    batch_bytes: usize,
    /// Rows of earlier batches.
    before: u64,
    /// Whether a column has values that do not fit, so that no batch may be returned.
    checking: bool,
}

struct DecodedColumn {
    of: StreamColumn,
    is_key: bool,
    /// Whether its values are as a heap stores them.
    is_stored: bool,
    builder: Box<dyn Builder>,
    /// Row of the batch with the first value that does not fit.
    unfit_row: Option<usize>,
    /// The first value that did not fit.
    unfit: Option<UnfitColumn>,
}

impl Batches {
    /// Batches of rows with these columns, each with whether its values are as a heap stores them. `key` names the key
    /// columns, for reports about rows.
    pub(super) fn new<'a>(
        columns: impl IntoIterator<Item = (&'a StreamColumn, bool)>,
        key: &[String],
        on_unfit: OnUnfit,
    ) -> Self {
        let room = Room::default();
        let columns: Vec<_> = columns
            .into_iter()
            .map(|(column, is_stored)| DecodedColumn {
                is_key: key.contains(&column.column.name),
                is_stored,
                builder: column::builder(column, &room),
                of: column.clone(),
                unfit_row: None,
                unfit: None,
            })
            .collect();
        let schema = schema(columns.iter().map(|column| &column.of.column));
        let width: usize = schema.fields().iter().map(|field| column::bytes_of_null(field.data_type())).sum();
        Self {
            schema,
            step: columns.iter().map(|column| column.builder.step()).min().unwrap_or(usize::MAX),
            max_rows: (BATCH_BYTES / width.max(1)).clamp(1, BATCH_ROWS),
            room,
            columns,
            on_unfit,
            batch_rows: 0,
            batch_bytes: 0,
            before: 0,
            checking: false,
        }
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many rows the batch can still take.
    pub(super) fn left(&self) -> usize {
        self.max_rows - self.batch_rows
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batch_rows == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.batch_rows >= self.max_rows || self.batch_bytes >= BATCH_BYTES
    }

    /// Decodes rows of a block, beginning with row `first`, until the batch is full. Returns the first row that
    /// is not decoded.
    pub(super) fn append(&mut self, block: Block<'_>, first: usize) -> usize {
        let end = block.rows.min(first + self.left());
        let mut taken = first;
        while taken < end {
            let rows = self.step.min(end - taken);
            for (index, column) in self.columns.iter_mut().enumerate() {
                column.append(block.column(index, taken, rows), self.batch_rows);
            }
            taken += rows;
            self.batch_rows += rows;
            let built = self.room.taken();
            if built >= BATCH_BYTES {
                self.batch_bytes = built;
                break;
            }
        }
        if taken == block.rows {
            self.batch_bytes += block.raw.len();
        }
        taken
    }

    /// Called after the last batch: the error, if values did not fit.
    pub(super) fn end(&self) -> Result<(), SourceError> {
        if self.checking { Err(SourceError::unfit(self.unfit_columns())) } else { Ok(()) }
    }

    /// The collected rows; `None` if no batch may be returned because a value did not fit.
    pub(super) fn take(&mut self) -> Result<Option<RecordBatch>, SourceError> {
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
            let row = self.columns[index].unfit_row.take().map(|row| self.row_name(row, &arrays));
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
        self.before += rows as u64;
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
    fn row_name(&self, row: usize, arrays: &[ArrayRef]) -> String {
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
            format!("row {} of its chunk", self.before + row as u64 + 1)
        } else {
            keys.join(", ")
        }
    }
}

impl DecodedColumn {
    /// Whether the number of dimensions is a guess, which values correct.
    fn is_guessed(&self) -> bool {
        matches!(self.of.form, Form::Nested { guessed: true, .. })
    }

    /// Whether a value says that the column has another number of dimensions than was guessed.
    fn has_learnt(&self) -> bool {
        self.is_guessed() && self.unfit.as_ref().is_some_and(|unfit| unfit.dimensions.is_some())
    }

    /// Reads the values of a block. `before` is the number of rows that the batch already has.
    fn append(&mut self, fields: Fields<'_>, before: usize) {
        read(&mut *self.builder, self.is_stored, fields);
        if self.unfit_row.is_none() && self.builder.is_unfit() {
            let alone = |start: &u32| {
                let mut builder = column::builder(&self.of, &Room::default());
                read(&mut *builder, self.is_stored, Fields { starts: std::slice::from_ref(start), ..fields });
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
        let is_learning = self.is_guessed() && faults.dimensions.is_some();
        let replaced = on_unfit == OnUnfit::Null && (unfit && !is_learning || faults.not_utf8);
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

/// Reads values of a column.
fn read(builder: &mut dyn Builder, is_stored: bool, fields: Fields<'_>) {
    match builder.stored() {
        Some(builder) if is_stored => {
            builder.append_stored(Stored { raw: fields.raw, starts: fields.starts });
        }
        _ => builder.append(fields),
    }
}

fn unbuildable(column: &str, error: &ArrowError) -> SourceError {
    SourceError::permanent("batch", format!("column {column:?} cannot be put together: {error}"))
}
