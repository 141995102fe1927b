//! What planning asks of a table: where to split it, how many rows it has,
//! how far a column has grown.

use super::quote::{ident, literal, shown};
use super::session::Session;
use super::slice::{conditions, from_where, item};
use super::sqlstate::Stage;
use crate::source::{Boundaries, BoundaryMethod, Division, ErrorKind, Selection, SourceError};

/// More parts than this are never needed, and the server need not think of more.
const MOST_PARTS: u32 = 1_000_000;
/// Rows of a sample that a part needs: they tell its size to within 18 % (one standard deviation).
const LEAST_SAMPLED: u64 = 30;
/// Oid of the collation `default` on every server (`pg_collation.dat`).
const DEFAULT_COLLATION: u32 = 100;

fn what(verb: &str, selection: &Selection<'_>) -> String {
    format!("{verb} {}", shown(selection.schema, selection.name))
}

/// The role's own search path, if the relation is a view: functions that it
/// calls may depend on it. What we ask ourselves is qualified.
pub(super) async fn view_path(
    session: &Session,
    selection: &Selection<'_>,
) -> Result<Option<String>, SourceError> {
    let sql = format!(
        "SELECT s.reset_val FROM pg_catalog.pg_settings s, pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE s.name = 'search_path' AND n.nspname = {} AND c.relname = {} AND c.relkind = 'v'",
        literal(selection.schema),
        literal(selection.name)
    );
    session.value(&sql, Stage::Question, &what("look up the search path for", selection)).await
}

/// Inner boundaries, distinct and ascending in the server's order. A sample that holds too few rows, as of a
/// filter that was misjudged, is followed by an ordered pass.
pub(super) async fn boundaries(
    session: &Session,
    selection: &Selection<'_>,
    column: &str,
    method: BoundaryMethod,
    division: Division,
) -> Result<Boundaries, SourceError> {
    let parts = division.parts.min(MOST_PARTS);
    if parts < 2 {
        return Ok(Boundaries { values: Vec::new(), method });
    }
    let what = what("find boundaries in", selection);
    let sql = match method {
        BoundaryMethod::Statistics => match key_type(session, selection, column, &what).await? {
            Some(key) => histogram(selection, column, &key, parts),
            None => return Ok(Boundaries { values: Vec::new(), method }),
        },
        BoundaryMethod::Sample { ppm } => sample(selection, column, ppm, parts),
        BoundaryMethod::OrderedPass => ordered_pass(selection, column, parts, division.rows.max(1)),
    };
    let mut rows = session.rows(&sql, Stage::Question, &what).await?;
    let mut method = method;
    if let BoundaryMethod::Sample { .. } = method {
        let sampled: Option<u64> = rows.first().and_then(|r| r.get(1)?.parse().ok());
        if sampled.unwrap_or(0) < LEAST_SAMPLED * u64::from(parts) {
            method = BoundaryMethod::OrderedPass;
            rows = session
                .rows(&ordered_pass(selection, column, parts, division.rows.max(1)), Stage::Question, &what)
                .await?;
        }
    }
    let values = rows.iter().filter_map(|r| r.get(0).map(str::to_owned)).collect();
    Ok(Boundaries { values, method })
}

/// What the bounds of a column's histogram are, so that they are read and
/// ordered as the column is. Both texts are quoted by the server.
struct KeyType {
    name: String,
    /// ` COLLATE …`, where the column has another collation than its database.
    collate: String,
}

async fn key_type(
    session: &Session,
    selection: &Selection<'_>,
    column: &str,
    what: &str,
) -> Result<Option<KeyType>, SourceError> {
    let sql = format!(
        "SELECT CASE WHEN b.oid = 1042 THEN 'pg_catalog.bpchar' ELSE pg_catalog.format_type(b.oid, NULL) END, \
                (SELECT ' COLLATE ' || pg_catalog.quote_ident(s.nspname) || '.' || pg_catalog.quote_ident(l.collname) \
                 FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace s ON s.oid = l.collnamespace \
                 WHERE l.oid = a.attcollation AND l.oid <> {DEFAULT_COLLATION}) \
         FROM pg_catalog.pg_attribute a \
         JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
         JOIN pg_catalog.pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END \
         WHERE n.nspname = {} AND c.relname = {} AND a.attname = {} AND NOT a.attisdropped",
        literal(selection.schema),
        literal(selection.name),
        literal(column)
    );
    let rows = session.rows(&sql, Stage::Question, what).await?;
    Ok(rows.first().and_then(|row| {
        Some(KeyType { name: row.get(0)?.to_owned(), collate: row.get(1).unwrap_or_default().to_owned() })
    }))
}

/// Every so-many-th bound of the statistics' histogram. `ORDER BY` and
/// `DISTINCT ON` look for a bare name among the output first, where it is a
/// text: order is always asked of the qualified key, in the column's own
/// collation, by which the chunks will compare.
fn histogram(selection: &Selection<'_>, column: &str, key: &KeyType, parts: u32) -> String {
    let KeyType { name: ty, collate } = key;
    format!(
        "SELECT DISTINCT ON (b.k{collate}) b.k::pg_catalog.text FROM ( \
           SELECT s.bounds[1 + pg_catalog.round(j::pg_catalog.numeric \
                           * (pg_catalog.array_length(s.bounds, 1) - 1) / {parts})::pg_catalog.int4] AS k \
           FROM (SELECT histogram_bounds::pg_catalog.text::{ty}[] AS bounds FROM pg_catalog.pg_stats \
                 WHERE schemaname = {} AND tablename = {} AND attname = {} \
                 ORDER BY inherited DESC LIMIT 1) s, \
                pg_catalog.generate_series(1, {}) AS j) b \
         WHERE b.k IS NOT NULL ORDER BY b.k{collate}",
        literal(selection.schema),
        literal(selection.name),
        literal(column),
        parts - 1
    )
}

/// The keys that split the rows of some pages into equal parts, each with the number of these rows.
fn sample(selection: &Selection<'_>, column: &str, ppm: u32, parts: u32) -> String {
    let percent = f64::from(ppm) / 10_000.0;
    let column = ident(column);
    let rows = format!(
        "FROM {} TABLESAMPLE SYSTEM ({percent}){}",
        item(selection),
        conditions(selection, Some(&format!("{column} IS NOT NULL")))
    );
    format!(
        "SELECT DISTINCT ON (o.k) o.k::pg_catalog.text, o.sampled FROM ( \
           SELECT {column} AS k, pg_catalog.row_number() OVER (ORDER BY {column}) AS n, \
                  pg_catalog.count(*) OVER () AS sampled {rows}) o \
         WHERE (o.n - 1) * {parts} / o.sampled > (o.n - 2) * {parts} / o.sampled AND o.n > 1 ORDER BY o.k"
    )
}

/// Every n-th key in order, `rows` apart at least. The count and the pass read the same snapshot.
fn ordered_pass(selection: &Selection<'_>, column: &str, parts: u32, rows: u64) -> String {
    let column = ident(column);
    let from = from_where(selection, Some(&format!("{column} IS NOT NULL")));
    format!(
        "SELECT DISTINCT ON (o.k) o.k::pg_catalog.text FROM ( \
           SELECT {column} AS k, pg_catalog.row_number() OVER (ORDER BY {column}) AS n {from}) o, \
           (SELECT GREATEST({rows}, pg_catalog.ceil(pg_catalog.count(*)::pg_catalog.numeric / {parts}))::pg_catalog.int8 \
                   AS step {from}) c \
         WHERE (o.n - 1) % c.step = 0 AND o.n > 1 ORDER BY o.k"
    )
}

/// Rows that the server's planner expects; an error where the filter does not
/// fit the table.
pub(super) async fn estimate(session: &Session, selection: &Selection<'_>) -> Result<u64, SourceError> {
    let what = what("estimate", selection);
    let sql = format!("EXPLAIN (FORMAT JSON) SELECT 1 {}", from_where(selection, None));
    let rows = session.rows(&sql, Stage::Question, &what).await?;
    let text: Vec<&str> = rows.iter().filter_map(|r| r.get(0)).collect();
    planned_rows(&text.join("\n")).ok_or_else(|| unexpected(&what))
}

fn planned_rows(explained: &str) -> Option<u64> {
    let plan: serde_json::Value = serde_json::from_str(explained).ok()?;
    let rows = plan.get(0)?.get("Plan")?.get("Plan Rows")?.as_f64()?;
    Some(rows.max(0.0) as u64)
}

/// Rows of a selection.
pub(super) async fn count(session: &Session, selection: &Selection<'_>) -> Result<u64, SourceError> {
    let what = what("count", selection);
    let sql = format!("SELECT pg_catalog.count(*) {}", from_where(selection, None));
    let value = session.value(&sql, Stage::Question, &what).await?;
    value.and_then(|v| v.parse().ok()).ok_or_else(|| unexpected(&what))
}

/// The highest finite value of a column: nothing would ever be newer than infinity. By order, not by `max`: not every type that
/// can be ordered has that aggregate.
pub(super) async fn maximum(
    session: &Session,
    selection: &Selection<'_>,
    column: &str,
) -> Result<Option<String>, SourceError> {
    let column = ident(column);
    let finite = format!("{column}::pg_catalog.text <> ALL ('{{infinity,Infinity,NaN}}')");
    let rows = from_where(selection, Some(&finite));
    let sql = format!(
        "SELECT o.k::pg_catalog.text FROM (SELECT {column} AS k {rows} ORDER BY {column} DESC LIMIT 1) o"
    );
    session.value(&sql, Stage::Question, &what("find the highest key of", selection)).await
}

fn unexpected(what: &str) -> SourceError {
    SourceError {
        kind: ErrorKind::Permanent,
        code: "protocol".into(),
        message: format!("{what}: the server's answer is not understood"),
        remedy: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_s_estimate_is_read_from_its_plan() {
        assert_eq!(planned_rows(r#"[{"Plan": {"Node Type": "Seq Scan", "Plan Rows": 1234}}]"#), Some(1234));
        assert_eq!(planned_rows("[]"), None);
    }

    #[test]
    fn names_and_filters_are_quoted_in_questions() {
        let selection = Selection { schema: "s'", name: "t", only: false, filter: Some("a > 1") };
        let key = KeyType { name: "integer".into(), collate: String::new() };
        let sql = histogram(&selection, "k\"", &key, 4);
        assert!(sql.contains("schemaname = 's''' AND tablename = 't' AND attname = 'k\"'"), "{sql}");
        let sql = ordered_pass(&selection, "k\"", 4, 1);
        assert_eq!(sql.matches("WHERE (\na > 1\n) AND \"k\"\"\" IS NOT NULL").count(), 2, "{sql}");
    }
}
