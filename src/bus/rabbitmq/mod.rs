//! The [`Bus`] over RabbitMQ.
//!
//! A session has two connections. Their I/O runs on its own threads, so that a busy program never misses a
//! heartbeat. We do not use the recovery of the library: any error, ended stream or returned message ends the
//! session, and the daemon opens a new one.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use uuid::Uuid;

use super::{Bus, BusError, Session};
use crate::config::BrokerConfig;
use address::Address;
use link::{Dial, Purpose};
use reply::Replies;
use session::{Links, Pieces, RabbitSession};
use topology::{Names, Topology};

mod address;
mod client;
mod consumer;
mod fault;
mod life;
mod link;
mod message;
mod publisher;
mod reply;
mod session;
mod steps;
mod topology;
mod url;
mod wire;

pub use client::Client;

/// Opens sessions with one broker.
pub struct RabbitBus {
    config: BrokerConfig,
    name: String,
    blocked: watch::Sender<bool>,
    /// Differences of queues and exchanges that were logged already.
    told: Mutex<BTreeSet<String>>,
    io: Arc<IoRuntime>,
}

impl RabbitBus {
    /// Prepares a bus without connecting. The broker's management page shows the connections under `name`.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn new(config: &BrokerConfig, name: &str) -> Result<Self, BusError> {
        let io = Arc::new(IoRuntime::start()?);
        let (blocked, _) = watch::channel(false);
        Ok(Self { config: config.clone(), name: name.into(), blocked, told: Mutex::default(), io })
    }

    /// The virtual host that the configuration names.
    ///
    /// # Errors
    /// If the URL or a certificate cannot be read.
    pub fn vhost(&self) -> Result<String, BusError> {
        Ok(Address::read(&self.config)?.vhost().to_owned())
    }

    /// Whether the broker blocks publishing because of a memory or disk alarm.
    #[must_use]
    pub fn blocked(&self) -> watch::Receiver<bool> {
        self.blocked.subscribe()
    }

    /// Connects for the command line, which only publishes requests and waits for their events. This needs
    /// fewer permissions than a daemon has.
    ///
    /// # Errors
    /// If the broker cannot be reached or refuses the connection.
    pub async fn client(&self) -> Result<Client, BusError> {
        let (link, life) = self.dial()?.open(Purpose::Client).await?;
        Client::start(Names::new(&self.config.prefix, Uuid::new_v4()), life, link, self.io.clone()).await
    }

    fn dial(&self) -> Result<Dial, BusError> {
        Ok(Dial {
            address: Arc::new(Address::read(&self.config)?),
            name: self.name.clone(),
            io: self.io.handle().clone(),
            call_timeout: self.config.call_timeout.0,
        })
    }
}

#[async_trait]
impl Bus for RabbitBus {
    async fn connect(&self) -> Result<Arc<dyn Session>, BusError> {
        let dial = self.dial()?;
        let (consume, life) = dial.open(Purpose::Consume).await?;
        let publish = dial.link(Purpose::Publish).await?;
        let names = Names::new(&self.config.prefix, Uuid::new_v4());
        let topology = Topology {
            names: &names,
            declare: self.config.declare,
            link: &consume,
            life: &life,
            told: &self.told,
        };
        let inspector = topology.establish().await?;
        let links = Links { publish, consume, replies: Replies::new(dial) };
        let (blocked, io) = (self.blocked.clone(), self.io.clone());
        Ok(RabbitSession::start(Pieces { names, life, links, inspector, blocked, io }).await?)
    }
}

/// The threads that do all I/O with the broker.
struct IoRuntime(Option<Runtime>, Handle);

impl IoRuntime {
    fn start() -> Result<Self, BusError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("adu-bus")
            .enable_all()
            .build()
            .map_err(|e| BusError::Connection {
                what: "start the threads of the bus".into(),
                why: e.to_string(),
            })?;
        let handle = runtime.handle().clone();
        Ok(Self(Some(runtime), handle))
    }

    fn handle(&self) -> &Handle {
        &self.1
    }
}

impl Drop for IoRuntime {
    fn drop(&mut self) {
        // Dropping a runtime waits for its threads, which tokio forbids on a thread that runs tasks.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
