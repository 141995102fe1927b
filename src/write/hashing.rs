//! A buffered writer that hashes the bytes it writes.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

/// Size of the buffer.
const BUFFER: usize = 1 << 20;

/// Writes to `inner` in large pieces. It counts and hashes the bytes.
pub(super) struct HashingWriter<W: Write> {
    inner: W,
    buffer: Vec<u8>,
    hasher: Sha256,
    bytes: u64,
}

/// The result of a [`HashingWriter`].
pub(super) struct Digested<W> {
    pub(super) inner: W,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

impl<W: Write> HashingWriter<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, buffer: Vec::new(), hasher: Sha256::new(), bytes: 0 }
    }

    /// Writes the buffered bytes and frees the buffer.
    pub(super) fn relieve(&mut self) -> io::Result<()> {
        self.write_buffer()?;
        self.buffer = Vec::new();
        Ok(())
    }

    /// Writes the buffered bytes and returns the inner writer.
    pub(super) fn finish(mut self) -> io::Result<Digested<W>> {
        self.write_buffer()?;
        let sha256 = hex::encode(self.hasher.finalize());
        Ok(Digested { inner: self.inner, bytes: self.bytes, sha256 })
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        self.hasher.update(&self.buffer);
        self.inner.write_all(&self.buffer)?;
        self.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.write_buffer()?;
        }
        if bytes.len() >= BUFFER {
            self.hasher.update(bytes);
            self.inner.write_all(bytes)?;
            self.bytes += bytes.len() as u64;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    /// Does nothing: nobody reads the file before it is finished.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
