//! Which tables a request chooses.

use super::*;
use crate::message::RequestMessage;
use crate::relation::{Column, ColumnType, Facts, Frozen};

fn relation(name: &str, kind: RelationKind) -> Relation {
    let column = |name: &str| SurveyColumn {
        column: Column::plain(name, "bigint", ColumnType::Int64, true),
        facts: Facts::of(()),
        width: 8,
        order: (name != "doc").then(|| Frozen::of(&"bigint")),
        ordered: name != "doc",
        numeric: true,
        correlation: None,
        histogram_bounds: 0,
        common_share: 0.0,
        indexed: true,
        doubt: None,
        readable: true,
        canonical: false,
    };
    let (schema, name) = name.split_once('.').expect("qualified");
    Relation {
        schema: schema.into(),
        name: name.into(),
        kind,
        unreadable: None,
        elsewhere: None,
        partial: None,
        contains: Vec::new(),
        alone: None,
        ways: None,
        has_own_rows: true,
        foreign: false,
        estimated_rows: None,
        bytes: 0,
        heap_bytes: 0,
        outdated: false,
        extent: None,
        primary_key: vec![],
        own: None,
        columns: ["id", "at", "doc"].map(column).into(),
    }
}

fn tables(names: &[&str]) -> Vec<Relation> {
    names.iter().map(|n| relation(n, RelationKind::Table)).collect()
}

fn request(json: &str) -> ExportRequest {
    match RequestMessage::parse(json.as_bytes()).expect(json) {
        RequestMessage::Export(request) => *request,
        other => panic!("not an export: {other:?}"),
    }
}

/// `number name` of tables and `number name code` of failures, by number.
fn told(chosen: &Chosen<'_>) -> Vec<String> {
    let tables = chosen.tables.iter().map(|t| (t.number, t.relation.name.clone()));
    let failed = chosen.failed.iter().map(|f| (f.number, format!("{} {}", f.table, f.error.code)));
    let mut all: Vec<_> = tables.chain(failed).collect();
    all.sort();
    all.into_iter().map(|(n, text)| format!("{n} {text}")).collect()
}

#[test]
fn tables_are_numbered_by_request_and_then_by_name() {
    let found = tables(&["s.c", "s.a", "s.b", "t.x"]);
    let request = request(r#"{"tables":["t.x","s.*","s.gone"]}"#);
    assert_eq!(
        told(&choose(&request, &[], &[], &found)),
        ["0 x", "1 a", "2 b", "3 c", "4 s.gone unknown_table"]
    );
}

#[test]
fn a_named_entry_gives_the_options_whatever_pattern_comes_first() {
    let found = tables(&["s.a", "s.b"]);
    let request =
        request(r#"{"tables":["s.*",{"table":"s.b","columns":["at","id"]},{"table":"s.b"},"*.*"]}"#);
    let chosen = choose(&request, &[], &[], &found);
    assert_eq!(told(&chosen), ["0 a", "1 b"]);
    let columns: Vec<_> = chosen.tables[1].columns.iter().map(|c| c.column.name.as_str()).collect();
    assert_eq!(columns, ["at", "id"]);
    assert_eq!(chosen.skipped.len(), 1, "that it was named twice is told");
}

#[test]
fn excluded_tables_are_left_out_unless_they_are_named() {
    let found = tables(&["s.a", "s.tmp_1", "s.tmp_2"]);
    let request = request(r#"{"tables":["s.*","s.tmp_1","s.tmp*"],"exclude":["s.tmp_*"]}"#);
    assert_eq!(told(&choose(&request, &[], &[], &found)), ["0 a", "1 tmp_1", "2 s.tmp* no_match"]);
}

#[test]
fn patterns_take_no_partitions_views_or_foreign_tables() {
    let found = [
        relation("s.root", RelationKind::Partitioned),
        relation("s.root_1", RelationKind::Partition),
        relation("s.v", RelationKind::View),
        relation("s.f", RelationKind::Foreign),
        relation("s.m", RelationKind::MaterializedView),
    ];
    assert_eq!(told(&choose(&request(r#"{"tables":["s.*"]}"#), &[], &[], &found)), ["0 m", "1 root"]);
    let named = request(r#"{"tables":["s.root_1","s.v","s.f"]}"#);
    assert_eq!(told(&choose(&named, &[], &[], &found)), ["0 root_1", "1 v", "2 f"]);
}

#[test]
fn what_cannot_be_exported_fails_when_named_and_is_skipped_when_matched() {
    let mut found = tables(&["s.a", "s.empty", "s.secret"]);
    found[1].columns.clear();
    found[2].unreadable = Some(Unreadable { why: "no SELECT right".into(), remedy: "grant it".into() });
    let chosen_by = |json: &str| {
        let request = request(json);
        let chosen = choose(&request, &[], &[], &found);
        (told(&chosen), chosen.skipped)
    };
    let (told, skipped) = chosen_by(r#"{"tables":["s.*"]}"#);
    assert_eq!(told, ["0 a"]);
    assert_eq!(skipped.iter().map(|s| s.table.as_str()).collect::<Vec<_>>(), ["s.empty", "s.secret"]);
    let (told, skipped) = chosen_by(r#"{"tables":["s.secret","s.empty"]}"#);
    assert_eq!(told, ["0 s.secret unreadable", "1 s.empty no_columns"]);
    assert!(skipped.is_empty());
}

#[test]
fn schemas_that_requests_may_not_name_are_refused_and_never_matched() {
    let found = tables(&["public.a", "private.b"]);
    let request = request(r#"{"tables":["*.*","private.b","private.*"]}"#);
    let chosen = choose(&request, &[], &["public".into()], &found);
    assert_eq!(told(&chosen), ["0 a", "1 private.b forbidden_schema", "2 private.* forbidden_schema"]);
}

#[test]
fn an_unknown_column_is_named_with_those_that_are_close() {
    let found = tables(&["s.a"]);
    let error_of = |entry: &str| {
        let request = request(&format!(r#"{{"tables":[{entry}]}}"#));
        let mut chosen = choose(&request, &[], &[], &found);
        chosen.failed.remove(0).error
    };
    let error = error_of(r#"{"table":"s.a","columns":["id","ta"]}"#);
    assert_eq!(error.message, "table s.a has no column `ta`, named by `columns`");
    assert!(error.remedy.is_some_and(|r| r.ends_with("Did you mean `at`?")));
    let after = r#"{"table":"s.*","after":{"column":"x","value":"1"}}"#;
    assert_eq!(error_of(after).code, "unknown_column");
    let after = r#"{"table":"s.a","after":{"column":"doc","value":"1"}}"#;
    assert_eq!(error_of(after).code, "not_sortable");
    assert_eq!(error_of(r#"{"table":"s.a","columns":["id","id"]}"#).code, "duplicate_column");
}
