//! Every statement that this source sends. Nobody else can make a [`Statement`], and a session takes nothing else.
//! `docs/vertica-statements.md` lists the templates, each with the page of Vertica's documentation that gives
//! its grammar; a test compares.
//!
//! Invariant I7: names and values are quoted here (`sql::quote`); filters come printed from their trees.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::reading::{Fetch, Reading};
use crate::source::sql::quote::{ident, literal, table};

/// The number of an epoch. Plans store it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Epoch(pub(super) u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One statement, ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Statement(String);

impl Statement {
    /// Its SQL.
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    fn fixed(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Most tables that one statement names by their numbers.
pub(super) const TABLES_AT_ONCE: usize = 500;

/// The tables whose entries a question about the catalogue wants. Many tables are not named: the answer then has the
/// entries of all, and the caller chooses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a>(pub(super) &'a [i64]);

impl Wanted<'_> {
    /// A condition on a column that has the number of a table, after this word.
    fn condition(self, word: &str, column: &str) -> String {
        if self.0.is_empty() || self.0.len() > TABLES_AT_ONCE {
            return String::new();
        }
        let numbers: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        format!(" {word} {column} IN ({})", numbers.join(", "))
    }
}

/// What is asked about the columns of tables and of views.
const COLUMNS: &str = "SELECT table_id, column_name, data_type, data_type_id, numeric_precision, numeric_scale, \
                       ordinal_position";

/// The longest text of a value that is not a text itself.
const TEXT: &str = "VARCHAR(65000)";
/// The longest text of any value.
const LONG_TEXT: &str = "LONG VARCHAR(32000000)";

pub(super) fn version() -> Statement {
    Statement::fixed("SELECT version()")
}

/// All times that become text, and all texts that become times, are in UTC.
pub(super) fn time_zone() -> Statement {
    Statement::fixed("SET TIME ZONE TO 'UTC'")
}

pub(super) fn date_style() -> Statement {
    Statement::fixed("SET DATESTYLE TO ISO")
}

pub(super) fn resource_pool(pool: &str) -> Statement {
    Statement(format!("SET SESSION RESOURCE_POOL = {}", ident(pool)))
}

pub(super) fn nodes() -> Statement {
    Statement::fixed("SELECT node_name, node_state FROM v_catalog.nodes ORDER BY node_name")
}

/// The current epoch, the ancient history mark, and the server's clock in microseconds since 1970.
pub(super) fn epochs() -> Statement {
    Statement::fixed(
        "SELECT current_epoch, ahm_epoch, (EXTRACT(EPOCH FROM CLOCK_TIMESTAMP()) * 1000000)::INT \
         FROM v_monitor.system",
    )
}

pub(super) fn tables() -> Statement {
    Statement::fixed(
        "SELECT t.table_id, t.table_schema, t.table_name, t.is_temp_table, t.table_definition, t.partition_expression \
         FROM v_catalog.tables t WHERE NOT t.is_system_table",
    )
}

pub(super) fn views() -> Statement {
    Statement::fixed(
        "SELECT table_id, table_schema, table_name FROM v_catalog.views WHERE NOT is_system_view",
    )
}

/// Access policies on rows and columns.
pub(super) fn policies() -> Statement {
    Statement::fixed("SELECT table_name, is_policy_enabled FROM v_catalog.access_policy")
}

pub(super) fn columns(of: Wanted<'_>) -> Statement {
    Statement(format!(
        "{COLUMNS}, is_nullable, column_id FROM v_catalog.columns{}",
        of.condition("WHERE", "table_id")
    ))
}

pub(super) fn view_columns(of: Wanted<'_>) -> Statement {
    Statement(format!("{COLUMNS} FROM v_catalog.view_columns{}", of.condition("WHERE", "table_id")))
}

/// The fields of all complex types, which may consist of others.
pub(super) fn complex_types() -> Statement {
    Statement::fixed(
        "SELECT type_name, type_kind, field_position, field_name, field_type_name, numeric_precision, numeric_scale \
         FROM v_catalog.complex_types",
    )
}

pub(super) fn keys() -> Statement {
    Statement::fixed(
        "SELECT table_schema, table_name, column_name, ordinal_position FROM v_catalog.primary_keys \
         WHERE constraint_type = 'p'",
    )
}

pub(super) fn projections(of: Wanted<'_>) -> Statement {
    Statement(format!(
        "SELECT projection_id, anchor_table_id, is_super_projection, is_segmented, is_up_to_date, \
         segment_expression FROM v_catalog.projections{}",
        of.condition("WHERE", "anchor_table_id")
    ))
}

/// The column by which each projection is sorted first.
pub(super) fn leading_columns(of: Wanted<'_>) -> Statement {
    Statement(format!(
        "SELECT projection_id, table_column_name FROM v_catalog.projection_columns WHERE sort_position = 0{}",
        of.condition("AND", "table_id")
    ))
}

pub(super) fn sizes(of: Wanted<'_>) -> Statement {
    Statement(format!(
        "SELECT projection_id, SUM(row_count), MAX(row_count), SUM(used_bytes), MAX(used_bytes) \
         FROM v_monitor.projection_storage{} GROUP BY projection_id",
        of.condition("WHERE", "anchor_table_id")
    ))
}

/// Whether the user may read each of these tables, in one row.
pub(super) fn rights(tables: &[i64]) -> Statement {
    let each: Vec<String> = tables.iter().map(|id| format!("HAS_TABLE_PRIVILEGE({id}, 'SELECT')")).collect();
    Statement(format!("SELECT {}", each.join(", ")))
}

/// The columns that a name stands for now.
pub(super) fn columns_now(schema: &str, name: &str, is_view: bool) -> Statement {
    let (number, catalogue) = if is_view { ("", "view_columns") } else { (", c.column_id", "columns") };
    Statement(format!(
        "SELECT c.table_id, c.column_name, c.data_type{number} FROM v_catalog.{catalogue} c \
         WHERE c.table_schema = {} AND c.table_name = {} ORDER BY c.ordinal_position",
        literal(schema),
        literal(name)
    ))
}

/// What a statement reads: a relation, under an epoch or now, and which of its rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct From<'a> {
    pub(super) epoch: Option<Epoch>,
    pub(super) schema: &'a str,
    pub(super) name: &'a str,
    /// The filter of the request, printed.
    pub(super) filter: Option<&'a str>,
}

impl From<'_> {
    fn select(&self, list: &str, conditions: &[String]) -> String {
        let at = self.epoch.map(|epoch| format!("AT EPOCH {epoch} ")).unwrap_or_default();
        format!("{at}SELECT {list} FROM {}{}", table(self.schema, self.name), self.conditions(conditions))
    }

    /// The `WHERE` clause. The filter has lines of its own, so that the closing parenthesis works whatever the
    /// filter ends with.
    fn conditions(&self, others: &[String]) -> String {
        let filter = self.filter.map(|filter| format!("(\n{filter}\n)"));
        let all: Vec<String> = filter.into_iter().chain(others.iter().cloned()).collect();
        if all.is_empty() { String::new() } else { format!(" WHERE {}", all.join(" AND ")) }
    }
}

/// The rows of a chunk.
pub(super) fn rows<'a>(
    from: &From<'_>,
    columns: impl Iterator<Item = (&'a str, &'a Reading)>,
    condition: Option<&Condition>,
) -> Statement {
    let list: Vec<String> = columns
        .map(|(name, reading)| {
            let name = ident(name);
            match reading.fetch {
                Fetch::Native => name,
                Fetch::AsText => format!("({name})::{TEXT}"),
                Fetch::AsLongText => format!("({name})::{LONG_TEXT}"),
                Fetch::AsShape => format!("ST_AsBinary({name})"),
                Fetch::AsShapeText => format!("ST_AsText({name})"),
            }
        })
        .collect();
    let conditions: Vec<String> = condition.map(Condition::sql).into_iter().collect();
    Statement(from.select(&list.join(", "), &conditions))
}

pub(super) fn count(from: &From<'_>) -> Statement {
    Statement(from.select("COUNT(*)", &[]))
}

/// The rows of several relations under one epoch: a row for each, with its place and its count.
pub(super) fn counts(epoch: Option<Epoch>, of: &[From<'_>]) -> Statement {
    let each = of
        .iter()
        .enumerate()
        .map(|(place, from)| From { epoch: None, ..*from }.select(&format!("{place}, COUNT(*)"), &[]));
    let at = epoch.map(|epoch| format!("AT EPOCH {epoch} ")).unwrap_or_default();
    Statement(format!("{at}{}", each.collect::<Vec<_>>().join(" UNION ALL ")))
}

/// The highest value of a column, as text.
pub(super) fn maximum(from: &From<'_>, column: &str) -> Statement {
    Statement(from.select(&format!("MAX({})::{TEXT}", ident(column)), &[]))
}

/// The values of a column that begin the second and each later run of n rows in its order, as text.
pub(super) fn every_nth(from: &From<'_>, column: &str, n: u64) -> Statement {
    let column = ident(column);
    let at = from.epoch.map(|epoch| format!("AT EPOCH {epoch} ")).unwrap_or_default();
    let inner = From { epoch: None, ..*from }.select(
        &format!("({column})::{TEXT} AS k, ROW_NUMBER() OVER (ORDER BY {column}) AS r"),
        &[format!("{column} IS NOT NULL")],
    );
    Statement(format!("{at}SELECT q.k FROM ({inner}) q WHERE MOD(q.r - 1, {n}) = 0 AND q.r > 1 ORDER BY q.r"))
}

#[cfg(test)]
#[path = "statements_tests.rs"]
mod tests;
