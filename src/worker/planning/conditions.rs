//! Which rows of a table are asked for.

use super::{PlanError, Planner};
use crate::message::event::ErrorReport;
use crate::message::pattern::qualified;
use crate::plan::choose::ChosenTable;
use crate::plan::filter;

impl Planner<'_> {
    /// The checked filter of a table, with the condition of an incremental export.
    pub(super) fn filter(&self, chosen: &ChosenTable<'_>) -> Result<Option<String>, PlanError> {
        let request = chosen.request;
        let mut parts = Vec::new();
        if let Some(text) = &request.where_ {
            let printed = filter::check(text, self.config.allow_where).map_err(|e| {
                let mut report = e.report();
                report.message = format!("field `where`: {}", report.message);
                PlanError::Failed(report)
            })?;
            parts.push(printed);
        }
        if let Some(after) = &request.after {
            if !chosen.relation.columns.iter().any(|c| c.column.name == after.column) {
                return Err(PlanError::Failed(ErrorReport::permanent(
                    "unknown_column",
                    format!(
                        "{} has no column `{}` (field `after.column`)",
                        qualified(&chosen.relation.schema, &chosen.relation.name),
                        after.column
                    ),
                    "name a column of the table",
                )));
            }
            if filter::is_moving(&after.value) {
                return Err(PlanError::Failed(ErrorReport::permanent(
                    "invalid_value",
                    format!("field `after.value`: '{}' is another date at each reading", after.value),
                    "write the date itself, e.g. 2026-01-31",
                )));
            }
            parts.push(self.source.greater_than(&after.column, &after.value));
        }
        Ok(match parts.len() {
            0 => None,
            1 => parts.pop(),
            _ => Some(format!("({})", parts.join(") AND ("))),
        })
    }
}
