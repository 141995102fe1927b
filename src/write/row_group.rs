//! One row group, encoded in memory and then written at once.
//!
//! `ArrowWriter` has one set of properties per file. Here each row group has
//! its own, made from its first batch: a wide row that comes late is neither
//! put into a dictionary nor copied as minimum and maximum (invariant I8).

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

pub(super) struct RowGroup {
    schema: SchemaRef,
    columns: Vec<ArrowColumnWriter>,
}

impl RowGroup {
    /// An empty row group for this file.
    pub(super) fn begin<W: Write + Send>(
        file: &SerializedFileWriter<W>,
        schema: &SchemaRef,
        properties: WriterProperties,
    ) -> Result<Self> {
        // The factory takes its properties from a file.
        let root = file.schema_descr().root_schema_ptr();
        let with_properties = SerializedFileWriter::new(io::sink(), root, Arc::new(properties))?;
        let factory = ArrowRowGroupWriterFactory::new(&with_properties, schema.clone());
        let columns = factory.create_column_writers(file.flushed_row_groups().len())?;
        Ok(Self { schema: schema.clone(), columns })
    }

    /// Encodes a batch.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut columns = self.columns.iter_mut();
        for (field, array) in self.schema.fields().iter().zip(batch.columns()) {
            for (leaf, column) in compute_leaves(field, array)?.iter().zip(&mut columns) {
                column.write(leaf)?;
            }
        }
        Ok(())
    }

    /// Bytes that it will have in the file, nearly.
    pub(super) fn encoded_bytes(&self) -> usize {
        self.columns.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum()
    }

    /// Bytes that it has in memory, nearly.
    pub(super) fn memory_bytes(&self) -> usize {
        self.columns.iter().map(ArrowColumnWriter::memory_size).sum()
    }

    /// Writes it to its file; each column is gone from memory before the next is finished.
    pub(super) fn write_to<W: Write + Send>(self, file: &mut SerializedFileWriter<W>) -> Result<()> {
        let mut group = file.next_row_group()?;
        for column in self.columns {
            column.close()?.append_to_row_group(&mut group)?;
        }
        group.close()?;
        Ok(())
    }
}
