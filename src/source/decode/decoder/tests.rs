//! Tests of the decoder with streams that are built by hand.

mod bounds;
mod unfit;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type};
use arrow::util::display::array_value_to_string;
use proptest::prelude::*;

use super::*;
use crate::relation::{Column, UnfitColumn};
use crate::source::decode::{Form, FormAttribute};

type Field = Option<Vec<u8>>;

fn column(name: &str, form: Form, nullable: bool) -> StreamColumn {
    StreamColumn { column: Column::plain(name, "t", form.column_type(), nullable), form, infinity: None }
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

/// Passes the stream in pieces and joins all batches.
fn decode_pieces<'a>(
    columns: &[StreamColumn],
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

fn decode(columns: &[StreamColumn], on_unfit: OnUnfit, bytes: &[u8]) -> Result<RecordBatch, SourceError> {
    decode_pieces(columns, on_unfit, [bytes])
}

/// One nullable column of each family of types.
fn every_family() -> Vec<StreamColumn> {
    use Form as T;
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
        T::Struct(vec![attribute("i", T::Int32), attribute("l", T::List(Box::new(T::Text)))]),
        T::List(Box::new(T::Struct(vec![attribute("r", T::Range(Box::new(T::Text)))]))),
        T::Range(Box::new(T::Int32)),
        T::Multirange(Box::new(T::Date)),
        T::Map,
        T::Nested { element: Box::new(T::Int32), dimensions: 2, guessed: false },
        // The last column makes the decoder work row by row.
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
        matrix(&[(1, 1), (2, 1)], &[int(seed.into()), None]),
        Some(array(1, 1700, &[Some(numeric), None])),
    ]
}

fn attribute(name: &str, form: Form) -> FormAttribute {
    FormAttribute { name: name.into(), form }
}

/// Fields as arrays, composites and ranges contain them, without the count of a row.
fn fields(values: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    row(&mut out, values);
    out.split_off(2)
}

fn composite(values: &[Field]) -> Vec<u8> {
    let mut out = (values.len() as i32).to_be_bytes().to_vec();
    for value in values {
        out.extend(4711_u32.to_be_bytes());
        out.extend(fields(std::slice::from_ref(value)));
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
    let values: Vec<Field> = pairs.iter().flat_map(|(key, value)| [text(key), value.clone()]).collect();
    [&(pairs.len() as i32).to_be_bytes(), &fields(&values)[..]].concat()
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
    let columns = [column("a", Form::Int32, true)];
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
    let columns = [column("a", Form::Text, true)];
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
    let columns = [column("a", Form::Int32, true)];
    let mut bytes = header();
    bytes[18] = 5;
    bytes.extend([9; 5]);
    bytes.extend(&stream(&[vec![int(7)]])[19..]);
    for size in [1, 3, 100] {
        let batch = decode_pieces(&columns, OnUnfit::Text, bytes.chunks(size)).expect("decodes");
        assert_eq!(batch["a"].as_primitive::<Int32Type>().values(), &[7]);
    }
}

#[test]
fn lists_of_numerics_without_precision_are_text_or_doubles() {
    let numeric = Some(vec![0, 2, 0, 0, 0x40, 0, 0, 3, 0, 7, 0x13, 0x88]);
    let bytes = stream(&[vec![Some(array(1, 1700, &[numeric, None]))]]);
    let columns = [column("a", Form::List(Box::new(Form::NumericText)), true)];
    let batch = decode(&columns, OnUnfit::Error, &bytes).expect("decodes");
    let values = batch["a"].as_list::<i32>().value(0);
    assert_eq!(values.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("-7.500"), None]);
    let columns = [column("a", Form::List(Box::new(Form::NumericDouble)), true)];
    let batch = decode(&columns, OnUnfit::Error, &bytes).expect("decodes");
    let values = batch["a"].as_list::<i32>().value(0);
    assert_eq!(values.as_primitive::<Float64Type>().value(0), -7.5);
}

/// A binary array of integers with these lengths and lower bounds, and as many elements as claimed.
fn matrix(head: &[(i32, i32)], elements: &[Field]) -> Field {
    let mut out = Vec::new();
    for word in [head.len() as i32, 1, 23].into_iter().chain(head.iter().flat_map(|(n, lower)| [*n, *lower]))
    {
        out.extend(word.to_be_bytes());
    }
    out.extend(fields(elements));
    Some(out)
}

#[test]
fn arrays_of_several_dimensions_are_lists_of_lists() {
    let columns =
        [column("a", Form::Nested { element: Box::new(Form::Int32), dimensions: 3, guessed: false }, true)];
    let numbers: Vec<Field> = [int(1), None, int(3), int(4), int(5), int(6)].into();
    let rows = [
        matrix(&[(1, 1), (3, 1), (2, 1)], &numbers),
        None,
        matrix(&[], &[]),
        matrix(&[(2, 1), (1, 1), (1, 1)], &numbers[2..4]),
    ];
    let bytes = stream(&rows.map(|field| vec![field]));
    for size in [1, 7, 1000] {
        let batch = decode_pieces(&columns, OnUnfit::Error, bytes.chunks(size)).expect("decodes");
        let shown: Vec<String> =
            (0..4).map(|row| array_value_to_string(batch["a"].as_ref(), row).expect("shown")).collect();
        assert_eq!(shown, ["[[[1, ], [3, 4], [5, 6]]]", "", "[]", "[[[3]], [[4]]]"]);
    }
}

#[test]
fn arrays_that_are_no_such_lists_say_why() {
    let columns =
        [column("a", Form::Nested { element: Box::new(Form::Int32), dimensions: 2, guessed: false }, true)];
    let refused =
        |field: Field| decode(&columns, OnUnfit::Text, &stream(&[vec![field]])).expect_err("refused");
    let one = refused(matrix(&[(2, 1)], &[int(1), int(2)]));
    assert_eq!((one.kind, one.unfit[0].dimensions), (ErrorKind::Unfit, Some(1)));
    let shifted = refused(matrix(&[(1, 1), (2, 0)], &[int(1), int(2)]));
    assert_eq!((shifted.kind, shifted.unfit[0].dimensions), (ErrorKind::Unfit, None));
    for wrong in [
        matrix(&[(2, 1), (2, 1)], &[int(1)]),
        matrix(&[(1, 1), (1, 1)], &[int(1), int(2)]),
        matrix(&[(i32::MAX, 1), (i32::MAX, 1)], &[int(1)]),
        matrix(&[(-1, 1), (1, 1)], &[]),
        matrix(&[(1, 1); 7], &[int(1)]),
    ] {
        assert_eq!(refused(wrong).kind, ErrorKind::Changed);
    }
    let list = [column("a", Form::List(Box::new(Form::Int32)), true)];
    let bytes = stream(&[vec![matrix(&[(1, 1), (1, 1)], &[int(1)])]]);
    let two = decode(&list, OnUnfit::Text, &bytes).expect_err("two dimensions");
    assert_eq!((two.kind, two.unfit[0].dimensions), (ErrorKind::Unfit, Some(2)));
}

#[test]
fn doubles_come_from_the_servers_text() {
    let columns = [column("a", Form::DoubleFromText, true)];
    let bytes = stream(&[vec![text("0.1")], vec![text("NaN")], vec![text("-Infinity")]]);
    let batch = decode(&columns, OnUnfit::Error, &bytes).expect("decodes");
    let values = batch["a"].as_primitive::<Float64Type>();
    assert_eq!(values.value(0), 0.1);
    assert!(values.value(1).is_nan() && values.value(2) == f64::NEG_INFINITY);
    let error = decode(&columns, OnUnfit::Text, &stream(&[vec![text("1e400")]])).expect_err("unfit");
    assert_eq!(error.kind, ErrorKind::Unfit);
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

/// A few cases in tests; `make fuzz` sets more.
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
        // With tiny pieces and repeated rows, many blocks end inside a row.
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
    let columns = [column("a", Form::Int64, false), column("b", Form::Text, false)];
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
