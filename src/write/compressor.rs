//! Compresses pages one after the other, and reuses its tables and buffers.

use std::fmt::Display;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression as Codec, GzipLevel, ZstdLevel};
use parquet::errors::{ParquetError, Result};

use crate::message::setting::Compression;

/// The compression in the terms of the Parquet crate.
pub(super) fn codec(compression: Compression) -> Codec {
    match compression {
        Compression::Snappy => Codec::SNAPPY,
        Compression::Zstd(level) => Codec::ZSTD(ZstdLevel::try_new(i32::from(level)).unwrap_or_default()),
        Compression::Lz4 => Codec::LZ4_RAW,
        Compression::Gzip => Codec::GZIP(GzipLevel::default()),
        Compression::None => Codec::UNCOMPRESSED,
    }
}

/// Buffers up to this size are kept for the next page.
pub(super) const KEEP_BYTES: usize = 4 << 20;

/// Compresses the pages of a row group.
pub(super) struct Compressor {
    codec: Codec,
    method: Method,
    /// A buffer as long as the longest compressed page so far could be. The bytes after the current page are
    /// meaningless.
    compressed: Arc<Vec<u8>>,
}

/// A page in the compressor's buffer. The compressor reuses the buffer when this is dropped.
struct Lent {
    buffer: Arc<Vec<u8>>,
    bytes: usize,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.bytes]
    }
}

enum Method {
    None,
    Snappy(Box<snap::raw::Encoder>),
    Zstd(zstd::bulk::Compressor<'static>),
    Lz4,
    Gzip,
}

impl Compressor {
    pub(super) fn new(compression: Compression) -> Result<Self> {
        let method = match compression {
            Compression::None => Method::None,
            Compression::Snappy => Method::Snappy(Box::new(snap::raw::Encoder::new())),
            Compression::Zstd(level) => {
                let compressor = zstd::bulk::Compressor::new(i32::from(level));
                Method::Zstd(compressor.map_err(|e| ParquetError::General(format!("start zstd: {e}")))?)
            }
            Compression::Lz4 => Method::Lz4,
            Compression::Gzip => Method::Gzip,
        };
        Ok(Self { codec: codec(compression), method, compressed: Arc::default() })
    }

    /// The compression in the terms of the Parquet crate.
    pub(super) fn codec(&self) -> Codec {
        self.codec
    }

    /// Compresses a page.
    pub(super) fn compress(&mut self, page: &[u8]) -> Result<Bytes> {
        let failed =
            |error: &dyn Display| ParquetError::General(format!("a page is not compressed: {error}"));
        if Arc::get_mut(&mut self.compressed).is_none() {
            self.compressed = Arc::default();
        }
        let to = Arc::get_mut(&mut self.compressed).expect("nobody else has a buffer that is new");
        let bytes = match &mut self.method {
            Method::None => return Ok(Bytes::copy_from_slice(page)),
            Method::Snappy(encoder) => {
                let to = room(to, snap::raw::max_compress_len(page.len()));
                encoder.compress(page, to).map_err(|e| failed(&e))?
            }
            Method::Zstd(compressor) => {
                let to = room(to, zstd::zstd_safe::compress_bound(page.len()));
                compressor.compress_to_buffer(page, to).map_err(|e| failed(&e))?
            }
            Method::Lz4 => {
                let to = room(to, lz4_flex::block::get_maximum_output_size(page.len()));
                lz4_flex::block::compress_into(page, to).map_err(|e| failed(&e))?
            }
            Method::Gzip => {
                to.clear();
                let mut encoder = flate2::write::GzEncoder::new(&mut *to, flate2::Compression::default());
                encoder.write_all(page).map_err(|e| failed(&e))?;
                encoder.finish().map_err(|e| failed(&e))?.len()
            }
        };
        let page = Bytes::from_owner(Lent { buffer: Arc::clone(&self.compressed), bytes });
        if self.compressed.len() > KEEP_BYTES {
            self.compressed = Arc::default();
        }
        Ok(page)
    }

    /// Approximate size in memory, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.compressed.capacity()
    }
}

/// Makes the buffer at least `bytes` long, without clearing it.
fn room(buffer: &mut Vec<u8>, bytes: usize) -> &mut [u8] {
    if buffer.len() < bytes {
        buffer.resize(bytes, 0);
    }
    buffer
}
