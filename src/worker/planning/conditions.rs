//! Which rows of a table are asked for.

use super::{PlanError, Planner};
use crate::message::event::ErrorReport;
use crate::message::pattern::qualified;
use crate::plan::choose::ChosenTable;
use crate::plan::filter;
use crate::source::SourceError;

impl Planner<'_> {
    /// The checked filter of a table, with the condition of an incremental export. `overlapping`: with rows that
    /// come again.
    pub(super) fn filter(
        &self,
        chosen: &ChosenTable<'_>,
        overlapping: bool,
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
            if filter::is_moving(&after.value) {
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
            let overlap = after.overlap.as_deref().filter(|_| overlapping);
            parts.push(self.source.greater_than(column, &after.value, overlap)?);
        }
        Ok(match parts.len() {
            0 => None,
            1 => parts.pop(),
            _ => Some(format!("({})", parts.join(") AND ("))),
        })
    }
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
