//! The events of one test, in the order in which they arrived.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::BasicAckOptions;
use serde_json::Value;

use super::wait::eventually;

/// One CloudEvent.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) routing_key: String,
    pub(crate) body: Value,
    /// Headers of the message that every consumer relies on.
    pub(crate) message_id: Option<String>,
    pub(crate) content_type: Option<String>,
    /// Things that the event mentions but that did not exist when it arrived (invariant I5).
    pub(crate) premature: Vec<PathBuf>,
}

impl Event {
    fn read(delivery: &Delivery, root: &Path) -> Self {
        let body: Value = serde_json::from_slice(&delivery.data).expect("events are JSON");
        let directories = body["data"]["tables"].as_array().into_iter().flatten().map(|t| &t["directory"]);
        let named = directories.chain([&body["data"]["archive"]]).filter_map(Value::as_str);
        let premature = named.map(|path| root.join(path)).filter(|path| !path.exists()).collect();
        let text = |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string);
        Self {
            routing_key: delivery.routing_key.to_string(),
            message_id: text(delivery.properties.message_id()),
            content_type: text(delivery.properties.content_type()),
            body,
            premature,
        }
    }

    /// The type without its prefix: `job.completed`.
    pub(crate) fn kind(&self) -> &str {
        let kind = self.body["type"].as_str().expect("events have a type");
        kind.strip_prefix("adu.export.").expect("types begin with adu.export.")
    }

    /// The deterministic id.
    pub(crate) fn id(&self) -> &str {
        self.body["id"].as_str().expect("events have an id")
    }

    /// The job of the event.
    pub(crate) fn job(&self) -> &str {
        self.data()["job_id"].as_str().unwrap_or_default()
    }

    /// The payload.
    pub(crate) fn data(&self) -> &Value {
        &self.body["data"]
    }

    /// The error of the job, or of its first failed table, as one text.
    pub(crate) fn error(&self) -> String {
        let tables = self.data()["tables"].as_array().into_iter().flatten().map(|t| &t["error"]);
        let errors = [&self.data()["error"]].into_iter().chain(tables).filter(|e| e.is_object());
        let parts = errors.flat_map(|e| [&e["code"], &e["message"], &e["remedy"]]);
        parts.filter_map(Value::as_str).collect::<Vec<_>>().join(" | ")
    }

    /// Whether it is the final event of its job.
    pub(crate) fn is_final(&self) -> bool {
        let last = ["job.completed", "job.partial", "job.failed", "job.cancelled", "job.rejected"];
        last.contains(&self.kind())
    }
}

/// Collects events.
#[derive(Default)]
pub(crate) struct Events(Arc<Mutex<Vec<Event>>>);

impl Events {
    /// Collects until the consumer ends. It must be called on the runtime.
    pub(crate) fn collect(&self, mut consumer: lapin::Consumer, root: &Path) {
        let (store, root) = (self.0.clone(), root.to_owned());
        tokio::spawn(async move {
            while let Some(Ok(delivery)) = consumer.next().await {
                let event = Event::read(&delivery, &root);
                store.lock().unwrap_or_else(PoisonError::into_inner).push(event);
                let _ = delivery.ack(BasicAckOptions::default()).await;
            }
        });
    }

    /// All events so far.
    pub(crate) fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All events of one job and kind so far.
    pub(crate) fn of(&self, job: &str, kind: &str) -> Vec<Event> {
        self.all().into_iter().filter(|e| e.job() == job && e.kind() == kind).collect()
    }

    /// Waits for an event of a job.
    #[track_caller]
    pub(crate) fn wait(&self, job: &str, kind: &str, within: Duration) -> Event {
        eventually(&format!("{kind} of {job}"), within, || self.of(job, kind).into_iter().next())
    }

    /// Waits for the final event of a job, of any kind.
    #[track_caller]
    pub(crate) fn wait_final(&self, job: &str, within: Duration) -> Event {
        let last = || self.all().into_iter().find(|e| e.job() == job && e.is_final());
        eventually(&format!("final event of {job}"), within, last)
    }
}
