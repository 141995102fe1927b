//! Writes filters in Vertica's SQL (invariant I7). Expressions are written as for PostgreSQL, except that a
//! comparison in which NULL equals NULL is `<=>`. The caller puts the text in parentheses before adding other
//! conditions.

use super::condition::KeyType;
use crate::relation::SurveyColumn;
use crate::relation::filter::{Filter, is_moving};
use crate::source::SourceError;
use crate::source::sql::expression::{Sameness, printed};
use crate::source::sql::quote::{ident, literal};

/// The SQL condition for a filter. `columns` are the columns of the relation.
pub(super) fn sql(filter: &Filter, columns: &[SurveyColumn]) -> Result<String, SourceError> {
    Ok(match filter {
        Filter::Where(expression) => printed(expression, Sameness::NullSafe)?,
        Filter::Newer { column, value, overlap } => greater_than(columns, column, value, overlap.as_deref())?,
        Filter::IsNull(column) => format!("{} IS NULL", ident(column)),
        Filter::Both(filters) => {
            let [a, b] = &**filters;
            format!("({}) AND ({})", sql(a, columns)?, sql(b, columns)?)
        }
        Filter::Either(filters) => {
            let [a, b] = &**filters;
            format!("({}) OR ({})", sql(a, columns)?, sql(b, columns)?)
        }
    })
}

/// The condition of an incremental export: the column is greater than a value, less an overlap.
fn greater_than(
    columns: &[SurveyColumn],
    name: &str,
    value: &str,
    overlap: Option<&str>,
) -> Result<String, SourceError> {
    let column = columns.iter().find(|c| c.column.name == name);
    let ty: Option<KeyType> =
        column.and_then(|column| column.order.as_ref()).and_then(|order| order.thaw().ok());
    let source_type = column.map_or("an unknown type", |c| c.column.source_type.as_str());
    let Some(ty) = ty else {
        return Err(SourceError::permanent(
            "invalid_value",
            format!("field `after.column`: values of column `{name}` of type {source_type} cannot be compared exactly"),
        )
        .with_remedy("name a column of integers, numerics, dates, timestamps, UUIDs or texts"));
    };
    if is_moving(value) && ty != KeyType::Text {
        return Err(SourceError::permanent(
            "invalid_value",
            format!("field `after.value`: '{value}' is another date at each reading"),
        )
        .with_remedy("write the date itself, e.g. 2026-01-31"));
    }
    let (column, bound) = (ident(name), ty.literal(value));
    let Some(amount) = overlap else { return Ok(format!("{column} > {bound}")) };
    let amount = match &ty {
        KeyType::Int | KeyType::Numeric { .. } => ty.literal(amount),
        KeyType::Date | KeyType::Timestamp | KeyType::TimestampTz => {
            if !is_exact_interval(amount) {
                return Err(SourceError::permanent(
                    "overlap",
                    format!("field `after.overlap`: {amount:?} is not a fixed time; months and years differ in length"),
                )
                .with_remedy("write weeks, days, hours, minutes or seconds, e.g. \"31 days\""));
            }
            format!("{}::INTERVAL DAY TO SECOND", literal(amount))
        }
        KeyType::Uuid | KeyType::Text => {
            return Err(SourceError::permanent(
                "overlap",
                format!(
                    "field `after.overlap`: column `{name}` ({source_type}) is no number, date or timestamp, so it can \
                     have no overlap"
                ),
            )
            .with_remedy("leave it out, or name a column of numbers, dates or timestamps"));
        }
    };
    // An overlap below zero would leave rows out.
    Ok(format!("{column} > LEAST({bound}, {bound} - {amount})"))
}

/// Whether a text is an interval without months and years, which `INTERVAL DAY TO SECOND` would take for some
/// number of days: numbers and times, each with a unit of fixed length or none.
fn is_exact_interval(text: &str) -> bool {
    const UNITS: &str = "us microsecond microseconds ms millisecond milliseconds s sec secs second seconds \
         min mins minute minutes h hr hrs hour hours d day days w week weeks";
    let is_unit = |word: &str| UNITS.split_whitespace().any(|unit| word.eq_ignore_ascii_case(unit));
    text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | ':' | '.' | '+'))
        && text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty()).all(is_unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AllowWhere;
    use crate::relation::filter::Expression;
    use crate::relation::{Column, ColumnType, Facts};
    use crate::source::vertica::condition::order;

    fn column(ty: Option<&KeyType>) -> [SurveyColumn; 1] {
        [SurveyColumn {
            column: Column::plain("k\"", "a type", ColumnType::Int64, false),
            facts: Facts::of(()),
            width: 8,
            order: ty.map(order),
            ordered: true,
            numeric: false,
            correlation: None,
            histogram_bounds: 0,
            common_share: 0.0,
            indexed: false,
            doubt: None,
            readable: true,
            canonical: false,
        }]
    }

    fn newer(ty: &KeyType, value: &str, overlap: Option<&str>) -> Result<String, SourceError> {
        let filter =
            Filter::Newer { column: "k\"".into(), value: value.into(), overlap: overlap.map(str::to_owned) };
        sql(&filter, &column(Some(ty)))
    }

    #[test]
    fn expressions_are_printed_from_the_tree() {
        for (written, expected) in [
            ("at >= '2026-01-01'", r#""at" >= '2026-01-01'"#),
            (r"n = 'it\s'", r#""n" = E'it\\s'"#),
            ("a is distinct from b + 1", r#"( NOT ( ( "a" ) <=> ( "b" + 1 ) ) )"#),
            ("a is not distinct from null and b", r#"( ( "a" ) <=> ( NULL ) ) AND "b""#),
            (
                "d::date between date '2026-01-01' and '2026-02-01'",
                r#""d" :: DATE BETWEEN DATE '2026-01-01' AND '2026-02-01'"#,
            ),
        ] {
            let expression = Expression::parse(written, AllowWhere::Simple).expect(written);
            assert_eq!(sql(&Filter::Where(expression), &[]).expect(written), expected);
        }
    }

    #[test]
    fn newer_rows_are_compared_in_the_type_of_the_column() {
        let numeric = KeyType::Numeric { precision: 10, scale: 2 };
        assert_eq!(newer(&KeyType::Int, "5", None).expect("valid"), "\"k\"\"\" > '5'::INT");
        assert_eq!(
            newer(&numeric, "5", Some("1.5")).expect("valid"),
            "\"k\"\"\" > LEAST('5'::NUMERIC(10,2), '5'::NUMERIC(10,2) - '1.5'::NUMERIC(10,2))"
        );
        assert_eq!(
            newer(&KeyType::TimestampTz, "2026-01-01 00:00:00+00", Some("1 hour")).expect("valid"),
            "\"k\"\"\" > LEAST('2026-01-01 00:00:00+00'::TIMESTAMPTZ, \
             '2026-01-01 00:00:00+00'::TIMESTAMPTZ - '1 hour'::INTERVAL DAY TO SECOND)"
        );
        assert!(newer(&KeyType::Date, "today", None).is_err());
        assert!(newer(&KeyType::Text, "today", None).is_ok());
        assert!(newer(&KeyType::Text, "a", Some("b")).is_err());
        for exact in ["2 hours", "1 day 02:00:00", "31 days", "90", "1.5h", "1 week"] {
            assert!(newer(&KeyType::Timestamp, "2026-01-31", Some(exact)).is_ok(), "{exact}");
        }
        for vague in ["1 month", "2 years", "1-2", "P1M", "1 mon 3 days", "1 quarter", "1 decade"] {
            let error = newer(&KeyType::Timestamp, "2026-03-31", Some(vague)).expect_err(vague);
            assert!(error.message.contains("after.overlap"), "{error}");
        }
        let filter = Filter::Newer { column: "k\"".into(), value: "1".into(), overlap: None };
        assert!(sql(&filter, &column(None)).is_err());
    }
}
