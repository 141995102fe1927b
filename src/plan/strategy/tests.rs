//! How the facts of one table decide its split.

use super::*;
use crate::relation::{Column, ColumnType, Extent, Facts, Numbered, SurveyColumn};

fn column(name: &str, cast: Option<&str>) -> SurveyColumn {
    SurveyColumn {
        readable: true,
        canonical: false,
        column: Column::plain(name, cast.unwrap_or("json"), ColumnType::Int64, name != "id"),
        facts: Facts::of(()),
        width: 8,
        order: cast.map(|cast| Frozen::of(&cast)),
        ordered: cast.is_some(),
        numeric: cast == Some("bigint"),
        correlation: Some(0.99),
        histogram_bounds: 101,
        common_share: 0.0,
        indexed: name != "doc",
        doubt: None,
    }
}

fn pages(end: u64) -> Option<Extent> {
    (end > 0).then_some(Extent { of: Numbered::Pages, end })
}

/// A heap of 100-byte rows with primary key `id`.
fn heap(rows: u64) -> Relation {
    Relation {
        schema: "public".into(),
        name: "orders".into(),
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
        bytes: rows * 100,
        heap_bytes: rows * 100,
        outdated: false,
        extent: pages(rows * 100 / 8192),
        primary_key: vec!["id".into()],
        own: None,
        columns: vec![column("id", Some("bigint")), column("at", Some("timestamptz")), column("doc", None)],
    }
}

fn request() -> SplitRequest<'static> {
    SplitRequest {
        strategy: StrategyRequest::Auto,
        chunk_column: None,
        chunk_rows: None,
        chunk_bytes: NonZeroU64::new(4 << 30).expect("not zero"),
        snapshot: true,
        filtered: false,
        by_numbers: false,
        after: None,
    }
}

fn planned(relation: &Relation, request: &SplitRequest<'_>) -> Proposal {
    propose(relation, request, None).expect("can be split")
}

fn refused(relation: &Relation, request: &SplitRequest<'_>) -> ErrorReport {
    propose(relation, request, None).expect_err("cannot be split")
}

fn chunks(proposal: &Proposal) -> (&str, u32) {
    match &proposal.split {
        Split::By(strategy) => (strategy.name(), strategy.chunks()),
        Split::IntoRanges(KeyRanges { method, ranges, .. }) => match method {
            BoundaryMethod::Statistics => ("statistics", *ranges),
            BoundaryMethod::Sample { .. } => ("sample", *ranges),
            BoundaryMethod::OrderedPass => ("pass", *ranges),
        },
    }
}

#[test]
fn chunks_grow_with_the_table() {
    for (rows, expected) in [
        (0, ("single", 1)),
        (1_000_000, ("single", 1)),
        (1_000_001, ("statistics", 2)),
        (10_000_000, ("statistics", 10)),
        (100_000_000, ("statistics", 50)),
        (400_000_000, ("statistics", 80)),
        (1_000_000_000, ("ctid", 200)),
        (5_000_000_000, ("ctid", 500)),
    ] {
        assert_eq!(chunks(&planned(&heap(rows), &request())), expected, "{rows} rows");
    }
}

#[test]
fn the_reason_tells_what_was_decided_by() {
    let reason = |r: &Relation| planned(r, &request()).reason;
    assert_eq!(
        reason(&heap(10_000_000)),
        "range on id: numeric primary key, correlation 0.99, 10 chunks of about 1.0 M rows from 101 histogram bounds"
    );
    let mut scattered = heap(10_000_000);
    scattered.columns[0].correlation = Some(0.12);
    assert_eq!(
        reason(&scattered),
        "ctid: primary key `id` is stored out of order, correlation 0.12; 10 page ranges of 95.4 MiB, about 1.0 M rows each"
    );
    assert_eq!(reason(&heap(12_000)), "single: one file holds all of about 12.0 k rows");
}

#[test]
fn wide_rows_make_more_chunks_unless_rows_were_given() {
    let mut wide = heap(1_000_000);
    wide.bytes = 40 << 30;
    assert_eq!(chunks(&planned(&wide, &request())), ("statistics", 10));
    let given = SplitRequest { chunk_rows: NonZeroU64::new(1_000_000), ..request() };
    assert_eq!(chunks(&planned(&wide, &given)), ("single", 1));
    let tiny = SplitRequest { chunk_rows: NonZeroU64::new(1), ..request() };
    let proposal = planned(&heap(10_000_000), &tiny);
    assert_eq!(chunks(&proposal), ("ctid", 100_000));
    assert!(proposal.reason.contains("the most that a table may have"));
}

#[test]
fn auto_takes_the_first_strategy_that_fits() {
    let auto = |change: &dyn Fn(&mut Relation), snapshot| {
        let mut relation = heap(10_000_000);
        change(&mut relation);
        chunks(&planned(&relation, &SplitRequest { snapshot, ..request() })).0.to_owned()
    };
    assert_eq!(auto(&|_| {}, false), "statistics");
    assert_eq!(auto(&|r| r.columns[0].correlation = Some(-0.95), true), "statistics");
    assert_eq!(auto(&|r| r.columns[0].correlation = Some(0.5), true), "ctid");
    assert_eq!(auto(&|r| r.columns[0].correlation = None, true), "ctid");
    assert_eq!(auto(&|r| r.outdated = true, true), "ctid");
    assert_eq!(auto(&|r| r.outdated = true, false), "sample");
    assert_eq!(auto(&|r| r.columns[0].correlation = Some(0.5), false), "statistics");
    assert_eq!(auto(&|r| r.columns[0].histogram_bounds = 5, true), "ctid");
    assert_eq!(auto(&|r| r.columns[0].histogram_bounds = 5, false), "sample");
    assert_eq!(auto(&|r| r.columns[0].common_share = 0.06, false), "sample");
    assert_eq!(auto(&|r| r.columns[0].common_share = 0.05, false), "statistics");
    assert_eq!(auto(&|r| r.primary_key = vec!["at".into()], true), "ctid");
    assert_eq!(auto(&|r| r.primary_key = vec!["at".into(), "id".into()], false), "statistics");
    assert_eq!(auto(&|r| r.primary_key.clear(), true), "ctid");
    assert_eq!(auto(&|r| r.primary_key.clear(), false), "single");
    assert_eq!(auto(&|r| r.primary_key = vec!["doc".into()], false), "single");
    let partitioned = |r: &mut Relation| {
        r.kind = RelationKind::Partitioned;
        r.extent = None;
        r.columns[0].correlation = None;
        r.columns[0].histogram_bounds = 0;
    };
    assert_eq!(auto(&partitioned, true), "sample");
    // The parent of a foreign table too, although its own pages and key would allow a split.
    assert_eq!(auto(&|r| r.foreign = true, true), "single");
    assert_eq!(auto(&|r| r.kind = RelationKind::View, true), "single");
}

#[test]
fn statistics_are_not_asked_about_filtered_rows() {
    let filtered = SplitRequest { filtered: true, ..request() };
    assert!(filtered.needs_estimate(&heap(1)) && !request().needs_estimate(&heap(1)));
    let relation = heap(10_000_000);
    let proposed =
        |request: &SplitRequest<'_>, rows| propose(&relation, request, Some(rows)).expect("can be split");
    assert_eq!(chunks(&proposed(&filtered, 4_000_000)), ("ctid", 4));
    assert_eq!(chunks(&proposed(&filtered, 40_000)), ("single", 1));
    let loose = SplitRequest { snapshot: false, ..filtered };
    assert_eq!(chunks(&proposed(&loose, 4_000_000)), ("sample", 4));
    assert_eq!(proposed(&loose, 4_000_000).estimated_rows, 4_000_000);
}

#[test]
fn a_column_without_an_index_is_not_scanned_for_once_per_chunk() {
    let mut relation = heap(10_000_000);
    relation.columns[1].indexed = false;
    let at = |strategy| SplitRequest { strategy, chunk_column: Some("at"), ..request() };
    let auto = planned(&relation, &at(StrategyRequest::Auto));
    assert_eq!(chunks(&auto), ("ctid", 10));
    assert!(auto.reason.starts_with("ctid: no index begins with `at`;"), "{}", auto.reason);
    let asked = planned(&relation, &at(StrategyRequest::Range));
    assert_eq!(chunks(&asked), ("statistics", 10));
    assert!(asked.reason.ends_with("each chunk scans the whole table"), "{}", asked.reason);
}

#[test]
fn a_sample_is_taken_where_it_is_much_less_than_the_table() {
    let asked = |change: &dyn Fn(&mut Relation), rows| {
        let mut relation = heap(10_000_000);
        relation.columns[0].histogram_bounds = 0;
        change(&mut relation);
        let request =
            SplitRequest { strategy: StrategyRequest::Range, chunk_rows: NonZeroU64::new(rows), ..request() };
        match planned(&relation, &request).ranges().map(|ranges| ranges.method) {
            Some(BoundaryMethod::Sample { ppm }) => Some(ppm),
            Some(BoundaryMethod::OrderedPass) => None,
            other => panic!("{other:?}"),
        }
    };
    // 10 chunks × 300 of 122,070 pages.
    assert_eq!(asked(&|_| {}, 1_000_000), Some(24_577));
    assert_eq!(asked(&|_| {}, 100_000), Some(245_761));
    assert_eq!(asked(&|_| {}, 50_000), None, "half of the table");
    assert_eq!(asked(&|r| r.extent = None, 1_000_000), None, "no heap, or PostgreSQL before 14");
    assert_eq!(
        asked(&|r| r.extent = pages(100_000_000), 1_000_000),
        Some(300),
        "as many rows as pages at least"
    );
    let mut view = heap(0);
    view.kind = RelationKind::View;
    view.columns[0].histogram_bounds = 0;
    let named = SplitRequest { chunk_column: Some("id"), ..request() };
    let proposal = propose(&view, &named, Some(10_000_000)).expect("can be split");
    assert_eq!(proposal.ranges().map(|ranges| ranges.method), Some(BoundaryMethod::OrderedPass));
}

#[test]
fn a_named_column_splits_tables_and_views_and_null_gets_a_home() {
    let named = SplitRequest { chunk_column: Some("at"), ..request() };
    let proposed = |relation: &Relation| propose(relation, &named, Some(5_000_000)).expect("can be split");
    let mut view = heap(0);
    view.kind = RelationKind::View;
    view.estimated_rows = None;
    assert!(named.needs_estimate(&view));
    for relation in [heap(5_000_000), view] {
        let Split::IntoRanges(KeyRanges { column, order, ranges, nulls, .. }) = proposed(&relation).split
        else {
            panic!("not by range");
        };
        assert_eq!((column.as_str(), order, ranges, nulls), ("at", Frozen::of(&"timestamptz"), 5, true));
    }
}

#[test]
fn what_cannot_be_split_as_asked_says_what_to_change() {
    let asked = |strategy, chunk_column| SplitRequest { strategy, chunk_column, ..request() };
    let relation = heap(10_000_000);
    let error = refused(&relation, &asked(StrategyRequest::Auto, Some("idd")));
    assert_eq!(error.code, "unknown_column");
    assert!(error.message.contains("`idd`") && error.message.contains("public.orders"), "{error:?}");
    assert!(error.remedy.is_some_and(|r| r.contains("id, at") && r.contains("Did you mean `id`?")));
    let error = refused(&relation, &asked(StrategyRequest::Range, Some("doc")));
    assert_eq!(error.code, "not_sortable");
    for strategy in [StrategyRequest::Segment, StrategyRequest::Hash] {
        assert_eq!(refused(&relation, &asked(strategy, None)).code, "strategy_unavailable");
    }
    let mut keyless = heap(10_000_000);
    keyless.primary_key.clear();
    let error = refused(&keyless, &asked(StrategyRequest::Range, None));
    assert!(error.message.contains("no primary key") && error.remedy.is_some_and(|r| r.contains("id, at")));
    let ctid = asked(StrategyRequest::Ctid, None);
    assert!(
        refused(&relation, &SplitRequest { snapshot: false, ..ctid }).message.contains("without a snapshot")
    );
    keyless.extent = None;
    assert!(refused(&keyless, &ctid).message.contains("older than PostgreSQL 14"));
    for kind in [RelationKind::Foreign, RelationKind::Partitioned, RelationKind::Table] {
        let foreign = Relation { kind, foreign: true, ..heap(10_000_000) };
        for strategy in
            [asked(StrategyRequest::Range, Some("id")), asked(StrategyRequest::Auto, Some("id")), ctid]
        {
            let error = refused(&foreign, &strategy);
            assert_eq!(error.code, "strategy_unavailable");
            assert!(
                error.message.contains("foreign tables") || error.message.contains("is a foreign table"),
                "{error:?}"
            );
        }
    }
    assert_eq!(chunks(&planned(&heap(0), &ctid)), ("single", 1), "an empty heap has no page, and needs none");
    assert_eq!(chunks(&planned(&relation, &ctid)), ("ctid", 10));
    assert_eq!(chunks(&planned(&relation, &asked(StrategyRequest::Single, None))), ("single", 1));
}

#[test]
fn sizes_without_statistics_follow_from_bytes_and_width() {
    let mut unknown = heap(5_000_000);
    unknown.estimated_rows = None;
    let proposal = planned(&unknown, &request());
    assert!((5_000_000..20_000_000).contains(&proposal.estimated_rows), "{}", proposal.estimated_rows);
    assert!(chunks(&proposal).1 > 1);
}

#[test]
fn boundaries_complete_a_proposal() {
    let range = |bounds: &[&str]| {
        let values = bounds.iter().map(|b| (*b).to_owned()).collect();
        planned(&heap(4_000_000), &request())
            .finish(Some(Boundaries { values, method: BoundaryMethod::Statistics }))
    };
    let (strategy, reason) = range(&["1", "2", "3"]);
    assert_eq!((strategy.chunks(), reason.contains("only")), (4, false));
    let (strategy, reason) = range(&["1", "1"]);
    assert_eq!(strategy.chunks(), 2);
    assert!(reason.ends_with("its values allow 2 chunks only"), "{reason}");
    assert_eq!(range(&[]).0, Strategy::Single);
}
