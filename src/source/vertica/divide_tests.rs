//! How tables are cut.

use std::num::NonZeroU64;

use super::*;
use crate::relation::{Column, ColumnType, RelationKind, SurveyColumn};

const WANTED: Wanted = Wanted {
    read: ReadWay::Auto,
    must: false,
    strategy: StrategyRequest::Auto,
    by_column: false,
    chunk_rows: NonZeroU64::new(5_000_000),
    chunk_bytes: NonZeroU64::new(4 << 30).expect("not zero"),
    filtered: None,
    only: false,
};

fn survey_column(name: &str) -> SurveyColumn {
    SurveyColumn {
        column: Column::plain(name, "int", ColumnType::Int64, false),
        readable: true,
        canonical: false,
        facts: Facts::of(()),
        width: 8,
        order: Some(Frozen::of(&super::super::condition::KeyType::Int)),
        ordered: true,
        numeric: true,
        correlation: None,
        histogram_bounds: 0,
        indexed: false,
        doubt: None,
        common_share: 0.0,
    }
}

fn relation(rows: u64, layout: Layout) -> Relation {
    Relation {
        schema: "s".into(),
        name: "t".into(),
        kind: RelationKind::Table,
        unreadable: None,
        elsewhere: None,
        partial: None,
        contains: Vec::new(),
        alone: None,
        ways: None,
        has_own_rows: true,
        foreign: false,
        estimated_rows: Some(rows),
        bytes: rows * 8,
        heap_bytes: 0,
        outdated: false,
        extent: None,
        primary_key: vec!["id".into()],
        columns: vec![survey_column("id"), survey_column("at")],
        own: Some(Facts::of(layout)),
    }
}

fn hashed_column(name: &str) -> HashedColumn {
    HashedColumn { name: name.into(), source_type: "int".into() }
}

fn segmented() -> Layout {
    Layout {
        segmentation: Some("hash(t.at)".into()),
        hashable: vec![hashed_column("id"), hashed_column("at")],
        nodes: 3,
        ..Layout::default()
    }
}

fn cut(relation: &Relation, wanted: &Wanted) -> Option<Pieces> {
    divide(relation, wanted, "s.t").expect("no refusal")
}

fn hashes(pieces: &Pieces) -> Vec<HashRange> {
    pieces.pieces.iter().map(|piece| piece.of.thaw().expect("a range")).collect()
}

fn hashed_names(range: &HashRange) -> Vec<&str> {
    range.columns.iter().map(|column| column.name.as_str()).collect()
}

#[test]
fn ranges_cover_all_hashes_once() {
    for chunks in [1, 2, 3, 7, 12, 48, 99_999, 100_000] {
        let columns = [hashed_column("a")];
        let all: Vec<HashRange> =
            ranges(&columns, chunks).iter().map(|piece| piece.of.thaw().expect("a range")).collect();
        assert_eq!(all.len() as u64, chunks);
        assert_eq!((all[0].from, all[all.len() - 1].to), (None, None), "open at both ends");
        let width = HASHES / chunks;
        for pair in all.windows(2) {
            assert_eq!(pair[0].to, pair[1].from, "no gap, no overlap");
            let (from, to) = (pair[0].from.unwrap_or(0), pair[0].to.expect("an end"));
            assert!(to - from == width || to - from == width + 1, "{from} to {to}");
            assert!(to < HASHES);
        }
    }
}

#[test]
fn a_large_segmented_table_is_cut_by_its_own_hash_for_all_nodes() {
    let table = relation(52_000_000, segmented());
    let pieces = cut(&table, &WANTED).expect("cut");
    assert_eq!((pieces.strategy, pieces.pieces.len()), ("hash", 12), "eleven chunks are not for three nodes");
    assert!(hashes(&pieces).iter().all(|range| hashed_names(range) == ["at"]));
    assert!(
        pieces.reason.contains("12 ranges of at") && pieces.reason.contains("3 nodes"),
        "{}",
        pieces.reason
    );
    let filtered = cut(&table, &Wanted { filtered: Some(9_000_000), ..WANTED }).expect("cut");
    assert_eq!(filtered.pieces.len(), 3);
    assert_eq!(cut(&relation(4_000_000, segmented()), &WANTED), None, "one chunk is enough");
}

#[test]
fn other_segmentations_are_replaced_by_a_hash_of_the_key_or_of_all_columns() {
    let other = Layout { segmentation: Some("modularhash(id)".into()), ..segmented() };
    let mut table = relation(52_000_000, other);
    assert_eq!(hashed_names(&hashes(&cut(&table, &WANTED).expect("cut"))[0]), ["id"]);
    table.primary_key.clear();
    assert_eq!(hashed_names(&hashes(&cut(&table, &WANTED).expect("cut"))[0]), ["id", "at"]);
}

#[test]
fn a_key_that_leads_the_sort_order_and_a_table_on_every_node_are_left_to_ranges() {
    let sorted = Layout { leading: Some("id".into()), ..segmented() };
    assert_eq!(cut(&relation(52_000_000, sorted), &WANTED), None);
    let everywhere = Layout { segmentation: None, ..segmented() };
    let table = relation(52_000_000, everywhere);
    assert_eq!(cut(&table, &WANTED), None);
    assert_eq!(cut(&relation(52_000_000, segmented()), &Wanted { by_column: true, ..WANTED }), None);
    let asked = Wanted { strategy: StrategyRequest::Hash, ..WANTED };
    assert_eq!(hashed_names(&hashes(&cut(&table, &asked).expect("asked for"))[0]), ["id"]);
    for strategy in [StrategyRequest::Range, StrategyRequest::Single, StrategyRequest::Ctid] {
        assert_eq!(cut(&table, &Wanted { strategy, ..WANTED }), None);
    }
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let view = relation(0, Layout { whole: Some("it is a view"), ..Layout::default() });
    assert_eq!(cut(&view, &WANTED), None);
    for (relation, wanted) in [
        (&view, Wanted { strategy: StrategyRequest::Hash, ..WANTED }),
        (&relation(1, segmented()), Wanted { read: ReadWay::Copy, must: true, ..WANTED }),
        (&relation(1, segmented()), Wanted { read: ReadWay::Pages, must: true, ..WANTED }),
    ] {
        let error = divide(relation, &wanted, "s.t").expect_err("refused");
        assert!(error.message.contains("s.t") && error.remedy.is_some(), "{error}");
    }
    let default = Wanted { read: ReadWay::Copy, must: false, ..WANTED };
    assert_eq!(cut(&relation(1, segmented()), &default), None);
}

#[test]
fn only_a_hash_of_known_columns_is_a_segmentation() {
    let columns = ["id", "At", "a\"b", "ä", "x", "X"];
    let of = |text: &str| segmentation(text, &columns);
    for (text, expected) in [
        ("hash(id)", vec!["id"]),
        ("HASH (t.id , public.t.At)", vec!["id", "At"]),
        ("hash(\"public\".\"my.table\".\"a\"\"b\", ä)", vec!["a\"b", "ä"]),
        ("hash(ID, at)", vec!["id", "At"]),
        ("hash(x, X)", vec!["x", "X"]),
    ] {
        assert_eq!(of(text), Some(expected.into_iter().map(str::to_owned).collect()), "{text}");
    }
    for text in [
        "",
        "hash",
        "hash()",
        "hash(id",
        "hash(id) AND true",
        "hash(id,)",
        "hash(,id)",
        "hash(id at)",
        "hash(other)",
        "hash(\"ID\")",
        "hash((id))",
        "hash(id + 1)",
        "hash(lower(id))",
        "hash(id); DROP TABLE t",
        "hash(id -- )",
        "hash(a.b.c.d.id)",
        "hash('id')",
        "hash(id)::int",
        "mod(hash(id), 2)",
        "hash(\"id)",
        "0x00000000..0x7fffffff",
        "häsh(id)",
    ] {
        assert_eq!(of(text), None, "{text}");
    }
}
