//! What goes on in the fleet, as the status page, the API and `adu-export status` show it. Jobs come from the
//! export folder, daemons from what each says of itself; nobody is asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::context::Context;
use crate::folder::files::archive::Archive;
use crate::folder::{Folder, FolderError};
use crate::job::state::JobState;
use crate::message::JobId;

pub mod archives;
pub mod chunks;
mod details;
pub mod fleet;
pub mod look;
pub mod overview;
mod overviewing;
pub mod picture;
pub mod rates;
#[cfg(test)]
pub(crate) mod scene;
pub mod tables;
pub mod trouble;

pub use chunks::ChunksView;
pub use fleet::Fleet;
pub use look::Blind;
pub use overview::Overview;
pub use picture::Picture;
pub use tables::{JobTables, TablesView, Wanted};

use details::{hide_details, hide_of_archive, hide_of_picture};
use look::{Looker, PATIENCE};
use overviewing::Seen;
use picture::{AtWork, Running};

/// Jobs that have ended whose pictures are remembered.
const REMEMBERED: usize = 4;
/// For how long. A job may be pruned, and another one may get its id.
const SHOWN: Duration = Duration::from_secs(30);

/// Everything that can be shown.
pub struct Status {
    context: Arc<Context>,
    folder: Folder,
    fleet: Arc<Fleet>,
    looker: Looker,
    /// What the overview showed last, and when that was seen.
    seen: Mutex<Option<(Timestamp, Arc<Seen>)>>,
    /// Pictures of jobs that have ended, and when they were drawn.
    ended: Mutex<Vec<(Instant, Arc<Ended>)>>,
}

/// A job that has ended.
pub struct Ended {
    /// Its archive, without what `http.details` hides.
    pub archive: Archive,
    /// Its picture.
    pub picture: Picture,
}

/// A job, in its workspace or in its archive.
pub enum Shown {
    /// It runs.
    Running(Box<Picture>),
    /// It has ended.
    Ended(Arc<Ended>),
}

impl Shown {
    /// Its picture.
    #[must_use]
    pub fn picture(&self) -> &Picture {
        match self {
            Self::Running(picture) => picture,
            Self::Ended(ended) => &ended.picture,
        }
    }

    /// Its archive, if it has ended.
    #[must_use]
    pub fn archive(&self) -> Option<&Archive> {
        match self {
            Self::Running(_) => None,
            Self::Ended(ended) => Some(&ended.archive),
        }
    }
}

impl Status {
    /// The status as this process sees it.
    #[must_use]
    pub fn new(context: Arc<Context>, fleet: Arc<Fleet>) -> Self {
        let folder = context.folder.for_viewers();
        let looker = Looker::new(folder.clone(), context.owner.clone(), context.config.http.details);
        Self { looker, folder, context, fleet, seen: Mutex::default(), ended: Mutex::default() }
    }

    /// Frees memory if nobody watches.
    pub fn forget(&self) {
        if self.looker.forget() {
            self.forget_seen();
        }
        self.ended().retain(|(at, _)| at.elapsed() < SHOWN);
    }

    /// Makes all looks wait until the answer is dropped, as a slow folder does.
    #[cfg(test)]
    pub(crate) async fn hold(&self) -> impl Drop + use<> {
        self.looker.hold().await
    }

    /// The host of this process.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.context.host
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.context.now()
    }

    /// Whether filters and labels are shown.
    #[must_use]
    pub fn has_details(&self) -> bool {
        self.context.config.http.details
    }

    /// What daemons do now.
    fn running(&self) -> Running {
        let timeout = self.context.config.timing.alive_timeout.0;
        let alive = self.fleet.members().into_iter().filter(|m| m.silent() < timeout);
        Running::of(alive.flat_map(|member| {
            let presence = member.presence;
            let daemon = crate::folder::files::timeline::TimelineDaemon {
                host: presence.host,
                instance: presence.alive.instance,
            };
            presence.doing.into_iter().map(move |doing| AtWork { daemon: daemon.clone(), doing })
        }))
    }

    /// All jobs: those that run, and the newest that have ended.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub async fn jobs(&self) -> Result<Value, Blind> {
        const RECENT: usize = 100;
        let finished = self.folder.recent_archives(RECENT).await?;
        let (running, now) = (self.running(), self.context.now());
        let own =
            self.fleet.members().into_iter().find(|m| m.presence.alive.instance == self.context.instance);
        self.looker
            .look(|look| {
                let pictures: Vec<Picture> =
                    look.jobs.values().map(|state| self.picture(state, &running, now)).collect();
                let ended: Vec<_> = look.archives.ended().into_iter().take(RECENT).collect();
                json!({
                    "instance": self.context.instance,
                    "running": pictures.into_iter().map(|p| self.running_job(&p)).collect::<Vec<_>>(),
                    "ended": ended,
                    "finished": finished,
                    "holding": own.map(|member| member.presence.doing).unwrap_or_default(),
                })
            })
            .await
    }

    /// The picture of a job that runs.
    fn picture(&self, state: &JobState, running: &Running, now: Timestamp) -> Picture {
        let mut picture = Picture::of_state(state, running, now);
        if !self.has_details() {
            hide_of_picture(&mut picture);
        }
        picture
    }

    /// A job that runs, with its request.
    fn running_job(&self, picture: &Picture) -> Value {
        let mut value = json!(picture.brief);
        let mut request = picture.request.clone();
        if !self.has_details() {
            hide_details(&mut request);
        }
        value["request"] = json!(request);
        value
    }

    /// One job; none if it is not known.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub async fn job(&self, id: &JobId) -> Result<Option<Shown>, Blind> {
        if let Some(ended) = self.remembered(id) {
            return Ok(Some(Shown::Ended(ended)));
        }
        if let Some(archive) = self.folder.job(id).archive().await? {
            return Ok(Some(Shown::Ended(self.remember(archive))));
        }
        let (running, now) = (self.running(), self.context.now());
        let draw = |look: &look::Look| {
            if let Some(why) = look.damaged.get(id) {
                let path = format!("the workspace of job {id}");
                return Err(Blind::Folder(FolderError::Unreadable { path, why: why.clone() }));
            }
            Ok(look.jobs.get(id).map(|state| Shown::Running(Box::new(self.picture(state, &running, now)))))
        };
        let found = self.looker.look(draw).await??;
        if found.is_none() {
            // The job may just have been committed.
            let archive = self.folder.job(id).archive().await?;
            return Ok(archive.map(|archive| Shown::Ended(self.remember(archive))));
        }
        Ok(found)
    }

    /// One job as JSON: its archive if it has ended.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub async fn job_json(&self, id: &JobId) -> Result<Option<Value>, Blind> {
        Ok(self.job(id).await?.map(|job| match &job {
            Shown::Running(picture) => self.running_job(picture),
            Shown::Ended(ended) => json!(ended.archive),
        }))
    }

    /// The newest exports of tables.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub async fn tables(&self, wanted: &Wanted) -> Result<TablesView, Blind> {
        let archives = self.looker.look(|look| Arc::clone(&look.archives)).await?;
        let (destination, now) = (&*self.context.destination, self.context.now());
        let view = TablesView::of(&archives, wanted, destination, now);
        timeout(PATIENCE, view).await.map_err(|_| Blind::Slow)
    }

    fn ended(&self) -> MutexGuard<'_, Vec<(Instant, Arc<Ended>)>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self, id: &JobId) -> Option<Arc<Ended>> {
        let list = self.ended();
        let found = list.iter().find(|(at, ended)| ended.archive.job_id == *id && at.elapsed() < SHOWN)?;
        Some(Arc::clone(&found.1))
    }

    fn remember(&self, mut archive: Archive) -> Arc<Ended> {
        if !self.has_details() {
            hide_of_archive(&mut archive);
        }
        let picture = Picture::of_archive(&archive);
        let ended = Arc::new(Ended { archive, picture });
        let mut list = self.ended();
        list.retain(|(_, other)| other.archive.job_id != ended.archive.job_id);
        list.push((Instant::now(), Arc::clone(&ended)));
        let spare = list.len().saturating_sub(REMEMBERED);
        list.drain(..spare);
        ended
    }

    /// The request of a job as JSON, without what `http.details` hides.
    #[must_use]
    pub fn request(&self, picture: &Picture) -> Value {
        let mut request = picture.request.clone();
        if !self.has_details() {
            hide_details(&mut request);
        }
        json!(request)
    }
}

/// Running jobs, by their ids.
type Pictures = BTreeMap<JobId, Picture>;

#[cfg(test)]
mod tests;
