//! Turns a request into a plan. The plan depends only on source, request, settings and snapshot. This module
//! asks the source for facts and leaves every choice to `plan/`. The caller answers which directory names are
//! free ([`Names`]). The caller also stores or shows the plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::{ExportConfig, SourceConfig};
use crate::message::event::ErrorReport;
use crate::message::pattern::qualified;
use crate::message::request::{Consistency, ExportRequest, TableRequest};
use crate::message::setting::FileTypes;
use crate::message::{Epoch, JobId, SourceName, TableNo};
use crate::plan::ExportPlan;
use crate::plan::choose::choose;
use crate::plan::export_plan::{FailedTable, WriterSettings};
use crate::relation::{Snapshot, SurveyRequest, UnfitColumn};
use crate::retry::{Cause, Pace, Policy, policy};
use crate::source::{Keeper, Snapshots, Source, SourceError};

mod conditions;
mod drafts;
mod partition;
mod table;

use drafts::Drafts;
pub use table::Draft;

/// What a plan is made from.
pub struct Ground<'a> {
    /// The source.
    pub source: &'a dyn Source,
    /// The source's section of the configuration.
    pub config: &'a SourceConfig,
    /// Export settings for all sources.
    pub export: &'a ExportConfig,
    /// Types and encodings of the files.
    pub types: FileTypes,
    /// The snapshot that planning reads under; none for an export without a snapshot.
    pub under: Option<&'a Under>,
    /// The wall clock. The plan says when it was finished, because its failed tables failed by then.
    pub now: &'a (dyn Fn() -> Timestamp + Sync),
}

/// A snapshot and its keeper.
pub struct Under {
    /// The snapshot as plans name it.
    pub snapshot: Snapshot,
    /// Holds the snapshot.
    pub keeper: Arc<dyn Keeper>,
}

/// What is planned.
pub struct Scope {
    /// The request, narrowed to the tables of this epoch.
    pub request: ExportRequest,
    /// Tables that were left out because another table of this epoch contained their rows. A new snapshot may
    /// show that the other table no longer contains them.
    pub children: Vec<TableRequest>,
    /// The first number that no table has had.
    pub free: u32,
    /// Numbers of the tables in the first plan, by `schema.table`.
    pub numbers: BTreeMap<String, TableNo>,
    /// Columns that became text in earlier epochs, by table number.
    pub as_text: BTreeMap<TableNo, Vec<UnfitColumn>>,
    /// Rows that a snapshot showed when an earlier epoch was planned, by table number, with the lineage.
    pub shown_rows: BTreeMap<TableNo, (Uuid, u64)>,
}

impl Scope {
    /// Everything that a request asks for.
    #[must_use]
    pub fn first(request: ExportRequest) -> Self {
        Self {
            request,
            children: Vec::new(),
            free: 0,
            numbers: BTreeMap::new(),
            as_text: BTreeMap::new(),
            shown_rows: BTreeMap::new(),
        }
    }

    /// The number of a table: its number in the first plan, or else a new one.
    fn number(&self, table: &str, fresh: TableNo) -> TableNo {
        self.numbers.get(table).copied().unwrap_or(TableNo(self.free + fresh.0))
    }

    /// Rows that the same snapshot showed of a table when it was planned before.
    fn shown_rows(&self, table: TableNo, under: &Under) -> Option<u64> {
        let (lineage, rows) = self.shown_rows.get(&table)?;
        (*lineage == under.snapshot.lineage).then_some(*rows)
    }
}

/// The head of a plan.
pub struct Title {
    /// Version of the format.
    pub v: u32,
    /// The job.
    pub job: JobId,
    /// 1 for the first plan.
    pub epoch: Epoch,
    /// The source.
    pub source: SourceName,
    /// Names the directory of the destination in which the plan's tables are prepared.
    pub ready: Uuid,
    /// The destination; none for the root of the export folder.
    pub destination: Option<Uuid>,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
}

/// Finds base names for the directories of tables.
#[async_trait]
pub trait Names: Sync {
    /// Why a search for names failed.
    type Error: Send;

    /// Finds a name for each of these tables, in their order.
    async fn names(&self, tables: &[Draft<'_>]) -> Vec<Result<String, PlanError<Self::Error>>>;
}

/// Why there is no plan, or why a table is not in it.
#[derive(Debug)]
pub enum PlanError<E> {
    /// The source failed.
    Source(SourceError),
    /// The search for names failed.
    Names(E),
    /// The request cannot be fulfilled.
    Failed(ErrorReport),
}

impl<E> From<SourceError> for PlanError<E> {
    fn from(e: SourceError) -> Self {
        Self::Source(e)
    }
}

/// The snapshots of a source, if the request wants one. By default a request wants a snapshot if the source
/// has them.
///
/// # Errors
/// When the request insists on a snapshot and the source has none.
pub fn snapshots<'a>(
    source: &'a dyn Source,
    request: &ExportRequest,
) -> Result<Option<&'a dyn Snapshots>, ErrorReport> {
    match (request.consistency, source.snapshots()) {
        (Some(Consistency::None), _) | (None, None) => Ok(None),
        (_, Some(snapshots)) => Ok(Some(snapshots)),
        (Some(Consistency::Snapshot), None) => Err(ErrorReport::permanent(
            "no_snapshot",
            format!("source {} has no snapshots", source.name()),
            "leave `consistency` out, or ask for \"none\"",
        )),
    }
}

/// What to do after an error of a source while a plan is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try again after a pause.
    Again(Pace),
    /// Try again after a pause, on another snapshot: this snapshot is lost, or can no longer show a table.
    Anew(Pace),
    /// Give up, because nothing will help.
    GiveUp,
    /// Stop, because we were told to.
    Stop,
}

/// Maps an error of a source to what to do next.
#[must_use]
pub fn next(error: &SourceError) -> Next {
    match policy(error) {
        Policy::Retry(pace) => Next::Again(pace),
        Policy::Stop => Next::Stop,
        Policy::Report(Cause::LineageLost | Cause::Changed) => Next::Anew(Pace::Soon),
        Policy::Report(Cause::Permanent | Cause::Unfit { .. }) => Next::GiveUp,
    }
}

/// Plans a request.
///
/// # Errors
/// When nothing can be planned. The error of a single table is stored in the plan.
pub async fn plan<N: Names>(
    ground: &Ground<'_>,
    scope: &Scope,
    names: &N,
    title: Title,
    cancel: &CancellationToken,
) -> Result<ExportPlan, PlanError<N::Error>> {
    let (request, schemas) = (&scope.request, &ground.config.schemas);
    let asked = request.tables.iter().chain(&scope.children);
    let survey = SurveyRequest {
        tables: asked.clone().map(|t| t.table.clone()).collect(),
        schemas: schemas.clone(),
        statistics_for: request.tables.iter().filter_map(|t| t.chunk_column.clone()).collect(),
        ways: asked.clone().map(|t| t.read.unwrap_or(ground.config.read)).collect(),
    };
    let relations = ground.source.survey(&survey, ground.keeper()).await?;
    let most_chunks = ground.source.most_chunks(ground.keeper()).await?;
    let mut chosen = choose(request, &scope.children, schemas, &relations);
    let failed = chosen.failed.iter();
    let failed =
        failed.map(|f| FailedTable { number: scope.number(&f.table, f.number), ..f.clone() }).collect();
    let mut drafts = Drafts::beginning_with(failed);
    let mut next = chosen.tables.clone();
    while !next.is_empty() {
        drafts.add(ground, scope, &next, names, cancel).await?;
        // A table that was left out must be planned itself if its parent cannot be planned.
        next = chosen.orphans(&drafts.failed_names());
    }
    let (mut tables, failed, exported) = drafts.finish();
    let notes = chosen.family_notes(&exported);
    for table in &mut tables {
        let note = notes.get(&qualified(&table.schema, &table.name));
        let said: Vec<String> = table.note.take().into_iter().chain(note.cloned()).collect();
        table.note = (!said.is_empty()).then(|| said.join("; "));
    }
    let Title { v, job, epoch, source, ready, destination, traceparent } = title;
    Ok(ExportPlan {
        v,
        job,
        epoch,
        source,
        planned_at: (ground.now)(),
        ready,
        destination,
        traceparent,
        snapshot: ground.under.map(|under| under.snapshot.clone()),
        session: ground.config.session(),
        writer: ground.writer(request),
        on_conflict: request.output.on_conflict,
        on_unfit: request.on_unfit,
        verify: request.verify,
        most_chunks,
        tables,
        error: None,
        failed,
        skipped: chosen.left_out(&exported),
    })
}

impl Ground<'_> {
    fn keeper(&self) -> Option<&dyn Keeper> {
        self.under.map(|under| &*under.keeper)
    }

    fn writer(&self, request: &ExportRequest) -> WriterSettings {
        let compression = request.output.compression;
        let file_bytes = request.output.file_bytes.or(self.export.file_bytes);
        let row_group_bytes = request.output.row_group_bytes.unwrap_or(self.export.row_group_bytes);
        WriterSettings {
            compression: compression.unwrap_or_else(|| self.config.compression(self.export)),
            // A part has whole row groups, so a larger row group would make it larger than wanted.
            row_group_bytes: file_bytes.map_or(row_group_bytes, |bytes| bytes.min(row_group_bytes)).get(),
            file_bytes,
            partitions_max: self.export.partitions_max.get(),
            types: self.types,
        }
    }
}

#[cfg(test)]
mod tests;
