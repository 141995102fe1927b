//! The SQL of what a chunk reads: which rows, which columns.
//!
//! Invariant I6: chunks do not overlap, and together they hold every row. Ranges are half-open, the first and
//! the last are open, and a separate chunk reads NULL keys.

use super::order::{Cast, cast};
use super::quote::{ident, literal, shown, table};
use super::reading::{Fetch, Readings};
use crate::relation::column::Geometry;
use crate::relation::{Frozen, Numbered, Selection, Slice};
use crate::source::SourceError;
use crate::source::decode::{Form, FormAttribute, Shape};

/// A relation and what to read of it, with its filter in SQL.
#[derive(Clone, Copy, Debug)]
pub(super) struct Selected<'a> {
    pub(super) schema: &'a str,
    pub(super) name: &'a str,
    /// Whether to leave out the rows of its children.
    pub(super) only: bool,
    pub(super) filter: Option<&'a str>,
}

impl<'a> Selected<'a> {
    /// The selection of a plan, with its filter in SQL (see [`filter_of`]).
    pub(super) fn of(selection: &Selection<'a>, filter: Option<&'a str>) -> Self {
        let Selection { schema, name, only, .. } = *selection;
        Self { schema, name, only, filter }
    }
}

/// The filter of a selection, in SQL.
pub(super) fn filter_of(selection: &Selection<'_>) -> Result<Option<String>, SourceError> {
    selection.filter.map(Frozen::thaw).transpose().map_err(|_| {
        let name = shown(selection.schema, selection.name);
        SourceError::permanent(
            "filter",
            format!("the filter of {name} was planned for another kind of source"),
        )
        .with_remedy("export the table again")
    })
}

/// First version that can scan a range of pages without reading the others.
pub(super) const HAS_TID_RANGE_SCAN: u32 = 140_000;
/// Highest page number of a heap.
pub(super) const LAST_PAGE: u64 = u32::MAX as u64 - 1;

/// The condition for a slice; `None` for every row.
pub(super) fn condition(slice: Slice<'_>) -> Result<Option<String>, SourceError> {
    Ok(match slice {
        Slice::All => None,
        Slice::Nulls { column } => Some(is_null(column)),
        Slice::Piece(_) => unreachable!("`chunk` refuses pieces, and `greenplum::chunk` reads them"),
        Slice::Range { column, from: None, to: None, .. } => Some(format!("{} IS NOT NULL", ident(column))),
        Slice::Range { column, order, from, to } => {
            let (column, Cast { ty, collate, .. }) = (ident(column), cast(order)?);
            // The operator is from pg_catalog, whatever the search path of a view contains.
            let side = |operator, value| {
                format!("{column}{collate} OPERATOR(pg_catalog.{operator}) {}::{ty}", literal(value))
            };
            both(from.map(|v| side(">=", v)), to.map(|v| side("<", v)))
        }
        Slice::Numbers(numbers) => {
            let (from, to) = numbers.of(Numbered::Pages).ok_or_else(|| {
                SourceError::permanent("strategy", format!("PostgreSQL does not know chunks such as {slice}"))
                    .with_remedy("export the table again")
            })?;
            let tid = |page: u64| format!("'({},0)'::pg_catalog.tid", page.min(LAST_PAGE));
            both(from.map(|p| format!("ctid >= {}", tid(p))), to.map(|p| format!("ctid < {}", tid(p))))
        }
    })
}

/// The condition that a column is NULL.
pub(super) fn is_null(column: &str) -> String {
    format!("{} IS NULL", ident(column))
}

fn both(a: Option<String>, b: Option<String>) -> Option<String> {
    match (a, b) {
        (Some(a), Some(b)) => Some(format!("{a} AND {b}")),
        (a, b) => a.or(b),
    }
}

/// `FROM … WHERE …` of a selection, with one more condition.
pub(super) fn from_where(selection: &Selected<'_>, condition: Option<&str>) -> String {
    format!("FROM {}{}", item(selection), conditions(selection, condition))
}

/// The relation as an item of `FROM`.
pub(super) fn item(selection: &Selected<'_>) -> String {
    let only = if selection.only { "ONLY " } else { "" };
    format!("{only}{}", table(selection.schema, selection.name))
}

/// [`from_where`] without the rows of child tables.
pub(super) fn from_only_where(selection: &Selected<'_>, condition: Option<&str>) -> String {
    from_where(&Selected { only: true, ..*selection }, condition)
}

/// Hides a filter from the planner, so that no index and no partition bound decides what the filter finds.
pub(super) fn opaque(filter: &str) -> String {
    format!("CASE WHEN (\n{filter}\n) THEN true END")
}

/// The `WHERE` clause. The filter has lines of its own, so that the closing parenthesis works whatever the
/// filter ends with.
pub(super) fn conditions(selection: &Selected<'_>, condition: Option<&str>) -> String {
    match (selection.filter, condition) {
        (None, None) => String::new(),
        (None, Some(c)) => format!(" WHERE {c}"),
        (Some(f), None) => format!(" WHERE (\n{f}\n)"),
        (Some(f), Some(c)) => format!(" WHERE (\n{f}\n) AND {c}"),
    }
}

/// The columns as a chunk selects them.
pub(super) fn select_list(columns: &Readings) -> String {
    let items: Vec<String> = columns
        .iter()
        .map(|(name, reading)| match reading.fetch {
            Fetch::Native => ident(name),
            Fetch::AsText => text_of(&ident(name)),
            // The bytes as stored. The server converts, and may refuse, only texts, so both branches return
            // bytes. `convert_to` with the database's own encoding converts nothing, but it verifies UTF-8.
            // `textsend` in a UTF-8 session does not.
            Fetch::AsBytes => {
                let name = ident(name);
                let text = format!("pg_catalog.concat({name})");
                format!(
                    "CASE WHEN {name} IS NULL THEN NULL \
                     WHEN pg_catalog.getdatabaseencoding() = 'UTF8' THEN pg_catalog.textsend({text}) \
                     ELSE pg_catalog.convert_to({text}, pg_catalog.getdatabaseencoding()) END"
                )
            }
            Fetch::Parts => with_text(ident(name), &reading.form),
        })
        .collect();
    items.join(", ")
}

/// An expression that casts every value without a readable binary form to text. It builds composites again
/// from their attributes. NULL stays NULL, because that differs from a composite of NULLs. (In plans of
/// version 1, functions of the source convert shapes to well-known binary.)
fn with_text(value: String, form: &Form) -> String {
    match form {
        Form::SourceText => text_of(&value),
        Form::Geometry(Shape { schema: Some(schema), declared: Geometry { srid, geodesic, .. } }) => {
            match (srid, geodesic) {
                (Some(_), _) => format!("{}.st_asbinary({value})", ident(schema)),
                (None, false) => format!("{}.st_asewkb({value})", ident(schema)),
                (None, true) => format!("{0}.st_asewkb({value}::{0}.geometry)", ident(schema)),
            }
        }
        Form::List(element) if **element == Form::SourceText => texts_of(&value),
        Form::Struct(attributes) if attributes.iter().any(|attribute| has_text(&attribute.form)) => {
            let attribute = |attribute: &FormAttribute| {
                with_text(format!("({value}).{}", ident(&attribute.name)), &attribute.form)
            };
            let attributes: Vec<String> = attributes.iter().map(attribute).collect();
            format!("CASE WHEN {} THEN ROW({}) END", is_not_null(&value), attributes.join(", "))
        }
        _ => value,
    }
}

/// The text of a value as its type's output function writes it. A cast to text may write another text
/// (`inet`, `boolean`), and the owner of a type may define any cast. `concat` calls the output function, and
/// keeps the blanks at the end of a character(n).
pub(super) fn text_of(value: &str) -> String {
    format!("CASE WHEN {} THEN pg_catalog.concat({value}) END", is_not_null(value))
}

/// Whether a value is there. A composite of NULLs is there, but `IS NOT NULL` says that it is not. `IS DISTINCT
/// FROM NULL` needs an operator of the type on old servers, which some types lack (`polygon`).
fn is_not_null(value: &str) -> String {
    format!("pg_catalog.pg_column_size({value}) IS NOT NULL")
}

/// Like `text_of`, for each element of an array. An array that is not a plain list is found unfit by its
/// dimensions, so the texts of its elements do not matter.
fn texts_of(value: &str) -> String {
    format!(
        "CASE WHEN pg_catalog.array_ndims({value}) = 1 AND pg_catalog.array_lower({value}, 1) = 1 \
         THEN ARRAY(SELECT {} FROM (SELECT pg_catalog.unnest({value}) AS e) u) \
         WHEN {value} IS NOT NULL THEN pg_catalog.array_fill(''::pg_catalog.text, \
           CASE WHEN pg_catalog.array_ndims({value}) > 0 THEN ARRAY[1, 1] ELSE '{{}}' END) END",
        text_of("u.e")
    )
}

fn has_text(form: &Form) -> bool {
    match form {
        Form::SourceText | Form::Geometry(Shape { schema: Some(_), .. }) => true,
        Form::List(element) | Form::Nested { element, .. } => has_text(element),
        Form::Struct(attributes) => attributes.iter().any(|attribute| has_text(&attribute.form)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relation::Strategy;
    use crate::source::ErrorKind;

    fn sql(slice: Slice<'_>) -> String {
        condition(slice).expect("known type").unwrap_or_default()
    }

    #[test]
    fn ranges_touch_without_overlap_and_nulls_have_a_home() {
        let order = Frozen::of(&"text");
        let range = |from, to| sql(Slice::Range { column: "a\"b", order: &order, from, to });
        let all = [
            range(None, Some("it's")),
            range(Some("it's"), Some("z")),
            range(Some("z"), None),
            sql(Slice::Nulls { column: "a\"b" }),
        ];
        assert_eq!(
            all,
            [
                "\"a\"\"b\" OPERATOR(pg_catalog.<) 'it''s'::pg_catalog.text",
                "\"a\"\"b\" OPERATOR(pg_catalog.>=) 'it''s'::pg_catalog.text \
                 AND \"a\"\"b\" OPERATOR(pg_catalog.<) 'z'::pg_catalog.text",
                "\"a\"\"b\" OPERATOR(pg_catalog.>=) 'z'::pg_catalog.text",
                "\"a\"\"b\" IS NULL",
            ]
        );
        let (bigint, by_bytes) = (Frozen::of(&"bigint"), Frozen::of(&"bpchar collate C"));
        let unbounded = Slice::Range { column: "k", order: &bigint, from: None, to: None };
        assert_eq!(sql(unbounded), "\"k\" IS NOT NULL");
        let bytes = Slice::Range { column: "k", order: &by_bytes, from: Some("a"), to: None };
        assert_eq!(
            sql(bytes),
            "\"k\" COLLATE pg_catalog.\"C\" OPERATOR(pg_catalog.>=) 'a'::pg_catalog.bpchar"
        );
    }

    #[test]
    fn pages_stay_within_what_a_heap_can_have() {
        let pages = |bounds: &[u64], chunk| {
            let ctid = Strategy::Ctid { bounds: bounds.to_vec() };
            condition(ctid.slice(chunk).expect("a chunk")).expect("pages")
        };
        assert_eq!(pages(&[7], 1).as_deref(), Some("ctid >= '(7,0)'::pg_catalog.tid"));
        assert_eq!(
            pages(&[u32::MAX.into(), u64::MAX], 1).unwrap_or_default(),
            "ctid >= '(4294967294,0)'::pg_catalog.tid AND ctid < '(4294967294,0)'::pg_catalog.tid"
        );
        assert_eq!(pages(&[], 0), None);
    }

    #[test]
    fn a_cast_that_is_not_in_the_table_never_reaches_sql() {
        let order = Frozen::of(&"int8) OR (true");
        let slice = Slice::Range { column: "k", order: &order, from: Some("1"), to: None };
        assert_eq!(condition(slice).expect_err("refused").kind, ErrorKind::Permanent);
    }

    #[test]
    fn only_what_has_to_be_text_is_cast() {
        let list = || Form::List(Box::new(Form::SourceText));
        assert_eq!(with_text("\"c\"".into(), &list()), texts_of("\"c\""));
        let attribute = |name: &str, form| FormAttribute { name: name.into(), form };
        let inner = Form::Struct(vec![attribute("a", Form::Int32), attribute("q\"", list())]);
        let whole = Form::Struct(vec![attribute("n", Form::Int32)]);
        let outer = Form::Struct(vec![attribute("i", inner), attribute("w", whole)]);
        assert_eq!(
            with_text("\"c\"".into(), &outer),
            format!(
                "CASE WHEN pg_catalog.pg_column_size(\"c\") IS NOT NULL THEN ROW(\
                 CASE WHEN pg_catalog.pg_column_size((\"c\").\"i\") IS NOT NULL THEN ROW(\
                 ((\"c\").\"i\").\"a\", {}) END, \
                 (\"c\").\"w\") END",
                texts_of("((\"c\").\"i\").\"q\"\"\"")
            )
        );
    }

    #[test]
    fn shapes_need_no_function_but_in_plans_of_version_1() {
        let of = |schema: Option<&str>, srid, geodesic| {
            let schema = schema.map(str::to_owned);
            with_text(
                "\"c\"".into(),
                &Form::Geometry(Shape { schema, declared: Geometry { srid, kind: None, geodesic } }),
            )
        };
        assert_eq!(of(None, Some(4326), true), "\"c\"");
        let sql = |srid, geodesic| of(Some("my \"gis"), srid, geodesic);
        assert_eq!(sql(Some(4326), true), "\"my \"\"gis\".st_asbinary(\"c\")");
        assert_eq!(sql(None, false), "\"my \"\"gis\".st_asewkb(\"c\")");
        assert_eq!(sql(None, true), "\"my \"\"gis\".st_asewkb(\"c\"::\"my \"\"gis\".geometry)");
    }

    #[test]
    fn a_filter_cannot_swallow_the_slice() {
        let selection = Selected { schema: "s", name: "t", only: false, filter: Some("a = 1 OR b -- c") };
        assert_eq!(
            from_where(&selection, Some("\"k\" < '5'::pg_catalog.int8")),
            "FROM \"s\".\"t\" WHERE (\na = 1 OR b -- c\n) AND \"k\" < '5'::pg_catalog.int8"
        );
        assert_eq!(opaque("a -- c"), "CASE WHEN (\na -- c\n) THEN true END");
    }
}
