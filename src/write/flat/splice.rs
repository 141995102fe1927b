//! Reads separate pages as one column chunk, so that they need not be copied together before they are
//! written.

use std::io::{self, Read};
use std::vec;

use bytes::{Buf, Bytes};
use parquet::errors::Result;
use parquet::file::reader::{ChunkReader, Length};

/// The pages of a column chunk, in order. The writer of the file reads them once, from the start.
pub(super) struct Splice(Vec<Bytes>);

impl Splice {
    pub(super) fn new(pages: Vec<Bytes>) -> Self {
        Self(pages)
    }
}

impl Length for Splice {
    fn len(&self) -> u64 {
        self.0.iter().map(|page| page.len() as u64).sum()
    }
}

impl ChunkReader for Splice {
    type T = SpliceReader;

    fn get_read(&self, start: u64) -> Result<SpliceReader> {
        let mut reader = SpliceReader { page: Bytes::new(), rest: self.0.clone().into_iter() };
        io::copy(&mut reader.by_ref().take(start), &mut io::sink())?;
        Ok(reader)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let mut bytes = vec![0; length];
        self.get_read(start)?.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// Reads a [`Splice`].
pub(super) struct SpliceReader {
    page: Bytes,
    rest: vec::IntoIter<Bytes>,
}

impl Read for SpliceReader {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.page.is_empty() {
            match self.rest.next() {
                Some(page) => self.page = page,
                None => return Ok(0),
            }
        }
        let bytes = to.len().min(self.page.len());
        self.page.copy_to_slice(&mut to[..bytes]);
        Ok(bytes)
    }
}
