//! A collector of OpenTelemetry that keeps what it takes: OTLP over HTTP, in protobuf.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use prost::Message;

use super::services::block_on;

/// A collector on a port of its own. It lives as long as the test process.
pub(crate) struct Collector {
    pub(crate) port: u16,
    taken: Arc<Mutex<Vec<Taken>>>,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    /// Attributes of the resource.
    pub(crate) resource: BTreeMap<String, String>,
    pub(crate) spans: Vec<Traced>,
}

/// A span. Ids are in hexadecimal digits.
#[derive(Clone, Debug)]
pub(crate) struct Traced {
    pub(crate) name: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty for a span without a parent.
    pub(crate) parent: String,
    /// Nanoseconds since 1970.
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) attributes: BTreeMap<String, String>,
    /// The text of its status, if that is an error.
    pub(crate) error: Option<String>,
    pub(crate) kind: i32,
}

impl Collector {
    /// A collector at a free port.
    pub(crate) fn new() -> Self {
        Self::at(0)
    }

    /// A collector at this port.
    pub(crate) fn at(port: u16) -> Self {
        Self::answering(port, StatusCode::OK, Duration::ZERO)
    }

    /// A collector at this port that answers so, and after this time, whatever it is sent.
    pub(crate) fn answering(port: u16, answer: StatusCode, after: Duration) -> Self {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&taken);
        let take = move |uri: Uri, headers: HeaderMap, body: Bytes| async move {
            let taken = Taken::read(uri.path(), &headers, &body);
            keep.lock().unwrap_or_else(PoisonError::into_inner).push(taken);
            tokio::time::sleep(after).await;
            answer
        };
        let port = block_on(async {
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("a port");
            let port = listener.local_addr().expect("an address").port();
            let router = Router::new().fallback(take);
            tokio::spawn(async move { axum::serve(listener, router).await });
            port
        });
        Self { port, taken }
    }

    /// The base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// All requests so far.
    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All spans so far.
    pub(crate) fn spans(&self) -> Vec<Traced> {
        self.taken().into_iter().flat_map(|taken| taken.spans).collect()
    }

    /// Forgets what it took.
    pub(crate) fn forget(&self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Taken {
    fn read(path: &str, headers: &HeaderMap, body: &[u8]) -> Self {
        let headers: BTreeMap<String, String> = headers
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        assert_eq!(headers["content-type"], "application/x-protobuf");
        let mut plain = Vec::new();
        match headers.get("content-encoding").map(String::as_str) {
            Some("gzip") => flate2::read::GzDecoder::new(body).read_to_end(&mut plain).expect("gzip"),
            None => std::io::copy(&mut &*body, &mut plain).expect("copied") as usize,
            Some(other) => panic!("content-encoding {other}"),
        };
        let request = ExportTraceServiceRequest::decode(plain.as_slice()).expect("protobuf");
        let resource = request.resource_spans.iter().filter_map(|of| of.resource.as_ref());
        let resource = resource.flat_map(|resource| &resource.attributes).map(attribute).collect();
        let spans = request.resource_spans.iter().flat_map(|of| &of.scope_spans).flat_map(|of| &of.spans);
        let spans = spans.map(|span| Traced {
            name: span.name.clone(),
            trace: hex::encode(&span.trace_id),
            id: hex::encode(&span.span_id),
            parent: hex::encode(&span.parent_span_id),
            start: span.start_time_unix_nano,
            end: span.end_time_unix_nano,
            attributes: span.attributes.iter().map(attribute).collect(),
            // 2 is STATUS_CODE_ERROR.
            error: span.status.as_ref().filter(|status| status.code == 2).map(|s| s.message.clone()),
            kind: span.kind,
        });
        Self { path: path.to_owned(), headers, resource, spans: spans.collect() }
    }
}

impl Traced {
    /// An attribute; empty if it is not there.
    pub(crate) fn of(&self, attribute: &str) -> &str {
        self.attributes.get(attribute).map_or("", String::as_str)
    }

    /// A number.
    #[track_caller]
    pub(crate) fn number(&self, attribute: &str) -> u64 {
        self.of(attribute).parse().unwrap_or_else(|_| panic!("{attribute} of {self:?}"))
    }
}

fn attribute(pair: &KeyValue) -> (String, String) {
    let value = match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        other => panic!("{}: {other:?}", pair.key),
    };
    (pair.key.clone(), value)
}
