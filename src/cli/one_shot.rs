//! The workspace of a one-shot export. Its process holds a lock on the job's `request.json` as long as it
//! lives. If another process finds the file unlocked, the run was killed: the process resumes the run or
//! trashes it.

use anyhow::Context as _;
use jiff::Timestamp;
use uuid::Uuid;

use crate::bus::{Outgoing, Properties, Session};
use crate::config::Origin;
use crate::context::{Context, Sources};
use crate::folder::{Created, Folder, Lock, VERSION};
use crate::intake::{self, Desk, RequestedAction};
use crate::job::archive::Archive;
use crate::job::outcome::{CancelCause, CancelMark, NewJob, Owner, Run};
use crate::message::event::ErrorReport;
use crate::message::inbox::Wake;
use crate::message::{Control, ExportRequest, InboxMessage, JobId, SourceName};
use crate::source::SourceError;

/// Connects once. A daemon tries a wrong address or password again for a while; a person who waits wants to
/// hear of it at once.
///
/// # Errors
/// The error of the source, with its remedy.
pub async fn reach(sources: &Sources, name: Option<&SourceName>) -> anyhow::Result<()> {
    // Without a name, intake reports what is wrong.
    let Some(entry) = name.and_then(|name| sources.get(name)) else { return Ok(()) };
    entry.source.check().await.map(|_| ()).map_err(|e| Explained(e, entry.config.origin).into())
}

/// A source's error, with the remedy worded for the way in which the source was given.
#[derive(Debug, thiserror::Error)]
#[error("{}{}", .0.message, .0.remedy.as_ref().map_or(String::new(), |r| format!("; {}", r.words(*.1))))]
pub struct Explained(pub SourceError, pub Origin);

/// The result of looking for the workspace of a request.
pub enum Place {
    /// Our workspace: a new one, or that of a run that was killed.
    Ours(Workspace),
    /// The job has ended already.
    Finished(Box<Archive>),
    /// The request is refused.
    Rejected(ErrorReport),
}

/// A workspace that no other process works on.
pub struct Workspace {
    /// The job of the workspace.
    pub job: JobId,
    /// The owner of the workspace: this run, or the run that it resumes.
    pub owner: Owner,
    /// Whether the workspace comes from a run that was killed.
    pub resumed: bool,
    _lock: Lock,
}

/// Finds or makes the workspace for a request.
///
/// # Errors
/// When the folder refuses.
pub async fn take_place(folder: &Folder, sources: &Sources, request: ExportRequest) -> anyhow::Result<Place> {
    let desk = Desk { sources: sources.keys().cloned().collect(), fresh: Uuid::new_v4() };
    let body = serde_json::to_vec(&request)?;
    let mut wanted = match intake::read(&body, &Properties::default(), &desk) {
        Ok(RequestedAction::Export(new)) => *new,
        Ok(RequestedAction::Cancel(_) | RequestedAction::Retry(_)) => {
            anyhow::bail!("the request is no export")
        }
        Err(error) => return Ok(Place::Rejected(error)),
    };
    let run = Run { id: Uuid::new_v4(), server: server(sources, &wanted.source)? };
    if let Some(job) = &request.job_id
        && let Some(archive) = folder.job(job).archive().await?
    {
        if archive.request == wanted.request && archive.source == wanted.source {
            return Ok(Place::Finished(Box::new(archive)));
        }
        return Ok(Place::Rejected(taken(job, "another request")));
    }
    // Looking, storing and locking must be one step for other processes. Lock the root's identity for that:
    // this file always exists and never changes.
    let _entrance =
        folder.lock().await?.with_context(|| format!("{} cannot be locked", folder.root().display()))?;
    for job in folder.jobs().await? {
        if let Some(place) = take_over(folder, &job, &wanted, &run, request.job_id.is_some()).await? {
            return Ok(Place::Ours(place));
        }
    }
    // With this id the workspace is found again if this run is killed.
    wanted.request.job_id = Some(wanted.job.clone());
    let wanted = wanted.taken(Owner::OneShot(run), Timestamp::now());
    let workspace = folder.job(&wanted.job);
    if workspace.store(&wanted).await? == Created::Exists {
        let stored = workspace.request().await?;
        if stored.is_some_and(|s| matches!(s.owner, Owner::Daemons { .. })) {
            return Ok(Place::Rejected(taken(&wanted.job, "daemons on this export folder")));
        }
        anyhow::bail!("job {} runs in another process already", wanted.job);
    }
    let lock = workspace.lock().await?;
    let lock = lock.with_context(|| format!("job {} was taken by another process", wanted.job))?;
    Ok(Place::Ours(Workspace { job: wanted.job, owner: wanted.owner, resumed: false, _lock: lock }))
}

fn taken(job: &JobId, by: &str) -> ErrorReport {
    ErrorReport::permanent(
        "job_id_taken",
        format!("job id `{job}` belongs to {by} already"),
        "use a new job_id, or export into another directory",
    )
}

/// The server that a source reads, as its address says.
fn server(sources: &Sources, source: &SourceName) -> anyhow::Result<String> {
    let server = sources.get(source).and_then(|entry| entry.config.kind.server());
    server.with_context(|| format!("find the server of source {source}"))
}

/// Takes over the workspace of a killed run if it has the same request and server, else trashes it.
/// Workspaces of daemons and of living runs are left alone.
async fn take_over(
    folder: &Folder,
    job: &JobId,
    wanted: &NewJob,
    run: &Run,
    named: bool,
) -> anyhow::Result<Option<Workspace>> {
    let workspace = folder.job(job);
    let Some(stored) = workspace.request().await? else { return Ok(None) };
    let killed = match &stored.owner {
        Owner::OneShot(run) => Some(run),
        // Nobody knows which server it read.
        Owner::UnknownRun => None,
        Owner::Daemons { .. } => return Ok(None),
    };
    let Some(lock) = workspace.lock().await? else {
        return Ok(None);
    };
    let mut same = wanted.request.clone();
    if !named {
        same.job_id.clone_from(&stored.request.job_id);
    }
    if same == stored.request
        && wanted.source == stored.source
        && killed.is_some_and(|killed| killed.server == run.server)
    {
        return Ok(Some(Workspace { job: job.clone(), owner: stored.owner, resumed: true, _lock: lock }));
    }
    // A committed job is complete and only has to be tidied.
    if let Some(archive) = workspace.archive().await? {
        workspace.link_archive(archive.committed_at).await?;
    }
    workspace.trash().await?;
    Ok(None)
}

/// Cancels the job of this process.
///
/// # Errors
/// When the folder refuses.
pub async fn cancel(context: &Context, session: &dyn Session, job: &JobId) -> anyhow::Result<()> {
    let mark =
        CancelMark { v: VERSION, why: CancelCause::Request, by: Some("interrupt".into()), at: context.now() };
    context.folder.job(job).cancel_if_there(&mark).await?;
    session.publish(Outgoing::Control(Control::Cancel { job: job.clone() })).await?;
    let wake = Wake { job: Some(job.clone()), chunk: None };
    session.publish(Outgoing::Inbox(InboxMessage::Wake(wake))).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use super::*;
    use crate::config::{Config, Secret};
    use crate::folder::layout;
    use crate::job::look::{self, OpenedJob};
    use crate::message::request::RequestMessage;

    struct Root(PathBuf);

    impl Drop for Root {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    /// A one-shot export of any tables, before it knows whether its request exists.
    struct Start {
        folder: Folder,
        sources: Sources,
    }

    impl Start {
        async fn place(&self, request: ExportRequest) -> anyhow::Result<Place> {
            take_place(&self.folder, &self.sources, request).await
        }
    }

    async fn start() -> (Start, Root) {
        let root = std::env::temp_dir().join(format!("adu-export-one-shot-{}", Uuid::new_v4().simple()));
        (reading("postgres://u@h/d", &root).await, Root(root))
    }

    async fn reading(dsn: &str, root: &Path) -> Start {
        let (config, _) = Config::for_dsn(&Secret::new(dsn), root).expect("valid");
        let folder = Folder::init(root.to_owned(), None).await.expect("initializes");
        let sources = crate::daemon::sources(&config).expect("no connection is made");
        assert_eq!(sources.len(), 1);
        Start { folder, sources }
    }

    fn request(table: &str) -> ExportRequest {
        match RequestMessage::parse(format!(r#"{{"tables":["{table}"]}}"#).as_bytes()).expect("valid") {
            RequestMessage::Export(request) => *request,
            other => panic!("not an export: {other:?}"),
        }
    }

    async fn ours(start: &Start, table: &str) -> Workspace {
        match start.place(request(table)).await.expect("the folder works") {
            Place::Ours(place) => place,
            Place::Finished(_) | Place::Rejected(_) => panic!("there is no such job"),
        }
    }

    #[tokio::test]
    async fn a_killed_run_is_resumed_by_the_same_request_and_trashed_by_another() {
        let (start, _root) = start().await;
        let first = ours(&start, "s.a").await;
        let job = first.job.clone();
        let second = ours(&start, "s.a").await;
        assert_ne!(second.job, job, "a living run is left alone");
        drop(first);
        let resumed = ours(&start, "s.a").await;
        assert!(resumed.job == job && resumed.resumed && !second.resumed);
        drop(resumed);
        let other = ours(&start, "s.b").await;
        assert_ne!(other.job, job);
        assert_ne!(other.job, second.job);
        let left = start.folder.job(&job).exists().await.expect("looks");
        assert!(!left, "the other run's workspace is trashed");
    }

    #[tokio::test]
    async fn two_living_runs_see_their_own_job_and_not_the_others() {
        let (start, _root) = start().await;
        let (first, second) = (ours(&start, "s.a").await, ours(&start, "s.a").await);
        for (one, other) in [(&first, &second), (&second, &first)] {
            let open = |job| look::open(&start.folder, job, &one.owner, Duration::ZERO);
            assert!(matches!(open(&one.job).await, Ok(OpenedJob::Job(_))));
            assert!(matches!(open(&other.job).await, Ok(OpenedJob::NotOurs)));
        }
        let (job, owner) = (first.job.clone(), first.owner.clone());
        drop(first);
        let resumed = ours(&start, "s.a").await;
        assert_eq!((resumed.job, resumed.owner), (job, owner), "a resumed run goes on as the one before");
    }

    #[tokio::test]
    async fn a_killed_run_is_not_resumed_from_another_server_or_as_another_user() {
        let (start, root) = start().await;
        let mut killed = ours(&start, "s.a").await.job;
        for dsn in ["postgres://u@h:5433/d", "postgres://other@h/d", "postgres://u@h/d"] {
            let start = reading(dsn, &root.0).await;
            let job = ours(&start, "s.a").await.job;
            assert_ne!(job, killed, "{dsn}");
            let left = start.folder.job(&killed).exists().await.expect("looks");
            assert!(!left, "what was read elsewhere is trashed: {dsn}");
            killed = job;
        }
        let same = reading("postgres://u@h:5432/d", &root.0).await;
        assert_eq!(ours(&same, "s.a").await.job, killed);
    }

    #[tokio::test]
    async fn a_job_id_of_a_daemon_is_refused_and_its_workspace_left_alone() {
        let (start, root) = start().await;
        let mut request = request("s.a");
        request.job_id = Some(JobId::parse("nightly").expect("valid"));
        let Ok(Place::Ours(place)) = start.place(request.clone()).await else { panic!("it is free") };
        // The same request, owned by a daemon.
        let job = place.job.clone();
        drop(place);
        let workspace = start.folder.job(&job);
        let mut stored = workspace.request().await.expect("readable").expect("it is there");
        stored.owner = Owner::Daemons { vhost: "/".into(), prefix: "adu.export".into() };
        std::fs::remove_file(root.0.join(layout::request(&job))).expect("removed");
        workspace.store(&stored).await.expect("stored");
        match start.place(request).await.expect("the folder works") {
            Place::Rejected(error) => assert_eq!(error.code, "job_id_taken"),
            Place::Ours(_) => panic!("it is the daemon's"),
            Place::Finished(_) => panic!("it runs"),
        }
        let left = workspace.request().await.expect("readable");
        assert_eq!(left, Some(stored));
    }
}
