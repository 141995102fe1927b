//! Compares the values read back, the statistics and the page indexes with the original values and with the
//! output of the Parquet crate's own writer.

mod check;

use std::sync::Arc;

use arrow::array::{
    BinaryArray, Date32Array, Decimal128Array, Int16Array, Int32Array, Int64Array, RecordBatch, StringArray,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter, add_encoded_arrow_schema_to_metadata};
use parquet::basic::{Encoding, PageType};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use parquet::file::writer::SerializedFileWriter;
use proptest::prelude::*;

use self::check::{check, key};
use super::*;
use crate::write::compressor::codec;
use crate::write::row_group::RowGroup;

/// Rows of a page. Batches have a multiple of it, because the crate checks the size of a page only now and
/// then.
const PAGE_ROWS: usize = 1024;

fn properties(compression: Compression, dictionary: bool, dictionary_bytes: usize) -> WriterProperties {
    WriterProperties::builder()
        .set_compression(codec(compression))
        .set_dictionary_enabled(dictionary)
        .set_dictionary_page_size_limit(dictionary_bytes)
        // Like all byte columns, see `encoding.rs`.
        .set_column_statistics_enabled("bytes".into(), EnabledStatistics::None)
        .set_data_page_row_count_limit(PAGE_ROWS)
        .build()
}

fn ours(batches: &[RecordBatch], compression: Compression, properties: &WriterProperties) -> Bytes {
    let schema = batches[0].schema();
    let root = ArrowSchemaConverter::new().convert(&schema).expect("a schema").root_schema_ptr();
    let mut of_file = properties.clone();
    add_encoded_arrow_schema_to_metadata(&schema, &mut of_file);
    let mut file = SerializedFileWriter::new(Vec::new(), root, Arc::new(of_file)).expect("a file");
    let mut group =
        RowGroup::begin(&file, &schema, properties.clone(), compression, false).expect("a row group");
    for batch in batches {
        group.write(batch).expect("encoded");
    }
    group.write_to(&mut file).expect("written");
    file.into_inner().expect("finished").into()
}

fn twins(batches: &[RecordBatch], properties: &WriterProperties) -> Bytes {
    let mut file = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut file, batches[0].schema(), Some(properties.clone())).expect("a file");
    batches.iter().for_each(|batch| writer.write(batch).expect("written"));
    writer.close().expect("finished");
    file.into()
}

fn read(file: &Bytes) -> (RecordBatch, Arc<ParquetMetaData>) {
    let options = ArrowReaderOptions::new()
        .with_page_index_policy(PageIndexPolicy::Required)
        .with_encoding_stats_as_mask(false);
    let reader =
        ParquetRecordBatchReaderBuilder::try_new_with_options(file.clone(), options).expect("a footer");
    let (schema, metadata) = (reader.schema().clone(), reader.metadata().clone());
    let batches: Vec<_> = reader.build().expect("reads").map(|batch| batch.expect("a batch")).collect();
    (concat_batches(&schema, &batches).expect("one"), metadata)
}

fn encodings(metadata: &ParquetMetaData) -> Vec<(PageType, Encoding)> {
    let stats = metadata.row_group(0).column(0).page_encoding_stats().expect("stats");
    stats.iter().map(|stats| (stats.page_type, stats.encoding)).collect()
}

fn one_column(array: ArrayRef, nullable: bool) -> RecordBatch {
    let name = if array.data_type() == &DataType::Binary { "bytes" } else { "value" };
    let schema: SchemaRef =
        Arc::new(Schema::new(vec![Field::new(name, array.data_type().clone(), nullable)]));
    RecordBatch::try_new(schema, vec![array]).expect("a batch")
}

/// An array, and for each value bytes that sort like it.
type Keyed = (ArrayRef, Vec<Option<Vec<u8>>>);

/// Arrays of every kind that is encoded here, made from the same numbers.
fn arrays(numbers: &[Option<i64>]) -> Vec<Keyed> {
    let text = |number: i64| {
        let length = number.rem_euclid(90) as usize;
        // Characters that end before, at and after the last byte of a bound.
        let ends = ["", "ab", "é", "€", "😀", "ab€", "\u{7f}x"][number.rem_euclid(7) as usize];
        match number.rem_euclid(8) {
            0 => String::new(),
            1 => number.to_string().chars().take(length).collect(),
            2 => "é\u{10FFFF}z".repeat(length) + &number.to_string(),
            3 => "the same beginning ".repeat(4) + &number.to_string(),
            4 => "\u{7f}".repeat(length),
            5 => "x".repeat(length % 4) + &"\u{D7FF}".repeat(length),
            6 => "x".repeat(60 + length % 5) + ends + &"y".repeat(length % 3),
            _ => "x".repeat(62) + ends,
        }
    };
    let each = |value: &dyn Fn(i64) -> i64| numbers.iter().map(|n| n.map(value)).collect::<Vec<_>>();
    let keyed = |array: ArrayRef, value: &dyn Fn(i64) -> i64| {
        (array, each(value).into_iter().map(|n| n.map(key)).collect::<Vec<_>>())
    };
    let decimals = |limit: i64, precision, scale| {
        let values = each(&|n| n % limit).into_iter().map(|n| n.map(i128::from)).collect::<Decimal128Array>();
        let array: ArrayRef = Arc::new(values.with_precision_and_scale(precision, scale).expect("fits"));
        keyed(array, &|n| n % limit)
    };
    let short = |n: i64| i64::from(n as i32);
    let texts: Vec<_> = numbers.iter().map(|n| n.map(text)).collect();
    let bytes: Vec<_> =
        texts.iter().map(|text| text.as_ref().map(|text| text.clone().into_bytes())).collect();
    let int16: Int16Array = numbers.iter().map(|n| n.map(|n| n as i16)).collect();
    let int32: Int32Array = numbers.iter().map(|n| n.map(|n| n as i32)).collect();
    let days: Date32Array = numbers.iter().map(|n| n.map(|n| n as i32)).collect();
    let instants: TimestampMicrosecondArray = numbers.iter().copied().collect();
    vec![
        keyed(Arc::new(int16), &|n| i64::from(n as i16)),
        keyed(Arc::new(int32), &short),
        keyed(Arc::new(days), &short),
        keyed(Arc::new(numbers.iter().copied().collect::<Int64Array>()), &|n| n),
        keyed(Arc::new(numbers.iter().copied().collect::<Time64MicrosecondArray>()), &|n| n),
        keyed(Arc::new(instants.with_timezone("UTC")), &|n| n),
        decimals(1_000_000_000, 9, 2),
        decimals(1_000_000_000_000_000_000, 18, 4),
        (Arc::new(texts.iter().map(Option::as_deref).collect::<StringArray>()), bytes.clone()),
        (Arc::new(bytes.iter().map(Option::as_deref).collect::<BinaryArray>()), bytes),
    ]
}

/// Pieces of `rows` rows. The first one is shorter, so that no slice begins at a byte of the bitmap.
fn pieces(whole: &RecordBatch, rows: usize) -> Vec<RecordBatch> {
    let all = whole.num_rows();
    let starts = [0].into_iter().chain((rows.min(all).div_ceil(3)..all).step_by(rows)).chain([all]);
    let starts: Vec<_> = starts.collect();
    starts.windows(2).map(|pair| whole.slice(pair[0], pair[1] - pair[0])).collect()
}

/// Numbers as columns have them: few distinct ones, any, in order, in runs, at the limits of the type.
fn numbers() -> impl Strategy<Value = Vec<i64>> {
    let rows = 1..3000_usize;
    prop_oneof![
        prop::collection::vec(0..7_i64, rows.clone()),
        prop::collection::vec(any::<i64>(), rows.clone()),
        prop::collection::vec(-5000..5000_i64, rows.clone()),
        (any::<i32>(), rows.clone())
            .prop_map(|(from, rows)| (0..rows as i64).map(|row| i64::from(from) + row * 3).collect()),
        (prop::collection::vec((0..300_i64, 1..200_usize), 1..30)).prop_map(|runs| {
            runs.into_iter().flat_map(|(number, count)| std::iter::repeat_n(number, count)).collect()
        }),
        prop::collection::vec(prop::sample::select(vec![i64::MIN, i64::MAX, 0, -1]), rows),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn columns_are_as_the_crate_writes_them(
        numbers in numbers(),
        nulls in prop::sample::select(vec![0_u8, 1, 128, 250, 255]),
        seed in any::<u64>(),
        rows in prop::sample::select(vec![100, PAGE_ROWS, 3000]),
        dictionary in any::<bool>(),
        dictionary_bytes in prop::sample::select(vec![300, 9000, 1 << 20]),
        compression in prop::sample::select(vec!["none", "snappy", "zstd:3", "lz4", "gzip"]),
    ) {
        let compression = compression.parse().expect("known");
        let properties = properties(compression, dictionary, dictionary_bytes);
        let mut state = seed | 1;
        let numbers: Vec<_> = numbers.into_iter().map(|number| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 56) as u8 >= nulls || nulls == 0).then_some(number)
        }).collect();
        for (array, keys) in arrays(&numbers) {
            let batches = pieces(&one_column(array, nulls > 0), rows);
            check(&batches, &keys, compression, &properties);
        }
    }
}

#[test]
fn a_dictionary_that_grows_too_large_is_given_up() {
    // Once between values, once right after rows without values.
    for nulls in [0, 500] {
        // Few numbers come first: with new ones only, the first page would have no dictionary.
        let number = |row: i64| {
            if row < 600 { (row % 100).pow(3) * 777_777 } else { row * 77_777_777_777 }
        };
        let numbers: Vec<_> = (0..3000).map(|row| (row >= nulls).then(|| number(row))).collect();
        for (array, keys) in arrays(&numbers) {
            let limit = if nulls > 0 { 0 } else { 1000 };
            let properties = properties(Compression::Snappy, true, limit);
            let then = if is_signed_whole(array.data_type()) {
                Encoding::DELTA_BINARY_PACKED
            } else {
                Encoding::PLAIN
            };
            let batches = [one_column(array.clone(), true)];
            check(&batches, &keys, Compression::Snappy, &properties);
            let (_, metadata) = read(&ours(&batches, Compression::Snappy, &properties));
            let expected = [
                (PageType::DICTIONARY_PAGE, Encoding::PLAIN),
                (PageType::DATA_PAGE, Encoding::RLE_DICTIONARY),
                (PageType::DATA_PAGE, then),
            ];
            // A page without values takes no bytes if it is plain.
            let without_values = [(PageType::DATA_PAGE, Encoding::PLAIN), expected[2]];
            let expected = match (nulls, then) {
                (0, _) => &expected[..],
                (_, Encoding::PLAIN) => &expected[2..],
                _ => &without_values,
            };
            let mut found = encodings(&metadata);
            // A page whose differences would be larger than its numbers is plain.
            if then == Encoding::DELTA_BINARY_PACKED && found.len() > expected.len() {
                assert_eq!(
                    found.pop(),
                    Some((PageType::DATA_PAGE, Encoding::PLAIN)),
                    "{}",
                    array.data_type()
                );
            }
            assert_eq!(found, expected, "{}", array.data_type());
        }
    }
}

#[test]
fn a_first_text_that_has_no_room_in_the_dictionary_is_plain() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["long ".repeat(1000), "short".into()]));
    let batch = one_column(texts, false);
    let properties = properties(Compression::None, true, 1000);
    let (values, metadata) = read(&ours(std::slice::from_ref(&batch), Compression::None, &properties));
    assert_eq!(values, batch);
    assert_eq!(metadata.row_group(0).column(0).dictionary_page_offset(), None);
    assert_eq!(encodings(&metadata), [(PageType::DATA_PAGE, Encoding::PLAIN)]);
}

#[test]
fn one_value_in_the_dictionary_is_a_run_and_never_packed() {
    for count in [1, 7, 8, 31, 32, 100_000] {
        let mut page = Vec::new();
        pack::hybrid(&vec![0; count], 0, &mut page);
        let mut expected = Vec::new();
        pack::varint(count as u64 * 2, &mut expected);
        assert_eq!(page, expected);
    }
}

#[test]
fn differences_of_any_number_of_values_wrap_around() {
    for count in [1, 2, 32, 33, 34, 128, 129, 130, 257, 1000] {
        let extremes = (0..count).map(|row| Some(if row % 2 == 0 { i64::MIN } else { i64::MAX }));
        let numbers: Vec<_> = extremes.collect();
        for (array, keys) in arrays(&numbers) {
            check(
                &[one_column(array, false)],
                &keys,
                Compression::None,
                &properties(Compression::None, false, 0),
            );
        }
        let numbers = Int32Array::from_iter_values(
            (0..count).map(|row| if row % 2 == 0 { i32::MIN } else { i32::MAX }),
        );
        let keys: Vec<_> = numbers.values().iter().map(|&number| Some(key(number.into()))).collect();
        let batch = one_column(Arc::new(numbers), false);
        check(&[batch], &keys, Compression::None, &properties(Compression::None, false, 0));
    }
}

/// Size of the column before compression, with the headers of the pages, and the encodings of its pages.
fn size_of_column(
    batches: &[RecordBatch],
    properties: &WriterProperties,
) -> (i64, Vec<(PageType, Encoding)>) {
    let (values, metadata) = read(&ours(batches, Compression::None, properties));
    assert_eq!(values, concat_batches(&batches[0].schema(), batches).expect("one"));
    (metadata.row_group(0).column(0).uncompressed_size(), encodings(&metadata))
}

#[test]
fn whole_numbers_are_never_larger_than_plain_ones() {
    let random = |row: i64| {
        (row as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31).wrapping_mul(0xD6E8_FEB8_6659_FD93)
            as i64
    };
    type Shape<'a> = (&'a str, &'a dyn Fn(i64) -> i64, bool);
    let shapes: [Shape<'_>; 9] = [
        ("random", &random, false),
        ("random of 30 bits", &|row| random(row) & 0x3FFF_FFFF, true),
        (
            "both infinities",
            &|row| [i64::MAX, -i64::MAX, i64::from(i32::MAX), -i64::from(i32::MAX)][row as usize % 4],
            false,
        ),
        ("infinity amid days", &|row| if row % 50 == 0 { i64::MAX } else { row }, true),
        ("in order", &|row| row, true),
        ("one", &|_| i64::MIN, true),
        ("in order, then random", &|row| if row < 5000 { row } else { random(row) }, true),
        ("random, then in order", &|row| if row < 5000 { random(row) } else { row }, true),
        ("far apart", &|row| row << 40, true),
    ];
    let mut few = 0;
    for (name, number, any) in shapes {
        for (rows, nulls) in [(1, 0), (2, 0), (31, 3), (33, 0), (127, 3), (129, 0), (1000, 3), (9000, 0)] {
            let numbers: Vec<_> =
                (0..rows).map(|row| (nulls == 0 || row % nulls > 0).then(|| number(row))).collect();
            for (array, _) in arrays(&numbers).into_iter().filter(|(a, _)| is_signed_whole(a.data_type())) {
                let ty = array.data_type().clone();
                let batches = pieces(&one_column(array, nulls > 0), 2048);
                let differences = properties(Compression::None, false, 0);
                let plain = differences.clone().into_builder().set_encoding(Encoding::PLAIN).build();
                let (size, _) = size_of_column(&batches, &differences);
                let (plain, encodings) = size_of_column(&batches, &plain);
                assert!(encodings.iter().all(|page| page.1 == Encoding::PLAIN));
                assert!(size <= plain, "{rows} of {name} as {ty}: {size} bytes, plain {plain}");
                few += usize::from(any && rows == 9000 && size < plain * 9 / 10);
            }
        }
    }
    assert!(few > 20, "differences still pay: {few}");
}

#[test]
fn bounds_hold_whatever_character_they_are_cut_in() {
    let ends = ["", "ab", "é", "€", "😀", "ab€", "\u{7f}x"];
    let texts: Vec<_> = (60..=64).flat_map(|n| ends.map(|end| "x".repeat(n) + end)).collect();
    for (first, a) in texts.iter().enumerate() {
        for b in &texts[first + 1..] {
            let keys: Vec<_> = [a, b].map(|text| Some(text.clone().into_bytes())).into();
            let batch = one_column(Arc::new(StringArray::from_iter_values([a, b])), false);
            // Both texts in one page, and each in its own page.
            for (dictionary, rows) in [(false, PAGE_ROWS), (true, PAGE_ROWS), (false, 1)] {
                let properties = properties(Compression::None, dictionary, 1 << 20).into_builder();
                let properties = properties.set_data_page_row_count_limit(rows).build();
                check(std::slice::from_ref(&batch), &keys, Compression::None, &properties);
            }
        }
    }
}

#[test]
fn a_text_after_which_there_is_none_has_no_upper_bound() {
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(["a".into(), "\u{10FFFF}".repeat(5000)]));
    for dictionary in [true, false] {
        let properties = properties(Compression::None, dictionary, 1 << 20);
        let batch = one_column(texts.clone(), false);
        let (values, metadata) = read(&ours(std::slice::from_ref(&batch), Compression::None, &properties));
        assert_eq!(values, batch);
        let statistics = metadata.row_group(0).column(0).statistics().expect("statistics");
        assert_eq!((statistics.min_bytes_opt(), statistics.max_bytes_opt()), (Some(&b"a"[..]), None));
        assert!(metadata.page_index().expect("indexes").column_index(0, 0).is_none());
    }
}

#[test]
fn plain_pages_end_where_they_are_full() {
    let texts: ArrayRef =
        Arc::new(StringArray::from_iter_values((0..5000).map(|row| format!("{row:01000}"))));
    let batch = one_column(texts, false);
    let properties = properties(Compression::None, false, 0);
    let mut builder = properties.into_builder().set_data_page_size_limit(100_000);
    builder = builder.set_data_page_row_count_limit(20_000);
    let (values, metadata) = read(&ours(std::slice::from_ref(&batch), Compression::None, &builder.build()));
    assert_eq!(values, batch);
    let pages = metadata.page_index().expect("indexes").offset_index(0, 0).expect("one").page_locations();
    assert_eq!(pages.len(), 5000_usize.div_ceil(100_000 / 1004));
    assert!(pages.iter().all(|page| page.compressed_page_size <= 100_100));
}

#[test]
fn columns_without_statistics_have_none() {
    let numbers: Vec<_> = (0..100).map(Some).collect();
    for (array, _) in arrays(&numbers) {
        let batch = one_column(array, true);
        let properties = properties(Compression::None, true, 1 << 20).into_builder();
        let properties = properties.set_statistics_enabled(EnabledStatistics::None).build();
        let (values, metadata) = read(&ours(std::slice::from_ref(&batch), Compression::None, &properties));
        assert_eq!(values, batch);
        assert_eq!(metadata.row_group(0).column(0).statistics(), None);
    }
}
