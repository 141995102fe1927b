//! Translates an [`Outgoing`] for RabbitMQ: exchange, routing key, properties.

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use tracing::warn;
use uuid::Uuid;

use super::super::{BusError, Outgoing, Properties};
use super::topology::{Names, REQUEST, WAKE, WORK};
use super::wire::{LEFT_OUT, TRACEPARENT, UNREADABLE};

const APP_ID: &str = "adu-export";
const PERSISTENT: u8 = 2;

/// A message that is ready to be published.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) what: &'static str,
    /// The `message_id`. It identifies the message if the broker returns it.
    pub(super) id: ShortString,
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    /// Whether the broker returns the message if no queue takes it.
    pub(super) mandatory: bool,
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
}

/// The message, and a copy for the caller if the request asked for a reply.
pub(super) fn encode(outgoing: &Outgoing, names: &Names) -> Result<(Message, Option<Message>), BusError> {
    let what = outgoing.what();
    let body = outgoing.body()?;
    let (exchange, routing_key, mandatory) = match outgoing {
        Outgoing::Task(_) => (names.direct(), WORK.into(), true),
        Outgoing::Inbox(_) => (names.direct(), WAKE.into(), true),
        Outgoing::Request { .. } => (names.direct(), REQUEST.into(), true),
        Outgoing::Control(_) => (names.control(), ShortString::default(), false),
        Outgoing::Event { event, .. } => (names.events(), short(what, event.routing_key())?, false),
    };
    let id = match outgoing {
        Outgoing::Event { event, .. } => bounded_id(&event.id),
        Outgoing::Request { message_id, .. } => short(what, message_id.as_str())?,
        _ => Uuid::new_v4().to_string().into(),
    };
    let message = Message {
        what,
        id: id.clone(),
        exchange,
        routing_key,
        mandatory,
        properties: properties(outgoing, id),
        body,
    };
    let reply = reply_queue(outgoing, names).map(|queue| Message {
        what: "a reply",
        exchange: ShortString::default(),
        routing_key: queue,
        mandatory: false,
        ..message.clone()
    });
    Ok((message, reply))
}

fn properties(outgoing: &Outgoing, id: ShortString) -> BasicProperties {
    let (content_type, time, traceparent) = match outgoing {
        Outgoing::Event { event, .. } => {
            ("application/cloudevents+json", event.time, event.traceparent.as_ref())
        }
        _ => ("application/json", Timestamp::now(), None),
    };
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_message_id(id)
        .with_content_type(content_type.into())
        .with_timestamp(u64::try_from(time.as_second()).unwrap_or(0))
        .with_app_id(APP_ID.into())
        .with_type(outgoing.type_name().into());
    if let Some(id) = outgoing.correlation().and_then(|id| ShortString::try_new(id).ok()) {
        properties = properties.with_correlation_id(id);
    }
    if let Some(context) = traceparent {
        let mut headers = FieldTable::default();
        headers.insert(TRACEPARENT.into(), AMQPValue::LongString(context.as_str().into()));
        properties = properties.with_headers(headers);
    }
    properties
}

/// The queue in which the caller waits. Replies never go to a queue of the daemons.
fn reply_queue(outgoing: &Outgoing, names: &Names) -> Option<ShortString> {
    let Outgoing::Event { reply_to: Some(queue), event, .. } = outgoing else { return None };
    if queue.is_empty() || names.is_internal(queue) {
        warn!(event_id = %event.id, "no reply is sent: `reply_to` of the request is empty or names a queue of the daemons");
        return None;
    }
    ShortString::try_new(queue.as_str()).ok()
}

fn short(what: &'static str, text: impl Into<String>) -> Result<ShortString, BusError> {
    ShortString::try_new(text)
        .map_err(|e| BusError::Refused { what, why: format!("its id or routing key is too long: {e}") })
}

/// The event's id, or its UUIDv5 if the id is longer than AMQP allows: ids of events contain table names.
fn bounded_id(id: &str) -> ShortString {
    ShortString::try_new(id)
        .unwrap_or_else(|_| Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes()).to_string().into())
}

/// The properties of a received message that handlers use. `wire/header.rs` keeps only some properties and
/// headers: add another one there before you read it here.
pub(super) fn received(properties: &BasicProperties) -> Properties {
    let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
    let header = |name| match properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => String::from_utf8(text.as_bytes().to_vec()).ok(),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    };
    Properties {
        message_id: text(properties.message_id()),
        correlation_id: text(properties.correlation_id()),
        reply_to: text(properties.reply_to()),
        user_id: text(properties.user_id()),
        traceparent: header(TRACEPARENT),
        content_type: text(properties.content_type()),
        content_encoding: text(properties.content_encoding()),
        unreadable: header(UNREADABLE),
        left_out: header(LEFT_OUT).and_then(|bytes| bytes.parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::event::EventData;
    use crate::message::task::PlanTask;
    use crate::message::{Epoch, Event, EventType, JobId, Task};

    fn names() -> Names {
        Names::new("p", Uuid::nil())
    }

    fn event(reply_to: &str, item: &str) -> Outgoing {
        let job_id = Some(JobId::parse("j").expect("valid"));
        let data = EventData { job_id, ..EventData::default() };
        let mut event =
            Event::new("p", EventType::TableCompleted, "j", Some(item), Timestamp::UNIX_EPOCH, data);
        event.traceparent = Some("00-a-b-01".into());
        Outgoing::Event {
            event: Box::new(event),
            reply_to: Some(reply_to.into()),
            correlation_id: Some("theirs".into()),
        }
    }

    #[test]
    fn a_task_must_reach_a_queue_and_survives_a_restart() {
        let job = JobId::parse("j").expect("valid");
        let task = Outgoing::Task(Task::Plan(PlanTask { job, epoch: Epoch(1), root: Uuid::nil() }));
        let (message, reply) = encode(&task, &names()).expect("encodes");
        assert!(message.mandatory && reply.is_none());
        assert_eq!((message.exchange.as_str(), message.routing_key.as_str()), ("p", "work"));
        let properties = message.properties;
        assert_eq!(*properties.delivery_mode(), Some(2));
        assert_eq!(properties.correlation_id().as_ref().map(ShortString::as_str), Some("j"));
        assert!(
            properties.message_id().is_some()
                && properties.timestamp().is_some()
                && properties.kind().is_some()
        );
    }

    #[test]
    fn an_event_goes_to_the_topic_and_to_the_caller() {
        let (message, reply) = encode(&event("their.queue", "public.t"), &names()).expect("encodes");
        assert_eq!((message.exchange.as_str(), message.mandatory), ("p.events", false));
        assert_eq!(message.routing_key.as_str(), "table.completed.-.j");
        assert_eq!(received(&message.properties).traceparent.as_deref(), Some("00-a-b-01"));
        assert_eq!(received(&message.properties).correlation_id.as_deref(), Some("theirs"));
        let reply = reply.expect("a reply");
        assert_eq!((reply.exchange.as_str(), reply.routing_key.as_str()), ("", "their.queue"));
        assert_eq!(reply.id, message.id);
    }

    #[test]
    fn a_reply_never_goes_to_a_queue_of_the_daemons() {
        for queue in ["p.work", "p.requests", "p.coordinator", "p.control.x", "", &"q".repeat(256)] {
            assert!(encode(&event(queue, "t"), &names()).expect("encodes").1.is_none(), "{queue}");
        }
    }

    #[test]
    fn the_id_of_an_event_about_a_long_name_still_fits() {
        let (a, _) = encode(&event("q", &"t".repeat(400)), &names()).expect("encodes");
        let (b, _) = encode(&event("q", &"t".repeat(400)), &names()).expect("encodes");
        assert_eq!(a.id, b.id);
    }
}
