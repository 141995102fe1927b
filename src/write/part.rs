//! Part files: Parquet files that are written once. A destination makes their bytes durable (I1).
//!
//! A row group ends when its encoded bytes reach the limit, so memory does not depend on the size of the
//! chunk (I8). A batch that is wider than the limit has its own row group.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

use super::encoding;
use super::hashing::{Digested, HashingWriter};
use super::metadata::Provenance;
use super::row_group::RowGroup;
use crate::folder::is_full;
use crate::plan::export_plan::WriterSettings;
use crate::relation::column::Column;

/// Why a part could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file system failed: no space, gone, read-only.
    #[error("write {}", path.display())]
    Storage {
        /// The part.
        path: PathBuf,
        /// The error; its kind tells a full disk from others.
        source: io::Error,
    },
    /// The rows cannot be put into Parquet.
    #[error("encode {}", path.display())]
    Encode {
        /// The part.
        path: PathBuf,
        /// The error of the encoder.
        source: ParquetError,
    },
}

impl WriteError {
    /// Whether no space is left. This is not the fault of the table, and it is over as soon as somebody makes
    /// room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Storage { source, .. } => is_full(source),
            Self::Encode { .. } => false,
        }
    }

    pub(crate) fn storage(path: &Path, source: io::Error) -> Self {
        Self::Storage { path: path.to_owned(), source }
    }

    /// The encoder wraps errors of the file. They count as errors of storage.
    fn parquet(path: &Path, error: ParquetError) -> Self {
        let path = path.to_owned();
        match error {
            ParquetError::External(inner) => match inner.downcast::<io::Error>() {
                Ok(source) => Self::Storage { path, source: *source },
                Err(inner) => Self::Encode { path, source: ParquetError::External(inner) },
            },
            source => Self::Encode { path, source },
        }
    }
}

/// What is remembered of a column of a row group until the end of the file: statistics, and the index of its
/// pages.
const FOOTER_BYTES: usize = 1 << 10;

/// Writes one part.
pub struct PartWriter<W: Write + Send> {
    path: PathBuf,
    schema: SchemaRef,
    settings: WriterSettings,
    columns: Vec<Column>,
    /// Columns of the file, those in lists and composites counted one by one.
    leaves: usize,
    rows: u64,
    /// `None` after an error.
    file: Option<Writer<W>>,
    /// The row group that is being encoded.
    group: Option<RowGroup>,
}

type Writer<W> = SerializedFileWriter<HashingWriter<W>>;

impl<W: Write + Send> PartWriter<W> {
    /// Begins a part. Errors call it `path`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn create(
        sink: W,
        path: PathBuf,
        schema: SchemaRef,
        settings: &WriterSettings,
        provenance: &Provenance,
        columns: &[Column],
    ) -> Result<Self, WriteError> {
        let properties = encoding::file_properties(provenance, columns, settings.types);
        let file =
            open(HashingWriter::new(sink), &schema, properties).map_err(|e| WriteError::parquet(&path, e))?;
        Ok(Self {
            path,
            schema,
            settings: settings.clone(),
            columns: columns.to_vec(),
            leaves: file.schema_descr().num_columns(),
            rows: 0,
            file: Some(file),
            group: None,
        })
    }

    /// Appends a batch, and closes the row group if it is large enough.
    ///
    /// # Errors
    /// If the batch cannot be encoded or the file cannot be written. The part is lost then.
    pub fn write(&mut self, batch: RecordBatch) -> Result<(), WriteError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut file = self.file.take().ok_or_else(|| self.broken())?;
        self.rows += batch.num_rows() as u64;
        self.append(&mut file, batch).map_err(|e| WriteError::parquet(&self.path, e))?;
        self.file = Some(file);
        Ok(())
    }

    fn append(&mut self, file: &mut Writer<W>, batch: RecordBatch) -> Result<(), ParquetError> {
        let limit = usize::try_from(self.settings.row_group_bytes).unwrap_or(usize::MAX);
        let wide = batch.get_array_memory_size() >= limit;
        if let Some(group) = self.group.take_if(|_| wide) {
            group.write_to(file)?;
        }
        let mut group = match self.group.take() {
            Some(group) => group,
            None => {
                let properties = encoding::properties(&self.settings, &self.columns, &batch, wide);
                RowGroup::begin(file, &self.schema, properties, self.settings.compression, wide)?
            }
        };
        group.write(&batch)?;
        drop(batch);
        // A row group may take much more memory than its encoded size.
        if wide || group.encoded_bytes() >= limit || group.memory_bytes() >= limit.saturating_mul(2) {
            group.write_to(file)?;
        } else {
            self.group = Some(group);
        }
        Ok(())
    }

    /// Whether the part has the bytes after which the next part follows. Row groups are whole: it is full only
    /// between two of them.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let written = self.file.as_ref().map_or(0, SerializedFileWriter::bytes_written) as u64;
        self.group.is_none() && self.settings.file_bytes.is_some_and(|limit| written >= limit.get())
    }

    /// Ends the row group and writes it, so that no row stays in memory until more are added.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn pause(&mut self) -> Result<(), WriteError> {
        let mut file = self.file.take().ok_or_else(|| self.broken())?;
        if let Some(group) = self.group.take() {
            group.write_to(&mut file).map_err(|e| WriteError::parquet(&self.path, e))?;
        }
        file.inner_mut().relieve().map_err(|e| WriteError::storage(&self.path, e))?;
        self.file = Some(file);
        Ok(())
    }

    /// About how much memory the row groups that are written take until the footer is.
    #[must_use]
    pub fn footer_bytes(&self) -> usize {
        let groups = self.file.as_ref().map_or(0, |file| file.flushed_row_groups().len());
        groups * self.leaves * FOOTER_BYTES
    }

    /// Writes the remaining rows, so that no row stays in memory.
    ///
    /// # Errors
    /// If they cannot be encoded or written.
    pub fn close(mut self) -> Result<WrittenPart<W>, WriteError> {
        let mut file = self.file.take().ok_or_else(|| self.broken())?;
        let path = self.path;
        if let Some(group) = self.group {
            group.write_to(&mut file).map_err(|e| WriteError::parquet(&path, e))?;
        }
        let row_groups = u32::try_from(file.flushed_row_groups().len()).unwrap_or(u32::MAX);
        let file = file.into_inner().map_err(|e| WriteError::parquet(&path, e))?;
        let digested = file.finish().map_err(|e| WriteError::storage(&path, e))?;
        let Digested { inner, bytes, sha256 } = digested;
        Ok(WrittenPart { sink: inner, path, rows: self.rows, bytes, sha256, row_groups })
    }

    fn broken(&self) -> WriteError {
        WriteError::storage(&self.path, io::Error::other("an earlier error ended this part"))
    }
}

/// A part whose bytes are all written.
pub struct WrittenPart<W> {
    /// Where the bytes were written.
    pub sink: W,
    /// Name of the part in errors.
    pub path: PathBuf,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 of all bytes, in hexadecimal.
    pub sha256: String,
    /// Row groups.
    pub row_groups: u32,
}

/// Begins a Parquet file with this schema.
fn open<W: Write + Send>(
    file: HashingWriter<W>,
    schema: &SchemaRef,
    mut properties: WriterProperties,
) -> Result<Writer<W>, ParquetError> {
    add_encoded_arrow_schema_to_metadata(schema, &mut properties);
    let parquet = ArrowSchemaConverter::new().convert(schema)?;
    SerializedFileWriter::new(file, parquet.root_schema_ptr(), Arc::new(properties))
}

#[cfg(test)]
#[path = "part_tests.rs"]
mod tests;
