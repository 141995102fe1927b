//! Questions of planning about a table: where to split it, how many rows it has, and the highest value of a
//! column.

use super::collation::DEFAULT;
use super::order::{Cast, cast};
use super::quote::{ident, literal, shown, texts};
use super::session::Session;
use super::slice::{Selected, conditions, from_where, item, text_of};
use super::sqlstate::Stage;
use crate::relation::{Boundaries, BoundaryMethod, Division, SplitKey};
use crate::source::SourceError;

/// Maximum number of ranges. More are never needed and would only cost the server time.
const MOST_RANGES: u32 = 1_000_000;
/// Minimum number of sampled rows for each range. They estimate its size to within 18 % (one standard
/// deviation).
const LEAST_SAMPLED: u64 = 30;

fn what(verb: &str, selection: &Selected<'_>) -> String {
    format!("{verb} {}", shown(selection.schema, selection.name))
}

/// Inner boundaries, distinct and ascending in the server's order. If a sample holds too few rows, e.g.
/// because the filter was estimated badly, an ordered pass follows.
pub(super) async fn boundaries(
    session: &Session,
    selection: &Selected<'_>,
    key: SplitKey<'_>,
    method: BoundaryMethod,
    division: Division,
) -> Result<Boundaries, SourceError> {
    let ranges = division.ranges.min(MOST_RANGES);
    if ranges < 2 {
        return Ok(Boundaries { values: Vec::new(), method });
    }
    let what = what("find boundaries in", selection);
    let cast = cast(key.order)?;
    let order = Order { column: ident(key.column), collate: cast.collate };
    let own =
        if cast.has_collation { own_collation(session, selection, key.column, &what).await? } else { None };
    let pass = || ordered_pass(selection, &order, ranges, division.rows.max(1));
    let sql = match method {
        BoundaryMethod::Statistics => {
            let collate = own.as_deref().unwrap_or(cast.collate);
            histogram(selection, key.column, cast.ty, collate, ranges)
        }
        BoundaryMethod::Sample { ppm } => sample(selection, &order, ppm, ranges),
        BoundaryMethod::OrderedPass => pass(),
    };
    let mut rows = session.rows(&sql, Stage::Question, &what).await?;
    let mut method = method;
    if let BoundaryMethod::Sample { .. } = method {
        let sampled: Option<u64> = rows.first().and_then(|r| r.get(1)?.parse().ok());
        if sampled.unwrap_or(0) < LEAST_SAMPLED * u64::from(ranges) {
            method = BoundaryMethod::OrderedPass;
            rows = session.rows(&pass(), Stage::Question, &what).await?;
        }
    }
    let values: Vec<String> = rows.iter().filter_map(|r| r.get(0).map(str::to_owned)).collect();
    if cast.has_collation {
        let sql = ascending(&values, cast, own.as_deref().unwrap_or_default());
        if session.value(&sql, Stage::Question, &what).await?.as_deref() == Some("f") {
            return Err(out_of_order(selection, key.column));
        }
    }
    Ok(Boundaries { values, method })
}

/// SQL that checks whether boundaries ascend in the order of the chunks. An index may have another order.
fn ascending(values: &[String], cast: Cast, collate: &str) -> String {
    format!(
        "SELECT pg_catalog.bool_and(b.k OPERATOR(pg_catalog.>) b.before) FROM ( \
           SELECT u.v::{ty}{collate} AS k, pg_catalog.lag(u.v::{ty}) OVER (ORDER BY u.n) AS before \
           FROM pg_catalog.unnest({values}) WITH ORDINALITY AS u (v, n)) b",
        ty = cast.ty,
        values = texts(values.iter().map(String::as_str)),
    )
}

fn out_of_order(selection: &Selected<'_>, column: &str) -> SourceError {
    SourceError::permanent(
        "index_order",
        format!(
            "{}: an index of column `{column}` does not have its texts in the order of their collation",
            shown(selection.schema, selection.name)
        ),
    )
    .with_remedy("REINDEX the table; until then use another chunk_column or strategy")
}

/// The order of keys in chunks.
struct Order<'a> {
    /// The quoted name of the column.
    column: String,
    collate: &'a str,
}

/// ` COLLATE …` of a column whose collation differs from the database's, quoted by the server.
async fn own_collation(
    session: &Session,
    selection: &Selected<'_>,
    column: &str,
    what: &str,
) -> Result<Option<String>, SourceError> {
    let sql = format!(
        "SELECT ' COLLATE ' || pg_catalog.quote_ident(s.nspname) || '.' || pg_catalog.quote_ident(l.collname) \
         FROM pg_catalog.pg_attribute a \
         JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation AND l.oid <> {DEFAULT} \
         JOIN pg_catalog.pg_namespace s ON s.oid = l.collnamespace \
         WHERE n.nspname = {} AND c.relname = {} AND a.attname = {} AND NOT a.attisdropped",
        literal(selection.schema),
        literal(selection.name),
        literal(column)
    );
    session.value(&sql, Stage::Question, what).await
}

/// SQL for evenly chosen bounds of the statistics' histogram. `ORDER BY` and `DISTINCT ON` would read a bare
/// name as the output column, which is a text. So the order always uses the qualified key, in the column's
/// own collation, as the chunks do.
fn histogram(selection: &Selected<'_>, column: &str, ty: &str, collate: &str, ranges: u32) -> String {
    format!(
        "SELECT DISTINCT ON (b.k{collate}) {} FROM ( \
           SELECT s.bounds[1 + pg_catalog.round(j::pg_catalog.numeric \
                           * (pg_catalog.array_length(s.bounds, 1) - 1) / {ranges})::pg_catalog.int4] AS k \
           FROM (SELECT histogram_bounds::pg_catalog.text::{ty}[] AS bounds FROM pg_catalog.pg_stats \
                 WHERE schemaname = {} AND tablename = {} AND attname = {} \
                 ORDER BY inherited DESC LIMIT 1) s, \
                pg_catalog.generate_series(1, {}) AS j) b \
         WHERE b.k IS NOT NULL ORDER BY b.k{collate}",
        text_of("b.k"),
        literal(selection.schema),
        literal(selection.name),
        literal(column),
        ranges - 1
    )
}

/// SQL for the keys that split the rows of sampled pages into equal ranges, each with the number of sampled
/// rows.
fn sample(selection: &Selected<'_>, order: &Order<'_>, ppm: u32, ranges: u32) -> String {
    let percent = f64::from(ppm) / 10_000.0;
    let Order { column, collate } = order;
    let rows = format!(
        "FROM {} TABLESAMPLE SYSTEM ({percent}){}",
        item(selection),
        conditions(selection, Some(&format!("{column} IS NOT NULL")))
    );
    format!(
        "SELECT DISTINCT ON (o.k) {text}, o.sampled FROM ( \
           SELECT {column}{collate} AS k, pg_catalog.row_number() OVER (ORDER BY {column}{collate}) AS n, \
                  pg_catalog.count(*) OVER () AS sampled {rows}) o \
         WHERE (o.n - 1) * {ranges} / o.sampled > (o.n - 2) * {ranges} / o.sampled AND o.n > 1 ORDER BY o.k",
        text = text_of("o.k")
    )
}

/// SQL for every n-th key in order, with at least `rows` rows between two keys. Count and pass read the same
/// snapshot.
fn ordered_pass(selection: &Selected<'_>, order: &Order<'_>, ranges: u32, rows: u64) -> String {
    let Order { column, collate } = order;
    let from = from_where(selection, Some(&format!("{column} IS NOT NULL")));
    format!(
        "SELECT DISTINCT ON (o.k) {text} FROM ( \
           SELECT {column}{collate} AS k, pg_catalog.row_number() OVER (ORDER BY {column}{collate}) AS n {from}) o, \
           (SELECT GREATEST({rows}, pg_catalog.ceil(pg_catalog.count(*)::pg_catalog.numeric / {ranges}))::pg_catalog.int8 \
                   AS step {from}) c \
         WHERE (o.n - 1) % c.step = 0 AND o.n > 1 ORDER BY o.k",
        text = text_of("o.k")
    )
}

/// Rows that the server's planner expects. Fails if the filter does not fit the table.
pub(super) async fn estimate(session: &Session, selection: &Selected<'_>) -> Result<u64, SourceError> {
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

/// Counts the rows of a selection.
pub(super) async fn count(session: &Session, selection: &Selected<'_>) -> Result<u64, SourceError> {
    let what = what("count", selection);
    let sql = format!("SELECT pg_catalog.count(*) {}", from_where(selection, None));
    let value = session.value(&sql, Stage::Question, &what).await?;
    value.and_then(|v| v.parse().ok()).ok_or_else(|| unexpected(&what))
}

/// The highest finite value of a column, because no later value could be greater than infinity. The query
/// uses an order, not `max`, because some sortable types lack that aggregate. The `OFFSET` keeps the planner
/// from using the order of an index.
pub(super) async fn maximum(
    session: &Session,
    selection: &Selected<'_>,
    column: &str,
    doubted: bool,
) -> Result<Option<String>, SourceError> {
    let column = ident(column);
    let finite = format!("{} <> ALL ('{{infinity,Infinity,NaN}}'::pg_catalog.text[])", text_of(&column));
    let rows = from_where(selection, Some(&finite));
    let fence = if doubted { " OFFSET 0" } else { "" };
    let sql = format!(
        "SELECT {} FROM (SELECT r.k FROM (SELECT {column} AS k {rows}{fence}) r ORDER BY r.k DESC LIMIT 1) o",
        text_of("o.k")
    );
    session.value(&sql, Stage::Question, &what("find the highest key of", selection)).await
}

fn unexpected(what: &str) -> SourceError {
    SourceError::permanent("protocol", format!("{what}: the server's answer is not understood"))
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
        let selection = Selected { schema: "s'", name: "t", only: false, filter: Some("a > 1") };
        let sql = histogram(&selection, "k\"", "pg_catalog.int4", "", 4);
        assert!(sql.contains("schemaname = 's''' AND tablename = 't' AND attname = 'k\"'"), "{sql}");
        let order = Order { column: ident("k\""), collate: "" };
        let sql = ordered_pass(&selection, &order, 4, 1);
        assert_eq!(sql.matches("WHERE (\na > 1\n) AND \"k\"\"\" IS NOT NULL").count(), 2, "{sql}");
    }
}
