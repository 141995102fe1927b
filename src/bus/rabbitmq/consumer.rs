//! Subscriptions: one channel each, a task that forwards deliveries, and the
//! handles that settle them.
//!
//! The channel outlives the subscription: what handlers still work on after
//! the consumer was dropped is acknowledged on it.

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
use crate::failpoint;

/// What the end of a stream of deliveries means.
const ENDED: &str = "the broker ended the subscription: the queue was deleted, or a message was held for longer than the broker's consumer timeout";

/// A chunk may be held for longer than the 30 minutes after which the broker
/// ends a consumer by default. Brokers before 3.12 ignore the argument.
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
    /// Deliveries whose handle was dropped unsettled.
    abandoned: mpsc::Receiver<Acker>,
    cancelled: CancellationToken,
    life: Life,
}

/// What the handles of one subscription share. When the last one is gone,
/// nothing is left to settle.
struct Handles {
    /// Names the failpoints.
    queue: Queue,
    life: Life,
    abandon: mpsc::Sender<Acker>,
}

impl Subscription {
    /// Forwards until the consumer is dropped or the life ends.
    pub(super) async fn run(mut self) {
        loop {
            let delivery = tokio::select! {
                biased;
                () = self.life.closed().cancelled() => return,
                () = self.cancelled.cancelled() => break,
                delivery = self.incoming.next() => delivery,
            };
            // After `None` the stream must not be polled again: it never ends.
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
            // Room for all that the prefetch allows: as a rule this does not wait.
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

    /// A delivery for the handlers. Where only daemons publish, a message that
    /// cannot be read as a whole is nobody's: it is dropped here. Requests have
    /// a publisher who is to be told.
    async fn read(&self, delivery: lapin::message::Delivery) -> Result<Option<Delivery>, BusError> {
        let properties = message::received(&delivery.properties);
        if let Some(reason) = properties.defect() {
            let refused = self.handles.queue == Queue::Requests;
            let end = if refused { "is rejected" } else { "is dropped" };
            let message_id = properties.message_id.as_deref().unwrap_or("(none)");
            let queue = self.incoming.queue();
            warn!(%queue, message_id, reason, "a message cannot be read as it was sent and {end}");
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

    /// Cancels, gives back what nobody took, and keeps the channel open until
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

/// `false` says that the delivery belongs to a channel that is gone.
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
        failpoint::settle("before", "ack", self.shared.queue);
        settled(self.shared.life.call("acknowledge a message", acker.ack(options)).await?)?;
        failpoint::settle("after", "ack", self.shared.queue);
        Ok(())
    }

    async fn release(mut self: Box<Self>) -> Result<(), BusError> {
        let Some(acker) = self.acker.take() else { return Err(BusError::Closed) };
        failpoint::settle("before", "release", self.shared.queue);
        release(&self.shared.life, &acker).await
    }
}

impl Drop for Handle {
    /// Left to the task, which gives it back when the subscription ends. There
    /// is room for as many as the prefetch allows; beyond, the broker waits
    /// for the end of the session.
    fn drop(&mut self) {
        if let Some(acker) = self.acker.take() {
            let _ = self.shared.abandon.try_send(acker);
        }
    }
}
