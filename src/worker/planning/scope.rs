//! The tables that an epoch has to plan: all requested tables, or the abandoned ones.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::Planner;
use crate::job::decide::MAX_LINEAGES;
use crate::job::outcome::TableResult;
use crate::job::record::Cause;
use crate::job::state::Abandoned;
use crate::message::pattern::{TablePattern, qualified};
use crate::message::request::TableRequest;
use crate::message::{Epoch, TableNo};
use crate::plan::export_plan::SkippedRelation;
use crate::planning::Scope;

impl Planner<'_> {
    /// The tables of this epoch: all requested tables, or the abandoned ones. Also the lineage to continue
    /// with, if the lineage still lives.
    pub(super) fn scope(&self) -> (Scope, Option<Uuid>) {
        let stored = self.stored();
        let mut scope = Scope::first(stored.request.clone());
        let mut lineage = None;
        if self.task.epoch == Epoch::FIRST {
            return (scope, lineage);
        }
        let abandoned = self.job.abandoned();
        // A plan has one snapshot. First plan the tables that continue with their old snapshot.
        let same: Vec<&Abandoned> =
            abandoned.iter().filter(|a| matches!(a.cause, Cause::Unfit { .. })).collect();
        let latest = self.job.plans.last().and_then(|p| p.snapshot()).map(|s| s.lineage);
        let of = |a: &Abandoned| self.job.plan(a.epoch)?.snapshot.as_ref().map(|s| s.lineage);
        let group: Vec<&Abandoned> = match same.first() {
            Some(first) => {
                lineage = of(first);
                same.into_iter().filter(|a| of(a) == lineage).collect()
            }
            None => {
                // If a later epoch has taken a new lineage already, all these tables can use it. This is not
                // so if a table changed: the change may have come before or after that snapshot.
                let changed = abandoned.iter().any(|a| a.cause == Cause::Changed);
                let may_be_new = self.job.fruitless_lineages() < MAX_LINEAGES;
                lineage = latest
                    .filter(|l| abandoned.iter().all(|a| of(a) != Some(*l)))
                    .filter(|_| !changed || !may_be_new);
                abandoned.iter().collect()
            }
        };
        scope.request.exclude.clear();
        scope.request.tables = Vec::new();
        for table in group {
            let Some(planned) = self.job.plan(table.epoch).and_then(|p| p.table(table.table)) else {
                continue;
            };
            let asked = stored.request.entry_for(&planned.schema, &planned.name);
            let pattern = TablePattern::exact(&planned.schema, &planned.name);
            scope.numbers.insert(qualified(&planned.schema, &planned.name), table.table);
            if let (Some(lineage), Some(rows)) = (of(table), planned.snapshot_rows) {
                scope.shown_rows.insert(table.table, (lineage, rows));
            }
            scope.request.tables.push(match asked {
                Some(asked) => TableRequest { table: pattern, ..asked.clone() },
                None => TableRequest::all_of(pattern),
            });
        }
        let numbers = self.job.plans.iter().flat_map(|plan| {
            plan.tables().iter().map(|t| t.number).chain(plan.failed().iter().map(|f| f.number))
        });
        scope.free = numbers.max().map_or(0, |highest| highest.0 + 1);
        scope.children = self.children(&scope.numbers);
        for outcome in self.job.batches.values().filter_map(|b| b.outcome.as_ref()) {
            for table in &outcome.tables {
                if let TableResult::Abandoned { cause: Cause::Unfit { columns } } = &table.result {
                    scope.as_text.entry(table.table).or_default().extend(columns.iter().cloned());
                }
            }
        }
        (scope, lineage)
    }

    /// Tables that patterns matched and that were left out only because of tables of this epoch.
    fn children(&self, tables: &BTreeMap<String, TableNo>) -> Vec<TableRequest> {
        let latest: BTreeMap<&str, &SkippedRelation> =
            self.job.plans.iter().flat_map(|plan| plan.skipped()).map(|s| (s.table.as_str(), s)).collect();
        let within = latest
            .into_values()
            .filter(|s| !s.within.is_empty() && s.within.iter().all(|table| tables.contains_key(table)));
        let children = within.filter_map(|skipped| {
            let (schema, name) = TablePattern::parse(&skipped.table).ok()?.literal()?;
            let asked = self.stored().request.entry_for(&schema, &name)?;
            Some(TableRequest { table: TablePattern::exact(&schema, &name), ..asked.clone() })
        });
        children.collect()
    }
}
