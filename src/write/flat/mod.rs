//! Encodes columns of whole numbers and texts that are not nested.
//!
//! The Parquet crate can encode them too, and encodes all other columns. But exports spend most of their
//! Parquet time on such columns, and the crate is slow there: it hashes and compares each dictionary value as
//! a whole, even one of a few bytes, and it compares value by value for minima and maxima. Its encoders
//! cannot be replaced one by one. Our output is nearly the same as the crate's: data pages of version 1,
//! dictionaries, plain texts, differences, statistics and page indexes. The one difference: whole numbers
//! whose dictionary is given up become differences, if these are not larger than plain numbers.

mod bound;
mod delta;
mod index;
mod keys;
mod near;
mod numbers;
mod pack;
mod pages;
mod splice;
mod table;
mod text;
mod values;
mod whole;

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int32Type, UInt32Type};
use parquet::basic::{Encoding, Type};
use parquet::errors::Result;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedRowGroupWriter;
use parquet::schema::types::ColumnDescPtr;

use self::pages::Pages;
use self::text::Text;
use self::values::Values;
use self::whole::{Whole, is_signed_whole};
use super::compressor::{Compressor, KEEP_BYTES};
use crate::message::setting::Compression;

pub(super) use self::bound::BOUND_BYTES;
pub(super) use self::delta::bytes_of_differences;

/// A column chunk that is being encoded.
pub(super) struct FlatColumn {
    values: Box<dyn Values>,
    pages: Pages,
    page_rows: usize,
}

/// Buffers that the columns of a row group share while they finish their pages.
pub(super) struct Workspace {
    /// A page before compression.
    body: Vec<u8>,
    compressor: Compressor,
}

impl Workspace {
    pub(super) fn new(compression: Compression) -> Result<Self> {
        Ok(Self { body: Vec::new(), compressor: Compressor::new(compression)? })
    }

    /// Approximate size in memory, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.body.capacity() + self.compressor.memory_bytes()
    }
}

impl FlatColumn {
    /// An empty column; `None` if columns of this kind are not encoded here.
    pub(super) fn begin(
        descriptor: &ColumnDescPtr,
        ty: &DataType,
        properties: &WriterProperties,
        workspace: &Workspace,
    ) -> Option<Self> {
        let path = descriptor.path();
        let has_statistics = properties.statistics_enabled(path) != EnabledStatistics::None;
        let dictionary_bytes =
            properties.dictionary_enabled(path).then(|| properties.dictionary_page_size_limit());
        let values: Box<dyn Values> = match ty {
            // Bounds are cut as texts, so only byte columns without bounds are encoded here. `encoding.rs`
            // gives byte columns none.
            DataType::Binary if has_statistics => return None,
            DataType::Utf8 | DataType::Binary => {
                let page_bytes = properties.data_page_size_limit();
                Box::new(Text::new(dictionary_bytes, page_bytes, has_statistics))
            }
            ty if is_signed_whole(ty) => {
                let is_int32 = descriptor.physical_type() == Type::INT32;
                let has_differences = properties.encoding(path) != Some(Encoding::PLAIN);
                Box::new(Whole::new(is_int32, dictionary_bytes, has_differences, has_statistics))
            }
            _ => return None,
        };
        let pages = Pages::new(descriptor.clone(), workspace.compressor.codec(), has_statistics);
        Some(Self { values, pages, page_rows: properties.data_page_row_count_limit() })
    }

    /// Encodes the next rows.
    pub(super) fn write(&mut self, array: &ArrayRef, workspace: &mut Workspace) -> Result<()> {
        let mut row = 0;
        while row < array.len() {
            let end = array.len().min(row + self.page_rows - self.pages.rows());
            let taken = self.values.append(array, row..end);
            self.pages.append_rows(array.nulls(), row..row + taken);
            row += taken;
            if row < end || self.pages.rows() == self.page_rows {
                self.finish_page(false, workspace)?;
            }
        }
        Ok(())
    }

    fn finish_page(&mut self, is_last: bool, workspace: &mut Workspace) -> Result<()> {
        if self.pages.rows() == 0 {
            return Ok(());
        }
        let Workspace { body, compressor } = workspace;
        self.pages.levels(body);
        let values = self.values.finish_page(is_last, body);
        self.pages.finish(body, values, compressor)?;
        body.clear();
        body.shrink_to(KEEP_BYTES);
        Ok(())
    }

    /// Approximate size in the file, in bytes.
    pub(super) fn encoded_bytes(&self) -> usize {
        self.pages.bytes() + self.values.encoded_bytes()
    }

    /// Approximate size in memory, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.pages.bytes() + self.values.memory_bytes()
    }

    /// Writes the column chunk.
    pub(super) fn write_to<W: Write + Send>(
        mut self,
        group: &mut SerializedRowGroupWriter<'_, W>,
        workspace: &mut Workspace,
    ) -> Result<()> {
        self.finish_page(true, workspace)?;
        let dictionary = self.values.take_dictionary();
        drop(self.values);
        let (chunk, close) = self.pages.close(dictionary, &mut workspace.compressor)?;
        group.append_column(&chunk, close)
    }
}

/// The first rows that have a value, as Parquet stores whole numbers, and the size of one of them in bytes.
/// `None` for values that are no whole numbers.
pub(super) fn whole_numbers(array: &dyn Array, rows: usize) -> Option<(Vec<i64>, usize)> {
    let array: ArrayRef = match array.data_type() {
        // The file stores it as a number of 32 bits, too.
        DataType::UInt32 => Arc::new(array.as_primitive::<UInt32Type>().unary::<_, Int32Type>(|n| n as i32)),
        ty if is_signed_whole(ty) => array.slice(0, rows),
        _ => return None,
    };
    let is_int32 = match array.data_type() {
        DataType::Decimal128(precision, _) => *precision <= 9,
        ty => ty.primitive_width().is_some_and(|width| width <= size_of::<i32>()),
    };
    let mut numbers = Whole::new(is_int32, None, false, false);
    numbers.append(&array, 0..rows);
    let mut plain = Vec::new();
    numbers.finish_page(true, &mut plain);
    Some(if is_int32 {
        let numbers = plain.as_chunks().0.iter().map(|&bytes| i32::from_le_bytes(bytes).into());
        (numbers.collect(), size_of::<i32>())
    } else {
        let numbers = plain.as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes));
        (numbers.collect(), size_of::<i64>())
    })
}

#[cfg(test)]
mod tests;
