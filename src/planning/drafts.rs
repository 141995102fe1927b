//! The tables of a plan while planning runs.

use std::collections::BTreeSet;

use tokio_util::sync::CancellationToken;

use super::conditions::NewRows;
use super::table::Shown;
use super::{Ground, Names, PlanError, Scope};
use crate::config::Origin;
use crate::message::TableNo;
use crate::message::pattern::qualified;
use crate::plan::batch::{self, BatchMember};
use crate::plan::choose::ChosenTable;
use crate::plan::export_plan::{FailedTable, PlannedTable};
use crate::source::{ErrorKind, SourceError};

/// Tables whose rows are counted by one question.
const COUNTED_AT_ONCE: usize = 100;

/// Tables and failures so far.
#[derive(Default)]
pub(super) struct Drafts {
    tables: Vec<PlannedTable>,
    members: Vec<BatchMember>,
    failed: Vec<FailedTable>,
}

impl Drafts {
    /// Starts without tables, with these failures.
    pub(super) fn beginning_with(failed: Vec<FailedTable>) -> Self {
        Self { failed, ..Self::default() }
    }

    /// Records the error of one table. Returns errors that concern the whole plan.
    fn fail<E>(
        &mut self,
        number: TableNo,
        table: String,
        error: PlanError<E>,
        origin: Origin,
    ) -> Result<(), PlanError<E>> {
        let error = match error {
            PlanError::Failed(error) => error,
            PlanError::Source(e) if e.kind == ErrorKind::Permanent => e.report(origin),
            e => return Err(e),
        };
        self.failed.push(FailedTable { number, table, error });
        Ok(())
    }

    /// Plans tables and finds names for their directories.
    pub(super) async fn add<N: Names>(
        &mut self,
        ground: &Ground<'_>,
        scope: &Scope,
        chosen: &[ChosenTable<'_>],
        names: &N,
        cancel: &CancellationToken,
    ) -> Result<(), PlanError<N::Error>> {
        let origin = ground.config.origin;
        // Before all other questions, so that little time passes between the snapshot and the count.
        let shown = shown(ground, scope, chosen).await?;
        let mut drafts = Vec::new();
        for (table, shown) in chosen.iter().zip(shown) {
            let name = qualified(&table.relation.schema, &table.relation.name);
            let number = scope.number(&name, table.number);
            match ground.table(scope, table, number, shown).await {
                Ok(draft) => drafts.push(draft),
                Err(e) => self.fail(number, name, e, origin)?,
            }
            if cancel.is_cancelled() {
                return Err(SourceError::cancelled("the plan is no longer wanted").into());
            }
        }
        let bases = names.names(&drafts).await;
        for (draft, base) in drafts.into_iter().zip(bases) {
            match base {
                Ok(base) => {
                    self.members.push(draft.member());
                    self.tables.push(draft.named(base));
                }
                Err(e) => self.fail(draft.number, qualified(draft.schema(), draft.name()), e, origin)?,
            }
        }
        Ok(())
    }

    /// Names of the tables that cannot be planned.
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

/// Counts the rows of tables under the snapshot, where the source may lose some of them: many tables at once, or
/// each alone if that fails.
async fn shown<E>(
    ground: &Ground<'_>,
    scope: &Scope,
    chosen: &[ChosenTable<'_>],
) -> Result<Vec<Shown>, PlanError<E>> {
    let mut shown: Vec<Shown> = Vec::with_capacity(chosen.len());
    let mut waiting = Vec::new();
    for (place, table) in chosen.iter().enumerate() {
        let number = scope.number(&qualified(&table.relation.schema, &table.relation.name), table.number);
        let known = ground.shown_before(scope, table, number);
        // A filter that cannot be printed fails its table later.
        if matches!(known, Shown::Uncounted)
            && let Ok(filter) = ground.filter::<E>(table, NewRows::Wanted)
        {
            waiting.push((place, filter));
        }
        shown.push(known);
    }
    for some in waiting.chunks(COUNTED_AT_ONCE) {
        let selections: Vec<_> =
            some.iter().map(|(place, filter)| chosen[*place].selection(filter.as_ref())).collect();
        let counts = match ground.source.counts(&selections, ground.keeper()).await {
            Ok(counts) => counts.into_iter().map(Ok).collect(),
            Err(error) if error.kind != ErrorKind::Permanent => return Err(error.into()),
            Err(_) => {
                let mut each = Vec::with_capacity(selections.len());
                for selection in &selections {
                    each.push(ground.source.count(selection, ground.keeper()).await);
                }
                each
            }
        };
        for ((place, _), rows) in some.iter().zip(counts) {
            shown[*place] = Shown::Now(rows);
        }
    }
    Ok(shown)
}
