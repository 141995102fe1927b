//! Publishing with confirms. One task publishes on one channel, one window of messages at a time.
//!
//! When the broker returns a message, the library attaches it to the confirm that completes next, which may
//! be that of another message. So a single confirm proves nothing while other messages are in flight. A whole
//! window can be decided: the broker sends a return before the confirm of the same message. When all confirms
//! of the window have arrived, all its returns are attached to them, and the `message_id` shows which
//! messages were returned.
//!
//! Messages that arrive in the meantime form the next window, so that publishers that wait at the same time
//! share one round trip.

use std::collections::HashSet;

use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{Channel, Confirmation};
use tokio::sync::{mpsc, oneshot};

use super::super::BusError;
use super::life::Life;
use super::link::Link;
use super::message::Message;

/// A window takes no further parcel once it has this many messages. One parcel has at most as many.
const WINDOW: usize = 256;

/// Sends messages to the task that publishes them.
#[derive(Clone)]
pub(super) struct Publisher {
    parcels: mpsc::Sender<Parcel>,
}

/// Messages of one caller that are published in the same window.
struct Parcel {
    messages: Vec<Message>,
    done: oneshot::Sender<Result<(), BusError>>,
}

/// The task behind [`Publisher`].
pub(super) struct PublisherTask {
    channel: Channel,
    parcels: mpsc::Receiver<Parcel>,
    life: Life,
}

/// Opens the channel. The caller runs the task.
pub(super) async fn open(link: &Link, life: &Life) -> Result<(Publisher, PublisherTask), BusError> {
    let channel = confirming_channel(link, life).await?;
    let (sender, parcels) = mpsc::channel(WINDOW);
    Ok((Publisher { parcels: sender }, PublisherTask { channel, parcels, life: life.clone() }))
}

/// A channel in confirm mode.
pub(super) async fn confirming_channel(link: &Link, life: &Life) -> Result<Channel, BusError> {
    let channel = life.call("open a channel", link.connection().create_channel()).await?;
    life.call("turn confirms on", channel.confirm_select(ConfirmSelectOptions::default())).await?;
    Ok(channel)
}

impl Publisher {
    /// Publishes all messages. `Ok` means that the broker has confirmed every one of them.
    pub(super) async fn publish(&self, messages: Vec<Message>) -> Result<(), BusError> {
        let mut messages = messages.into_iter().peekable();
        while messages.peek().is_some() {
            let (done, answer) = oneshot::channel();
            let parcel = Parcel { messages: messages.by_ref().take(WINDOW).collect(), done };
            self.parcels.send(parcel).await.map_err(|_| BusError::Closed)?;
            answer.await.map_err(|_| BusError::Closed)??;
        }
        Ok(())
    }
}

impl PublisherTask {
    /// Publishes until the session ends.
    pub(super) async fn run(mut self) {
        loop {
            let first = tokio::select! {
                biased;
                () = self.life.closed().cancelled() => return,
                parcel = self.parcels.recv() => parcel,
            };
            let Some(first) = first else { return };
            let window = self.collect(first);
            self.publish(window).await;
        }
    }

    /// Collects parcels that wait already, up to about one window.
    fn collect(&mut self, first: Parcel) -> Vec<Parcel> {
        let mut size = first.messages.len();
        let mut window = vec![first];
        while size < WINDOW {
            let Ok(parcel) = self.parcels.try_recv() else { break };
            size += parcel.messages.len();
            window.push(parcel);
        }
        window
    }

    async fn publish(&self, window: Vec<Parcel>) {
        let outcome = self.life.call("publish", send(&self.channel, &window)).await;
        let refusals = match outcome {
            Ok(refusals) => refusals,
            Err(error) => {
                for parcel in window {
                    let _ = parcel.done.send(Err(error.clone()));
                }
                return;
            }
        };
        // Each caller gets its own answer before the others learn that the session ends.
        let mut last = None;
        for parcel in window {
            let refused = parcel.messages.iter().find_map(|m| refusals.of(m));
            if let Some(error) = &refused {
                last = Some(error.clone());
            }
            let _ = parcel.done.send(refused.map_or(Ok(()), Err));
        }
        if let Some(error) = last {
            self.life.fail(error);
        }
    }
}

/// Messages of a window that the broker did not accept.
#[derive(Default)]
struct Refusals {
    returned: Vec<(ShortString, String)>,
    nacked: HashSet<ShortString>,
}

impl Refusals {
    fn of(&self, message: &Message) -> Option<BusError> {
        let returned = self.returned.iter().find(|(id, _)| *id == message.id).map(|(_, why)| why.clone());
        let why = match returned {
            Some(why) => format!(
                "{why}: no queue is bound for `{}` of exchange `{}`; start a daemon with broker.declare = true, or have an operator create the queue",
                message.routing_key, message.exchange
            ),
            None if self.nacked.contains(&message.id) => {
                "its queue could not store it (negative confirm); see the broker's log".into()
            }
            None => return None,
        };
        Some(BusError::Refused { what: message.what, why })
    }

    fn returned(&mut self, message: &BasicReturnMessage, sent: &ShortString) {
        // All our messages have an id. For a return without id we assume the message that this confirm
        // belongs to.
        let id = message.properties.message_id().clone().unwrap_or_else(|| sent.clone());
        self.returned.push((id, format!("{} {}", message.reply_code, message.reply_text)));
    }
}

async fn send(channel: &Channel, window: &[Parcel]) -> lapin::Result<Refusals> {
    let mut confirms = Vec::new();
    let mut broken = None;
    for message in window.iter().flat_map(|parcel| &parcel.messages) {
        match publish(channel, message).await {
            Ok(confirm) => confirms.push((&message.id, confirm)),
            Err(error) => {
                broken = Some(error);
                break;
            }
        }
    }
    if let Some(error) = broken {
        // The channel was closed meanwhile. The first message in flight carries the broker's reason.
        let first = confirms.into_iter().next();
        return Err(match first {
            Some((_, confirm)) => confirm.await.err().unwrap_or(error),
            None => error,
        });
    }
    let mut refusals = Refusals::default();
    for (id, confirm) in confirms {
        let (acked, returned) = match confirm.await? {
            Confirmation::Ack(returned) => (true, returned),
            Confirmation::Nack(returned) => (false, returned),
            // Cannot happen: the channel is in confirm mode from its start.
            Confirmation::NotRequested => (false, None),
        };
        if !acked {
            refusals.nacked.insert(id.clone());
        }
        if let Some(message) = returned {
            refusals.returned(&message, id);
        }
    }
    Ok(refusals)
}

/// Writes one message. The caller waits for its confirm.
pub(super) async fn publish(channel: &Channel, message: &Message) -> lapin::Result<lapin::PublisherConfirm> {
    let options = BasicPublishOptions { mandatory: message.mandatory, immediate: false };
    let Message { exchange, routing_key, properties, body, .. } = message;
    channel.basic_publish(exchange.clone(), routing_key.clone(), options, body, properties.clone()).await
}
