//! The failpoints of the broker: what a step is called. See [`failpoint`].

use crate::bus::{Outgoing, Queue};
use crate::failpoint;
use crate::message::{Control, InboxMessage, Task};

/// Messages that are published together.
pub(super) fn publish(moment: &str, messages: &[Outgoing]) {
    if cfg!(feature = "failpoints") {
        for message in messages {
            failpoint::step(moment, "publish", &kind(message));
        }
    }
}

/// A step that settles a delivery.
pub(super) fn settle(moment: &str, what: &str, queue: Queue) {
    let queue = match queue {
        Queue::Requests => "requests",
        Queue::Work => "work",
        Queue::Coordinator => "coordinator",
        Queue::Control => "control",
    };
    failpoint::step(moment, what, queue);
}

fn kind(message: &Outgoing) -> String {
    match message {
        Outgoing::Task(Task::Plan(_)) => "plan-task".into(),
        Outgoing::Task(Task::Chunk(_)) => "chunk-task".into(),
        Outgoing::Inbox(InboxMessage::Wake(wake)) if wake.chunk.is_none() => "wake-job".into(),
        Outgoing::Inbox(InboxMessage::Wake(_)) => "wake-chunk".into(),
        Outgoing::Inbox(InboxMessage::Alive(_)) => "alive".into(),
        Outgoing::Control(Control::Prepare { .. }) => "prepare".into(),
        Outgoing::Control(Control::Planned { .. }) => "planned".into(),
        Outgoing::Control(Control::Cancel { .. }) => "cancel".into(),
        Outgoing::Control(Control::Census) => "census".into(),
        Outgoing::Control(Control::Alive(_)) => "presence".into(),
        Outgoing::Control(Control::Finished { .. }) => "finished".into(),
        Outgoing::Event { event, .. } => {
            let (subject, what) = event.kind.words();
            format!("{subject}.{what}")
        }
        Outgoing::Request { .. } => "request".into(),
    }
}
