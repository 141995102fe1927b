//! Part files: Parquet files that are written once and are durable before any message mentions them (I1).
//!
//! A row group ends when its encoded bytes reach the limit, so memory does not depend on the size of the
//! chunk (I8). A batch that is wider than the limit has its own row group.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use serde::{Deserialize, Serialize};

use super::encoding;
use super::hashing::{Digested, HashingWriter};
use super::metadata::Provenance;
use super::row_group::RowGroup;
use crate::folder::exclusive::{ExclusiveFile, Linked};
use crate::folder::is_full;
use crate::plan::column::Column;
use crate::plan::export_plan::WriterSettings;

/// A part file as records and archives describe it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartFile {
    /// Its name within its directory.
    pub file: String,
    /// Its inode: all hard links to the file are the same part.
    pub inode: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 of the whole file, in hexadecimal.
    pub sha256: String,
    /// Row groups.
    pub row_groups: u32,
    /// Duration of the fsync.
    pub fsync_seconds: f64,
}

impl PartFile {
    /// The entry for a chunk without rows, for which no file is written.
    #[must_use]
    pub fn not_written(file: String) -> Self {
        let sha256 = String::new();
        Self { file, inode: 0, rows: 0, bytes: 0, sha256, row_groups: 0, fsync_seconds: 0.0 }
    }

    /// Whether the file exists.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.bytes > 0
    }
}

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

    fn storage(path: &Path, source: io::Error) -> Self {
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

/// Writes one part. Dropping it before [`finish`](Self::finish) removes the file.
pub struct PartWriter {
    path: PathBuf,
    name: String,
    schema: SchemaRef,
    settings: WriterSettings,
    columns: Vec<Column>,
    rows: u64,
    /// `None` after an error.
    file: Option<Writer>,
    /// The row group that is being encoded.
    group: Option<RowGroup>,
}

type Writer = SerializedFileWriter<HashingWriter<ExclusiveFile>>;

impl PartWriter {
    /// Creates the part under a temporary name in an existing directory.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn create(
        dir: &Path,
        file_name: &str,
        schema: SchemaRef,
        settings: &WriterSettings,
        provenance: &Provenance,
        columns: &[Column],
    ) -> Result<Self, WriteError> {
        let path = dir.join(file_name);
        let file = ExclusiveFile::create(&path).map_err(|e| WriteError::storage(&path, e))?;
        let properties = encoding::file_properties(provenance, columns, settings.types);
        let file =
            open(HashingWriter::new(file), &schema, properties).map_err(|e| WriteError::parquet(&path, e))?;
        Ok(Self {
            path,
            name: file_name.to_owned(),
            schema,
            settings: settings.clone(),
            columns: columns.to_vec(),
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

    fn append(&mut self, file: &mut Writer, batch: RecordBatch) -> Result<(), ParquetError> {
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

    /// Finishes the part: afterwards it is complete, durable and has its name.
    ///
    /// # Errors
    /// As [`close`](Self::close) and [`WrittenPart::commit`].
    pub fn finish(self) -> Result<PartFile, WriteError> {
        self.close()?.commit()
    }

    /// Writes the remaining rows, so that no row stays in memory.
    ///
    /// # Errors
    /// If they cannot be encoded or written.
    pub fn close(mut self) -> Result<WrittenPart, WriteError> {
        let mut file = self.file.take().ok_or_else(|| self.broken())?;
        let path = self.path;
        if let Some(group) = self.group {
            group.write_to(&mut file).map_err(|e| WriteError::parquet(&path, e))?;
        }
        let row_groups = u32::try_from(file.flushed_row_groups().len()).unwrap_or(u32::MAX);
        let file = file.into_inner().map_err(|e| WriteError::parquet(&path, e))?;
        let digested = file.finish().map_err(|e| WriteError::storage(&path, e))?;
        Ok(WrittenPart { path, name: self.name, rows: self.rows, row_groups, digested })
    }

    fn broken(&self) -> WriteError {
        WriteError::storage(&self.path, io::Error::other("an earlier error ended this part"))
    }
}

/// A part that is complete, but not durable and without its name. Dropping it removes the file.
pub struct WrittenPart {
    path: PathBuf,
    name: String,
    rows: u64,
    row_groups: u32,
    digested: Digested<ExclusiveFile>,
}

impl WrittenPart {
    /// Makes the part durable and gives it its name. The caller must fsync the directory, once for all of its
    /// parts, before any message mentions them: only then the names are durable.
    ///
    /// # Errors
    /// If any step fails or the name exists.
    pub fn commit(self) -> Result<PartFile, WriteError> {
        let Self { path, name, rows, row_groups, digested: Digested { inner, bytes, sha256 } } = self;
        let storage = |e| WriteError::storage(&path, e);
        let link = inner.commit_unsynced().map_err(storage)?;
        let Linked::New { inode } = link.linked else {
            return Err(storage(io::Error::new(io::ErrorKind::AlreadyExists, "the part exists already")));
        };
        let fsync_seconds = link.fsync.as_secs_f64();
        Ok(PartFile { file: name, inode, rows, bytes, sha256, row_groups, fsync_seconds })
    }
}

/// Begins a Parquet file with this schema.
fn open(
    file: HashingWriter<ExclusiveFile>,
    schema: &SchemaRef,
    mut properties: WriterProperties,
) -> Result<Writer, ParquetError> {
    add_encoded_arrow_schema_to_metadata(schema, &mut properties);
    let parquet = ArrowSchemaConverter::new().convert(schema)?;
    SerializedFileWriter::new(file, parquet.root_schema_ptr(), Arc::new(properties))
}

#[cfg(test)]
#[path = "part_tests.rs"]
mod tests;
