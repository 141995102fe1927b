//! The decoder against streams built by hand.

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type};
use proptest::prelude::*;

use super::*;
use crate::plan::column::{ColumnType, Fetch, Part};

type Field = Option<Vec<u8>>;

fn column(name: &str, ty: ColumnType, nullable: bool) -> Column {
    Column {
        name: name.into(),
        source_type: "t".into(),
        fetch: Fetch::Native,
        ty,
        nullable,
        infinity: Default::default(),
        note: None,
    }
}

fn header() -> Vec<u8> {
    let mut out = b"PGCOPY\n\xff\r\n\0".to_vec();
    out.extend([0; 8]);
    out
}

fn row(out: &mut Vec<u8>, fields: &[Field]) {
    out.extend((fields.len() as i16).to_be_bytes());
    for field in fields {
        match field {
            Some(bytes) => {
                out.extend((bytes.len() as i32).to_be_bytes());
                out.extend(bytes);
            }
            None => out.extend((-1_i32).to_be_bytes()),
        }
    }
}

fn stream(rows: &[Vec<Field>]) -> Vec<u8> {
    let mut out = header();
    rows.iter().for_each(|fields| row(&mut out, fields));
    out.extend((-1_i16).to_be_bytes());
    out
}

fn array(lower: i32, oid: u32, elements: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    if elements.is_empty() {
        out.extend(0_i32.to_be_bytes());
        out.extend(0_i32.to_be_bytes());
        out.extend(oid.to_be_bytes());
        return out;
    }
    for word in [1, 1, oid as i32, elements.len() as i32, lower] {
        out.extend(word.to_be_bytes());
    }
    let mut fields = Vec::new();
    row(&mut fields, elements);
    out.extend(&fields[2..]);
    out
}

fn int(value: i32) -> Field {
    Some(value.to_be_bytes().to_vec())
}

fn text(value: &str) -> Field {
    Some(value.as_bytes().to_vec())
}

/// Pushes the stream in pieces and puts all batches together.
fn decode_pieces<'a>(
    columns: &[Column],
    on_unfit: OnUnfit,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<RecordBatch, SourceError> {
    let mut decoder = CopyDecoder::new(columns, &["id".to_owned()], on_unfit);
    let mut batches = Vec::new();
    for piece in pieces {
        decoder.take(piece.to_vec());
        while let Some(batch) = decoder.next_batch()? {
            batches.push(batch);
        }
    }
    while let Some(batch) = decoder.finish()? {
        batches.push(batch);
    }
    assert!(decoder.finish().expect("fused").is_none());
    let all = concat_batches(decoder.schema(), &batches).expect("one schema");
    assert_eq!(all.num_rows() as u64, decoder.rows());
    Ok(all)
}

fn decode(columns: &[Column], on_unfit: OnUnfit, bytes: &[u8]) -> Result<RecordBatch, SourceError> {
    decode_pieces(columns, on_unfit, [bytes])
}

/// One column of every family, nullable.
fn every_family() -> Vec<Column> {
    use ColumnType as T;
    let types = [
        T::Bool,
        T::Int16,
        T::Int32,
        T::Int64,
        T::UInt32,
        T::Float32,
        T::Float64,
        T::Decimal { precision: 12, scale: 2 },
        T::Decimal { precision: 60, scale: 2 },
        T::Text,
        T::Json,
        T::Bytes,
        T::Uuid,
        T::Date,
        T::Time,
        T::Timestamp,
        T::TimestampTz,
        T::List(Box::new(T::Int32)),
        T::List(Box::new(T::Text)),
        T::List(Box::new(T::Decimal { precision: 12, scale: 2 })),
        T::NumericText,
        T::NumericDouble,
        T::Money { scale: 2 },
        T::Interval,
        T::Point,
        T::Vector { length: None, half: true },
        T::Vector { length: Some(2), half: false },
        T::Struct(vec![part("i", T::Int32), part("l", T::List(Box::new(T::Text)))]),
        T::List(Box::new(T::Struct(vec![part("r", T::Range(Box::new(T::Text)))]))),
        T::Range(Box::new(T::Int32)),
        T::Multirange(Box::new(T::Date)),
        T::Map,
        // Last: with it, rows are decoded one by one.
        T::List(Box::new(T::NumericText)),
    ];
    types.into_iter().enumerate().map(|(i, ty)| column(&format!("c{i}"), ty, true)).collect()
}

fn full_row(seed: u8) -> Vec<Field> {
    let numeric = vec![0, 2, 0, 0, 0x40, 0, 0, 2, 0, seed, 0x13, 0x88];
    let bytes = |n: usize| Some(vec![seed & 0x3f; n]);
    vec![
        bytes(1),
        bytes(2),
        bytes(4),
        bytes(8),
        bytes(4),
        bytes(4),
        bytes(8),
        Some(numeric.clone()),
        Some(numeric.clone()),
        text(&"é".repeat(seed.into())),
        Some([&[1], &br#"{"a": 1}"#[..]].concat()),
        bytes(seed.into()),
        bytes(16),
        bytes(4),
        Some((i64::from(seed) * 1_000_000).to_be_bytes().to_vec()),
        bytes(8),
        bytes(8),
        Some(array(1, 23, &[int(1), None, int(seed.into())])),
        Some(array(1, 25, &[text("x"), None])),
        Some(array(1, 1700, &[Some(numeric.clone()), None])),
        Some(numeric.clone()),
        Some(numeric.clone()),
        bytes(8),
        bytes(16),
        bytes(16),
        Some([&[0, 2, 0, 0], &[seed & 0x3f; 4][..]].concat()),
        Some([&[0, 2, 0, 0], &[seed & 0x3f; 8][..]].concat()),
        Some(composite(&[int(seed.into()), Some(array(1, 25, &[None, text("x")]))])),
        Some(array(1, 9, &[None, Some(composite(&[Some(range(0x02, &[text("a"), text("b")]))]))])),
        Some(range(0x08 | 0x04, &[int(seed.into())])),
        Some(multirange(&[range(0x01, &[]), range(0x02, &[int(1), int(seed.into())])])),
        Some(hstore(&[("k", None), ("", text("v"))])),
        Some(array(1, 1700, &[Some(numeric), None])),
    ]
}

fn part(name: &str, ty: ColumnType) -> Part {
    Part { name: name.into(), ty }
}

/// Fields in a row, as arrays, composites and ranges have them.
fn fields(parts: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    row(&mut out, parts);
    out.split_off(2)
}

fn composite(parts: &[Field]) -> Vec<u8> {
    let mut out = (parts.len() as i32).to_be_bytes().to_vec();
    for part in parts {
        out.extend(4711_u32.to_be_bytes());
        out.extend(fields(std::slice::from_ref(part)));
    }
    out
}

fn range(flags: u8, bounds: &[Field]) -> Vec<u8> {
    [&[flags], &fields(bounds)[..]].concat()
}

fn multirange(ranges: &[Vec<u8>]) -> Vec<u8> {
    let ranges: Vec<Field> = ranges.iter().cloned().map(Some).collect();
    [&(ranges.len() as i32).to_be_bytes(), &fields(&ranges)[..]].concat()
}

fn hstore(pairs: &[(&str, Field)]) -> Vec<u8> {
    let parts: Vec<Field> = pairs.iter().flat_map(|(key, value)| [text(key), value.clone()]).collect();
    [&(pairs.len() as i32).to_be_bytes(), &fields(&parts)[..]].concat()
}

#[test]
fn each_family_arrives_whole() {
    let rows: Vec<_> = (0..3).map(full_row).chain([vec![None; every_family().len()]]).collect();
    let batch = decode(&every_family(), OnUnfit::Error, &stream(&rows)).expect("decodes");
    assert_eq!(batch.num_rows(), 4);
    assert!(batch.columns().iter().all(|c| c.null_count() == 1));
    assert_eq!(batch["c7"].as_primitive::<Decimal128Type>().value(2), -250);
    assert_eq!(batch["c9"].as_string::<i32>().value(2), "éé");
    assert_eq!(batch["c10"].as_string::<i32>().value(0), r#"{"a": 1}"#);
    assert_eq!(batch["c13"].as_primitive::<Date32Type>().value(0), 10_957);
    let list = batch["c17"].as_list::<i32>().value(2);
    assert_eq!(list.as_primitive::<Int32Type>().iter().collect::<Vec<_>>(), [Some(1), None, Some(2)]);
}

#[test]
fn an_empty_table_gives_no_batch() {
    let mut decoder = CopyDecoder::new(&every_family(), &[], OnUnfit::Text);
    decoder.take(stream(&[]));
    assert!(decoder.next_batch().expect("sound").is_none());
    assert!(decoder.finish().expect("sound").is_none());
    assert_eq!((decoder.rows(), decoder.bytes()), (0, 21));
}

#[test]
fn only_a_trailer_with_nothing_after_it_ends_well() {
    let columns = [column("a", ColumnType::Int32, true)];
    let whole = stream(&[vec![int(1)], vec![None]]);
    for cut in 0..whole.len() {
        let error = decode(&columns, OnUnfit::Text, &whole[..cut]).expect_err("truncated");
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Transient, "copy_truncated"));
    }
    let longer = [&whole[..], &[0]].concat();
    let error = decode(&columns, OnUnfit::Text, &longer).expect_err("too long");
    assert_eq!(error.code, "copy_malformed");
}

#[test]
fn impossible_lengths_are_refused_and_possible_ones_waited_for() {
    let columns = [column("a", ColumnType::Text, true)];
    let claim = |length: i32| {
        let mut bytes = header();
        bytes.extend(1_i16.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        decode(&columns, OnUnfit::Text, &bytes).expect_err("incomplete").code
    };
    assert_eq!(claim(-2), "copy_malformed");
    assert_eq!(claim(i32::MAX), "copy_malformed");
    assert_eq!(claim(1 << 30), "copy_truncated");
    let error = decode(&columns, OnUnfit::Text, &stream(&[vec![None, None]])).expect_err("two fields");
    assert_eq!(error.kind, ErrorKind::Changed);
    let error = decode(&columns, OnUnfit::Text, b"PGCOPZ").expect_err("no COPY");
    assert_eq!(error.code, "copy_malformed");
}

#[test]
fn a_header_extension_is_skipped() {
    let columns = [column("a", ColumnType::Int32, true)];
    let mut bytes = header();
    bytes[18] = 5;
    bytes.extend([9; 5]);
    bytes.extend(&stream(&[vec![int(7)]])[19..]);
    for size in [1, 3, 100] {
        let batch = decode_pieces(&columns, OnUnfit::Text, bytes.chunks(size)).expect("decodes");
        assert_eq!(batch["a"].as_primitive::<Int32Type>().values(), &[7]);
    }
}

fn unfit_stream() -> (Vec<Column>, Vec<u8>) {
    let columns = vec![
        column("id", ColumnType::Int32, false),
        column("price", ColumnType::Decimal { precision: 5, scale: 2 }, true),
        column("tags", ColumnType::List(Box::new(ColumnType::Int32)), true),
        column("at", ColumnType::Time, true),
    ];
    let nan = Some(vec![0, 0, 0, 0, 0xC0, 0, 0, 0]);
    let two_dimensions: Vec<u8> =
        [2, 0, 23, 1, 1, 1, 1, 4, 9].into_iter().flat_map(|w: i32| w.to_be_bytes()).collect();
    let midnight = Some(86_400_000_000_i64.to_be_bytes().to_vec());
    // Far apart, so that they fall into different batches.
    let good = vec![int(1), None, None, None];
    let mut rows = vec![good.clone(); 20_000];
    rows[5] = vec![int(2), nan, None, None];
    rows[9_000] = vec![int(3), None, Some(two_dimensions), None];
    rows[19_000] = vec![int(4), None, None, midnight];
    (columns, stream(&rows))
}

#[test]
fn a_chunk_reports_all_columns_with_values_that_do_not_fit() {
    let (columns, bytes) = unfit_stream();
    let error = decode_pieces(&columns, OnUnfit::Text, bytes.chunks(1000)).expect_err("unfit");
    let ErrorKind::Unfit(unfit) = error.kind else { panic!("{error:?}") };
    let found = |u: &UnfitColumn| (u.column.clone(), u.row.clone().expect("a row"));
    let expected = [("price", "id = 2"), ("tags", "id = 3"), ("at", "id = 4")];
    assert_eq!(
        unfit.iter().map(found).collect::<Vec<_>>(),
        expected.map(|(c, r)| (c.to_owned(), r.to_owned()))
    );

    // A table without a key: the place.
    let mut decoder = CopyDecoder::new(&columns, &[], OnUnfit::Text);
    decoder.take(bytes.clone());
    while decoder.next_batch().expect("sound").is_some() {}
    let error = decoder.finish().expect_err("unfit").message;
    for place in [6, 9_001, 19_001] {
        assert!(error.contains(&format!("first at row {place} of its chunk")), "{error}");
    }
}

#[test]
fn values_that_do_not_fit_become_null_where_asked() {
    let (columns, bytes) = unfit_stream();
    let batch = decode_pieces(&columns, OnUnfit::Null, bytes.chunks(70_000)).expect("decodes");
    assert_eq!(batch.num_rows(), 20_000);
    assert_eq!(batch["id"].as_primitive::<Int32Type>().value(9_000), 3);
    assert!(["price", "tags", "at"].iter().all(|c| batch[*c].null_count() == 20_000));
}

#[test]
fn values_that_do_not_fit_end_the_table_where_asked() {
    let (columns, bytes) = unfit_stream();
    let error = decode_pieces(&columns, OnUnfit::Error, bytes.chunks(1000)).expect_err("refused");
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Permanent, "unfit_value"));
    assert!(error.message.contains("\"price\""), "{}", error.message);
    assert!(error.remedy.expect("a remedy").contains("on_unfit"));
}

#[test]
fn a_null_where_none_can_be_is_an_error_and_no_panic() {
    let columns = [column("a", ColumnType::Int32, false)];
    let error = decode(&columns, OnUnfit::Null, &stream(&[vec![None]])).expect_err("NULL");
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Changed, "unexpected_null"));
    let columns = [column("t", ColumnType::Time, false)];
    let midnight = stream(&[vec![Some(86_400_000_000_i64.to_be_bytes().to_vec())]]);
    let error = decode(&columns, OnUnfit::Null, &midnight).expect_err("NULL");
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Permanent, "unfit_value"));
}

#[test]
fn a_value_of_another_type_means_that_the_table_changed() {
    let columns = [column("a", ColumnType::Int32, true)];
    let error = decode(&columns, OnUnfit::Text, &stream(&[vec![Some(vec![0; 8])]])).expect_err("int8");
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Changed, "column_type"));
}

#[test]
fn text_that_is_not_utf8_is_named() {
    let columns = [column("a", ColumnType::Text, true)];
    // Whole in one value, but cut between two: each half is invalid.
    let bytes = stream(&[vec![Some(vec![0xc3])], vec![Some(vec![0xa9])], vec![text("ok")]]);
    let error = decode(&columns, OnUnfit::Text, &bytes).expect_err("not UTF-8");
    assert_eq!(error.code, "not_utf8");
    let batch = decode(&columns, OnUnfit::Null, &bytes).expect("decodes");
    let values: Vec<_> = batch["a"].as_string::<i32>().iter().collect();
    assert_eq!(values, [None, None, Some("ok")]);
}

#[test]
fn arrays_keep_their_nulls_and_refuse_odd_bounds() {
    let columns = [column("a", ColumnType::List(Box::new(ColumnType::Int32)), true)];
    let bytes = stream(&[vec![Some(array(1, 23, &[]))], vec![Some(array(1, 23, &[None]))], vec![None]]);
    let batch = decode(&columns, OnUnfit::Error, &bytes).expect("decodes");
    let lists = batch["a"].as_list::<i32>();
    assert_eq!(lists.value(0).len(), 0);
    assert_eq!(lists.value(1).null_count(), 1);
    assert_eq!(lists.null_count(), 1);
    let shifted = stream(&[vec![Some(array(0, 23, &[int(1)]))]]);
    let error = decode(&columns, OnUnfit::Text, &shifted).expect_err("unfit");
    assert!(matches!(error.kind, ErrorKind::Unfit(_)));
}

#[test]
fn what_is_made_of_others_keeps_its_nulls() {
    let parts = vec![part("i", ColumnType::Int32), part("t", ColumnType::Text)];
    let columns = [
        column("c", ColumnType::Struct(parts), true),
        column("r", ColumnType::Range(Box::new(ColumnType::Int32)), true),
        column("m", ColumnType::Map, true),
    ];
    let bytes = stream(&[
        vec![
            Some(composite(&[None, text("x")])),
            Some(range(0x02 | 0x10, &[int(5)])),
            Some(hstore(&[("k", None)])),
        ],
        vec![None, None, None],
        vec![Some(composite(&[None, None])), Some(range(0x01, &[])), Some(hstore(&[]))],
    ]);
    let batch = decode(&columns, OnUnfit::Error, &bytes).expect("decodes");
    let composites = batch["c"].as_struct();
    assert_eq!(composites.nulls().map(|n| n.iter().collect()), Some(vec![true, false, true]));
    assert_eq!(composites["t"].as_string::<i32>().iter().collect::<Vec<_>>(), [Some("x"), None, None]);
    assert_eq!(composites["i"].null_count(), 3);
    let ranges = batch["r"].as_struct();
    assert_eq!(ranges["lower"].as_primitive::<Int32Type>().iter().collect::<Vec<_>>(), [Some(5), None, None]);
    assert_eq!(ranges["upper"].null_count(), 3);
    let flags = |name: &str| ranges[name].as_boolean().values().iter().collect::<Vec<_>>();
    assert_eq!(flags("lower_inc"), [true, false, false]);
    assert_eq!(flags("empty"), [false, false, true]);
    assert_eq!(ranges.null_count(), 1);
    let maps = batch["m"].as_map();
    assert_eq!((maps.value_length(0), maps.value_length(1), maps.value_length(2)), (1, 0, 0));
    assert_eq!((maps.null_count(), maps.keys().null_count(), maps.values().null_count()), (1, 0, 1));
}

#[test]
fn a_value_that_does_not_fit_is_found_wherever_it_is() {
    let dates = || Box::new(ColumnType::List(Box::new(ColumnType::Date)));
    let late = || Some((i32::MAX - 1).to_be_bytes().to_vec());
    let square = || {
        let mut square = array(1, 23, &[int(1)]);
        square[3] = 2;
        square
    };
    let cases = [
        (ColumnType::Struct(vec![part("d", ColumnType::Date)]), composite(&[late()])),
        (ColumnType::Range(Box::new(ColumnType::Date)), range(0x08, &[late()])),
        (ColumnType::Multirange(Box::new(ColumnType::Date)), multirange(&[range(0x10, &[late()])])),
        (ColumnType::List(dates()), array(1, 9, &[None, Some(array(1, 1082, &[late()]))])),
        (
            ColumnType::Struct(vec![part("a", ColumnType::List(Box::new(ColumnType::Int32)))]),
            composite(&[Some(square())]),
        ),
    ];
    for (ty, value) in cases {
        let columns = [column("a", ty, true)];
        let error = decode(&columns, OnUnfit::Text, &stream(&[vec![Some(value)]])).expect_err("unfit");
        assert!(matches!(error.kind, ErrorKind::Unfit(_)), "{error:?}");
    }
}

#[test]
fn parts_that_are_not_what_was_planned_mean_that_the_table_changed() {
    let pair = ColumnType::Struct(vec![part("a", ColumnType::Int32), part("b", ColumnType::Int32)]);
    let cases = [
        (pair.clone(), composite(&[int(1)])),
        (pair.clone(), composite(&[int(1), int(2), int(3)])),
        (pair, composite(&[int(1), text("longer")])),
        (ColumnType::Range(Box::new(ColumnType::Int32)), range(0, &[int(1)])),
        (ColumnType::Range(Box::new(ColumnType::Int32)), range(0, &[int(1), None])),
        (ColumnType::Map, [&hstore(&[("k", None)])[..], &[0]].concat()),
        (ColumnType::Interval, vec![0; 15]),
        (ColumnType::Vector { length: Some(3), half: false }, vec![0, 1, 0, 0, 0, 0, 0, 0]),
        // Two billion elements in twenty bytes.
        (
            ColumnType::List(Box::new(ColumnType::Int32)),
            [array(1, 23, &[int(1)])[..12].to_vec(), vec![0x7f, 255, 255, 255, 0, 0, 0, 1]].concat(),
        ),
        (ColumnType::Multirange(Box::new(ColumnType::Int32)), vec![0x7f, 255, 255, 255]),
        (ColumnType::Map, vec![0x7f, 255, 255, 255, 0, 0, 0, 0]),
    ];
    for (ty, value) in cases {
        let columns = [column("a", ty, true)];
        let error = decode(&columns, OnUnfit::Text, &stream(&[vec![Some(value)]])).expect_err("foreign");
        assert_eq!(error.kind, ErrorKind::Changed, "{columns:?}");
    }
}

#[test]
fn lists_of_numerics_without_precision_are_text_or_doubles() {
    let numeric = Some(vec![0, 2, 0, 0, 0x40, 0, 0, 3, 0, 7, 0x13, 0x88]);
    let bytes = stream(&[vec![Some(array(1, 1700, &[numeric, None]))]]);
    let columns = [column("a", ColumnType::List(Box::new(ColumnType::NumericText)), true)];
    let batch = decode(&columns, OnUnfit::Error, &bytes).expect("decodes");
    let values = batch["a"].as_list::<i32>().value(0);
    assert_eq!(values.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("-7.500"), None]);
    let columns = [column("a", ColumnType::List(Box::new(ColumnType::NumericDouble)), true)];
    let batch = decode(&columns, OnUnfit::Error, &bytes).expect("decodes");
    let values = batch["a"].as_list::<i32>().value(0);
    assert_eq!(values.as_primitive::<Float64Type>().value(0), -7.5);
}

#[test]
fn doubles_come_from_the_servers_text() {
    let columns = [Column { fetch: Fetch::AsText, ..column("a", ColumnType::Float64, true) }];
    let bytes = stream(&[vec![text("0.1")], vec![text("NaN")], vec![text("-Infinity")]]);
    let batch = decode(&columns, OnUnfit::Error, &bytes).expect("decodes");
    let values = batch["a"].as_primitive::<Float64Type>();
    assert_eq!(values.value(0), 0.1);
    assert!(values.value(1).is_nan() && values.value(2) == f64::NEG_INFINITY);
    let error = decode(&columns, OnUnfit::Text, &stream(&[vec![text("1e400")]])).expect_err("unfit");
    assert!(matches!(error.kind, ErrorKind::Unfit(_)));
}

#[test]
fn batches_are_bounded_by_rows_and_by_bytes() {
    let columns = [column("a", ColumnType::Text, true)];
    let sizes = |rows: &[Vec<Field>]| {
        let bytes = stream(rows);
        let mut decoder = CopyDecoder::new(&columns, &[], OnUnfit::Text);
        decoder.take(bytes.clone());
        let mut sizes = Vec::new();
        while let Some(batch) = decoder.next_batch().expect("sound") {
            sizes.push(batch.num_rows());
        }
        while let Some(batch) = decoder.finish().expect("sound") {
            sizes.push(batch.num_rows());
        }
        sizes
    };
    let narrow = sizes(&vec![vec![None]; 50_000]);
    assert_eq!(narrow.iter().sum::<usize>(), 50_000);
    let (last, others) = narrow.split_last().expect("batches");
    assert!(others.len() >= 10 && others.iter().all(|rows| *rows == 2048) && *last < 16_384, "{narrow:?}");
    let wide = vec![text(&"x".repeat(3 << 20))];
    assert_eq!(sizes(&vec![wide; 5]), [2, 2, 1]);
}

/// A numeric of fourteen bytes and 131,069 digits.
fn huge_numeric() -> Field {
    Some(vec![0, 1, 0x7f, 0xff, 0, 0, 0, 0, 0, 1])
}

#[test]
fn batches_are_bounded_by_what_the_stream_becomes() {
    let columns = [
        column("id", ColumnType::Int32, false),
        column("scalar", ColumnType::NumericText, true),
        column("list", ColumnType::List(Box::new(ColumnType::NumericText)), true),
        column("vector", ColumnType::Vector { length: Some(16_000), half: false }, true),
    ];
    let rows = |range: std::ops::Range<i32>, field: &dyn Fn() -> Vec<Field>| -> Vec<Vec<Field>> {
        range.map(|id| [vec![int(id)], field()].concat()).collect()
    };
    let list = || vec![None, Some(array(1, 1700, &vec![huge_numeric(); 10])), None];
    let bytes = stream(
        &[
            rows(0..300, &|| vec![huge_numeric(), None, None]),
            rows(300..400, &list),
            rows(400..1000, &|| vec![None; 3]),
        ]
        .concat(),
    );
    let mut decoder = CopyDecoder::new(&columns, &[], OnUnfit::Text);
    decoder.take(bytes.clone());
    let mut ids: Vec<i32> = Vec::new();
    let mut check = |batch: RecordBatch| {
        assert!(batch.get_array_memory_size() < 16 << 20, "{} bytes", batch.get_array_memory_size());
        ids.extend(batch["id"].as_primitive::<Int32Type>().values());
    };
    while let Some(batch) = decoder.next_batch().expect("sound") {
        check(batch);
    }
    while let Some(batch) = decoder.finish().expect("sound") {
        check(batch);
    }
    assert_eq!(ids, Vec::from_iter(0..1000));
}

#[test]
fn an_array_of_numerics_whose_text_is_beyond_measure_does_not_fit() {
    let columns = [column("a", ColumnType::List(Box::new(ColumnType::NumericText)), true)];
    let bytes = stream(&[vec![None], vec![Some(array(1, 1700, &vec![huge_numeric(); 20_000]))], vec![None]]);
    let error = decode(&columns, OnUnfit::Text, &bytes).expect_err("2.6 GB of text");
    let ErrorKind::Unfit(unfit) = error.kind else { panic!("{error}") };
    assert_eq!(unfit[0].row.as_deref(), Some("row 2 of its chunk"));
}

/// What is said of the only value of a column of this type; `Ok` with the bytes that it took.
fn alone(ty: ColumnType, value: Vec<u8>) -> Result<usize, String> {
    let columns = [column("a", ty, true)];
    match decode(&columns, OnUnfit::Text, &stream(&[vec![Some(value)], vec![None]])) {
        Ok(batch) => Ok(batch.get_array_memory_size()),
        Err(SourceError { kind: ErrorKind::Unfit(unfit), .. }) => Err(unfit[0].reason.clone()),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn nulls_of_an_array_that_are_beyond_measure_do_not_fit() {
    const FULL: &str = "the values of its row become more than 256 MiB";
    let list = |ty| ColumnType::List(Box::new(ty));
    let vector = || ColumnType::Vector { length: Some(16_000), half: false };
    let nulls = |count| array(1, 0, &vec![None; count]);
    assert!(alone(list(vector()), nulls(4_000)).expect("256 MB") < 258 << 20);
    assert_eq!(alone(list(vector()), nulls(5_000)), Err(FULL.into()));
    // Whether they are elements, parts of elements, or elements of those.
    let wide = || ColumnType::Struct((0..1_000).map(|_| part("p", ColumnType::Uuid)).collect());
    assert_eq!(alone(list(wide()), nulls(20_000)), Err(FULL.into()));
    let holder = || ColumnType::Struct(vec![part("p", vector())]);
    assert_eq!(alone(list(holder()), array(1, 0, &vec![Some(composite(&[None])); 5_000])), Err(FULL.into()));
    let lists = ColumnType::Struct(vec![part("p", list(vector())), part("p", list(wide()))]);
    let two = |vectors, composites| composite(&[Some(nulls(vectors)), Some(nulls(composites))]);
    assert!(alone(lists.clone(), two(2_000, 7_000)).is_ok());
    assert_eq!(alone(lists.clone(), two(3_000, 7_000)), Err(FULL.into()));
    assert_eq!(alone(list(lists), array(1, 0, &vec![Some(two(500, 500)); 10])), Err(FULL.into()));
    // What comes with its bytes is as large as they are.
    let zeros = Some([&[0x3e, 0x80, 0, 0], vec![0; 64_000].as_slice()].concat());
    assert!(alone(list(vector()), array(1, 0, &vec![zeros; 5_000])).expect("320 MB") >= 320_000_000);
}

#[test]
fn numerics_of_all_columns_of_a_row_have_one_measure() {
    let columns: Vec<Column> = (0..2)
        .map(|nth| column(&nth.to_string(), ColumnType::List(Box::new(ColumnType::NumericText)), true))
        .collect();
    let rows = |count| vec![vec![Some(array(1, 1700, &vec![huge_numeric(); count])); 2]; 2];
    assert!(decode(&columns, OnUnfit::Error, &stream(&rows(1_000))).is_ok());
    let error = decode(&columns, OnUnfit::Text, &stream(&rows(1_100))).expect_err("275 MiB");
    let ErrorKind::Unfit(unfit) = error.kind else { panic!("{error}") };
    assert_eq!(unfit.iter().map(|unfit| unfit.column.as_str()).collect::<Vec<_>>(), ["1"]);
}

#[test]
fn rows_of_wide_nulls_are_few_in_a_batch() {
    let wide = ColumnType::Struct(
        (0..1_000).map(|_| part("p", ColumnType::Decimal { precision: 60, scale: 0 })).collect(),
    );
    let columns: Vec<Column> = (0..5).map(|nth| column(&nth.to_string(), wide.clone(), true)).collect();
    let mut decoder = CopyDecoder::new(&columns, &[], OnUnfit::Text);
    decoder.take(stream(&vec![vec![None; 5]; 1_000]));
    let mut rows = 0;
    while let Some(batch) = decoder.finish().expect("sound") {
        assert!(batch.get_array_memory_size() < 10 << 20, "{} bytes", batch.get_array_memory_size());
        rows += batch.num_rows();
    }
    assert_eq!(rows, 1_000);
}

#[test]
fn tables_without_columns_keep_their_rows() {
    let batch = decode(&[], OnUnfit::Text, &stream(&vec![vec![]; 9000])).expect("decodes");
    assert_eq!(batch.num_rows(), 9000);
}

fn cells() -> impl Strategy<Value = Vec<Vec<Field>>> {
    let cell = (any::<bool>(), 0..40_u8);
    proptest::collection::vec(proptest::collection::vec(cell, every_family().len()), 0..60).prop_map(|rows| {
        let blank = |(null, _): &(bool, u8), field: Field| if *null { None } else { field };
        rows.iter()
            .map(|cells| {
                let full = cells.iter().map(|(_, seed)| full_row(*seed)).enumerate();
                cells.iter().zip(full).map(|(cell, (i, mut row))| blank(cell, row.swap_remove(i))).collect()
            })
            .collect()
    })
}

/// A few cases in tests; as many as `make fuzz` asks for.
fn cases() -> ProptestConfig {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default(),
        None => ProptestConfig::with_cases(64),
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn pieces_do_not_matter(rows in cells(), cuts in proptest::collection::vec(0..20_000_usize, 0..30), step in 1..9_usize, one_by_one: bool) {
        let mut columns = every_family();
        let mut rows = rows;
        if !one_by_one {
            columns.pop();
            rows.iter_mut().for_each(|row| drop(row.pop()));
        }
        let bytes = stream(&rows);
        let whole = decode(&columns, OnUnfit::Error, &bytes).expect("decodes");
        prop_assert_eq!(whole.num_rows(), rows.len());
        let mut cuts: Vec<_> = cuts.into_iter().map(|c| c % bytes.len()).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]);
        prop_assert_eq!(&decode_pieces(&columns, OnUnfit::Error, pieces).expect("decodes"), &whole);
        // Tiny pieces, repeated rows: many blocks end inside a row.
        let mut many = header();
        (0..40).for_each(|_| rows.iter().for_each(|fields| row(&mut many, fields)));
        many.extend((-1_i16).to_be_bytes());
        let repeated = decode_pieces(&columns, OnUnfit::Error, many.chunks(step * 7 + 4000)).expect("decodes");
        prop_assert_eq!(repeated.num_rows(), rows.len() * 40);
        for copy in 0..40 {
            prop_assert_eq!(&repeated.slice(copy * rows.len(), rows.len()), &whole);
        }
    }

    #[test]
    fn garbage_is_never_a_panic(rows in cells(), edits in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..20), cut in any::<usize>()) {
        let columns = every_family();
        let mut bytes = stream(&rows);
        for (at, value) in edits {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        bytes.truncate(bytes.len() - cut % bytes.len());
        for on_unfit in [OnUnfit::Text, OnUnfit::Null, OnUnfit::Error] {
            let _ = decode_pieces(&columns, on_unfit, bytes.chunks(777));
        }
    }
}

#[test]
fn long_streams_keep_their_order() {
    let columns = [column("a", ColumnType::Int64, false), column("b", ColumnType::Text, false)];
    let rows: Vec<Vec<Field>> = (0..50_000_i64)
        .map(|i| vec![Some(i.to_be_bytes().to_vec()), text(&i.to_string().repeat(i as usize % 7))])
        .collect();
    let bytes = stream(&rows);
    for size in [1, 13, 4096, 65_537, bytes.len()] {
        let batch = decode_pieces(&columns, OnUnfit::Text, bytes.chunks(size)).expect("decodes");
        let ids = batch["a"].as_primitive::<Int64Type>();
        let texts = batch["b"].as_string::<i32>();
        for i in 0..50_000 {
            assert_eq!(ids.value(i), i as i64);
            assert_eq!(texts.value(i), i.to_string().repeat(i % 7));
        }
    }
}
