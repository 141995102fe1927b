//! What the variables of OpenTelemetry ask for. A value that cannot be obeyed is named; it is never guessed.
//!
//! The SDK itself reads `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_BSP_…`; here their values
//! are only checked, because it would silently use its defaults for those that it cannot read.

use std::path::PathBuf;
use std::time::Duration;

use axum::http::Uri;
use opentelemetry_sdk::trace::Sampler;

const DISABLED: &str = "OTEL_SDK_DISABLED";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const RATIO: &str = "OTEL_TRACES_SAMPLER_ARG";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
/// Where a collector listens if nothing else is said.
const DEFAULT_ENDPOINT: &str = "http://localhost:4318";
const TIMEOUT: Duration = Duration::from_secs(10);
const QUEUE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
/// Variables of the queue, with their largest values. The SDK reserves memory for all spans that may wait, and with a
/// delay of 0 it never rests.
const BATCHES: [(&str, u64); 3] =
    [("OTEL_BSP_SCHEDULE_DELAY", 3_600_000), (QUEUE, 65_536), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 65_536)];
/// Spans that may wait if nothing else is said.
const WAITING: u64 = 2048;
/// Longest time that a collector may take for a batch, in milliseconds.
const LONGEST: u64 = 3_600_000;

/// A variable that cannot be obeyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) variable: String,
    /// What is wrong and what to do. Never a secret.
    pub(super) error: String,
}

/// How traces are sent.
#[derive(Debug)]
pub(super) struct Settings {
    /// URL that spans are posted to.
    pub(super) endpoint: String,
    pub(super) timeout: Duration,
    /// Spans that may wait.
    pub(super) waiting: usize,
    pub(super) gzip: bool,
    pub(super) sampler: Sampler,
    /// `service.name`, if it is another one.
    pub(super) service: Option<String>,
    /// The variable and the file of authorities that are trusted; none for those of the system.
    pub(super) authorities: Option<(String, PathBuf)>,
    /// The variable, our certificate and its key.
    pub(super) identity: Option<(String, PathBuf, PathBuf)>,
}

/// Looks a variable up. An empty one counts as not set.
type Look<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Settings {
    /// The settings, or none if no traces are wanted.
    pub(super) fn of(read: Look<'_>) -> Result<Option<Self>, Wrong> {
        let look: Look<'_> = &|name| read(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        match look(DISABLED).map(|value| value.to_ascii_lowercase()).as_deref() {
            Some("true") => return Ok(None),
            None | Some("false") => {}
            Some(_) => return Err(wrong(DISABLED, "set true or false")),
        }
        let exporter = look(EXPORTER);
        match exporter.as_deref() {
            Some("none") => return Ok(None),
            None | Some("otlp") => {}
            Some(_) => return Err(wrong(EXPORTER, "set otlp or none; other exporters do not exist here")),
        }
        let endpoint = match (look(TRACES_ENDPOINT), look(ENDPOINT)) {
            (Some(url), _) => checked(TRACES_ENDPOINT, url)?,
            (None, Some(url)) => format!("{}/v1/traces", checked(ENDPOINT, url)?.trim_end_matches('/')),
            (None, None) if exporter.is_some() => format!("{DEFAULT_ENDPOINT}/v1/traces"),
            (None, None) => return Ok(None),
        };
        if let Some((variable, protocol)) = either(look, "PROTOCOL")
            && protocol != "http/protobuf"
        {
            return Err(wrong(
                &variable,
                "set http/protobuf, and the port at which the collector takes it (usually 4318)",
            ));
        }
        let gzip = match either(look, "COMPRESSION") {
            None => false,
            Some((variable, how)) => match how.as_str() {
                "gzip" => true,
                "none" => false,
                _ => return Err(wrong(&variable, "set gzip or none")),
            },
        };
        let timeout = match either(look, "TIMEOUT") {
            None => TIMEOUT,
            Some((variable, value)) => Duration::from_millis(up_to(LONGEST, &variable, &value)?),
        };
        let mut waiting = WAITING;
        for (variable, most) in BATCHES {
            // Not trimmed, because the SDK does not trim it either.
            if let Some(value) = read(variable).filter(|value| !value.trim().is_empty()) {
                let number = up_to(most, variable, &value)?;
                waiting = if variable == QUEUE { number } else { waiting };
            }
        }
        for variable in
            ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_RESOURCE_ATTRIBUTES"]
        {
            let pairs = look(variable).unwrap_or_default();
            if pairs.split_terminator(',').any(|pair| !pair.contains('=')) {
                return Err(wrong(variable, "set key=value pairs with commas between them"));
            }
        }
        let (of_traces, of_all) = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS");
        if read(of_traces).is_some_and(|pairs| pairs.trim().is_empty()) && look(of_all).is_some() {
            return Err(wrong(of_traces, "unset it: empty as it is, it hides OTEL_EXPORTER_OTLP_HEADERS"));
        }
        Ok(Some(Self {
            endpoint,
            waiting: usize::try_from(waiting).unwrap_or(usize::MAX),
            timeout,
            gzip,
            sampler: sampler(look)?,
            service: look("OTEL_SERVICE_NAME"),
            authorities: either(look, "CERTIFICATE").map(|(variable, path)| (variable, path.into())),
            identity: identity(look)?,
        }))
    }

    /// The collector as the log names it: without user, password and query.
    pub(super) fn collector(&self) -> String {
        let uri: Uri = self.endpoint.parse().unwrap_or_default();
        let port = uri.port_u16().map_or(String::new(), |port| format!(":{port}"));
        format!("{}://{}{port}{}", uri.scheme_str().unwrap_or("http"), uri.host().unwrap_or(""), uri.path())
    }

    pub(super) fn is_https(&self) -> bool {
        self.endpoint.to_ascii_lowercase().starts_with("https:")
    }
}

fn wrong(variable: &str, remedy: &str) -> Wrong {
    Wrong { variable: variable.into(), error: format!("its value cannot be used; {remedy}") }
}

/// The variable for traces, else the one for all signals, with its value.
fn either(look: Look<'_>, what: &str) -> Option<(String, String)> {
    let names = [format!("OTEL_EXPORTER_OTLP_TRACES_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")];
    names.into_iter().find_map(|name| look(&name).map(|value| (name, value)))
}

fn checked(variable: &str, url: String) -> Result<String, Wrong> {
    let uri: Option<Uri> = url.parse().ok();
    let is_url = |uri: Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    match uri.is_some_and(is_url) {
        true => Ok(url),
        false => Err(wrong(variable, "set a URL such as http://collector.example:4318")),
    }
}

fn up_to(most: u64, variable: &str, value: &str) -> Result<u64, Wrong> {
    let number = value.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| wrong(variable, &format!("set a whole number from 1 to {most}")))
}

fn sampler(look: Look<'_>) -> Result<Sampler, Wrong> {
    let ratio = || match look(RATIO) {
        None => Ok(1.0),
        Some(value) => {
            let ratio = value.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
            ratio.ok_or_else(|| wrong(RATIO, "set a number from 0 to 1"))
        }
    };
    let name = look(SAMPLER).unwrap_or_else(|| "parentbased_always_on".into());
    let (is_parent_based, root) = match name.strip_prefix("parentbased_") {
        Some(root) => (true, root),
        None => (false, name.as_str()),
    };
    let root = match root {
        "always_on" => Sampler::AlwaysOn,
        "always_off" => Sampler::AlwaysOff,
        "traceidratio" => Sampler::TraceIdRatioBased(ratio()?),
        _ => {
            let known = "set always_on, always_off, traceidratio, or one of these after parentbased_";
            return Err(wrong(SAMPLER, known));
        }
    };
    Ok(if is_parent_based { Sampler::ParentBased(Box::new(root)) } else { root })
}

fn identity(look: Look<'_>) -> Result<Option<(String, PathBuf, PathBuf)>, Wrong> {
    match (either(look, "CLIENT_CERTIFICATE"), either(look, "CLIENT_KEY")) {
        (Some((variable, certificate)), Some((_, key))) => {
            Ok(Some((variable, certificate.into(), key.into())))
        }
        (None, None) => Ok(None),
        (Some((variable, _)), None) => Err(wrong(&variable, "set OTEL_EXPORTER_OTLP_CLIENT_KEY too")),
        (None, Some((variable, _))) => Err(wrong(&variable, "set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE too")),
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
