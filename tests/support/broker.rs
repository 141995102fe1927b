//! A publisher's and an observer's view of the broker.

use std::path::Path;

use async_rs::Runtime;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind};
use serde_json::Value;

use super::events::Events;
use super::services::{Services, block_on};
use super::wait::{PATIENCE, eventually};

/// Names below one prefix; they are deleted with this value.
pub(crate) struct Broker {
    pub(crate) prefix: String,
    pub(crate) events: Events,
    connection: Connection,
    channel: Channel,
}

impl Broker {
    /// Connects and collects every event of `prefix` from now on; `root` is where they point to.
    pub(crate) fn new(prefix: &str, root: &Path) -> Self {
        block_on(async {
            let runtime = Runtime::tokio_current();
            let options = ConnectionProperties::default();
            let connection = Connection::connect_with_runtime(&url(), options, runtime)
                .await
                .expect("connect to RabbitMQ");
            let channel = connection.create_channel().await.expect("open a channel");
            channel.confirm_select(ConfirmSelectOptions::default()).await.expect("select confirms");
            let events = collect(&channel, prefix, root).await;
            Self { prefix: prefix.to_owned(), events, connection, channel }
        })
    }

    /// Publishes a request as other systems do: persistent, confirmed, by the default exchange.
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
            let sent = self.channel.basic_publish("".into(), name, options, body, properties.clone());
            sent.await.expect("publish").await.expect("confirm")
        };
        // A quorum queue that was just declared has no leader yet and refuses.
        eventually(&format!("{queue} takes a message"), PATIENCE, || match block_on(publish()) {
            Confirmation::Ack(None) => Some(()),
            Confirmation::Nack(_) => None,
            other => panic!("publish to {queue}: {other:?}"),
        });
    }

    /// Publishes a request with a queue for the answer and waits for it.
    #[track_caller]
    pub(crate) fn call(&self, body: &[u8], properties: BasicProperties, correlation_id: &str) -> Value {
        let options = QueueDeclareOptions::exclusive();
        let queue = block_on(self.channel.queue_declare("".into(), options, FieldTable::default()));
        let queue = queue.expect("declare a queue").name().clone();
        self.publish(
            body,
            properties.with_reply_to(queue.clone()).with_correlation_id(correlation_id.into()),
        );
        let get = || block_on(self.channel.basic_get(queue.clone(), BasicGetOptions { no_ack: true }));
        let answer = eventually("an answer", PATIENCE, || get().expect("get"));
        assert_eq!(
            answer.properties.correlation_id().as_ref().map(ShortString::as_str),
            Some(correlation_id)
        );
        serde_json::from_slice(&answer.data).expect("answers are JSON")
    }

    /// Messages that wait in a queue; those delivered and not acknowledged do not count.
    pub(crate) fn ready(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let name = self.queue(queue);
        block_on(self.channel.queue_declare(name, options, FieldTable::default()))
            .unwrap_or_else(|error| panic!("queue {queue}: {error}"))
            .message_count()
    }

    /// Whether a queue exists. Asked on a channel of its own: a missing queue closes it.
    pub(crate) fn declared(&self, queue: &str) -> bool {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        block_on(async {
            let channel = self.connection.create_channel().await.expect("open a channel");
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
            // A test that failed may have lost its channel.
            let Ok(channel) = self.connection.create_channel().await else { return };
            for queue in ["requests", "work", "coordinator"] {
                let _ = channel.queue_delete(self.queue(queue), QueueDeleteOptions::default()).await;
            }
            for exchange in [self.prefix.as_str().into(), self.queue("events"), self.queue("control")] {
                let _ = channel.exchange_delete(exchange, ExchangeDeleteOptions::default()).await;
            }
            let _ = self.connection.close(200, "done".into()).await;
        });
    }
}

/// Where the broker is.
pub(crate) fn url() -> String {
    format!("amqp://guest:guest@127.0.0.1:{}/%2f", Services::get().amqp)
}

async fn collect(channel: &Channel, prefix: &str, root: &Path) -> Events {
    let exchange: ShortString = format!("{prefix}.events").into();
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let none = FieldTable::default;
    channel.exchange_declare(exchange.clone(), ExchangeKind::Topic, durable, none()).await.expect("declare");
    let options = QueueDeclareOptions::exclusive();
    let queue = channel.queue_declare("".into(), options, none()).await.expect("declare a queue");
    let bind = QueueBindOptions::default();
    channel.queue_bind(queue.name().clone(), exchange, "#".into(), bind, none()).await.expect("bind");
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let consumer =
        channel.basic_consume(queue.name().clone(), "".into(), options, none()).await.expect("consume");
    Events::collect(consumer, root)
}
