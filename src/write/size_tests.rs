//! Compares the chosen encodings with each encoding that could have been chosen.

use std::sync::Arc;

use arrow::array::{Array, Float64Array, Int32Array, Int64Array, ListArray, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::concat_batches;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use parquet::file::writer::SerializedFileWriter;

use super::*;
use crate::message::output::PARTITIONS_MAX;
use crate::relation::column::{ColumnType, schema};
use crate::write::row_group::RowGroup;

const ROWS: i64 = 200_000;
/// Rows of a batch, as from the decoder.
const BATCH_ROWS: usize = 2048;

/// A number that looks random.
fn scatter(n: i64) -> i64 {
    let mixed = (n as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(31) as i64
}

/// One of `count` numbers, as if drawn by chance.
fn one_of(n: i64, count: i64) -> i64 {
    scatter(n).rem_euclid(count)
}

/// A row that stands where another one should: one of two thousand. The first one is amid equal order keys.
fn moved(n: i64) -> i64 {
    if n % 2000 == 780 { one_of(n, ROWS) } else { n }
}

/// A key of TPC-H's orders, which repeats one to seven times, and of which three quarters are left out.
fn order_key(row: i64) -> i64 {
    let (block, mut left) = (row / 28, row % 28);
    let mut order = 0;
    while left > order % 7 {
        left -= order % 7 + 1;
        order += 1;
    }
    let order = block * 7 + order;
    order / 8 * 32 + order % 8
}

type Shape = (&'static str, fn(i64) -> Option<i64>, f64);

/// Columns, and how many bytes each of their values may take as an int8 in an exact file without compression.
const SHAPES: [Shape; 19] = [
    ("in order", |n| Some(n), 0.1),
    ("in order, some moved", |n| Some(moved(n)), 0.3),
    ("order keys", |n| Some(order_key(n)), 0.8),
    ("order keys, some moved", |n| Some(order_key(moved(n))), 1.0),
    ("order keys, some moved, NULLs", |n| (n % 3 > 0).then(|| order_key(moved(n))), 1.0),
    ("decreasing, some moved", |n| Some(-moved(n)), 0.3),
    ("equal", |_| Some(77), 0.003),
    ("equal, half NULL", |n| (scatter(n) > 0).then_some(i64::MIN), 0.15),
    ("random", |n| Some(scatter(n)), 8.02),
    ("random, each twice", |n| Some(scatter(n / 2)), 8.02),
    ("random, half NULL", |n| (scatter(n + 1) > 0).then(|| scatter(n)), 4.2),
    ("few", |n| Some(one_of(n, 50)), 0.77),
    ("few wide ones", |n| Some(scatter(one_of(n, 50))), 0.77),
    ("a thousand wide ones", |n| Some(scatter(one_of(n, 1000))), 1.35),
    ("ten thousand wide ones", |n| Some(scatter(one_of(n, 10_000))), 2.25),
    ("ten thousand close ones", |n| Some(one_of(n, 10_000)), 2.0),
    ("long runs", |n| Some(scatter(n / 1000)), 0.03),
    ("few, then in order", |n| Some(if n < 3000 { one_of(n, 9) } else { n }), 0.3),
    ("a day of a year, in order", |n| Some(20_000 + n / 550), 0.03),
];

fn settings(compression: Compression, types: FileTypes) -> WriterSettings {
    WriterSettings {
        compression,
        row_group_bytes: 16 << 20,
        file_bytes: None,
        partitions_max: PARTITIONS_MAX,
        types,
    }
}

fn batches(ty: ColumnType, array: ArrayRef) -> (Vec<Column>, Vec<RecordBatch>) {
    let columns = vec![Column::plain("c", "t", ty, true)];
    let whole = RecordBatch::try_new(schema(&columns), vec![array]).expect("a batch");
    let starts = (0..whole.num_rows()).step_by(BATCH_ROWS);
    let batches = starts.map(|start| whole.slice(start, BATCH_ROWS.min(whole.num_rows() - start)));
    (columns, batches.collect())
}

/// Size of the column's pages, as they are in the file. The values are read back.
fn size(batches: &[RecordBatch], properties: WriterProperties, compression: Compression) -> i64 {
    let schema = batches[0].schema();
    let root = ArrowSchemaConverter::new().convert(&schema).expect("a schema").root_schema_ptr();
    let mut of_file = properties.clone();
    add_encoded_arrow_schema_to_metadata(&schema, &mut of_file);
    let mut file = SerializedFileWriter::new(Vec::new(), root, Arc::new(of_file)).expect("a file");
    let mut group = RowGroup::begin(&file, &schema, properties, compression, false).expect("a row group");
    batches.iter().for_each(|batch| group.write(batch).expect("encoded"));
    group.write_to(&mut file).expect("written");
    let file = Bytes::from(file.into_inner().expect("finished"));
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a footer");
    let size = reader.metadata().row_group(0).column(0).compressed_size();
    let read: Vec<_> = reader.build().expect("reads").map(|batch| batch.expect("a batch")).collect();
    let schema = &schema;
    assert_eq!(concat_batches(schema, &read).expect("one"), concat_batches(schema, batches).expect("one"));
    size
}

/// The chosen size, and the least size of those that one encoding alone gives.
fn sizes(ty: ColumnType, array: ArrayRef, compression: Compression, types: FileTypes) -> (f64, f64) {
    let (columns, batches) = batches(ty, array);
    let chosen = properties(&settings(compression, types), &columns, &batches[0], false);
    let path = ColumnPath::from("c");
    let forced = |dictionary, encoding| {
        let builder = chosen.clone().into_builder();
        let builder = builder.set_column_dictionary_enabled(path.clone(), dictionary);
        size(&batches, builder.set_column_encoding(path.clone(), encoding).build(), compression)
    };
    let mut others = vec![forced(true, Encoding::PLAIN), forced(false, Encoding::PLAIN)];
    if types.is_exact() && batches[0].column(0).data_type().is_integer() {
        others.push(forced(false, Encoding::DELTA_BINARY_PACKED));
    }
    let least = others.into_iter().min().expect("some");
    (size(&batches, chosen, compression) as f64, least as f64)
}

fn texts(text: impl Fn(i64) -> String) -> ArrayRef {
    Arc::new(StringArray::from_iter_values((0..ROWS).map(text)))
}

#[test]
fn whole_numbers_take_little_more_than_with_their_best_encoding() {
    let mut wrong = Vec::new();
    for (name, number, most) in SHAPES {
        let wide: ArrayRef = Arc::new((0..ROWS).map(number).collect::<Int64Array>());
        let narrow: ArrayRef =
            Arc::new((0..ROWS).map(|n| number(n).map(|n| n as i32)).collect::<Int32Array>());
        for (ty, array) in [(ColumnType::Int64, &wide), (ColumnType::Int32, &narrow)] {
            for (types, compression) in [
                (FileTypes::Exact, Compression::None),
                (FileTypes::Portable, Compression::None),
                (FileTypes::Exact, Compression::Snappy),
                (FileTypes::Portable, Compression::Snappy),
            ] {
                let (chosen, least) = sizes(ty.clone(), array.clone(), compression, types);
                let bound = if types.is_exact() { 1.1 } else { 1.3 };
                if chosen > least * bound + 2000.0 {
                    wrong.push(format!(
                        "{name} as {ty:?}, {types:?}, {compression}: {chosen} bytes instead of {least}"
                    ));
                }
                let each = chosen / ROWS as f64;
                if types.is_exact() && each > most {
                    wrong.push(format!("{name} as {ty:?}, {compression}: {each} bytes for each"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_small_table_has_no_dictionary_that_does_not_pay() {
    let numbers = |rows: i64, number: fn(i64) -> i64| -> f64 {
        let array: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows).map(number)));
        let (chosen, _) = sizes(ColumnType::Int64, array, Compression::None, FileTypes::Exact);
        chosen / rows as f64
    };
    assert!(numbers(1000, |n| one_of(n, 1000)) < 1.6);
    assert!(numbers(2048, |n| one_of(n, 1000)) < 1.6);
    // So few values decide nothing. They are compared when the row group ends.
    assert!(numbers(60, |n| n) < 2.5);
}

#[test]
fn texts_and_floats_take_little_more_than_with_their_best_encoding() {
    let float = |value: fn(i64) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values((0..ROWS).map(value)))
    };
    let shapes = [
        ("few", ColumnType::Text, texts(|n| format!("status {}", one_of(n, 7)))),
        ("a thousand", ColumnType::Text, texts(|n| format!("customer {}", one_of(n, 1000)))),
        ("in order", ColumnType::Text, texts(|n| format!("order {n:09}"))),
        ("in order, some moved", ColumnType::Text, texts(|n| format!("order {:09}", moved(n)))),
        ("order keys, some moved", ColumnType::Text, texts(|n| format!("order {:09}", order_key(moved(n))))),
        ("equal", ColumnType::Text, texts(|_| "always the same".into())),
        ("random", ColumnType::Text, texts(|n| format!("{:016x}", scatter(n)))),
        ("few", ColumnType::Float64, float(|n| one_of(n, 90) as f64 / 4.0)),
        ("in order", ColumnType::Float64, float(|n| n as f64 / 4.0)),
        ("order keys, some moved", ColumnType::Float64, float(|n| order_key(moved(n)) as f64)),
        ("random", ColumnType::Float64, float(|n| scatter(n) as f64)),
    ];
    let mut wrong = Vec::new();
    for (name, ty, array) in shapes {
        for compression in [Compression::None, Compression::Snappy, Compression::Zstd(3)] {
            let (chosen, least) = sizes(ty.clone(), array.clone(), compression, FileTypes::Exact);
            if chosen > least * 1.3 + 2000.0 {
                wrong.push(format!("{name} as {ty:?}, {compression}: {chosen} bytes instead of {least}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn elements_of_lists_fall_back_to_differences() {
    let list = |number: fn(i64) -> i64| -> ArrayRef {
        let values: ArrayRef = Arc::new(Int32Array::from_iter_values((0..ROWS).map(|n| number(n) as i32)));
        let element = Arc::new(ColumnType::Int32.field("element", true));
        let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(4, ROWS as usize / 4));
        Arc::new(ListArray::new(element, offsets, values, None))
    };
    let bytes = |types, array| {
        let (columns, batches) = batches(ColumnType::List(Box::new(ColumnType::Int32)), array);
        let chosen = properties(&settings(Compression::None, types), &columns, &batches[0], false);
        size(&batches, chosen, Compression::None) as f64 / ROWS as f64
    };
    let levels = 0.4;
    assert!(bytes(FileTypes::Exact, list(|n| order_key(moved(n)))) < 1.0 + levels);
    assert!(bytes(FileTypes::Exact, list(|n| one_of(n, 50))) < 0.77 + levels);
    assert!(bytes(FileTypes::Exact, list(scatter)) < 4.02 + levels);
    assert!(bytes(FileTypes::Portable, list(scatter)) < 4.02 + levels);
}
