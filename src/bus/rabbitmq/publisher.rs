//! Publishing with confirms: one task, one channel, one window at a time.
//!
//! The library hands a returned message to whichever confirm completes next,
//! so a plain ack says nothing while others are in flight. It is sound to
//! judge a whole window: the broker sends a return before the ack of the same
//! message, so when every confirm of the window is there, every return of the
//! window was handed to one of them, and its `message_id` says whose it is.
//! What arrives meanwhile shares the next window: publishers that wait at the
//! same time pay for one round trip.

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

/// Messages in flight at once.
const WINDOW: usize = 256;

/// The way to the task that publishes.
#[derive(Clone)]
pub(super) struct Publisher {
    parcels: mpsc::Sender<Parcel>,
}

/// Messages of one caller, published in one window.
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

/// Opens the channel; the caller runs the task.
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
    /// Publishes all; `Ok` when the broker has confirmed every one of them.
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
    /// Publishes until the life ends.
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

    /// What waits already, up to about a window.
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
        // Callers get their own answer before the others hear that the session ends.
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

/// Messages of a window that the broker did not take.
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
        // A message without id cannot be ours to tell apart: blame the confirm it came with.
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
        // The channel closed under way: what is in flight knows the broker's word.
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
            // Confirms are on since the channel was opened.
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

/// Writes one message; the confirm is awaited by the caller.
pub(super) async fn publish(channel: &Channel, message: &Message) -> lapin::Result<lapin::PublisherConfirm> {
    let options = BasicPublishOptions { mandatory: message.mandatory, immediate: false };
    let Message { exchange, routing_key, properties, body, .. } = message;
    channel.basic_publish(exchange.clone(), routing_key.clone(), options, body, properties.clone()).await
}
