//! How messages travel: a seam with RabbitMQ and an in-process bus behind it.
//!
//! A [`Bus`] opens sessions. A session is one life of the connection: when
//! anything of it breaks, [`Session::closed`] fires, its deliveries can no
//! longer be settled, and the daemon opens a new one. No message carries
//! truth (invariant I3), so nothing is saved across sessions.

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
        /// Its deadline.
        seconds: u64,
    },
    /// The broker refused a message or could not route it.
    #[error("{what} was not accepted by the broker: {why}")]
    Refused {
        /// The call.
        what: &'static str,
        /// The broker's word.
        why: String,
    },
    /// The broker could not be reached, or the connection broke.
    #[error("{what}: {why}")]
    Connection {
        /// The call.
        what: String,
        /// The library's or broker's word.
        why: String,
    },
    /// A setting of the broker's section cannot be used.
    #[error("{what}: {why}")]
    Setting {
        /// The setting.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// What is there under one of our names cannot serve.
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

/// What is published, and where to. All of it is persistent and confirmed.
#[derive(Clone, Debug)]
pub enum Outgoing {
    /// To `<p>.work`.
    Task(Task),
    /// To `<p>.coordinator`.
    Inbox(InboxMessage),
    /// To every daemon.
    Control(Control),
    /// To `<p>.events`; also to `reply_to` where one is given.
    Event {
        /// The event.
        event: Box<Event>,
        /// Queue of the caller who waits for it.
        reply_to: Option<String>,
        /// The caller's correlation id.
        correlation_id: Option<String>,
    },
    /// To `<p>.requests`, as publishers do (CLI `submit`, `cancel`, `retry`).
    Request {
        /// JSON of the request.
        body: Vec<u8>,
        /// Identity of the message.
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
    /// What of the message could not be read, in words.
    pub unreadable: Option<String>,
    /// Bytes of a body that is larger than any may be, and was left out.
    pub left_out: Option<u64>,
}

impl Properties {
    /// What a job keeps of them.
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

    /// What is wrong with the message before anybody looks into its body.
    #[must_use]
    pub fn defect(&self) -> Option<String> {
        let size = || self.left_out.map(|bytes| format!("its body has {bytes} bytes"));
        self.unreadable.clone().or_else(size)
    }
}

/// Settles one delivery. Dropping it without a word leaves the message to the
/// broker, which delivers it again when the session ends.
#[async_trait]
pub trait Settle: Send + Sync {
    /// The effect is durable: forget the message. An error means that it will come again.
    async fn ack(self: Box<Self>) -> Result<(), BusError>;
    /// Give it back for somebody else.
    async fn release(self: Box<Self>) -> Result<(), BusError>;
}

/// A received message.
pub struct Delivery {
    /// The body.
    pub body: Vec<u8>,
    /// Whether the broker delivered it before.
    pub redelivered: bool,
    /// Its properties.
    pub properties: Properties,
    /// How to settle it.
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

/// A subscription to a queue. `None` from [`Consumer::next`] means that the
/// session is over. Dropping the consumer cancels it at the broker and gives
/// back what was delivered but not yet taken out of it.
pub struct Consumer {
    /// Deliveries, in the broker's order; bounded by the prefetch.
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

/// One life of the connection.
#[async_trait]
pub trait Session: Send + Sync {
    /// Publishes one message and waits for the broker's confirm. After an
    /// error it may or may not be out: publish again, receivers are idempotent.
    async fn publish(&self, message: Outgoing) -> Result<(), BusError>;

    /// Publishes many at once (pipelined); all are confirmed when it returns `Ok`.
    async fn publish_all(&self, messages: Vec<Outgoing>) -> Result<(), BusError> {
        for message in messages {
            self.publish(message).await?;
        }
        Ok(())
    }

    /// Subscribes. `prefetch` bounds what is delivered and not settled.
    async fn subscribe(&self, queue: Queue, prefetch: u16) -> Result<Consumer, BusError>;

    /// Messages that are ready in a queue, delivered ones aside.
    async fn ready(&self, queue: Queue) -> Result<u32, BusError>;

    /// Fires when the session is over, for whatever reason.
    fn closed(&self) -> CancellationToken;

    /// Why the session ended, where nobody closed it.
    fn cause(&self) -> Option<BusError> {
        None
    }

    /// Ends the session in an orderly way.
    async fn close(&self);
}

/// Opens sessions.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Connects, declares or checks the topology. One attempt: the daemon's
    /// supervision repeats it with backoff.
    async fn connect(&self) -> Result<Arc<dyn Session>, BusError>;
}
