//! Filters of a table: `where` and `after` of the request.

use super::{Ground, PlanError};
use crate::message::event::ErrorReport;
use crate::message::pattern::qualified;
use crate::message::request::{After, AfterNulls};
use crate::plan::choose::ChosenTable;
use crate::relation::filter::Expression;
use crate::relation::{Filter, Frozen, Relation, Unreadable};
use crate::source::{Keeper, Refusal, SourceError};
use crate::text::count;

impl Ground<'_> {
    /// The filter of a table: the checked `where` and the condition of an incremental export.
    pub(super) fn filter<E>(
        &self,
        chosen: &ChosenTable<'_>,
        rows: NewRows,
    ) -> Result<Option<Frozen>, PlanError<E>> {
        let request = chosen.request;
        let asked = match &request.where_ {
            Some(text) => Some(self.expression::<E>(text)?),
            None => None,
        };
        let newer = match &request.after {
            Some(after) => Some(self.newer::<E>(chosen.relation, after, rows)?),
            None => None,
        };
        let filter = Filter::both(asked, newer);
        Ok(filter.map(|filter| self.source.print(&filter, &chosen.relation.columns)).transpose()?)
    }

    fn expression<E>(&self, text: &str) -> Result<Filter, PlanError<E>> {
        Expression::parse(text, self.config.allow_where).map(Filter::Where).map_err(|e| {
            let mut report = e.report(self.config.origin);
            report.message = format!("field `where`: {}", report.message);
            PlanError::Failed(report)
        })
    }

    /// The filter that `after` stands for.
    fn newer<E>(&self, relation: &Relation, after: &After, rows: NewRows) -> Result<Filter, PlanError<E>> {
        let column = relation
            .columns
            .iter()
            .find(|c| c.column.name == after.column)
            .expect("`choose` takes no table without the column of `after`");
        if let Some(overlap) = after.overlap.as_ref().filter(|o| o.trim_start().starts_with('-')) {
            return Err(PlanError::Failed(ErrorReport::permanent(
                "invalid_value",
                format!("field `after.overlap`: {overlap:?} is below zero and would leave rows out"),
                "write how far before `value` rows are to come again, e.g. \"1 hour\"",
            )));
        }
        Ok(match rows {
            NewRows::Wanted if column.column.nullable => Filter::wanted(after),
            NewRows::Wanted | NewRows::WithValue => Filter::with_value(after),
            NewRows::Newer => Filter::newer(after),
            NewRows::WithoutValue => Filter::IsNull(after.column.clone()),
        })
    }

    /// A note about rows whose `after` column is NULL, because `after` cannot compare them.
    ///
    /// # Errors
    /// When there are such rows and the request does not accept them.
    pub(super) async fn without_value<E>(
        &self,
        chosen: &ChosenTable<'_>,
        under: Option<&dyn Keeper>,
    ) -> Result<Option<String>, PlanError<E>> {
        let Some(After { column, nulls, .. }) = &chosen.request.after else { return Ok(None) };
        let relation = chosen.relation;
        if !relation.columns.iter().any(|c| c.column.name == *column && c.column.nullable) {
            return Ok(None);
        }
        let why = match nulls {
            AfterNulls::Skip => "are in no increment: `after.nulls` is \"skip\"",
            AfterNulls::Include => "come with every increment: `after.nulls` is \"include\"",
            AfterNulls::Error => {
                let filter = self.filter::<E>(chosen, NewRows::WithoutValue)?;
                let selection = chosen.selection(filter.as_ref());
                let found = self.source.count(&selection, under).await?;
                if found == 0 {
                    return Ok(None);
                }
                return Err(PlanError::Failed(ErrorReport::permanent(
                    "after_nulls",
                    format!(
                        "table {} has {} without a value in column `{column}`, which `after` names: they are neither older \
                         nor newer than any value",
                        qualified(&relation.schema, &relation.name),
                        count(found, "row")
                    ),
                    "give them a value (and the column NOT NULL), or choose what becomes of them: `\"nulls\": \"skip\"` of \
                     `after` leaves them out, `\"nulls\": \"include\"` exports them with every increment",
                )));
            }
        };
        Ok(Some(format!(
            "column `{column}`, which `after` compares, may be NULL: rows without a value in it {why}"
        )))
    }
}

/// Which rows an `after` filter selects.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NewRows {
    /// The rows of this export.
    Wanted,
    /// The rows of this export whose column is not NULL.
    WithValue,
    /// Rows that are newer than the value, without the rows that `overlap` exports again.
    Newer,
    /// Rows whose column is NULL.
    WithoutValue,
}

/// An error of a source that could not read a value of the conditions. If the request has `after`, a remedy
/// about it is added, because nobody else has checked its values.
pub(super) fn of_after(error: SourceError, chosen: &ChosenTable<'_>) -> SourceError {
    let Some(after) = chosen.request.after.as_ref().filter(|_| error.refusal == Some(Refusal::Value)) else {
        return error;
    };
    let column = chosen.relation.columns.iter().find(|c| c.column.name == after.column);
    let ty = column.map_or("its type", |c| c.column.source_type.as_str());
    let overlap = after.overlap.as_ref().map_or(String::new(), |overlap| {
        format!(", and `overlap`, {overlap:?}, a number or a time as in \"1 hour\"")
    });
    let remedy =
        format!("check field `after`: `value` must be a value of column `{}` ({ty}){overlap}", after.column);
    error.with_remedy(remedy)
}

/// An error of a source that does not have the rows, with the reason and the remedy of the survey. The
/// source's own message may be in any language.
pub(super) fn of_elsewhere(error: SourceError, relation: &Relation) -> SourceError {
    match &relation.elsewhere {
        Some(Unreadable { why, remedy }) if error.refusal == Some(Refusal::Unsupported) => {
            let message = format!("{}: {why}", error.message);
            SourceError { message, ..error }.with_remedy(remedy.clone())
        }
        _ => error,
    }
}
