//! Reads a file again and compares it with what was recorded when it was written.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sha2::{Digest, Sha256};

use super::hashing::hexadecimal;

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
pub fn read_back(path: &Path, expected: &Written<'_>) -> Result<(), String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("cannot {what}: {error}");
    let (bytes, sha256) = digest(path).map_err(|e| failed("be read", &e))?;
    if bytes != expected.bytes {
        return Err(format!("has {bytes} bytes, {} were written", expected.bytes));
    }
    if sha256 != expected.sha256 {
        return Err(format!("its content has changed: sha256 is {sha256}, was {}", expected.sha256));
    }
    let file = File::open(path).map_err(|e| failed("be opened", &e))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| failed("read its footer", &e))?;
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

fn digest(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((bytes, hexadecimal(&hasher.finalize()))),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                bytes += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
