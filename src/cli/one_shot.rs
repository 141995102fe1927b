//! The workspace of a one-shot export. Its process holds a lock on the job's
//! `request.json` for as long as it lives: who finds it unlocked knows that
//! the run was killed, and resumes it or trashes it.

use std::fs::File;
use std::path::PathBuf;

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use uuid::Uuid;

use crate::bus::{Outgoing, Properties, Session};
use crate::context::{Context, Sources};
use crate::folder::{VERSION, layout};
use crate::intake::{self, Desk, Wish};
use crate::job::archive::Archive;
use crate::job::outcome::{CancelCause, CancelMark, Owner, StoredRequest};
use crate::message::event::ErrorReport;
use crate::message::inbox::Wake;
use crate::message::{Control, ExportRequest, InboxMessage, JobId, SourceName};
use crate::source::SourceError;

/// Connects once: a person who waits wants to hear at once of a wrong address
/// or password, which daemons try again for a while.
///
/// # Errors
/// The source's own, with its remedy.
pub async fn reach(sources: &Sources, name: Option<&SourceName>) -> anyhow::Result<()> {
    // Without a name intake says what is wrong.
    let Some(entry) = name.and_then(|name| sources.get(name)) else { return Ok(()) };
    entry.source.check().await.map(|_| ()).map_err(|e| Explained(e).into())
}

/// A source's error with its remedy.
#[derive(Debug, thiserror::Error)]
#[error("{}{}", .0.message, .0.remedy.as_deref().map_or(String::new(), |r| format!("; {r}")))]
pub struct Explained(pub SourceError);

/// What was found for a request.
pub enum Place {
    /// A workspace of ours: new, or of a run that was killed.
    Ours(Workspace),
    /// The job has ended already.
    Finished(Box<Archive>),
    /// The request is refused.
    Rejected(ErrorReport),
}

/// A workspace that no other process works on.
pub struct Workspace {
    /// Its job.
    pub job: JobId,
    _lock: File,
}

/// Finds or makes the workspace for a request.
///
/// # Errors
/// When the folder refuses.
pub async fn take_place(context: &Context, request: ExportRequest) -> anyhow::Result<Place> {
    let desk = Desk {
        sources: context.sources().keys().cloned().collect(),
        owner: Owner::OneShot,
        now: context.now(),
        fresh: Uuid::new_v4(),
    };
    let body = serde_json::to_vec(&request)?;
    let mut wanted = match intake::read(&body, &Properties::default(), &desk) {
        Ok(Wish::Export(stored)) => *stored,
        Ok(Wish::Cancel(_) | Wish::Retry(_)) => anyhow::bail!("the request is no export"),
        Err(error) => return Ok(Place::Rejected(error)),
    };
    if let Some(job) = &request.job_id
        && let Some(archive) = context.folder.read::<Archive>(&layout::archive_by_id(job)).await?
    {
        if archive.request == wanted.request && archive.source == wanted.source {
            return Ok(Place::Finished(Box::new(archive)));
        }
        return Ok(Place::Rejected(ErrorReport::permanent(
            "job_id_taken",
            format!("job id `{job}` belongs to another request already"),
            "use a new job_id, or export into another directory",
        )));
    }
    // Looking, storing and locking are one step for other processes.
    let _entrance = lock(context, layout::TEMP, FlockOperation::LockExclusive).await?;
    for name in context.folder.store().list(layout::TEMP).await? {
        let Some(job) = layout::job_of_workspace(&name) else { continue };
        if let Some(place) = take_over(context, &job, &wanted, request.job_id.is_some()).await? {
            return Ok(Place::Ours(place));
        }
    }
    // What a killed run left is found again by its id.
    wanted.request.job_id = Some(wanted.job.clone());
    intake::store(context, &wanted).await?;
    let path = layout::request(&wanted.job);
    let lock = lock(context, &path, FlockOperation::NonBlockingLockExclusive).await?;
    let lock = lock.with_context(|| format!("job {} runs in another process already", wanted.job))?;
    Ok(Place::Ours(Workspace { job: wanted.job, _lock: lock }))
}

/// A workspace that a killed run left: ours if it is of the same request, else
/// on its way out. Those of daemons and of living runs are left alone.
async fn take_over(
    context: &Context,
    job: &JobId,
    wanted: &StoredRequest,
    named: bool,
) -> anyhow::Result<Option<Workspace>> {
    let path = layout::request(job);
    let Some(stored) = context.folder.read::<StoredRequest>(&path).await? else { return Ok(None) };
    if stored.owner != Owner::OneShot {
        return Ok(None);
    }
    let Some(lock) = lock(context, &path, FlockOperation::NonBlockingLockExclusive).await? else {
        return Ok(None);
    };
    let mut same = wanted.request.clone();
    if !named {
        same.job_id.clone_from(&stored.request.job_id);
    }
    if same == stored.request && wanted.source == stored.source {
        return Ok(Some(Workspace { job: job.clone(), _lock: lock }));
    }
    // A committed job is only to be tidied: the coordinator does that.
    if context.folder.store().stat(&layout::archive_by_id(job)).await?.is_none() {
        context.folder.discard(&layout::workspace(job), &format!("job_{job}")).await?;
    }
    Ok(None)
}

/// Cancels the job of this process.
///
/// # Errors
/// When the folder refuses.
pub async fn cancel(context: &Context, session: &dyn Session, job: &JobId) -> anyhow::Result<()> {
    let mark =
        CancelMark { v: VERSION, why: CancelCause::Request, by: Some("interrupt".into()), at: context.now() };
    match context.folder.create(&layout::cancel(job), &mark).await {
        // It has just ended by itself.
        Err(e) if e.is_gone() => {}
        other => drop(other?),
    }
    session.publish(Outgoing::Control(Control::Cancel { job: job.clone() })).await?;
    let wake = Wake { job: Some(job.clone()), chunk: None };
    session.publish(Outgoing::Inbox(InboxMessage::Wake(wake))).await?;
    Ok(())
}

/// Locks a file or directory below the root; none if another process has it.
async fn lock(context: &Context, path: &str, how: FlockOperation) -> anyhow::Result<Option<File>> {
    let path: PathBuf = context.folder.root().join(path);
    tokio::task::spawn_blocking(move || {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("open {}", path.display())),
        };
        match flock(&file, how) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(e).with_context(|| format!("lock {}", path.display())),
        }
    })
    .await?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Secret};
    use crate::folder::Folder;
    use crate::message::request::RequestMessage;
    use crate::metrics::Metrics;

    struct Root(PathBuf);

    impl Drop for Root {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    async fn context() -> (std::sync::Arc<Context>, Root) {
        let root = std::env::temp_dir().join(format!("adu-export-one-shot-{}", Uuid::new_v4().simple()));
        let (config, _) = Config::for_dsn(&Secret::new("postgres://u@h/d"), &root).expect("valid");
        let folder = Folder::init(root.clone(), None).await.expect("initializes");
        let sources = crate::daemon::sources(&config).expect("no connection is made");
        assert_eq!(sources.len(), 1);
        let metrics = std::sync::Arc::new(Metrics::new());
        (Context::new(config, folder, Owner::OneShot, sources, metrics), Root(root))
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
        assert_eq!(resumed.job, job);
        drop(resumed);
        let other = ours(&context, "s.b").await;
        assert_ne!(other.job, job);
        assert_ne!(other.job, second.job);
        let left = context.folder.store().stat(&layout::workspace(&job)).await.expect("looks");
        assert!(left.is_none(), "the other run's workspace is trashed");
    }
}
