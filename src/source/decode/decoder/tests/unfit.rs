//! Values that do not fit their columns, or do not match the plan.

use super::*;
use crate::config::Origin;

fn unfit_stream() -> (Vec<StreamColumn>, Vec<u8>) {
    let columns = vec![
        column("id", Form::Int32, false),
        column("price", Form::Decimal { precision: 5, scale: 2 }, true),
        column("tags", Form::List(Box::new(Form::Int32)), true),
        column("at", Form::Time, true),
    ];
    let nan = Some(vec![0, 0, 0, 0, 0xC0, 0, 0, 0]);
    let two_dimensions: Vec<u8> =
        [2, 0, 23, 1, 1, 1, 1, 4, 9].into_iter().flat_map(|w: i32| w.to_be_bytes()).collect();
    let midnight = Some(86_400_000_000_i64.to_be_bytes().to_vec());
    // The values are far apart, so that they are in different batches.
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
    assert_eq!(error.kind, ErrorKind::Unfit);
    let unfit = error.unfit;
    let found = |u: &UnfitColumn| (u.column.clone(), u.row.clone().expect("a row"));
    let expected = [("price", "id = 2"), ("tags", "id = 3"), ("at", "id = 4")];
    assert_eq!(
        unfit.iter().map(found).collect::<Vec<_>>(),
        expected.map(|(c, r)| (c.to_owned(), r.to_owned()))
    );

    // A table without a key: the report shows the position.
    let mut decoder = CopyDecoder::new(&columns, &[], OnUnfit::Text);
    decoder.take(bytes.clone());
    while decoder.next_batch().expect("sound").is_some() {}
    let error = decoder.finish().expect_err("unfit").report(Origin::Configuration).message;
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
    assert_eq!((&error.kind, error.code.as_str()), (&ErrorKind::Permanent, "unfit_value"));
    assert!(error.to_string().contains("\"price\""), "{error}");
    assert!(error.report(Default::default()).remedy.expect("a remedy").contains("on_unfit"));
}

#[test]
fn a_null_where_none_can_be_is_an_error_and_no_panic() {
    let columns = [column("a", Form::Int32, false)];
    let error = decode(&columns, OnUnfit::Null, &stream(&[vec![None]])).expect_err("NULL");
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Changed, "unexpected_null"));
    let columns = [column("t", Form::Time, false)];
    let midnight = stream(&[vec![Some(86_400_000_000_i64.to_be_bytes().to_vec())]]);
    let error = decode(&columns, OnUnfit::Null, &midnight).expect_err("NULL");
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Permanent, "unfit_value"));
}

#[test]
fn a_value_of_another_type_means_that_the_table_changed() {
    let columns = [column("a", Form::Int32, true)];
    let error = decode(&columns, OnUnfit::Text, &stream(&[vec![Some(vec![0; 8])]])).expect_err("int8");
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Changed, "column_type"));
}

#[test]
fn text_that_is_not_utf8_is_named() {
    let columns = [column("a", Form::Text, true)];
    // The text is valid as a whole, but it is cut between two values, so each half is invalid.
    let bytes = stream(&[vec![Some(vec![0xc3])], vec![Some(vec![0xa9])], vec![text("ok")]]);
    let error = decode(&columns, OnUnfit::Text, &bytes).expect_err("not UTF-8");
    assert_eq!(error.code, "not_utf8");
    let batch = decode(&columns, OnUnfit::Null, &bytes).expect("decodes");
    let values: Vec<_> = batch["a"].as_string::<i32>().iter().collect();
    assert_eq!(values, [None, None, Some("ok")]);
}

#[test]
fn arrays_keep_their_nulls_and_refuse_odd_bounds() {
    let columns = [column("a", Form::List(Box::new(Form::Int32)), true)];
    let bytes = stream(&[vec![Some(array(1, 23, &[]))], vec![Some(array(1, 23, &[None]))], vec![None]]);
    let batch = decode(&columns, OnUnfit::Error, &bytes).expect("decodes");
    let lists = batch["a"].as_list::<i32>();
    assert_eq!(lists.value(0).len(), 0);
    assert_eq!(lists.value(1).null_count(), 1);
    assert_eq!(lists.null_count(), 1);
    let shifted = stream(&[vec![Some(array(0, 23, &[int(1)]))]]);
    let error = decode(&columns, OnUnfit::Text, &shifted).expect_err("unfit");
    assert_eq!(error.kind, ErrorKind::Unfit);
}

#[test]
fn what_is_made_of_others_keeps_its_nulls() {
    let attributes = vec![attribute("i", Form::Int32), attribute("t", Form::Text)];
    let columns = [
        column("c", Form::Struct(attributes), true),
        column("r", Form::Range(Box::new(Form::Int32)), true),
        column("m", Form::Map, true),
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
    let dates = || Box::new(Form::List(Box::new(Form::Date)));
    let late = || Some((i32::MAX - 1).to_be_bytes().to_vec());
    let square = || {
        let mut square = array(1, 23, &[int(1)]);
        square[3] = 2;
        square
    };
    let cases = [
        (Form::Struct(vec![attribute("d", Form::Date)]), composite(&[late()])),
        (Form::Range(Box::new(Form::Date)), range(0x08, &[late()])),
        (Form::Multirange(Box::new(Form::Date)), multirange(&[range(0x10, &[late()])])),
        (Form::List(dates()), array(1, 9, &[None, Some(array(1, 1082, &[late()]))])),
        (Form::Struct(vec![attribute("a", Form::List(Box::new(Form::Int32)))]), composite(&[Some(square())])),
    ];
    for (ty, value) in cases {
        let columns = [column("a", ty, true)];
        let error = decode(&columns, OnUnfit::Text, &stream(&[vec![Some(value)]])).expect_err("unfit");
        assert!(error.kind == ErrorKind::Unfit, "{error:?}");
    }
}

#[test]
fn parts_that_are_not_what_was_planned_mean_that_the_table_changed() {
    let pair = Form::Struct(vec![attribute("a", Form::Int32), attribute("b", Form::Int32)]);
    let cases = [
        (pair.clone(), composite(&[int(1)])),
        (pair.clone(), composite(&[int(1), int(2), int(3)])),
        (pair, composite(&[int(1), text("longer")])),
        (Form::Range(Box::new(Form::Int32)), range(0, &[int(1)])),
        (Form::Range(Box::new(Form::Int32)), range(0, &[int(1), None])),
        (Form::Map, [&hstore(&[("k", None)])[..], &[0]].concat()),
        (Form::Interval, vec![0; 15]),
        (Form::Vector { length: Some(3), half: false }, vec![0, 1, 0, 0, 0, 0, 0, 0]),
        // An array of twenty bytes that claims to have two billion elements.
        (
            Form::List(Box::new(Form::Int32)),
            [array(1, 23, &[int(1)])[..12].to_vec(), vec![0x7f, 255, 255, 255, 0, 0, 0, 1]].concat(),
        ),
        (Form::Multirange(Box::new(Form::Int32)), vec![0x7f, 255, 255, 255]),
        (Form::Map, vec![0x7f, 255, 255, 255, 0, 0, 0, 0]),
    ];
    for (ty, value) in cases {
        let columns = [column("a", ty, true)];
        let error = decode(&columns, OnUnfit::Text, &stream(&[vec![Some(value)]])).expect_err("foreign");
        assert_eq!(error.kind, ErrorKind::Changed, "{columns:?}");
    }
}
