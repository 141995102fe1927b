//! Compresses pages one after the other, with tables and buffers that are kept.

use std::io::{self, Write};

use parquet::basic::{Compression as Codec, GzipLevel, ZstdLevel};

use crate::message::setting::Compression;

/// What Parquet calls the compression.
pub(super) fn codec(compression: Compression) -> Codec {
    match compression {
        Compression::Snappy => Codec::SNAPPY,
        Compression::Zstd(level) => Codec::ZSTD(ZstdLevel::try_new(i32::from(level)).unwrap_or_default()),
        Compression::Lz4 => Codec::LZ4_RAW,
        Compression::Gzip => Codec::GZIP(GzipLevel::default()),
        Compression::None => Codec::UNCOMPRESSED,
    }
}

/// Compresses the pages of a row group.
pub(super) struct Compressor {
    method: Method,
    /// The last page, compressed, and what the largest one left behind it.
    compressed: Vec<u8>,
}

enum Method {
    None,
    Snappy(Box<snap::raw::Encoder>),
    Zstd(zstd::bulk::Compressor<'static>),
    Lz4,
    Gzip,
}

impl Compressor {
    pub(super) fn new(compression: Compression) -> io::Result<Self> {
        let method = match compression {
            Compression::None => Method::None,
            Compression::Snappy => Method::Snappy(Box::new(snap::raw::Encoder::new())),
            Compression::Zstd(level) => Method::Zstd(zstd::bulk::Compressor::new(i32::from(level))?),
            Compression::Lz4 => Method::Lz4,
            Compression::Gzip => Method::Gzip,
        };
        Ok(Self { method, compressed: Vec::new() })
    }

    /// The page, compressed.
    pub(super) fn compress<'a>(&'a mut self, page: &'a [u8]) -> io::Result<&'a [u8]> {
        let to = &mut self.compressed;
        let bytes = match &mut self.method {
            Method::None => return Ok(page),
            Method::Snappy(encoder) => {
                let to = room(to, snap::raw::max_compress_len(page.len()));
                encoder.compress(page, to).map_err(io::Error::other)?
            }
            Method::Zstd(compressor) => {
                let to = room(to, zstd::zstd_safe::compress_bound(page.len()));
                compressor.compress_to_buffer(page, to)?
            }
            Method::Lz4 => {
                let to = room(to, lz4_flex::block::get_maximum_output_size(page.len()));
                lz4_flex::block::compress_into(page, to).map_err(io::Error::other)?
            }
            Method::Gzip => {
                to.clear();
                let mut encoder = flate2::write::GzEncoder::new(&mut *to, flate2::Compression::default());
                encoder.write_all(page)?;
                encoder.finish()?.len()
            }
        };
        Ok(&self.compressed[..bytes])
    }

    /// Bytes that it has in memory, nearly.
    pub(super) fn memory_bytes(&self) -> usize {
        self.compressed.capacity()
    }
}

/// At least so many bytes; they are not cleared each time.
fn room(buffer: &mut Vec<u8>, bytes: usize) -> &mut [u8] {
    if buffer.len() < bytes {
        buffer.resize(bytes, 0);
    }
    buffer
}
