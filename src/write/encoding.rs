//! Chooses the encoding of each column, for each row group, from its first batch.
//!
//! A dictionary makes a column with few distinct values small. Where almost every value is new, a dictionary
//! only costs time: one look-up per value, until the dictionary becomes too large and is given up. The first
//! batch shows well enough which case it is. Whole numbers without a dictionary are stored as differences if
//! these are not larger; a column of ascending keys then nearly vanishes. Columns that `flat/` encodes choose
//! for each page; for others the first batch decides. Portable files have no differences, because not every
//! reader decodes them correctly.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field};
use arrow_schema::extension::{ExtensionType, Json};
use parquet::basic::Encoding;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::compressor::codec;
use super::flat::{BOUND_BYTES, differences_pay, is_signed_whole};
use super::metadata::Provenance;
use crate::message::setting::FileTypes;
use crate::plan::export_plan::WriterSettings;
use crate::relation::column::{Column, ELEMENT};

/// Number of rows in the sample.
const SAMPLE_ROWS: usize = 2048;
/// A dictionary is given up at this size.
const DICTIONARY_BYTES: usize = 1 << 20;
/// A column whose values are longer on average counts as documents.
const LONG_BYTES: usize = 4096;
/// Pages are cut at this size before compression.
const PAGE_BYTES: usize = 1 << 20;

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
    for (column, array) in columns.iter().zip(first.columns()) {
        let field = column.ty.field(&column.name, column.nullable);
        builder = encode(builder, &[&column.name], &field, Some(array), may_differ);
    }
    builder.build()
}

/// Sets the encodings of all leaves of the field at `path`.
fn encode(
    builder: WriterPropertiesBuilder,
    path: &[&str],
    field: &Field,
    array: Option<&ArrayRef>,
    may_differ: bool,
) -> WriterPropertiesBuilder {
    let below = |name| [path, &[name]].concat();
    match field.data_type() {
        DataType::Struct(fields) => fields.iter().enumerate().fold(builder, |builder, (index, field)| {
            let array = array.and_then(|a| a.as_struct_opt()).map(|fields| fields.column(index));
            encode(builder, &below(field.name()), field, array, may_differ)
        }),
        DataType::List(field) => {
            let array = array.and_then(|a| a.as_list_opt::<i32>()).map(|list| list.values());
            encode(builder, &[path, &["list", ELEMENT]].concat(), field, array, may_differ)
        }
        DataType::FixedSizeList(field, _) => {
            let array = array.and_then(|a| a.as_fixed_size_list_opt()).map(|list| list.values());
            encode(builder, &[path, &["list", ELEMENT]].concat(), field, array, may_differ)
        }
        DataType::Map(entries, _) => {
            let pairs =
                array.and_then(|a| a.as_map_opt()).map(|map| Arc::new(map.entries().clone()) as ArrayRef);
            encode(builder, &below(entries.name()), entries, pairs.as_ref(), may_differ)
        }
        _ => encode_leaf(builder, path, field, array, may_differ),
    }
}

fn encode_leaf(
    builder: WriterPropertiesBuilder,
    path: &[&str],
    field: &Field,
    array: Option<&ArrayRef>,
    may_differ: bool,
) -> WriterPropertiesBuilder {
    let path = ColumnPath::new(path.iter().map(|&name| name.to_owned()).collect());
    let whole = is_signed_whole(field.data_type()) || field.data_type() == &DataType::UInt32;
    let long = array.is_some_and(is_long);
    let dictionary = !long && array.is_none_or(|array| pays(array, whole));
    // Documents and blobs get no statistics: nobody filters by a range of them, and the Parquet crate copies
    // whole minima and maxima before it cuts them.
    let is_document = field.data_type() == &DataType::Binary
        || field.extension_type_name() == Some(<Json as ExtensionType>::NAME);
    let statistics = if is_document || long { EnabledStatistics::None } else { EnabledStatistics::Page };
    let builder = builder
        .set_column_statistics_enabled(path.clone(), statistics)
        .set_column_dictionary_enabled(path.clone(), dictionary);
    let differs = may_differ && whole && !dictionary;
    if differs && array.is_some_and(|array| differences_pay(array, SAMPLE_ROWS)) {
        builder.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
    } else {
        builder
    }
}

/// Whether values are long on average. The capacity of the array does not count: the last batch of a chunk
/// has the same capacity as the one before, but fewer values.
fn is_long(array: &ArrayRef) -> bool {
    let bytes = array.to_data().get_slice_memory_size().unwrap_or(usize::MAX);
    bytes / array.len().max(1) > LONG_BYTES
}

/// Whether a dictionary pays for these values: enough of them repeat, and not only next to each other (sorted
/// keys repeat only so). If 90 % of 2048 values are new, the column has about ten thousand distinct values.
/// For texts a dictionary still pays then; whole numbers take as little space without one.
fn pays(array: &ArrayRef, whole: bool) -> bool {
    let rows = array.len().min(SAMPLE_ROWS);
    let mut hashes = Vec::with_capacity(rows);
    match array.data_type() {
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            hashes.extend((0..rows).filter(|&i| array.is_valid(i)).map(|i| hash(array.value(i).as_bytes())));
        }
        DataType::Binary => {
            let array = array.as_binary::<i32>();
            hashes.extend((0..rows).filter(|&i| array.is_valid(i)).map(|i| hash(array.value(i))));
        }
        ty => {
            let Some(width) = ty.primitive_width() else {
                return !matches!(ty, DataType::FixedSizeBinary(_));
            };
            let data = array.to_data();
            let bytes = &data.buffers()[0][data.offset() * width..];
            let values = bytes.chunks_exact(width).take(rows).enumerate();
            hashes.extend(values.filter(|(i, _)| array.is_valid(*i)).map(|(_, value)| hash(value)));
        }
    }
    let found = hashes.len();
    // If no value comes back after its run of equal neighbours, the keys are in order.
    let runs = 1 + hashes.windows(2).filter(|pair| pair[0] != pair[1]).count();
    hashes.sort_unstable();
    hashes.dedup();
    let distinct = hashes.len();
    let keys_in_order = runs == distinct && distinct > found / 16;
    let few = if whole { found / 2 } else { found / 10 * 9 };
    found < 64 || (distinct <= few && !keys_in_order)
}

/// A simple hash, good enough to count distinct values in a sample.
fn hash(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut hash = bytes.len() as u64;
    let mut mix = |word: u64| hash = (hash.rotate_left(23) ^ word).wrapping_mul(FACTOR);
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().for_each(|word| mix(u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(u64::from_le_bytes(last));
    hash
}
