//! A session: its two connections and their tasks.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream;
use lapin::Channel;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::{BusError, Consumer, Outgoing, Queue, Session};
use super::life::Life;
use super::link::Link;
use super::message;
use super::publisher::Publisher;
use super::reply::Replies;
use super::steps;
use super::topology::Names;
use super::{IoRuntime, consumer, publisher};

/// How often the state of the connections is checked, in addition to their events.
const LOOK: Duration = Duration::from_millis(500);
/// How long an orderly close of one connection may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// A session with RabbitMQ.
pub(super) struct RabbitSession {
    names: Names,
    life: Life,
    links: Arc<Links>,
    publisher: Publisher,
    /// Counts the messages of queues.
    inspector: Channel,
    tasks: TaskTracker,
    /// Keeps the I/O threads alive as long as the session.
    io: Arc<IoRuntime>,
}

/// The connections. Publishing and consuming are separate, so that a session whose publishing is blocked can
/// still acknowledge.
pub(super) struct Links {
    pub(super) publish: Link,
    pub(super) consume: Link,
    pub(super) replies: Replies,
}

/// What a session is made of.
pub(super) struct Pieces {
    pub(super) names: Names,
    pub(super) life: Life,
    pub(super) links: Links,
    pub(super) inspector: Channel,
    /// Told whether the broker blocks publishers.
    pub(super) blocked: watch::Sender<bool>,
    pub(super) io: Arc<IoRuntime>,
}

impl RabbitSession {
    /// Starts the tasks of a session. Its topology exists already.
    pub(super) async fn start(pieces: Pieces) -> Result<Arc<Self>, BusError> {
        let Pieces { names, life, links, inspector, blocked, io } = pieces;
        let (publisher, publishing) = publisher::open(&links.publish, &life).await?;
        let links = Arc::new(links);
        let tasks = TaskTracker::new();
        let supervision = supervise(links.clone(), life.clone(), blocked);
        tasks.spawn_on(publishing.run(), io.handle());
        tasks.spawn_on(supervision, io.handle());
        Ok(Arc::new(Self { names, life, links, publisher, inspector, tasks, io }))
    }

    fn handle(&self) -> &Handle {
        self.io.handle()
    }
}

/// Watches both connections. If one of them ends, the session ends; when the session ends, both are shut
/// down.
async fn supervise(links: Arc<Links>, life: Life, blocked: watch::Sender<bool>) {
    let mut events = stream::select(
        links.publish.connection().events_listener(),
        links.consume.connection().events_listener(),
    );
    let mut tick = tokio::time::interval(LOOK);
    loop {
        let closed = tokio::select! {
            biased;
            () = life.closed().cancelled() => true,
            () = life.closing().cancelled() => {
                links.consume.close(GOODBYE).await;
                links.publish.close(GOODBYE).await;
                life.end();
                true
            }
            Some(event) = events.next() => { look(&links, &life, Some(&event)); false }
            _ = tick.tick() => { look(&links, &life, None); false }
        };
        if closed {
            break;
        }
        blocked.send_if_modified(|now| std::mem::replace(now, links.blocked()) != *now);
    }
    links.publish.sever();
    links.consume.sever();
    blocked.send_replace(false);
}

impl Links {
    fn blocked(&self) -> bool {
        self.publish.blocked() || self.consume.blocked()
    }
}

/// Ends the session if a connection has ended. Errors of channels are left to the code that uses these
/// channels.
fn look(links: &Links, life: &Life, event: Option<&lapin::Event>) {
    for (link, what) in [(&links.publish, "publishing connection"), (&links.consume, "consuming connection")]
    {
        if link.connection().status().connected() {
            continue;
        }
        let error = match event {
            Some(lapin::Event::Error(error)) => super::fault::failed(what, error),
            _ => BusError::Connection { what: what.into(), why: "it is no longer connected".into() },
        };
        life.fail(error);
    }
}

#[async_trait]
impl Session for RabbitSession {
    async fn publish(&self, message: Outgoing) -> Result<(), BusError> {
        self.publish_all(vec![message]).await
    }

    async fn publish_all(&self, messages: Vec<Outgoing>) -> Result<(), BusError> {
        let mut encoded = Vec::with_capacity(messages.len());
        let mut replies = Vec::new();
        for outgoing in &messages {
            let (message, reply) = message::encode(outgoing, &self.names)?;
            encoded.push(message);
            replies.extend(reply);
        }
        steps::publish("before", &messages);
        self.publisher.publish(encoded).await?;
        steps::publish("after", &messages);
        for reply in &replies {
            self.links.replies.send(reply, &self.links.publish, &self.life).await?;
        }
        Ok(())
    }

    async fn subscribe(&self, queue: Queue, prefetch: u16) -> Result<Consumer, BusError> {
        let name = self.names.queue(queue);
        let (consumer, subscription) =
            consumer::open(&self.links.consume, queue, name, prefetch, &self.life).await?;
        self.tasks.spawn_on(subscription.run(), self.handle());
        Ok(consumer)
    }

    async fn ready(&self, queue: Queue) -> Result<u32, BusError> {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let look = self.inspector.queue_declare(self.names.queue(queue), options, FieldTable::default());
        Ok(self.life.call("count the messages of a queue", look).await?.message_count())
    }

    fn closed(&self) -> CancellationToken {
        self.life.closed().clone()
    }

    fn cause(&self) -> Option<BusError> {
        self.life.cause().cloned()
    }

    async fn close(&self) {
        self.life.closing().cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(3 * GOODBYE, self.tasks.wait()).await;
        self.life.end();
    }
}

impl Drop for RabbitSession {
    fn drop(&mut self) {
        self.life.end();
    }
}
