//! What an epoch has to plan: all that was asked for, or what was abandoned.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::Planner;
use crate::job::decide::MAX_LINEAGES;
use crate::job::outcome::TableResult;
use crate::job::record::Cause;
use crate::job::state::Abandoned;
use crate::message::pattern::{TablePattern, qualified};
use crate::message::request::{ExportRequest, TableRequest};
use crate::message::{Epoch, TableNo};
use crate::plan::export_plan::SkippedRelation;
use crate::source::UnfitColumn;

/// What an epoch has to plan.
pub(super) struct Scope {
    /// The request, narrowed to the tables of this epoch.
    pub(super) request: ExportRequest,
    /// Tables that were left out because their rows come with tables of this epoch: a new snapshot may show them apart.
    pub(super) children: Vec<TableRequest>,
    /// The first number that no table has had.
    free: u32,
    /// Numbers that tables had in the first plan, by `schema.table`.
    pub(super) numbers: BTreeMap<String, TableNo>,
    /// Columns that became text in earlier epochs, by table number.
    pub(super) as_text: BTreeMap<TableNo, Vec<UnfitColumn>>,
    /// The lineage to go on with, if it lives.
    pub(super) lineage: Option<Uuid>,
}

impl Scope {
    /// The number of a table: that of the first plan, else a new one.
    pub(super) fn number(&self, table: &str, fresh: TableNo) -> TableNo {
        self.numbers.get(table).copied().unwrap_or(TableNo(self.free + fresh.0))
    }
}

impl Planner<'_> {
    /// What this epoch plans: all that was asked for, or what was abandoned.
    pub(super) fn scope(&self) -> Scope {
        let stored = self.stored();
        let mut scope = Scope {
            request: stored.request.clone(),
            children: Vec::new(),
            free: 0,
            numbers: BTreeMap::new(),
            as_text: BTreeMap::new(),
            lineage: None,
        };
        if self.task.epoch == Epoch::FIRST {
            return scope;
        }
        let abandoned = self.job.abandoned();
        // One plan has one snapshot: first those that go on with theirs.
        let same: Vec<&Abandoned> =
            abandoned.iter().filter(|a| matches!(a.cause, Cause::Unfit { .. })).collect();
        let latest = self.job.plans.last().and_then(|p| p.snapshot()).map(|s| s.lineage);
        let of = |a: &Abandoned| self.job.plan(a.epoch)?.snapshot.as_ref().map(|s| s.lineage);
        let group: Vec<&Abandoned> = match same.first() {
            Some(first) => {
                scope.lineage = of(first);
                same.into_iter().filter(|a| of(a) == scope.lineage).collect()
            }
            None => {
                // A lineage that a later epoch took already serves them all, unless a table
                // changed: nobody knows whether that was before or after.
                let changed = abandoned.iter().any(|a| a.cause == Cause::Changed);
                let may_be_new = self.job.lineages().len() < MAX_LINEAGES;
                scope.lineage = latest
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
        scope
    }

    /// Tables that patterns matched and that were left out because of tables of this epoch alone.
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
