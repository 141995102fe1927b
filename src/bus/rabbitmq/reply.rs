//! Copies of events for callers who gave a `reply_to`.
//!
//! The name of the queue comes from a publisher. An error of the broker about it (no permission, no such
//! exchange) ends only the channel of replies, not the session; otherwise one request could make every daemon
//! reconnect again and again.
//!
//! RabbitMQ decodes the names of direct reply-to queues and closes the whole connection if it cannot. So each
//! such reply has its own connection.

use lapin::{Channel, Confirmation};
use tokio::sync::Mutex;
use tracing::warn;

use super::super::BusError;
use super::fault;
use super::life::Life;
use super::link::{Dial, Link, Purpose};
use super::message::Message;
use super::publisher;

/// Prefix of the names of direct reply-to queues.
const DIRECT: &str = "amq.rabbitmq.reply-to.";

/// Sends replies on a channel that is opened for the first of them.
pub(super) struct Replies {
    channel: Mutex<Option<Channel>>,
    /// Opens the connections of single replies.
    dial: Dial,
}

impl Replies {
    pub(super) fn new(dial: Dial) -> Self {
        Self { channel: Mutex::default(), dial }
    }

    /// Sends a reply. If its queue no longer exists, the reply is lost without an error: the caller has
    /// stopped waiting.
    pub(super) async fn send(&self, reply: &Message, link: &Link, life: &Life) -> Result<(), BusError> {
        if reply.routing_key.as_str().starts_with(DIRECT) {
            return tokio::select! {
                biased;
                () = life.closed().cancelled() => Err(BusError::Closed),
                () = self.send_apart(reply) => Ok(()),
            };
        }
        let mut slot = self.channel.lock().await;
        let channel = match slot.take() {
            Some(channel) => channel,
            None => publisher::confirming_channel(link, life).await?,
        };
        let sent = life
            .attempt("publish a reply", async { publisher::publish(&channel, reply).await?.await })
            .await?;
        match sent {
            Ok(Confirmation::Ack(_) | Confirmation::NotRequested) => *slot = Some(channel),
            Ok(Confirmation::Nack(_)) => {
                warn!(queue = %reply.routing_key, message_id = %reply.id, "the queue of `reply_to` did not take the reply");
                *slot = Some(channel);
            }
            Err(error) if error.is_amqp_soft_error() => {
                let error = fault::failed("publish a reply", &error);
                warn!(queue = %reply.routing_key, message_id = %reply.id, %error, "no reply is sent");
            }
            Err(error) => return Err(life.fail(fault::failed("publish a reply", &error))),
        }
        Ok(())
    }

    /// Sends a reply on its own connection. Errors of this connection do not concern the session.
    async fn send_apart(&self, reply: &Message) {
        let sent = async {
            let (link, life) = self.dial.open(Purpose::Reply).await?;
            let channel = publisher::confirming_channel(&link, &life).await?;
            let sent = async { publisher::publish(&channel, reply).await?.await };
            life.call("publish a reply", sent).await?;
            link.close(life.call_timeout()).await;
            Ok::<_, BusError>(())
        };
        if let Err(error) = sent.await {
            warn!(queue = %reply.routing_key, message_id = %reply.id, %error, "no reply is sent");
        }
    }
}
