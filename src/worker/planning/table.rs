//! The plan of one table.

use super::conditions::NewRows;
use super::scope::Scope;
use super::{PlanError, Planner, conditions};
use crate::message::request::{AfterNulls, Verify};
use crate::message::{BatchNo, TableNo};
use crate::plan::choose::ChosenTable;
use crate::plan::export_plan::{PlannedTable, Snapshot, Strategy};
use crate::plan::strategy::{Split, Wish, draft};
use crate::source::{Boundaries, Division, MappingOptions, Relation, RelationKind, SplitKey};

impl Planner<'_> {
    /// Asks the source what the plan needs to know, and decides.
    pub(super) async fn plan_table(
        &self,
        chosen: &ChosenTable<'_>,
        number: TableNo,
        scope: &Scope,
        snapshot: Option<&Snapshot>,
    ) -> Result<PlannedTable, PlanError> {
        let (relation, request) = (chosen.relation, chosen.request);
        let lineage = snapshot.map(|s| s.lineage);
        let filter = self.filter(chosen, NewRows::Wanted)?;
        let selection = chosen.selection(filter.as_deref());
        let options = MappingOptions {
            numeric: request.numeric.or(self.config.numeric),
            infinity: request.infinity.unwrap_or(self.config.infinity),
            types: self.types(&scope.request),
            as_bytes: &request.as_bytes,
            as_text: scope.as_text.get(&number).cloned().unwrap_or_default(),
        };
        let columns = chosen.columns.iter().map(|c| self.source.map_column(c, &options)).collect();
        let export = &self.shared.context.config.export;
        let wish = Wish::of(request, &self.config, export, snapshot.is_some());
        let estimate = if wish.needs_estimate(relation) || relation.elsewhere.is_some() {
            let estimate = self.source.estimate(&selection, lineage).await;
            Some(estimate.map_err(|e| conditions::of_elsewhere(conditions::of_after(e, chosen), relation))?)
        } else {
            None
        };
        let without_value = self.without_value(chosen, lineage).await?;
        let draft = draft(relation, &wish, estimate).map_err(PlanError::Failed)?;
        let includes_nulls = request.after.as_ref().filter(|after| after.nulls == AfterNulls::Include);
        let range_filter = match (&draft.split, includes_nulls) {
            (Split::NeedsBoundaries { column, nulls: true, .. }, Some(after)) if *column == after.column => {
                self.filter(chosen, NewRows::WithValue)?
            }
            _ => None,
        };
        let bounds = match &draft.split {
            Split::NeedsBoundaries { column, cast, method, parts, .. } => {
                let parts = Division { parts: *parts, rows: draft.estimated_rows / u64::from(*parts) };
                let filter = range_filter.as_deref().or(filter.as_deref());
                let ranges = chosen.selection(filter);
                self.source.boundaries(&ranges, SplitKey { column, cast }, *method, parts, lineage).await?
            }
            Split::Single | Split::Ctid { .. } => Boundaries::none(),
        };
        let estimated_rows = draft.estimated_rows;
        let (strategy, reason) = draft.finish(bounds);
        let high_water_mark = match &request.after {
            Some(after) => {
                // What comes again does not lower the mark.
                let newer = self.filter(chosen, NewRows::Newer)?;
                let newer = chosen.selection(newer.as_deref());
                let highest = self.source.maximum(&newer, &after.column, lineage).await?;
                Some(highest.unwrap_or_else(|| after.value.clone()))
            }
            None => None,
        };
        let counted_rows = match scope.request.verify {
            Verify::Count if snapshot.is_some() => Some(self.source.count(&selection, lineage).await?),
            Verify::Count | Verify::None => None,
        };
        let notes: Vec<String> = relation.partial.iter().cloned().chain(without_value).collect();
        let directory = scope.request.output.directory.as_ref().map_or("", |d| d.as_str()).to_owned();
        Ok(PlannedTable {
            number,
            batch: BatchNo::of_first(number),
            schema: relation.schema.clone(),
            name: relation.name.clone(),
            // Named when all are planned: see `place`.
            base: String::new(),
            directory,
            full: request.is_full() && (!request.only || relation.contains.is_empty()),
            only: request.only,
            contains: if request.only { Vec::new() } else { relation.contains.clone() },
            columns,
            key: relation.primary_key.clone(),
            range_filter: range_filter.filter(|_| matches!(strategy, Strategy::Range { .. })),
            filter,
            high_water_mark,
            strategy,
            reason,
            note: (!notes.is_empty()).then(|| notes.join("; ")),
            estimated_rows,
            counted_rows,
        })
    }
}

/// Bytes of a table; none where nobody knows what will come.
pub(super) fn stored_bytes(relation: &Relation) -> Option<u64> {
    match relation.kind {
        _ if relation.foreign => None,
        RelationKind::Table
        | RelationKind::Partitioned
        | RelationKind::Partition
        | RelationKind::MaterializedView => Some(relation.bytes),
        RelationKind::View | RelationKind::Foreign => None,
    }
}
