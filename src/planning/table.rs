//! The plan of one table.

use super::conditions::NewRows;
use super::{Ground, PlanError, Scope, conditions};
use crate::message::request::{AfterNulls, Verify};
use crate::message::{BatchNo, TableNo};
use crate::plan::choose::ChosenTable;
use crate::plan::export_plan::{PlannedTable, Strategy};
use crate::plan::strategy::{Split, SplitRequest, draft};
use crate::relation::{Boundaries, Division, MappingOptions, Relation, RelationKind, SplitKey};

impl Ground<'_> {
    /// Asks the source for what the plan needs to know, and decides.
    pub(super) async fn table<E>(
        &self,
        scope: &Scope,
        chosen: &ChosenTable<'_>,
        number: TableNo,
    ) -> Result<PlannedTable, PlanError<E>> {
        let (relation, request) = (chosen.relation, chosen.request);
        let under = self.keeper();
        let filter = self.filter::<E>(chosen, NewRows::Wanted)?;
        let selection = chosen.selection(filter.as_ref());
        let options = MappingOptions {
            numeric: request.numeric.or(self.config.numeric),
            infinity: request.infinity.unwrap_or(self.config.infinity),
            types: self.types,
            as_bytes: &request.as_bytes,
            as_text: scope.as_text.get(&number).cloned().unwrap_or_default(),
        };
        let columns = chosen.columns.iter().map(|c| self.source.map_column(c, &options)).collect();
        let split_request = SplitRequest::of(request, self.config, self.export, under.is_some());
        let estimate = if split_request.needs_estimate(relation) || relation.elsewhere.is_some() {
            let estimate = self.source.estimate(&selection, under).await;
            Some(estimate.map_err(|e| conditions::of_elsewhere(conditions::of_after(e, chosen), relation))?)
        } else {
            None
        };
        let without_value = self.without_value::<E>(chosen, under).await?;
        let draft = draft(relation, &split_request, estimate).map_err(PlanError::<E>::Failed)?;
        let includes_nulls = request.after.as_ref().filter(|after| after.nulls == AfterNulls::Include);
        let range_filter = match (&draft.split, includes_nulls) {
            (Split::NeedsBoundaries { column, nulls: true, .. }, Some(after)) if *column == after.column => {
                self.filter::<E>(chosen, NewRows::WithValue)?
            }
            _ => None,
        };
        let bounds = match &draft.split {
            Split::NeedsBoundaries { column, order, method, ranges, .. } => {
                let division = Division { ranges: *ranges, rows: draft.estimated_rows / u64::from(*ranges) };
                let filter = range_filter.as_ref().or(filter.as_ref());
                let rows = chosen.selection(filter);
                self.source.boundaries(&rows, SplitKey { column, order }, *method, division, under).await?
            }
            Split::Single | Split::Ctid { .. } => Boundaries::none(),
        };
        let estimated_rows = draft.estimated_rows;
        let (strategy, reason) = draft.finish(bounds);
        let high_water_mark = match &request.after {
            Some(after) => {
                // The mark is the highest of the newer rows only, so that rows exported again do not lower
                // it.
                let newer = self.filter::<E>(chosen, NewRows::Newer)?;
                let newer = chosen.selection(newer.as_ref());
                let highest = self.source.maximum(&newer, &after.column, under).await?;
                Some(highest.unwrap_or_else(|| after.value.clone()))
            }
            None => None,
        };
        let counted_rows = match scope.request.verify {
            Verify::Count if under.is_some() => Some(self.source.count(&selection, under).await?),
            Verify::Count | Verify::None => None,
        };
        let notes: Vec<String> = relation.partial.iter().cloned().chain(without_value).collect();
        Ok(PlannedTable {
            number,
            batch: BatchNo::of_first(number),
            schema: relation.schema.clone(),
            name: relation.name.clone(),
            // Filled in when all tables are planned: see `Names`.
            base: String::new(),
            directory: scope.request.output.directory.clone(),
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

/// Bytes of a table; none if the size is unknown.
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
