//! The columns of the survey: types, keys and statistics, with what the mapping needs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tokio_postgres::SimpleQueryRow;

use super::collation;
use super::named::{Named, WHAT};
use super::order::by_bytes;
use super::quote::texts;
use super::reading::Reading;
use super::session::Session;
use super::sqlstate::Stage;
use super::type_facts::Types;
use super::types::{PgType, is_canonical, map, range_key};
use crate::relation::{Column, Facts, Frozen, SurveyColumn};
use crate::source::SourceError;

/// First version whose indexes may have columns that are not keys.
const HAS_INCLUDED_COLUMNS: u32 = 110_000;
/// First version with NOT NULL constraints that are not validated, so that rows may break them.
const HAS_INVALID_NOT_NULL: u32 = 180_000;

/// The columns of one relation.
#[derive(Default)]
pub(super) struct ColumnFacts {
    pub(super) columns: Vec<SurveyColumn>,
    pub(super) primary_key: Vec<String>,
}

impl ColumnFacts {
    /// The columns of the relation without its children. Their correlation and histogram are removed, because
    /// statistics include the children.
    pub(super) fn alone(&self) -> Self {
        let column = |c: &SurveyColumn| SurveyColumn {
            correlation: None,
            histogram_bounds: 0,
            common_share: 0.0,
            ..c.clone()
        };
        Self { columns: self.columns.iter().map(column).collect(), primary_key: self.primary_key.clone() }
    }
}

/// Reads columns, keys, indexes and statistics of all relations, by oid. Statistics cost the most, so they
/// are read only for primary keys and for columns with these names.
pub(super) async fn survey(
    session: &Session,
    version: u32,
    named: &[Named],
    oids: &str,
    statistics_for: &[String],
) -> Result<HashMap<u32, ColumnFacts>, SourceError> {
    let mut rows = Vec::new();
    session
        .each(&columns_sql(oids, version), Stage::Question, WHAT, |row| rows.extend(parse_column(&row)))
        .await?;
    let types = Types::read(session, version, rows.iter().map(|c| c.ty).collect()).await?;
    let collations: BTreeSet<u32> = rows.iter().map(|row| row.collation).filter(|c| *c != 0).collect();
    // Greenplum's tables are not split by keys, so neither indexes nor statistics matter.
    let is_greenplum = session.server_facts().greenplum.is_some();
    let doubts = match is_greenplum {
        false => collation::doubts(session, &collations, Stage::Question, WHAT).await?,
        true => BTreeMap::new(),
    };
    let mut all: HashMap<u32, ColumnFacts> = HashMap::new();
    for row in rows {
        let facts = all.entry(row.relation).or_default();
        facts.columns.push(column(&types, &doubts, row, is_greenplum));
    }
    session
        .each(&keys_sql(oids, version), Stage::Question, WHAT, |row| {
            let oid = row.get(0).and_then(|t| t.parse().ok()).unwrap_or(0);
            let (Some(facts), Some(name)) = (all.get_mut(&oid), row.get(1)) else { return };
            if row.get(2) == Some("t") {
                facts.primary_key.push(name.to_owned());
            }
            if row.get(3) == Some("t")
                && let Some(column) = facts.columns.iter_mut().find(|c| c.column.name == name)
            {
                column.indexed = column.doubt.is_none();
            }
        })
        .await?;
    if !is_greenplum {
        statistics(session, named, statistics_for, &mut all).await?;
    }
    Ok(all)
}

struct ColumnRow {
    relation: u32,
    name: String,
    ty: u32,
    typmod: i32,
    not_null: bool,
    source_type: String,
    readable: bool,
    /// Oid of the collation; 0 if the type has none.
    collation: u32,
    /// Declared dimensions of an array.
    dimensions: u8,
}

fn columns_sql(oids: &str, version: u32) -> String {
    let valid = if version >= HAS_INVALID_NOT_NULL {
        " AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = a.attrelid \
           AND k.contype = 'n' AND NOT k.convalidated AND a.attnum = ANY (k.conkey))"
    } else {
        ""
    };
    format!(
        "SELECT a.attrelid, a.attname, a.atttypid, a.atttypmod, a.attnotnull{valid}, \
                pg_catalog.format_type(a.atttypid, a.atttypmod), \
                pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT'), a.attcollation, a.attndims \
         FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid = ANY ({oids}) AND a.attnum > 0 AND NOT a.attisdropped \
         ORDER BY a.attrelid, a.attnum"
    )
}

fn parse_column(row: &SimpleQueryRow) -> Option<ColumnRow> {
    Some(ColumnRow {
        relation: row.get(0)?.parse().ok()?,
        name: row.get(1)?.to_owned(),
        ty: row.get(2)?.parse().ok()?,
        typmod: row.get(3)?.parse().ok()?,
        not_null: row.get(4) == Some("t"),
        source_type: row.get(5)?.to_owned(),
        readable: row.get(6) == Some("t"),
        collation: row.get(7)?.parse().ok()?,
        dimensions: row.get(8)?.parse().unwrap_or(0),
    })
}

fn keys_sql(oids: &str, version: u32) -> String {
    let is_key = if version >= HAS_INCLUDED_COLUMNS { " AND k.position <= i.indnkeyatts" } else { "" };
    format!(
        "SELECT i.indrelid, a.attname, i.indisprimary, \
                k.position = 1 AND i.indisvalid AND i.indpred IS NULL AND m.amname IN ('btree', 'brin') \
         FROM pg_catalog.pg_index i, \
              LATERAL pg_catalog.unnest(i.indkey) WITH ORDINALITY AS k(attnum, position) \
         JOIN pg_catalog.pg_attribute a ON a.attnum = k.attnum, \
              pg_catalog.pg_class c JOIN pg_catalog.pg_am m ON m.oid = c.relam \
         WHERE c.oid = i.indexrelid AND (i.indisprimary OR k.position = 1) AND i.indrelid = ANY ({oids}) \
           AND a.attrelid = i.indrelid{is_key} \
         ORDER BY i.indrelid, i.indexrelid, k.position"
    )
}

/// A column as the survey reports it, mapped without options.
fn column(types: &Types, doubts: &BTreeMap<u32, String>, row: ColumnRow, as_stored: bool) -> SurveyColumn {
    let mut ty = PgType { as_stored, dimensions: row.dimensions, ..types.facts(row.ty, row.typmod) };
    ty.name.clone_from(&row.source_type);
    let (form, fetch) = map(&ty, None);
    let range = range_key(&ty);
    let doubt = doubts.get(&row.collation).cloned();
    let order = |cast: &str| if doubt.is_some() { by_bytes(cast) } else { cast.to_owned() };
    SurveyColumn {
        readable: row.readable,
        canonical: is_canonical(&ty),
        width: form.width(),
        column: made(row.name, row.source_type, !row.not_null, Reading { fetch, form, infinity: None }),
        order: range.as_ref().map(|r| Frozen::of(&order(r.cast))),
        facts: Facts::of(ty),
        ordered: range.is_some() || types.is_ordered(row.ty),
        numeric: range.is_some_and(|r| r.numeric),
        correlation: None,
        histogram_bounds: 0,
        common_share: 0.0,
        indexed: false,
        doubt,
    }
}

/// Makes a column with this reading.
fn made(name: String, source_type: String, nullable: bool, reading: Reading) -> Column {
    Column {
        name,
        source_type,
        ty: reading.form.column_type(),
        nullable,
        reading: Frozen::of(&reading),
        note: None,
    }
}

/// Correlation and histogram of the columns that tables may be split by.
async fn statistics(
    session: &Session,
    named: &[Named],
    statistics_for: &[String],
    all: &mut HashMap<u32, ColumnFacts>,
) -> Result<(), SourceError> {
    let mut oids: HashMap<(&str, &str), u32> = HashMap::new();
    let (mut schemas, mut tables, mut columns) = (Vec::new(), Vec::new(), Vec::new());
    for n in named {
        let Some(facts) = all.get(&n.oid) else { continue };
        oids.insert((&n.schema, &n.name), n.oid);
        for c in &facts.columns {
            let name = &c.column.name;
            if c.order.is_some() && (facts.primary_key.contains(name) || statistics_for.contains(name)) {
                schemas.push(n.schema.as_str());
                tables.push(n.name.as_str());
                columns.push(name.clone());
            }
        }
    }
    if columns.is_empty() {
        return Ok(());
    }
    // Statistics that include children come last and replace the others.
    let sql = format!(
        "SELECT s.schemaname, s.tablename, s.attname, s.correlation, \
                pg_catalog.array_length(s.histogram_bounds::pg_catalog.text::pg_catalog.text[], 1), \
                (SELECT pg_catalog.sum(f) FROM pg_catalog.unnest(s.most_common_freqs) AS f) \
         FROM pg_catalog.pg_stats s \
         JOIN ROWS FROM (pg_catalog.unnest({}), pg_catalog.unnest({}), pg_catalog.unnest({})) AS w(s, t, c) \
           ON s.schemaname = w.s AND s.tablename = w.t AND s.attname = w.c \
         ORDER BY s.inherited",
        texts(schemas),
        texts(tables),
        texts(columns.iter().map(String::as_str)),
    );
    session
        .each(&sql, Stage::Question, WHAT, |row| {
            let key = (row.get(0).unwrap_or_default(), row.get(1).unwrap_or_default());
            let Some(facts) = oids.get(&key).and_then(|oid| all.get_mut(oid)) else { return };
            let Some(c) = facts.columns.iter_mut().find(|c| Some(c.column.name.as_str()) == row.get(2))
            else {
                return;
            };
            c.correlation = row.get(3).and_then(|t| t.parse().ok());
            c.histogram_bounds = row.get(4).and_then(|t| t.parse().ok()).unwrap_or(0);
            c.common_share = row.get(5).and_then(|t| t.parse().ok()).unwrap_or(0.0);
        })
        .await
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::relation::ColumnType;
    use crate::source::postgres::reading::Fetch;
    use crate::source::postgres::type_facts::TypeRow;

    /// How a column is read.
    pub(in crate::source::postgres) fn reading(column: &Column) -> Reading {
        Reading::of(column).expect("known")
    }

    fn types() -> Types {
        let row = |name: &str, typtype, category, elem, base, base_typmod| TypeRow {
            name: name.into(),
            typtype,
            category,
            elem,
            base,
            base_typmod,
            ..TypeRow::default()
        };
        Types(HashMap::from([
            (25, row("text", 'b', 'S', 0, 0, -1)),
            (1082, row("date", 'b', 'D', 0, 0, -1)),
            (1182, row("date[]", 'b', 'A', 1082, 0, -1)),
            (1700, row("numeric", 'b', 'N', 0, 0, -1)),
            (1231, row("numeric[]", 'b', 'A', 1700, 0, -1)),
            (20_000, row("public.money", 'd', 'N', 0, 1700, (12 << 16 | 2) + 4)),
            (20_001, row("public.loop", 'd', 'N', 0, 20_001, -1)),
        ]))
    }

    /// A column of a table that does not exist.
    pub(in crate::source::postgres) fn column(ty: u32, typmod: i32, source_type: &str) -> SurveyColumn {
        let name = "c".into();
        let source_type = source_type.into();
        let row = ColumnRow {
            relation: 1,
            name,
            ty,
            typmod,
            not_null: true,
            source_type,
            readable: true,
            collation: 0,
            dimensions: 0,
        };
        super::column(&types(), &BTreeMap::new(), row, false)
    }

    #[test]
    fn domains_and_arrays_carry_what_they_are_made_of() {
        let domain = column(20_000, -1, "public.money");
        assert_eq!(domain.column.ty, ColumnType::Decimal { precision: 12, scale: 2 });
        assert_eq!(domain.order, Some(Frozen::of(&"numeric")));
        assert!(domain.numeric);
        let array = column(1231, (7 << 16 | 3) + 4, "numeric(7,3)[]");
        let element = Box::new(ColumnType::Decimal { precision: 7, scale: 3 });
        assert_eq!(array.column.ty, ColumnType::List(element));
        assert_eq!(array.order, None);
    }

    #[test]
    fn a_type_without_end_becomes_text() {
        assert_eq!(column(20_001, -1, "public.loop").column.ty, ColumnType::Text);
        assert_eq!(reading(&column(4_711, -1, "?").column).fetch, Fetch::AsText);
    }
}
