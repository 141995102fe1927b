//! Reads a file again and compares it with what was recorded when it was written.

use std::io::{self, BufReader, Read};
use std::sync::Arc;

use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use sha2::{Digest, Sha256};

use crate::destination::PublishedFile;

/// What was recorded when the file was written.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// Rows.
    pub rows: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the file, as `sha256sum` prints it.
    pub sha256: &'a str,
}

/// Checks size, hash, footer and rows of a file. It decodes all pages.
///
/// # Errors
/// Says what differs, for an operator who knows the name of the file.
pub fn read_back(file: Arc<dyn PublishedFile>, expected: &Written<'_>) -> Result<(), String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("cannot {what}: {error}");
    let (bytes, sha256) = digest(&*file).map_err(|e| failed("be read", &e))?;
    if bytes != expected.bytes {
        return Err(format!("has {bytes} bytes, {} were written", expected.bytes));
    }
    if sha256 != expected.sha256 {
        return Err(format!("its content has changed: sha256 is {sha256}, was {}", expected.sha256));
    }
    let reader = ParquetRecordBatchReaderBuilder::try_new(Reading { file, bytes })
        .map_err(|e| failed("read its footer", &e))?;
    let claimed = reader.metadata().file_metadata().num_rows();
    if u64::try_from(claimed) != Ok(expected.rows) {
        return Err(format!("its footer says {claimed} rows, {} were written", expected.rows));
    }
    let batches = reader.build().map_err(|e| failed("be read as Parquet", &e))?;
    let mut rows = 0;
    for batch in batches {
        rows += batch.map_err(|e| failed("be read as Parquet", &e))?.num_rows() as u64;
    }
    if rows != expected.rows {
        return Err(format!("has {rows} rows, {} were written", expected.rows));
    }
    Ok(())
}

fn digest(file: &dyn PublishedFile) -> io::Result<(u64, String)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        match file.read_at(bytes, &mut buffer) {
            Ok(0) => return Ok((bytes, hex::encode(hasher.finalize()))),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                bytes += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A published file as the Parquet crate reads it.
struct Reading {
    file: Arc<dyn PublishedFile>,
    bytes: u64,
}

impl Length for Reading {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for Reading {
    type T = BufReader<Rest>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::new(Rest { file: Arc::clone(&self.file), position: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let mut bytes = vec![0; length];
        let mut from = Rest { file: Arc::clone(&self.file), position: start };
        from.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// A published file from a position on.
struct Rest {
    file: Arc<dyn PublishedFile>,
    position: u64,
}

impl Read for Rest {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(self.position, into)?;
        self.position += read as u64;
        Ok(read)
    }
}
