//! Metrics, health and jobs over HTTP. Read-only: nothing here changes a job.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::HttpConfig;
use crate::message::JobId;
use crate::metrics::Metrics;

pub mod health;

pub use health::{Health, Heartbeat};

/// How long running answers may take after the server was told to stop.
const GRACE: Duration = Duration::from_secs(2);

/// The jobs as the API shows them.
#[async_trait]
pub trait JobsView: Send + Sync {
    /// All jobs, or the reason why they cannot be read.
    async fn jobs(&self) -> Result<Value, String>;
    /// One job, `None` if it is not known, or the reason why it cannot be read.
    async fn job(&self, id: &JobId) -> Result<Option<Value>, String>;
}

/// The sources of the answers.
#[derive(Clone)]
pub struct Views {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/healthz` and `/readyz`.
    pub health: Health,
    /// For `/api/jobs`.
    pub jobs: Arc<dyn JobsView>,
}

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The server cannot listen on the address.
    #[error("http.listen = \"{listen}\": {error}; {remedy}")]
    Bind {
        /// The setting.
        listen: String,
        /// The error of the system.
        error: std::io::Error,
        /// What to change.
        remedy: &'static str,
    },
    /// The running server failed.
    #[error("the HTTP server on {address} ended: {error}")]
    Serve {
        /// Where it listened.
        address: SocketAddr,
        /// The error of the system.
        error: std::io::Error,
    },
}

/// A server that has its port, but does not answer yet.
pub struct HttpServer {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
}

impl HttpServer {
    /// Opens the port of `http.listen`. `None` if that is `off`.
    ///
    /// # Errors
    /// If the address is not valid or in use.
    pub async fn bind(config: &HttpConfig, views: Views) -> Result<Option<Self>, HttpError> {
        let listen = config.listen.trim();
        if listen == "off" {
            return Ok(None);
        }
        let refused = |error: std::io::Error| HttpError::Bind {
            listen: listen.to_owned(),
            remedy: match error.kind() {
                std::io::ErrorKind::AddrInUse => {
                    "another program listens there: choose another port, or \"off\""
                }
                std::io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need privileges: choose another port"
                }
                std::io::ErrorKind::AddrNotAvailable => "this host has no such address",
                _ => "use host:port such as 127.0.0.1:9950, or \"off\"",
            },
            error,
        };
        let listener = TcpListener::bind(listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Some(Self { listener, address, router: router(views) }))
    }

    /// The address that the server listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` fires, and then lets running answers finish for a short time.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), HttpError> {
        let address = self.address;
        let orderly = stop.clone().cancelled_owned();
        let server = axum::serve(self.listener, self.router).with_graceful_shutdown(orderly);
        let too_late = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            ended = server => ended.map_err(|error| HttpError::Serve { address, error }),
            () = too_late => Ok(()),
        }
    }
}

fn router(views: Views) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/api/jobs", get(jobs))
        .route("/api/jobs/{id}", get(job))
        .with_state(views)
}

async fn metrics(State(views): State<Views>) -> Response {
    views.metrics.ready.set(views.health.ready().is_ok().into());
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, views.metrics.render()).into_response()
}

async fn healthz(State(views): State<Views>) -> Response {
    probe(views.health.alive())
}

async fn readyz(State(views): State<Views>) -> Response {
    probe(views.health.ready())
}

fn probe(state: Result<(), String>) -> Response {
    match state {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn jobs(State(views): State<Views>) -> Response {
    match views.jobs.jobs().await {
        Ok(jobs) => Json(jobs).into_response(),
        Err(why) => problem(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

async fn job(State(views): State<Views>, Path(id): Path<String>) -> Response {
    let id = match JobId::parse(&id) {
        Ok(id) => id,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match views.jobs.job(&id).await {
        Ok(Some(job)) => Json(job).into_response(),
        Ok(None) => {
            problem(StatusCode::NOT_FOUND, &format!("no job `{id}` is known here; `/api/jobs` lists them"))
        }
        Err(why) => problem(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

fn problem(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

#[cfg(test)]
mod tests;
