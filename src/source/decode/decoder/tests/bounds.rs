//! How much memory a stream takes, batch by batch and row by row.

use super::*;

#[test]
fn batches_are_bounded_by_rows_and_by_bytes() {
    let columns = [column("a", Form::Text, true)];
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
        column("id", Form::Int32, false),
        column("scalar", Form::NumericText, true),
        column("list", Form::List(Box::new(Form::NumericText)), true),
        column("vector", Form::Vector { length: Some(16_000), half: false }, true),
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
    let columns = [column("a", Form::List(Box::new(Form::NumericText)), true)];
    let bytes = stream(&[vec![None], vec![Some(array(1, 1700, &vec![huge_numeric(); 20_000]))], vec![None]]);
    let error = decode(&columns, OnUnfit::Text, &bytes).expect_err("2.6 GB of text");
    assert_eq!(error.kind, ErrorKind::Unfit, "{error}");
    let unfit = error.unfit;
    assert_eq!(unfit[0].row.as_deref(), Some("row 2 of its chunk"));
}

/// The error for a column of this type with a single value, or `Ok` with the bytes that it took.
fn alone(ty: Form, value: Vec<u8>) -> Result<usize, String> {
    let columns = [column("a", ty, true)];
    match decode(&columns, OnUnfit::Text, &stream(&[vec![Some(value)], vec![None]])) {
        Ok(batch) => Ok(batch.get_array_memory_size()),
        Err(SourceError { kind: ErrorKind::Unfit, unfit, .. }) => Err(unfit[0].reason.clone()),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn nulls_of_an_array_that_are_beyond_measure_do_not_fit() {
    const FULL: &str = "the values of its row become more than 256 MiB";
    let list = |ty| Form::List(Box::new(ty));
    let vector = || Form::Vector { length: Some(16_000), half: false };
    let nulls = |count| array(1, 0, &vec![None; count]);
    assert!(alone(list(vector()), nulls(4_000)).expect("256 MB") < 258 << 20);
    assert_eq!(alone(list(vector()), nulls(5_000)), Err(FULL.into()));
    // Wide values as elements, as attributes of elements, and as elements of attributes.
    let wide = || Form::Struct((0..1_000).map(|_| attribute("p", Form::Uuid)).collect());
    assert_eq!(alone(list(wide()), nulls(20_000)), Err(FULL.into()));
    let holder = || Form::Struct(vec![attribute("p", vector())]);
    assert_eq!(alone(list(holder()), array(1, 0, &vec![Some(composite(&[None])); 5_000])), Err(FULL.into()));
    let lists = Form::Struct(vec![attribute("p", list(vector())), attribute("p", list(wide()))]);
    let two = |vectors, composites| composite(&[Some(nulls(vectors)), Some(nulls(composites))]);
    assert!(alone(lists.clone(), two(2_000, 7_000)).is_ok());
    assert_eq!(alone(lists.clone(), two(3_000, 7_000)), Err(FULL.into()));
    assert_eq!(alone(list(lists), array(1, 0, &vec![Some(two(500, 500)); 10])), Err(FULL.into()));
    // Values that are not NULL take as much memory as they have bytes in the stream, so no limit applies.
    let zeros = Some([&[0x3e, 0x80, 0, 0], vec![0; 64_000].as_slice()].concat());
    assert!(alone(list(vector()), array(1, 0, &vec![zeros; 5_000])).expect("320 MB") >= 320_000_000);
}

#[test]
fn numerics_of_all_columns_of_a_row_have_one_measure() {
    let columns: Vec<StreamColumn> =
        (0..2).map(|nth| column(&nth.to_string(), Form::List(Box::new(Form::NumericText)), true)).collect();
    let rows = |count| vec![vec![Some(array(1, 1700, &vec![huge_numeric(); count])); 2]; 2];
    assert!(decode(&columns, OnUnfit::Error, &stream(&rows(1_000))).is_ok());
    let error = decode(&columns, OnUnfit::Text, &stream(&rows(1_100))).expect_err("275 MiB");
    assert_eq!(error.kind, ErrorKind::Unfit, "{error}");
    let unfit = error.unfit;
    assert_eq!(unfit.iter().map(|unfit| unfit.column.as_str()).collect::<Vec<_>>(), ["1"]);
}

#[test]
fn rows_of_wide_nulls_are_few_in_a_batch() {
    let wide =
        Form::Struct((0..1_000).map(|_| attribute("p", Form::Decimal { precision: 60, scale: 0 })).collect());
    let columns: Vec<StreamColumn> = (0..5).map(|nth| column(&nth.to_string(), wide.clone(), true)).collect();
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
