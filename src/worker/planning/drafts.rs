//! The tables of a plan while it is made.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::scope::Scope;
use super::table::stored_bytes;
use super::{PlanError, Planner};
use crate::config::Origin;
use crate::message::TableNo;
use crate::message::pattern::qualified;
use crate::plan::batch::{self, BatchMember};
use crate::plan::choose::ChosenTable;
use crate::plan::export_plan::{FailedTable, PlannedTable, Snapshot, Strategy};
use crate::source::ErrorKind;

/// What became of the tables so far.
#[derive(Default)]
pub(super) struct Drafts {
    tables: Vec<PlannedTable>,
    members: Vec<BatchMember>,
    failed: Vec<FailedTable>,
}

impl Drafts {
    /// None yet, and tables that cannot be planned.
    pub(super) fn without(failed: Vec<FailedTable>) -> Self {
        Self { failed, ..Self::default() }
    }

    /// An error of one table; those that are not its own go on.
    fn fail(
        &mut self,
        number: TableNo,
        table: String,
        error: PlanError,
        origin: Origin,
    ) -> Result<(), PlanError> {
        let error = match error {
            PlanError::Failed(error) => error,
            PlanError::Source(e) if e.kind == ErrorKind::Permanent => e.report(origin),
            e => return Err(e),
        };
        self.failed.push(FailedTable { number, table, error });
        Ok(())
    }

    /// Tables that cannot be planned.
    pub(super) fn failed_names(&self) -> BTreeSet<String> {
        self.failed.iter().map(|f| f.table.clone()).collect()
    }

    /// Tables and failures by number, and the names of the tables.
    pub(super) fn finish(mut self) -> (Vec<PlannedTable>, Vec<FailedTable>, BTreeSet<String>) {
        for (table, batch) in self.tables.iter_mut().zip(batch::assign(&self.members)) {
            table.batch = batch;
        }
        self.tables.sort_by_key(|t| t.number);
        self.failed.sort_by_key(|f| f.number);
        let names = self.tables.iter().map(|t| qualified(&t.schema, &t.name)).collect();
        (self.tables, self.failed, names)
    }
}

impl Planner<'_> {
    /// Plans tables and finds their names.
    pub(super) async fn plan_tables(
        &self,
        chosen: &[ChosenTable<'_>],
        scope: &Scope,
        snapshot: Option<&Snapshot>,
        drafts: &mut Drafts,
    ) -> Result<(), PlanError> {
        let mut planned = Vec::new();
        for table in chosen {
            let name = qualified(&table.relation.schema, &table.relation.name);
            let number = scope.number(&name, table.number);
            match self.plan_table(table, number, scope, snapshot).await {
                Ok(draft) => planned.push((draft, stored_bytes(table.relation))),
                Err(e) => drafts.fail(number, name, e, self.config.origin)?,
            }
            if self.cancel.is_cancelled() {
                return Err(PlanError::Source(super::super::keepers::cancelled()));
            }
        }
        let mut bases = Vec::with_capacity(planned.len());
        while bases.len() < planned.len() {
            let some = self.uncontended(&planned[bases.len()..]);
            bases.extend(join_all(some.iter().map(|(table, _)| self.place(table, &scope.request))).await);
        }
        for ((table, bytes), base) in planned.into_iter().zip(bases) {
            match base {
                Ok(base) => {
                    let single = table.strategy == Strategy::Single;
                    drafts.members.push(BatchMember { number: table.number, single, bytes });
                    drafts.tables.push(PlannedTable { base, ..table });
                }
                Err(e) => {
                    drafts.fail(
                        table.number,
                        qualified(&table.schema, &table.name),
                        e,
                        self.config.origin,
                    )?;
                }
            }
        }
        Ok(())
    }
}
