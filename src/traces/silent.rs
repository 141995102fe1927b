//! What is left without the feature `otel`.

use tracing::{Span, warn};
use uuid::Uuid;

use super::{Ended, JobTrace, Known, TraceLayer};

pub(crate) fn prepare() -> Option<TraceLayer> {
    None
}

pub(crate) fn start(_instance: Uuid, _host: &str) {
    let asked = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
    if let Some(variable) =
        asked.into_iter().find(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty()))
    {
        let error = "this build sends no traces; build it with `--features otel`";
        warn!(variable, error, "a variable of OpenTelemetry cannot be obeyed; no traces are sent");
    }
}

pub(crate) fn end() {}

pub(super) fn adopt(_trace: &JobTrace<'_>, _span: &Span, _above: Known) {}

pub(super) fn send(_trace: &JobTrace<'_>, _ended: impl FnOnce() -> Vec<Ended>) {}
