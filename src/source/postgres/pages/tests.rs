use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use proptest::prelude::*;
use serde_json::Value;

use super::super::types::oid;
use super::columns::{CatalogueColumn, layout};
use super::tuple::{Refused, Taker};
use crate::message::request::OnUnfit;
use crate::message::setting::InfinityMode;
use crate::relation::Column;
use crate::source::decode::{CopyDecoder, Form, HeapDecoder, StreamColumn, stored_form};

const PAGE: usize = 8192;
const PAGES: &[u8] = include_bytes!("../../../../tests/fixtures/pages/taken.pages");
const COPY: &[u8] = include_bytes!("../../../../tests/fixtures/pages/taken.copy");
const FACTS: &str = include_str!("../../../../tests/fixtures/pages/taken.facts");
/// The columns of the table. Those without a name were dropped.
const NAMES: [&str; 26] = [
    "i2", "", "b", "i8", "f4", "n", "t", "i4", "o", "na", "d", "f8", "ti", "ts", "", "tz", "iv", "u", "v",
    "c", "by", "j", "e", "nn", "last", "added",
];

fn facts() -> Vec<CatalogueColumn> {
    let line = |start| FACTS.lines().find(|line| line.starts_with(start)).expect("there");
    let columns: Vec<(i16, char, bool, Option<String>)> = serde_json::from_str(line('[')).expect("facts");
    let labels: Value = serde_json::from_str(line('{')).expect("labels");
    let labels = labels.as_object().expect("an object").iter();
    let labels: std::collections::BTreeMap<u32, String> = labels
        .map(|(oid, label)| (oid.trim().parse().expect("an oid"), label.as_str().expect("a text").to_owned()))
        .collect();
    let column =
        |((length, alignment, has_missing, ty), name): ((i16, char, bool, Option<String>), &&str)| {
            let ty = ty.as_deref().map_or(0, type_named);
            let labels = (ty == 1).then(|| labels.clone());
            CatalogueColumn { name: (*name).into(), length, alignment, has_missing, ty, labels }
        };
    columns.into_iter().zip(&NAMES).map(column).collect()
}

fn type_named(name: &str) -> u32 {
    match name {
        "boolean" => oid::BOOL,
        "smallint" => oid::INT2,
        "integer" => oid::INT4,
        "bigint" => oid::INT8,
        "real" => oid::FLOAT4,
        "double precision" => oid::FLOAT8,
        "numeric" => oid::NUMERIC,
        "text" => oid::TEXT,
        "character varying" => oid::VARCHAR,
        "character" => oid::BPCHAR,
        "name" => oid::NAME,
        "oid" => oid::OID,
        "date" => oid::DATE,
        "time without time zone" => oid::TIME,
        "timestamp without time zone" => oid::TIMESTAMP,
        "timestamp with time zone" => oid::TIMESTAMPTZ,
        "interval" => oid::INTERVAL,
        "uuid" => oid::UUID,
        "bytea" => oid::BYTEA,
        "json" => oid::JSON,
        _ => 1,
    }
}

fn all_names() -> Vec<&'static str> {
    NAMES.into_iter().filter(|name| !name.is_empty()).collect()
}

/// The forms that values of a type can be decoded in.
fn forms(ty: u32) -> Vec<Form> {
    let decimal = |precision, scale| Form::Decimal { precision, scale };
    match ty {
        oid::BOOL => vec![Form::Bool],
        oid::INT2 => vec![Form::Int16],
        oid::INT4 => vec![Form::Int32],
        oid::INT8 => vec![Form::Int64],
        oid::OID => vec![Form::UInt32],
        oid::FLOAT4 => vec![Form::Float32],
        oid::FLOAT8 => vec![Form::Float64],
        oid::NUMERIC => vec![
            decimal(18, 4),
            decimal(9, 2),
            decimal(38, 10),
            decimal(76, 30),
            Form::NumericText,
            Form::NumericDouble,
        ],
        oid::DATE => vec![Form::Date],
        oid::TIME => vec![Form::Time, Form::TimeText],
        oid::TIMESTAMP => vec![Form::Timestamp],
        oid::TIMESTAMPTZ => vec![Form::TimestampTz],
        oid::INTERVAL => vec![Form::Interval],
        oid::UUID => vec![Form::Uuid, Form::UuidText],
        oid::BYTEA => vec![Form::Bytes],
        oid::JSON => vec![Form::Json, Form::JsonText],
        _ => vec![Form::Text, Form::Bytes],
    }
}

/// Exported columns, each in one of its forms.
fn stream_columns(columns: &[CatalogueColumn], exported: &[&str], which: usize) -> Vec<StreamColumn> {
    let column = |name: &&str| {
        let ty = columns.iter().find(|column| column.name == *name).expect("there").ty;
        let forms = forms(ty);
        let form = forms[which % forms.len()].clone();
        let infinity =
            matches!(ty, oid::DATE | oid::TIMESTAMP | oid::TIMESTAMPTZ).then_some(InfinityMode::Max);
        StreamColumn { column: Column::plain(name, "t", form.column_type(), true), form, infinity }
    };
    exported.iter().map(column).collect()
}

/// What takes rows out of pages and decodes them.
struct Reader {
    taker: Taker,
    decoder: HeapDecoder,
}

impl Reader {
    /// `as_stored` says whether values are decoded as they are stored where a builder can.
    fn new(columns: &[CatalogueColumn], exported: &[&str], which: usize, as_stored: bool) -> Self {
        let of = stream_columns(columns, exported, which);
        let forms: Vec<_> = of.iter().map(|column| stored_form(column).filter(|_| as_stored)).collect();
        let taker = Taker::new(&layout(columns, exported).expect("all types are known"), &forms);
        let decoder = HeapDecoder::new(&of, taker.stored(), &[], OnUnfit::Null);
        Self { taker, decoder }
    }

    fn take(&mut self, page: &[u8]) -> Result<(), Refused> {
        self.take_cut(page, page.len())
    }

    fn take_cut(&mut self, page: &[u8], size: usize) -> Result<(), Refused> {
        self.taker.take(page, size, self.decoder.rows())
    }

    /// Takes pages; refused ones give nothing.
    fn batches<'a>(mut self, pages: impl IntoIterator<Item = &'a [u8]>) -> Batches {
        let mut batches = Vec::new();
        for page in pages {
            let _ = self.take(page);
            while let Some(batch) = self.decoder.next_batch().map_err(|e| e.to_string())? {
                batches.push(batch);
            }
        }
        while let Some(batch) = self.decoder.finish().map_err(|e| e.to_string())? {
            batches.push(batch);
        }
        Ok(batches)
    }
}

type Batches = Result<Vec<RecordBatch>, String>;

/// What a stream of COPY gives.
fn copied(columns: &[StreamColumn], bytes: &[u8]) -> Vec<RecordBatch> {
    let mut decoder = CopyDecoder::new(columns, &[], OnUnfit::Null);
    let mut batches = Vec::new();
    decoder.take(bytes.to_vec());
    while let Some(batch) = decoder.next_batch().expect("sound") {
        batches.push(batch);
    }
    while let Some(batch) = decoder.finish().expect("sound") {
        batches.push(batch);
    }
    batches
}

fn joined(batches: &[RecordBatch]) -> RecordBatch {
    concat_batches(&batches[0].schema(), batches).expect("one schema")
}

fn reader(exported: &[&str]) -> Reader {
    Reader::new(&facts(), exported, 0, true)
}

#[test]
fn pages_give_exactly_what_copy_gives() {
    assert!(PAGES.len() > 2 * PAGE, "enough to see");
    for (which, names) in
        (0..6).flat_map(|which| [(which, all_names()), (which, vec!["added", "t", "i2", "e"])])
    {
        let of = stream_columns(&facts(), &names, which);
        let expected = joined(&copied(&stream_columns(&facts(), &all_names(), which), COPY));
        assert!(expected.num_rows() > 50);
        let places = names.iter().map(|name| all_names().iter().position(|n| n == name).expect("there"));
        let expected = expected.project(&places.collect::<Vec<_>>()).expect("all are there");
        for as_stored in [true, false] {
            let reader = Reader::new(&facts(), &names, which, as_stored);
            assert_eq!(reader.taker.stored().contains(&true), as_stored);
            let found = joined(&reader.batches(PAGES.chunks(PAGE)).expect("sound"));
            for (column, of) in of.iter().enumerate() {
                assert_eq!(found.column(column), expected.column(column), "{of:?}");
            }
        }
    }
}

#[test]
fn batches_are_those_of_copy() {
    const TIMES: usize = 80;
    let names = ["i2", "b", "i8", "f4", "n", "d", "tz", "u", "e", "nn"];
    let places: Vec<usize> =
        names.iter().map(|name| all_names().iter().position(|n| n == name).expect("there")).collect();
    let rows = joined(&copied(&stream_columns(&facts(), &all_names(), 0), COPY));
    let once = rows.project(&places).expect("all are there");
    let all = concat_batches(&once.schema(), std::iter::repeat_n(&once, TIMES)).expect("one schema");
    let pages = std::iter::repeat_n(PAGES, TIMES).flat_map(|pages| pages.chunks(PAGE));
    let found = Reader::new(&facts(), &names, 0, true).batches(pages).expect("sound");
    assert!(found.len() > 2, "several batches");
    let mut first = 0;
    for batch in &found {
        assert_eq!(batch, &all.slice(first, 2048.min(all.num_rows() - first)));
        first += batch.num_rows();
    }
    assert_eq!(first, all.num_rows());
}

#[test]
fn pages_without_their_holes_give_the_same_rows() {
    let mut reader = reader(&all_names());
    for page in PAGES.chunks(PAGE) {
        let [lower, upper] = [12, 14].map(|at| usize::from(u16::from_le_bytes([page[at], page[at + 1]])));
        let cut = [&page[..lower], &page[upper..]].concat();
        reader.take_cut(&cut, PAGE).expect("taken");
        assert!(cut.len() == PAGE || reader.take_cut(&cut, cut.len()).is_err(), "the size counts");
        if upper > lower {
            assert_eq!(reader.take_cut(&cut[1..], PAGE), Err(Refused::Listed), "another hole");
        }
    }
    let whole = self::reader(&all_names()).batches(PAGES.chunks(PAGE)).expect("sound");
    assert_eq!(reader.batches([]).expect("sound"), whole);
}

/// The first page after a change, and what is said of it: how many rows it gave.
fn changed(change: impl FnOnce(&mut [u8])) -> Result<usize, Refused> {
    let mut page = PAGES[..PAGE].to_vec();
    change(&mut page);
    let mut reader = reader(&all_names());
    let taken = reader.take(&page);
    let rows = reader.batches([]).expect("sound").iter().map(RecordBatch::num_rows).sum();
    assert!(taken.is_ok() || rows == 0, "nothing of a refused page is left");
    taken.map(|()| rows)
}

/// Where the last tuple of the first page begins.
fn last_tuple(page: &[u8]) -> usize {
    let lower = usize::from(u16::from_le_bytes([page[12], page[13]]));
    let items = page[24..lower].chunks(4).map(|item| u32::from_le_bytes(item.try_into().expect("four")));
    let last = items.rev().find(|item| item >> 15 & 3 == 1).expect("a tuple");
    (last & 0x7fff) as usize
}

#[test]
fn a_page_is_taken_whole_or_not_at_all() {
    assert!(changed(|_| ()).is_ok());
    for (what, at, value) in [
        ("not all visible", 10, 0),
        ("an unknown flag", 10, 0x0c),
        ("another layout", 18, 5),
        ("another size", 19, 0x40),
        ("no room for items", 12, 0),
        ("items that are cut", 12, 0x22),
        ("another byte order", 18, 0),
    ] {
        assert_eq!(changed(|page| page[at] = value), Err(Refused::Listed), "{what}");
    }
    let in_last = |offset: usize, value: u8| {
        changed(|page| {
            let at = last_tuple(page) + offset;
            page[at] = value;
        })
    };
    assert_eq!(in_last(22, 255), Err(Refused::Listed), "the last tuple has no data");
    assert_eq!(in_last(18, 27), Err(Refused::Newer), "more columns than the snapshot shows");
    let shared = changed(|page| {
        let lower = usize::from(u16::from_le_bytes([page[12], page[13]]));
        let length = |item: &&[u8]| u32::from_le_bytes((*item).try_into().expect("four")) >> 17;
        let longest = page[24..lower].chunks(4).max_by_key(length).expect("an item").to_vec();
        page[24..lower].chunks_mut(4).for_each(|item| item.copy_from_slice(&longest));
    });
    assert_eq!(shared, Err(Refused::Listed), "all items have the same tuple");
    assert_eq!(changed(|page| page.fill(0)), Ok(0), "a page that was never used");
    assert_eq!(reader(&["t"]).take(&PAGES[..PAGE - 1]), Err(Refused::Listed), "a short page");
}

#[test]
fn transactions_and_locks_of_a_tuple_are_never_looked_at() {
    let found = changed(|page| {
        let at = last_tuple(page);
        page[at..at + 18].fill(0xff);
        page[at + 21] ^= 0xfe;
        page[at + 19] ^= 0xf8;
    });
    assert_eq!(found, changed(|_| ()));
}

#[test]
fn what_the_catalogue_holds_for_older_rows_is_asked_of_the_server() {
    let mut columns = facts();
    columns.last_mut().expect("a column").has_missing = true;
    let mut reader = Reader::new(&columns, &["added"], 0, true);
    assert_eq!(reader.take(&PAGES[..PAGE]), Err(Refused::Listed));
    let mut reader = Reader::new(&columns, &["last"], 0, true);
    assert!(reader.take(&PAGES[..PAGE]).is_ok(), "no such value is exported");
}

proptest! {
    #[test]
    fn garbage_is_never_a_panic_and_its_growth_is_bounded(
        page in 0usize..4,
        changes in prop::collection::vec((0usize..PAGE, any::<u8>()), 0..40),
        shift in prop::option::of(0usize..PAGE - 24),
        which in 0usize..6,
    ) {
        let mut page = PAGES[page * PAGE..][..PAGE].to_vec();
        for (at, byte) in changes {
            page[at] = byte;
        }
        if let Some(shift) = shift {
            page[24..].rotate_left(shift);
        }
        page[10] = 4;
        same(&facts(), &all_names(), which, &page)?;
    }

    /// Pages of any size whose header and items are sound, with garbage in place of tuples, and tables of any layout.
    #[test]
    fn random_pages_and_layouts_are_never_a_panic(
        power in 10u32..=15,
        tuples in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..200), 0u16..40, any::<bool>()), 0..12),
        columns in prop::collection::vec((0usize..TYPES.len(), any::<bool>(), any::<bool>()), 1..30),
        every in 1usize..4,
        which in 0usize..6,
    ) {
        let size = 1usize << power;
        let mut page = vec![0; size];
        let (mut lower, mut upper) = (24, size);
        for (data, count, has_nulls) in tuples {
            let mut tuple = vec![0; 18];
            tuple.extend_from_slice(&count.to_le_bytes());
            tuple.extend_from_slice(&u16::from(has_nulls).to_le_bytes());
            let start = (23 + if has_nulls { usize::from(count).div_ceil(8) } else { 0 }).next_multiple_of(8);
            tuple.push(start as u8);
            tuple.resize(start, 0x5a);
            tuple.extend_from_slice(&data);
            let begin = (upper.saturating_sub(tuple.len())) / 8 * 8;
            if begin < lower + 4 + 8 || begin + tuple.len() > upper {
                break;
            }
            page[begin..begin + tuple.len()].copy_from_slice(&tuple);
            let item = begin as u32 | 1 << 15 | (tuple.len() as u32) << 17;
            page[lower..lower + 4].copy_from_slice(&item.to_le_bytes());
            (lower, upper) = (lower + 4, begin);
        }
        page[10] = 4;
        page[12..14].copy_from_slice(&(lower as u16).to_le_bytes());
        page[14..16].copy_from_slice(&(upper as u16).to_le_bytes());
        page[16..18].copy_from_slice(&(size as u16).to_le_bytes());
        page[18..20].copy_from_slice(&(size as u16 | 4).to_le_bytes());
        let column = |(number, (ty, has_missing, is_dropped)): (usize, (usize, bool, bool))| {
            let (ty, length, alignment) = TYPES[ty];
            let ty = if is_dropped { 0 } else { ty };
            let labels = (ty == 1).then(|| [(7, "label".to_owned())].into());
            CatalogueColumn { name: format!("c{number}"), length, alignment, has_missing, ty, labels }
        };
        let columns: Vec<CatalogueColumn> = columns.into_iter().enumerate().map(column).collect();
        let exported: Vec<&str> =
            columns.iter().filter(|c| c.ty != 0).step_by(every).map(|c| c.name.as_str()).collect();
        same(&columns, &exported, which, &page)?;
    }
}

/// A page that comes twice gives the same, whether values are decoded as they are stored or as fields of COPY. If it
/// is refused, it leaves no trace.
fn same(
    columns: &[CatalogueColumn],
    exported: &[&str],
    which: usize,
    page: &[u8],
) -> Result<(), TestCaseError> {
    let readers = [true, false].map(|as_stored| Reader::new(columns, exported, which, as_stored));
    let mut refused = Vec::new();
    let mut found = Vec::new();
    for mut reader in readers {
        refused.push(reader.take(page).err());
        prop_assert!(reader.decoder.rows().capacity() < 700 * page.len(), "growth is bounded");
        found.push(reader.batches([page]));
    }
    prop_assert_eq!(refused[0], refused[1]);
    prop_assert_eq!(&found[0], &found[1]);
    prop_assert!(refused[0].is_none() || found[0].as_ref().is_ok_and(Vec::is_empty));
    Ok(())
}

/// Types with their lengths and alignments. The type 1 is an enum.
const TYPES: [(u32, i16, char); 12] = [
    (oid::BOOL, 1, 'c'),
    (oid::INT2, 2, 's'),
    (oid::INT4, 4, 'i'),
    (oid::INT8, 8, 'd'),
    (oid::FLOAT8, 8, 'd'),
    (oid::NUMERIC, -1, 'i'),
    (oid::TEXT, -1, 'i'),
    (oid::BYTEA, -1, 'i'),
    (oid::UUID, 16, 'c'),
    (oid::INTERVAL, 16, 'd'),
    (oid::NAME, 64, 'c'),
    (1, 4, 'i'),
];
