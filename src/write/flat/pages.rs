//! The pages of one column chunk.

use std::ops::Range;

use arrow::array::BooleanBufferBuilder;
use arrow::buffer::NullBuffer;
use bytes::Bytes;
use parquet::basic::{Compression as Codec, Encoding, EncodingMask};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::Result;
use parquet::file::metadata::{ColumnChunkMetaData, PageEncodingStats};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use super::index::Indexes;
use super::pack::{packed_header, run};
use super::splice::Splice;
use super::values::Encoded;
use crate::write::compressor::Compressor;

/// Approximate size of a page's header, in bytes.
const HEADER_BYTES: usize = 32;

/// The finished pages of a column, and the NULLs of the current page.
pub(super) struct Pages {
    descriptor: ColumnDescPtr,
    codec: Codec,
    /// Which rows of the current page have a value; `None` if the column cannot be NULL.
    validity: Option<BooleanBufferBuilder>,
    rows: usize,
    nulls: usize,
    /// The finished pages, as the file will have them.
    finished: Vec<Bytes>,
    bytes: usize,
    /// Size of the finished pages before compression, in bytes.
    uncompressed: usize,
    encodings: Vec<PageEncodingStats>,
    indexes: Indexes,
}

impl Pages {
    /// A column without pages.
    pub(super) fn new(descriptor: ColumnDescPtr, codec: Codec, has_statistics: bool) -> Self {
        let is_nullable = descriptor.max_def_level() > 0;
        let indexes = Indexes::new(descriptor.physical_type(), is_nullable, has_statistics);
        Self {
            descriptor,
            codec,
            validity: is_nullable.then(|| BooleanBufferBuilder::new(0)),
            rows: 0,
            nulls: 0,
            finished: Vec::new(),
            bytes: 0,
            uncompressed: 0,
            encodings: Vec::new(),
            indexes,
        }
    }

    /// Rows of the current page.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Size of the finished pages, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds rows to the current page, with their NULLs.
    pub(super) fn append_rows(&mut self, nulls: Option<&NullBuffer>, rows: Range<usize>) {
        self.rows += rows.len();
        let Some(validity) = &mut self.validity else { return };
        match nulls.map(|nulls| nulls.slice(rows.start, rows.len())) {
            Some(nulls) => {
                self.nulls += nulls.null_count();
                validity.append_buffer(nulls.inner());
            }
            None => validity.append_n(rows.len(), true),
        }
    }

    /// Appends the levels, which come before the values of the page and say which rows have one.
    pub(super) fn levels(&self, body: &mut Vec<u8>) {
        let Some(validity) = &self.validity else { return };
        let start = body.len();
        body.extend_from_slice(&[0; 4]);
        if self.nulls == 0 || self.nulls == self.rows {
            run(u32::from(self.nulls == 0), self.rows, 1, body);
        } else {
            // Bit-packed levels are the same as the validity bitmap.
            packed_header(self.rows, body);
            body.extend_from_slice(&validity.as_slice()[..self.rows.div_ceil(8)]);
        }
        let length = (body.len() - start - 4) as u32;
        body[start..start + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// Finishes the current page. Its levels and values are in `body`.
    pub(super) fn finish(&mut self, body: &[u8], values: Encoded, compressor: &mut Compressor) -> Result<()> {
        let page = Page::DataPage {
            buf: compressor.compress(body)?,
            num_values: self.rows as u32,
            encoding: values.encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let page = self.serialize(page, body.len())?;
        self.bytes += page.len();
        self.finished.push(page);
        self.indexes.append(self.rows, self.nulls, values);
        (self.rows, self.nulls) = (0, 0);
        if let Some(validity) = &mut self.validity {
            validity.truncate(0);
        }
        Ok(())
    }

    /// Finishes the column chunk: its pages, and its metadata.
    pub(super) fn close(
        mut self,
        dictionary: Option<(Vec<u8>, usize)>,
        compressor: &mut Compressor,
    ) -> Result<(Splice, ColumnCloseResult)> {
        let mut dictionary_bytes = 0;
        if let Some((plain, entries)) = dictionary {
            let page = Page::DictionaryPage {
                buf: compressor.compress(&plain)?,
                num_values: entries as u32,
                encoding: Encoding::PLAIN,
                is_sorted: false,
            };
            let page = self.serialize(page, plain.len())?;
            dictionary_bytes = page.len();
            // The dictionary comes before the data pages.
            self.encodings.rotate_right(1);
            self.finished.insert(0, page);
        }
        let bytes = dictionary_bytes + self.bytes;
        let sizes = self.finished.iter().map(Bytes::len).skip(usize::from(dictionary_bytes > 0));
        let levels = [Encoding::RLE];
        let encodings = self.encodings.iter().map(|stats| &stats.encoding).chain(&levels);
        let rows = self.indexes.rows();
        let footer = ColumnChunkMetaData::builder(self.descriptor)
            .set_compression(self.codec)
            .set_encodings_mask(EncodingMask::new_from_encodings(encodings))
            .set_page_encoding_stats(self.encodings.clone())
            .set_total_compressed_size(bytes as i64)
            .set_total_uncompressed_size(self.uncompressed as i64)
            .set_num_values(rows as i64)
            .set_data_page_offset(dictionary_bytes as i64)
            .set_dictionary_page_offset((dictionary_bytes > 0).then_some(0));
        let (footer, column_index, offset_index) = self.indexes.close(footer, dictionary_bytes, sizes)?;
        let close = ColumnCloseResult {
            bytes_written: bytes as u64,
            rows_written: rows,
            metadata: footer.build()?,
            bloom_filter: None,
            column_index,
            offset_index: Some(offset_index),
        };
        Ok((Splice::new(self.finished), close))
    }

    /// Makes the bytes of a page with its header, and counts the page.
    fn serialize(&mut self, page: Page, uncompressed: usize) -> Result<Bytes> {
        let (page_type, encoding) = (page.page_type(), page.encoding());
        let mut sink = TrackedWrite::new(Vec::with_capacity(page.buffer().len() + HEADER_BYTES));
        let written =
            SerializedPageWriter::new(&mut sink).write_page(CompressedPage::new(page, uncompressed))?;
        self.uncompressed += written.uncompressed_size;
        match self.encodings.last_mut() {
            Some(last) if last.page_type == page_type && last.encoding == encoding => last.count += 1,
            _ => self.encodings.push(PageEncodingStats { page_type, encoding, count: 1 }),
        }
        Ok(sink.into_inner()?.into())
    }
}
