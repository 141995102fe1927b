//! Measures what a large job costs the coordinator: bytes of memory and of the plan file per chunk, and
//! microseconds per decision. In one decision a record arrives, its consequences are decided, and the next
//! chunk is dealt. There is neither a server nor a folder.
//!
//! `cargo run --release --example decide_speed [chunks]`

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use adu_export::job::decide::{Circumstances, Effect, decide};
use adu_export::job::outcome::{NewJob, Outcome, Owner, TableOutcome, TableResult};
use adu_export::job::record::{PartReference, Record, RecordedPart, RecordedTable};
use adu_export::job::state::JobState;
use adu_export::job::window::{SourceLimits, Window, WindowSettings};
use adu_export::message::inbox::Alive;
use adu_export::message::output::PARTITIONS_MAX;
use adu_export::message::request::RequestMessage;
use adu_export::message::setting::Compression;
use adu_export::message::{BatchNo, ChunkNo, Epoch, JobId, SourceName, TableNo, Task};
use adu_export::plan::ExportPlan;
use adu_export::plan::export_plan::{PlannedTable, WriterSettings};
use adu_export::relation::{Frozen, Snapshot, Strategy};
use jiff::Timestamp;
use uuid::Uuid;

/// An allocator that counts the allocated bytes.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all calls go to the system's allocator.
#[expect(unsafe_code, reason = "an allocator that counts")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

fn main() -> anyhow::Result<()> {
    let chunks = std::env::args().nth(1).map_or(Ok(20_000), |a| a.parse())?;
    run("one table", 1, chunks)?;
    run("tables of one chunk, each a batch of its own", chunks, 1)?;
    Ok(())
}

/// Simulates a job from its plan to its last outcome.
fn run(what: &str, tables: u32, chunks: u32) -> anyhow::Result<()> {
    let before = ALLOCATED.load(Ordering::Relaxed);
    let source = SourceName::parse("warehouse")?;
    let mut job = job(&source)?;
    let plan = plan(&job, &source, tables, chunks);
    let plan_bytes = serde_json::to_vec(&plan)?.len();
    job.add_plan(plan);
    job.said.plans = 1;
    let id = job.id().clone();
    let mut jobs = BTreeMap::from([(id.clone(), job)]);
    let mut window = Window::default();
    let settings = WindowSettings {
        sources: BTreeMap::from([(source.clone(), SourceLimits::default())]),
        alive_timeout: Duration::from_secs(30),
        ..WindowSettings::default()
    };
    window.heard(alive(&source), Duration::ZERO);
    let total = f64::from(tables) * f64::from(chunks);
    let mut out = window.deal(&mut jobs, Duration::ZERO, &settings);
    let mut slowest = Duration::ZERO;
    let (mut decisions, mut peak) = (0_u32, 0);
    let began = Instant::now();
    while let Some(task) = out.pop() {
        let Task::Chunk(chunk) = task else { anyhow::bail!("the plan is there") };
        let began = Instant::now();
        let at = circumstances();
        let job = jobs.get_mut(&id).expect("the job");
        let batch = job.batches.get_mut(&chunk.batch_id()).expect("a batch");
        batch.record(chunk.chunk, record(chunk.batch.first(), chunk.chunk));
        for effect in decide(job, &at) {
            // In a daemon this costs time in the folder, which is not measured here.
            if let Effect::Settle(_, batch_id, _) = effect {
                let batch = job.batches.get_mut(&batch_id).expect("a batch");
                batch.outcome = Some(Arc::new(outcome(&batch.tables)));
                batch.told = true;
            }
        }
        window.tidy(&jobs, at.up, &settings);
        out.extend(window.deal(&mut jobs, at.up, &settings));
        slowest = slowest.max(began.elapsed());
        decisions += 1;
        peak = peak.max(ALLOCATED.load(Ordering::Relaxed));
    }
    let mean = began.elapsed() / decisions;
    anyhow::ensure!(
        f64::from(decisions) == total && jobs[&id].is_settled(),
        "{decisions} of {total} decisions"
    );
    println!(
        "{total} chunks in {what}: {:.1} µs per decision, the slowest {:.0} µs; {:.0} bytes of memory and {:.0} of the plan file per chunk",
        mean.as_secs_f64() * 1e6,
        slowest.as_secs_f64() * 1e6,
        (peak - before) as f64 / total,
        plan_bytes as f64 / total,
    );
    Ok(())
}

fn job(source: &SourceName) -> anyhow::Result<JobState> {
    let RequestMessage::Export(request) = RequestMessage::parse(br#"{"tables": ["s.*"]}"#)? else {
        anyhow::bail!("it is an export")
    };
    let (job, received) = (JobId::parse("job")?, Timestamp::UNIX_EPOCH);
    let owner = Owner::Daemons { vhost: "/".into(), prefix: "p".into() };
    Ok(JobState::new(NewJob::new(job, source.clone(), *request).taken(owner, received), Duration::ZERO))
}

fn plan(job: &JobState, source: &SourceName, tables: u32, chunks: u32) -> ExportPlan {
    let table = |number: u32| PlannedTable {
        only: false,
        contains: Vec::new(),
        range_filter: None,
        number: TableNo(number),
        batch: BatchNo(number),
        schema: "public".into(),
        name: format!("table_{number}"),
        base: format!("public_table_{number}"),
        directory: None,
        full: true,
        columns: vec![],
        partition_by: vec![],
        key: vec!["id".into()],
        filter: None,
        high_water_mark: None,
        strategy: match chunks {
            1 => Strategy::Single,
            n => Strategy::Range {
                column: "id".into(),
                bounds: (1..n).map(|b| (u64::from(b) * 1_000_000).to_string()).collect(),
                order: Frozen::of(&"bigint"),
                nulls: false,
            },
        },
        read: Default::default(),
        reason: "numeric primary key".into(),
        note: None,
        estimated_rows: 1_000_000,
        counted_rows: None,
        snapshot_rows: None,
    };
    ExportPlan {
        v: 1,
        job: job.id().clone(),
        epoch: Epoch(1),
        source: source.clone(),
        planned_at: Timestamp::UNIX_EPOCH,
        ready: Uuid::nil(),
        destination: None,
        traceparent: None,
        snapshot: Some(Snapshot {
            lineage: Uuid::nil(),
            time: Timestamp::UNIX_EPOCH,
            recall: Frozen::default(),
        }),
        session: vec![],
        writer: WriterSettings {
            compression: Compression::Snappy,
            row_group_bytes: 1,
            file_bytes: None,
            partitions_max: PARTITIONS_MAX,
            types: Default::default(),
        },
        on_conflict: Default::default(),
        on_unfit: Default::default(),
        verify: Default::default(),
        most_chunks: None,
        tables: (0..tables).map(table).collect(),
        error: None,
        failed: vec![],
        skipped: vec![],
    }
}

/// Four daemons' worth of slots.
fn alive(source: &SourceName) -> Alive {
    Alive {
        instance: Uuid::from_u128(1),
        slots: 48,
        cores: 64,
        sources: vec![source.clone()],
        holding: vec![],
        lineages: vec![Uuid::nil()],
        troubles: vec![],
        leaving: false,
    }
}

fn circumstances() -> Circumstances {
    Circumstances {
        now: Timestamp::UNIX_EPOCH,
        up: Duration::from_secs(1),
        claimed: [Uuid::nil()].into(),
        settled: true,
        progress_interval: Duration::from_secs(10),
        stalled_after: Duration::from_secs(600),
        max_snapshot_age: None,
    }
}

fn record(table: TableNo, chunk: ChunkNo) -> Record {
    let part = RecordedPart {
        path: format!("part-{chunk:06}.parquet"),
        reference: PartReference::new(format!("1:{chunk:06}.{}.parquet", Uuid::nil())),
        rows: 1_000_000,
        bytes: 30_000_000,
        sha256: "0".repeat(64),
        row_groups: 4,
        fsync_seconds: 0.01,
    };
    Record {
        v: 1,
        instance: Uuid::nil(),
        host: "host".into(),
        tables: vec![RecordedTable { table, parts: vec![part], pages: None }],
        started_at: Timestamp::UNIX_EPOCH,
        seconds: 1.0,
        attempts: 1,
    }
}

fn outcome(tables: &[TableNo]) -> Outcome {
    let tables = tables.iter().map(|table| TableOutcome { table: *table, result: TableResult::Cancelled });
    Outcome { v: 1, at: Timestamp::UNIX_EPOCH, tables: tables.collect() }
}
