//! Names of queues and exchanges, and how they are created.
//!
//! We declare only type, durability and single-active-consumer: any other argument could clash with settings
//! of the operators.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};
use tracing::warn;
use uuid::Uuid;

use super::super::{BusError, Queue};
use super::fault::{self, Misfit};
use super::life::Life;
use super::link::Link;

/// The names that begin with the prefix, and the names of one session's own queues.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
    session: Uuid,
}

/// Routing keys of the direct exchange.
pub(super) const REQUEST: &str = "request";
pub(super) const WORK: &str = "work";
pub(super) const WAKE: &str = "wake";

impl Names {
    pub(super) fn new(prefix: &str, session: Uuid) -> Self {
        Self { prefix: prefix.into(), session }
    }

    pub(super) fn direct(&self) -> ShortString {
        self.prefix.as_str().into()
    }

    pub(super) fn control(&self) -> ShortString {
        self.suffixed("control")
    }

    pub(super) fn events(&self) -> ShortString {
        self.suffixed("events")
    }

    pub(super) fn queue(&self, queue: Queue) -> ShortString {
        match queue {
            Queue::Requests => self.suffixed("requests"),
            Queue::Work => self.suffixed("work"),
            Queue::Coordinator => self.suffixed("coordinator"),
            Queue::Control => format!("{}.control.{}", self.prefix, self.session).into(),
        }
    }

    /// The exclusive queue of a client that waits for events.
    pub(super) fn client(&self) -> ShortString {
        format!("{}.client.{}", self.prefix, self.session).into()
    }

    /// Whether the queue belongs to the daemons. No reply may go there.
    pub(super) fn is_internal(&self, queue: &str) -> bool {
        let own = |q| self.queue(q).as_str() == queue;
        own(Queue::Requests)
            || own(Queue::Work)
            || own(Queue::Coordinator)
            || queue.starts_with(&format!("{}.control.", self.prefix))
    }

    fn suffixed(&self, suffix: &str) -> ShortString {
        format!("{}.{suffix}", self.prefix).into()
    }
}

/// Creates the queues and exchanges that are missing, or only checks them.
pub(super) struct Topology<'a> {
    pub(super) names: &'a Names,
    pub(super) declare: bool,
    pub(super) link: &'a Link,
    pub(super) life: &'a Life,
    /// Differences that were logged already, so that they are not logged at every connection.
    pub(super) told: &'a Mutex<BTreeSet<String>>,
}

impl Topology<'_> {
    /// Declares or checks everything. Returns its channel, which the session uses further.
    pub(super) async fn establish(&self) -> Result<Channel, BusError> {
        let mut channel = self.channel().await?;
        let names = self.names;
        for (name, kind) in [
            (names.direct(), ExchangeKind::Direct),
            (names.control(), ExchangeKind::Fanout),
            (names.events(), ExchangeKind::Topic),
        ] {
            channel = self.exchange(channel, name, kind).await?;
        }
        for (queue, key) in [(Queue::Requests, REQUEST), (Queue::Work, WORK), (Queue::Coordinator, WAKE)] {
            channel = self.durable(channel, queue).await?;
            if self.declare {
                self.bind(&channel, names.queue(queue), names.direct(), key).await?;
            }
        }
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        let control = names.queue(Queue::Control);
        self.life
            .call(
                "declare the control queue",
                channel.queue_declare(control.clone(), options, FieldTable::default()),
            )
            .await?;
        self.bind(&channel, control, names.control(), "").await?;
        Ok(channel)
    }

    async fn channel(&self) -> Result<Channel, BusError> {
        self.life.call("open a channel", self.link.connection().create_channel()).await
    }

    async fn exchange(
        &self,
        channel: Channel,
        name: ShortString,
        kind: ExchangeKind,
    ) -> Result<Channel, BusError> {
        let attempt = |channel: Channel, passive| {
            let (name, kind) = (name.clone(), kind.clone());
            let options = ExchangeDeclareOptions { durable: true, passive, ..Default::default() };
            async move {
                let declared = channel.exchange_declare(name, kind, options, FieldTable::default()).await;
                declared.map(|()| channel)
            }
        };
        if self.declare {
            match self.life.attempt("declare an exchange", attempt(channel, false)).await? {
                Ok(channel) => return Ok(channel),
                Err(error) => {
                    self.tolerate(&format!("exchange `{name}`"), &error, |m| m.of_exchange(&kind))?;
                }
            }
            let channel = self.channel().await?;
            return self.life.call("check an exchange", attempt(channel, true)).await;
        }
        self.life.call("check an exchange", attempt(channel, true)).await
    }

    async fn durable(&self, channel: Channel, queue: Queue) -> Result<Channel, BusError> {
        let name = self.names.queue(queue);
        let attempt = |channel: Channel, passive| {
            let name = name.clone();
            let options = QueueDeclareOptions { durable: true, passive, ..Default::default() };
            async move { channel.queue_declare(name, options, arguments(queue)).await.map(|_| channel) }
        };
        if self.declare {
            match self.life.attempt("declare a queue", attempt(channel, false)).await? {
                Ok(channel) => return Ok(channel),
                Err(error) => self.tolerate(&format!("queue `{name}`"), &error, Misfit::of_queue)?,
            }
            let channel = self.channel().await?;
            return self.life.call("check a queue", attempt(channel, true)).await;
        }
        self.life.call("check a queue", attempt(channel, true)).await
    }

    /// Accepts an object that has other arguments than ours, unless it cannot work. Any other error ends the
    /// session.
    fn tolerate(
        &self,
        what: &str,
        error: &lapin::Error,
        useless: impl FnOnce(&Misfit) -> Option<String>,
    ) -> Result<(), BusError> {
        let Some(misfit) = Misfit::read(error) else {
            return Err(self.life.fail(fault::failed(format!("declare {what}"), error)));
        };
        if let Some(why) = useless(&misfit) {
            return Err(self.life.fail(BusError::Unusable { what: what.into(), why }));
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert(misfit.said.clone()) {
            warn!(
                object = what,
                reason = misfit.said,
                "a queue or exchange exists with other arguments than ours and is used as it is"
            );
        }
        Ok(())
    }

    async fn bind(
        &self,
        channel: &Channel,
        queue: ShortString,
        exchange: ShortString,
        key: &str,
    ) -> Result<(), BusError> {
        let bind = channel.queue_bind(
            queue,
            exchange,
            key.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        self.life.call("bind a queue", bind).await
    }
}

fn arguments(queue: Queue) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), lapin::types::AMQPValue::LongString("quorum".into()));
    if queue == Queue::Coordinator {
        arguments.insert("x-single-active-consumer".into(), true.into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_prefix_and_control_queues_are_told_apart() {
        let names = Names::new("p", Uuid::nil());
        assert_eq!(names.queue(Queue::Coordinator).as_str(), "p.coordinator");
        assert_eq!(names.events().as_str(), "p.events");
        assert!(names.is_internal("p.work"));
        assert!(names.is_internal(names.queue(Queue::Control).as_str()));
        assert!(!names.is_internal(names.client().as_str()));
        assert_ne!(names.queue(Queue::Control), Names::new("p", Uuid::max()).queue(Queue::Control));
    }
}
