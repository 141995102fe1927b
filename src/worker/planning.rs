//! One planning task, from task to plan file. The choices are pure (`plan/`);
//! this module asks the source for facts and makes the result durable. The
//! plan is exclusive: a planner that comes second throws its work away.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::{End, Shared};
use crate::config::SourceConfig;
use crate::destination::Stage;
use crate::folder::{Created, FolderError, VERSION};
use crate::job::decide::MAX_LINEAGES;
use crate::job::look::{self, Found};
use crate::job::outcome::{PlanFailure, StoredRequest};
use crate::job::record::Cause;
use crate::job::state::JobState;
use crate::message::event::ErrorReport;
use crate::message::pattern::qualified;
use crate::message::request::{Consistency, ExportRequest};
use crate::message::setting::FileTypes;
use crate::message::task::PlanTask;
use crate::plan::choose::choose_with;
use crate::plan::export_plan::{ExportPlan, FailedTable, Snapshot, WriterSettings};
use crate::retry::{Policy, policy};
use crate::source::{ErrorKind, Source, SourceError, SurveyRequest};

mod conditions;
mod drafts;
mod places;
mod scope;
mod table;

use drafts::Drafts;
use scope::Scope;

/// Does one planning task.
///
/// # Errors
/// When the folder refuses.
pub async fn run(shared: &Shared, task: &PlanTask, cancel: &CancellationToken) -> Result<End, FolderError> {
    let context = &shared.context;
    context.folder.guard().await?;
    // A request that came again may have been stored again while its job ended:
    // whoever plans after that sees the archive, if the server itself is asked.
    if context.folder.job(&task.job).is_archived_anew().await? {
        return Ok(End::Done { wake: false });
    }
    if context.folder.job(&task.job).has_plan(task.epoch).await? {
        return Ok(End::Done { wake: true });
    }
    let job = match look::open(&context.folder, &task.job, &context.owner, std::time::Duration::ZERO).await? {
        Found::Job(job) => job,
        Found::NotOurs | Found::Headless => {
            // On NFS it may not be visible yet: not at once again.
            tokio::time::sleep(context.config.timing.retry_first.0).await;
            return Ok(End::Release);
        }
    };
    if job.cancel.is_some() || job.next_epoch() != task.epoch {
        return Ok(End::Done { wake: true });
    }
    let name = &job.stored.source;
    let Some(entry) = context.sources().get(name).cloned() else {
        return Ok(End::Unfit(format!(
            "the configuration has no source `{name}`; add it or stop this daemon"
        )));
    };
    let (source, config) = (Arc::clone(&entry.source), entry.config.clone());
    let planner = Planner { shared, task, job: &job, source, config, cancel };
    let mut pauses = context.pauses();
    let mut passed: Option<SourceError> = None;
    loop {
        let error = match planner.plan(passed.as_ref()).await {
            Ok(()) => return Ok(End::Done { wake: true }),
            Err(PlanError::Folder(e)) => return Err(e),
            Err(PlanError::Failed(error)) => return planner.give_up(error).await,
            Err(PlanError::Source(error)) => error,
        };
        if cancel.is_cancelled() {
            let cancelled = context.folder.job(&task.job).is_cancelled().await?;
            return Ok(if cancelled { End::Done { wake: true } } else { End::Release });
        }
        let pace = match policy(&error) {
            Policy::Retry(pace) => pace,
            Policy::Stop => return Ok(End::Release),
            // The snapshot went, or shows a table no more: the next try takes another.
            Policy::Report(Cause::LineageLost | Cause::Changed) => {
                passed = Some(error.clone());
                crate::retry::Pace::Soon
            }
            Policy::Report(_) => return planner.give_up(error.report(planner.config.origin)).await,
        };
        context.metrics.retried(&error.kind);
        shared.trouble(format!("{name}: {}", error.message));
        warn!(job.id = %task.job, code = error.code, reason = error.message, "planning is tried again");
        let Some(pause) = pauses.next(pace) else {
            // A source that refuses us for so long will not take us by itself.
            if error.kind == ErrorKind::Authentication {
                return planner.give_up(error.report(planner.config.origin)).await;
            }
            return Ok(End::Release);
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

enum PlanError {
    Source(SourceError),
    Folder(FolderError),
    Failed(ErrorReport),
}

impl From<SourceError> for PlanError {
    fn from(e: SourceError) -> Self {
        Self::Source(e)
    }
}

impl From<FolderError> for PlanError {
    fn from(e: FolderError) -> Self {
        Self::Folder(e)
    }
}

impl From<std::io::Error> for PlanError {
    fn from(e: std::io::Error) -> Self {
        Self::Folder(e.into())
    }
}

struct Planner<'a> {
    shared: &'a Shared,
    task: &'a PlanTask,
    job: &'a JobState,
    source: Arc<dyn Source>,
    config: SourceConfig,
    cancel: &'a CancellationToken,
}

impl Planner<'_> {
    fn stored(&self) -> &StoredRequest {
        &self.job.stored
    }

    /// Plans; not on an old snapshot that a try before could not use.
    async fn plan(&self, passed: Option<&SourceError>) -> Result<(), PlanError> {
        let scope = self.scope();
        // What is dropped here ends its query on the server.
        let snapshot = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(super::keepers::cancelled().into()),
            snapshot = self.snapshot(&scope, passed) => snapshot?,
        };
        let result = tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(super::keepers::cancelled().into()),
            result = self.plan_on(&scope, snapshot.as_ref()) => result,
        };
        if let Some(Snapshot { lineage, .. }) = snapshot
            && !self.job.lineages().contains(&lineage)
            && !self.is_used(&result, lineage).await
        {
            // Another planner was first, or it failed: nobody needs this one.
            self.shared.keepers.release(lineage);
        }
        result.map(|_| ())
    }

    /// Whether a plan names this lineage. A step that failed may have been taken all the same.
    async fn is_used(&self, result: &Result<bool, PlanError>, lineage: Uuid) -> bool {
        if let Ok(ours) = result {
            return *ours;
        }
        match self.shared.context.folder.job(&self.task.job).plan_anew(self.task.epoch).await {
            Ok(plan) => plan.is_some_and(|plan| plan.snapshot().is_some_and(|s| s.lineage == lineage)),
            Err(_) => true,
        }
    }

    /// True if the plan is ours.
    async fn plan_on(&self, scope: &Scope, snapshot: Option<&Snapshot>) -> Result<bool, PlanError> {
        let lineage = snapshot.map(|s| s.lineage);
        let request = &scope.request;
        let survey = SurveyRequest {
            tables: request.tables.iter().chain(&scope.children).map(|t| t.table.clone()).collect(),
            schemas: self.config.schemas.clone(),
            statistics_for: request.tables.iter().filter_map(|t| t.chunk_column.clone()).collect(),
        };
        let relations = self.source.survey(&survey, lineage).await?;
        let mut chosen = choose_with(request, &scope.children, &self.config.schemas, &relations);
        let failed = chosen.failed.iter();
        let failed =
            failed.map(|f| FailedTable { number: scope.number(&f.table, f.number), ..f.clone() }).collect();
        let mut drafts = Drafts::without(failed);
        let mut next = chosen.tables.clone();
        while !next.is_empty() {
            self.plan_tables(&next, scope, snapshot, &mut drafts).await?;
            // Whose rows were to come with a table that cannot be planned comes by itself.
            next = chosen.orphans(&drafts.failed_names());
        }
        let (mut tables, failed, exported) = drafts.finish();
        let notes = chosen.family_notes();
        for table in &mut tables {
            let note = notes.get(&qualified(&table.schema, &table.name));
            let said: Vec<String> = table.note.take().into_iter().chain(note.cloned()).collect();
            table.note = (!said.is_empty()).then(|| said.join("; "));
        }
        let plan = ExportPlan {
            v: VERSION,
            job: self.task.job.clone(),
            epoch: self.task.epoch,
            source: self.stored().source.clone(),
            planned_at: self.shared.context.now(),
            ready: self.shared.context.machine.fresh(),
            destination: self.shared.context.destination.id(),
            snapshot: snapshot.cloned(),
            session: self.config.session.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            writer: self.writer(request),
            on_conflict: request.output.on_conflict,
            on_unfit: request.on_unfit,
            verify: request.verify,
            tables,
            error: None,
            failed,
            skipped: chosen.left_out(&exported),
        };
        self.commit(plan).await
    }

    fn writer(&self, request: &ExportRequest) -> WriterSettings {
        let export = &self.shared.context.config.export;
        let compression = request.output.compression;
        WriterSettings {
            compression: compression.unwrap_or_else(|| self.config.compression(export)),
            row_group_bytes: request.output.row_group_bytes.unwrap_or(export.row_group_bytes).get(),
            types: self.types(request),
        }
    }

    /// The request's, else those of the first plan, whichever daemon made that.
    fn types(&self, request: &ExportRequest) -> FileTypes {
        let before = self.job.plans.first().and_then(|plan| plan.export()).map(|plan| plan.writer.types);
        request.output.types.or(before).unwrap_or(self.shared.context.config.export.types)
    }

    /// The snapshot of this epoch, kept by this process.
    async fn snapshot(
        &self,
        scope: &Scope,
        passed: Option<&SourceError>,
    ) -> Result<Option<Snapshot>, PlanError> {
        if scope.request.consistency == Some(Consistency::None) {
            return Ok(None);
        }
        let keepers = &self.shared.keepers;
        let mut passed = passed.cloned();
        if let Some(lineage) = scope.lineage.filter(|_| passed.is_none()) {
            let known = self.job.plans.iter().filter_map(|p| p.snapshot()).find(|s| s.lineage == lineage);
            match keepers.ensure(&self.source, lineage, &self.task.job, self.cancel).await {
                Ok(()) => return Ok(known.cloned()),
                Err(e) if e.kind == ErrorKind::LineageLost => passed = Some(e),
                Err(e) => return Err(e.into()),
            }
        }
        if let Some(error) = passed.filter(|_| self.job.lineages().len() >= MAX_LINEAGES) {
            let message = format!("{}; the job has used {MAX_LINEAGES} snapshots already", error.message);
            return Err(PlanError::Failed(ErrorReport { message, ..error.report(self.config.origin) }));
        }
        let lineage = self.shared.context.machine.fresh();
        let keeper = keepers.open(&self.source, lineage, &self.task.job).await?;
        Ok(Some(Snapshot { lineage, time: keeper.time() }))
    }

    /// Makes the directories that workers and coordinators expect, then links
    /// the plan. True if it is ours.
    async fn commit(&self, plan: ExportPlan) -> Result<bool, PlanError> {
        let (folder, destination) = (&self.shared.context.folder, &self.shared.context.destination);
        let (job, epoch) = (&self.task.job, self.task.epoch);
        let outputs: BTreeSet<&str> =
            plan.tables.iter().map(|t| t.directory.as_str()).filter(|d| !d.is_empty()).collect();
        let outputs: Vec<&str> = outputs.into_iter().collect();
        let batches: Vec<_> = plan.batches().into_keys().collect();
        let tables: Vec<_> = plan.tables.iter().map(|t| t.number).collect();
        let stage = Stage { job, epoch, id: plan.ready };
        destination.prepare(&stage, &outputs, &batches, &tables).await?;
        let workspace = folder.job(job);
        workspace.make_records(epoch, batches.into_iter()).await?;
        if workspace.create_plan(&plan).await? == Created::Exists {
            destination.withdraw(&stage).await?;
            return Ok(false);
        }
        info!(job.id = %job, epoch = epoch.0, tables = plan.tables.len(), "the plan is written");
        Ok(true)
    }

    async fn give_up(&self, error: ErrorReport) -> Result<End, FolderError> {
        let context = &self.shared.context;
        warn!(job.id = %self.task.job, code = error.code, reason = error.message, "the job cannot be planned");
        let failure = PlanFailure { v: VERSION, error };
        let id = context.machine.fresh();
        context.folder.job(&self.task.job).fail_plan(self.task.epoch, id, &failure).await?;
        Ok(End::Done { wake: true })
    }
}
