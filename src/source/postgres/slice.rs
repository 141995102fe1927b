//! The SQL of what a chunk reads: which rows, which columns.
//!
//! Invariant I6: chunks are disjoint and together everything. Bounds are
//! half-open, the outer ones open, and NULL keys are asked for by name.

use super::quote::{ident, literal, table};
use crate::plan::column::{Column, Fetch};
use crate::plan::export_plan::Slice;
use crate::source::{ErrorKind, Selection, SourceError};

/// Types by which tables can be split: as plans name them (the casts of
/// `decode::types::range_key`), and as SQL does whatever the search path. Their
/// text casts back exactly and their order is total. `character varying` is
/// compared as text; `character` would cut its bounds to one character.
const CASTS: [(&str, &str); 11] = [
    ("smallint", "pg_catalog.int2"),
    ("integer", "pg_catalog.int4"),
    ("bigint", "pg_catalog.int8"),
    ("numeric", "pg_catalog.numeric"),
    ("date", "pg_catalog.date"),
    ("timestamp without time zone", "pg_catalog.timestamp"),
    ("timestamp with time zone", "pg_catalog.timestamptz"),
    ("uuid", "pg_catalog.uuid"),
    ("text", "pg_catalog.text"),
    ("character varying", "pg_catalog.text"),
    ("bpchar", "pg_catalog.bpchar"),
];

/// Highest page that a heap can have.
const LAST_PAGE: u32 = u32::MAX - 1;

/// The SQL cast for a plan's type name; only known ones reach SQL (I7).
pub(super) fn cast(name: &str) -> Result<&'static str, SourceError> {
    CASTS.iter().find(|(plan, _)| *plan == name).map(|(_, sql)| *sql).ok_or_else(|| SourceError {
        kind: ErrorKind::Permanent,
        code: "chunk_column".into(),
        message: format!("a column of type {name:?} cannot be split by"),
        remedy: Some("choose another chunk_column or strategy".into()),
    })
}

/// The condition of a slice; none: every row.
pub(super) fn condition(slice: Slice<'_>) -> Result<Option<String>, SourceError> {
    Ok(match slice {
        Slice::All | Slice::Pages { from: None, to: None } => None,
        Slice::Nulls { column } => Some(format!("{} IS NULL", ident(column))),
        Slice::Range { column, from: None, to: None, .. } => Some(format!("{} IS NOT NULL", ident(column))),
        Slice::Range { column, cast: ty, from, to } => {
            let (column, ty) = (ident(column), cast(ty)?);
            let from = from.map(|v| format!("{column} >= {}::{ty}", literal(v)));
            let to = to.map(|v| format!("{column} < {}::{ty}", literal(v)));
            both(from, to)
        }
        Slice::Pages { from, to } => {
            let tid = |page: u32| format!("'({},0)'::pg_catalog.tid", page.min(LAST_PAGE));
            both(from.map(|p| format!("ctid >= {}", tid(p))), to.map(|p| format!("ctid < {}", tid(p))))
        }
    })
}

fn both(a: Option<String>, b: Option<String>) -> Option<String> {
    match (a, b) {
        (Some(a), Some(b)) => Some(format!("{a} AND {b}")),
        (a, b) => a.or(b),
    }
}

/// `FROM … WHERE …` of a selection, with one more condition. The filter stands
/// on lines of its own: whatever it ends with, the parenthesis closes.
pub(super) fn from_where(selection: &Selection<'_>, condition: Option<&str>) -> String {
    let mut sql = format!("FROM {}", table(selection.schema, selection.name));
    match (selection.filter, condition) {
        (None, None) => {}
        (None, Some(c)) => sql.push_str(&format!(" WHERE {c}")),
        (Some(f), None) => sql.push_str(&format!(" WHERE (\n{f}\n)")),
        (Some(f), Some(c)) => sql.push_str(&format!(" WHERE (\n{f}\n) AND {c}")),
    }
    sql
}

/// The columns as a chunk selects them.
pub(super) fn select_list(columns: &[Column]) -> String {
    let items: Vec<String> = columns
        .iter()
        .map(|c| match c.fetch {
            Fetch::Native => ident(&c.name),
            Fetch::AsText => format!("{}::pg_catalog.text", ident(&c.name)),
        })
        .collect();
    items.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::types::{PgType, range_key};
    use crate::plan::export_plan::Strategy;

    fn sql(slice: Slice<'_>) -> String {
        condition(slice).expect("known type").unwrap_or_default()
    }

    #[test]
    fn ranges_touch_without_overlap_and_nulls_have_a_home() {
        let strategy = Strategy::Range {
            column: "a\"b".into(),
            cast: "text".into(),
            bounds: vec!["it's".into(), "z".into()],
            nulls: true,
        };
        let all: Vec<String> = (0..4).filter_map(|i| strategy.slice(i)).map(sql).collect();
        assert_eq!(
            all,
            [
                "\"a\"\"b\" < 'it''s'::pg_catalog.text",
                "\"a\"\"b\" >= 'it''s'::pg_catalog.text AND \"a\"\"b\" < 'z'::pg_catalog.text",
                "\"a\"\"b\" >= 'z'::pg_catalog.text",
                "\"a\"\"b\" IS NULL",
            ]
        );
        let unbounded = Slice::Range { column: "k", cast: "bigint", from: None, to: None };
        assert_eq!(sql(unbounded), "\"k\" IS NOT NULL");
    }

    #[test]
    fn pages_stay_within_what_a_heap_can_have() {
        assert_eq!(sql(Slice::Pages { from: Some(7), to: None }), "ctid >= '(7,0)'::pg_catalog.tid");
        assert_eq!(
            sql(Slice::Pages { from: Some(u32::MAX), to: Some(u32::MAX) }),
            "ctid >= '(4294967294,0)'::pg_catalog.tid AND ctid < '(4294967294,0)'::pg_catalog.tid"
        );
        assert_eq!(condition(Slice::Pages { from: None, to: None }).expect("pages"), None);
    }

    #[test]
    fn a_cast_that_is_not_in_the_table_never_reaches_sql() {
        let slice = Slice::Range { column: "k", cast: "int8) OR (true", from: Some("1"), to: None };
        assert_eq!(condition(slice).expect_err("refused").kind, ErrorKind::Permanent);
    }

    #[test]
    fn every_key_that_the_type_table_knows_can_be_cast_to() {
        let mut known = 0;
        for oid in 1..4_000 {
            let name = String::new();
            let ty = PgType { oid, name, typtype: 'b', category: 'U', typmod: -1, elem: None, base: None };
            if let Some(key) = range_key(&ty) {
                assert!(cast(key.cast).is_ok(), "{}", key.cast);
                known += 1;
            }
        }
        assert_eq!(known, CASTS.len());
    }

    #[test]
    fn a_filter_cannot_swallow_the_slice() {
        let selection = Selection { schema: "s", name: "t", filter: Some("a = 1 OR b -- c") };
        assert_eq!(
            from_where(&selection, Some("\"k\" < '5'::pg_catalog.int8")),
            "FROM \"s\".\"t\" WHERE (\na = 1 OR b -- c\n) AND \"k\" < '5'::pg_catalog.int8"
        );
    }
}
