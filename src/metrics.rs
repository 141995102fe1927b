//! All metrics. Their names are stable, because dashboards and alerts of operators use them.
//!
//! All names have the prefix `adu_export_` and base units (seconds, bytes); counters end in `_total`. Label
//! values are fixed here, except those of `source`, which are names of the configuration.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::folder::files::archive::Status;
use crate::message::SourceName;
use crate::source::{ErrorKind, PoolUse};

const PREFIX: &str = "adu_export";

/// How the work on a chunk ended: the label `outcome` of `chunks_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkOutcome {
    /// The part and the record of the chunk are durable.
    Written,
    /// The chunk was done already, so nothing was written.
    Duplicate,
    /// A permanent error failed its table.
    Failed,
    /// The table of the chunk is planned again because of a value, the schema or the snapshot.
    Replanned,
    /// The message of the chunk was given back to the queue.
    Released,
    /// The job of the chunk was cancelled.
    Cancelled,
}

impl ChunkOutcome {
    const ALL: [Self; 6] =
        [Self::Written, Self::Duplicate, Self::Failed, Self::Replanned, Self::Released, Self::Cancelled];

    /// Its name in metrics and traces.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Duplicate => "duplicate",
            Self::Failed => "failed",
            Self::Replanned => "replanned",
            Self::Released => "released",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Raises a gauge by one for as long as this exists.
pub struct Raised<'a>(&'a IntGauge);

impl<'a> Raised<'a> {
    /// Raises the gauge.
    #[must_use]
    pub fn new(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// All metrics of a process.
pub struct Metrics {
    registry: Registry,
    /// Metrics of the process. They have their usual names, without our prefix.
    process: Registry,
    /// Rows written in finished chunks (`source`).
    pub rows_total: IntCounterVec,
    /// Bytes received from the source (`source`).
    pub bytes_read_total: IntCounterVec,
    /// Pages whose rows finished chunks took from them (`source`).
    pub pages_read_total: IntCounterVec,
    /// Pages that finished chunks wanted to take and then read by COPY (`source`).
    pub pages_recopied_total: IntCounterVec,
    /// Bytes of finished Parquet files (`source`).
    pub bytes_written_total: IntCounterVec,
    /// Finished Parquet files (`source`).
    pub files_written_total: IntCounterVec,
    /// Chunks whose work ended (`source`, `outcome`); see [`Metrics::chunk_ended`].
    pub chunks_total: IntCounterVec,
    /// Time from the start of the work on a chunk to its durable record (`source`).
    pub chunk_duration_seconds: HistogramVec,
    /// Time that a part spent in fsync, with its directory.
    pub fsync_duration_seconds: Histogram,
    /// Chunks being exported now.
    pub chunks_in_flight: IntGauge,
    /// Retries of chunks and plans (`kind`: kind of the error, as `ErrorKind::as_str` names it).
    pub retries_total: IntCounterVec,
    /// Tasks that the broker delivered before.
    pub redeliveries_total: IntCounter,
    /// Jobs by state (`state`). Only the active coordinator fills it.
    pub jobs: IntGaugeVec,
    /// Jobs in which no chunk ended for `timing.stalled_after`; 0 if another daemon coordinates.
    pub jobs_stalled: IntGauge,
    /// Jobs that this daemon finished (`status`: that of the archive).
    pub jobs_ended_total: IntCounterVec,
    /// Tables moved into place.
    pub tables_organized_total: IntCounter,
    /// Time from the acceptance of a job to its archive.
    pub job_duration_seconds: Histogram,
    /// Unix time at which this daemon last finished a job that completed. Take the maximum over all daemons.
    pub last_success_timestamp_seconds: Gauge,
    /// Age of the oldest snapshot that is held open; 0 without one, and if another daemon coordinates.
    pub oldest_snapshot_age_seconds: Gauge,
    /// How many daemons hold the snapshot that the fewest daemons hold; 0 without a snapshot, and if another daemon
    /// coordinates.
    pub snapshot_holders: IntGauge,
    /// Sessions of this daemon that held a snapshot, and that the server or the network ended.
    pub snapshot_sessions_lost_total: IntCounter,
    /// Connections of the pools (`source`, `state`: `idle`, `busy`, `waiting`).
    pub pool_connections: IntGaugeVec,
    /// 1 if `/readyz` says that the daemon can work, at the time of the scrape.
    pub ready: IntGauge,
    /// 1 while there is a session with the broker.
    pub broker_connected: IntGauge,
    /// 1 while the broker blocks publishing because of a memory or disk alarm.
    pub broker_blocked: IntGauge,
    /// Free bytes of the file system of the export folder.
    pub root_free_bytes: Gauge,
    /// `export.min_free_bytes`: workers pause below it.
    pub root_min_free_bytes: Gauge,
    /// 1 while the worker waits for free space.
    pub worker_paused: IntGauge,
    /// 1 while this daemon is the active coordinator.
    pub coordinator_active: IntGauge,
    /// Always 1. Its label is the version.
    pub build_info: GaugeVec,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Creates all metrics, with zero values, and those of the process.
    #[must_use]
    pub fn new() -> Self {
        let r = &Registry::new_custom(Some(PREFIX.into()), None).expect("the prefix is a valid name");
        let metrics = Self {
            rows_total: counters(r, "rows_total", "Rows written in finished chunks.", &["source"]),
            bytes_read_total: counters(r, "bytes_read_total", "Bytes received from the source.", &["source"]),
            pages_read_total: counters(
                r,
                "pages_read_total",
                "Pages whose rows were taken from them.",
                &["source"],
            ),
            pages_recopied_total: counters(
                r,
                "pages_recopied_total",
                "Pages of chunks that are read by pages whose rows were read by COPY.",
                &["source"],
            ),
            bytes_written_total: counters(
                r,
                "bytes_written_total",
                "Bytes of finished Parquet files.",
                &["source"],
            ),
            files_written_total: counters(r, "files_written_total", "Finished Parquet files.", &["source"]),
            chunks_total: counters(r, "chunks_total", "Chunks whose work ended.", &["source", "outcome"]),
            chunk_duration_seconds: register(
                r,
                HistogramVec::new(
                    histogram(
                        "chunk_duration_seconds",
                        "From the start of a chunk to its durable record.",
                        CHUNK,
                    ),
                    &["source"],
                ),
            ),
            fsync_duration_seconds: register(
                r,
                Histogram::with_opts(histogram(
                    "fsync_duration_seconds",
                    "Time that a part spent in fsync.",
                    FSYNC,
                )),
            ),
            chunks_in_flight: gauge(r, "chunks_in_flight", "Chunks being exported now."),
            retries_total: counters(r, "retries_total", "Retries after a transient error.", &["kind"]),
            redeliveries_total: register(
                r,
                IntCounter::new("redeliveries_total", "Messages that the broker delivered before."),
            ),
            jobs: gauges(r, "jobs", "Jobs by state; only on the active coordinator.", &["state"]),
            jobs_stalled: gauge(
                r,
                "jobs_stalled",
                "Jobs of which no chunk ended for timing.stalled_after; only on the active coordinator.",
            ),
            jobs_ended_total: counters(r, "jobs_ended_total", "Jobs that ended, by status.", &["status"]),
            tables_organized_total: register(
                r,
                IntCounter::new("tables_organized_total", "Tables moved into place."),
            ),
            job_duration_seconds: register(
                r,
                Histogram::with_opts(histogram(
                    "job_duration_seconds",
                    "From acceptance to archive of a job.",
                    JOB,
                )),
            ),
            last_success_timestamp_seconds: register(
                r,
                Gauge::new("last_success_timestamp_seconds", "Unix time at which a job last completed."),
            ),
            oldest_snapshot_age_seconds: register(
                r,
                Gauge::new(
                    "oldest_snapshot_age_seconds",
                    "Age of the oldest snapshot held open; 0 without one.",
                ),
            ),
            snapshot_holders: gauge(
                r,
                "snapshot_holders",
                "Daemons that hold the snapshot that the fewest hold; only on the active coordinator.",
            ),
            snapshot_sessions_lost_total: register(
                r,
                IntCounter::new(
                    "snapshot_sessions_lost_total",
                    "Sessions that held a snapshot and were ended from outside.",
                ),
            ),
            pool_connections: gauges(
                r,
                "pool_connections",
                "Connections of the pools.",
                &["source", "state"],
            ),
            ready: gauge(r, "ready", "1 while nothing keeps the daemon from working, as /readyz says."),
            broker_connected: gauge(r, "broker_connected", "1 while there is a session with the broker."),
            broker_blocked: gauge(
                r,
                "broker_blocked",
                "1 while the broker blocks publishing (memory or disk alarm).",
            ),
            root_free_bytes: register(
                r,
                Gauge::new("root_free_bytes", "Free bytes of the file system of the export folder."),
            ),
            root_min_free_bytes: register(
                r,
                Gauge::new("root_min_free_bytes", "Workers pause below so many free bytes; 0: never."),
            ),
            worker_paused: gauge(r, "worker_paused", "1 while the worker waits for free space."),
            coordinator_active: gauge(
                r,
                "coordinator_active",
                "1 while this daemon is the active coordinator.",
            ),
            build_info: register(
                r,
                GaugeVec::new(Opts::new("build_info", "Version of the program."), &["version"]),
            ),
            registry: r.clone(),
            process: Registry::new(),
        };
        let process = Box::new(ProcessCollector::for_self());
        metrics.process.register(process).expect("it is the only one in its registry");
        metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        // Prometheus counts the first increase only if the series existed before.
        for kind in RETRIED {
            metrics.retries_total.with_label_values(&[kind.as_str()]);
        }
        for status in Status::ALL {
            metrics.jobs_ended_total.with_label_values(&[status.as_str()]);
        }
        metrics
    }

    /// Creates the series of a source, because Prometheus counts a first increase only if the series existed
    /// before.
    pub fn add_source(&self, source: &SourceName) {
        for counter in [
            &self.rows_total,
            &self.bytes_read_total,
            &self.pages_read_total,
            &self.pages_recopied_total,
            &self.bytes_written_total,
            &self.files_written_total,
        ] {
            counter.with_label_values(&[source.as_str()]);
        }
        self.chunk_duration_seconds.with_label_values(&[source.as_str()]);
        for outcome in ChunkOutcome::ALL {
            self.chunks_total.with_label_values(&[source.as_str(), outcome.label()]);
        }
    }

    /// Counts a chunk whose work ended after `took`.
    pub fn chunk_ended(&self, source: &SourceName, outcome: ChunkOutcome, took: Duration) {
        self.chunks_total.with_label_values(&[source.as_str(), outcome.label()]).inc();
        if outcome == ChunkOutcome::Written {
            self.chunk_duration_seconds.with_label_values(&[source.as_str()]).observe(took.as_secs_f64());
        }
    }

    /// Counts a retry after an error of this kind.
    pub fn retried(&self, kind: &ErrorKind) {
        self.retries_total.with_label_values(&[kind.as_str()]).inc();
    }

    /// Replaces the numbers of jobs. Pass nothing if another daemon coordinates.
    pub fn set_jobs(&self, states: impl IntoIterator<Item = (&'static str, usize)>) {
        self.jobs.reset();
        for (state, count) in states {
            self.jobs.with_label_values(&[state]).set(count.try_into().unwrap_or(i64::MAX));
        }
    }

    /// Sets the numbers of connections of one pool.
    pub fn set_pool(&self, source: &SourceName, pool: PoolUse) {
        for (state, count) in [("idle", pool.idle), ("busy", pool.busy), ("waiting", pool.waiting)] {
            let gauge = self.pool_connections.with_label_values(&[source.as_str(), state]);
            gauge.set(count.try_into().unwrap_or(i64::MAX));
        }
    }

    /// All metrics in the text format of Prometheus.
    #[must_use]
    pub fn render(&self) -> String {
        let mut families = self.registry.gather();
        families.extend(self.process.gather());
        let mut text = Vec::new();
        match TextEncoder::new().encode(&families, &mut text) {
            Ok(()) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) => format!("# metrics cannot be encoded: {error}\n"),
        }
    }
}

/// Kinds of errors that are usually retried. Other kinds appear with their first retry.
const RETRIED: [ErrorKind; 4] =
    [ErrorKind::Transient, ErrorKind::Exhausted, ErrorKind::Unreachable, ErrorKind::Authentication];

const CHUNK: &[f64] = &[0.05, 0.25, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0];
const FSYNC: &[f64] = &[0.0005, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];
const JOB: &[f64] = &[1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 10_800.0, 43_200.0, 86_400.0];

fn histogram(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(name, help).buckets(buckets.to_vec())
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(name, help), labels))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(name, help))
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: prometheus::Result<C>) -> C {
    let collector = collector.expect("name, help and labels are valid literals");
    registry.register(Box::new(collector.clone())).expect("every name is registered once");
    collector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_in_the_text() {
        let metrics = Metrics::new();
        let source = SourceName::parse("warehouse").expect("valid");
        metrics.add_source(&source);
        metrics.chunk_ended(&source, ChunkOutcome::Written, Duration::from_secs(2));
        metrics.retried(&ErrorKind::Unreachable);
        metrics.set_jobs([("running", 3), ("waiting", 1)]);
        metrics.set_jobs([("running", 2)]);
        metrics.set_pool(&source, PoolUse { idle: 1, busy: 2, waiting: 0 });
        let text = metrics.render();
        for line in [
            r#"adu_export_chunks_total{outcome="written",source="warehouse"} 1"#,
            r#"adu_export_chunks_total{outcome="failed",source="warehouse"} 0"#,
            r#"adu_export_rows_total{source="warehouse"} 0"#,
            r#"adu_export_chunk_duration_seconds_sum{source="warehouse"} 2"#,
            r#"adu_export_retries_total{kind="unreachable"} 1"#,
            r#"adu_export_jobs{state="running"} 2"#,
            r#"adu_export_pool_connections{source="warehouse",state="busy"} 2"#,
            r#"adu_export_retries_total{kind="transient"} 0"#,
            r#"adu_export_jobs_ended_total{status="failed"} 0"#,
            r#"adu_export_chunk_duration_seconds_count{source="warehouse"} 1"#,
            "adu_export_broker_connected 0",
            "process_resident_memory_bytes",
            concat!(r#"adu_export_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("waiting\"} 1"), "a state without jobs is gone");
    }
}
