//! Which rows of a table are asked for.

use uuid::Uuid;

use super::{PlanError, Planner};
use crate::message::event::ErrorReport;
use crate::message::pattern::qualified;
use crate::message::request::{After, AfterNulls};
use crate::plan::choose::ChosenTable;
use crate::plan::column::{ColumnType, Fetch};
use crate::plan::filter;
use crate::plan::size::count;
use crate::source::{Relation, SourceError, Unreadable};

impl Planner<'_> {
    /// The checked filter of a table, with the condition of an incremental export.
    pub(super) fn filter(
        &self,
        chosen: &ChosenTable<'_>,
        rows: NewRows,
    ) -> Result<Option<String>, PlanError> {
        let request = chosen.request;
        let mut parts = Vec::new();
        if let Some(text) = &request.where_ {
            let printed = filter::check(text, self.config.allow_where).map_err(|e| {
                let mut report = e.report(self.config.origin);
                report.message = format!("field `where`: {}", report.message);
                PlanError::Failed(report)
            })?;
            parts.push(printed);
        }
        if let Some(after) = &request.after {
            let Some(column) = chosen.relation.columns.iter().find(|c| c.column.name == after.column) else {
                return Err(PlanError::Failed(ErrorReport::permanent(
                    "unknown_column",
                    format!(
                        "{} has no column `{}` (field `after.column`)",
                        qualified(&chosen.relation.schema, &chosen.relation.name),
                        after.column
                    ),
                    "name a column of the table",
                )));
            };
            let is_text = column.column.ty == ColumnType::Text && column.column.fetch == Fetch::Native;
            if !is_text && filter::is_moving(&after.value) {
                return Err(PlanError::Failed(ErrorReport::permanent(
                    "invalid_value",
                    format!("field `after.value`: '{}' is another date at each reading", after.value),
                    "write the date itself, e.g. 2026-01-31",
                )));
            }
            if let Some(overlap) = after.overlap.as_ref().filter(|o| o.trim_start().starts_with('-')) {
                return Err(PlanError::Failed(ErrorReport::permanent(
                    "invalid_value",
                    format!("field `after.overlap`: {overlap:?} is below zero and would leave rows out"),
                    "write how far before `value` rows are to come again, e.g. \"1 hour\"",
                )));
            }
            let overlap = after.overlap.as_deref().filter(|_| rows != NewRows::Newer);
            let newer = self.source.greater_than(column, &after.value, overlap)?;
            parts.push(match rows {
                NewRows::Wanted if after.nulls == AfterNulls::Include && column.column.nullable => {
                    format!("({newer}) OR ({})", self.source.is_null(&after.column))
                }
                NewRows::Wanted | NewRows::WithValue | NewRows::Newer => newer,
                NewRows::WithoutValue => self.source.is_null(&after.column),
            });
        }
        Ok(match parts.len() {
            0 => None,
            1 => parts.pop(),
            _ => Some(format!("({})", parts.join(") AND ("))),
        })
    }

    /// What is to be said of rows that `after` cannot compare.
    ///
    /// # Errors
    /// When there are such and the request wants none.
    pub(super) async fn without_value(
        &self,
        chosen: &ChosenTable<'_>,
        lineage: Option<Uuid>,
    ) -> Result<Option<String>, PlanError> {
        let Some(After { column, nulls, .. }) = &chosen.request.after else { return Ok(None) };
        let relation = chosen.relation;
        if !relation.columns.iter().any(|c| c.column.name == *column && c.column.nullable) {
            return Ok(None);
        }
        let why = match nulls {
            AfterNulls::Skip => "are in no increment: `after.nulls` is \"skip\"",
            AfterNulls::Include => "come with every increment: `after.nulls` is \"include\"",
            AfterNulls::Error => {
                let filter = self.filter(chosen, NewRows::WithoutValue)?;
                let selection = chosen.selection(filter.as_deref());
                let found = self.source.count(&selection, lineage).await?;
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

/// Which of the rows that `after` is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NewRows {
    /// Those of this export.
    Wanted,
    /// Those of this export whose column has a value.
    WithValue,
    /// Those that are newer than the value; not those that come again.
    Newer,
    /// Those whose column has no value.
    WithoutValue,
}

/// The error of a source that could not read a value of the conditions (class 22 of SQLSTATE), with a word about the
/// only field whose values nobody has checked.
pub(super) fn of_after(error: SourceError, chosen: &ChosenTable<'_>) -> SourceError {
    let Some(after) = chosen.request.after.as_ref().filter(|_| error.code.starts_with("22")) else {
        return error;
    };
    let column = chosen.relation.columns.iter().find(|c| c.column.name == after.column);
    let ty = column.map_or("its type", |c| c.column.source_type.as_str());
    let overlap = after.overlap.as_ref().map_or(String::new(), |overlap| {
        format!(", and `overlap`, {overlap:?}, a number or a time as in \"1 hour\"")
    });
    let remedy = format!(
        "check field `after`: `value`, {:?}, must be a value of column `{}` ({ty}){overlap}",
        after.value, after.column
    );
    SourceError { remedy: Some(remedy.into()), ..error }
}

/// The error of a source that has the rows elsewhere, in whatever language it says so.
pub(super) fn of_elsewhere(error: SourceError, relation: &Relation) -> SourceError {
    match &relation.elsewhere {
        Some(Unreadable { why, remedy }) if error.code.starts_with("0A") => SourceError {
            message: format!("{}: {why}", error.message),
            remedy: Some(remedy.clone().into()),
            ..error
        },
        _ => error,
    }
}
