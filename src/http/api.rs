//! What the pages show, as JSON.

use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use serde_json::json;

use super::ask::{ChunksQuery, JobTablesQuery, PageQuery, Problem, TablesQuery, id, query};
use super::openapi;
use super::views::{Views, unknown};
use crate::status::{ChunksView, JobTables};

/// The routes below `/api`.
pub(super) fn router() -> Router<Views> {
    Router::new()
        .route("/api/overview", get(overview))
        .route("/api/jobs", get(jobs))
        .route("/api/jobs/{id}", get(job))
        .route("/api/jobs/{id}/tables", get(job_tables))
        .route("/api/jobs/{id}/chunks", get(job_chunks))
        .route("/api/tables", get(tables))
        .route("/api/openapi.json", get(document))
        .route("/api/{*rest}", get(nothing))
}

type Answer = Result<Response, Problem>;

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.message }))).into_response()
    }
}

fn answer(value: &impl Serialize) -> Answer {
    Ok(Json(value).into_response())
}

async fn overview(State(views): State<Views>, uri: Uri) -> Answer {
    let page = query::<PageQuery>(&uri)?.page.map_or(1, std::num::NonZeroU32::get);
    answer(&views.status.overview(page).await)
}

async fn jobs(State(views): State<Views>) -> Answer {
    answer(&views.status.jobs().await.map_err(|e| Problem::unavailable(e.to_string()))?)
}

async fn job(State(views): State<Views>, Path(job): Path<String>) -> Answer {
    let job = id(&job)?;
    let found = views.status.job_json(&job).await.map_err(|e| Problem::unavailable(e.to_string()))?;
    answer(&found.ok_or_else(|| unknown(&job))?)
}

async fn job_tables(State(views): State<Views>, Path(job): Path<String>, uri: Uri) -> Answer {
    let wanted = query::<JobTablesQuery>(&uri)?.wanted()?;
    answer(&JobTables::of(views.job(&job).await?.picture(), &wanted))
}

async fn job_chunks(State(views): State<Views>, Path(job): Path<String>, uri: Uri) -> Answer {
    let table = query::<ChunksQuery>(&uri)?.table;
    let found = views.job(&job).await?;
    if let Some(place) = table.filter(|place| found.picture().tables.get(*place as usize).is_none()) {
        return Err(Problem::unknown(format!("job `{job}` has no table in place {place}")));
    }
    answer(&ChunksView::of(found.picture(), table))
}

async fn tables(State(views): State<Views>, uri: Uri) -> Answer {
    let wanted = query::<TablesQuery>(&uri)?.wanted()?;
    answer(&views.status.tables(&wanted).await.map_err(|e| Problem::unavailable(e.to_string()))?)
}

async fn document() -> Answer {
    answer(openapi::document())
}

async fn nothing() -> Answer {
    Err(Problem::unknown("there is nothing here; `/api/openapi.json` lists what there is"))
}
