//! The broker as publishers and observers see it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_rs::Runtime;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind};
use serde_json::Value;

use super::events::Events;
use super::services::{Services, block_on};
use super::wait::{PATIENCE, eventually};

/// The queue that receives all events of a site.
const OBSERVER: &str = "observer";

/// The names with one prefix on the broker. Dropping this value deletes them.
pub(crate) struct Broker {
    pub(crate) prefix: String,
    pub(crate) events: Events,
    services: &'static Services,
    root: PathBuf,
    link: Mutex<Link>,
}

struct Link {
    connection: Arc<Connection>,
    channel: Channel,
}

impl Broker {
    /// Connects and collects every event of `prefix` from now on. `root` is the folder that the events refer
    /// to.
    pub(crate) fn new(services: &'static Services, prefix: &str, root: &Path) -> Self {
        let events = Events::default();
        let link = block_on(Link::open(services, prefix, root, &events)).expect("connect to RabbitMQ");
        Self { prefix: prefix.to_owned(), events, services, root: root.to_owned(), link: Mutex::new(link) }
    }

    /// Connects again after the broker was away. Events of the meantime arrive now, unless the broker was
    /// wiped.
    #[track_caller]
    pub(crate) fn reconnect(&self) {
        let link = eventually("the observer is connected again", PATIENCE, || {
            block_on(Link::open(self.services, &self.prefix, &self.root, &self.events)).ok()
        });
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = link;
    }

    fn channel(&self) -> Channel {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).channel.clone()
    }

    /// A new channel, because a call that the broker refuses closes its channel.
    async fn fresh_channel(&self) -> lapin::Result<Channel> {
        let connection = self.link.lock().unwrap_or_else(PoisonError::into_inner).connection.clone();
        connection.create_channel().await
    }

    /// Removes the messages that wait in a queue.
    #[track_caller]
    pub(crate) fn purge(&self, queue: &str) -> u32 {
        let purge = self.channel();
        block_on(purge.queue_purge(self.queue(queue), QueuePurgeOptions::default())).expect("purge a queue")
    }

    /// Deletes a queue with its messages.
    #[track_caller]
    pub(crate) fn delete(&self, queue: &str) {
        let delete = self.channel();
        block_on(delete.queue_delete(self.queue(queue), QueueDeleteOptions::default()))
            .expect("delete a queue");
    }

    /// Declares a queue before any daemon does, with other arguments.
    #[track_caller]
    pub(crate) fn declare(&self, queue: &str, arguments: FieldTable) {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        block_on(self.channel().queue_declare(self.queue(queue), options, arguments))
            .expect("declare a queue");
    }

    /// Declares an exchange before any daemon does.
    #[track_caller]
    pub(crate) fn declare_exchange(&self, name: &str, kind: ExchangeKind) {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let channel = self.channel();
        let declared = channel.exchange_declare(name.into(), kind, options, FieldTable::default());
        block_on(declared).expect("declare an exchange");
    }

    /// Deletes an exchange.
    #[track_caller]
    pub(crate) fn delete_exchange(&self, name: &str) {
        let channel = self.channel();
        block_on(channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()))
            .expect("delete an exchange");
    }

    /// Publishes a request as other systems do: persistent and confirmed, through the default exchange.
    pub(crate) fn publish(&self, body: &[u8], properties: BasicProperties) {
        self.publish_to("requests", body, properties);
    }

    /// Publishes any message to one of the queues.
    #[track_caller]
    pub(crate) fn publish_to(&self, queue: &str, body: &[u8], properties: BasicProperties) {
        let properties = properties.with_delivery_mode(2).with_content_type("application/json".into());
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let publish = async || {
            let name = self.queue(queue);
            let channel = self.channel();
            let sent = channel.basic_publish("".into(), name, options, body, properties.clone());
            sent.await.expect("publish").await.expect("confirm")
        };
        // A quorum queue that was just declared has no leader yet and refuses messages.
        eventually(&format!("{queue} takes a message"), PATIENCE, || match block_on(publish()) {
            Confirmation::Ack(None) => Some(()),
            Confirmation::Nack(_) => None,
            other => panic!("publish to {queue}: {other:?}"),
        });
    }

    /// Publishes a message to all daemons, as the coordinator does.
    #[track_caller]
    pub(crate) fn broadcast(&self, body: &[u8]) {
        let properties = BasicProperties::default().with_content_type("application/json".into());
        let channel = self.channel();
        let (exchange, options) = (self.queue("control"), BasicPublishOptions::default());
        let publish =
            async { channel.basic_publish(exchange, "".into(), options, body, properties).await?.await };
        block_on(publish).expect("publish to the control exchange");
    }

    /// Publishes a request with a reply queue and waits for the reply.
    #[track_caller]
    pub(crate) fn call(&self, body: &[u8], properties: BasicProperties, correlation_id: &str) -> Value {
        let options = QueueDeclareOptions::exclusive();
        let channel = self.channel();
        let queue = block_on(channel.queue_declare("".into(), options, FieldTable::default()));
        let queue = queue.expect("declare a queue").name().clone();
        self.publish(
            body,
            properties.with_reply_to(queue.clone()).with_correlation_id(correlation_id.into()),
        );
        let get = || block_on(channel.basic_get(queue.clone(), BasicGetOptions { no_ack: true }));
        let answer = eventually("an answer", PATIENCE, || get().expect("get"));
        assert_eq!(
            answer.properties.correlation_id().as_ref().map(ShortString::as_str),
            Some(correlation_id)
        );
        serde_json::from_slice(&answer.data).expect("answers are JSON")
    }

    /// Number of messages that wait in a queue, without the delivered ones that are not acknowledged.
    pub(crate) fn ready(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let name = self.queue(queue);
        block_on(self.channel().queue_declare(name, options, FieldTable::default()))
            .unwrap_or_else(|error| panic!("queue {queue}: {error}"))
            .message_count()
    }

    /// Whether a queue exists. It uses a new channel, because a missing queue closes the channel.
    pub(crate) fn declared(&self, queue: &str) -> bool {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        block_on(async {
            let channel = self.fresh_channel().await.expect("open a channel");
            let found =
                channel.queue_declare(self.queue(queue), options, FieldTable::default()).await.is_ok();
            let _ = channel.close(200, "done".into()).await;
            found
        })
    }

    fn queue(&self, name: &str) -> ShortString {
        format!("{}.{name}", self.prefix).into()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        block_on(async {
            // A failed test may have lost its channel.
            let Ok(channel) = self.fresh_channel().await else { return };
            for queue in ["requests", "work", "coordinator", OBSERVER] {
                let _ = channel.queue_delete(self.queue(queue), QueueDeleteOptions::default()).await;
            }
            for exchange in [self.prefix.as_str().into(), self.queue("events"), self.queue("control")] {
                let _ = channel.exchange_delete(exchange, ExchangeDeleteOptions::default()).await;
            }
            let _ = channel.close(200, "done".into()).await;
        });
    }
}

impl Link {
    async fn open(services: &Services, prefix: &str, root: &Path, events: &Events) -> lapin::Result<Self> {
        let options = ConnectionProperties::default();
        let connection =
            Connection::connect_with_runtime(&services.url(), options, Runtime::tokio_current()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        collect(&channel, prefix, root, events).await?;
        Ok(Self { connection: Arc::new(connection), channel })
    }
}

/// The URL of the shared broker.
pub(crate) fn url() -> String {
    Services::get().url()
}

async fn collect(channel: &Channel, prefix: &str, root: &Path, events: &Events) -> lapin::Result<()> {
    let exchange: ShortString = format!("{prefix}.events").into();
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let none = FieldTable::default;
    channel.exchange_declare(exchange.clone(), ExchangeKind::Topic, durable, none()).await?;
    // The queue is durable, so that events wait in it while the observer is away.
    let queue: ShortString = format!("{prefix}.{OBSERVER}").into();
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.clone(), options, none()).await?;
    let bind = QueueBindOptions::default();
    channel.queue_bind(queue.clone(), exchange, "#".into(), bind, none()).await?;
    events.collect(
        channel.basic_consume(queue, "".into(), BasicConsumeOptions::default(), none()).await?,
        root,
    );
    Ok(())
}
