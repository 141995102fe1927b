//! A job is one trace, whichever processes worked for it.

use std::collections::{BTreeMap, BTreeSet};

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::support::{
    Collector, Daemon, Database, PATIENCE, Slow, Traced, eventually, fill, mid_job, project,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
/// A text of a filter, which nobody may see in a trace.
const PRIVATE: &str = "private-value";

/// Two large tables, and two small ones that share a chunk.
fn slow() -> Slow {
    let db = Database::empty();
    for (table, rows) in [("big", 30_000), ("other", 8_000), ("small", 10), ("tiny", 10)] {
        fill(&db, table, rows);
    }
    Slow::new(db)
}

/// Publishes a request that belongs to a trace.
fn request(slow: &Slow) -> String {
    let job = format!("job-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
    let body = json!({"job_id": job, "tables": [
        "public.big", "public.other", "public.tiny",
        {"table": "public.small", "where": format!("v <> '{PRIVATE}'")},
    ]});
    let mut headers = FieldTable::default();
    let context = format!("00-{TRACE}-{CALLER}-01");
    headers.insert("traceparent".into(), AMQPValue::LongString(context.as_str().into()));
    let properties = BasicProperties::default().with_message_id("m-1".into()).with_headers(headers);
    let properties = properties.with_correlation_id("c-1".into());
    slow.site.broker.publish(body.to_string().as_bytes(), properties);
    job
}

fn named<'a>(spans: &'a [Traced], name: &str) -> Vec<&'a Traced> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// The chunks of an archive, as first table of their batch, epoch, chunk and daemon.
fn chunks(archive: &Value) -> Vec<(String, String, String, String)> {
    let line = &archive["timeline"];
    let of = |chunk: &Value| {
        let number = |place: usize| chunk[place].as_u64().expect("a number");
        let table = &archive["tables"][number(0) as usize]["table_name"];
        let daemon = &line["daemons"][number(3) as usize]["instance"];
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        (text(table), number(1).to_string(), number(2).to_string(), text(daemon))
    };
    line["chunks"].as_array().expect("chunks").iter().map(of).collect()
}

/// The attributes of each span in `docs/TRACES.md`.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let page = std::fs::read_to_string(project().join("docs/TRACES.md")).expect("the page");
    let (_, rest) = page.split_once("\n## Spans\n").expect("the section");
    let section = rest.split("\n## ").next().expect("a piece");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    let of_row = |row: &str| {
        let (name, _) = row.split_once('`').expect("a name");
        let cell = row.rsplit(" | ").next().expect("a cell");
        (name.to_owned(), cell.split('`').skip(1).step_by(2).map(str::to_owned).collect())
    };
    rows.map(of_row).collect()
}

#[test]
fn a_job_is_one_trace_of_two_daemons_of_which_one_is_killed() {
    let (slow, collector) = (slow(), Collector::new());
    let url = collector.url();
    // Spans of the daemon that is killed arrive only if this delay is obeyed.
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
    let daemon = || slow.site.spawn_in(&slow.config(), &variables).ready();
    let mut daemons: Vec<Daemon> = vec![daemon(), daemon()];
    let job = request(&slow);
    daemons.iter().for_each(mid_job);
    let is_worker = |d: &Daemon| d.metric("adu_export_coordinator_active") == 0.0;
    let victim = daemons.iter().position(is_worker).expect("there is one");
    slow.proxy.slow_to(300_000);
    eventually("both have sent chunks", PATIENCE, || {
        let spans = collector.spans();
        let of: BTreeSet<&str> = named(&spans, "chunk").iter().map(|chunk| chunk.of("daemon")).collect();
        (of.len() == 2).then_some(())
    });
    daemons.remove(victim).kill();
    slow.site.assert_runs(&job, "the kill came while the job ran");
    let archive = slow.completes(&job);
    slow.site.assert_sound(&[&job], daemons);

    let spans = collector.spans();
    assert!(spans.iter().all(|span| span.trace == TRACE), "one trace");
    let instances: BTreeSet<String> =
        collector.taken().into_iter().map(|taken| taken.resource["service.instance.id"].clone()).collect();
    assert_eq!(instances.len(), 2, "two daemons");
    let ids: BTreeMap<&str, &Traced> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    assert_eq!(ids.len(), spans.len(), "each span once");

    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for span in &spans {
        let known = span.attributes.keys().filter(|name| *name != "daemon");
        seen.entry(span.name.clone()).or_default().extend(known.cloned());
    }
    assert_eq!(seen, documented());
    assert_job(&spans, &archive, &job);
    let survivor = named(&spans, "job")[0].of("daemon");
    assert_chunks(&spans, &archive, survivor);
    assert_parents(&spans);
    for span in &spans {
        assert!(span.start <= span.end, "{span:?}");
        let Some(parent) = ids.get(span.parent.as_str()) else {
            // The parent of a part may have died with its process.
            let excused = span.name == "job" || (span.name == "part" && span.of("daemon") != survivor);
            assert!(excused, "no parent: {span:?}");
            continue;
        };
        assert!(parent.start <= span.start, "{span:?} began before {parent:?}");
        let late = span.end.saturating_sub(parent.end);
        assert!(late < 1_000_000_000, "{span:?} ended {late} ns after {parent:?}");
        for (name, value) in &span.attributes {
            assert!(!value.contains(PRIVATE), "{name} of {span:?}");
        }
        assert_eq!(span.error, None, "{span:?}");
    }
}

#[track_caller]
fn assert_job(spans: &[Traced], archive: &Value, job: &str) {
    let [of_job] = named(spans, "job")[..] else { panic!("one span of the job") };
    assert_eq!((of_job.parent.as_str(), of_job.of("job")), (CALLER, job));
    assert_eq!((of_job.of("status"), of_job.of("messaging.message.id")), ("completed", "m-1"));
    // 5 is SPAN_KIND_CONSUMER.
    assert_eq!(of_job.kind, 5);
    assert_eq!(archive["performance"]["total_rows_exported"], of_job.number("rows"));
    let time = |field: &str| {
        let text = archive[field].as_str().expect("a time");
        let time: jiff::Timestamp = text.parse().expect("a time");
        u64::try_from(time.as_nanosecond()).expect("after 1970")
    };
    assert_eq!((of_job.start, of_job.end), (time("received_at"), time("committed_at")));

    let of_tables = named(spans, "table");
    for table in archive["tables"].as_array().expect("tables") {
        let name = table["table_name"].as_str().expect("a name");
        let of_table: Vec<_> = of_tables.iter().filter(|span| span.of("table") == name).collect();
        let [of_table] = of_table[..] else { panic!("{name}: {of_table:?}") };
        assert_eq!(of_table.parent, of_job.id);
        assert_eq!(table["rows"], of_table.number("rows"), "{name}");
    }
    assert_eq!(of_tables.len(), 4);
    for name in ["plan", "publish"] {
        let found = named(spans, name);
        assert!(!found.is_empty() && found.iter().all(|span| span.parent == of_job.id), "{name}: {found:?}");
    }
}

/// Every chunk that the archive names has its span and at least one part, with the rows of the archive.
#[track_caller]
fn assert_chunks(spans: &[Traced], archive: &Value, survivor: &str) {
    let mut of_victim = 0;
    for (table, epoch, chunk, daemon) in chunks(archive) {
        let is_it = |span: &&&Traced| {
            let name = span.of("table");
            (name == table || name.strip_prefix(&table).is_some_and(|rest| rest.starts_with(" and ")))
                && (span.of("epoch"), span.of("chunk")) == (epoch.as_str(), chunk.as_str())
                && span.of("daemon") == daemon
                && span.of("outcome") == "written"
        };
        let found: Vec<&Traced> = named(spans, "chunk").iter().filter(is_it).copied().collect();
        if daemon != survivor {
            // What the daemon had not sent when it was killed is lost.
            of_victim += found.len();
            continue;
        }
        let [found] = found[..] else { panic!("{table} {epoch} {chunk}: {found:?}") };
        let parts: Vec<_> = spans.iter().filter(|s| s.name == "part" && s.parent == found.id).collect();
        let rows: u64 = parts.iter().map(|part| part.number("rows")).sum();
        assert_eq!(rows, found.number("rows"), "{found:?}");
    }
    assert!(of_victim > 0, "spans of the killed daemon arrived");
}

/// A chunk of several tables belongs to the job, any other to its table.
#[track_caller]
fn assert_parents(spans: &[Traced]) {
    for chunk in named(spans, "chunk") {
        let parent = spans.iter().find(|span| span.id == chunk.parent);
        let parent = parent.unwrap_or_else(|| panic!("no parent: {chunk:?}"));
        match chunk.of("table").contains(" and ") {
            true => assert_eq!(parent.name, "job", "{chunk:?}"),
            false => {
                assert_eq!((parent.name.as_str(), parent.of("table")), ("table", chunk.of("table")));
            }
        }
    }
}

#[test]
fn a_request_that_is_not_traced_sends_nothing_and_one_without_a_trace_has_its_own() {
    let (slow, collector) = (slow(), Collector::new());
    slow.proxy.free();
    let url = collector.url();
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
    let daemon = slow.site.spawn_in(&slow.config(), &variables).ready();
    let mut headers = FieldTable::default();
    let context = format!("00-{TRACE}-{CALLER}-00");
    headers.insert("traceparent".into(), AMQPValue::LongString(context.as_str().into()));
    let body = json!({"job_id": "silent", "tables": ["public.tiny"]});
    slow.site.broker.publish(body.to_string().as_bytes(), BasicProperties::default().with_headers(headers));
    slow.site.completed("silent");
    let job = slow.request(&["other", "small", "tiny"]);
    slow.site.completed(&job);
    let failing = slow.site.request(json!({"tables": ["public.tiny", "public.nowhere"]}));
    slow.site.broker.events.wait_final(&failing, PATIENCE);
    daemon.stop();

    let spans = collector.spans();
    assert!(spans.iter().all(|span| span.trace != TRACE && span.of("job") != "silent"), "{spans:?}");
    let of = |job: &str| {
        let found = named(&spans, "job").into_iter().find(|span| span.of("job") == job);
        found.unwrap_or_else(|| panic!("{job}: {spans:?}"))
    };
    let (done, failed) = (of(&job), of(&failing));
    assert_ne!(done.trace, failed.trace, "each job has a trace of its own");
    assert_eq!((done.parent.as_str(), &done.error), ("", &None));
    let status = (failed.of("status"), failed.error.as_deref(), failed.of("error.type"));
    assert_eq!(status, ("partial", Some("partial"), "partial"));
    assert_parents(&spans);
    let mut shared = named(&spans, "chunk").into_iter().map(|chunk| chunk.of("table").contains(" and "));
    assert!(shared.any(|shared| shared), "small tables share a chunk: {spans:?}");
    for span in spans.iter().filter(|span| span.trace == done.trace) {
        assert!(span.name == "job" || spans.iter().any(|other| other.id == span.parent), "{span:?}");
    }
}
