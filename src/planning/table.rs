//! The plan of one table.

use super::conditions::NewRows;
use super::{Ground, PlanError, Scope, conditions};
use crate::message::request::{AfterNulls, OutputDirectory, Verify};
use crate::message::setting::ReadWay;
use crate::message::{BatchNo, TableNo};
use crate::plan::batch::BatchMember;
use crate::plan::choose::ChosenTable;
use crate::plan::export_plan::PlannedTable;
use crate::plan::size::Size;
use crate::plan::strategy::{KeyRanges, Proposal, SplitRequest, propose};
use crate::relation::pieces::Wanted;
use crate::relation::{
    Boundaries, Column, Division, Frozen, MappingOptions, Relation, RelationKind, Selection, SplitKey,
    Strategy,
};
use crate::source::{Snapshots, SourceError};

/// The plan of a table that has no name at the destination yet.
pub struct Draft<'a> {
    /// Its number in the job.
    pub number: TableNo,
    /// Output directory below the root; none for the root.
    pub directory: Option<&'a OutputDirectory>,
    chosen: &'a ChosenTable<'a>,
    columns: Vec<Column>,
    filter: Option<Frozen>,
    range_filter: Option<Frozen>,
    high_water_mark: Option<String>,
    strategy: Strategy,
    reason: String,
    read: ReadWay,
    note: Option<String>,
    estimated_rows: u64,
    counted_rows: Option<u64>,
    snapshot_rows: Option<u64>,
    /// Whether the rows under the snapshot must still be counted.
    waits_for_count: bool,
}

impl Draft<'_> {
    /// Schema in the source.
    #[must_use]
    pub fn schema(&self) -> &str {
        &self.chosen.relation.schema
    }

    /// Name in the source.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.chosen.relation.name
    }

    /// The rows that it exports, if they must still be counted under the snapshot.
    pub(super) fn uncounted(&self) -> Option<Selection<'_>> {
        self.waits_for_count.then(|| self.chosen.selection(self.filter.as_ref()))
    }

    /// Notes how many rows the snapshot shows.
    pub(super) fn shows(&mut self, rows: u64) {
        (self.snapshot_rows, self.waits_for_count) = (Some(rows), false);
    }

    /// What decides its batch.
    pub(super) fn member(&self) -> BatchMember {
        let bytes = stored_bytes(self.chosen.relation);
        BatchMember { number: self.number, single: self.strategy.is_single(), bytes }
    }

    /// The plan of the table with its base name, in a batch of its own.
    pub(super) fn named(self, base: String) -> PlannedTable {
        let (relation, request) = (self.chosen.relation, self.chosen.request);
        PlannedTable {
            number: self.number,
            batch: BatchNo::of_first(self.number),
            schema: relation.schema.clone(),
            name: relation.name.clone(),
            base,
            directory: self.directory.cloned(),
            full: request.is_full() && (!request.only || relation.contains.is_empty()),
            only: request.only,
            contains: if request.only { Vec::new() } else { relation.contains.clone() },
            columns: self.columns,
            key: relation.primary_key.clone(),
            filter: self.filter,
            range_filter: self.range_filter,
            high_water_mark: self.high_water_mark,
            strategy: self.strategy,
            reason: self.reason,
            read: self.read,
            note: self.note,
            estimated_rows: self.estimated_rows,
            counted_rows: self.counted_rows,
            snapshot_rows: self.snapshot_rows,
        }
    }
}

impl Ground<'_> {
    /// Asks the source for the facts that the plan of a table needs, and makes the plan.
    pub(super) async fn table<'a, E>(
        &self,
        scope: &'a Scope,
        chosen: &'a ChosenTable<'a>,
        number: TableNo,
    ) -> Result<Draft<'a>, PlanError<E>> {
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
        let columns: Vec<Column> =
            chosen.columns.iter().map(|c| self.source.map_column(c, &options)).collect();
        let split_request = SplitRequest::of(request, self.config, self.export, under.is_some());
        let estimate = if split_request.needs_estimate(relation) || relation.elsewhere.is_some() {
            let estimate = self.source.estimate(&selection, under).await;
            Some(estimate.map_err(|e| conditions::of_elsewhere(conditions::of_after(e, chosen), relation))?)
        } else {
            None
        };
        let without_value = self.without_value::<E>(chosen, under).await?;
        let wanted = Wanted {
            read: request.read.unwrap_or(self.config.read),
            must: request.read.is_some(),
            strategy: request.strategy,
            by_column: request.chunk_column.is_some(),
            chunk_rows: split_request.chunk_rows,
            chunk_bytes: split_request.chunk_bytes,
            filtered: filter.as_ref().and(estimate),
            only: request.only,
        };
        let (proposal, read) = match self.source.pieces(relation, &columns, &wanted)? {
            Some(own) => {
                let read = own.read;
                (Proposal::of_source(own, Size::of(relation, estimate)), read)
            }
            None => {
                let way = self.source.way(relation, &columns, &wanted, under);
                let split_request = SplitRequest { by_numbers: way.read == ReadWay::Pages, ..split_request };
                let mut proposal =
                    propose(relation, &split_request, estimate).map_err(PlanError::<E>::Failed)?;
                let way = if proposal.ranges().is_some() { way.of_keys() } else { way };
                if let Some(why) = way.why {
                    proposal.reason = format!("{}; {why}", proposal.reason);
                }
                (proposal, way.read)
            }
        };
        let mut range_filter = match (proposal.ranges(), &request.after) {
            (Some(KeyRanges { column, nulls: true, .. }), Some(after))
                if after.nulls == AfterNulls::Include && *column == after.column =>
            {
                self.filter::<E>(chosen, NewRows::WithValue)?
            }
            _ => None,
        };
        let estimated_rows = proposal.estimated_rows;
        let found = match proposal.ranges() {
            Some(ranges) => {
                let filter = range_filter.as_ref().or(filter.as_ref());
                Some(self.boundaries(&chosen.selection(filter), ranges, estimated_rows).await?)
            }
            None => None,
        };
        let (strategy, reason) = proposal.finish(found);
        if strategy.column().is_none() {
            range_filter = None;
        }
        let high_water_mark = match &request.after {
            Some(after) => {
                // The high-water mark is the highest value of the newer rows only, so that rows exported
                // again do not lower it.
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
        // The snapshot may have lost rows since an earlier epoch of the job counted them.
        let may_lose_rows =
            self.source.snapshots().is_some_and(Snapshots::may_lose_rows) && !relation.foreign;
        let shown_before = self.under.and_then(|under| scope.shown_rows(number, under));
        let snapshot_rows = shown_before.or(counted_rows).filter(|_| may_lose_rows);
        let notes: Vec<String> = relation.partial.iter().cloned().chain(without_value).collect();
        Ok(Draft {
            number,
            directory: scope.request.output.directory.as_ref(),
            chosen,
            columns,
            filter,
            range_filter,
            high_water_mark,
            strategy,
            reason,
            read,
            note: (!notes.is_empty()).then(|| notes.join("; ")),
            estimated_rows,
            counted_rows,
            snapshot_rows,
            waits_for_count: may_lose_rows && under.is_some() && snapshot_rows.is_none(),
        })
    }

    async fn boundaries(
        &self,
        rows: &Selection<'_>,
        wanted: &KeyRanges,
        estimated_rows: u64,
    ) -> Result<Boundaries, SourceError> {
        let KeyRanges { column, order, method, ranges, .. } = wanted;
        let division = Division { ranges: *ranges, rows: estimated_rows / u64::from(*ranges) };
        self.source.boundaries(rows, SplitKey { column, order }, *method, division, self.keeper()).await
    }
}

/// Bytes of a table; none if the size is unknown.
fn stored_bytes(relation: &Relation) -> Option<u64> {
    match relation.kind {
        _ if relation.foreign => None,
        RelationKind::Table
        | RelationKind::Partitioned
        | RelationKind::Partition
        | RelationKind::MaterializedView => Some(relation.bytes),
        RelationKind::View | RelationKind::Foreign => None,
    }
}
