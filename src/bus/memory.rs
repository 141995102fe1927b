//! The bus of a one-shot export: it behaves like the broker, but within one process.
//!
//! The prefetch limits the number of deliveries. A delivery belongs to its consumer until it is settled. It
//! is delivered again after a release and after the end of the session. Of the consumers of the coordinator's
//! queue only one is active.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Bus, BusError, Consumer, Delivery, Outgoing, Properties, Queue, Session, Settle};
use crate::message::Event;

/// Number of events that a listener may be behind. A slower listener misses events, and is told so.
const EVENTS: usize = 4096;

/// An in-process bus. Clones share the queues.
#[derive(Clone)]
pub struct MemoryBus {
    queues: Arc<Queues>,
}

impl Default for MemoryBus {
    fn default() -> Self {
        let (events, _) = broadcast::channel(EVENTS);
        let queues = Queues { state: Mutex::default(), abandoned: Mutex::default(), events };
        Self { queues: Arc::new(queues) }
    }
}

impl MemoryBus {
    /// An empty bus.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All events from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.queues.events.subscribe()
    }
}

#[async_trait]
impl Bus for MemoryBus {
    async fn connect(&self) -> Result<Arc<dyn Session>, BusError> {
        let id = {
            let mut state = self.queues.lock();
            let id = state.fresh();
            state.queues.insert(Key::Control(id), Line::default());
            id
        };
        let (closed, tasks) = (CancellationToken::new(), TaskTracker::new());
        Ok(Arc::new(MemorySession { id, queues: self.queues.clone(), closed, tasks }))
    }
}

/// A queue: shared by all sessions, or the control queue of one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Shared(Queue),
    Control(u64),
}

struct Queues {
    state: Mutex<State>,
    /// Tags of the handles that were dropped before they settled their message. They have their own lock,
    /// because a handle may be dropped while `state` is locked.
    abandoned: Mutex<Vec<u64>>,
    events: broadcast::Sender<Event>,
}

#[derive(Default)]
struct State {
    last: u64,
    queues: HashMap<Key, Line>,
    /// Messages that are delivered and not settled, by tag.
    unacked: BTreeMap<u64, Unacked>,
}

/// One queue.
#[derive(Default)]
struct Line {
    ready: VecDeque<Stored>,
    /// The consumer that subscribed first is at the front; work moves a consumer that got a message to the
    /// back.
    consumers: VecDeque<Subscriber>,
}

#[derive(Clone)]
struct Stored {
    body: Vec<u8>,
    properties: Properties,
    redelivered: bool,
}

struct Subscriber {
    id: u64,
    session: u64,
    prefetch: usize,
    unsettled: usize,
    deliveries: mpsc::Sender<Delivery>,
}

struct Unacked {
    key: Key,
    consumer: u64,
    session: u64,
    stored: Stored,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn fresh(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Puts a delivery back at the front of its queue.
    fn requeue(&mut self, tag: u64) -> Option<Key> {
        let unacked = self.settle(tag)?;
        if let Some(line) = self.queues.get_mut(&unacked.key) {
            line.ready.push_front(Stored { redelivered: true, ..unacked.stored });
        }
        Some(unacked.key)
    }

    fn settle(&mut self, tag: u64) -> Option<Unacked> {
        let unacked = self.unacked.remove(&tag)?;
        let line = self.queues.get_mut(&unacked.key);
        let consumer = line.and_then(|l| l.consumers.iter_mut().find(|c| c.id == unacked.consumer));
        if let Some(consumer) = consumer {
            consumer.unsettled -= 1;
        }
        Some(unacked)
    }

    fn remove_consumers(&mut self, which: impl Fn(&Subscriber) -> bool) {
        for line in self.queues.values_mut() {
            line.consumers.retain(|c| !which(c));
        }
    }
}

impl Queues {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn push(self: &Arc<Self>, key: Key, body: &[u8], properties: &Properties) {
        let mut state = self.lock();
        let stored = Stored { body: body.to_vec(), properties: properties.clone(), redelivered: false };
        state.queues.entry(key).or_default().ready.push_back(stored);
        self.dispatch(&mut state, key);
    }

    /// Hands out messages for as long as a consumer has room, to each consumer in turn. Messages of the
    /// coordinator's queue go to the consumer that subscribed first.
    fn dispatch(self: &Arc<Self>, state: &mut State, key: Key) {
        loop {
            let tag = state.fresh();
            let Some(line) = state.queues.get_mut(&key) else { return };
            line.consumers.retain(|c| !c.deliveries.is_closed());
            let single = key == Key::Shared(Queue::Coordinator);
            let candidates = if single { 1 } else { line.consumers.len() };
            let free = line.consumers.iter().take(candidates).position(|c| c.unsettled < c.prefetch);
            let Some(at) = free else { return };
            let Some(stored) = line.ready.pop_front() else { return };
            let consumer = &mut line.consumers[at];
            consumer.unsettled += 1;
            let settle = Box::new(Handle { tag, queues: self.clone(), settled: false });
            let unacked =
                Unacked { key, consumer: consumer.id, session: consumer.session, stored: stored.clone() };
            let Stored { body, properties, redelivered } = stored;
            // The channel is never full: its capacity is the prefetch. If the consumer has just been dropped,
            // the handle is dropped here, and `unsubscribe` puts the message back.
            let _ = consumer.deliveries.try_send(Delivery { body, redelivered, properties, settle });
            if !single && let Some(consumer) = line.consumers.remove(at) {
                line.consumers.push_back(consumer);
            }
            state.unacked.insert(tag, unacked);
        }
    }

    /// Ends a subscription. Messages that the consumer never took go to other consumers.
    fn unsubscribe(self: &Arc<Self>, key: Key, consumer: u64) {
        let mut state = self.lock();
        let mut tags = std::mem::take(&mut *lock(&self.abandoned));
        tags.sort_unstable();
        for tag in tags.into_iter().rev() {
            match state.unacked.get(&tag) {
                Some(unacked) if unacked.consumer == consumer => {
                    state.requeue(tag);
                }
                Some(_) => lock(&self.abandoned).push(tag),
                None => {}
            }
        }
        state.remove_consumers(|c| c.id == consumer);
        self.dispatch(&mut state, key);
    }

    fn end(self: &Arc<Self>, session: u64) {
        let mut state = self.lock();
        state.remove_consumers(|c| c.session == session);
        state.queues.remove(&Key::Control(session));
        let tags: Vec<u64> =
            state.unacked.iter().filter(|(_, u)| u.session == session).map(|(tag, _)| *tag).collect();
        for tag in tags.into_iter().rev() {
            state.requeue(tag);
        }
        let keys: Vec<Key> = state.queues.keys().copied().collect();
        for key in keys {
            self.dispatch(&mut state, key);
        }
    }
}

struct MemorySession {
    id: u64,
    queues: Arc<Queues>,
    closed: CancellationToken,
    tasks: TaskTracker,
}

impl MemorySession {
    fn key(&self, queue: Queue) -> Key {
        match queue {
            Queue::Control => Key::Control(self.id),
            shared => Key::Shared(shared),
        }
    }

    fn end(&self) {
        if !self.closed.is_cancelled() {
            self.closed.cancel();
            self.queues.end(self.id);
        }
    }
}

#[async_trait]
impl Session for MemorySession {
    async fn publish(&self, message: Outgoing) -> Result<(), BusError> {
        if self.closed.is_cancelled() {
            return Err(BusError::Closed);
        }
        let body = message.body()?;
        let mut properties = Properties { correlation_id: message.correlation(), ..Properties::default() };
        match message {
            Outgoing::Task(_) => self.queues.push(Key::Shared(Queue::Work), &body, &properties),
            Outgoing::Inbox(_) => self.queues.push(Key::Shared(Queue::Coordinator), &body, &properties),
            Outgoing::Request { message_id, .. } => {
                properties.message_id = Some(message_id);
                self.queues.push(Key::Shared(Queue::Requests), &body, &properties);
            }
            Outgoing::Control(_) => {
                let all: Vec<Key> = self.queues.lock().queues.keys().copied().collect();
                for key in all.into_iter().filter(|key| matches!(key, Key::Control(_))) {
                    self.queues.push(key, &body, &properties);
                }
            }
            // An error means that nobody listens, which is allowed.
            Outgoing::Event { event, .. } => drop(self.queues.events.send(*event)),
        }
        Ok(())
    }

    async fn subscribe(&self, queue: Queue, prefetch: u16) -> Result<Consumer, BusError> {
        if self.closed.is_cancelled() {
            return Err(BusError::Closed);
        }
        let (key, session) = (self.key(queue), self.id);
        let prefetch = usize::from(prefetch.max(1));
        let (deliveries, receiver) = mpsc::channel(prefetch);
        let id = {
            let mut state = self.queues.lock();
            let id = state.fresh();
            let subscriber = Subscriber { id, session, prefetch, unsettled: 0, deliveries };
            state.queues.entry(key).or_default().consumers.push_back(subscriber);
            self.queues.dispatch(&mut state, key);
            id
        };
        let cancelled = CancellationToken::new();
        let guard = cancelled.clone().drop_guard();
        let (queues, closed) = (self.queues.clone(), self.closed.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = closed.cancelled() => {}
                () = cancelled.cancelled() => queues.unsubscribe(key, id),
            }
        });
        Ok(Consumer { deliveries: receiver, guard })
    }

    async fn ready(&self, queue: Queue) -> Result<u32, BusError> {
        let state = self.queues.lock();
        let ready = state.queues.get(&self.key(queue)).map_or(0, |line| line.ready.len());
        Ok(u32::try_from(ready).unwrap_or(u32::MAX))
    }

    fn closed(&self) -> CancellationToken {
        self.closed.clone()
    }

    async fn close(&self) {
        self.end();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for MemorySession {
    fn drop(&mut self) {
        self.end();
    }
}

struct Handle {
    tag: u64,
    queues: Arc<Queues>,
    settled: bool,
}

#[async_trait]
impl Settle for Handle {
    async fn ack(mut self: Box<Self>) -> Result<(), BusError> {
        self.settled = true;
        let mut state = self.queues.lock();
        let key = state.settle(self.tag).ok_or(BusError::Closed)?.key;
        self.queues.dispatch(&mut state, key);
        Ok(())
    }

    async fn release(mut self: Box<Self>) -> Result<(), BusError> {
        self.settled = true;
        let mut state = self.queues.lock();
        let key = state.requeue(self.tag).ok_or(BusError::Closed)?;
        self.queues.dispatch(&mut state, key);
        Ok(())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.settled {
            lock(&self.queues.abandoned).push(self.tag);
        }
    }
}

#[cfg(test)]
mod tests;
