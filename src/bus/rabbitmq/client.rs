//! The connection of the command line: it publishes a request and receives the events of the job.

use std::sync::Arc;

use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use tokio_util::task::TaskTracker;

use super::super::{BusError, Outgoing};
use super::life::Life;
use super::link::Link;
use super::message;
use super::publisher::{self, Publisher};
use super::topology::Names;
use super::{IoRuntime, fault};
use crate::message::{Event, JobId};

/// A connection that publishes requests and receives events.
pub struct Client {
    names: Names,
    life: Life,
    link: Link,
    publisher: Publisher,
    events: Option<lapin::Consumer>,
    tasks: TaskTracker,
    _io: Arc<IoRuntime>,
}

impl Client {
    pub(super) async fn start(
        names: Names,
        life: Life,
        link: Link,
        io: Arc<IoRuntime>,
    ) -> Result<Self, BusError> {
        let (publisher, publishing) = publisher::open(&link, &life).await?;
        let tasks = TaskTracker::new();
        tasks.spawn_on(publishing.run(), io.handle());
        Ok(Self { names, life, link, publisher, events: None, tasks, _io: io })
    }

    /// Subscribes to the events of a job and to replies. Call it before you publish the request, so that no
    /// event is missed.
    ///
    /// # Errors
    /// If the broker refuses the queue or its binding.
    pub async fn watch(&mut self, job: &JobId) -> Result<(), BusError> {
        let channel = self.life.call("open a channel", self.link.connection().create_channel()).await?;
        let queue = self.names.client();
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        let declare = channel.queue_declare(queue.clone(), options, FieldTable::default());
        self.life.call("declare a queue for events", declare).await?;
        // The key is `job.<what>.<source>.<job_id>`. In the id of a retry, `.rN` counts as one more word.
        let key = format!("*.*.*.{job}").into();
        let bind = channel.queue_bind(
            queue.clone(),
            self.names.events(),
            key,
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        self.life.call("bind a queue for events", bind).await?;
        let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..Default::default() };
        let consume = channel.basic_consume(queue, "".into(), options, FieldTable::default());
        self.events = Some(self.life.call("consume events", consume).await?);
        Ok(())
    }

    /// Publishes a request, a cancel or a retry. If [`Client::watch`] was called, the final event also comes
    /// as a reply. A rejection may come only as a reply, because it may have no job id.
    ///
    /// # Errors
    /// If the broker does not accept the message, e.g. because no daemon has created the queue yet.
    pub async fn submit(&self, body: Vec<u8>, message_id: String) -> Result<(), BusError> {
        let request = Outgoing::Request { body, message_id };
        let (mut message, _) = message::encode(&request, &self.names)?;
        if self.events.is_some() {
            message.properties = message.properties.with_reply_to(self.names.client());
        }
        self.publisher.publish(vec![message]).await
    }

    /// The next event. The same event may come twice, with the same id.
    ///
    /// # Errors
    /// If the connection is lost. No more events come then.
    pub async fn next(&mut self) -> Result<Event, BusError> {
        let Some(events) = self.events.as_mut() else { return Err(BusError::Closed) };
        loop {
            let delivery = tokio::select! {
                biased;
                () = self.life.closed().cancelled() => return Err(BusError::Closed),
                delivery = events.next() => delivery,
            };
            match delivery {
                // Messages that are not our events are skipped.
                Some(Ok(delivery)) => {
                    if let Ok(event) = serde_json::from_slice(&delivery.data) {
                        return Ok(event);
                    }
                }
                Some(Err(error)) => return Err(self.life.fail(fault::failed("consume events", &error))),
                None => return Err(self.life.fail(BusError::Closed)),
            }
        }
    }

    /// Closes the connection in an orderly way.
    pub async fn close(self) {
        self.link.close(self.life.call_timeout()).await;
        self.life.end();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.life.end();
    }
}
