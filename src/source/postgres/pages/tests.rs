use proptest::prelude::*;
use serde_json::Value;

use super::super::types::oid;
use super::columns::{CatalogueColumn, layout};
use super::tuple::{Refused, Taker};

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

fn taker(exported: &[&str]) -> Taker {
    Taker::new(layout(&facts(), exported).expect("all types are known"))
}

/// The fields of each row of a stream of COPY without its header.
fn rows(mut bytes: &[u8]) -> Vec<Vec<Option<Vec<u8>>>> {
    let mut rows = Vec::new();
    while let Some((count, rest)) = bytes.split_first_chunk::<2>() {
        bytes = rest;
        let Ok(count) = usize::try_from(i16::from_be_bytes(*count)) else { break };
        let field = |_| {
            let (length, rest) = bytes.split_first_chunk::<4>().expect("a length");
            bytes = rest;
            let length = usize::try_from(i32::from_be_bytes(*length)).ok()?;
            let (field, rest) = bytes.split_at(length);
            bytes = rest;
            Some(field.to_vec())
        };
        rows.push((0..count).map(field).collect());
    }
    rows
}

#[test]
fn pages_give_byte_for_byte_what_copy_sends() {
    let mut taker = taker(&all_names());
    let mut out = Vec::new();
    let taken: u32 = PAGES.chunks(PAGE).map(|page| taker.take(page, &mut out).expect("taken")).sum();
    assert!(taken > 50 && PAGES.len() > 2 * PAGE, "enough to see");
    let copied = &COPY[19..COPY.len() - 2];
    assert_eq!(rows(&out), rows(copied));
    assert!(out == copied);
}

#[test]
fn columns_come_in_the_order_of_the_plan() {
    let wanted = ["added", "t", "i2", "e"];
    let places = wanted.map(|name| all_names().iter().position(|n| *n == name).expect("there"));
    let mut taker = taker(&wanted);
    let mut out = Vec::new();
    for page in PAGES.chunks(PAGE) {
        taker.take(page, &mut out).expect("taken");
    }
    let expected: Vec<Vec<_>> = rows(&COPY[19..])
        .iter()
        .map(|row| places.iter().map(|place| row[*place].clone()).collect())
        .collect();
    assert_eq!(rows(&out), expected);
}

/// The first page after a change, and what is said of it.
fn changed(change: impl FnOnce(&mut [u8])) -> Result<u32, Refused> {
    let mut page = PAGES[..PAGE].to_vec();
    change(&mut page);
    let mut out = b"before".to_vec();
    let taken = taker(&all_names()).take(&page, &mut out);
    assert!(taken.is_ok() || out == b"before", "nothing of a refused page is left");
    taken
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
    assert_eq!(taker(&["t"]).take(&PAGES[..PAGE - 1], &mut Vec::new()), Err(Refused::Listed), "a short page");
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
    let mut taker = Taker::new(layout(&columns, &["added"]).expect("known"));
    assert_eq!(taker.take(&PAGES[..PAGE], &mut Vec::new()), Err(Refused::Listed));
    let mut taker = Taker::new(layout(&columns, &["last"]).expect("known"));
    assert!(taker.take(&PAGES[..PAGE], &mut Vec::new()).is_ok(), "no such value is exported");
}

proptest! {
    #[test]
    fn garbage_is_never_a_panic_and_its_growth_is_bounded(
        page in 0usize..4,
        changes in prop::collection::vec((0usize..PAGE, any::<u8>()), 0..40),
        shift in prop::option::of(0usize..PAGE - 24),
    ) {
        let mut page = PAGES[page * PAGE..][..PAGE].to_vec();
        for (at, byte) in changes {
            page[at] = byte;
        }
        if let Some(shift) = shift {
            page[24..].rotate_left(shift);
        }
        page[10] = 4;
        let mut out = Vec::new();
        let taken = taker(&all_names()).take(&page, &mut out);
        prop_assert!(out.capacity() < 600 * PAGE * 2);
        if taken.is_ok() {
            rows(&out);
        }
    }

    /// Pages of any size whose header and items are sound, with garbage in place of tuples, and tables of any layout.
    #[test]
    fn random_pages_and_layouts_are_never_a_panic(
        power in 10u32..=15,
        tuples in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..200), 0u16..40, any::<bool>()), 0..12),
        columns in prop::collection::vec((0usize..TYPES.len(), any::<bool>(), any::<bool>()), 1..30),
        every in 1usize..4,
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
        let mut taker = Taker::new(layout(&columns, &exported).expect("all types are known"));
        let mut out = b"before".to_vec();
        match taker.take(&page, &mut out) {
            Ok(count) => {
                let rows = rows(&out[6..]);
                prop_assert_eq!(rows.len(), count as usize);
                prop_assert!(rows.iter().all(|row| row.len() == exported.len()));
            }
            Err(_) => prop_assert_eq!(&out, b"before"),
        }
        prop_assert!(out.capacity() < size * 600);
    }
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
