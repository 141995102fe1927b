//! A collector that is away or slow delays nothing, and is logged once.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Small;
use crate::support::{Collector, PATIENCE, free_port};

/// Two jobs of a daemon complete and it stops as usual, whatever the collector does. Returns the log.
#[track_caller]
fn exported(small: &Small, url: &str, more: &[(&str, &str)]) -> String {
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", url), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
    let variables = [&variables[..], more].concat();
    let mut daemon = small.site.spawn_in(&small.site.config(), &variables).ready();
    for _ in 0..2 {
        small.site.export(json!({"tables": ["public.small"]}));
        // Several batches are sent in vain.
        std::thread::sleep(Duration::from_millis(800));
    }
    let stopped = Instant::now();
    daemon.terminate();
    assert!(daemon.ended(PATIENCE).success());
    assert!(stopped.elapsed() < Duration::from_secs(8), "it stopped after {:?}", stopped.elapsed());
    let log = daemon.log();
    assert_eq!(log.matches("the collector does not take traces").count(), 1, "{log}");
    log
}

#[test]
fn a_collector_that_is_away_delays_nothing_and_is_logged_once() {
    let small = Small::new();
    let log = exported(&small, &format!("http://127.0.0.1:{}", free_port()), &[]);
    assert!(log.contains("Connection refused"), "{log}");
}

#[test]
fn a_collector_that_never_answers_delays_nothing_and_is_logged_once() {
    let small = Small::new();
    // The kernel takes the connections, and nobody reads from them.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://127.0.0.1:{}", silent.local_addr().expect("an address").port());
    let log = exported(&small, &url, &[("OTEL_EXPORTER_OTLP_TIMEOUT", "300")]);
    assert!(log.contains("it has not answered within 300 ms"), "{log}");
}

#[test]
fn a_collector_that_comes_back_gets_what_comes_then() {
    let small = Small::new();
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
    let daemon = small.site.spawn_in(&small.site.config(), &variables).ready();
    small.site.export(json!({"tables": ["public.small"]}));
    crate::support::eventually("it is logged", PATIENCE, || {
        daemon.log().contains("the collector does not take traces").then_some(())
    });
    let collector = Collector::at(port);
    // Spans of the first job may still be on their way.
    let second = small.site.request(json!({"tables": ["public.small"]}));
    small.site.completed(&second);
    crate::support::eventually("the job's span arrives", PATIENCE, || {
        collector.spans().iter().any(|span| span.name == "job" && span.of("job") == second).then_some(())
    });
    assert!(daemon.log().contains("the collector takes traces again"), "{}", daemon.log());
    daemon.stop();
}
