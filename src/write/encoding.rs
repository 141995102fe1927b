//! How each column is encoded: decided per file from its first batch.
//!
//! A dictionary makes columns of few values small, and costs a hash look-up
//! per value before it overflows and is given up where almost every value is
//! new. The first batch tells the two apart well enough.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use parquet::basic::{Compression as Codec, GzipLevel, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::metadata::Provenance;
use crate::message::setting::Compression;
use crate::plan::column::{Column, ColumnType};
use crate::plan::export_plan::WriterSettings;

/// Rows that are looked at.
const SAMPLE_ROWS: usize = 8192;
/// A dictionary is given up when it is this large.
const DICTIONARY_BYTES: usize = 1 << 20;
/// Pages are cut at this size before compression.
const PAGE_BYTES: usize = 1 << 20;
/// Bytes of text that minima and maxima keep.
const STATISTICS_BYTES: usize = 64;

/// The properties of a file; `first` is its first batch, if it has any row.
pub(super) fn properties(
    settings: &WriterSettings,
    provenance: &Provenance,
    columns: &[Column],
    first: Option<&RecordBatch>,
) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_compression(codec(settings.compression))
        .set_created_by(format!("adu-export {}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(provenance.key_values(columns)))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_statistics_truncate_length(Some(STATISTICS_BYTES))
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_data_page_size_limit(PAGE_BYTES);
    for (index, column) in columns.iter().enumerate() {
        let array = first.and_then(|batch| batch.columns().get(index));
        builder = encode(builder, column, array);
    }
    builder.build()
}

fn encode(
    builder: WriterPropertiesBuilder,
    column: &Column,
    array: Option<&ArrayRef>,
) -> WriterPropertiesBuilder {
    let (path, elements) = match &column.ty {
        ColumnType::List(_) => {
            let path = vec![column.name.clone(), "list".to_owned(), "element".to_owned()];
            let elements = array.and_then(|a| a.as_list_opt::<i32>()).map(|list| list.values());
            (path, elements)
        }
        _ => (vec![column.name.clone()], array),
    };
    let dictionary = elements.is_none_or(pays);
    let path = ColumnPath::new(path);
    // Nobody looks for a range of documents or blobs, and their extremes are
    // copied whole before they are cut.
    let statistics = match &column.ty {
        ColumnType::Json | ColumnType::Bytes => EnabledStatistics::None,
        _ => EnabledStatistics::Page,
    };
    builder
        .set_column_statistics_enabled(path.clone(), statistics)
        .set_column_dictionary_enabled(path, dictionary)
}

/// Whether a dictionary pays for values like these: at most every second one
/// is new, and they do not simply ascend (keys in order never come again).
fn pays(array: &ArrayRef) -> bool {
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
    // Runs of equal neighbours that never come back are keys in order.
    let runs = 1 + hashes.windows(2).filter(|pair| pair[0] != pair[1]).count();
    hashes.sort_unstable();
    hashes.dedup();
    let distinct = hashes.len();
    let keys_in_order = runs == distinct && distinct > found / 16;
    found < 64 || (distinct <= found / 2 && !keys_in_order)
}

/// Good enough to tell values of a sample apart.
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

fn codec(compression: Compression) -> Codec {
    match compression {
        Compression::Snappy => Codec::SNAPPY,
        Compression::Zstd(level) => Codec::ZSTD(ZstdLevel::try_new(i32::from(level)).unwrap_or_default()),
        Compression::Lz4 => Codec::LZ4_RAW,
        Compression::Gzip => Codec::GZIP(GzipLevel::default()),
        Compression::None => Codec::UNCOMPRESSED,
    }
}
