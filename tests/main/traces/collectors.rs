//! A collector that is away or slow delays nothing, and is logged once.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde_json::json;

use super::Small;
use crate::support::{Collector, PATIENCE, eventually, free_port};

/// Jobs of a daemon complete and it stops as usual, whatever the collector does. `tried` says how often it was tried so far.
/// Returns the log.
#[track_caller]
fn exported(small: &Small, url: &str, more: &[(&str, &str)], tried: impl Fn() -> usize) -> String {
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", url), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
    let variables = [&variables[..], more].concat();
    let mut daemon = small.site.spawn_in(&small.site.config(), &variables).ready();
    let mut before = 0;
    for _ in 0..2 {
        small.site.export(json!({"tables": ["public.small"]}));
        before = eventually("spans of the job are sent in vain", PATIENCE, || {
            Some(tried()).filter(|now| *now > before)
        });
    }
    let stopped = Instant::now();
    daemon.terminate();
    assert!(daemon.ended(PATIENCE).success());
    assert!(stopped.elapsed() < Duration::from_secs(8), "it stopped after {:?}", stopped.elapsed());
    let log = daemon.log();
    assert_eq!(log.matches("the collector does not take traces").count(), 1, "{log}");
    log
}

/// A listener that closes each connection, or keeps it without a word, and counts them.
fn listener(keeps: bool) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://127.0.0.1:{}", listener.local_addr().expect("an address").port());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            kept.extend(stream.ok().filter(|_| keeps));
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    (url, count)
}

#[test]
fn a_collector_that_hangs_up_delays_nothing_and_is_logged_once() {
    let small = Small::new();
    let (url, count) = listener(false);
    exported(&small, &url, &[], || count.load(Ordering::Relaxed));
}

#[test]
fn a_collector_that_never_answers_delays_nothing_and_is_logged_once() {
    let small = Small::new();
    let (url, count) = listener(true);
    let log =
        exported(&small, &url, &[("OTEL_EXPORTER_OTLP_TIMEOUT", "300")], || count.load(Ordering::Relaxed));
    assert!(log.contains("it has not answered within 300 ms"), "{log}");
}

#[test]
fn a_collector_that_refuses_delays_nothing_and_is_logged_once() {
    let small = Small::new();
    let collector = Collector::answering(0, StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO);
    let log = exported(&small, &collector.url(), &[], || collector.taken().len());
    assert!(log.contains("it answers 503"), "{log}");
}

#[test]
fn a_collector_that_comes_back_gets_what_comes_then() {
    let small = Small::new();
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
    let daemon = small.site.spawn_in(&small.site.config(), &variables).ready();
    small.site.export(json!({"tables": ["public.small"]}));
    eventually("it is logged", PATIENCE, || {
        daemon.log().contains("the collector does not take traces").then_some(())
    });
    let collector = Collector::at(port);
    // Spans of the first job may still be on their way.
    let second = small.site.request(json!({"tables": ["public.small"]}));
    small.site.completed(&second);
    eventually("the job's span arrives", PATIENCE, || {
        collector.spans().iter().any(|span| span.name == "job" && span.of("job") == second).then_some(())
    });
    assert!(daemon.log().contains("the collector takes traces again"), "{}", daemon.log());
    daemon.stop();
}
