//! Checks everything that a file says about its column against the values in it.

use parquet::basic::BoundaryOrder;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::page_index::offset_index::OffsetIndexMetaData;
use parquet::file::statistics::Statistics;

use super::*;

/// Compares a file of ours with its values, and with the same file written by the crate.
pub(super) fn check(
    batches: &[RecordBatch],
    keys: &[Option<Vec<u8>>],
    compression: Compression,
    properties: &WriterProperties,
) {
    let (values, metadata) = read(&ours(batches, compression, properties));
    let (its_values, its_metadata) = read(&twins(batches, properties));
    assert_eq!(values, concat_batches(&batches[0].schema(), batches).expect("one"));
    assert_eq!(values, its_values);
    let (our, its) = (metadata.row_group(0).column(0), its_metadata.row_group(0).column(0));
    assert_eq!(our.num_values(), its.num_values());
    assert_eq!(our.unencoded_byte_array_data_bytes(), its.unencoded_byte_array_data_bytes());
    assert_eq!(our.definition_level_histogram(), its.definition_level_histogram());

    check_layout(&metadata, keys);
    let (_, plain) = read(&ours(batches, Compression::None, properties));
    let (plain, pages) = (plain.row_group(0).column(0), pages(&metadata).page_locations().len() as i64 + 1);
    assert_eq!(plain.compressed_size(), plain.uncompressed_size());
    // A page header stores the length of its page in up to five bytes.
    assert!((plain.uncompressed_size() - our.uncompressed_size()).abs() <= 4 * pages);

    let Some(statistics) = our.statistics() else {
        assert!(its.statistics().is_none());
        return assert!(metadata.page_index().expect("indexes").column_index(0, 0).is_none());
    };
    let is_text = matches!(statistics, Statistics::ByteArray(_));
    let exact = (statistics.min_is_exact(), statistics.max_is_exact());
    let found = statistics.min_bytes_opt().zip(statistics.max_bytes_opt());
    check_bounds(keys, found, is_text, Some(exact));
    assert_eq!(statistics.null_count_opt(), Some(keys.iter().filter(|key| key.is_none()).count() as u64));
    assert_eq!(Some(statistics.distinct_count_opt()), its.statistics().map(Statistics::distinct_count_opt));

    let bounds = metadata.page_index().expect("indexes").column_index(0, 0).expect("one");
    let mut written = Vec::new();
    for (page, keys) in split(&metadata, keys).into_iter().enumerate() {
        assert!(!keys.is_empty() && keys.len() <= PAGE_ROWS);
        let (min, max) = match bounds {
            ColumnIndexMetaData::INT32(index) => {
                let bytes = |value: Option<&i32>| value.map(|value| value.to_le_bytes().to_vec());
                (bytes(index.min_value(page)), bytes(index.max_value(page)))
            }
            ColumnIndexMetaData::INT64(index) => {
                let bytes = |value: Option<&i64>| value.map(|value| value.to_le_bytes().to_vec());
                (bytes(index.min_value(page)), bytes(index.max_value(page)))
            }
            ColumnIndexMetaData::BYTE_ARRAY(index) => {
                (index.min_value(page).map(<[u8]>::to_vec), index.max_value(page).map(<[u8]>::to_vec))
            }
            other => panic!("no column is of this kind: {other:?}"),
        };
        check_bounds(keys, min.as_deref().zip(max.as_deref()), is_text, None);
        let nulls = keys.iter().filter(|key| key.is_none()).count() as i64;
        assert_eq!(bounds.null_count(page), Some(nulls));
        let levels = our.definition_level_histogram().map(|_| vec![nulls, keys.len() as i64 - nulls]);
        assert_eq!(bounds.definition_level_histogram(page).map(<[i64]>::to_vec), levels);
        written.extend(min.zip(max).map(|(min, max)| (key_of(&min, is_text), key_of(&max, is_text))));
    }
    let is_sorted = |in_order: fn(&Vec<u8>, &Vec<u8>) -> bool| {
        written.windows(2).all(|pair| in_order(&pair[0].0, &pair[1].0) && in_order(&pair[0].1, &pair[1].1))
    };
    match bounds.get_boundary_order().expect("an order") {
        BoundaryOrder::ASCENDING => assert!(is_sorted(Vec::le)),
        BoundaryOrder::DESCENDING => assert!(is_sorted(Vec::ge)),
        BoundaryOrder::UNORDERED => assert!(!is_sorted(Vec::lt) && !is_sorted(Vec::gt)),
    }
}

/// Checks the stated minimum and maximum of these values.
fn check_bounds(
    keys: &[Option<Vec<u8>>],
    found: Option<(&[u8], &[u8])>,
    is_text: bool,
    exact: Option<(bool, bool)>,
) {
    let Some((min, max)) = keys.iter().flatten().min().zip(keys.iter().flatten().max()) else {
        return assert!(found.is_none());
    };
    let (low, high) = found.expect("there are values");
    let (low, high) = (key_of(low, is_text), key_of(high, is_text));
    let is_exact = (min.len() <= BOUND_BYTES, max.len() <= BOUND_BYTES);
    assert!(if is_exact.0 { &low == min } else { min.starts_with(&low) && low.len() > BOUND_BYTES - 4 });
    assert!(if is_exact.1 { &high == max } else { &high > max && high.len() <= BOUND_BYTES });
    assert!(exact.is_none_or(|exact| exact == is_exact));
}

/// Bytes that sort like the value with these plain bytes.
fn key_of(plain: &[u8], is_text: bool) -> Vec<u8> {
    match (is_text, plain.try_into(), plain.try_into()) {
        (false, Ok(bytes), _) => key(i32::from_le_bytes(bytes).into()),
        (false, _, Ok(bytes)) => key(i64::from_le_bytes(bytes)),
        _ => plain.to_vec(),
    }
}

pub(super) fn key(number: i64) -> Vec<u8> {
    (number as u64 ^ 1 << 63).to_be_bytes().to_vec()
}

fn pages(metadata: &ParquetMetaData) -> &OffsetIndexMetaData {
    metadata.page_index().expect("indexes").offset_index(0, 0).expect("one")
}

/// The values of each page.
fn split<'a>(metadata: &ParquetMetaData, keys: &'a [Option<Vec<u8>>]) -> Vec<&'a [Option<Vec<u8>>]> {
    let starts = pages(metadata).page_locations().iter().map(|page| page.first_row_index as usize);
    let starts: Vec<_> = starts.chain([keys.len()]).collect();
    assert_eq!(starts[0], 0);
    starts.windows(2).map(|rows| &keys[rows[0]..rows[1]]).collect()
}

/// Checks the stated places, number, encodings and sizes of the pages.
fn check_layout(metadata: &ParquetMetaData, keys: &[Option<Vec<u8>>]) {
    let (column, pages) = (metadata.row_group(0).column(0), pages(metadata));
    let mut end = column.data_page_offset();
    for page in pages.page_locations() {
        assert_eq!(page.offset, end);
        end += i64::from(page.compressed_page_size);
    }
    let (start, length) = column.byte_range();
    assert_eq!(start as i64, column.dictionary_page_offset().unwrap_or(column.data_page_offset()));
    assert_eq!((start + length) as i64, end);

    let stats = column.page_encoding_stats().expect("stats");
    let count =
        |ty| -> i32 { stats.iter().filter(|stats| stats.page_type == ty).map(|stats| stats.count).sum() };
    assert_eq!(count(PageType::DATA_PAGE) as usize, pages.page_locations().len());
    assert_eq!(count(PageType::DICTIONARY_PAGE), i32::from(column.dictionary_page_offset().is_some()));
    let mut used: Vec<_> = stats.iter().map(|stats| stats.encoding).chain([Encoding::RLE]).collect();
    used.sort_unstable();
    used.dedup();
    let mut said: Vec<_> = column.encodings().collect();
    said.sort_unstable();
    assert_eq!(said, used);

    if let Some(bytes) = column.unencoded_byte_array_data_bytes() {
        let lengths = |keys: &[Option<Vec<u8>>]| keys.iter().flatten().map(Vec::len).sum::<usize>() as i64;
        assert_eq!(bytes, lengths(keys));
        let each: Vec<_> = split(metadata, keys).into_iter().map(lengths).collect();
        assert_eq!(pages.unencoded_byte_array_data_bytes(), Some(&each));
    }
}
