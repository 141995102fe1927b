//! What a message looks like on every bus: its type, its correlation id and its body.

use super::{BusError, Outgoing};
use crate::message::{Event, InboxMessage, JobId};

/// Largest body that is published. RabbitMQ 4.0 and newer refuse 16 MiB, and no message of ours needs more
/// than this.
pub const MAX_BODY: usize = 1 << 20;

impl Outgoing {
    /// The kind of message, for error texts.
    #[must_use]
    pub fn what(&self) -> &'static str {
        match self {
            Self::Task(_) => "a task",
            Self::Inbox(_) => "a message to the coordinator",
            Self::Control(_) => "a control message",
            Self::Event { .. } => "an event",
            Self::Request { .. } => "a request",
        }
    }

    /// The `type` property.
    #[must_use]
    pub fn type_name(&self) -> String {
        match self {
            Self::Task(_) => "adu.export.task".into(),
            Self::Inbox(InboxMessage::Wake(_)) => "adu.export.wake".into(),
            Self::Inbox(InboxMessage::Alive(_)) => "adu.export.alive".into(),
            Self::Control(_) => "adu.export.control".into(),
            Self::Event { event, .. } => event.kind.as_str(),
            Self::Request { .. } => "adu.export.request".into(),
        }
    }

    /// The `correlation_id` property: that of the caller if there is one, else the job id.
    #[must_use]
    pub fn correlation(&self) -> Option<String> {
        use crate::message::Control;
        let job = |job: &JobId| Some(job.as_str().to_owned());
        match self {
            Self::Task(task) => job(task.job()),
            Self::Inbox(InboxMessage::Wake(wake)) => wake.job.as_ref().and_then(job),
            Self::Inbox(InboxMessage::Alive(alive)) => Some(alive.instance.to_string()),
            Self::Control(
                Control::Prepare { job: id, .. }
                | Control::Planned { job: id, .. }
                | Control::Cancel { job: id }
                | Control::Finished { job: id },
            ) => job(id),
            Self::Control(Control::Census | Control::Alive(_)) => None,
            Self::Event { correlation_id: Some(id), .. } => Some(id.clone()),
            Self::Event { event, .. } => event.data.job_id.as_ref().and_then(job),
            Self::Request { message_id, .. } => Some(message_id.clone()),
        }
    }

    /// The body: JSON of at most [`MAX_BODY`] bytes.
    ///
    /// # Errors
    /// `Refused` if the body is larger.
    pub fn body(&self) -> Result<Vec<u8>, BusError> {
        let encoded = match self {
            Self::Task(task) => serde_json::to_vec(task),
            Self::Inbox(message) => serde_json::to_vec(message),
            Self::Control(message) => serde_json::to_vec(message),
            Self::Event { event, .. } => serde_json::to_vec::<Event>(event),
            Self::Request { body, .. } => Ok(body.clone()),
        };
        let body =
            encoded.map_err(|e| BusError::Refused { what: self.what(), why: format!("not JSON: {e}") })?;
        if body.len() > MAX_BODY {
            let why = format!("it has {} bytes, the limit is {MAX_BODY}; split it up", body.len());
            return Err(BusError::Refused { what: self.what(), why });
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_over_the_limit_is_refused_before_it_travels() {
        let request = |bytes| Outgoing::Request { body: vec![b' '; bytes], message_id: "m".into() };
        assert!(request(MAX_BODY).body().is_ok());
        assert!(request(MAX_BODY + 1).body().expect_err("too large").to_string().contains("1048577 bytes"));
    }
}
