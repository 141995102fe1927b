//! The columns of the survey: types, keys and statistics, with what the mapping needs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tokio_postgres::SimpleQueryRow;

use super::collation;
use super::named::{Named, WHAT};
use super::order::by_bytes;
use super::quote::texts;
use super::reading::{Fetch, Reading};
use super::session::Session;
use super::sqlstate::Stage;
use super::type_facts::Types;
use super::types::{PgType, is_canonical, map, map_bytes, nested, range_key};
use crate::message::request::OnUnfit;
use crate::message::setting::{ArrayMode, FileTypes, InfinityMode, NumericMode};
use crate::relation::{Column, Facts, Frozen, MappingOptions, SurveyColumn, UnfitColumn};
use crate::source::SourceError;
use crate::source::decode::{Form, MAX_DIGITS, make_portable};

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

/// Maps a column again, with options.
pub(super) fn map_column(column: &SurveyColumn, options: &MappingOptions<'_>) -> Column {
    let mut mapped = column.column.clone();
    let unfit: Vec<&UnfitColumn> = options.as_text.iter().filter(|u| u.column == mapped.name).collect();
    let facts = column.facts.get::<PgType>();
    let dimensions = match facts {
        Some(facts) if options.arrays == ArrayMode::Nested => dimensions(facts, &unfit, options.on_unfit),
        _ => None,
    };
    if let Some(first) = unfit.first()
        && dimensions.is_none()
    {
        Reading { fetch: Fetch::AsText, form: Form::Text, infinity: None }.put_into(&mut mapped);
        mapped.note = Some(format!("text, because {}", first.because()));
        return mapped;
    }
    let Some(facts) = facts else { return mapped };
    let as_bytes = options.as_bytes.contains(&mapped.name);
    if let Some((form, fetch)) = as_bytes.then(|| map_bytes(facts)).flatten() {
        Reading { fetch, form, infinity: None }.put_into(&mut mapped);
        mapped.note = Some("text as bytes, as asked for".into());
        return mapped;
    }
    let as_it_is = map(facts, None);
    let (mut form, mut fetch) = as_it_is.clone();
    if let Some(mode) = options.numeric {
        let asked = map(facts, Some(mode));
        let is_changed = asked != as_it_is;
        if options.types == FileTypes::Portable
            && matches!(mode, NumericMode::Decimal(digits, _) if digits > MAX_DIGITS)
        {
            let note = || format!("numeric as text instead of {mode}, since types are portable");
            mapped.note = is_changed.then(note);
        } else if is_changed {
            mapped.note = Some(format!("numeric as {mode}, as asked for"));
            (form, fetch) = asked;
        }
    }
    if let Some((dimensions, guessed)) = dimensions {
        (form, fetch) = nested((form, fetch), dimensions, guessed);
    }
    if let Form::Nested { dimensions: dimensions @ 2.., .. } = form {
        let note = format!("arrays of {dimensions} dimensions as lists of lists, as asked for");
        mapped.note = mapped.note.into_iter().chain([note]).reduce(|all, note| format!("{all}; {note}"));
    }
    let mut infinity = options.infinity;
    if options.types == FileTypes::Portable {
        let (made, note) = make_portable(&form, &mut infinity);
        form = made;
        mapped.note = mapped.note.into_iter().chain(note).reduce(|all, note| format!("{all}; {note}"));
    }
    let infinity = form.column_type().may_be_infinite().then_some(infinity);
    mapped.nullable |= infinity == Some(InfinityMode::Null);
    Reading { fetch, form, infinity }.put_into(&mut mapped);
    mapped
}

/// How many dimensions the arrays of a column have, and whether that is a guess: those that values had which did
/// not fit, else those that the column declares, which bind no value. `None` if lists of lists cannot hold the
/// values, so that the column becomes text.
fn dimensions(facts: &PgType, unfit: &[&UnfitColumn], on_unfit: OnUnfit) -> Option<(u8, bool)> {
    let (Form::Nested { .. }, _) = nested(map(facts, None), 2, false) else { return None };
    let declared = facts.dimensions.max(1);
    let Some((first, others)) = unfit.split_first() else { return Some((declared, true)) };
    match first.dimensions.filter(|_| others.iter().all(|other| other.dimensions == first.dimensions)) {
        Some(dimensions) => Some((dimensions, true)),
        None if on_unfit == OnUnfit::Text => None,
        // The arrays differ: those that are not as declared do not fit.
        None => Some((declared, false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relation::{ColumnType, UnfitColumn};
    use crate::source::postgres::type_facts::TypeRow;

    fn reading(column: &Column) -> Reading {
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

    fn column(ty: u32, typmod: i32, source_type: &str) -> SurveyColumn {
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

    #[test]
    fn options_change_the_mapping_and_say_so() {
        let numeric = column(1700, -1, "numeric");
        let as_is = map_column(&numeric, &MappingOptions::default());
        assert_eq!(as_is, numeric.column);
        let options = MappingOptions { numeric: Some(NumericMode::Decimal(38, 9)), ..Default::default() };
        let asked = map_column(&numeric, &options);
        assert_eq!(asked.ty, ColumnType::Decimal { precision: 38, scale: 9 });
        assert_eq!(asked.note.as_deref(), Some("numeric as decimal(38,9), as asked for"));
        let unfit = UnfitColumn {
            column: "c".into(),
            reason: "NaN has no decimal form".into(),
            dimensions: None,
            row: None,
        };
        let text = map_column(&numeric, &MappingOptions { as_text: vec![unfit], ..Default::default() });
        assert_eq!((&text.ty, reading(&text).fetch), (&ColumnType::Text, Fetch::AsText));
        assert!(text.note.is_some_and(|n| n.contains("NaN")));
    }

    #[test]
    fn arrays_become_lists_of_lists_if_all_have_as_many_dimensions() {
        let list = |ty| ColumnType::List(Box::new(ty));
        let mut dates = column(1182, -1, "date[]");
        let unfit = |reason: &str, dimensions| UnfitColumn {
            column: "c".into(),
            reason: reason.into(),
            dimensions,
            row: None,
        };
        let two = || unfit("an array has more than one dimension", Some(2));
        let mapped = |column: &SurveyColumn, arrays, as_text| {
            map_column(column, &MappingOptions { arrays, as_text, ..Default::default() })
        };
        let nested = |column: &SurveyColumn, as_text| mapped(column, ArrayMode::Nested, as_text);
        assert_eq!(nested(&dates, vec![]).ty, list(ColumnType::Date));
        let found = nested(&dates, vec![two()]);
        assert_eq!(found.ty, list(list(ColumnType::Date)));
        assert!(found.note.is_some_and(|n| n.contains("2 dimensions")));
        assert_eq!(reading(&nested(&dates, vec![two()])).infinity, Some(InfinityMode::Max));
        let differ = nested(&dates, vec![two(), unfit("an array has another number", Some(3))]);
        assert_eq!((&differ.ty, differ.note.is_some()), (&ColumnType::Text, true));
        let shifted = nested(&dates, vec![unfit("an array does not begin at index 1", None)]);
        assert_eq!(shifted.ty, ColumnType::Text);
        assert_eq!(mapped(&dates, ArrayMode::Text, vec![two()]).ty, ColumnType::Text);
        let options = MappingOptions {
            arrays: ArrayMode::Nested,
            on_unfit: OnUnfit::Null,
            as_text: vec![two(), unfit("an array has another number", Some(1))],
            ..Default::default()
        };
        let settled = map_column(&dates, &options);
        assert_eq!(
            settled.ty,
            list(ColumnType::Date),
            "as declared, where values differ and may become NULL"
        );
        assert!(matches!(reading(&settled).form, Form::Nested { dimensions: 1, guessed: false, .. }));
        let declared = PgType { dimensions: 3, ..dates.facts.get::<PgType>().expect("known").clone() };
        dates.facts = Facts::of(declared);
        assert_eq!(nested(&dates, vec![]).ty, list(list(list(ColumnType::Date))));
        assert_eq!(
            nested(&dates, vec![two()]).ty,
            list(list(ColumnType::Date)),
            "values count, not what is declared"
        );
        assert_eq!(mapped(&dates, ArrayMode::Text, vec![]).ty, list(ColumnType::Date));
        assert_eq!(nested(&column(25, -1, "text"), vec![]).ty, ColumnType::Text);
    }

    #[test]
    fn infinity_as_null_makes_a_column_nullable() {
        for (ty, nullable) in [(1082, true), (1182, true), (25, false)] {
            let options = MappingOptions { infinity: InfinityMode::Null, ..Default::default() };
            let mapped = map_column(&column(ty, -1, "?"), &options);
            assert_eq!(
                (mapped.nullable, reading(&mapped).infinity == Some(InfinityMode::Null)),
                (nullable, nullable)
            );
        }
        let options = MappingOptions { infinity: InfinityMode::Text, ..Default::default() };
        assert!(!map_column(&column(1082, -1, "date"), &options).nullable);
    }

    #[test]
    fn portable_types_override_what_is_not_and_say_so() {
        let portable = MappingOptions { types: FileTypes::Portable, ..Default::default() };
        let date = map_column(&column(1082, -1, "date"), &portable);
        assert_eq!((reading(&date).infinity, date.nullable), (Some(InfinityMode::Null), true));
        assert_eq!(date.note.as_deref(), Some("infinite values are NULL, since types are portable"));
        let text = MappingOptions { infinity: InfinityMode::Text, ..portable.clone() };
        let kept = map_column(&column(1082, -1, "date"), &text);
        assert_eq!(
            (reading(&kept).infinity, kept.nullable, kept.note),
            (Some(InfinityMode::Text), false, None)
        );
        let numeric = column(1700, -1, "numeric");
        let asked = |mode| map_column(&numeric, &MappingOptions { numeric: Some(mode), ..portable.clone() });
        let narrow = asked(NumericMode::Decimal(38, 9));
        assert_eq!(narrow.ty, ColumnType::Decimal { precision: 38, scale: 9 });
        assert_eq!(narrow.note.as_deref(), Some("numeric as decimal(38,9), as asked for"));
        let wide = asked(NumericMode::Decimal(39, 9));
        assert_eq!((&wide.ty, reading(&wide).fetch), (&ColumnType::Text, Fetch::AsText));
        let note = "numeric as text instead of decimal(39,9), since types are portable";
        assert_eq!(wide.note.as_deref(), Some(note));
        assert_eq!(asked(NumericMode::Double).ty, ColumnType::Float64);
        let plain = column(23, -1, "integer");
        assert_eq!(map_column(&plain, &portable), plain.column);
    }

    #[test]
    fn texts_are_bytes_where_asked_for() {
        let as_bytes = ["c".to_owned()];
        let options = MappingOptions { as_bytes: &as_bytes, ..Default::default() };
        let mapped = map_column(&column(25, -1, "text"), &options);
        assert_eq!((&mapped.ty, reading(&mapped).fetch), (&ColumnType::Bytes, Fetch::AsBytes));
        assert!(mapped.note.is_some());
        let number = column(23, -1, "integer");
        assert_eq!(map_column(&number, &options), number.column);
    }
}
