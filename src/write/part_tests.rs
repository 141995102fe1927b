//! Parts are read back with the Parquet crate.

use std::fs::{self, File};
use std::num::NonZeroU64;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, ListArray, MapArray, StringArray,
    StringBuilder, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::Encoding;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use uuid::Uuid;

use super::*;
use crate::folder::exclusive::{ExclusiveFile, UnsyncedLink};
use crate::message::output::PARTITIONS_MAX;
use crate::message::setting::{Compression, FileTypes};
use crate::message::{ChunkNo, Epoch};
use crate::relation::column::{Attribute, ColumnType, schema};
use crate::write::read_back::{Written, read_back};

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("adu-part-{}", Uuid::new_v4()));
        fs::create_dir(&dir).expect("temporary directory");
        Self(dir)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("directory");
        entries.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn columns() -> Vec<Column> {
    let column = Column::plain;
    vec![
        column("id", "bigint", ColumnType::Int64, false),
        column("note", "text", ColumnType::Text, true),
        column("odd.name", "integer[]", ColumnType::List(Box::new(ColumnType::Int32)), true),
    ]
}

fn batch(from: i64, rows: usize) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + rows as i64));
    let notes: ArrayRef = Arc::new(StringArray::from_iter(
        (from..).take(rows).map(|i| (i % 3 != 0).then(|| format!("note {}", i * 7919))),
    ));
    let lists = (from..).take(rows).map(|i| Some(vec![Some(i as i32), None]));
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(lists);
    let (_, offsets, values, nulls) = lists.into_parts();
    let field = Arc::new(ColumnType::Int32.field("element", true));
    let lists: ArrayRef = Arc::new(ListArray::new(field, offsets, values, nulls));
    RecordBatch::try_new(schema(&columns()), vec![ids, notes, lists]).expect("a batch")
}

fn provenance() -> Provenance {
    Provenance {
        job: "job-1".parse().expect("an id"),
        source: "warehouse".parse().expect("a name"),
        table: "public.orders".into(),
        epoch: Epoch(2),
        chunk: ChunkNo(17),
        predicate: "id >= 10 and id < 20".into(),
        snapshot: Some(("2026-01-02T03:04:05Z".parse().expect("a time"), Uuid::nil())),
    }
}

/// A part as a file of this directory.
fn part_in(dir: &Path, settings: &WriterSettings, columns: &[Column]) -> PartWriter<ExclusiveFile> {
    let path = dir.join("part.parquet");
    let file = ExclusiveFile::create(&path).expect("created");
    PartWriter::create(file, path, schema(columns), settings, &provenance(), columns).expect("begun")
}

fn create(dir: &Path, compression: Compression, row_group_bytes: u64) -> PartWriter<ExclusiveFile> {
    part_in(
        dir,
        &WriterSettings {
            compression,
            row_group_bytes,
            file_bytes: None,
            partitions_max: PARTITIONS_MAX,
            types: FileTypes::Exact,
        },
        &columns(),
    )
}

#[test]
fn a_part_is_full_only_between_two_row_groups() {
    let scratch = Scratch::new();
    let settings = WriterSettings {
        compression: Compression::None,
        row_group_bytes: 60_000,
        file_bytes: NonZeroU64::new(150_000),
        partitions_max: PARTITIONS_MAX,
        types: FileTypes::Exact,
    };
    let mut writer = part_in(&scratch.0, &settings, &columns());
    let mut batches = 0;
    while !writer.is_full() {
        writer.write(batch(batches * 500, 500)).expect("written");
        batches += 1;
    }
    let written = finish(writer);
    assert!((150_000..250_000).contains(&written.bytes), "{} bytes", written.bytes);
    assert!(
        written.row_groups > 1 && batches > 2 * i64::from(written.row_groups),
        "{batches} in {} row groups",
        written.row_groups
    );
}

/// Writes what is left, and gives the file its name.
fn finish(writer: PartWriter<ExclusiveFile>) -> WrittenPart<UnsyncedLink> {
    let WrittenPart { sink, path, rows, bytes, sha256, row_groups } = writer.close().expect("written");
    let sink = sink.commit_unsynced().expect("named");
    WrittenPart { sink, path, rows, bytes, sha256, row_groups }
}

/// The footer of a file that holds these arrays, with its indexes.
fn footer_of(types: FileTypes, columns: &[Column], arrays: Vec<ArrayRef>) -> Arc<ParquetMetaData> {
    let scratch = Scratch::new();
    let settings = WriterSettings {
        compression: Compression::None,
        row_group_bytes: 1 << 20,
        file_bytes: None,
        partitions_max: PARTITIONS_MAX,
        types,
    };
    let schema = schema(columns);
    let mut writer = part_in(&scratch.0, &settings, columns);
    let batch = RecordBatch::try_new(schema, arrays).expect("a batch");
    writer.write(batch.clone()).expect("written");
    finish(writer);
    let file = File::open(scratch.0.join("part.parquet")).expect("opens");
    let options = ArrowReaderOptions::new()
        .with_page_index_policy(PageIndexPolicy::Optional)
        .with_encoding_stats_as_mask(false);
    let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options).expect("a footer");
    let metadata = reader.metadata().clone();
    let read: Vec<_> = reader.build().expect("reads").map(|b| b.expect("a batch")).collect();
    assert_eq!(concat_batches(&batch.schema(), &read).expect("one"), batch);
    metadata
}

fn nullable(name: &str, ty: ColumnType) -> Column {
    Column { name: name.into(), ty, nullable: true, ..columns()[1].clone() }
}

/// `count` values of a field. Every second leaf is NULL if it may be. Each list has `elements` elements.
fn values(field: &Field, count: usize, elements: usize) -> ArrayRef {
    let one = |i: usize| (i.is_multiple_of(2) || !field.is_nullable()).then_some(i);
    let offsets = || OffsetBuffer::from_lengths(std::iter::repeat_n(elements, count));
    match field.data_type() {
        DataType::Int32 => Arc::new((0..count).map(|i| one(i).map(|i| i as i32)).collect::<Int32Array>()),
        DataType::Boolean => {
            Arc::new((0..count).map(|i| one(i).map(|i| i % 3 == 0)).collect::<BooleanArray>())
        }
        DataType::Utf8 => {
            Arc::new((0..count).map(|i| one(i).map(|i| i.to_string())).collect::<StringArray>())
        }
        DataType::List(element) => Arc::new(ListArray::new(
            element.clone(),
            offsets(),
            values(element, count * elements, elements),
            None,
        )),
        DataType::Map(entries, _) => {
            let pairs = values(entries, count * elements, elements).as_struct().clone();
            Arc::new(MapArray::new(entries.clone(), offsets(), pairs, None, false))
        }
        DataType::Struct(fields) => {
            let parts = fields.iter().map(|field| values(field, count, elements)).collect();
            Arc::new(StructArray::new(fields.clone(), parts, None))
        }
        other => panic!("no column here is {other}"),
    }
}

#[test]
fn no_page_with_values_is_said_to_be_null() {
    let int = || Box::new(ColumnType::Int32);
    let part = |name: &str, ty| Attribute { name: name.into(), ty };
    let composite = || {
        let list = ColumnType::List(Box::new(ColumnType::Text));
        ColumnType::Struct(vec![part("n", ColumnType::Int32), part("t", ColumnType::Text), part("l", list)])
    };
    let columns = [
        nullable("plain", ColumnType::Int32),
        nullable("list", ColumnType::List(int())),
        nullable("composite", composite()),
        nullable("composites", ColumnType::List(Box::new(composite()))),
        nullable("range", ColumnType::Range(int())),
        nullable("multirange", ColumnType::Multirange(int())),
        nullable("map", ColumnType::Map),
    ];
    // With two elements there are as many NULLs as rows. With empty lists there are pages that really are all
    // NULL.
    for (rows, elements) in [(64, 2), (64, 0), (64, 1), (64, 3), (1, 2), (2000, 2), (2000, 0)] {
        let fields: Vec<_> = schema(&columns).fields().iter().cloned().collect();
        let arrays = fields.iter().map(|field| values(field, rows, elements)).collect();
        let metadata = footer_of(FileTypes::Exact, &columns, arrays);
        let indexes = metadata.page_index().expect("offset indexes at least");
        let mut found = 0;
        for (leaf, column) in metadata.row_group(0).columns().iter().enumerate() {
            let path = column.column_path();
            let levels = column.definition_level_histogram().map(|levels| levels.values().to_vec());
            let nulls =
                |levels: &[i64]| levels.split_last().map_or(0, |(_, nulls)| nulls.iter().sum::<i64>());
            let statistics = column.statistics().expect("statistics");
            assert_eq!(statistics.null_count_opt(), Some(nulls(levels.as_deref().unwrap_or(&[])) as u64));
            let has_values = levels.as_deref().and_then(<[i64]>::last).is_none_or(|&values| values > 0);
            assert_eq!(statistics.min_bytes_opt().is_some(), has_values, "{path}");
            let Some(index) = indexes.column_index(0, leaf) else { continue };
            found += 1;
            for page in 0..index.num_pages() as usize {
                let levels = index.definition_level_histogram(page).unwrap_or(&[]);
                let has_values = levels.last().is_none_or(|&values| values > 0);
                assert_eq!(index.is_null_page(page), !has_values, "{path}, {rows} rows, {elements} elements");
                assert_eq!(index.null_count(page), Some(nulls(levels)), "{path}");
            }
        }
        assert!(found >= 5, "{found} indexes with {elements} elements");
    }
}

#[test]
fn portable_files_have_plain_values_and_dictionaries_only() {
    let keys = |rows: usize| -> ArrayRef { Arc::new(Int32Array::from_iter_values(0..rows as i32)) };
    let list = |rows: usize| -> ArrayRef {
        let element = Arc::new(ColumnType::Int32.field("element", true));
        let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(1, rows));
        Arc::new(ListArray::new(element, offsets, keys(rows), None))
    };
    let columns = [
        nullable("key", ColumnType::Int32),
        nullable("keys", ColumnType::List(Box::new(ColumnType::Int32))),
        nullable("few", ColumnType::Int32),
    ];
    let few: ArrayRef = Arc::new((0..2000).map(|i| Some(i % 3)).collect::<Int32Array>());
    for (types, key) in
        [(FileTypes::Exact, Encoding::DELTA_BINARY_PACKED), (FileTypes::Portable, Encoding::PLAIN)]
    {
        let metadata = footer_of(types, &columns, vec![keys(2000), list(2000), few.clone()]);
        let of_last_page = |leaf: usize| {
            let stats = metadata.row_group(0).column(leaf).page_encoding_stats().expect("stats");
            stats.last().map(|stats| stats.encoding)
        };
        assert_eq!([0, 1, 2].map(of_last_page), [Some(key), Some(key), Some(Encoding::RLE_DICTIONARY)]);
    }
}

#[test]
fn lists_of_any_numbers_are_plain() {
    let mut state = 1_u64;
    let random = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as i32
    });
    let random: ArrayRef = Arc::new(Int32Array::from_iter_values(random.take(2000)));
    let element = Arc::new(ColumnType::Int32.field("element", true));
    let lists =
        ListArray::new(element, OffsetBuffer::from_lengths(std::iter::repeat_n(1, 2000)), random, None);
    let columns = [nullable("list", ColumnType::List(Box::new(ColumnType::Int32)))];
    let metadata = footer_of(FileTypes::Exact, &columns, vec![Arc::new(lists)]);
    let encodings: Vec<_> = metadata.row_group(0).column(0).encodings().collect();
    assert!(!encodings.contains(&Encoding::DELTA_BINARY_PACKED), "{encodings:?}");
}

fn verify(path: &Path, part: &WrittenPart<UnsyncedLink>) -> Result<(), String> {
    let file = File::open(path).expect("opens");
    read_back(Arc::new(file), &Written { rows: part.rows, bytes: part.bytes, sha256: &part.sha256 })
}

#[test]
fn a_part_reads_back_as_it_was_written() {
    for compression in ["snappy", "zstd:3", "lz4", "gzip", "none"] {
        let scratch = Scratch::new();
        let mut writer = create(&scratch.0, compression.parse().expect("known"), 1 << 20);
        let batches: Vec<_> = (0..4).map(|i| batch(i * 1000, 1000)).collect();
        batches.iter().for_each(|b| writer.write(b.clone()).expect("written"));
        assert_eq!(scratch.names().len(), 1);
        assert!(scratch.names()[0].starts_with('.'), "nobody sees it before it is whole");
        let part = finish(writer);
        assert_eq!(scratch.names(), ["part.parquet"]);
        let path = scratch.0.join("part.parquet");
        assert_eq!((part.rows, part.row_groups), (4000, 1));
        assert_eq!(part.bytes, fs::metadata(&path).expect("metadata").len());
        verify(&path, &part).expect("verifies");
        let reader =
            ParquetRecordBatchReaderBuilder::try_new(File::open(&path).expect("opens")).expect("reads");
        assert_eq!(reader.schema().fields(), schema(&columns()).fields(), "source types included");
        let read: Vec<_> = reader.build().expect("reads").map(|b| b.expect("a batch")).collect();
        let one = |batches: &[RecordBatch]| concat_batches(&schema(&columns()), batches).expect("one");
        assert_eq!(one(&read), one(&batches));
    }
}

#[test]
fn a_file_says_where_its_rows_come_from() {
    let scratch = Scratch::new();
    finish(create(&scratch.0, Compression::Snappy, 1 << 20));
    let file = File::open(scratch.0.join("part.parquet")).expect("opens");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("reads");
    let metadata = reader.metadata().file_metadata();
    let value = |key: &str| {
        let pairs = metadata.key_value_metadata().expect("metadata");
        pairs.iter().find(|kv| kv.key == key).and_then(|kv| kv.value.as_deref())
    };
    assert_eq!(value("adu.job"), Some("job-1"));
    assert_eq!(value("adu.source"), Some("warehouse"));
    assert_eq!(value("adu.table"), Some("public.orders"));
    assert_eq!(value("adu.chunk"), Some("17"));
    assert_eq!(value("adu.epoch"), Some("2"));
    assert_eq!(value("adu.predicate"), Some("id >= 10 and id < 20"));
    assert_eq!(value("adu.snapshot_time"), Some("2026-01-02T03:04:05Z"));
    assert_eq!(value("adu.lineage"), Some("00000000-0000-0000-0000-000000000000"));
    let types: serde_json::Value =
        serde_json::from_str(value("adu.source_types").expect("types")).expect("JSON");
    assert_eq!(types["odd.name"], "integer[]");
    assert!(metadata.created_by().expect("a writer").starts_with("adu-export "));
}

#[test]
fn an_empty_part_is_a_valid_file() {
    let scratch = Scratch::new();
    let mut writer = create(&scratch.0, Compression::Snappy, 1 << 20);
    writer.write(RecordBatch::new_empty(schema(&columns()))).expect("nothing");
    let part = finish(writer);
    assert_eq!((part.rows, part.row_groups), (0, 0));
    verify(&scratch.0.join("part.parquet"), &part).expect("verifies");
}

#[test]
fn row_groups_are_bounded_by_their_bytes() {
    let scratch = Scratch::new();
    let mut writer = create(&scratch.0, Compression::None, 100_000);
    for i in 0..20 {
        writer.write(batch(i * 4000, 4000)).expect("written");
    }
    let part = finish(writer);
    assert!(part.row_groups >= 5, "{} row groups", part.row_groups);
    let path = scratch.0.join("part.parquet");
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).expect("opens")).expect("reads");
    for group in reader.metadata().row_groups() {
        assert!(group.compressed_size() < 300_000, "{} bytes", group.compressed_size());
    }
    let rows = reader.build().expect("reads").map(|b| b.expect("a batch"));
    let ids: Vec<i64> = rows.flat_map(|b| b["id"].as_primitive::<Int64Type>().values().to_vec()).collect();
    assert!(ids.iter().copied().eq(0..80_000));
}

#[test]
fn a_part_that_is_given_up_leaves_nothing() {
    let scratch = Scratch::new();
    let mut writer = create(&scratch.0, Compression::Snappy, 1000);
    writer.write(batch(0, 1000)).expect("written");
    drop(writer);
    assert!(scratch.names().is_empty());
}

#[test]
fn what_was_changed_afterwards_is_found() {
    let scratch = Scratch::new();
    let mut writer = create(&scratch.0, Compression::Snappy, 1 << 20);
    writer.write(batch(0, 1000)).expect("written");
    let part = finish(writer);
    let path = scratch.0.join("part.parquet");
    let bytes = fs::read(&path).expect("there");
    let refused = |bytes: &[u8], why: &str| {
        fs::write(&path, bytes).expect("written");
        let error = verify(&path, &part).expect_err("differs");
        assert!(error.contains(why), "{error}");
    };
    refused(&bytes[..bytes.len() - 1], "were written");
    let mut flipped = bytes.clone();
    flipped[100] ^= 1;
    refused(&flipped, "sha256");
    fs::write(&path, &bytes).expect("written");
    let fewer = WrittenPart { rows: 999, ..part };
    assert!(verify(&path, &fewer).expect_err("differs").contains("1000 rows, 999 were written"));
}

#[test]
fn a_full_disk_is_told_from_other_errors() {
    let full = WriteError::parquet(Path::new("x"), io::Error::from(io::ErrorKind::StorageFull).into());
    assert!(full.is_full());
    let other = WriteError::parquet(Path::new("x"), ParquetError::General("?".into()));
    assert!(!other.is_full() && matches!(other, WriteError::Encode { .. }));
}

#[test]
fn what_an_array_has_room_for_makes_its_values_no_longer() {
    let scratch = Scratch::new();
    let mut notes = StringBuilder::with_capacity(2, 1 << 20);
    notes.append_value("a");
    notes.append_value("b");
    let narrow = batch(0, 2);
    let notes: ArrayRef = Arc::new(notes.finish());
    assert!(notes.get_array_memory_size() > 1 << 20, "else there is nothing to be mistaken for long");
    let arrays = vec![narrow.column(0).clone(), notes, narrow.column(2).clone()];
    let mut writer = create(&scratch.0, Compression::None, 16 << 20);
    writer.write(RecordBatch::try_new(schema(&columns()), arrays).expect("a batch")).expect("written");
    finish(writer);
    let file = File::open(scratch.0.join("part.parquet")).expect("opens");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("reads");
    let notes = reader.metadata().row_group(0).column(1);
    assert!(notes.statistics().is_some() && notes.dictionary_page_offset().is_some());
}

#[test]
fn a_batch_that_is_wider_than_a_row_group_has_one_to_itself() {
    let scratch = Scratch::new();
    let mut writer = create(&scratch.0, Compression::Snappy, 1 << 20);
    let wide = {
        let note: ArrayRef = Arc::new(StringArray::from(vec!["a", &"wide ".repeat(1 << 19)]));
        let narrow = batch(1000, 2);
        let arrays = vec![narrow.column(0).clone(), note, narrow.column(2).clone()];
        RecordBatch::try_new(schema(&columns()), arrays).expect("a batch")
    };
    let batches = [batch(0, 1000), wide, batch(1002, 1000)];
    batches.iter().for_each(|b| writer.write(b.clone()).expect("written"));
    let part = finish(writer);
    let path = scratch.0.join("part.parquet");
    verify(&path, &part).expect("verifies");
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).expect("opens")).expect("reads");
    let groups = reader.metadata().row_groups().to_vec();
    assert_eq!(groups.iter().map(|g| g.num_rows()).collect::<Vec<_>>(), [1000, 2, 1000]);
    // Neither a dictionary nor minima and maxima are kept: each would be a copy.
    let notes: Vec<_> = groups.iter().map(|g| g.column(1)).collect();
    assert!(notes[1].statistics().is_none() && notes[1].dictionary_page_offset().is_none());
    assert!(notes[0].statistics().is_some() && notes[2].statistics().is_some());
    let read: Vec<_> = reader.build().expect("reads").map(|b| b.expect("a batch")).collect();
    let one = |batches: &[RecordBatch]| concat_batches(&schema(&columns()), batches).expect("one");
    assert_eq!(one(&read), one(&batches));
}
