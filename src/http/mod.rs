//! The status page, its API, metrics and health over HTTP. Read-only: nothing here changes a job.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::HttpConfig;

mod api;
mod ask;
mod drawings;
pub mod health;
mod live;
mod openapi;
pub mod pages;
mod views;

pub use health::{Health, Heartbeat};
pub use views::Views;

use pages::Here;

const STYLE: &str = include_str!("assets/style.css");
const LIVE: &str = include_str!("assets/live.js");
/// What a page may load, and from where.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// How long running answers may take after the server was told to stop.
const GRACE: Duration = Duration::from_secs(2);

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
    closing: CancellationToken,
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
        let closing = views.closing.clone();
        Ok(Some(Self { listener, address, router: router(views), closing }))
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
        let (stopped, closing) = (stop.clone(), self.closing);
        let orderly = async move {
            stopped.cancelled().await;
            closing.cancel();
        };
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
        .route("/", get(page))
        .route("/tables", get(page))
        .route("/operations", get(page))
        .route("/jobs/{id}", get(page))
        .route("/jobs/{id}/tables/{place}", get(page))
        .route("/live", get(live::live))
        .route("/style.css", get(|| asset("text/css; charset=utf-8", STYLE.into())))
        .route("/live.js", get(|| asset("text/javascript; charset=utf-8", LIVE.into())))
        .route("/icon.svg", get(|| asset("image/svg+xml", pages::icon())))
        .merge(api::router())
        .fallback(page)
        .layer(middleware::map_response(guarded))
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

/// Headers of every answer: nothing is loaded from elsewhere, and no other site shows or reads this.
async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn asset(kind: &'static str, text: String) -> Response {
    // Pages name their assets with a hash of them.
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=86400")];
    (headers, text).into_response()
}

/// A hash of the assets, which changes with them.
fn assets() -> &'static str {
    static HASH: LazyLock<String> = LazyLock::new(|| {
        let mut hash = crate::job::outcome::sha256(format!("{STYLE}{LIVE}{}", pages::icon()).as_bytes());
        hash.truncate(12);
        hash
    });
    &HASH
}

async fn page(State(views): State<Views>, uri: Uri) -> Response {
    let shown = views.drawing(&uri).get(views.page(&uri)).await;
    let (status, page) = match shown {
        Ok(page) => (StatusCode::OK, page),
        Err(problem) => (problem.status, pages::problem(title(problem.status), &problem.message).into()),
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let here = Here { host: views.status.host().to_owned(), path, assets: assets().to_owned() };
    (status, Html(page.document(&here))).into_response()
}

fn title(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::BAD_REQUEST => "Not understood",
        _ => "Not available now",
    }
}

#[cfg(test)]
mod tests;
