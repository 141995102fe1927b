//! The workspace of a one-shot export. Its process holds a lock on the job's `request.json` as long as it
//! lives. If another process finds the file unlocked, the run was killed: the process resumes the run or
//! trashes it.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use uuid::Uuid;

use crate::bus::{Outgoing, Properties, Session};
use crate::config::Origin;
use crate::context::{Context, Sources};
use crate::folder::{Created, VERSION};
use crate::intake::{self, Desk, RequestedAction};
use crate::job::archive::Archive;
use crate::job::outcome::{CancelCause, CancelMark, Owner, Run, StoredRequest};
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
    _lock: File,
}

/// Finds or makes the workspace for a request.
///
/// # Errors
/// When the folder refuses.
pub async fn take_place(context: &Context, request: ExportRequest) -> anyhow::Result<Place> {
    let desk = Desk {
        sources: context.sources().keys().cloned().collect(),
        owner: context.owner.clone(),
        now: context.now(),
        fresh: Uuid::new_v4(),
    };
    let body = serde_json::to_vec(&request)?;
    let mut wanted = match intake::read(&body, &Properties::default(), &desk) {
        Ok(RequestedAction::Export(stored)) => *stored,
        Ok(RequestedAction::Cancel(_) | RequestedAction::Retry(_)) => {
            anyhow::bail!("the request is no export")
        }
        Err(error) => return Ok(Place::Rejected(error)),
    };
    let server = server(context, &wanted.source);
    let run = Run { id: Uuid::new_v4(), server };
    if let Some(job) = &request.job_id
        && let Some(archive) = context.folder.job(job).archive().await?
    {
        if archive.request == wanted.request && archive.source == wanted.source {
            return Ok(Place::Finished(Box::new(archive)));
        }
        return Ok(Place::Rejected(taken(job, "another request")));
    }
    // Looking, storing and locking must be one step for other processes. Lock the root's identity for that:
    // this file always exists and never changes.
    let _entrance = lock(context.folder.identity_file(), FlockOperation::LockExclusive)
        .await?
        .with_context(|| format!("{} cannot be locked", context.folder.root().display()))?;
    for job in context.folder.jobs().await? {
        if let Some(place) = take_over(context, &job, &wanted, &run, request.job_id.is_some()).await? {
            return Ok(Place::Ours(place));
        }
    }
    // With this id the workspace is found again if this run is killed.
    wanted.request.job_id = Some(wanted.job.clone());
    wanted.owner = Owner::OneShot(run);
    let workspace = context.folder.job(&wanted.job);
    if workspace.store(&wanted).await? == Created::Exists {
        let stored = workspace.request().await?;
        if stored.is_some_and(|s| matches!(s.owner, Owner::Daemons { .. })) {
            return Ok(Place::Rejected(taken(&wanted.job, "daemons on this export folder")));
        }
        anyhow::bail!("job {} runs in another process already", wanted.job);
    }
    let lock = lock(workspace.request_file(), FlockOperation::NonBlockingLockExclusive).await?;
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

/// The server that a source reads, as far as its address says.
fn server(context: &Context, source: &SourceName) -> String {
    let sources = context.sources();
    sources.get(source).and_then(|entry| entry.config.kind.server()).unwrap_or_default()
}

/// Takes over the workspace of a killed run if it has the same request and server, else trashes it.
/// Workspaces of daemons and of living runs are left alone.
async fn take_over(
    context: &Context,
    job: &JobId,
    wanted: &StoredRequest,
    run: &Run,
    named: bool,
) -> anyhow::Result<Option<Workspace>> {
    let workspace = context.folder.job(job);
    let Some(stored) = workspace.request().await? else { return Ok(None) };
    let killed = match &stored.owner {
        Owner::OneShot(run) => Some(run),
        // A run of an older release: nobody knows which server it read.
        Owner::Nobody => None,
        Owner::Daemons { .. } => return Ok(None),
    };
    let Some(lock) = lock(workspace.request_file(), FlockOperation::NonBlockingLockExclusive).await? else {
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

/// Locks a file. `None` if another process holds the lock, or if the file is gone or not ours to open. The
/// file is opened for writing, although nothing is written: NFS grants an exclusive lock only then.
async fn lock(path: PathBuf, how: FlockOperation) -> anyhow::Result<Option<File>> {
    tokio::task::spawn_blocking(move || {
        let file = match OpenOptions::new().write(true).open(&path) {
            Ok(file) => file,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
                return Ok(None);
            }
            Err(e) => return Err(e).with_context(|| format!("open {}", path.display())),
        };
        match flock(&file, how) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("lock {}", path.display())),
        }
        // The former holder may have trashed the file before it released the lock.
        let there = std::fs::metadata(&path).ok().map(|m| m.ino());
        Ok((there == Some(file.metadata()?.ino())).then_some(file))
    })
    .await?
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use rustix::fs::{OFlags, fcntl_getfl};

    use super::*;
    use crate::config::{Config, Secret};
    use crate::folder::Folder;
    use crate::job::look::{self, OpenedJob};
    use crate::message::request::RequestMessage;
    use crate::metrics::Metrics;

    struct Root(PathBuf);

    impl Drop for Root {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    async fn context() -> (Arc<Context>, Root) {
        let root = std::env::temp_dir().join(format!("adu-export-one-shot-{}", Uuid::new_v4().simple()));
        (reading("postgres://u@h/d", &root).await, Root(root))
    }

    async fn reading(dsn: &str, root: &Path) -> Arc<Context> {
        let (config, _) = Config::for_dsn(&Secret::new(dsn), root).expect("valid");
        let folder = Folder::init(root.to_owned(), None).await.expect("initializes");
        let sources = crate::daemon::sources(&config).expect("no connection is made");
        assert_eq!(sources.len(), 1);
        Context::new(config, folder, Owner::Nobody, sources, Arc::new(Metrics::new()))
    }

    fn request(table: &str) -> ExportRequest {
        match RequestMessage::parse(format!(r#"{{"tables":["{table}"]}}"#).as_bytes()).expect("valid") {
            RequestMessage::Export(request) => *request,
            other => panic!("not an export: {other:?}"),
        }
    }

    async fn ours(context: &Context, table: &str) -> Workspace {
        match take_place(context, request(table)).await.expect("the folder works") {
            Place::Ours(place) => place,
            Place::Finished(_) | Place::Rejected(_) => panic!("there is no such job"),
        }
    }

    #[tokio::test]
    async fn a_killed_run_is_resumed_by_the_same_request_and_trashed_by_another() {
        let (context, _root) = context().await;
        let first = ours(&context, "s.a").await;
        let job = first.job.clone();
        let second = ours(&context, "s.a").await;
        assert_ne!(second.job, job, "a living run is left alone");
        drop(first);
        let resumed = ours(&context, "s.a").await;
        assert!(resumed.job == job && resumed.resumed && !second.resumed);
        drop(resumed);
        let other = ours(&context, "s.b").await;
        assert_ne!(other.job, job);
        assert_ne!(other.job, second.job);
        let left = context.folder.job(&job).exists().await.expect("looks");
        assert!(!left, "the other run's workspace is trashed");
    }

    #[tokio::test]
    async fn two_living_runs_see_their_own_job_and_not_the_others() {
        let (context, _root) = context().await;
        let (first, second) = (ours(&context, "s.a").await, ours(&context, "s.a").await);
        for (one, other) in [(&first, &second), (&second, &first)] {
            let open = |job| look::open(&context.folder, job, &one.owner, Duration::ZERO);
            assert!(matches!(open(&one.job).await, Ok(OpenedJob::Job(_))));
            assert!(matches!(open(&other.job).await, Ok(OpenedJob::NotOurs)));
        }
        let (job, owner) = (first.job.clone(), first.owner.clone());
        drop(first);
        let resumed = ours(&context, "s.a").await;
        assert_eq!((resumed.job, resumed.owner), (job, owner), "a resumed run goes on as the one before");
    }

    #[tokio::test]
    async fn a_killed_run_is_not_resumed_from_another_server_or_as_another_user() {
        let (context, root) = context().await;
        let mut killed = ours(&context, "s.a").await.job;
        for dsn in ["postgres://u@h:5433/d", "postgres://other@h/d", "postgres://u@h/d"] {
            let context = reading(dsn, &root.0).await;
            let job = ours(&context, "s.a").await.job;
            assert_ne!(job, killed, "{dsn}");
            let left = context.folder.job(&killed).exists().await.expect("looks");
            assert!(!left, "what was read elsewhere is trashed: {dsn}");
            killed = job;
        }
        let same = reading("postgres://u@h:5432/d", &root.0).await;
        assert_eq!(ours(&same, "s.a").await.job, killed);
    }

    #[tokio::test]
    async fn a_job_id_of_a_daemon_is_refused_and_its_workspace_left_alone() {
        let (context, _root) = context().await;
        let mut request = request("s.a");
        request.job_id = Some(JobId::parse("nightly").expect("valid"));
        let Ok(Place::Ours(place)) = take_place(&context, request.clone()).await else {
            panic!("it is free")
        };
        // The same request, owned by a daemon.
        let job = place.job.clone();
        drop(place);
        let workspace = context.folder.job(&job);
        let mut stored = workspace.request().await.expect("readable").expect("it is there");
        stored.owner = Owner::Daemons { vhost: "/".into(), prefix: "adu.export".into() };
        std::fs::remove_file(workspace.request_file()).expect("removed");
        workspace.store(&stored).await.expect("stored");
        match take_place(&context, request).await.expect("the folder works") {
            Place::Rejected(error) => assert_eq!(error.code, "job_id_taken"),
            Place::Ours(_) => panic!("it is the daemon's"),
            Place::Finished(_) => panic!("it runs"),
        }
        let left = workspace.request().await.expect("readable");
        assert_eq!(left, Some(stored));
    }

    #[tokio::test]
    async fn locks_are_held_on_files_that_are_open_for_writing() {
        let (context, _root) = context().await;
        let place = ours(&context, "s.a").await;
        let Workspace { _lock: held, .. } = place;
        let mode = fcntl_getfl(&held).expect("open") & OFlags::RWMODE;
        assert_ne!(mode, OFlags::RDONLY, "NFS refuses an exclusive lock");
        let entrance = lock(context.folder.identity_file(), FlockOperation::NonBlockingLockExclusive).await;
        let entrance = entrance.expect("it works on a file").expect("it is free again");
        assert_ne!(fcntl_getfl(&entrance).expect("open") & OFlags::RWMODE, OFlags::RDONLY);
    }
}
