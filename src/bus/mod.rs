//! How messages travel: the [`Bus`] trait, which RabbitMQ and an in-process bus implement.
//!
//! A [`Bus`] opens sessions. A session lasts as long as its connection. When the connection breaks,
//! [`Session::closed`] fires, deliveries of the session can no longer be settled, and the daemon opens a new
//! session. Messages are only hints (the folder is the truth, invariant I3), so nothing is saved from one
//! session to the next.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::message::{Caller, Control, Event, InboxMessage, Task};

pub mod body;
pub mod memory;
pub mod rabbitmq;

/// The durable queues and the per-daemon control queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Queue {
    /// `<p>.requests`
    Requests,
    /// `<p>.work`
    Work,
    /// `<p>.coordinator`, single active consumer.
    Coordinator,
    /// The exclusive queue on the fanout `<p>.control`.
    Control,
}

/// What can go wrong with the broker. Every kind ends the session.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BusError {
    /// A call took longer than its deadline; whether it had an effect is unknown.
    #[error(
        "{what} took longer than {seconds} s; the broker may be blocked by a memory or disk alarm, or one of its queues has no leader (rabbitmqctl list_queues name state)"
    )]
    Timeout {
        /// The call.
        what: &'static str,
        /// Deadline of the call.
        seconds: u64,
    },
    /// The broker refused a message or could not route it.
    #[error("{what} was not accepted by the broker: {why}")]
    Refused {
        /// The call.
        what: &'static str,
        /// The reason that the broker gave.
        why: String,
    },
    /// The broker could not be reached, or the connection broke.
    #[error("{what}: {why}")]
    Connection {
        /// The call.
        what: String,
        /// The reason that the library or the broker gave.
        why: String,
    },
    /// A setting of the `[broker]` section cannot be used.
    #[error("{what}: {why}")]
    Setting {
        /// The setting.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A queue or exchange with one of our names exists, but cannot serve our purpose.
    #[error("{what} cannot be used: {why}")]
    Unusable {
        /// The queue or exchange.
        what: String,
        /// Why, and what to change.
        why: String,
    },
    /// The session is over.
    #[error("the connection to the broker is closed")]
    Closed,
}

/// A message to publish, and where it goes. Every message is persistent and confirmed by the broker.
#[derive(Clone, Debug)]
pub enum Outgoing {
    /// To `<p>.work`.
    Task(Task),
    /// To `<p>.coordinator`.
    Inbox(InboxMessage),
    /// To every daemon.
    Control(Control),
    /// To `<p>.events`, and to `reply_to` if the request gave one.
    Event {
        /// The event.
        event: Box<Event>,
        /// Queue in which the caller waits for the event.
        reply_to: Option<String>,
        /// The caller's correlation id.
        correlation_id: Option<String>,
    },
    /// To `<p>.requests`, as publishers do (CLI `submit`, `cancel`, `retry`).
    Request {
        /// The request as JSON.
        body: Vec<u8>,
        /// The `message_id` of the message.
        message_id: String,
    },
}

/// Properties of a received message that handlers look at.
#[derive(Clone, Debug, Default)]
pub struct Properties {
    /// `message_id`
    pub message_id: Option<String>,
    /// `correlation_id`
    pub correlation_id: Option<String>,
    /// `reply_to`
    pub reply_to: Option<String>,
    /// `user_id`, validated by the broker.
    pub user_id: Option<String>,
    /// W3C trace context from the headers.
    pub traceparent: Option<String>,
    /// `content_type`
    pub content_type: Option<String>,
    /// `content_encoding`
    pub content_encoding: Option<String>,
    /// A description of the properties and headers that could not be read.
    pub unreadable: Option<String>,
    /// Size in bytes of a body that was left out because it exceeds the limit.
    pub left_out: Option<u64>,
}

impl Properties {
    /// The fields that a job keeps.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller {
            message_id: self.message_id.clone(),
            reply_to: self.reply_to.clone(),
            correlation_id: self.correlation_id.clone(),
            traceparent: self.traceparent.clone(),
            user_id: self.user_id.clone(),
        }
    }

    /// What is wrong with the message, as far as its properties show. Handlers look at it before they read
    /// the body.
    #[must_use]
    pub fn defect(&self) -> Option<String> {
        let size = || self.left_out.map(|bytes| format!("its body has {bytes} bytes"));
        self.unreadable.clone().or_else(size)
    }
}

/// Settles one delivery. If it is dropped without a call, the message stays unsettled, and the broker
/// delivers it again when the session ends.
#[async_trait]
pub trait Settle: Send + Sync {
    /// Tells the broker to forget the message, because its effect is durable. After an error the message will
    /// come again.
    async fn ack(self: Box<Self>) -> Result<(), BusError>;
    /// Gives the message back to its queue, so that any consumer can take it.
    async fn release(self: Box<Self>) -> Result<(), BusError>;
}

/// A received message.
pub struct Delivery {
    /// The body.
    pub body: Vec<u8>,
    /// Whether the broker has delivered the message before.
    pub redelivered: bool,
    /// Properties of the message.
    pub properties: Properties,
    /// Settles the delivery.
    pub settle: Box<dyn Settle>,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery")
            .field("bytes", &self.body.len())
            .field("redelivered", &self.redelivered)
            .finish_non_exhaustive()
    }
}

/// A subscription to a queue. [`Consumer::next`] returns `None` when the session has ended. Dropping the
/// consumer cancels the subscription and gives back the deliveries that nobody has taken from it yet.
pub struct Consumer {
    /// Deliveries in the order of the broker. The prefetch limits their number.
    pub deliveries: mpsc::Receiver<Delivery>,
    /// Cancels the subscription when it is dropped.
    pub guard: tokio_util::sync::DropGuard,
}

impl Consumer {
    /// The next delivery; cancel-safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.deliveries.recv().await
    }
}

/// A connection to the broker, from its start to its end.
#[async_trait]
pub trait Session: Send + Sync {
    /// Publishes one message and waits for the broker's confirm. After an error nobody knows whether the
    /// message was delivered: publish it again, because receivers are idempotent.
    async fn publish(&self, message: Outgoing) -> Result<(), BusError>;

    /// Publishes many messages at once (pipelined). `Ok` means that the broker has confirmed all of them.
    async fn publish_all(&self, messages: Vec<Outgoing>) -> Result<(), BusError> {
        for message in messages {
            self.publish(message).await?;
        }
        Ok(())
    }

    /// Subscribes to a queue. `prefetch` is the largest number of deliveries that may be unsettled at a time.
    async fn subscribe(&self, queue: Queue, prefetch: u16) -> Result<Consumer, BusError>;

    /// Number of messages that wait in a queue, without the delivered ones.
    async fn ready(&self, queue: Queue) -> Result<u32, BusError>;

    /// Fires when the session has ended, for any reason.
    fn closed(&self) -> CancellationToken;

    /// Why the session ended; `None` if our side closed it.
    fn cause(&self) -> Option<BusError> {
        None
    }

    /// Ends the session in an orderly way.
    async fn close(&self);
}

/// Opens sessions.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Connects, and declares or checks the topology. It tries once; the daemon calls it again, with growing
    /// pauses.
    async fn connect(&self) -> Result<Arc<dyn Session>, BusError>;
}
