//! The bus of one process: every call is an effect. An error ends the session, as with RabbitMQ.

use std::sync::Arc;
use std::time::Duration;

use adu_export::bus::{Bus, BusError, Consumer, Outgoing, Properties, Queue, Session, Settle};
use adu_export::message::InboxMessage;
use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::broker::{Line, Message};
use crate::faults::Kind;
use crate::process::{Process, Refused};
use crate::witness;
use crate::world::World;

pub(crate) struct SimBus(pub(crate) Arc<Process>);

fn failed() -> BusError {
    BusError::Connection { what: "the broker".into(), why: "the connection broke".into() }
}

/// Puts a message into a queue. It may come late, twice or never. Requests are never lost, because publishers
/// would send them again.
pub(crate) fn send(world: &World, line: Line, body: &[u8], properties: &Properties) {
    let faults = &world.faults;
    let stormy = world.is_stormy();
    let message = || Message {
        body: body.to_vec(),
        properties: properties.clone(),
        redelivered: false,
        ready: Instant::now() + world.up_to(faults.travel),
    };
    let lost = stormy && line != Line::Requests && world.dice(|d| d.chance(faults.lose));
    if !lost {
        let first = message();
        world.broker().push(line, first);
    }
    if stormy && world.dice(|d| d.chance(faults.duplicate)) {
        let mut second = message();
        second.ready += world.up_to(3_000);
        world.broker().push(line, second);
    }
    world.deliver.notify_one();
}

/// Delivers for ever.
pub(crate) async fn deliver(
    world: Arc<World>,
    processes: impl Fn(u64) -> Option<Arc<Process>> + Send + Sync + 'static,
) {
    let processes = Arc::new(processes);
    loop {
        let settle = |tag, process| -> Box<dyn Settle> {
            Box::new(Handle { tag, world: Arc::clone(&world), process: processes(process), settled: false })
        };
        let abandoned = world.take_abandoned();
        world.broker().abandon(abandoned);
        let next = world.broker().deliver(settle);
        match next {
            Some(at) => {
                let _ = tokio::time::timeout_at(at, world.deliver.notified()).await;
            }
            None => world.deliver.notified().await,
        }
    }
}

#[async_trait]
impl Bus for SimBus {
    async fn connect(&self) -> Result<Arc<dyn Session>, BusError> {
        let connect = |_| self.0.world.broker().open(self.0.life);
        let (id, closed) =
            self.0.act(Kind::Bus, "connects", "", connect).await.map_err(|Refused| failed())?;
        Ok(Arc::new(SimSession { process: Arc::clone(&self.0), id, closed }))
    }
}

struct SimSession {
    process: Arc<Process>,
    id: u64,
    closed: CancellationToken,
}

impl SimSession {
    fn world(&self) -> &World {
        &self.process.world
    }

    /// Makes one call to the broker. After an error the session is over.
    async fn call<T: Send>(
        &self,
        what: &str,
        on: &str,
        perform: impl FnOnce() -> T + Send,
    ) -> Result<T, BusError> {
        let called = self.process.act(Kind::Bus, what, on, |_| {
            let open = self.world().broker().is_open(self.id);
            open.then(perform)
        });
        match called.await {
            Ok(Some(done)) => Ok(done),
            Ok(None) => Err(BusError::Closed),
            Err(Refused) => {
                self.sever();
                Err(failed())
            }
        }
    }

    fn sever(&self) {
        let noticed = Instant::now() + self.world().up_to(200);
        self.world().broker().sever(self.id, noticed);
        self.world().deliver.notify_one();
    }
}

#[async_trait]
impl Session for SimSession {
    async fn publish(&self, message: Outgoing) -> Result<(), BusError> {
        let body = message.body()?;
        let mut properties = Properties { correlation_id: message.correlation(), ..Properties::default() };
        let what = message.what();
        let shown =
            String::from_utf8_lossy(if matches!(message, Outgoing::Event { .. }) { b"" } else { &body });
        let on = format!("{what} {shown}");
        let publish = || {
            let world = self.world();
            match message {
                Outgoing::Task(_) => send(world, Line::Work, &body, &properties),
                Outgoing::Inbox(inbox) => {
                    if let InboxMessage::Wake(wake) = &inbox
                        && let Some(job) = &wake.job
                    {
                        let chunk = wake.chunk.map(|c| (c.batch_id(), c.chunk));
                        world.broker().wakes.insert((self.process.life, job.to_string(), chunk));
                    }
                    send(world, Line::Coordinator, &body, &properties);
                }
                Outgoing::Control(_) => {
                    let lines = world.broker().controls();
                    for line in lines {
                        send(world, line, &body, &properties);
                    }
                }
                Outgoing::Event { event, .. } => {
                    witness::said(world, &event);
                    world.broker().events.push(*event);
                }
                Outgoing::Request { message_id, .. } => {
                    properties.message_id = Some(message_id);
                    send(world, Line::Requests, &body, &properties);
                }
            }
        };
        self.call("publishes", &on, publish).await
    }

    async fn subscribe(&self, queue: Queue, prefetch: u16) -> Result<Consumer, BusError> {
        let dropped = CancellationToken::new();
        let guard = dropped.clone().drop_guard();
        let line = Line::of(queue, self.id);
        let subscribe = || self.world().broker().subscribe(line, self.id, usize::from(prefetch), dropped);
        let deliveries = self.call("subscribes", &format!("{queue:?}"), subscribe).await?;
        self.world().deliver.notify_one();
        Ok(Consumer { deliveries, guard })
    }

    async fn ready(&self, queue: Queue) -> Result<u32, BusError> {
        let line = Line::of(queue, self.id);
        let ready = self.call("counts", &format!("{queue:?}"), || self.world().broker().ready(line)).await?;
        Ok(u32::try_from(ready).unwrap_or(u32::MAX))
    }

    fn closed(&self) -> CancellationToken {
        self.closed.clone()
    }

    async fn close(&self) {
        self.process.runs().await;
        self.world().broker().sever(self.id, Instant::now());
        self.world().deliver.notify_one();
    }
}

struct Handle {
    tag: u64,
    world: Arc<World>,
    process: Option<Arc<Process>>,
    settled: bool,
}

impl Handle {
    async fn settle(
        &mut self,
        what: &str,
        settle: impl FnOnce(&Self) -> bool + Send,
    ) -> Result<(), BusError> {
        self.settled = true;
        let Some(process) = self.process.clone() else { return Err(BusError::Closed) };
        let this = &*self;
        let settled = process.act(Kind::Bus, what, &this.tag.to_string(), |_| settle(this)).await;
        this.world.deliver.notify_one();
        match settled {
            Ok(true) => Ok(()),
            Ok(false) => Err(BusError::Closed),
            Err(Refused) => {
                let sessions = this.world.broker().sessions_of(process.life);
                for session in sessions {
                    this.world.broker().sever(session, Instant::now() + Duration::from_millis(20));
                }
                this.world.deliver.notify_one();
                Err(failed())
            }
        }
    }
}

#[async_trait]
impl Settle for Handle {
    async fn ack(mut self: Box<Self>) -> Result<(), BusError> {
        let ack = |this: &Self| {
            let life = this.process.as_ref().map_or(0, |p| p.life);
            let unacked = this.world.broker().settle(this.tag);
            if let Some(unacked) = &unacked {
                witness::acknowledged(&this.world, life, unacked);
            }
            unacked.is_some()
        };
        self.settle("acknowledges", ack).await
    }

    async fn release(mut self: Box<Self>) -> Result<(), BusError> {
        self.settle("releases", |this| this.world.broker().requeue(this.tag)).await
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.settled {
            self.world.abandon(self.tag);
        }
    }
}
