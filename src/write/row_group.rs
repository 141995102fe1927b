//! One row group. It is encoded in memory and then written in one go.
//!
//! `ArrowWriter` has one set of properties per file. Here each row group has its own properties, made from
//! its first batch. So a wide row that comes late in the file is neither put into a dictionary nor copied as
//! minimum and maximum (invariant I8).

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::Result;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use super::flat::{FlatColumn, Workspace};
use crate::message::setting::Compression;

pub(super) struct RowGroup {
    schema: SchemaRef,
    columns: Vec<ColumnWriter>,
    workspace: Workspace,
}

/// Encodes one column of the table.
enum ColumnWriter {
    Flat(Box<FlatColumn>),
    /// The leaves of any other column.
    Leaves(Vec<ArrowColumnWriter>),
}

impl RowGroup {
    /// Begins a row group of this file.
    pub(super) fn begin<W: Write + Send>(
        file: &SerializedFileWriter<W>,
        schema: &SchemaRef,
        properties: WriterProperties,
        compression: Compression,
        wide: bool,
    ) -> Result<Self> {
        let workspace = Workspace::new(compression)?;
        let descriptor = file.schema_descr();
        let mut leaves_of = vec![Vec::new(); schema.fields().len()];
        for leaf in 0..descriptor.num_columns() {
            leaves_of[descriptor.get_column_root_idx(leaf)].push(leaf);
        }
        let columns = schema.fields().iter().zip(&leaves_of).map(|(field, leaves)| {
            // `flat/` does not encode wide batches, because their pages are written when the batch is no
            // longer in memory.
            let leaf = leaves.first().filter(|_| !wide && !field.data_type().is_nested())?;
            FlatColumn::begin(&descriptor.column(*leaf), field.data_type(), &properties, &workspace)
        });
        let mut columns: Vec<_> = columns.collect();
        let others = (0..columns.len()).filter(|&index| columns[index].is_none()).collect::<Vec<_>>();
        let mut writers = leaf_writers(file, &schema.project(&others)?, &others, properties)?.into_iter();
        let columns = columns.iter_mut().zip(&leaves_of).map(|(flat, leaves)| match flat.take() {
            Some(column) => ColumnWriter::Flat(Box::new(column)),
            None => ColumnWriter::Leaves(writers.by_ref().take(leaves.len()).collect()),
        });
        Ok(Self { schema: schema.clone(), columns: columns.collect(), workspace })
    }

    /// Encodes a batch.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let fields = self.schema.fields().iter().zip(batch.columns());
        for ((field, array), column) in fields.zip(&mut self.columns) {
            match column {
                ColumnWriter::Flat(column) => column.write(array, &mut self.workspace)?,
                ColumnWriter::Leaves(writers) => {
                    for (leaf, writer) in compute_leaves(field, array)?.iter().zip(writers) {
                        writer.write(leaf)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Approximate size in the file, in bytes.
    pub(super) fn encoded_bytes(&self) -> usize {
        self.sum(FlatColumn::encoded_bytes, ArrowColumnWriter::get_estimated_total_bytes)
    }

    /// Approximate size in memory, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.workspace.memory_bytes() + self.sum(FlatColumn::memory_bytes, ArrowColumnWriter::memory_size)
    }

    fn sum(&self, flat: fn(&FlatColumn) -> usize, leaf: fn(&ArrowColumnWriter) -> usize) -> usize {
        let bytes = |column: &ColumnWriter| match column {
            ColumnWriter::Flat(column) => flat(column),
            ColumnWriter::Leaves(writers) => writers.iter().map(leaf).sum(),
        };
        self.columns.iter().map(bytes).sum()
    }

    /// Writes the row group to its file. The memory of each column is freed before the next column is
    /// finished.
    pub(super) fn write_to<W: Write + Send>(mut self, file: &mut SerializedFileWriter<W>) -> Result<()> {
        let mut group = file.next_row_group()?;
        for column in self.columns {
            match column {
                ColumnWriter::Flat(column) => column.write_to(&mut group, &mut self.workspace)?,
                ColumnWriter::Leaves(writers) => {
                    for writer in writers {
                        let mut chunk = writer.close()?;
                        leave_out_if_wrong(&mut chunk.close_mut().column_index);
                        chunk.append_to_row_group(&mut group)?;
                    }
                }
            }
        }
        group.close()?;
        Ok(())
    }
}

/// Removes a column index that calls a page all NULL although it has values: readers would skip the page. The
/// crate (60.1.0) compares the number of NULLs in a page with its rows, but a row of a list has several
/// elements.
fn leave_out_if_wrong(index: &mut Option<ColumnIndexMetaData>) {
    let is_wrong = |index: &ColumnIndexMetaData| {
        let levels = |page| index.definition_level_histogram(page);
        let has_values = |page| levels(page).and_then(<[i64]>::last).is_some_and(|&values| values > 0);
        (0..index.num_pages() as usize).any(|page| index.is_null_page(page) && has_values(page))
    };
    index.take_if(|index| is_wrong(index));
}

/// The crate's writers for the leaves of some columns of the file.
fn leaf_writers<W: Write + Send>(
    file: &SerializedFileWriter<W>,
    schema: &Schema,
    columns: &[usize],
    properties: WriterProperties,
) -> Result<Vec<ArrowColumnWriter>> {
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let root = file.schema_descr().root_schema();
    let fields = columns.iter().map(|&index| root.get_fields()[index].clone()).collect();
    let root = Type::group_type_builder(root.name()).with_fields(fields).build()?;
    // The factory takes its properties only from a file, so we begin one that goes nowhere.
    let with_properties = SerializedFileWriter::new(io::sink(), Arc::new(root), Arc::new(properties))?;
    let factory = ArrowRowGroupWriterFactory::new(&with_properties, Arc::new(schema.clone()));
    factory.create_column_writers(file.flushed_row_groups().len())
}
