//! Writes filters in PostgreSQL's SQL. The caller puts the text in parentheses before adding other conditions.

use super::newer;
use super::slice::is_null;
use crate::relation::SurveyColumn;
use crate::relation::filter::Filter;
use crate::source::SourceError;
use crate::source::sql::expression::{Sameness, printed};

/// The SQL condition for a filter. `columns` are the columns of the relation.
pub(super) fn sql(filter: &Filter, columns: &[SurveyColumn]) -> Result<String, SourceError> {
    Ok(match filter {
        Filter::Where(expression) => printed(expression, Sameness::NotDistinct)?,
        Filter::Newer { column, value, overlap } => {
            newer::greater_than(columns, column, value, overlap.as_deref())?
        }
        Filter::IsNull(column) => is_null(column),
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

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
