//! The condition of an incremental export: rows whose column is greater than a value.

use super::quote::{ident, literal};
use super::reading::{Fetch, Reading};
use super::seen::FIXED_OIDS;
use super::types::{PgType, oid};
use crate::relation::SurveyColumn;
use crate::relation::filter::is_moving;
use crate::source::SourceError;
use crate::source::decode::Form;

/// For each type: the type of the difference, and the type in which the subtraction is done. Single precision
/// uses double precision, which rounds less. PostgreSQL compares the two directly.
const DIFFERENCES: [(u32, &str, &str); 11] = [
    (oid::INT2, "pg_catalog.int8", "pg_catalog.int8"),
    (oid::INT4, "pg_catalog.int8", "pg_catalog.int8"),
    (oid::INT8, "pg_catalog.int8", "pg_catalog.int8"),
    (oid::NUMERIC, "pg_catalog.numeric", "pg_catalog.numeric"),
    (oid::FLOAT4, "pg_catalog.float4::pg_catalog.float8", "pg_catalog.float8"),
    (oid::FLOAT8, "pg_catalog.float8", "pg_catalog.float8"),
    (oid::MONEY, "pg_catalog.money", "pg_catalog.money"),
    (oid::DATE, "pg_catalog.date", "pg_catalog.interval"),
    (oid::TIMESTAMP, "pg_catalog.timestamp", "pg_catalog.interval"),
    (oid::TIMESTAMPTZ, "pg_catalog.timestamptz", "pg_catalog.interval"),
    (oid::INTERVAL, "pg_catalog.interval", "pg_catalog.interval"),
];

/// The condition that a column is greater than a value, less an overlap. The difference is a constant of a
/// type that an index on the column can compare.
pub(super) fn greater_than(
    columns: &[SurveyColumn],
    name: &str,
    value: &str,
    overlap: Option<&str>,
) -> Result<String, SourceError> {
    let column = columns.iter().find(|c| c.column.name == name);
    let mut quoted = ident(name);
    let facts = column.and_then(|c| c.facts.get::<PgType>());
    let base = facts.map(PgType::undomained);
    if is_moving(value) && !column.is_some_and(is_text) {
        return Err(SourceError::permanent(
            "invalid_value",
            format!("field `after.value`: '{value}' is another date at each reading"),
        )
        .with_remedy("write the date itself, e.g. 2026-01-31"));
    }
    // The server knows no order of an enum's domain.
    if let Some(base) = base.filter(|base| base.typtype == 'e' && facts != Some(base)) {
        quoted = format!("{quoted}::{}", base.name);
    }
    let value = literal(value);
    let greater = base.map_or_else(|| ">".to_owned(), operator);
    let Some(amount) = overlap else {
        return Ok(format!("{quoted} {greater} {value}"));
    };
    let amount = literal(amount);
    let known = base.and_then(|base| DIFFERENCES.iter().find(|(oid, ..)| *oid == base.oid));
    let Some((_, base, by)) = known else {
        return Err(SourceError::permanent(
            "overlap",
            format!(
                "field `after.overlap`: column `{}` of type {} has no differences",
                name,
                column.map_or("an unknown type", |c| c.column.source_type.as_str())
            ),
        )
        .with_remedy(
            "leave it out, or name a column of numbers, money, dates, timestamps or intervals (a time of day \
                 starts again at midnight)",
        ));
    };
    // An overlap below zero would leave rows out.
    Ok(format!("{quoted} {greater} LEAST({value}::{base}, {value}::{base} - {amount}::{by})"))
}

/// Whether the column is a text, for which `today` is a word like any other.
fn is_text(column: &SurveyColumn) -> bool {
    Reading::of(&column.column)
        .is_ok_and(|reading| reading.fetch == Fetch::Native && reading.form == Form::Text)
}

/// The "greater" operator of the type's default order, whatever the search path. The highest value was found
/// in the same order.
fn operator(base: &PgType) -> String {
    match &base.greater {
        Some((schema, name)) => format!("OPERATOR({}.{name})", ident(schema)),
        None if base.oid < FIXED_OIDS => "OPERATOR(pg_catalog.>)".into(),
        None => ">".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relation::{Column, ColumnType, Facts};

    fn column(facts: &PgType) -> SurveyColumn {
        SurveyColumn {
            column: Column::plain("k\"", &facts.name, ColumnType::Text, false),
            facts: Facts::of(facts.clone()),
            width: 32,
            order: None,
            ordered: true,
            numeric: false,
            correlation: None,
            histogram_bounds: 0,
            common_share: 0.0,
            indexed: false,
            doubt: None,
            readable: true,
            canonical: false,
        }
    }

    fn of(column: SurveyColumn, value: &str, overlap: Option<&str>) -> Result<String, SourceError> {
        greater_than(&[column], "k\"", value, overlap)
    }

    fn domain(of: PgType) -> PgType {
        let mut domain = PgType::base(70_000, "public.dd", -1);
        (domain.typtype, domain.base) = ('d', Some(Box::new(of)));
        domain
    }

    #[test]
    fn an_overlap_is_subtracted_in_the_type_that_a_column_is_made_of() {
        for (oid, base, by) in DIFFERENCES {
            let ty = PgType::base(oid, "a type", -1);
            for ty in [ty.clone(), domain(ty.clone()), domain(domain(ty))] {
                let sql = of(column(&ty), "it's", Some("1'")).expect("a difference");
                let value = format!("'it''s'::{base}");
                let less = format!("{value} - '1'''::{by}");
                assert_eq!(sql, format!("\"k\"\"\" OPERATOR(pg_catalog.>) LEAST({value}, {less})"));
            }
        }
        let uuid = column(&PgType::base(oid::UUID, "uuid", -1));
        assert_eq!(of(uuid.clone(), "5", None).expect("none"), "\"k\"\"\" OPERATOR(pg_catalog.>) '5'");
        let refused = of(uuid.clone(), "5", Some("1")).expect_err("no difference");
        assert!(
            refused.message.contains("`after.overlap`") && refused.message.contains("uuid"),
            "{refused:?}"
        );
    }

    #[test]
    fn a_type_with_an_order_of_its_own_is_compared_by_it() {
        let mut citext = PgType::base(80_000, "ext.citext", -1);
        citext.greater = Some(("my \"ext".into(), ">".into()));
        for ty in [citext.clone(), domain(citext)] {
            let sql = of(column(&ty), "a", None).expect("none");
            assert_eq!(sql, "\"k\"\"\" OPERATOR(\"my \"\"ext\".>) 'a'");
        }
        let mood = PgType { typtype: 'e', ..PgType::base(80_002, "public.\"Mood\"", -1) };
        assert_eq!(of(column(&mood), "a", None).expect("none"), "\"k\"\"\" > 'a'");
        let sql = of(column(&domain(mood)), "a", None).expect("none");
        assert_eq!(sql, "\"k\"\"\"::public.\"Mood\" > 'a'");
        let of_an_enum = PgType::base(80_001, "public.mood", -1);
        assert_eq!(of(column(&of_an_enum), "a", None).expect("none"), "\"k\"\"\" > 'a'");
    }
}
