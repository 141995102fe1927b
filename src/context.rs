//! What every role of a process shares.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use crate::config::{Config, SourceConfig};
use crate::folder::Folder;
use crate::job::outcome::Owner;
use crate::job::report::Reporter;
use crate::message::SourceName;
use crate::metrics::Metrics;
use crate::source::Source;

/// A source and how it was configured.
pub struct SourceEntry {
    /// The database.
    pub source: Arc<dyn Source>,
    /// Its section of the configuration.
    pub config: SourceConfig,
}

/// The sources of this process; replaced as a whole on reload.
pub type Sources = BTreeMap<SourceName, Arc<SourceEntry>>;

/// Name of this host.
#[must_use]
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// What every role of a process shares.
pub struct Context {
    /// The configuration.
    pub config: Config,
    /// The export folder.
    pub folder: Folder,
    /// Whose workspaces are worked on.
    pub owner: Owner,
    /// Builds events.
    pub reporter: Reporter,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Unique per process start.
    pub instance: Uuid,
    /// Name of this host, for records.
    pub host: String,
    sources: std::sync::RwLock<Arc<Sources>>,
}

impl Context {
    /// Puts it together.
    #[must_use]
    pub fn new(
        config: Config,
        folder: Folder,
        owner: Owner,
        sources: Sources,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let reporter = Reporter { prefix: config.broker.prefix.clone() };
        Arc::new(Self {
            config,
            folder,
            owner,
            reporter,
            metrics,
            instance: Uuid::new_v4(),
            host: host(),
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
        Timestamp::now()
    }
}
