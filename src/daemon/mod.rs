//! The daemon: one process that plays every role while it is connected, and connects again when the
//! connection breaks.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use crate::bus::BusError;
use crate::bus::rabbitmq::RabbitBus;
use crate::config::load::{ConfigError, Problem};
use crate::config::{Config, Origin};
use crate::context::{Context, SourceEntry, Sources};
use crate::folder::{Folder, FolderError};
use crate::http::{Health, HttpServer, Views};
use crate::job::outcome::Owner;
use crate::logging::LogHandle;
use crate::metrics::Metrics;
use crate::source::{self, SourceError};
use crate::status::{Fleet, Status};
use crate::worker::Worker;

pub mod roles;
pub mod signals;
mod steady;
pub mod supervise;
pub mod systemd;

use roles::{LAST_WORDS, Roles};
use signals::{Signal, Signals};

const BROKER: &str = "broker";
const DAEMON: &str = "daemon";
const ALARM: &str = "alarm";

/// Why a daemon could not start. Once it runs, only a signal ends it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The export folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A source's section.
    #[error("{error}{}", .error.remedy.as_ref().map_or(String::new(), |r| format!("; {}", r.words(*.origin))))]
    Source {
        /// What is wrong with the section.
        error: SourceError,
        /// Where the source was given.
        origin: Origin,
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

/// Builds the sources of a configuration. Connects to none of them.
///
/// # Errors
/// Names the source whose section is wrong.
pub fn sources(config: &Config) -> Result<Sources, StartError> {
    let mut sources = Sources::new();
    for (name, section) in &config.sources {
        let wrong = |error| StartError::Source { error, origin: section.origin };
        let entry =
            SourceEntry { source: source::of(name, section).map_err(wrong)?, config: section.clone() };
        sources.insert(name.clone(), Arc::new(entry));
    }
    Ok(sources)
}

/// Group id of `[export] group`: a number, or a name that this host knows, from a file or a directory service.
///
/// # Errors
/// When the name is not known.
pub fn group(config: &Config) -> Result<Option<u32>, ConfigError> {
    let Some(group) = &config.export.group else { return Ok(None) };
    if let Ok(id) = group.parse() {
        return Ok(Some(id));
    }
    match uzers::get_group_by_name(group) {
        Some(found) => Ok(Some(found.gid())),
        None => {
            let text = format!("`{group}` is no group of this host; create it, or use the group's number");
            Err(ConfigError { file: None, problems: vec![Problem::new("export.group", text)] })
        }
    }
}

/// Runs a daemon until a signal ends it.
///
/// # Errors
/// While the daemon starts; later only if the program itself breaks.
pub async fn run(file: &Path, config: Config, log: LogHandle) -> Result<(), StartError> {
    config.check_daemon()?;
    let mut signals = Signals::install()?;
    let folder = Folder::open(config.export.root.clone(), group(&config)?).await?;
    let metrics = Arc::new(Metrics::new());
    config.sources.keys().for_each(|name| metrics.add_source(name));
    metrics.root_min_free_bytes.set(config.export.min_free_bytes as f64);
    let bus = RabbitBus::new(&config.broker, &format!("adu-export {}", crate::context::host()))?;
    let owner = Owner::Daemons { vhost: bus.vhost()?, prefix: config.broker.prefix.clone() };
    let context = Context::new(config.clone(), folder, owner, sources(&config)?, Arc::clone(&metrics));
    let health = Health::new();
    let worker = Worker::new(Arc::clone(&context), roles::slots(&context));
    let stop = CancellationToken::new();
    let end = CancellationToken::new();
    let fleet = Arc::new(Fleet::default());
    let status = Arc::new(Status::new(Arc::clone(&context), Arc::clone(&fleet)));
    let views = Views::new(Arc::clone(&metrics), health.clone(), Arc::clone(&status));
    let http = HttpServer::bind(&config.http, views).await?;
    // All tasks end when `end` fires. Tasks that still run when the set is dropped are aborted.
    let mut tasks = JoinSet::new();
    crate::logging::name_daemon(context.instance);
    crate::traces::start(context.instance, &context.host);
    tasks.spawn(serve(http, end.clone()));
    info!(host = context.host, slots = worker.alive(false).slots, root = %config.export.root.display(), "started");
    tasks.spawn(systemd::notify(health.clone(), end.clone()));
    let roles = Roles { context, worker, fleet, health: health.clone(), stop: stop.clone() };
    {
        let (roles, end) = (roles.clone(), end.clone());
        tasks.spawn(async move { roles.observe(&status, &end).await });
    }
    tasks.spawn(watch_blocked(bus.blocked(), metrics, health.clone(), end.clone()));
    let mut supervised = {
        let (roles, end) = (roles.clone(), end.clone());
        AbortOnDropHandle::new(tokio::spawn(async move { supervise::run(&roles, &bus, &end).await }))
    };

    let hurry = CancellationToken::new();
    loop {
        let signal = tokio::select! {
            biased;
            () = end.cancelled() => break,
            ended = &mut supervised => {
                ended.context("the supervision of all roles broke; the service manager starts this daemon again")?;
                break;
            }
            signal = signals.next() => signal,
        };
        match signal {
            Signal::Reload => reload(file, &roles.context, &log),
            Signal::Stop if !stop.is_cancelled() => {
                info!("stops: takes no more work, finishes or releases running work");
                systemd::stopping();
                stop.cancel();
                let (roles, hurry, end) = (roles.clone(), hurry.clone(), end.clone());
                tasks.spawn(async move { supervise::wind_down(&roles, &hurry, &end).await });
            }
            Signal::Stop => {
                warn!("stops at once");
                hurry.cancel();
            }
            Signal::Ended => break,
        }
    }
    end.cancel();
    if !supervised.is_finished() {
        let _ = tokio::time::timeout(LAST_WORDS, supervised).await;
    }
    let _ = tokio::time::timeout(LAST_WORDS, async { while tasks.join_next().await.is_some() {} }).await;
    info!("stopped");
    Ok(())
}

/// Reports while the broker keeps us from publishing.
async fn watch_blocked(
    mut blocked: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    health: Health,
    end: CancellationToken,
) {
    loop {
        // `say_alive` ends the alarm when a message is confirmed: a new connection is not blocked before its
        // first message.
        if *blocked.borrow_and_update() {
            metrics.broker_blocked.set(1);
            let why = "the broker takes no messages: a memory or disk alarm of its own (rabbitmqctl status)";
            if health.obstacle(ALARM, why) {
                warn!(reason = why, "publishing waits");
            }
        }
        let Some(Ok(())) = end.run_until_cancelled(blocked.changed()).await else { return };
    }
}

async fn serve(server: Option<HttpServer>, end: CancellationToken) {
    let Some(server) = server else { return };
    info!(address = %server.address(), "serves metrics, health and jobs");
    if let Err(e) = server.serve(end).await {
        error!(error = %e, "metrics, health and jobs are not served any more");
    }
}

/// Handles SIGHUP: reads log level and sources again. On an error everything stays as before.
fn reload(file: &Path, context: &Context, log: &LogHandle) {
    systemd::reloading();
    let reloaded = Config::load(file).map_err(StartError::from).and_then(|config| {
        let mut sources = sources(&config)?;
        for (name, entry) in &mut sources {
            // Sources that did not change keep their connections and snapshots.
            let old = context.sources().get(name).cloned().filter(|old| old.config == entry.config);
            if let Some(old) = old {
                *entry = old;
            }
        }
        log.reload(&config.log).map_err(anyhow::Error::from)?;
        sources.keys().for_each(|name| context.metrics.add_source(name));
        context.replace_sources(sources);
        Ok(())
    });
    match reloaded {
        Ok(()) => info!("log level and sources are read again"),
        Err(e) => error!(error = %e, "the configuration is not usable; everything stays as it was"),
    }
    systemd::ready();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group_of(setting: &str) -> Result<Option<u32>, String> {
        let config: Config =
            toml::from_str(&format!("[export]\nroot = \"/a\"\n{setting}")).expect("a configuration");
        group(&config).map_err(|e| e.to_string())
    }

    #[test]
    fn a_group_is_a_number_or_a_name_of_this_host() {
        assert_eq!(group_of(""), Ok(None));
        assert_eq!(group_of("group = \"4321\""), Ok(Some(4321)));
        assert_eq!(group_of("group = \"root\""), Ok(Some(0)));
        let said = group_of("group = \"no such group\"").expect_err("unknown");
        assert!(
            said.contains("export.group") && said.contains("`no such group` is no group of this host"),
            "{said}"
        );
    }
}
