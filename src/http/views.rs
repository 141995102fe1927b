//! What pages, API and streams answer from.

use std::sync::Arc;

use axum::http::Uri;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::ask::{Asked, Problem, id};
use super::drawings::{Drawing, Drawings};
use super::health::Health;
use super::pages::{self, Page};
use crate::message::JobId;
use crate::metrics::Metrics;
use crate::status::{Shown, Status};

/// Viewers of changing pages at once.
pub(super) const VIEWERS: usize = 64;

/// The sources of the answers.
#[derive(Clone)]
pub struct Views {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/healthz` and `/readyz`.
    pub health: Health,
    /// For pages and API.
    pub status: Arc<Status>,
    /// Who may watch pages change.
    pub(super) viewers: Arc<Semaphore>,
    drawings: Arc<Drawings>,
    /// Fires when the server stops: streams end then.
    pub(super) closing: CancellationToken,
}

impl Views {
    /// The sources of the answers of a process.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, health: Health, status: Arc<Status>) -> Self {
        let viewers = Arc::new(Semaphore::new(VIEWERS));
        let (drawings, closing) = (Arc::default(), CancellationToken::new());
        Self { metrics, health, status, viewers, drawings, closing }
    }

    /// A job that is known here.
    ///
    /// # Errors
    /// When there is none, or the folder does not answer.
    pub(super) async fn job(&self, job: &str) -> Result<Shown, Problem> {
        let job = id(job)?;
        let found = self.status.job(&job).await.map_err(|e| Problem::unavailable(e.to_string()))?;
        found.ok_or_else(|| unknown(&job))
    }

    /// The drawing of a page, which all who ask for it share.
    pub(super) fn drawing(&self, uri: &Uri) -> Arc<Drawing> {
        self.drawings.of(uri.path_and_query().map_or("/", |path| path.as_str()))
    }

    /// The page that was asked for.
    ///
    /// # Errors
    /// When there is none, or the folder does not answer.
    pub(super) async fn page(&self, uri: &Uri) -> Result<Page, Problem> {
        match &Asked::parse(uri)? {
            Asked::Overview(page) => Ok(pages::overview::page(&self.status.overview(*page).await)),
            Asked::Manual => Ok(pages::manual::page()),
            Asked::Tables(wanted) => {
                let view =
                    self.status.tables(wanted).await.map_err(|e| Problem::unavailable(e.to_string()))?;
                Ok(pages::tables::page(&view, wanted))
            }
            Asked::Job(job, wanted) => {
                let found = self.job(job.as_str()).await?;
                let picture = found.picture();
                let page = pages::job::JobPage {
                    picture,
                    request: &self.status.request(picture),
                    details: self.status.has_details(),
                    wanted,
                    now: self.status.now(),
                };
                Ok(page.page())
            }
            Asked::Table(job, place, page) => {
                let found = self.job(job.as_str()).await?;
                let place = *place as usize;
                let table = found.picture().tables.get(place);
                let table = table
                    .ok_or_else(|| Problem::unknown(format!("job `{job}` has no table in place {place}")))?;
                let archived = found.archive().and_then(|archive| archive.tables.get(place));
                Ok(pages::table::page(found.picture(), table, archived, *page))
            }
        }
    }
}

/// There is no such job.
pub(super) fn unknown(job: &JobId) -> Problem {
    Problem::unknown(format!("no job `{job}` is known here; `/api/jobs` lists them"))
}
