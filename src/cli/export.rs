//! `adu-export export`: runs the intake, coordinator and worker of a daemon over an in-process bus.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::input::{Overrides, SourceArgs, TableArgs};
use super::one_shot::{self, Place};
use super::progress::{ProgressDisplay, TableProgress};
use super::summary::Summary;
use super::{ExitCode, print_json, view};
use crate::bus::Bus;
use crate::bus::memory::MemoryBus;
use crate::config::{Auto, Config};
use crate::context::Context;
use crate::daemon::roles::{Roles, slots};
use crate::daemon::signals::{Signal, Signals};
use crate::failpoint;
use crate::folder::Folder;
use crate::http::Health;
use crate::job::archive::Archive;
use crate::job::look::{self, OpenedJob};
use crate::job::state::JobState;
use crate::message::setting::{Compression, FileTypes, ReadWay, Span};
use crate::message::{EventType, JobId};
use crate::metrics::Metrics;
use crate::worker::Worker;

/// Arguments of `export`.
#[derive(Clone, Debug, Args)]
pub struct ExportArgs {
    /// The source to read.
    #[command(flatten)]
    pub source: SourceArgs,
    /// The tables.
    #[command(flatten)]
    pub tables: TableArgs,
    /// Export folder, created if it is missing; a killed run in it is resumed
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// snappy, zstd, zstd:1 to zstd:22, lz4, gzip or none
    #[arg(long, value_name = "C")]
    pub compression: Option<Compression>,
    /// Bytes at which a file is followed by the next one, at least 1048576
    #[arg(long, value_name = "N")]
    pub file_bytes: Option<NonZeroU64>,
    /// Column that files leave out, with a directory for each value (region=EU); may be repeated
    #[arg(long, value_name = "COLUMN")]
    pub partition_by: Vec<String>,
    /// exact, or portable: only types and encodings that every reader supports
    #[arg(long, value_name = "T")]
    pub types: Option<FileTypes>,
    /// How tables are read: auto, copy, pages (PostgreSQL), retrieve or query (Greenplum)
    #[arg(long, value_name = "WAY")]
    pub read: Option<ReadWay>,
    /// Number of chunks, and so of connections, at a time
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroU32>,
    /// Count the rows of every table in the same snapshot and compare
    #[arg(long)]
    pub verify: bool,
    /// Print the archive of the job as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// Show no progress, only errors
    #[arg(long, short)]
    pub quiet: bool,
}

impl ExportArgs {
    /// The options that override the request file.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides {
            source: self.source.source.clone(),
            compression: self.compression,
            file_bytes: self.file_bytes,
            partition_by: self.partition_by.clone(),
            types: self.types,
            read: self.read,
            workers: self.workers,
            verify: self.verify,
            ..Overrides::default()
        }
    }
}

/// How often progress is drawn, and how often the folder is read.
const DRAW: Duration = Duration::from_millis(250);
const LOOK: Duration = Duration::from_secs(1);
/// How long the coordinator may take to clean up after the end of a job.
const TIDY: Duration = Duration::from_secs(10);

/// Exports. An interrupt cancels the job: finished tables stay, everything else is removed. The same command
/// resumes a run that was killed.
///
/// # Errors
/// If the source, the folder or the request cannot be used.
pub async fn run(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let _armed = failpoint::arm();
    let (config, name) = args.source.load(&args.out)?;
    let config = args.at_once(config);
    let request = args.tables.request(&Overrides { source: name, ..args.overrides() })?;
    let folder = Folder::init(config.export.root.clone(), crate::daemon::group(&config)?).await?;
    let sources = crate::daemon::sources(&config)?;
    one_shot::reach(&sources, request.source.as_ref()).await?;
    let place = match one_shot::take_place(&folder, &sources, request).await? {
        Place::Ours(place) => place,
        Place::Finished(archive) => return args.tell(&archive),
        Place::Rejected(error) => {
            eprintln!("rejected: {} ({})", error.message, error.remedy.unwrap_or_default());
            return Ok(ExitCode::Rejected);
        }
    };
    if place.resumed {
        eprintln!("resumes job {}, which an earlier run left unfinished", place.job);
    }
    // From here on we work only on jobs of this run.
    let context = Context::new(config, folder, place.owner.clone(), sources, Arc::new(Metrics::new()));
    crate::logging::name_daemon(context.instance);
    crate::traces::start(context.instance, &context.host);
    let mut signals = Signals::install()?;
    let bus = MemoryBus::new();
    let mut events = bus.events();
    let bus_session = bus.connect().await?;
    let session = Arc::clone(&bus_session);
    let worker = Worker::new(Arc::clone(&context), slots(&context));
    let stop = CancellationToken::new();
    let roles = Roles {
        context: Arc::clone(&context),
        worker: Arc::clone(&worker),
        fleet: Arc::default(),
        health: Health::new(),
        stop: stop.clone(),
    };
    let mut playing = AbortOnDropHandle::new(tokio::spawn(async move { roles.play(&session).await }));
    let mut display = ProgressDisplay::on_stderr(args.quiet);
    let mut watched =
        Watched { context: &context, worker: &worker, job: &place.job, state: None, seen: None };
    let started = Instant::now();
    let mut tick = tokio::time::interval(DRAW);
    let mut asked = 0;
    let archive = loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) if event.kind == EventType::JobStalled => {
                    let why = event.data.error.map(|e| e.message).unwrap_or_default();
                    display.print(&format!("stalled: {why}"));
                }
                Ok(event) if event.kind.is_final() && event.data.job_id.as_ref() == Some(&place.job) => {
                    break watched.archive().await?;
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => break watched.archive().await?,
            },
            _ = tick.tick() => {
                if let Some(tables) = watched.tables().await? {
                    display.update(&tables, started.elapsed());
                }
            }
            signal = signals.next() => if signal == Signal::Stop {
                asked += 1;
                if asked > 1 {
                    display.finish();
                    eprintln!("stopped at once; the next export into this directory cleans up");
                    return Ok(ExitCode::Cancelled);
                }
                display.print("cancelling the export; finished tables stay");
                one_shot::cancel(&context, &*bus_session, &place.job).await?;
            },
            ended = &mut playing => {
                display.finish();
                ended.context("export")?.context("export")?;
                anyhow::bail!("the export stopped before its job ended; run the same command again to resume it");
            }
        }
    };
    display.finish();
    let archive = archive.with_context(|| format!("job {} ended without an archive", place.job))?;
    // The coordinator moves the workspace to the trash after the final event.
    let tidied = Instant::now();
    while context.folder.job(&place.job).exists().await? && tidied.elapsed() < TIDY {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    context.folder.empty_trash().await?;
    stop.cancel();
    worker.drain(tokio::time::Instant::now(), &CancellationToken::new()).await;
    worker.shared().keepers.release_job(&place.job);
    for entry in context.sources().values() {
        let _ = tokio::time::timeout(TIDY, entry.source.close()).await;
    }
    args.tell(&archive)
}

impl ExportArgs {
    /// Applies `--workers`: the number of chunks, and so of connections, at a time.
    fn at_once(&self, mut config: Config) -> Config {
        // No other process works on this job, so waits for other processes can be short.
        config.timing.alive_interval = Span(Duration::from_millis(100));
        config.timing.alive_timeout = Span::seconds(2);
        config.timing.keeper_wait = Span::seconds(1);
        if let Some(workers) = self.workers {
            config.export.workers = Auto::Exactly(workers);
            for source in config.sources.values_mut() {
                // One more connection, to plan while all chunks run.
                source.pool_size = source.pool_size.max(workers.saturating_add(1));
                source.max_parallel = source.max_parallel.max(workers);
            }
        }
        config
    }

    fn tell(&self, archive: &Archive) -> anyhow::Result<ExitCode> {
        if self.json {
            print_json(archive)?;
        }
        if !self.quiet {
            eprint!("{}", Summary::of_archive(archive));
        }
        Ok(ExitCode::of(archive.status.event()).unwrap_or(ExitCode::Failed))
    }
}

/// Watches the job: it reads the folder now and then, and the live figures every time.
struct Watched<'a> {
    context: &'a Context,
    worker: &'a Worker,
    job: &'a JobId,
    state: Option<Box<JobState>>,
    seen: Option<Instant>,
}

impl Watched<'_> {
    async fn tables(&mut self) -> anyhow::Result<Option<Vec<TableProgress>>> {
        let folder = &self.context.folder;
        if self.seen.is_none_or(|seen| seen.elapsed() >= LOOK) {
            self.seen = Some(Instant::now());
            match &mut self.state {
                Some(state) => look::refresh(folder, state, Duration::ZERO).await?,
                None => {
                    let found = look::open(folder, self.job, &self.context.owner, Duration::ZERO).await?;
                    if let OpenedJob::Job(state) = found {
                        self.state = Some(state);
                    }
                }
            }
        }
        let planned = self.state.as_ref().filter(|s| !s.plans.is_empty());
        Ok(planned.map(|state| view::tables(state, self.worker.doing())))
    }

    async fn archive(&self) -> anyhow::Result<Option<Archive>> {
        Ok(self.context.folder.job(self.job).archive().await?)
    }
}
