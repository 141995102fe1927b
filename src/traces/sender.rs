//! From spans to the collector: one queue of spans, which the SDK's thread sends in batches. If it is full,
//! spans are dropped. A collector that is slow or away delays nothing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::{SpanKind, Status, TraceContextExt, TracerProvider};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, Sampler, SdkTracerProvider, Span as SdkSpan, SpanData, SpanEvents, SpanLimits,
    SpanLinks, SpanProcessor,
};
use tracing::level_filters::LevelFilter;
use tracing::{Span, info, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use uuid::Uuid;

use super::client::Client;
use super::ids::{self, Trace};
use super::settings::{Settings, Wrong};
use super::{Ended, JobTrace, Known, TARGET, TraceLayer, Value, number};

/// How long the end of the process waits for the last spans.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Spans of one job that are queued at once, if the queue has room for them.
const AT_ONCE: usize = 256;
/// Whether more spans of a job than that are being sent. One job at a time has this, so memory is bounded.
static IN_PORTIONS: AtomicBool = AtomicBool::new(false);

/// What the environment asks for.
static ASKED: OnceLock<Result<Option<Settings>, Wrong>> = OnceLock::new();
static SENDER: OnceLock<Sender> = OnceLock::new();

/// Reads the environment. Returns what must be part of the subscriber if traces are wanted.
pub(crate) fn prepare() -> Option<TraceLayer> {
    let asked = ASKED.get_or_init(|| Settings::of(&|name| std::env::var(name).ok()));
    matches!(asked, Ok(Some(_))).then(layer)
}

fn layer() -> TraceLayer {
    // All spans have a parent, which knows whether the job is traced.
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)))
        // Else the SDK reads limits from the environment and leaves attributes out without a word.
        .with_span_limits(SpanLimits::default())
        .with_resource(Resource::builder_empty().build())
        .with_span_processor(Outbox)
        .build();
    let sent = filter_fn(|metadata| metadata.is_span() && metadata.target() == TARGET);
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer_with_scope(scope()))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false)
        .with_filter(sent.with_max_level_hint(LevelFilter::ERROR))
        .boxed()
}

fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("adu-export").with_version(env!("CARGO_PKG_VERSION")).build()
}

/// Begins to send spans, if the environment asks for it. The runtime must be there.
pub(crate) fn start(instance: Uuid, host: &str) {
    let started = match ASKED.get() {
        Some(Ok(Some(settings))) => Sender::new(settings, instance, host).map(|sender| {
            let _ = SENDER.set(sender);
            let collector = settings.collector();
            info!(collector, "traces are sent");
        }),
        Some(Err(wrong)) => Err(wrong.clone()),
        Some(Ok(None)) | None => Ok(()),
    };
    if let Err(Wrong { variable, error }) = started {
        warn!(variable, error, "a variable of OpenTelemetry cannot be obeyed; no traces are sent");
    }
}

/// Sends what is left, before the runtime ends.
pub(crate) fn end() {
    if let Some(sender) = SENDER.get() {
        // What a collector does not take in time is lost.
        let _ = sender.processor.shutdown_with_timeout(LAST_WORDS);
    }
}

/// Puts a span below one of its job.
pub(super) fn adopt(trace: &JobTrace<'_>, span: &Span, above: Known) {
    let Some(sender) = SENDER.get() else { return };
    if span.is_disabled() {
        return;
    }
    let above = Trace::of(trace, &sender.sampler).context(ids::span(trace, above));
    // Refused only after a span was entered.
    let _ = span.set_parent(Context::new().with_remote_span_context(above));
}

/// Sends spans that are over.
pub(super) fn send(trace: &JobTrace<'_>, ended: impl FnOnce() -> Vec<Ended>) {
    let Some(sender) = SENDER.get() else { return };
    let found = Trace::of(trace, &sender.sampler);
    if !found.sampled {
        return;
    }
    let spans: Vec<SpanData> = ended().into_iter().map(|ended| data(trace, &found, ended)).collect();
    if spans.len() <= sender.at_once || IN_PORTIONS.swap(true, Ordering::Relaxed) {
        spans.into_iter().for_each(|span| sender.queue(span));
        return;
    }
    // More spans than the queue has room for. The end of the process does not wait for them.
    tokio::task::spawn_blocking(move || {
        let mut spans = spans.into_iter();
        while spans.len() > 0 {
            spans.by_ref().take(sender.at_once).for_each(|span| sender.queue(span));
            if sender.processor.force_flush().is_err() {
                break;
            }
        }
        IN_PORTIONS.store(false, Ordering::Relaxed);
    });
}

fn data(trace: &JobTrace<'_>, found: &Trace, ended: Ended) -> SpanData {
    let (name, parent) = match ended.of {
        Known::Job => ("job", found.caller),
        Known::Table(..) => ("table", ids::span(trace, Known::Job)),
    };
    let value = |(key, value)| match value {
        Value::Text(text) => KeyValue::new(key, text),
        Value::Number(count) => KeyValue::new(key, number(count)),
    };
    let mut attributes: Vec<KeyValue> = ended.attributes.into_iter().map(value).collect();
    attributes.extend(ended.error.clone().map(|code| KeyValue::new("error.type", code)));
    SpanData {
        span_context: found.context(ids::span(trace, ended.of)),
        parent_span_id: parent,
        parent_span_is_remote: ended.of == Known::Job,
        span_kind: if ended.consumes { SpanKind::Consumer } else { SpanKind::Internal },
        name: name.into(),
        start_time: ended.start.into(),
        end_time: ended.end.max(ended.start).into(),
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: ended.error.map_or(Status::Unset, Status::error),
        instrumentation_scope: scope(),
    }
}

/// What sends spans.
#[derive(Debug)]
struct Sender {
    processor: BatchSpanProcessor,
    at_once: usize,
    sampler: Sampler,
    daemon: String,
}

impl Sender {
    fn new(settings: &Settings, instance: Uuid, host: &str) -> Result<Self, Wrong> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new(settings)?)
            .with_endpoint(settings.endpoint.as_str())
            .with_timeout(settings.timeout)
            .build()
            .map_err(|e| Wrong { variable: "OTEL_EXPORTER_OTLP_ENDPOINT".into(), error: e.to_string() })?;
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        processor.set_resource(&resource(settings, instance, host));
        let at_once = AT_ONCE.min(settings.waiting);
        Ok(Self { processor, at_once, sampler: settings.sampler.clone(), daemon: instance.to_string() })
    }

    fn queue(&self, mut span: SpanData) {
        span.attributes.push(KeyValue::new("daemon", self.daemon.clone()));
        self.processor.on_end(span);
    }
}

/// Who sends. The environment may say it otherwise.
fn resource(settings: &Settings, instance: Uuid, host: &str) -> Resource {
    let named = settings.service.clone().map(|name| KeyValue::new("service.name", name));
    Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes([
            KeyValue::new("service.name", "adu-export"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance.to_string()),
            KeyValue::new("host.name", host.to_owned()),
        ])
        .with_detector(Box::new(EnvResourceDetector::new()))
        .with_attributes(named)
        .build()
}

/// Where the SDK leaves spans that are over: the layer exists before the sender.
#[derive(Debug)]
struct Outbox;

impl SpanProcessor for Outbox {
    fn on_start(&self, _span: &mut SdkSpan, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if let Some(sender) = SENDER.get() {
            sender.queue(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}
