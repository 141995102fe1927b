//! The Parquet crate's own writer is the twin: what is read back, statistics
//! and page indexes must be the same.

use std::sync::Arc;

use arrow::array::{
    BinaryArray, Date32Array, Decimal128Array, Int16Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
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

use super::*;
use crate::write::compressor::codec;
use crate::write::row_group::RowGroup;

/// Rows of a page; batches have a multiple of it, since the crate looks at the
/// size of a page only so often.
const PAGE_ROWS: usize = 1024;

fn properties(compression: Compression, dictionary: bool, dictionary_bytes: usize) -> WriterProperties {
    WriterProperties::builder()
        .set_compression(codec(compression))
        .set_dictionary_enabled(dictionary)
        .set_dictionary_page_size_limit(dictionary_bytes)
        .set_statistics_truncate_length(Some(64))
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

fn first_encoding(metadata: &ParquetMetaData, column: usize) -> Encoding {
    let stats = metadata.row_group(0).column(column).page_encoding_stats().expect("stats");
    stats.iter().find(|stats| stats.page_type == PageType::DATA_PAGE).expect("a page").encoding
}

/// Compares a file of ours with its twin.
fn compare(batches: &[RecordBatch], compression: Compression, properties: &WriterProperties) {
    let (values, ours) = read(&ours(batches, compression, properties));
    let (twins_values, twin) = read(&twins(batches, properties));
    assert_eq!(values, twins_values);
    assert_eq!(values, concat_batches(&batches[0].schema(), batches).expect("one"));
    for index in 0..values.num_columns() {
        let (our, its) = (ours.row_group(0).column(index), twin.row_group(0).column(index));
        assert_eq!(our.num_values(), its.num_values());
        assert_eq!(our.statistics(), its.statistics());
        assert_eq!(our.unencoded_byte_array_data_bytes(), its.unencoded_byte_array_data_bytes());
        assert_eq!(our.definition_level_histogram(), its.definition_level_histogram());
        let page_index = |metadata: &ParquetMetaData| {
            let indexes = metadata.page_index().expect("page indexes");
            let columns = indexes.column_index(0, index).cloned();
            let offsets = indexes.offset_index(0, index).expect("an offset index");
            let first_rows: Vec<_> =
                offsets.page_locations().iter().map(|page| page.first_row_index).collect();
            (columns, first_rows, offsets.unencoded_byte_array_data_bytes().cloned())
        };
        assert_eq!(page_index(&ours), page_index(&twin));
    }
}

fn one_column(array: ArrayRef, nullable: bool) -> RecordBatch {
    let schema: SchemaRef =
        Arc::new(Schema::new(vec![Field::new("value", array.data_type().clone(), nullable)]));
    RecordBatch::try_new(schema, vec![array]).expect("a batch")
}

/// Arrays of every kind that is encoded here, from the same numbers.
fn arrays(numbers: &[Option<i64>]) -> Vec<ArrayRef> {
    let texts = |number: &Option<i64>| {
        let number = (*number)?;
        let length = number.rem_euclid(90) as usize;
        Some(match number.rem_euclid(5) {
            0 => String::new(),
            1 => number.to_string().chars().take(length).collect(),
            2 => "é\u{10FFFF}z".repeat(length) + &number.to_string(),
            3 => "the same beginning ".repeat(4) + &number.to_string(),
            _ => "\u{7f}".repeat(length),
        })
    };
    let decimals = |limit: i64| {
        numbers.iter().map(move |number| number.map(|n| i128::from(n % limit))).collect::<Decimal128Array>()
    };
    vec![
        Arc::new(numbers.iter().map(|n| n.map(|n| n as i16)).collect::<Int16Array>()),
        Arc::new(numbers.iter().map(|n| n.map(|n| n as i32)).collect::<Int32Array>()),
        Arc::new(numbers.iter().copied().collect::<Int64Array>()),
        Arc::new(numbers.iter().map(|n| n.map(|n| n as i32)).collect::<Date32Array>()),
        Arc::new(numbers.iter().copied().collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        Arc::new(decimals(1_000_000_000).with_precision_and_scale(9, 2).expect("fits")),
        Arc::new(decimals(1_000_000_000_000_000_000).with_precision_and_scale(18, 4).expect("fits")),
        Arc::new(numbers.iter().map(texts).collect::<StringArray>()),
        Arc::new(numbers.iter().map(|n| texts(n).map(String::into_bytes)).collect::<BinaryArray>()),
    ]
}

/// Numbers as columns have them: few, any, in order, in runs, at the limits.
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
        for array in arrays(&numbers) {
            let whole = one_column(array, nulls > 0);
            // In batches that end with pages, and slices that do not begin with a byte.
            let rows = whole.num_rows();
            let batches: Vec<_> = (0..rows)
                .step_by(PAGE_ROWS)
                .map(|from| whole.slice(from, PAGE_ROWS.min(rows - from)))
                .collect();
            if dictionary_bytes == 1 << 20 || !dictionary {
                compare(&batches, compression, &properties);
            } else {
                // Where a dictionary is given up, pages end elsewhere.
                let odd = [whole.slice(0, 1), whole.slice(1, rows - 1)];
                let (values, metadata) = read(&ours(&odd, compression, &properties));
                prop_assert_eq!(values, whole);
                let dictionary_page = metadata.row_group(0).column(0).dictionary_page_offset();
                prop_assert!(dictionary_page.is_some() || rows > 0);
            }
        }
    }
}

#[test]
fn a_dictionary_that_grows_too_large_is_given_up() {
    let numbers: Vec<_> = (0..3000_i64).map(|row| Some(row * 77_777_777_777)).collect();
    let given_up = properties(Compression::Snappy, true, 1000);
    for array in arrays(&numbers) {
        let batch = one_column(array.clone(), true);
        let (values, metadata) = read(&ours(std::slice::from_ref(&batch), Compression::Snappy, &given_up));
        assert_eq!(values, batch);
        let stats = metadata.row_group(0).column(0).page_encoding_stats().expect("stats").clone();
        let then =
            if Whole::takes(array.data_type()) { Encoding::DELTA_BINARY_PACKED } else { Encoding::PLAIN };
        let found: Vec<_> = stats.iter().map(|stats| (stats.page_type, stats.encoding)).collect();
        assert_eq!(
            found,
            [
                (PageType::DICTIONARY_PAGE, Encoding::PLAIN),
                (PageType::DATA_PAGE, Encoding::RLE_DICTIONARY),
                (PageType::DATA_PAGE, then),
            ]
        );
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
    assert_eq!(first_encoding(&metadata, 0), Encoding::PLAIN);
}

#[test]
fn numbers_that_collide_end_the_dictionary_and_not_the_export() {
    // All of them belong into the first slot of 1024, which 130 of them get.
    let numbers = (0..i64::MAX).filter(|&number| table::mix(number as u64) & 0x3ff == 0).take(300);
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
    let batch = one_column(numbers, false);
    let properties = properties(Compression::None, true, 1 << 20);
    let (values, metadata) = read(&ours(std::slice::from_ref(&batch), Compression::None, &properties));
    assert_eq!(values, batch);
    let stats = metadata.row_group(0).column(0).page_encoding_stats().expect("stats").clone();
    assert_eq!(stats.last().expect("a page").encoding, Encoding::DELTA_BINARY_PACKED);
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
    for array in arrays(&numbers) {
        let batch = one_column(array, true);
        let properties = properties(Compression::None, true, 1 << 20).into_builder();
        let properties = properties.set_statistics_enabled(EnabledStatistics::None).build();
        let (values, metadata) = read(&ours(std::slice::from_ref(&batch), Compression::None, &properties));
        assert_eq!(values, batch);
        assert_eq!(metadata.row_group(0).column(0).statistics(), None);
    }
}
