//! What a message looks like on the wire, whichever bus carries it.

use super::{BusError, Outgoing};
use crate::message::{Event, InboxMessage, JobId};

/// Larger bodies are not published: brokers from 4.0 on refuse 16 MiB, and
/// nothing of ours needs more than this.
pub const MAX_BODY: usize = 1 << 20;

impl Outgoing {
    /// What it is, for error messages.
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

    /// The `correlation_id` property: the caller's where there is one, else the job.
    #[must_use]
    pub fn correlation(&self) -> Option<String> {
        use crate::message::Control;
        let job = |job: &JobId| Some(job.as_str().to_owned());
        match self {
            Self::Task(task) => job(task.job()),
            Self::Inbox(InboxMessage::Wake(wake)) => wake.job.as_ref().and_then(job),
            Self::Inbox(InboxMessage::Alive(alive)) => Some(alive.instance.to_string()),
            Self::Control(
                Control::Planned { job: id, .. }
                | Control::Cancel { job: id }
                | Control::Finished { job: id },
            ) => job(id),
            Self::Control(Control::Census) => None,
            Self::Event { correlation_id: Some(id), .. } => Some(id.clone()),
            Self::Event { event, .. } => event.data.job_id.as_ref().and_then(job),
            Self::Request { message_id, .. } => Some(message_id.clone()),
        }
    }

    /// The body: JSON, at most [`MAX_BODY`].
    ///
    /// # Errors
    /// `Refused` when it is larger.
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
