//! The HTTP client that takes spans to the collector. It says once that a collector is away, not for every batch.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Handle;
use tracing::{info, warn};

use super::settings::{Settings, Wrong};
use crate::certificates::{self, CertificateError};
use crate::text::with_causes;

/// Bytes of an answer that are read. An answer has a few.
const MOST: usize = 64 << 10;
/// An outage that begins sooner after the one that was told before is not told.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

/// Sends requests on the program's runtime, for a thread that is none of its own.
#[derive(Debug)]
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: Handle,
    timeout: Duration,
    gzip: bool,
    collector: String,
    away: Mutex<Away>,
}

/// What is known of a collector, and what was told of it.
#[derive(Debug, Default)]
struct Away {
    is_away: bool,
    is_told: bool,
    told_at: Option<Instant>,
}

impl Client {
    /// A client that works on the present runtime.
    pub(super) fn new(settings: &Settings) -> Result<Self, Wrong> {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(security(settings)?)
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self {
            http: legacy::Client::builder(TokioExecutor::new()).build(connector),
            runtime: Handle::current(),
            timeout: settings.timeout,
            gzip: settings.gzip,
            collector: settings.collector(),
            away: Mutex::default(),
        })
    }

    /// Tells once that the collector is away, and once that it is there again; but not every minute, if it comes and goes.
    fn tell(&self, answer: &Result<Response<Bytes>, HttpError>) {
        let error = match answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answers {}", answer.status())),
            Err(error) => Some(with_causes(&**error)),
        };
        let collector = self.collector.as_str();
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        match error {
            Some(error) if !away.is_away => {
                let is_told = away.told_at.is_none_or(|at| at.elapsed() > BETWEEN_LINES);
                let told_at = if is_told { Some(Instant::now()) } else { away.told_at };
                *away = Away { is_away: true, is_told, told_at };
                if is_told {
                    warn!(collector, error, "the collector does not take traces; exports go on without");
                }
            }
            None if away.is_away => {
                away.is_away = false;
                if away.is_told {
                    info!(collector, "the collector takes traces again");
                }
            }
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        if self.gzip {
            let mut body = GzEncoder::new(Vec::new(), Compression::fast());
            body.write_all(request.body())?;
            *request.body_mut() = body.finish()?.into();
            request.headers_mut().insert("content-encoding", "gzip".parse()?);
        }
        let (http, timeout) = (self.http.clone(), self.timeout);
        let exchange = async move {
            let (head, body) = http.request(request.map(Full::new)).await?.into_parts();
            let body = Limited::new(body, MOST).collect().await?.to_bytes();
            Ok::<_, HttpError>(Response::from_parts(head, body))
        };
        // Timers, too, need the runtime.
        let exchange = self.runtime.spawn(async move { tokio::time::timeout(timeout, exchange).await });
        // The first error means that the runtime is ending, which says nothing of the collector.
        let answer = exchange.await?.unwrap_or_else(|_| {
            Err(format!("it has not answered within {} ms", self.timeout.as_millis()).into())
        });
        self.tell(&answer);
        answer
    }
}

/// TLS to the collector. Certificates are read only if its address asks for TLS.
fn security(settings: &Settings) -> Result<ClientConfig, Wrong> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring has what these versions need");
    if !settings.is_https() {
        return Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
    }
    let refused = |variable: &str| {
        let variable = variable.to_owned();
        move |error: CertificateError| Wrong { variable, error: error.to_string() }
    };
    let (variable, authorities) = match &settings.authorities {
        Some((variable, path)) => (variable.as_str(), certificates::of_file(path)),
        None => ("OTEL_EXPORTER_OTLP_CERTIFICATE", certificates::of_system()),
    };
    let authorities = authorities.map_err(refused(variable))?;
    let verifier = certificates::verifier(authorities, provider).map_err(refused(variable))?;
    let builder = builder.with_webpki_verifier(verifier);
    let Some((variable, certificate, key)) = &settings.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let (chain, key) = certificates::identity(certificate, key).map_err(refused(variable))?;
    let refused = |error: rustls::Error| Wrong { variable: variable.clone(), error: error.to_string() };
    builder.with_client_auth_cert(chain, key).map_err(refused)
}
