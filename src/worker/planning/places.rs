//! The names of tables: each table claims its name at the destination.

use std::collections::HashSet;

use super::{PlanError, Planner};
use crate::destination::{Claim, ClaimError, base_name};
use crate::message::request::ExportRequest;
use crate::plan::export_plan::PlannedTable;

/// Names that are claimed at once. Each claim waits for two fsyncs, and a request may have 20,000 tables.
const CLAIMS_AT_ONCE: usize = 16;

impl From<ClaimError> for PlanError {
    fn from(e: ClaimError) -> Self {
        match e {
            ClaimError::Refused(error) => Self::Failed(error),
            ClaimError::Folder(e) => Self::Names(e),
        }
    }
}

impl Planner<'_> {
    /// The longest run of first tables in which no two want the same name. Where two do, the earlier table
    /// must get the name first.
    pub(super) fn uncontended<'t, T>(&self, drafts: &'t [(PlannedTable, T)]) -> &'t [(PlannedTable, T)] {
        let mut wanted = HashSet::new();
        let is_free = |(table, _): &&(PlannedTable, T)| {
            let names = base_name::candidates(&self.stored().source, &table.schema, &table.name);
            let free = !names.iter().any(|name| wanted.contains(name));
            wanted.extend(names);
            free
        };
        let count = drafts.iter().take(CLAIMS_AT_ONCE).take_while(is_free).count();
        &drafts[..count]
    }

    /// The base name that a planned table gets.
    pub(super) async fn place(
        &self,
        table: &PlannedTable,
        request: &ExportRequest,
    ) -> Result<String, PlanError> {
        let context = &self.shared.context;
        let claim = Claim {
            job: &self.task.job,
            epoch: self.task.epoch,
            table: table.number,
            source: &self.stored().source,
            schema: &table.schema,
            name: &table.name,
            directory: table.directory.as_ref(),
            on_conflict: request.output.on_conflict,
            at: context.now(),
        };
        Ok(context.destination.claim(&claim).await?)
    }
}
