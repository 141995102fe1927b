//! Jobs and fleets for the tests of pages and API: of any size, and without a server.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::picture::{AtWork, Running};
use super::{Fleet, Picture, Status};
use crate::config::Config;
use crate::context::{Context, SourceEntry};
use crate::folder::Folder;
use crate::folder::files::archive::Archive;
use crate::folder::files::outcome::{FinishedFile, NewJob, Outcome, Owner, TableOutcome, TableResult};
use crate::folder::files::record::{PartReference, Record, RecordedPart, RecordedTable};
use crate::folder::files::timeline::TimelineDaemon;
use crate::job::state::JobState;
use crate::message::event::ErrorReport;
use crate::message::presence::{Doing, Presence, Rates};
use crate::message::task::ChunkTask;
use crate::message::{Alive, BatchNo, ChunkNo, JobId, RequestMessage, SourceName, TableNo, Task};
use crate::metrics::Metrics;
use crate::plan::ExportPlan;
use crate::plan::export_plan::{PlannedTable, WriterSettings};
use crate::relation::{Frozen, Snapshot, Strategy};

/// The time of all scenes.
pub(crate) fn now() -> Timestamp {
    "2026-12-01T12:00:00Z".parse().expect("a time")
}

fn source() -> SourceName {
    SourceName::parse("warehouse").expect("valid")
}

/// A daemon of a scene.
pub(crate) fn daemon(number: u128) -> TimelineDaemon {
    TimelineDaemon { host: format!("export-{number}"), instance: Uuid::from_u128(number) }
}

/// A job with this many tables of this many chunks, all of which are planned.
pub(crate) fn job(id: &str, tables: u32, chunks: u32) -> JobState {
    let body =
        br#"{"tables": [{"table": "public.*", "where": "codeword = 'x'"}], "labels": {"team": "nightingale"}}"#;
    let RequestMessage::Export(request) = RequestMessage::parse(body).expect("valid") else { unreachable!() };
    let owner = Owner::Daemons { vhost: "/".into(), prefix: "adu.export".into() };
    let job = NewJob::new(JobId::parse(id).expect("valid"), source(), *request);
    let received = now() - jiff::SignedDuration::from_mins(30);
    let mut state = JobState::new(job.taken(owner, received), Duration::ZERO);
    let table = |number: u32| PlannedTable {
        number: TableNo(number),
        batch: BatchNo(number),
        schema: "public".into(),
        name: format!("table_with_a_name_as_long_as_people_like_to_give_them_{number}"),
        base: format!("public_table_with_a_name_{number}"),
        directory: None,
        full: true,
        partition_by: vec![],
        only: false,
        contains: vec![],
        columns: vec![],
        key: vec![],
        filter: None,
        range_filter: None,
        high_water_mark: None,
        strategy: match chunks {
            1 => Strategy::Single,
            n => Strategy::Ctid { bounds: (1..n.into()).collect() },
        },
        read: Default::default(),
        reason: "by pages, because its numeric key is not stored in order".into(),
        note: None,
        estimated_rows: 1_000_000 * u64::from(chunks),
        counted_rows: None,
        snapshot_rows: None,
    };
    state.add_plan(ExportPlan {
        v: 2,
        job: state.id().clone(),
        epoch: state.next_epoch(),
        source: source(),
        planned_at: received,
        ready: Uuid::from_u128(1),
        destination: None,
        traceparent: None,
        snapshot: Some(Snapshot { lineage: Uuid::from_u128(77), time: received, recall: Frozen::default() }),
        session: vec![],
        writer: WriterSettings {
            compression: crate::message::setting::Compression::Snappy,
            row_group_bytes: 1,
            types: Default::default(),
            file_bytes: None,
            partitions_max: 1000,
        },
        on_conflict: Default::default(),
        on_unfit: Default::default(),
        verify: Default::default(),
        most_chunks: None,
        tables: (0..tables).map(table).collect(),
        error: None,
        failed: vec![],
        skipped: vec![],
    });
    state
}

/// Records the chunks of a job for which `is_done` says so, dealt to `daemons` in turn.
pub(crate) fn export(state: &mut JobState, daemons: u128, is_done: impl Fn(u32, ChunkNo) -> bool) {
    let received = state.stored.received_at;
    let mut turn = 0_u32;
    for (id, batch) in &mut state.batches {
        for chunk in (0..batch.records.len()).map(ChunkNo::at) {
            turn += 1;
            if !is_done(id.batch.0, chunk) {
                continue;
            }
            let daemon = daemon(1 + u128::from(turn) % daemons);
            let part = RecordedPart {
                path: format!("part-{chunk:06}.parquet"),
                reference: PartReference::new("1:x"),
                rows: 1_000_000,
                bytes: 30_000_000,
                sha256: "0".repeat(64),
                row_groups: 4,
                fsync_seconds: 0.01,
            };
            let begun = received + jiff::SignedDuration::from_millis(i64::from(turn % 3000) * 500);
            batch.record(
                chunk,
                Record {
                    v: 2,
                    instance: daemon.instance,
                    host: daemon.host,
                    tables: vec![RecordedTable { table: id.batch.first(), parts: vec![part], pages: None }],
                    started_at: begun,
                    seconds: 0.4 + f64::from(turn % 7),
                    attempts: 1,
                },
            );
        }
    }
}

/// Settles all tables: they are published, except those that `fails` names.
pub(crate) fn settle(state: &mut JobState, fails: impl Fn(u32) -> bool) {
    for (id, batch) in &mut state.batches {
        let files = |record: &Arc<Record>| {
            let part = &record.tables[0].parts[0];
            FinishedFile {
                file: part.path.clone(),
                rows: part.rows,
                bytes: part.bytes,
                sha256: part.sha256.clone(),
            }
        };
        let result = match fails(id.batch.0) {
            true => TableResult::Failed { error: refused() },
            false => TableResult::Published {
                directory: format!("public_table_with_a_name_{}", id.batch.0),
                files: batch.records.iter().flatten().map(files).collect(),
                pages: None,
            },
        };
        let tables = vec![TableOutcome { table: id.batch.first(), result }];
        batch.outcome = Some(Arc::new(Outcome { v: 2, at: now(), tables }));
    }
}

/// An error of a table.
pub(crate) fn refused() -> ErrorReport {
    let message = "permission denied for table \"<b>orders</b>\", where codeword = 'x'";
    ErrorReport::permanent("42501", message, "run `GRANT SELECT ON orders TO exporter`")
}

/// What daemons do now: the given chunks of a job.
pub(crate) fn running(state: &JobState, chunks: &[(u32, u32)]) -> Running {
    Running::of(chunks.iter().zip(1..).map(|((table, chunk), number)| AtWork {
        daemon: daemon(number),
        doing: doing(state.id(), *table, *chunk),
    }))
}

/// A chunk that a daemon works on.
pub(crate) fn doing(job: &JobId, table: u32, chunk: u32) -> Doing {
    let task = ChunkTask {
        job: job.clone(),
        epoch: crate::message::Epoch(1),
        batch: BatchNo(table),
        chunk: ChunkNo(chunk),
        root: Uuid::nil(),
    };
    Doing { task: Task::Chunk(task), seconds: 12.5, rows: 250_000, bytes: 40_000_000 }
}

/// A daemon as it describes itself.
pub(crate) fn presence(number: u128) -> Presence {
    Presence {
        alive: Alive {
            instance: daemon(number).instance,
            slots: 8,
            cores: 16,
            sources: vec![source()],
            holding: vec![],
            lineages: vec![Uuid::from_u128(77)],
            troubles: vec![],
            leaving: false,
        },
        host: daemon(number).host,
        version: env!("CARGO_PKG_VERSION").into(),
        started_at: Some(now()),
        coordinates: number == 1,
        obstacles: vec![],
        doing: vec![],
        pools: Default::default(),
        rates: Rates { rows_per_second: 1e6, bytes_per_second: 1e8, ..Rates::default() },
    }
}

/// A status over a real folder, without a broker.
pub(crate) struct Scene {
    pub(crate) status: Arc<Status>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) context: Arc<Context>,
    root: PathBuf,
}

impl Scene {
    pub(crate) async fn new(details: bool) -> Self {
        let root = std::env::temp_dir().join(format!("adu-scene-{}", Uuid::new_v4()));
        let folder = Folder::init(root.clone(), None).await.expect("a folder");
        let text = format!(
            "[export]\nroot = {root:?}\n[http]\ndetails = {details}\n[sources.warehouse]\nkind = \"postgres\"\n\
             dsn = \"postgres://exporter@db.example/warehouse\""
        );
        let config: Config = toml::from_str(&text).expect("a configuration");
        let owner = Owner::Daemons { vhost: "/".into(), prefix: "adu.export".into() };
        let sources = config.sources.iter().map(|(name, section)| {
            let source = crate::source::of(name, section).expect("a source");
            (name.clone(), Arc::new(SourceEntry { source, config: section.clone() }))
        });
        let sources = sources.collect();
        let context = Context::new(config, folder, owner, sources, Arc::new(Metrics::new()));
        let fleet = Arc::new(Fleet::default());
        let status = Arc::new(Status::new(Arc::clone(&context), Arc::clone(&fleet)));
        Self { status, fleet, context, root }
    }

    /// Stores the request and the plan of a job, and the records that it has.
    pub(crate) async fn store(&self, state: &JobState) {
        let workspace = self.context.folder.job(state.id());
        workspace.store(&state.stored).await.expect("stored");
        let plan = state.plans[0].export().expect("a plan");
        workspace.make_records(plan.epoch, plan.batches().into_keys()).await.expect("made");
        workspace.create_plan(plan).await.expect("planned");
        for (id, batch) in &state.batches {
            for (record, chunk) in batch.records.iter().zip((0..).map(ChunkNo)) {
                if let Some(record) = record {
                    workspace.create_record(*id, chunk, record).await.expect("recorded");
                }
            }
        }
    }

    /// Commits a job, as if it had been finished.
    pub(crate) async fn commit(&self, state: &JobState) -> Archive {
        let archive = Archive::of(state, self.context.now());
        let workspace = self.context.folder.job(state.id());
        let archive = workspace.commit(archive).await.expect("committed");
        workspace.link_archive(archive.committed_at).await.expect("linked");
        archive
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// A job with many tables and chunks, half done, and with a failure.
pub(crate) fn large(tables: u32, chunks: u32) -> Picture {
    let mut state = job("large", tables, chunks);
    export(&mut state, 6, |table, chunk| (table + chunk.0) % 2 == 0);
    let running = running(&state, &[(0, 1), (0, 3)]);
    Picture::of_state(&state, &running, now())
}
