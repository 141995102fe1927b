//! One planning task, from task to plan file: `planning` makes the plan, and this module makes it durable.
//! The plan file is exclusive: a planner that comes second throws its plan away.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use tracing::{Span, info, warn};
use uuid::Uuid;

use super::{End, Shared};
use crate::config::SourceConfig;
use crate::destination::Stage;
use crate::folder::{Created, FolderError, VERSION};
use crate::job::decide::{self, MAX_LINEAGES};
use crate::job::look::{self, OpenedJob};
use crate::job::outcome::{PlanFailure, StoredRequest};
use crate::job::state::JobState;
use crate::message::event::ErrorReport;
use crate::message::request::{ExportRequest, OutputDirectory};
use crate::message::setting::FileTypes;
use crate::message::task::PlanTask;
use crate::plan::export_plan::ExportPlan;
use crate::planning::{self, Draft, Ground, Names, Next, Scope, Title, Under};
use crate::source::{ErrorKind, Source, SourceError};
use crate::traces::{self, JobTrace};

mod places;
mod scope;

/// Why a planning task ends without a plan.
type PlanError = planning::PlanError<FolderError>;

/// Does one planning task.
///
/// # Errors
/// When the folder refuses.
pub async fn run(shared: &Shared, task: &PlanTask, cancel: &CancellationToken) -> Result<End, FolderError> {
    let context = &shared.context;
    context.folder.guard().await?;
    // While a job ended, its redelivered request may have been stored again. A planner that asks the server
    // sees the archive then, and plans nothing.
    if context.folder.job(&task.job).is_archived_anew().await? {
        return Ok(End::Done { wake: false });
    }
    if context.folder.job(&task.job).has_plan(task.epoch).await? {
        return Ok(End::Done { wake: true });
    }
    let job = match look::open(&context.folder, &task.job, &context.owner, std::time::Duration::ZERO).await? {
        OpenedJob::Job(job) => job,
        OpenedJob::NotOurs | OpenedJob::Headless => {
            // On NFS the request may not be visible yet: wait before the task is tried again.
            let pause = tokio::time::sleep(context.config.timing.retry_first.0);
            cancel.run_until_cancelled(pause).await;
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
    let traceparent = job.stored.caller.traceparent.as_deref();
    let trace = JobTrace { root: context.folder.id(), job: &task.job, traceparent };
    let trace = trace.plan(task.epoch, name, config.kind.as_str());
    let planner = Planner { shared, task, job: &job, source, config, cancel, trace };
    let mut pauses = context.pauses();
    let mut passed: Option<SourceError> = None;
    loop {
        let error = match planner.plan(passed.as_ref()).await {
            Ok(()) => return Ok(End::Done { wake: true }),
            Err(PlanError::Names(e)) => {
                traces::fail(&planner.trace, "storage");
                return Err(e);
            }
            Err(PlanError::Failed(error)) => {
                let logged = error.message.clone();
                return planner.give_up(error, &logged).await;
            }
            Err(PlanError::Source(error)) => error,
        };
        if cancel.is_cancelled() {
            let cancelled = context.folder.job(&task.job).is_cancelled().await?;
            return Ok(if cancelled { End::Done { wake: true } } else { End::Release });
        }
        let pace = match planning::next(&error) {
            Next::Again(pace) => pace,
            Next::Anew(pace) => {
                passed = Some(error.clone());
                pace
            }
            Next::Stop => return Ok(End::Release),
            Next::GiveUp => return planner.refused(&error).await,
        };
        context.metrics.retried(&error.kind);
        shared.trouble(format!("{name}: {}", error));
        warn!(code = error.code, %error, "planning is tried again");
        let Some(pause) = pauses.next(pace) else {
            // A source that has refused our password for so long will not accept it later.
            if error.kind == ErrorKind::Authentication {
                return planner.refused(&error).await;
            }
            traces::fail(&planner.trace, &error.code);
            return Ok(End::Release);
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

impl From<FolderError> for PlanError {
    fn from(e: FolderError) -> Self {
        Self::Names(e)
    }
}

impl From<std::io::Error> for PlanError {
    fn from(e: std::io::Error) -> Self {
        Self::Names(e.into())
    }
}

struct Planner<'a> {
    shared: &'a Shared,
    task: &'a PlanTask,
    job: &'a JobState,
    source: Arc<dyn Source>,
    config: SourceConfig,
    cancel: &'a CancellationToken,
    trace: Span,
}

impl Planner<'_> {
    fn stored(&self) -> &StoredRequest {
        &self.job.stored
    }

    /// Plans the epoch. A snapshot that an earlier try could not use (`passed`) is not used again.
    async fn plan(&self, passed: Option<&SourceError>) -> Result<(), PlanError> {
        let (scope, lineage) = self.scope();
        // Dropping the future ends its query on the server.
        let snapshot = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(super::keepers::cancelled().into()),
            snapshot = self.snapshot(&scope, lineage, passed) => snapshot?,
        };
        let result = tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(super::keepers::cancelled().into()),
            result = self.plan_on(&scope, snapshot.as_ref()) => result,
        };
        if let Some(lineage) = snapshot.map(|under| under.snapshot.lineage)
            && !self.job.lineages().contains(&lineage)
            && !self.is_used(&result, lineage).await
        {
            // Another planner was first, or planning failed: nobody needs this snapshot.
            self.shared.keepers.release(lineage);
        }
        result.map(|_| ())
    }

    /// Whether a plan names this lineage. After an error the plan may exist nevertheless.
    async fn is_used(&self, result: &Result<bool, PlanError>, lineage: Uuid) -> bool {
        if let Ok(ours) = result {
            return *ours;
        }
        match self.shared.context.folder.job(&self.task.job).plan_anew(self.task.epoch).await {
            Ok(plan) => plan.is_some_and(|plan| plan.snapshot().is_some_and(|s| s.lineage == lineage)),
            Err(_) => true,
        }
    }

    /// Makes the plan and writes it. False if another planner was first.
    async fn plan_on(&self, scope: &Scope, under: Option<&Under>) -> Result<bool, PlanError> {
        let context = &self.shared.context;
        let ground = Ground {
            source: &*self.source,
            config: &self.config,
            export: &context.config.export,
            types: self.types(&scope.request),
            under,
            now: &|| context.now(),
        };
        let title = Title {
            v: VERSION,
            job: self.task.job.clone(),
            epoch: self.task.epoch,
            source: self.stored().source.clone(),
            ready: context.machine.fresh(),
            destination: context.destination.id(),
            traceparent: self.stored().caller.traceparent.clone(),
        };
        let claims = Claims { planner: self, request: &scope.request };
        let plan = planning::plan(&ground, scope, &claims, title, self.cancel).await?;
        self.commit(plan).await
    }

    /// The types of the request, else those of the first plan, whichever daemon made that plan.
    fn types(&self, request: &ExportRequest) -> FileTypes {
        let before = self.job.plans.first().and_then(|plan| plan.export()).map(|plan| plan.writer.types);
        request.output.types.or(before).unwrap_or(self.shared.context.config.export.types)
    }

    /// The snapshot of this epoch, kept by this process.
    async fn snapshot(
        &self,
        scope: &Scope,
        lineage: Option<Uuid>,
        passed: Option<&SourceError>,
    ) -> Result<Option<Under>, PlanError> {
        if planning::snapshots(&*self.source, &scope.request).map_err(PlanError::Failed)?.is_none() {
            return Ok(None);
        }
        let keepers = &self.shared.keepers;
        let mut passed = passed.cloned();
        let mut known = self.job.plans.iter().filter_map(|p| p.snapshot());
        if let Some(snapshot) = known.find(|s| passed.is_none() && Some(s.lineage) == lineage) {
            match keepers.of_plan(&self.source, snapshot, &self.task.job, self.cancel).await {
                Ok(keeper) => return Ok(Some(Under { snapshot: snapshot.clone(), keeper })),
                Err(e) if e.kind == ErrorKind::LineageLost => passed = Some(e),
                Err(e) => return Err(e.into()),
            }
        }
        if let Some(error) = passed.filter(|_| self.job.fruitless_lineages() >= MAX_LINEAGES) {
            return Err(PlanError::Failed(decide::no_snapshot_left(&error.report(self.config.origin))));
        }
        let lineage = self.shared.context.machine.fresh();
        let keeper = keepers.open(&self.source, lineage, &self.task.job).await?;
        Ok(Some(Under { snapshot: keeper.snapshot(), keeper }))
    }

    /// Makes the directories that workers and coordinators expect, then links the plan. False if another
    /// planner was first.
    async fn commit(&self, plan: ExportPlan) -> Result<bool, PlanError> {
        let (folder, destination) = (&self.shared.context.folder, &self.shared.context.destination);
        let (job, epoch) = (&self.task.job, self.task.epoch);
        let outputs: BTreeSet<&OutputDirectory> =
            plan.tables.iter().filter_map(|t| t.directory.as_ref()).collect();
        let outputs: Vec<&OutputDirectory> = outputs.into_iter().collect();
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
        traces::note(&self.trace, "tables", plan.tables.len() as u64);
        info!(tables = plan.tables.len(), "the plan is written");
        Ok(true)
    }

    async fn refused(&self, error: &SourceError) -> Result<End, FolderError> {
        self.give_up(error.report(self.config.origin), &error.to_string()).await
    }

    /// Writes down why there is no plan. `logged` says it without values of rows, which the report may contain.
    async fn give_up(&self, error: ErrorReport, logged: &str) -> Result<End, FolderError> {
        let context = &self.shared.context;
        traces::fail(&self.trace, &error.code);
        warn!(code = error.code, error = logged, "the job cannot be planned");
        let failure = PlanFailure { v: VERSION, error };
        let id = context.machine.fresh();
        context.folder.job(&self.task.job).fail_plan(self.task.epoch, id, &failure).await?;
        Ok(End::Done { wake: true })
    }
}

/// Names that are claimed in the folder.
struct Claims<'a> {
    planner: &'a Planner<'a>,
    request: &'a ExportRequest,
}

#[async_trait]
impl Names for Claims<'_> {
    type Error = FolderError;

    async fn names(&self, tables: &[Draft<'_>]) -> Vec<Result<String, PlanError>> {
        let mut names = Vec::with_capacity(tables.len());
        while names.len() < tables.len() {
            let some = self.planner.uncontended(&tables[names.len()..]);
            let claims = some.iter().map(|table| self.planner.place(table, self.request));
            names.extend(join_all(claims).await);
        }
        names
    }
}
