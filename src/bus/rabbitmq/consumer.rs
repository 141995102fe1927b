//! Subscriptions: each has a channel, a task that forwards deliveries, and handles that settle them.
//!
//! The channel stays open after the consumer was dropped, because handlers settle their last deliveries on
//! it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Acker, Channel};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::super::{BusError, Consumer, Delivery, Queue, Settle};
use super::fault;
use super::life::Life;
use super::link::Link;
use super::message;
use super::steps;

/// Why the stream of deliveries ends.
const ENDED: &str = "the broker ended the subscription: the queue was deleted, or a message was held for longer than the broker's consumer timeout";

/// How long a message may stay unsettled. A chunk may take longer than the 30 minutes after which RabbitMQ
/// ends a consumer by default. RabbitMQ before 3.12 ignores this argument.
const HELD_AT_MOST: Duration = Duration::from_secs(24 * 3600);

/// Subscribes on a new channel; the caller runs the task.
pub(super) async fn open(
    link: &Link,
    queue: Queue,
    name: ShortString,
    prefetch: u16,
    life: &Life,
) -> Result<(Consumer, Subscription), BusError> {
    let prefetch = prefetch.max(1);
    let channel = life.call("open a channel", link.connection().create_channel()).await?;
    life.call("set the prefetch", channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
    let mut arguments = FieldTable::default();
    let held = i64::try_from(HELD_AT_MOST.as_millis()).unwrap_or(i64::MAX);
    arguments.insert("x-consumer-timeout".into(), AMQPValue::LongLongInt(held));
    let consume = channel.basic_consume(name, "".into(), BasicConsumeOptions::default(), arguments);
    let incoming = life.call("consume", consume).await?;
    let (deliveries, receiver) = mpsc::channel(usize::from(prefetch));
    let (abandon, abandoned) = mpsc::channel(usize::from(prefetch));
    let cancelled = CancellationToken::new();
    let consumer = Consumer { deliveries: receiver, guard: cancelled.clone().drop_guard() };
    let life = life.clone();
    let handles = Arc::new(Handles { queue, life: life.clone(), abandon });
    Ok((consumer, Subscription { channel, incoming, deliveries, handles, abandoned, cancelled, life }))
}

/// The task of one subscription.
pub(super) struct Subscription {
    channel: Channel,
    incoming: lapin::Consumer,
    deliveries: mpsc::Sender<Delivery>,
    handles: Arc<Handles>,
    /// Deliveries whose handle was dropped before it settled them.
    abandoned: mpsc::Receiver<Acker>,
    cancelled: CancellationToken,
    life: Life,
}

/// Shared by the handles of one subscription. When the last handle is dropped, no delivery is left to settle.
struct Handles {
    /// Part of the names of the failpoints.
    queue: Queue,
    life: Life,
    abandon: mpsc::Sender<Acker>,
}

impl Subscription {
    /// Forwards deliveries until the consumer is dropped or the session ends.
    pub(super) async fn run(mut self) {
        loop {
            let delivery = tokio::select! {
                biased;
                () = self.life.closed().cancelled() => return,
                () = self.cancelled.cancelled() => break,
                delivery = self.incoming.next() => delivery,
            };
            // Do not poll the stream after it returned `None`: it would wait for ever.
            let delivery = match delivery {
                Some(Ok(delivery)) => match self.read(delivery).await {
                    Ok(Some(delivery)) => delivery,
                    Ok(None) => continue,
                    Err(_) => return,
                },
                Some(Err(error)) => {
                    self.life.fail(fault::failed(self.what(), &error));
                    return;
                }
                None => {
                    self.life.fail(BusError::Connection { what: self.what(), why: ENDED.into() });
                    return;
                }
            };
            // The channel has room for the whole prefetch, so this normally does not wait.
            let sent = tokio::select! {
                biased;
                () = self.life.closed().cancelled() => return,
                sent = self.deliveries.send(delivery) => sent,
            };
            if sent.is_err() {
                break;
            }
        }
        self.wind_down().await;
    }

    /// Makes a delivery for the handlers. If the message cannot be read as a whole and its queue is one in
    /// which only daemons publish, it is dropped here. A request is passed on, because its publisher must get
    /// a rejection.
    async fn read(&self, delivery: lapin::message::Delivery) -> Result<Option<Delivery>, BusError> {
        let properties = message::received(&delivery.properties);
        if let Some(reason) = properties.defect() {
            let refused = self.handles.queue == Queue::Requests;
            let outcome = if refused { "is rejected" } else { "is dropped" };
            let message_id = properties.message_id.as_deref().unwrap_or("(none)");
            let queue = self.incoming.queue();
            warn!(%queue, message_id, reason, outcome, "a message cannot be read as it was sent");
            if !refused {
                let ack = delivery.acker.ack(BasicAckOptions { multiple: false });
                settled(self.life.call("drop a message", ack).await?)?;
                return Ok(None);
            }
        }
        Ok(Some(Delivery {
            properties,
            redelivered: delivery.redelivered,
            body: delivery.data,
            settle: Box::new(Handle { acker: Some(delivery.acker), shared: self.handles.clone() }),
        }))
    }

    fn what(&self) -> String {
        format!("consume from `{}`", self.incoming.queue())
    }

    /// Cancels the subscription, gives back the deliveries that nobody took, and keeps the channel open until
    /// the last delivery is settled.
    async fn wind_down(self) {
        let Self { channel, mut incoming, deliveries, handles, mut abandoned, life, .. } = self;
        let cancel = channel.basic_cancel(incoming.tag(), BasicCancelOptions::default());
        if life.call("cancel a subscription", cancel).await.is_err() {
            return;
        }
        loop {
            let delivery = tokio::select! {
                biased;
                () = life.closed().cancelled() => return,
                delivery = incoming.next() => delivery,
            };
            let Some(Ok(delivery)) = delivery else { break };
            if release(&life, &delivery.acker).await.is_err() {
                return;
            }
        }
        drop((deliveries, handles));
        loop {
            let acker = tokio::select! {
                biased;
                () = life.closed().cancelled() => return,
                acker = abandoned.recv() => acker,
            };
            match acker {
                Some(acker) if release(&life, &acker).await.is_ok() => {}
                _ => break,
            }
        }
        let _ = life.attempt("close a channel", channel.close(200, "done".into())).await;
    }
}

async fn release(life: &Life, acker: &Acker) -> Result<(), BusError> {
    let options = BasicNackOptions { requeue: true, multiple: false };
    settled(life.call("release a message", acker.nack(options)).await?)
}

/// `written` is false if the channel of the delivery is closed.
fn settled(written: bool) -> Result<(), BusError> {
    if written { Ok(()) } else { Err(BusError::Closed) }
}

/// Settles one delivery.
struct Handle {
    acker: Option<Acker>,
    shared: Arc<Handles>,
}

#[async_trait]
impl Settle for Handle {
    async fn ack(mut self: Box<Self>) -> Result<(), BusError> {
        let Some(acker) = self.acker.take() else { return Err(BusError::Closed) };
        let options = BasicAckOptions { multiple: false };
        steps::settle("before", "ack", self.shared.queue);
        settled(self.shared.life.call("acknowledge a message", acker.ack(options)).await?)?;
        steps::settle("after", "ack", self.shared.queue);
        Ok(())
    }

    async fn release(mut self: Box<Self>) -> Result<(), BusError> {
        let Some(acker) = self.acker.take() else { return Err(BusError::Closed) };
        steps::settle("before", "release", self.shared.queue);
        release(&self.shared.life, &acker).await
    }
}

impl Drop for Handle {
    /// Hands the unsettled delivery to the task, which gives it back when the subscription ends. The channel
    /// has room for the whole prefetch; a delivery that does not fit comes back when the session ends.
    fn drop(&mut self) {
        if let Some(acker) = self.acker.take() {
            let _ = self.shared.abandon.try_send(acker);
        }
    }
}
