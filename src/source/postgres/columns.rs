//! The survey's columns: types with what their mapping needs, keys and statistics.

use std::collections::{HashMap, HashSet};

use tokio_postgres::SimpleQueryRow;

use super::catalogue::{Named, WHAT, oid_array};
use super::quote::texts;
use super::session::Session;
use super::sqlstate::Stage;
use crate::decode::types::{PgType, map, range_key};
use crate::plan::column::{Column, ColumnType, Fetch};
use crate::source::{MappingOptions, SourceError, SurveyColumn};

/// First version in which a NOT NULL may stand for rows that break it.
const HAS_INVALID_NOT_NULL: u32 = 180_000;

/// The columns of one relation.
#[derive(Default)]
pub(super) struct ColumnFacts {
    pub(super) columns: Vec<SurveyColumn>,
    pub(super) primary_key: Vec<String>,
    /// Columns that the role may not read.
    pub(super) forbidden: Vec<String>,
}

/// Columns, keys and statistics of all relations, by oid. Statistics cost the
/// most and are read for primary keys and for columns of these names only.
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
    let types = Types::read(session, &rows).await?;
    let mut all: HashMap<u32, ColumnFacts> = HashMap::new();
    for row in rows {
        let facts = all.entry(row.relation).or_default();
        if !row.readable {
            facts.forbidden.push(row.name.clone());
        }
        facts.columns.push(types.column(row));
    }
    session
        .each(&keys_sql(oids), Stage::Question, WHAT, |row| {
            let oid = row.get(0).and_then(|t| t.parse().ok()).unwrap_or(0);
            if let (Some(facts), Some(name)) = (all.get_mut(&oid), row.get(1)) {
                facts.primary_key.push(name.to_owned());
            }
        })
        .await?;
    statistics(session, named, statistics_for, &mut all).await?;
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
                pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT') \
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
    })
}

fn keys_sql(oids: &str) -> String {
    format!(
        "SELECT i.indrelid, a.attname \
         FROM pg_catalog.pg_index i, \
              LATERAL pg_catalog.unnest(i.indkey) WITH ORDINALITY AS k(attnum, position) \
         JOIN pg_catalog.pg_attribute a ON a.attnum = k.attnum \
         WHERE i.indisprimary AND i.indrelid = ANY ({oids}) AND a.attrelid = i.indrelid \
           AND k.position <= i.indnkeyatts \
         ORDER BY i.indrelid, k.position"
    )
}

/// One row of `pg_type`.
struct TypeRow {
    name: String,
    typtype: char,
    category: char,
    elem: u32,
    base: u32,
    base_typmod: i32,
}

/// The types that the columns have, with their elements and bases.
struct Types(HashMap<u32, TypeRow>);

impl Types {
    async fn read(session: &Session, columns: &[ColumnRow]) -> Result<Self, SourceError> {
        let used: HashSet<u32> = columns.iter().map(|c| c.ty).collect();
        let sql = format!(
            "WITH RECURSIVE used AS (SELECT pg_catalog.unnest({}) AS oid \
                UNION SELECT v.oid FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid, \
                      LATERAL (VALUES (t.typelem), (t.typbasetype)) v(oid) WHERE v.oid <> 0) \
             SELECT t.oid, pg_catalog.format_type(t.oid, NULL), t.typtype, t.typcategory, \
                    t.typelem, t.typbasetype, t.typtypmod \
             FROM pg_catalog.pg_type t JOIN used u ON u.oid = t.oid",
            oid_array(used.into_iter())
        );
        let mut types = HashMap::new();
        session.each(&sql, Stage::Question, WHAT, |row| types.extend(parse_type(&row))).await?;
        Ok(Self(types))
    }

    /// The facts of a type, with what it is made of.
    fn facts(&self, oid: u32, typmod: i32, depth: u8) -> PgType {
        let Some(row) = self.0.get(&oid).filter(|_| depth < 16) else {
            // Dropped while we looked, or a domain of domains beyond reason: text.
            let name = "unknown".to_owned();
            return PgType { oid, name, typtype: 'p', category: 'X', typmod, elem: None, base: None };
        };
        let inner = |oid: u32, typmod: i32| Box::new(self.facts(oid, typmod, depth + 1));
        PgType {
            oid,
            name: row.name.clone(),
            typtype: row.typtype,
            category: row.category,
            typmod,
            elem: (row.category == 'A' && row.elem != 0).then(|| inner(row.elem, typmod)),
            base: (row.typtype == 'd').then(|| inner(row.base, row.base_typmod)),
        }
    }

    fn column(&self, row: ColumnRow) -> SurveyColumn {
        let mut ty = self.facts(row.ty, row.typmod, 0);
        ty.name.clone_from(&row.source_type);
        let (mapped, fetch) = map(&ty, None);
        let range = range_key(&ty);
        SurveyColumn {
            column: Column {
                name: row.name,
                source_type: row.source_type,
                fetch,
                ty: mapped,
                nullable: !row.not_null,
                note: None,
            },
            type_facts: serde_json::to_value(&ty).unwrap_or_default(),
            range_cast: range.as_ref().map(|r| r.cast.to_owned()),
            numeric: range.is_some_and(|r| r.numeric),
            correlation: None,
            histogram_bounds: 0,
        }
    }
}

fn parse_type(row: &SimpleQueryRow) -> Option<(u32, TypeRow)> {
    let letter = |i: usize| row.get(i).and_then(|t| t.chars().next());
    let ty = TypeRow {
        name: row.get(1)?.to_owned(),
        typtype: letter(2)?,
        category: letter(3)?,
        elem: row.get(4)?.parse().ok()?,
        base: row.get(5)?.parse().ok()?,
        base_typmod: row.get(6)?.parse().ok()?,
    };
    Some((row.get(0)?.parse().ok()?, ty))
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
            if c.range_cast.is_some() && (facts.primary_key.contains(name) || statistics_for.contains(name)) {
                schemas.push(n.schema.as_str());
                tables.push(n.name.as_str());
                columns.push(name.clone());
            }
        }
    }
    if columns.is_empty() {
        return Ok(());
    }
    // Statistics with the children come last and win.
    let sql = format!(
        "SELECT s.schemaname, s.tablename, s.attname, s.correlation, \
                pg_catalog.array_length(s.histogram_bounds::pg_catalog.text::pg_catalog.text[], 1) \
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
        })
        .await
}

/// Maps a column again, with options.
pub(super) fn map_column(column: &SurveyColumn, options: &MappingOptions) -> Column {
    let mut mapped = column.column.clone();
    if let Some(unfit) = options.as_text.iter().find(|u| u.column == mapped.name) {
        mapped.ty = ColumnType::Text;
        mapped.fetch = Fetch::AsText;
        mapped.note = Some(format!("text, because {}", unfit.reason));
        return mapped;
    }
    let facts: Result<PgType, _> = serde_json::from_value(column.type_facts.clone());
    if let (Ok(facts), Some(mode)) = (facts, options.numeric) {
        let (ty, fetch) = map(&facts, Some(mode));
        if (&ty, fetch) != (&mapped.ty, mapped.fetch) {
            mapped.note = Some(format!("numeric as {mode}, as asked for"));
        }
        (mapped.ty, mapped.fetch) = (ty, fetch);
    }
    mapped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::setting::NumericMode;
    use crate::source::UnfitColumn;

    fn types() -> Types {
        let row = |name: &str, typtype, category, elem, base, base_typmod| TypeRow {
            name: name.into(),
            typtype,
            category,
            elem,
            base,
            base_typmod,
        };
        Types(HashMap::from([
            (1700, row("numeric", 'b', 'N', 0, 0, -1)),
            (1231, row("numeric[]", 'b', 'A', 1700, 0, -1)),
            (20_000, row("public.money", 'd', 'N', 0, 1700, (12 << 16 | 2) + 4)),
            (20_001, row("public.loop", 'd', 'N', 0, 20_001, -1)),
        ]))
    }

    fn column(ty: u32, typmod: i32, source_type: &str) -> SurveyColumn {
        types().column(ColumnRow {
            relation: 1,
            name: "c".into(),
            ty,
            typmod,
            not_null: true,
            source_type: source_type.into(),
            readable: true,
        })
    }

    #[test]
    fn domains_and_arrays_carry_what_they_are_made_of() {
        let domain = column(20_000, -1, "public.money");
        assert_eq!(domain.column.ty, ColumnType::Decimal { precision: 12, scale: 2 });
        assert_eq!(domain.range_cast.as_deref(), Some("numeric"));
        assert!(domain.numeric);
        let array = column(1231, (7 << 16 | 3) + 4, "numeric(7,3)[]");
        let element = Box::new(ColumnType::Decimal { precision: 7, scale: 3 });
        assert_eq!(array.column.ty, ColumnType::List(element));
        assert_eq!(array.range_cast, None);
    }

    #[test]
    fn a_type_without_end_becomes_text() {
        assert_eq!(column(20_001, -1, "public.loop").column.ty, ColumnType::Text);
        assert_eq!(column(4_711, -1, "?").column.fetch, Fetch::AsText);
    }

    #[test]
    fn options_change_the_mapping_and_say_so() {
        let numeric = column(1700, -1, "numeric");
        let as_is = map_column(&numeric, &MappingOptions::default());
        assert_eq!(as_is, numeric.column);
        let options = MappingOptions { numeric: Some(NumericMode::Decimal(38, 9)), as_text: Vec::new() };
        let asked = map_column(&numeric, &options);
        assert_eq!(asked.ty, ColumnType::Decimal { precision: 38, scale: 9 });
        assert_eq!(asked.note.as_deref(), Some("numeric as decimal(38,9), as asked for"));
        let unfit = UnfitColumn { column: "c".into(), reason: "NaN has no decimal form".into() };
        let text = map_column(&numeric, &MappingOptions { numeric: None, as_text: vec![unfit] });
        assert_eq!((text.ty, text.fetch), (ColumnType::Text, Fetch::AsText));
        assert!(text.note.is_some_and(|n| n.contains("NaN")));
    }
}
