//! Variables of OpenTelemetry are obeyed, or named. `settings.rs` has a test for each of its own; here are those
//! that the SDK reads, and one of each kind of the others.

use std::process::Command;
use std::time::Duration;

use axum::http::StatusCode;

use super::{ALL, Small};
use crate::support::{Collector, Taken, eventually, free_port, leashed, python, said};

#[test]
fn traces_go_where_the_variables_say() {
    let small = Small::new();
    let url = small.collector.url();
    assert_eq!(small.sent(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &url)]), ALL);
    let taken = small.collector.taken();
    assert!(taken.iter().all(|taken| taken.path == "/v1/traces"), "{taken:?}");
    let resource = &taken[0].resource;
    assert_eq!((resource["service.name"].as_str(), resource["host.name"].is_empty()), ("adu-export", false));
    assert!(!resource["service.version"].is_empty(), "{resource:?}");
    let spans = small.collector.spans();
    assert!(spans.iter().all(|span| span.of("daemon") == resource["service.instance.id"]), "{spans:?}");
    let job = spans.iter().find(|span| span.name == "job").expect("a job");
    assert_eq!((job.parent.as_str(), job.of("messaging.system")), ("", ""), "nobody asked by a message");
    assert!(spans.iter().all(|span| span.trace == job.trace), "{spans:?}");

    let whole = format!("{url}/api/custom");
    let both = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", whole.as_str()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1]:1"),
    ];
    assert_eq!(small.sent(&both), ALL);
    assert!(small.collector.taken().iter().all(|taken| taken.path == "/api/custom"));

    // Limits of the SDK have no say.
    small.sent(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &url), ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "1")]);
    let spans = small.collector.spans();
    assert!(spans.len() == ALL.len() && spans.iter().all(|span| span.attributes.len() > 2), "{spans:?}");
}

#[test]
fn headers_names_and_compression_are_as_the_variables_say() {
    let small = Small::new();
    let sent = |more: &[(&str, &str)]| -> Vec<Taken> {
        let url = small.collector.url();
        let endpoint = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str())];
        assert_eq!(small.sent(&[&endpoint, more].concat()), ALL, "{more:?}");
        small.collector.taken()
    };
    let taken = sent(&[
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-one=a%20b,x-two=c"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=mine,deployment.environment.name=test,host.name=h"),
    ]);
    let Taken { headers, resource, .. } = &taken[0];
    assert_eq!((headers["x-one"].as_str(), headers["x-two"].as_str()), ("a b", "c"));
    assert_eq!(headers["content-encoding"], "gzip");
    let named =
        ["service.name", "deployment.environment.name", "host.name"].map(|key| resource[key].as_str());
    assert_eq!(named, ["mine", "test", "h"], "the environment decides");

    let taken = sent(&[
        ("OTEL_SERVICE_NAME", "named"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=mine"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-one=all"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-one=traces"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1"),
    ]);
    assert_eq!(taken[0].resource["service.name"], "named");
    assert_eq!(taken[0].headers["x-one"], "traces");
    assert!(taken.iter().all(|taken| taken.spans.len() == 1), "one span a request");
}

#[test]
fn traces_can_be_switched_off_and_sampled() {
    let small = Small::new();
    let url = small.collector.url();
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str());
    for off in [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
    ] {
        assert_eq!(small.sent(&[endpoint, off]), [""; 0], "{off:?}");
    }
    // While a collector thinks, a queue of one span drops those that come then.
    for (queue, least, most) in [("2048", ALL.len(), ALL.len()), ("1", 1, ALL.len() - 1)] {
        let slow = Collector::answering(0, StatusCode::OK, Duration::from_millis(700));
        small.export(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &slow.url()),
            ("OTEL_BSP_MAX_QUEUE_SIZE", queue),
            ("OTEL_BSP_SCHEDULE_DELAY", "1"),
        ]);
        let spans = slow.spans().len();
        assert!((least..=most).contains(&spans), "{spans} spans with a queue of {queue}");
    }
}

#[test]
fn a_value_that_cannot_be_obeyed_is_named_and_nothing_is_sent() {
    let small = Small::new();
    let url = small.collector.url();
    for (variable, value, remedy) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "set http/protobuf"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "set otlp or none"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4318", "set a URL"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such/file.pem", "/no/such/file.pem"),
    ] {
        small.collector.forget();
        let secure = url.replace("http:", "https:");
        let base = if value.starts_with('/') { &secure } else { &url };
        let said = small.export(&[("OTEL_EXPORTER_OTLP_ENDPOINT", base), (variable, value)]);
        assert!(said.contains(variable) && said.contains(remedy), "{variable}: {said}");
        assert!(small.collector.taken().is_empty(), "{variable}");
    }
}

/// Takes posts over TLS from clients with a certificate, and writes their number down.
const SECURE: &str = r#"
import http.server, ssl, sys
class Taker(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        with open("taken", "a") as taken:
            print(self.path, len(body), self.connection.getpeercert()["subject"], file=taken)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile="ca.pem")
context.verify_mode = ssl.CERT_REQUIRED
context.load_cert_chain("server.pem", "server.key")
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Taker)
server.socket = context.wrap_socket(server.socket, server_side=True)
open("ready", "w").close()
server.serve_forever()
"#;

#[test]
fn a_collector_behind_tls_gets_traces_from_a_client_with_a_certificate() {
    let small = Small::new();
    let directory = small.site.path("tls");
    std::fs::create_dir(&directory).expect("a directory");
    let openssl = |arguments: &str| {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(&directory).output();
        let output = output.expect("run openssl");
        assert!(output.status.success(), "openssl {arguments}: {}", said(&output));
    };
    let key =
        |name: &str| format!("-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {name}.key");
    openssl(&format!("req -x509 {} -days 2 -subj /CN=test-ca -out ca.pem", key("ca")));
    std::fs::write(directory.join("names"), "subjectAltName=DNS:localhost\n").expect("written");
    for name in ["server", "client"] {
        openssl(&format!("req {} -subj /CN={name} -out {name}.csr", key(name)));
        openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out {name}.pem"
        ));
    }
    let port = free_port();
    let mut server = leashed(&python().to_string_lossy())
        .args(["-c", SECURE, &port.to_string()])
        .current_dir(&directory)
        .spawn()
        .expect("run python");
    eventually("it listens", crate::support::PATIENCE, || directory.join("ready").exists().then_some(()));

    let url = format!("https://localhost:{port}");
    let file = |name: &str| directory.join(name).to_string_lossy().into_owned();
    let (ca, certificate, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let trusted = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), ("OTEL_EXPORTER_OTLP_CERTIFICATE", &ca)];
    let known = [
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", certificate.as_str()),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &key),
    ];
    let said = small.export(&[&trusted[..1], &known].concat());
    assert!(
        said.contains("does not take traces") && said.contains("certificate"),
        "unknown authority: {said}"
    );
    assert!(!directory.join("taken").exists(), "{said}");
    let said = small.export(&[&trusted[..], &known].concat());
    assert!(!said.contains("does not take traces"), "{said}");
    let taken = std::fs::read_to_string(directory.join("taken")).expect("taken");
    assert!(taken.contains("/v1/traces") && taken.contains("client"), "{taken}");
    server.kill().expect("ended");
    server.wait().expect("ended");
}
