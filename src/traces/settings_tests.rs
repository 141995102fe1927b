use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// A collector is named, so that everything else is looked at.
const COLLECTOR: (&str, &str) = (ENDPOINT, "http://collector:4318");

fn asked(variables: &[(&str, &str)]) -> Result<Option<Settings>, Wrong> {
    let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
    Settings::of(&|name| variables.get(name).map(|value| (*value).to_owned()))
}

#[track_caller]
fn settings(variables: &[(&str, &str)]) -> Settings {
    let all = [&[COLLECTOR], variables].concat();
    asked(&all)
        .unwrap_or_else(|e| panic!("{variables:?}: {e:?}"))
        .unwrap_or_else(|| panic!("{variables:?}: off"))
}

#[track_caller]
fn refused(variables: &[(&str, &str)]) -> String {
    let wrong = asked(&[&[COLLECTOR], variables].concat()).expect_err("refused");
    assert!(!wrong.error.contains("secret"), "{}", wrong.error);
    wrong.variable
}

#[test]
fn nothing_is_sent_unless_somebody_asks_and_nobody_forbids_it() {
    assert!(asked(&[]).expect("valid").is_none());
    for off in [(DISABLED, "true"), (DISABLED, "TRUE"), (EXPORTER, "none")] {
        assert!(asked(&[COLLECTOR, off]).expect("valid").is_none(), "{off:?}");
    }
    for on in [(DISABLED, "false"), (DISABLED, ""), (EXPORTER, "otlp"), (EXPORTER, " ")] {
        assert!(asked(&[COLLECTOR, on]).expect("valid").is_some(), "{on:?}");
    }
    // Nobody reads the other variables then.
    assert!(asked(&[(DISABLED, "true"), (EXPORTER, "zipkin")]).expect("valid").is_none());
    assert_eq!(refused(&[(DISABLED, "1")]), DISABLED);
    for other in ["zipkin", "console", "otlp,console"] {
        assert_eq!(refused(&[(EXPORTER, other)]), EXPORTER, "{other}");
    }
}

#[test]
fn the_address_is_that_of_traces_or_one_below_the_base() {
    let of = |variables: &[(&str, &str)]| asked(variables).map(|s| s.expect("on").endpoint);
    for (variables, endpoint) in [
        (&[(EXPORTER, "otlp")][..], "http://localhost:4318/v1/traces"),
        (&[(ENDPOINT, "http://c:4318")], "http://c:4318/v1/traces"),
        (&[(ENDPOINT, "https://c/base/")], "https://c/base/v1/traces"),
        (&[(ENDPOINT, "http://c:4318"), (TRACES_ENDPOINT, "http://t:1/x")], "http://t:1/x"),
    ] {
        assert_eq!(of(variables).expect("valid"), endpoint, "{variables:?}");
    }
    for wrong in ["collector:4318", "collector", "ftp://c", "http://", "http://a b"] {
        assert_eq!(of(&[(ENDPOINT, wrong)]).expect_err(wrong).variable, ENDPOINT);
        assert_eq!(of(&[(TRACES_ENDPOINT, wrong)]).expect_err(wrong).variable, TRACES_ENDPOINT);
    }
    let shown = asked(&[(TRACES_ENDPOINT, "https://me:secret@c:1/p?key=secret")]);
    assert_eq!(shown.expect("valid").expect("on").collector(), "https://c:1/p");
}

#[test]
fn what_is_said_for_traces_counts_before_what_is_said_for_all() {
    let both = |what: &str, traces: &'static str, all: &'static str| {
        let names = [format!("OTEL_EXPORTER_OTLP_TRACES_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")];
        (settings(&[(&names[0], traces), (&names[1], all)]), settings(&[(&names[1], traces)]))
    };
    for one in <[Settings; 2]>::from(both("TIMEOUT", "77", "5000")) {
        assert_eq!(one.timeout, Duration::from_millis(77));
    }
    for one in <[Settings; 2]>::from(both("COMPRESSION", "gzip", "none")) {
        assert!(one.gzip);
    }
    for one in <[Settings; 2]>::from(both("CERTIFICATE", "/a.pem", "/b.pem")) {
        assert_eq!(one.authorities.expect("some").1, PathBuf::from("/a.pem"));
    }
    both("PROTOCOL", "http/protobuf", "grpc");
    let plain = settings(&[]);
    assert_eq!((plain.timeout, plain.gzip, plain.authorities), (TIMEOUT, false, None));
}

#[test]
fn a_certificate_of_our_own_has_a_key() {
    let certificate = ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/c.pem");
    let key = ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "/c.key");
    let (variable, first, second) = settings(&[certificate, key]).identity.expect("one");
    assert_eq!((variable.as_str(), first, second), (certificate.0, "/c.pem".into(), "/c.key".into()));
    assert_eq!(refused(&[certificate]), certificate.0);
    assert_eq!(refused(&[key]), key.0);
}

#[test]
fn samplers_are_those_of_opentelemetry() {
    for (name, ratio, sampler) in [
        ("", "", "ParentBased(AlwaysOn)"),
        ("always_on", "", "AlwaysOn"),
        ("always_off", "", "AlwaysOff"),
        ("traceidratio", "0.25", "TraceIdRatioBased(0.25)"),
        ("traceidratio", "", "TraceIdRatioBased(1.0)"),
        ("parentbased_always_on", "", "ParentBased(AlwaysOn)"),
        ("parentbased_always_off", "", "ParentBased(AlwaysOff)"),
        ("parentbased_traceidratio", "0", "ParentBased(TraceIdRatioBased(0.0))"),
    ] {
        let found = settings(&[(SAMPLER, name), (RATIO, ratio)]).sampler;
        assert_eq!(format!("{found:?}"), sampler, "{name} {ratio}");
    }
    for other in ["jaeger_remote", "xray", "parentbased_", "AlwaysOn"] {
        assert_eq!(refused(&[(SAMPLER, other)]), SAMPLER, "{other}");
    }
    for other in ["2", "-1", "NaN", "half"] {
        assert_eq!(refused(&[(SAMPLER, "traceidratio"), (RATIO, other)]), RATIO, "{other}");
    }
}

#[test]
fn values_that_nobody_could_obey_are_named() {
    for (variable, value) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0"),
        ("OTEL_BSP_SCHEDULE_DELAY", "5s"),
        ("OTEL_BSP_SCHEDULE_DELAY", " 100"),
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100000000"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "many"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization: secret"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=b,secret"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team"),
    ] {
        assert_eq!(refused(&[(variable, value)]), variable);
    }
    assert_eq!(settings(&[("OTEL_SERVICE_NAME", "mine")]).service.as_deref(), Some("mine"));
}

#[test]
fn the_page_lists_every_variable_that_is_read() {
    let read = RefCell::new(BTreeSet::new());
    let settings = Settings::of(&|name| {
        read.borrow_mut().insert(name.to_owned());
        match name {
            ENDPOINT => Some("http://c".into()),
            SAMPLER => Some("traceidratio".into()),
            _ => None,
        }
    });
    assert!(settings.expect("valid").is_some());
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/TRACES.md")).expect("the page");
    let (_, rest) = page.split_once("\n## Variables\n").expect("the section");
    let section = rest.split("\n## ").next().expect("a piece");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let listed = rows.flat_map(|row| {
        let cell = row.split(" | ").next().expect("a cell");
        let names = cell.split('`').filter(|name| name.starts_with("OTEL_"));
        names.map(str::to_owned).collect::<Vec<_>>()
    });
    assert_eq!(listed.collect::<BTreeSet<_>>(), read.into_inner());
}
