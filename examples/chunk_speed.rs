//! Measures how many chunks per second one process exports, from the plan to the archive: chunks of one row,
//! with part and record fsynced, and chunks without rows, with only a record. The coordinator deals and
//! settles as in a daemon; there is no server. For comparison it prints the floor: the same files, written
//! and fsynced by the same number of plain threads.
//!
//! `cargo run --release --example chunk_speed [chunks] [workers]`

use std::fs::File;
use std::io::Write as _;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use adu_export::bus::memory::MemoryBus;
use adu_export::bus::{Bus, Outgoing};
use adu_export::config::{Auto, Config, Secret};
use adu_export::context::{Context, SourceEntry};
use adu_export::daemon::roles::{Roles, slots};
use adu_export::folder::Folder;
use adu_export::http::Health;
use adu_export::job::outcome::{Owner, Run};
use adu_export::message::Epoch;
use adu_export::metrics::Metrics;
use adu_export::source::memory::{MemoryDatabase, MemorySource};
use adu_export::worker::Worker;
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The export folder. It is removed at the end.
struct Root(PathBuf);

impl Drop for Root {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let chunks: u32 = args.next().map_or(Ok(5_000), |a| a.parse())?;
    let workers: NonZeroU32 = args.next().map_or_else(|| "8".parse(), |a| a.parse())?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    std::fs::create_dir_all(&target)?;
    // Everything stays until the end: ext4 without a journal creates files slowly where many were just
    // removed.
    let root = Root(target.canonicalize()?.join(format!("chunk-speed-{}", Uuid::new_v4().simple())));
    for (what, kinds) in [("of one row", &["parts", "records"][..]), ("without rows", &["records"])] {
        let bare = floor(&root.0.join(format!("bare {what}")), kinds, chunks, workers)?;
        let seconds = export(&root.0.join(what), chunks, workers, kinds.len() < 2).await?;
        println!(
            "{chunks} chunks {what}, {workers} workers: {seconds:.2} s in all, {:.0} chunks per second; \
             the files alone: {bare:.2} s, {:.0} per second",
            f64::from(chunks) / seconds,
            f64::from(chunks) / bare
        );
    }
    Ok(())
}

/// Seconds from the request to the final event. If `empty`, all rows are removed after the table was planned,
/// so that no chunk has rows.
async fn export(root: &Path, chunks: u32, workers: NonZeroU32, empty: bool) -> anyhow::Result<f64> {
    let database = MemoryDatabase::default();
    let context = context(root, &database, chunks, workers).await?;
    let bus = MemoryBus::new();
    let mut events = bus.events();
    let session = bus.connect().await?;
    let worker = Worker::new(Arc::clone(&context), slots(&context));
    let stop = CancellationToken::new();
    let roles = Roles {
        context: Arc::clone(&context),
        worker,
        fleet: Arc::default(),
        health: Health::new(),
        stop: stop.clone(),
    };
    let playing = {
        let session = Arc::clone(&session);
        tokio::spawn(async move { roles.play(&session).await })
    };
    let request = r#"{"job_id": "speed", "consistency": "none", "tables":
        [{"table": "s.t", "strategy": "range", "chunk_column": "id", "chunk_rows": 1}]}"#;
    let started = Instant::now();
    session
        .publish(Outgoing::Request { body: request.as_bytes().to_vec(), message_id: "speed".into() })
        .await?;
    if empty {
        let job = "speed".parse()?;
        while !context.folder.job(&job).has_plan(Epoch::FIRST).await? {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        database.update("s", "t", &rows(0)?);
    }
    let mut kind = "";
    while let Ok(event) = events.recv().await {
        kind = event.kind.words().1;
        if event.kind.is_final() {
            break;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    anyhow::ensure!(kind == "completed", "the job ended as {kind}");
    stop.cancel();
    playing.await??;
    Ok(seconds)
}

fn rows(count: u32) -> anyhow::Result<RecordBatch> {
    let ids: ArrayRef = Arc::new((0..i64::from(count)).collect::<Int64Array>());
    Ok(RecordBatch::try_from_iter_with_nullable([("id", ids, false)])?)
}

/// Seconds that only the files of these chunks take: each is written under a temporary name, fsynced and
/// linked, and its directory is fsynced.
fn floor(dir: &Path, kinds: &[&str], chunks: u32, workers: NonZeroU32) -> std::io::Result<f64> {
    for kind in kinds {
        std::fs::create_dir_all(dir.join(kind))?;
    }
    let write = &|worker: u32| -> std::io::Result<()> {
        for chunk in (worker..chunks).step_by(workers.get() as usize) {
            for kind in kinds {
                let dir = dir.join(kind);
                let temporary = dir.join(format!(".{chunk}"));
                let mut file = File::create_new(&temporary)?;
                file.write_all(&[b'x'; 800])?;
                file.sync_all()?;
                std::fs::hard_link(&temporary, dir.join(chunk.to_string()))?;
                std::fs::remove_file(&temporary)?;
                File::open(dir)?.sync_all()?;
            }
        }
        Ok(())
    };
    let started = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers.get()).map(|worker| scope.spawn(move || write(worker))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    Ok(started.elapsed().as_secs_f64())
}

async fn context(
    root: &Path,
    database: &MemoryDatabase,
    chunks: u32,
    workers: NonZeroU32,
) -> anyhow::Result<Arc<Context>> {
    let (mut config, name) = Config::for_dsn(&Secret::new("postgres://nobody@nowhere/memory"), root)?;
    config.export.workers = Auto::Exactly(workers);
    let source_config = config.sources.get_mut(&name).expect("the one of the DSN");
    source_config.max_parallel = workers;
    database.create("s", "t", &rows(chunks)?);
    let entry = SourceEntry {
        config: source_config.clone(),
        source: Arc::new(MemorySource::new(name.clone(), database.clone(), 1)),
    };
    let folder = Folder::init(root.to_owned(), None).await?;
    let sources = [(name, Arc::new(entry))].into();
    let owner = Owner::OneShot(Run { id: Uuid::new_v4(), server: String::new() });
    Ok(Context::new(config, folder, owner, sources, Arc::new(Metrics::new())))
}
