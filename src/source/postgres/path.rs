//! The search path under which a relation is read.
//!
//! Our own SQL uses qualified names, and tables are read with an empty path. But the server finds operators
//! of types outside pg_catalog only through the path. Without a path, a filter on `citext` would compare
//! plain texts. So a filter that may use such a type runs with the role's own path. It then means the same as
//! in a session of the role or in a view. Built-in names keep their meaning, because pg_catalog comes first.
//! An operator or function in the path that fits built-in types better is refused (I7).

use super::quote::{literal, shown};
use super::seen::{Conditions, PG_CATALOG, SeenRelation};
use super::session::Session;
use super::slice::Selected;
use super::sqlstate::Stage;
use crate::source::SourceError;

/// The path, if one is needed. Functions that a view calls may depend on the role's own path.
pub(super) fn of(seen: &SeenRelation, conditions: Conditions<'_>) -> Option<String> {
    let own = seen.role_path.as_deref()?;
    if seen.is_view() {
        return Some(own.to_owned());
    }
    let needed = conditions.filter.is_some_and(|filter| {
        seen.columns.iter().any(|(name, column)| column.foreign && conditions.name(name))
            || conditions.may_read_tables()
            || filter.to_lowercase().contains("citext")
            // A qualified function may return any type.
            || filter.contains(" . ")
    });
    needed.then(|| if own.is_empty() { "pg_catalog".into() } else { format!("pg_catalog, {own}") })
}

/// Refuses a filter if the path has an operator or function with a built-in name for built-in types, because
/// the server might prefer it. Operators and functions of extensions are trusted. The path must be set
/// before.
pub(super) async fn check(
    session: &Session,
    selection: &Selected<'_>,
    stage: Stage,
    what: &str,
) -> Result<(), SourceError> {
    let Some(filter) = selection.filter else { return Ok(()) };
    let Some(found) = session.value(&question(filter), stage, what).await? else { return Ok(()) };
    Err(SourceError::permanent("shadowed", format!(
            "the filter of {} names a type that is not built in, so that its operators are looked up by the role's \
             search_path; there {found} could take the place of a built-in one",
            shown(selection.schema, selection.name)
        )).with_remedy("drop it, take its schema out of the role's search_path, or filter in a view that names its operators, as in \
             OPERATOR(pg_catalog.=)"))
}

/// Operators that a filter writes as words.
const WORDS: [(&str, &[&str]); 6] = [
    (" IN ", &["=", "<>"]),
    ("DISTINCT", &["="]),
    ("CASE", &["="]),
    ("NULLIF", &["="]),
    ("BETWEEN", &[">=", "<=", "<", ">"]),
    ("LIKE", &["~~", "!~~", "~~*", "!~~*"]),
];

fn question(filter: &str) -> String {
    let upper = filter.to_uppercase();
    let words = WORDS.iter().filter(|(word, _)| upper.contains(word)).flat_map(|(_, operators)| *operators);
    let words = super::quote::texts(words.copied());
    let (filter, lower) = (literal(filter), literal(&filter.to_lowercase()));
    let elsewhere = |namespace: &str, class: &str, object: &str| {
        format!(
            "n.nspname = ANY (pg_catalog.current_schemas(false)) AND n.nspname <> 'pg_catalog' AND n.oid = {namespace} \
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = '{class}'::pg_catalog.regclass \
                             AND d.objid = {object} AND d.deptype = 'e')"
        )
    };
    let built_in = |oid: &str| {
        format!(
            "EXISTS (SELECT FROM pg_catalog.pg_type t WHERE t.oid = {oid} \
             AND t.typnamespace = {PG_CATALOG})"
        )
    };
    format!(
        "SELECT 'operator ' || o.oid::pg_catalog.regoperator::pg_catalog.text \
         FROM pg_catalog.pg_operator o, pg_catalog.pg_namespace n \
         WHERE {of_operator} AND (o.oprleft = 0 OR {left}) AND {right} \
           AND (pg_catalog.strpos({filter}, o.oprname::pg_catalog.text) > 0 OR o.oprname::pg_catalog.text = ANY ({words})) \
           AND EXISTS (SELECT FROM pg_catalog.pg_operator b WHERE b.oprname = o.oprname \
                       AND b.oprnamespace = {PG_CATALOG}) \
         UNION ALL \
         SELECT 'function ' || f.oid::pg_catalog.regprocedure::pg_catalog.text \
         FROM pg_catalog.pg_proc f, pg_catalog.pg_namespace n \
         WHERE {of_function} AND f.pronargs > 0 \
           AND NOT EXISTS (SELECT FROM pg_catalog.unnest(f.proargtypes) AS a (oid) WHERE NOT {argument}) \
           AND pg_catalog.strpos({lower}, pg_catalog.lower(f.proname::pg_catalog.text)) > 0 \
           AND EXISTS (SELECT FROM pg_catalog.pg_proc b WHERE b.proname = f.proname \
                       AND b.pronamespace = {PG_CATALOG}) \
         LIMIT 1",
        of_operator = elsewhere("o.oprnamespace", "pg_catalog.pg_operator", "o.oid"),
        of_function = elsewhere("f.pronamespace", "pg_catalog.pg_proc", "f.oid"),
        left = built_in("o.oprleft"),
        right = built_in("o.oprright"),
        argument = built_in("a.oid"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::postgres::seen::SeenColumn;

    #[test]
    fn a_path_is_taken_where_something_may_depend_on_it_and_pg_catalog_comes_first() {
        let mut seen = SeenRelation::plain([
            ("e", SeenColumn { foreign: true, ..SeenColumn::of(70_000) }),
            ("k", SeenColumn::of(25)),
        ]);
        let path = |seen: &SeenRelation, filter| of(seen, Conditions { key: None, filter });
        assert_eq!(path(&seen, Some("\"e\" = 'a'")), None, "not asked for");
        seen.role_path = Some("\"$user\", public".into());
        let own = Some("pg_catalog, \"$user\", public".to_owned());
        for (filter, expected) in [
            (Some("\"e\" = 'a'"), own.clone()),
            (Some("k in (SELECT 1)"), own.clone()),
            (Some("\"k\" :: citext = 'a'"), own.clone()),
            (Some("public . f ( k ) = 'a'"), own),
            (Some("\"k\" = 'a'"), None),
            (None, None),
        ] {
            assert_eq!(path(&seen, filter), expected, "{filter:?}");
        }
        seen.role_path = Some(String::new());
        assert_eq!(path(&seen, Some("e > 1")).as_deref(), Some("pg_catalog"));
    }
}
