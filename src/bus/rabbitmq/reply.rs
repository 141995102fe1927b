//! Copies of events for callers who gave a `reply_to`.
//!
//! The queue's name comes from a stranger. What the broker says about it (no
//! permission, no such exchange) ends the channel of replies, never the
//! session: else one request could keep every daemon reconnecting.

use lapin::{Channel, Confirmation};
use tokio::sync::Mutex;
use tracing::warn;

use super::super::BusError;
use super::fault;
use super::life::Life;
use super::link::Link;
use super::message::Message;
use super::publisher;

/// The channel of replies, opened when there is one to send.
#[derive(Default)]
pub(super) struct Replies(Mutex<Option<Channel>>);

impl Replies {
    /// Sends a reply. A queue that is gone swallows it: the caller stopped waiting.
    pub(super) async fn send(&self, reply: &Message, link: &Link, life: &Life) -> Result<(), BusError> {
        let mut slot = self.0.lock().await;
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
}
