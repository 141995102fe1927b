//! Counts, minima and maxima of the pages of a column chunk, for the footer and the page indexes.

use parquet::basic::{BoundaryOrder, Type};
use parquet::errors::Result;
use parquet::file::metadata::{
    ColumnChunkMetaDataBuilder, ColumnIndexBuilder, LevelHistogram, OffsetIndexBuilder,
};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::page_index::offset_index::OffsetIndexMetaData;

use super::bound::{Bounds, statistics};
use super::values::Encoded;

/// The statistics and indexes of a column chunk; every page adds to them.
pub(super) struct Indexes {
    ty: Type,
    has_statistics: bool,
    /// Whether values may be NULL.
    is_nullable: bool,
    column: ColumnIndexBuilder,
    offset: OffsetIndexBuilder,
    /// The bounds of all pages.
    bounds: Option<Bounds>,
    /// The bounds of the last page with a value, in the form of the column index.
    last: Option<Bounds>,
    is_ascending: bool,
    is_descending: bool,
    rows: u64,
    nulls: u64,
    text_bytes: Option<u64>,
}

impl Indexes {
    pub(super) fn new(ty: Type, is_nullable: bool, has_statistics: bool) -> Self {
        Self {
            ty,
            has_statistics,
            is_nullable,
            column: ColumnIndexBuilder::new(ty),
            offset: OffsetIndexBuilder::new(),
            bounds: None,
            last: None,
            is_ascending: true,
            is_descending: true,
            rows: 0,
            nulls: 0,
            text_bytes: None,
        }
    }

    /// Rows of all pages.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds a page.
    pub(super) fn append(&mut self, rows: usize, nulls: usize, values: Encoded) {
        self.rows += rows as u64;
        self.nulls += nulls as u64;
        self.offset.append_row_count(rows as i64);
        self.offset.append_unencoded_byte_array_data_bytes(values.text_bytes.map(|bytes| bytes as i64));
        if let Some(bytes) = values.text_bytes {
            *self.text_bytes.get_or_insert(0) += bytes;
        }
        let levels = self.is_nullable.then(|| levels(nulls as u64, rows as u64));
        self.column.append_histograms(&None, &levels);
        let Some(bounds) = values.bounds else {
            return self.column.append(true, Vec::new(), Vec::new(), nulls as i64, None);
        };
        match bounds.written() {
            Some(written) => {
                if let Some(last) = &self.last {
                    self.is_ascending &= last.min <= written.min && last.max <= written.max;
                    self.is_descending &= last.min >= written.min && last.max >= written.max;
                }
                let (min, max) = written.to_bytes();
                self.column.append(false, min, max, nulls as i64, None);
                self.last = Some(written);
            }
            // A column index needs bounds of every page.
            None => self.column.to_invalid(),
        }
        match &mut self.bounds {
            Some(all) => all.include(&bounds),
            none => *none = Some(bounds),
        }
    }

    /// Builds the indexes for pages of these sizes, the first of which begins at `start`, and adds the
    /// statistics to the footer.
    pub(super) fn close(
        mut self,
        mut footer: ColumnChunkMetaDataBuilder,
        mut start: usize,
        sizes: impl Iterator<Item = usize>,
    ) -> Result<(ColumnChunkMetaDataBuilder, Option<ColumnIndexMetaData>, OffsetIndexMetaData)> {
        for size in sizes {
            self.offset.append_offset_and_size(start as i64, size as i32);
            start += size;
        }
        if !self.has_statistics {
            return Ok((footer, None, self.offset.build()));
        }
        footer = footer
            .set_statistics(statistics(self.ty, self.bounds, self.nulls))
            .set_unencoded_byte_array_data_bytes(self.text_bytes.map(|bytes| bytes as i64))
            .set_definition_level_histogram(self.is_nullable.then(|| levels(self.nulls, self.rows)));
        self.column.set_boundary_order(match (self.is_ascending, self.is_descending) {
            (true, _) => BoundaryOrder::ASCENDING,
            (false, true) => BoundaryOrder::DESCENDING,
            (false, false) => BoundaryOrder::UNORDERED,
        });
        let column = if self.column.valid() { Some(self.column.build()?) } else { None };
        Ok((footer, column, self.offset.build()))
    }
}

/// The number of NULLs and the number of values.
fn levels(nulls: u64, rows: u64) -> LevelHistogram {
    LevelHistogram::from(vec![nulls as i64, (rows - nulls) as i64])
}
