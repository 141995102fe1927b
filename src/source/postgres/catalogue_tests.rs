use super::*;

fn request(tables: &[&str], schemas: &[&str]) -> SurveyRequest {
    SurveyRequest {
        tables: tables.iter().map(|t| TablePattern::parse(t).expect("valid")).collect(),
        schemas: schemas.iter().map(|&s| s.to_owned()).collect(),
        ..SurveyRequest::default()
    }
}

#[test]
fn names_from_requests_are_quoted_and_literal_schemas_compared_by_the_server() {
    let sql = named_sql(&request(&["sales.*", "\"o'k\".\"x\"\"y\""], &["sales"]));
    assert!(
        sql.contains("ARRAY['o''k']::pg_catalog.text[]") && sql.contains("ARRAY['x\"y']::pg_catalog.text[]")
    );
    assert!(sql.contains("n.nspname = ANY (ARRAY['sales']::pg_catalog.text[])"));
    let any = named_sql(&request(&["s*.t", "a.*"], &[]));
    assert!(!any.contains("ANY (ARRAY"), "one wildcard schema opens all: {any}");
}

fn facts(bytes: u64, counted_rows: f64, counted_pages: f64) -> Facts {
    Facts {
        schema_usage: true,
        select: true,
        any_column: true,
        hidden_rows: false,
        populated: true,
        heap: true,
        members: 1,
        foreign_members: 0,
        reads_foreign: false,
        heap_bytes: bytes,
        toast_bytes: 0,
        block_bytes: 8192,
        counted_rows,
        counted_pages,
        ..Facts::default()
    }
}

#[test]
fn rows_are_estimated_from_the_size_of_now() {
    let rows = |f: Facts| f.rows(RelationKind::Table);
    assert_eq!(rows(facts(8192 * 200, 1_000.0, 100.0)), Some(2_000));
    assert_eq!(rows(facts(8192 * 200, 0.0, 0.0)), None);
    assert_eq!(rows(facts(0, 0.0, 0.0)), Some(0));
    assert_eq!(facts(0, 0.0, 0.0).rows(RelationKind::View), None);
    assert!(
        facts(8192 * 200, 1_000.0, 100.0).are_outdated() && !facts(8192 * 110, 1_000.0, 100.0).are_outdated()
    );
}

#[test]
fn what_cannot_be_read_says_why() {
    let named = Named { oid: 1, schema: "S".into(), name: "t".into(), kind: RelationKind::Table };
    let why = |f: &Facts, partial_rows: bool| {
        f.unreadable(&named, 2, (!partial_rows).then_some("give the role BYPASSRLS"))
            .map(|u| format!("{} ({})", u.why, u.remedy))
    };
    let mut f = facts(0, 0.0, 0.0);
    assert_eq!(why(&f, false), None);
    f.hidden_rows = true;
    assert!(why(&f, false).is_some_and(|w| w.contains("row-level") && w.contains("BYPASSRLS")));
    assert_eq!(why(&f, true), None);
    f.populated = false;
    assert!(why(&f, true).is_some_and(|w| w.contains("REFRESH MATERIALIZED VIEW \"S\".\"t\"")));
    (f.select, f.any_column) = (false, false);
    assert!(why(&f, true).is_some_and(|w| w.starts_with("no SELECT right (grant")));
    f.schema_usage = false;
    assert!(why(&f, true).is_some_and(|w| w.contains("GRANT USAGE ON SCHEMA \"S\"")));
}
