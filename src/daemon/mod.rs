//! The daemon: one process that plays every role while it is connected, and
//! connects again whenever anything of the connection breaks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::bus::rabbitmq::RabbitBus;
use crate::bus::{Bus, BusError, Outgoing, Session};
use crate::config::Config;
use crate::config::load::ConfigError;
use crate::context::{Context, SourceEntry, Sources};
use crate::folder::{Folder, FolderError};
use crate::http::{Health, HttpServer, Views};
use crate::job::outcome::Owner;
use crate::logging::LogHandle;
use crate::message::InboxMessage;
use crate::metrics::Metrics;
use crate::retry::{Pace, Pauses};
use crate::source::SourceError;
use crate::source::postgres::PostgresSource;
use crate::worker::Worker;

pub mod jobs_view;
pub mod roles;
pub mod signals;
pub mod systemd;

use roles::{LAST_WORDS, Roles, WORK};
use signals::{Signal, Signals};

const BROKER: &str = "broker";
const DAEMON: &str = "daemon";

/// Why a daemon could not start. Once it runs, nothing ends it but a signal.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The export folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A source's section.
    #[error("sources.{name}: {error}")]
    Source {
        /// The source.
        name: String,
        /// What is wrong with it.
        error: SourceError,
    },
    /// The broker's section.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The port.
    #[error(transparent)]
    Http(#[from] crate::http::HttpError),
    /// Signals.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// Builds the sources of a configuration; connects to none of them.
///
/// # Errors
/// Names the source whose section is not usable.
pub fn sources(config: &Config) -> Result<Sources, StartError> {
    let mut sources = Sources::new();
    for (name, section) in &config.sources {
        let source = PostgresSource::new(name, section)
            .map_err(|error| StartError::Source { name: name.to_string(), error })?;
        let entry = SourceEntry { source: Arc::new(source), config: section.clone() };
        sources.insert(name.clone(), Arc::new(entry));
    }
    Ok(sources)
}

/// Group id of `[export] group`: a number, or a name of this host.
///
/// # Errors
/// When the name is not known.
pub fn group(config: &Config) -> Result<Option<u32>, FolderError> {
    let Some(group) = &config.export.group else { return Ok(None) };
    if let Ok(id) = group.parse() {
        return Ok(Some(id));
    }
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let entry =
        groups.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|f| f.first() == Some(&group.as_str()));
    match entry.and_then(|f| f.get(2)?.parse().ok()) {
        Some(id) => Ok(Some(id)),
        None => Err(FolderError::WrongRoot(format!(
            "export.group: this host has no group `{group}`; create it or use its number"
        ))),
    }
}

/// Runs a daemon until a signal ends it.
///
/// # Errors
/// Only while starting.
pub async fn run(file: &Path, config: Config, log: LogHandle) -> Result<(), StartError> {
    config.check_daemon()?;
    let mut signals = Signals::install()?;
    let folder = Folder::open(config.export.root.clone(), group(&config)?).await?;
    let metrics = Arc::new(Metrics::new());
    config.sources.keys().for_each(|name| metrics.add_source(name));
    let bus = RabbitBus::new(&config.broker, &format!("adu-export {}", crate::context::host()))?;
    let owner = Owner::Daemons { vhost: bus.vhost()?, prefix: config.broker.prefix.clone() };
    let context = Context::new(config.clone(), folder, owner, sources(&config)?, Arc::clone(&metrics));
    let health = Health::new();
    let worker = Worker::new(Arc::clone(&context), roles::slots(&context));
    let stop = CancellationToken::new();
    let end = CancellationToken::new();
    let view = Arc::new(jobs_view::FolderView::new(Arc::clone(&context), Arc::clone(&worker)));
    let views = Views { metrics: Arc::clone(&metrics), health: health.clone(), jobs: view };
    let http = HttpServer::bind(&config.http, views).await?;
    let http = tokio::spawn(serve(http, end.clone()));
    info!(instance = %context.instance, slots = worker.alive(false).slots, root = %config.export.root.display(), "started");
    let notifier = tokio::spawn(systemd::notify(health.clone(), end.clone()));
    let roles = Roles { context, worker: Arc::clone(&worker), health: health.clone(), stop: stop.clone() };
    let supervised = tokio::spawn(supervise(roles.clone(), bus, end.clone()));

    let hurry = CancellationToken::new();
    loop {
        let signal = tokio::select! {
            () = end.cancelled() => break,
            signal = signals.next() => signal,
        };
        match signal {
            Signal::Reload => reload(file, &roles.context, &log),
            Signal::Stop if !stop.is_cancelled() => {
                info!("stops: takes no more work, finishes or releases what runs");
                systemd::stopping();
                stop.cancel();
                health.obstacle(DAEMON, "is stopping");
                let (roles, hurry, end) = (roles.clone(), hurry.clone(), end.clone());
                let grace = config.export.shutdown_grace.0;
                tokio::spawn(async move {
                    let until = Instant::now() + grace;
                    roles.worker.drain(until, &hurry).await;
                    roles.worker.shared().keepers.hand_over(until, &hurry).await;
                    end.cancel();
                });
            }
            Signal::Stop => {
                warn!("stops at once");
                hurry.cancel();
            }
            Signal::Ended => break,
        }
    }
    let _ = tokio::time::timeout(LAST_WORDS, supervised).await;
    let _ = tokio::time::timeout(LAST_WORDS, http).await;
    notifier.abort();
    info!("stopped");
    Ok(())
}

/// Connects, plays all roles, and starts anew when anything breaks.
async fn supervise(roles: Roles, bus: RabbitBus, end: CancellationToken) {
    let timing = roles.context.config.timing.clone();
    let mut pauses = Pauses::endless(&timing);
    let metrics = Arc::clone(&roles.context.metrics);
    let blocked = bus.blocked();
    roles.health.obstacle(BROKER, "is not connected yet");
    roles.health.obstacle(WORK, "takes none yet");
    roles.health.clear(DAEMON);
    while !end.is_cancelled() {
        let session = match bus.connect().await {
            Ok(session) => session,
            Err(e) => {
                metrics.broker_connected.set(0);
                roles.health.obstacle(BROKER, e.to_string());
                error!(error = %e, "cannot connect to the broker; tries again");
                let pause =
                    pauses.next(Pace::Soon).unwrap_or(timing.retry_longest.0).min(timing.retry_longest.0);
                if wait(&end, pause).await {
                    return;
                }
                continue;
            }
        };
        info!("connected to the broker");
        metrics.broker_connected.set(1);
        roles.health.clear(BROKER);
        let connected = Instant::now();
        let played = {
            let blocked = blocked.clone();
            let watch = async {
                loop {
                    metrics.broker_blocked.set(i64::from(*blocked.borrow()));
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            };
            tokio::select! {
                played = roles.play(&session) => played,
                () = watch => Ok(()),
            }
        };
        match played {
            Ok(()) => {
                // Stopping: what still runs publishes its wake-ups on this session.
                drained(&roles, &session, &end).await;
                return;
            }
            Err(e) => {
                metrics.broker_connected.set(0);
                roles.health.obstacle(BROKER, format!("the connection broke: {e}"));
                roles.health.obstacle(WORK, "takes none without a broker");
                warn!(error = %e, "starts a new connection to the broker");
            }
        }
        let _ = tokio::time::timeout(LAST_WORDS, session.close()).await;
        if connected.elapsed() > Duration::from_secs(60) {
            pauses = Pauses::endless(&timing);
        }
        let pause = pauses.next(Pace::Soon).unwrap_or(timing.retry_longest.0);
        if wait(&end, pause).await {
            return;
        }
    }
}

/// True if it is the end.
async fn wait(end: &CancellationToken, pause: Duration) -> bool {
    tokio::select! {
        () = end.cancelled() => true,
        () = tokio::time::sleep(pause) => false,
    }
}

async fn serve(server: Option<HttpServer>, end: CancellationToken) {
    let Some(server) = server else { return };
    info!(address = %server.address(), "serves metrics, health and jobs");
    if let Err(e) = server.serve(end).await {
        error!(error = %e, "metrics, health and jobs are not served any more");
    }
}

/// Keeps saying what this process holds until nothing is left, then takes its leave.
async fn drained(roles: &Roles, session: &Arc<dyn Session>, end: &CancellationToken) {
    let mut tick = tokio::time::interval(roles.context.config.timing.alive_interval.0);
    loop {
        tokio::select! {
            () = end.cancelled() => break,
            _ = tick.tick() => {
                let mut alive = roles.worker.alive(false);
                alive.slots = 0;
                if session.publish(Outgoing::Inbox(InboxMessage::Alive(alive))).await.is_err() {
                    break;
                }
            }
        }
    }
    end.cancelled().await;
    let leaving = roles.worker.alive(true);
    let goodbye = session.publish(Outgoing::Inbox(InboxMessage::Alive(leaving)));
    let _ = tokio::time::timeout(LAST_WORDS, goodbye).await;
    let _ = tokio::time::timeout(LAST_WORDS, session.close()).await;
}

/// SIGHUP: log level and sources are read again; errors leave all as it was.
fn reload(file: &Path, context: &Context, log: &LogHandle) {
    systemd::reloading();
    let reloaded = Config::load(file).map_err(StartError::from).and_then(|config| {
        let sources = sources(&config)?;
        log.reload(&config.log).map_err(anyhow::Error::from)?;
        context.replace_sources(sources);
        Ok(())
    });
    match reloaded {
        Ok(()) => info!("log level and sources are read again"),
        Err(e) => error!(error = %e, "the configuration is not usable; everything stays as it was"),
    }
    systemd::ready();
}
