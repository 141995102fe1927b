//! Part files: Parquet, written once, durable before anybody hears of them (I1).
//!
//! Row groups are closed by their encoded bytes, so memory does not depend on
//! the size of the chunk (I8). A batch that is wider than a row group has one
//! to itself.

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
use crate::plan::export_plan::WriterSettings;
use crate::relation::column::Column;

/// A part file as records and archives describe it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartFile {
    /// Its name within its directory.
    pub file: String,
    /// Its inode: hard links of it are the same part.
    pub inode: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// Hash of the whole file, hexadecimal.
    pub sha256: String,
    /// Row groups.
    pub row_groups: u32,
    /// Time that fsync took.
    pub fsync_seconds: f64,
}

impl PartFile {
    /// What stands for the part of a chunk without rows where there is no file.
    #[must_use]
    pub fn not_written(file: String) -> Self {
        let sha256 = String::new();
        Self { file, inode: 0, rows: 0, bytes: 0, sha256, row_groups: 0, fsync_seconds: 0.0 }
    }

    /// Whether there is a file.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.bytes > 0
    }
}

/// Why a part could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file system refused: out of space, gone, read-only.
    #[error("write {}", path.display())]
    Storage {
        /// The part.
        path: PathBuf,
        /// What it said; its kind tells a full disk from others.
        source: io::Error,
    },
    /// The rows cannot be put into Parquet.
    #[error("encode {}", path.display())]
    Encode {
        /// The part.
        path: PathBuf,
        /// What the encoder said.
        source: ParquetError,
    },
}

impl WriteError {
    /// Whether it says that there is no space left: not the table's fault,
    /// and over as soon as somebody makes room.
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

    /// The encoder wraps errors of the file; they are storage's all the same.
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

/// Writes one part. Dropping it removes what was written.
pub struct PartWriter {
    path: PathBuf,
    name: String,
    schema: SchemaRef,
    settings: WriterSettings,
    columns: Vec<Column>,
    rows: u64,
    /// Taken away by an error.
    file: Option<Writer>,
    /// The row group that is being encoded.
    group: Option<RowGroup>,
}

type Writer = SerializedFileWriter<HashingWriter<ExclusiveFile>>;

impl PartWriter {
    /// Creates the part in an existing directory, under a temporary name.
    ///
    /// # Errors
    /// When the file cannot be created.
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

    /// Appends a batch; closes the row group when it is large enough.
    ///
    /// # Errors
    /// When the batch cannot be encoded or the file not written. The part is
    /// lost then.
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
        // What is in memory may be much more than what it will be encoded.
        if wide || group.encoded_bytes() >= limit || group.memory_bytes() >= limit.saturating_mul(2) {
            group.write_to(file)?;
        } else {
            self.group = Some(group);
        }
        Ok(())
    }

    /// Finishes the part: complete, durable, under its name.
    ///
    /// # Errors
    /// As [`close`](Self::close) and [`WrittenPart::commit`].
    pub fn finish(self) -> Result<PartFile, WriteError> {
        self.close()?.commit()
    }

    /// Writes what is left; nothing of the rows stays in memory.
    ///
    /// # Errors
    /// When it cannot be encoded or written.
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

/// A part that is complete, but neither durable nor under its name. Dropping it removes it.
pub struct WrittenPart {
    path: PathBuf,
    name: String,
    rows: u64,
    row_groups: u32,
    digested: Digested<ExclusiveFile>,
}

impl WrittenPart {
    /// Makes it durable, under its name. The name becomes durable with the
    /// fsync of the directory that the caller owes for all of its parts, before
    /// anybody hears of them.
    ///
    /// # Errors
    /// When any step fails, or the name is taken.
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

/// Begins a file of this schema.
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
