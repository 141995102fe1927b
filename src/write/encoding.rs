//! Chooses the encoding of each column, for each row group, from its first batch.
//!
//! A dictionary makes a column with few distinct values small. Where almost every value is new, a dictionary
//! only costs time: one look-up per value, until the dictionary becomes too large and is given up. The first
//! batch shows well enough which case it is (`sample.rs`). Whole numbers without a dictionary are stored as
//! differences if these are not larger; a column of ascending keys then nearly vanishes. So are the numbers
//! that come after a dictionary was given up. Columns that `flat/` encodes choose for each page; for others
//! the first batch decides. Portable files have no differences, because not every reader decodes them
//! correctly.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field};
use arrow_schema::extension::{ExtensionType, Json};
use parquet::basic::Encoding;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::compressor::codec;
use super::flat::BOUND_BYTES;
use super::metadata::Provenance;
use super::sample::{self, Rest, Sample};
use crate::message::setting::{Compression, FileTypes};
use crate::plan::export_plan::WriterSettings;
use crate::relation::column::{Column, ELEMENT};

/// A dictionary is given up at this size.
const DICTIONARY_BYTES: usize = 1 << 20;
/// A column whose values are longer on average counts as documents.
const LONG_BYTES: usize = 4096;
/// Pages are cut at this size before compression.
const PAGE_BYTES: usize = 1 << 20;
/// Rows take about this many times less space in a file than in memory.
const SHRINKING: usize = 4;
/// A batch of few rows that has less memory is the last one of its chunk.
const SHORT_BYTES: usize = 1 << 20;

/// How the values of a leaf are stored.
#[derive(Clone, Copy)]
struct Choice {
    dictionary: bool,
    /// Whether values that are in no dictionary are differences.
    differences: bool,
}

/// The writer of a file, in the form that parquet-java parses:
/// <https://github.com/apache/parquet-java/blob/master/parquet-common/src/main/java/org/apache/parquet/VersionParser.java>.
const CREATED_BY: &str =
    concat!("adu-export version ", env!("CARGO_PKG_VERSION"), " (build ", env!("ADU_EXPORT_BUILD"), ")");

/// The properties of a whole file.
pub(super) fn file_properties(
    provenance: &Provenance,
    columns: &[Column],
    types: FileTypes,
) -> WriterProperties {
    WriterProperties::builder()
        .set_created_by(CREATED_BY.to_owned())
        .set_key_value_metadata(Some(provenance.key_values(columns, types)))
        .build()
}

/// The properties of a row group that begins with this batch. A wide batch is the only one of its row group,
/// and its pages are written when the batch is no longer in memory.
pub(super) fn properties(
    settings: &WriterSettings,
    columns: &[Column],
    first: &RecordBatch,
    wide: bool,
) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_compression(codec(settings.compression))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_statistics_truncate_length(Some(BOUND_BYTES))
        .set_column_index_truncate_length(Some(BOUND_BYTES))
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_data_page_size_limit(if wide { usize::MAX } else { PAGE_BYTES });
    let may_differ = settings.types.is_exact();
    if !may_differ {
        builder = builder.set_encoding(Encoding::PLAIN);
    }
    let rest = rest(settings, first);
    for (column, array) in columns.iter().zip(first.columns()) {
        let field = column.ty.field(&column.name, column.nullable);
        builder = encode(builder, &[&column.name], &field, Some(array), &rest);
    }
    builder.build()
}

/// What is known about the row group that begins with this batch.
fn rest(settings: &WriterSettings, first: &RecordBatch) -> Rest {
    let bytes = first.columns().iter().map(bytes_of).fold(0, usize::saturating_add);
    let limit = usize::try_from(settings.row_group_bytes).unwrap_or(usize::MAX);
    let is_last = first.num_rows() < sample::ROWS && bytes < SHORT_BYTES;
    let batches = if is_last { 1 } else { limit.saturating_mul(SHRINKING) / bytes.max(1) };
    Rest {
        batches: batches.max(1),
        dictionary_bytes: DICTIONARY_BYTES,
        is_compressed: settings.compression != Compression::None,
        may_differ: settings.types.is_exact(),
    }
}

/// Sets the encodings of all leaves of the field at `path`.
fn encode(
    builder: WriterPropertiesBuilder,
    path: &[&str],
    field: &Field,
    array: Option<&ArrayRef>,
    rest: &Rest,
) -> WriterPropertiesBuilder {
    let below = |name| [path, &[name]].concat();
    match field.data_type() {
        DataType::Struct(fields) => fields.iter().enumerate().fold(builder, |builder, (index, field)| {
            let array = array.and_then(|a| a.as_struct_opt()).map(|fields| fields.column(index));
            encode(builder, &below(field.name()), field, array, rest)
        }),
        DataType::List(field) => {
            let array = array.and_then(|a| a.as_list_opt::<i32>()).map(|list| list.values());
            encode(builder, &[path, &["list", ELEMENT]].concat(), field, array, rest)
        }
        DataType::FixedSizeList(field, _) => {
            let array = array.and_then(|a| a.as_fixed_size_list_opt()).map(|list| list.values());
            encode(builder, &[path, &["list", ELEMENT]].concat(), field, array, rest)
        }
        DataType::Map(entries, _) => {
            let pairs =
                array.and_then(|a| a.as_map_opt()).map(|map| Arc::new(map.entries().clone()) as ArrayRef);
            encode(builder, &below(entries.name()), entries, pairs.as_ref(), rest)
        }
        _ => encode_leaf(builder, path, field, array, rest),
    }
}

fn encode_leaf(
    builder: WriterPropertiesBuilder,
    path: &[&str],
    field: &Field,
    array: Option<&ArrayRef>,
    rest: &Rest,
) -> WriterPropertiesBuilder {
    let path = ColumnPath::new(path.iter().map(|&name| name.to_owned()).collect());
    let long = array.is_some_and(is_long);
    let choice = match array {
        Some(_) if long => Choice { dictionary: false, differences: false },
        Some(array) => choose(array, rest),
        None => Choice { dictionary: true, differences: false },
    };
    // Documents and blobs get no statistics: nobody filters by a range of them, and the Parquet crate copies
    // whole minima and maxima before it cuts them.
    let is_document = field.data_type() == &DataType::Binary
        || field.extension_type_name() == Some(<Json as ExtensionType>::NAME);
    let statistics = if is_document || long { EnabledStatistics::None } else { EnabledStatistics::Page };
    let builder = builder
        .set_column_statistics_enabled(path.clone(), statistics)
        .set_column_dictionary_enabled(path.clone(), choice.dictionary);
    if choice.differences {
        builder.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
    } else {
        builder
    }
}

fn choose(array: &ArrayRef, rest: &Rest) -> Choice {
    match Sample::of(array) {
        Some(sample) => Choice {
            dictionary: sample.dictionary_pays(rest),
            differences: rest.may_differ && sample.differences_pay(),
        },
        // Identifiers hardly ever repeat.
        None => Choice {
            dictionary: !matches!(array.data_type(), DataType::FixedSizeBinary(_)),
            differences: false,
        },
    }
}

/// Whether values are long on average. The capacity of the array does not count: the last batch of a chunk
/// has the same capacity as the one before, but fewer values.
fn is_long(array: &ArrayRef) -> bool {
    bytes_of(array) / array.len().max(1) > LONG_BYTES
}

fn bytes_of(array: &ArrayRef) -> usize {
    array.to_data().get_slice_memory_size().unwrap_or(usize::MAX)
}

#[cfg(test)]
#[path = "size_tests.rs"]
mod tests;
