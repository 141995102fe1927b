//! The broker. Its messages may come late, twice, out of order, or not at all, and its sessions may break. It
//! also watches that nothing is acknowledged or published too early.

use std::collections::{BTreeMap, BTreeSet};

use adu_export::bus::{Delivery, Properties, Queue, Settle};
use adu_export::message::{BatchId, ChunkNo, Event};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A queue: one that all sessions share, or the control queue of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Line {
    Requests,
    Work,
    Coordinator,
    Control(u64),
}

impl Line {
    pub(crate) fn of(queue: Queue, session: u64) -> Self {
        match queue {
            Queue::Requests => Self::Requests,
            Queue::Work => Self::Work,
            Queue::Coordinator => Self::Coordinator,
            Queue::Control => Self::Control(session),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) body: Vec<u8>,
    pub(crate) properties: Properties,
    pub(crate) redelivered: bool,
    /// The message is not delivered before this time.
    pub(crate) ready: Instant,
}

struct Subscriber {
    id: u64,
    session: u64,
    prefetch: usize,
    unsettled: usize,
    deliveries: mpsc::Sender<Delivery>,
    dropped: CancellationToken,
}

pub(crate) struct Unacked {
    pub(crate) line: Line,
    consumer: u64,
    session: u64,
    pub(crate) message: Message,
    /// The handle of the delivery was dropped without acknowledging or releasing it.
    abandoned: bool,
}

struct Life {
    process: u64,
    closed: CancellationToken,
    /// When the client notices that the broker has ended the session.
    over: Option<Instant>,
}

/// Process, job, and chunk of a wake-up.
type Wake = (u64, String, Option<(BatchId, ChunkNo)>);

#[derive(Default)]
pub(crate) struct Broker {
    last: u64,
    lines: BTreeMap<Line, Vec<Message>>,
    consumers: Vec<(Line, Subscriber)>,
    unacked: BTreeMap<u64, Unacked>,
    sessions: BTreeMap<u64, Life>,
    /// Events in the order in which they were accepted.
    pub(crate) events: Vec<Event>,
    /// Wake-ups that were confirmed.
    pub(crate) wakes: BTreeSet<Wake>,
    /// `message_id`s of rejected requests.
    pub(crate) rejected: BTreeSet<String>,
}

impl Broker {
    fn fresh(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(crate) fn open(&mut self, process: u64) -> (u64, CancellationToken) {
        let (id, closed) = (self.fresh(), CancellationToken::new());
        self.sessions.insert(id, Life { process, closed: closed.clone(), over: None });
        self.lines.insert(Line::Control(id), Vec::new());
        (id, closed)
    }

    pub(crate) fn is_open(&self, session: u64) -> bool {
        self.sessions.get(&session).is_some_and(|s| s.over.is_none())
    }

    pub(crate) fn sessions_of(&self, process: u64) -> Vec<u64> {
        self.sessions.iter().filter(|(_, s)| s.process == process).map(|(id, _)| *id).collect()
    }

    pub(crate) fn all_sessions(&self) -> Vec<u64> {
        self.sessions.iter().filter(|(_, s)| s.over.is_none()).map(|(id, _)| *id).collect()
    }

    /// Sessions that hold a task.
    pub(crate) fn holders(&self) -> Vec<u64> {
        let mut holders: Vec<u64> =
            self.unacked.values().filter(|u| u.line == Line::Work).map(|u| u.session).collect();
        holders.dedup();
        holders
    }

    /// Ends a session. Its unsettled messages are delivered again. Its client notices the end at `noticed`.
    pub(crate) fn sever(&mut self, session: u64, noticed: Instant) {
        let Some(life) = self.sessions.get_mut(&session) else { return };
        if life.over.is_some() {
            return;
        }
        life.over = Some(noticed);
        self.consumers.retain(|(_, c)| c.session != session);
        self.lines.remove(&Line::Control(session));
        let tags: Vec<u64> =
            self.unacked.iter().filter(|(_, u)| u.session == session).map(|(tag, _)| *tag).collect();
        for tag in tags {
            self.requeue(tag);
        }
    }

    pub(crate) fn push(&mut self, line: Line, message: Message) {
        if let Some(queue) = self.lines.get_mut(&line) {
            queue.push(message);
        } else if !matches!(line, Line::Control(_)) {
            self.lines.insert(line, vec![message]);
        }
    }

    pub(crate) fn controls(&self) -> Vec<Line> {
        self.lines.keys().filter(|l| matches!(l, Line::Control(_))).copied().collect()
    }

    pub(crate) fn subscribe(
        &mut self,
        line: Line,
        session: u64,
        prefetch: usize,
        dropped: CancellationToken,
    ) -> mpsc::Receiver<Delivery> {
        let (deliveries, receiver) = mpsc::channel(prefetch);
        let id = self.fresh();
        let subscriber = Subscriber { id, session, prefetch, unsettled: 0, deliveries, dropped };
        self.consumers.push((line, subscriber));
        receiver
    }

    pub(crate) fn ready(&self, line: Line) -> usize {
        self.lines.get(&line).map_or(0, Vec::len)
    }

    pub(crate) fn purge(&mut self, line: Line) {
        if let Some(queue) = self.lines.get_mut(&line) {
            queue.clear();
        }
    }

    /// Forgets a delivery. `None` if it was given back already.
    pub(crate) fn settle(&mut self, tag: u64) -> Option<Unacked> {
        let unacked = self.unacked.remove(&tag)?;
        if let Some((_, consumer)) = self.consumers.iter_mut().find(|(_, c)| c.id == unacked.consumer) {
            consumer.unsettled -= 1;
        }
        Some(unacked)
    }

    pub(crate) fn requeue(&mut self, tag: u64) -> bool {
        let Some(unacked) = self.settle(tag) else { return false };
        let message = Message { redelivered: true, ready: Instant::now(), ..unacked.message };
        self.push(unacked.line, message);
        true
    }

    /// Notes that the handles of these deliveries were dropped without acknowledging or releasing them.
    pub(crate) fn abandon(&mut self, tags: Vec<u64>) {
        for tag in tags {
            if let Some(unacked) = self.unacked.get_mut(&tag) {
                unacked.abandoned = true;
            }
        }
    }

    /// Whether no request and no task waits or is unsettled.
    pub(crate) fn is_quiet(&self) -> bool {
        let quiet = |line: &Line| matches!(line, Line::Requests | Line::Work);
        !self.lines.iter().any(|(line, queue)| quiet(line) && !queue.is_empty())
            && !self.unacked.values().any(|u| quiet(&u.line))
    }

    /// Delivers the messages that are due and that consumers have room for. Returns when the next one is due.
    pub(crate) fn deliver(&mut self, settle: impl Fn(u64, u64) -> Box<dyn Settle>) -> Option<Instant> {
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        let mut later = |at: Instant| next = Some(next.map_or(at, |n: Instant| n.min(at)));
        for life in self.sessions.values() {
            match life.over {
                Some(at) if at <= now => life.closed.cancel(),
                Some(at) => later(at),
                None => {}
            }
        }
        self.sessions.retain(|_, life| !life.closed.is_cancelled());
        self.drop_consumers();
        let lines: Vec<Line> = self.lines.keys().copied().collect();
        for line in lines {
            self.deliver_line(line, now, &settle, &mut later);
        }
        next
    }

    fn drop_consumers(&mut self) {
        let gone: Vec<u64> =
            self.consumers.iter().filter(|(_, c)| c.dropped.is_cancelled()).map(|(_, c)| c.id).collect();
        for id in gone {
            let taken = |u: &&Unacked| u.consumer == id && u.abandoned;
            let tags: Vec<u64> = self.unacked.iter().filter(|(_, u)| taken(u)).map(|(tag, _)| *tag).collect();
            for tag in tags {
                self.requeue(tag);
            }
            self.consumers.retain(|(_, c)| c.id != id);
        }
    }

    fn deliver_line(
        &mut self,
        line: Line,
        now: Instant,
        settle: &impl Fn(u64, u64) -> Box<dyn Settle>,
        later: &mut impl FnMut(Instant),
    ) {
        loop {
            let Some(queue) = self.lines.get_mut(&line) else { return };
            if queue.is_empty() {
                return;
            }
            // Only the oldest consumer of the coordinator's queue gets messages (single active consumer).
            let candidates = if line == Line::Coordinator { 1 } else { usize::MAX };
            let free = (0..self.consumers.len())
                .filter(|at| self.consumers[*at].0 == line)
                .take(candidates)
                .find(|at| self.consumers[*at].1.unsettled < self.consumers[*at].1.prefetch);
            let Some(at) = free else { return };
            let due = (0..queue.len()).find(|i| queue[*i].ready <= now);
            let Some(due) = due else {
                if let Some(first) = queue.iter().map(|m| m.ready).min() {
                    later(first);
                }
                return;
            };
            let message = queue.remove(due);
            let tag = self.fresh();
            let (_, mut consumer) = self.consumers.remove(at);
            consumer.unsettled += 1;
            let process = self.sessions.get(&consumer.session).map_or(0, |s| s.process);
            let delivery = Delivery {
                body: message.body.clone(),
                redelivered: message.redelivered,
                properties: message.properties.clone(),
                settle: settle(tag, process),
            };
            let (id, session) = (consumer.id, consumer.session);
            self.unacked.insert(tag, Unacked { line, consumer: id, session, message, abandoned: false });
            let _ = consumer.deliveries.try_send(delivery);
            // Consumers take turns. The oldest consumer of the coordinator's queue stays the oldest.
            if line == Line::Coordinator {
                self.consumers.insert(at, (line, consumer));
            } else {
                self.consumers.push((line, consumer));
            }
        }
    }
}
