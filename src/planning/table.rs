//! The plan of one table.

use super::conditions::NewRows;
use super::partition::partition_by;
use super::{Ground, PlanError, Scope, conditions};
use crate::config::AllowWhere;
use crate::message::request::{AfterNulls, OutputDirectory, Verify};
use crate::message::setting::ReadWay;
use crate::message::{BatchNo, TableNo};
use crate::plan::batch::BatchMember;
use crate::plan::choose::ChosenTable;
use crate::plan::export_plan::PlannedTable;
use crate::plan::size::Size;
use crate::plan::strategy::{KeyRanges, Proposal, SplitRequest, propose};
use crate::relation::filter::Expression;
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
    partition_by: Vec<String>,
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
}

/// The rows of a table that the snapshot shows, where the source may lose some of them.
pub(super) enum Shown {
    /// The source loses none.
    Safe,
    /// They are not counted, because another reading may give others. The text says why.
    Moving(&'static str),
    /// An earlier epoch of the job counted them under the same snapshot.
    Before(u64),
    /// They are to be counted.
    Uncounted,
    /// They were counted now.
    Now(Result<u64, SourceError>),
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
            partition_by: self.partition_by,
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
        shown: Shown,
    ) -> Result<Draft<'a>, PlanError<E>> {
        let (relation, request) = (chosen.relation, chosen.request);
        let under = self.keeper();
        let filter = self.filter::<E>(chosen, NewRows::Wanted)?;
        let (snapshot_rows, fresh, moving) = match shown {
            Shown::Safe | Shown::Uncounted => (None, None, None),
            Shown::Moving(why) => {
                (None, None, Some(format!("its rows are not compared with a count: {why}")))
            }
            Shown::Before(rows) => (Some(rows), None, None),
            Shown::Now(rows) => {
                let rows = rows.map_err(|e| conditions::of_after(e, chosen))?;
                (Some(rows), Some(rows), None)
            }
        };
        let selection = chosen.selection(filter.as_ref());
        let options = MappingOptions {
            numeric: request.numeric.or(self.config.numeric),
            infinity: request.infinity.unwrap_or(self.config.infinity),
            arrays: request.arrays.unwrap_or(self.config.arrays),
            types: self.types,
            as_bytes: &request.as_bytes,
            on_unfit: scope.request.on_unfit,
            as_text: scope.as_text.get(&number).cloned().unwrap_or_default(),
        };
        let columns: Vec<Column> =
            chosen.columns.iter().map(|c| self.source.map_column(c, &options)).collect();
        let partition_by = partition_by(&scope.request.output.partition_by, chosen, &columns);
        let partition_by = partition_by.map_err(PlanError::<E>::Failed)?;
        let split_request = SplitRequest::of(request, self.config, self.export, under.is_some());
        let estimate = if split_request.needs_estimate(relation) || relation.elsewhere.is_some() {
            let estimate = match fresh {
                Some(rows) => Ok(rows),
                None => self.source.estimate(&selection, under).await,
            };
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
            Verify::Count if under.is_some() => match fresh {
                Some(rows) => Some(rows),
                None => Some(self.source.count(&selection, under).await?),
            },
            Verify::Count | Verify::None => None,
        };
        let caution = self.source.caution(relation);
        // Whatever took them away did so between the snapshot and the count.
        let stored = relation.estimated_rows.filter(|rows| *rows > 0 && fresh == Some(0) && filter.is_none());
        let none_left = stored.map(|rows| {
            format!(
                "the snapshot shows none of {} that are stored: they were deleted, or loaded after it, or the table was \
                 truncated since",
                crate::text::count(rows, "row")
            )
        });
        let said = [without_value, moving, none_left, caution].into_iter().flatten();
        let notes: Vec<String> = relation.partial.iter().cloned().chain(said).collect();
        Ok(Draft {
            number,
            directory: scope.request.output.directory.as_ref(),
            chosen,
            columns,
            partition_by,
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
        })
    }

    /// What is known about the rows that the snapshot shows of a table before they are counted. A snapshot may have
    /// lost rows since an earlier epoch of the job counted them, so that count is kept.
    pub(super) fn shown_before(&self, scope: &Scope, chosen: &ChosenTable<'_>, number: TableNo) -> Shown {
        let (relation, request) = (chosen.relation, chosen.request);
        let may_lose_rows =
            self.source.snapshots().is_some_and(Snapshots::may_lose_rows) && !relation.foreign;
        let Some(under) = self.under.filter(|_| may_lose_rows) else { return Shown::Safe };
        if !relation.has_own_rows {
            return Shown::Moving("a view may show other rows at each reading");
        }
        let is_simple = |text: &String| Expression::parse(text, AllowWhere::Simple).is_ok();
        if !request.where_.as_ref().is_none_or(is_simple) {
            return Shown::Moving("the functions of its filter may choose other rows at each reading");
        }
        scope.shown_rows(number, under).map_or(Shown::Uncounted, Shown::Before)
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
