//! The state that every role of a process shares.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use crate::config::{Config, SourceConfig};
use crate::destination::{self, Destination};
use crate::folder::Folder;
use crate::folder::files::outcome::Owner;
use crate::machine::{Machine, ThisMachine};
use crate::message::SourceName;
use crate::metrics::Metrics;
use crate::parts::{ParquetParts, Parts};
use crate::retry::Pauses;
use crate::source::Source;

/// A source and how it was configured.
pub struct SourceEntry {
    /// The database.
    pub source: Arc<dyn Source>,
    /// The source's section of the configuration.
    pub config: SourceConfig,
}

/// The sources of this process; replaced as a whole on reload.
pub type Sources = BTreeMap<SourceName, Arc<SourceEntry>>;

/// Name of this host.
#[must_use]
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The surroundings of a process, which tests replace.
pub struct Surroundings {
    /// Name of the host.
    pub host: String,
    /// Wall clock, fresh identities, cores.
    pub machine: Arc<dyn Machine>,
    /// Where tables are published.
    pub destination: Arc<dyn Destination>,
    /// Writes parts for the destination.
    pub parts: Arc<dyn Parts>,
}

/// The state that every role of a process shares.
pub struct Context {
    /// The configuration.
    pub config: Config,
    /// The export folder.
    pub folder: Folder,
    /// The owner whose workspaces this process works on.
    pub owner: Owner,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Unique per process start.
    pub instance: Uuid,
    /// When this process started.
    pub started_at: Timestamp,
    /// Name of this host, for records.
    pub host: String,
    /// Wall clock, fresh identities, cores.
    pub machine: Arc<dyn Machine>,
    /// Where tables are published.
    pub destination: Arc<dyn Destination>,
    /// Writes parts for the destination.
    pub parts: Arc<dyn Parts>,
    sources: std::sync::RwLock<Arc<Sources>>,
}

impl Context {
    /// Makes a context for this machine, with tables as directories of Parquet files below the folder's root.
    #[must_use]
    pub fn new(
        config: Config,
        folder: Folder,
        owner: Owner,
        sources: Sources,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let destination = destination::of(&folder);
        let surroundings = Surroundings {
            host: host(),
            machine: Arc::new(ThisMachine),
            parts: Arc::new(ParquetParts::new(Arc::clone(&destination))),
            destination,
        };
        Self::within(surroundings, config, folder, owner, sources, metrics)
    }

    /// Makes a context for given surroundings.
    #[must_use]
    pub fn within(
        surroundings: Surroundings,
        config: Config,
        folder: Folder,
        owner: Owner,
        sources: Sources,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let Surroundings { host, machine, destination, parts } = surroundings;
        Arc::new(Self {
            config,
            folder,
            owner,
            metrics,
            instance: machine.fresh(),
            started_at: machine.now(),
            host,
            machine,
            destination,
            parts,
            sources: std::sync::RwLock::new(Arc::new(sources)),
        })
    }

    /// The sources as they are now.
    #[must_use]
    pub fn sources(&self) -> Arc<Sources> {
        Arc::clone(&self.sources.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// One source.
    #[must_use]
    pub fn source(&self, name: &SourceName) -> Option<Arc<dyn Source>> {
        self.sources().get(name).map(|entry| Arc::clone(&entry.source))
    }

    /// Replaces the sources.
    pub fn replace_sources(&self, sources: Sources) {
        *self.sources.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(sources);
    }

    /// The wall clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.machine.now()
    }

    /// Pauses between tries of one piece of work.
    #[must_use]
    pub fn pauses(&self) -> Pauses {
        Pauses::new(&self.config.timing, Arc::clone(&self.machine))
    }
}
