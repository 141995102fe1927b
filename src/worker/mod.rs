//! Workers: a task from delivery to acknowledgement.
//!
//! Work outlives the session that delivered it. When the connection breaks, a chunk goes on, and its
//! redelivered message attaches to it. A message is acknowledged after its effect is durable and the
//! coordinator's wake-up is confirmed (invariant I1).

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, debug, error, error_span, field, info, warn};

use crate::bus::{BusError, Consumer, Delivery, Outgoing, Queue, Session, Settle};
use crate::context::Context;
use crate::message::inbox::{Alive, ChunkRef, Wake};
use crate::message::presence::Doing;
use crate::message::{InboxMessage, JobId, Task};
use crate::source::Progress;

pub mod chunk;
pub mod export;
pub mod keepers;
mod patience;
pub mod planning;
pub mod poison;
mod recent;
mod shared;

use patience::Patience;

pub use shared::Shared;

/// How long released chunks may take to end their work on the server.
const RELEASE: Duration = Duration::from_secs(10);
/// How long released chunks may take to end their work on the server when the daemon stops at once.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How a task ended.
#[derive(Debug)]
pub enum End {
    /// The effect of the task is durable, or the task had no effect.
    Done {
        /// Whether the coordinator must look at something.
        wake: bool,
    },
    /// The task is not done. Its message goes back to the queue.
    Release,
    /// This daemon cannot do the task in its present state: the daemon must stop taking tasks.
    Unfit(String),
}

/// Why a worker stopped consuming.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The session is over.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// This daemon cannot do the work in its present state. Other daemons may be able to.
    #[error("{0}")]
    Unfit(String),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A task that runs, and the messages that wait for its end.
struct Run {
    waiting: Vec<Box<dyn Settle>>,
    cancel: CancellationToken,
    progress: Arc<Progress>,
    since: Instant,
}

/// The worker of a process.
pub struct Worker {
    shared: Arc<Shared>,
    slots: u32,
    /// One permit per slot. Work that outlives its session holds its permit too.
    permits: Semaphore,
    runs: Mutex<BTreeMap<Task, Run>>,
    /// Rows and bytes that all tasks have read since the start.
    read: Arc<Progress>,
    tracker: TaskTracker,
    session: watch::Sender<Option<Arc<dyn Session>>>,
    /// Why a task could not be done here.
    unfit: watch::Sender<Option<String>>,
    stop: CancellationToken,
}

/// What all lines of a task say about it. It is a span of errors, so that it is there at every level of the log.
fn span(task: &Task) -> Span {
    match task {
        Task::Plan(task) => error_span!("plan", job = %task.job, epoch = task.epoch.0),
        Task::Chunk(task) => error_span!(
            "chunk",
            job = %task.job,
            epoch = task.epoch.0,
            table = field::Empty,
            chunk = task.chunk.0
        ),
    }
}

impl Worker {
    /// A worker that takes `slots` tasks at once.
    #[must_use]
    pub fn new(context: Arc<Context>, slots: u32) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::new(Shared::new(context)),
            slots,
            permits: Semaphore::new(slots.max(1) as usize),
            runs: Mutex::default(),
            read: Arc::default(),
            tracker: TaskTracker::new(),
            session: watch::Sender::new(None),
            unfit: watch::Sender::new(None),
            stop: CancellationToken::new(),
        })
    }

    /// The state that the worker's tasks share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The `alive` message of this process.
    #[must_use]
    pub fn alive(&self, leaving: bool) -> Alive {
        Alive {
            instance: self.shared.context.instance,
            slots: self.slots,
            cores: self.shared.context.machine.cores(),
            sources: self.shared.context.sources().keys().cloned().collect(),
            holding: lock(&self.runs).keys().cloned().collect(),
            lineages: self.shared.keepers.lineages(),
            troubles: self.shared.troubles(),
            leaving,
        }
    }

    /// The running tasks, with how long they have run.
    #[must_use]
    pub fn doing(&self) -> Vec<Doing> {
        lock(&self.runs)
            .iter()
            .map(|(task, run)| {
                let (rows, bytes) = run.progress.read();
                Doing { task: task.clone(), seconds: run.since.elapsed().as_secs_f64(), rows, bytes }
            })
            .collect()
    }

    /// Rows and bytes that all tasks have read since the start of the process.
    #[must_use]
    pub fn read_so_far(&self) -> (u64, u64) {
        self.read.read()
    }

    /// Takes tasks while the session lasts and this daemon is fit for them. Calls `subscribed` once the
    /// worker consumes.
    ///
    /// # Errors
    /// When the session ends, or the work is better left to others for a while.
    pub async fn consume(
        self: &Arc<Self>,
        session: Arc<dyn Session>,
        subscribed: impl FnOnce() + Send,
        beat: impl Fn() + Send,
        stop: CancellationToken,
    ) -> Result<(), WorkerError> {
        self.session.send_replace(Some(Arc::clone(&session)));
        let mut unfit = self.unfit.subscribe();
        let context = &self.shared.context;
        let look_at_root = || context.folder.fit(context.config.timing.alive_timeout.0);
        look_at_root().await.map_err(WorkerError::Unfit)?;
        self.shared.tidy().await;
        let prefetch = u16::try_from(self.slots).unwrap_or(u16::MAX);
        let mut work: Consumer = session.subscribe(Queue::Work, prefetch).await?;
        subscribed();
        let mut looked = Instant::now();
        loop {
            beat();
            let delivery = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                Ok(()) = unfit.changed() => {
                    let Some(why) = unfit.borrow_and_update().clone() else { continue };
                    return Err(WorkerError::Unfit(why));
                }
                delivery = work.next() => delivery.ok_or(BusError::Closed)?,
                () = tokio::time::sleep(Duration::from_secs(1)) => {
                    // Check the root also while no task comes: otherwise only a task would notice that it is
                    // gone.
                    if looked.elapsed() >= context.config.timing.alive_interval.0 {
                        look_at_root().await.map_err(WorkerError::Unfit)?;
                        self.shared.tidy().await;
                        looked = Instant::now();
                    }
                    continue;
                }
            };
            self.take(delivery).await?;
        }
    }

    /// Begins a delivered task. If the task is running already, attaches the message to that run.
    async fn take(self: &Arc<Self>, delivery: Delivery) -> Result<(), BusError> {
        let task: Task = match serde_json::from_slice(&delivery.body) {
            Ok(task) => task,
            Err(e) => {
                warn!(error = %e, "the work queue holds a message that is no task; it is dropped");
                return delivery.settle.ack().await;
            }
        };
        if delivery.redelivered {
            self.shared.context.metrics.redeliveries_total.inc();
        }
        if task.root() != self.shared.context.folder.id() {
            let why = format!(
                "a task is meant for export folder {}, {} is {}",
                task.root(),
                self.shared.context.folder.root().display(),
                self.shared.context.folder.id()
            );
            self.unfit.send_replace(Some(why));
            return delivery.settle.release().await;
        }
        let cancel = self.stop.child_token();
        let progress = Arc::new(Progress::within(&self.read));
        {
            let mut runs = lock(&self.runs);
            if let Some(run) = runs.get_mut(&task) {
                debug!(parent: &span(&task), "a redelivered task attaches to its run");
                run.waiting.push(delivery.settle);
                return Ok(());
            }
            let run = Run {
                waiting: vec![delivery.settle],
                cancel: cancel.clone(),
                progress: Arc::clone(&progress),
                since: Instant::now(),
            };
            runs.insert(task.clone(), run);
        }
        let worker = Arc::clone(self);
        let redelivered = delivery.redelivered;
        let span = span(&task);
        let run = async move {
            let permit = tokio::select! {
                biased;
                () = cancel.cancelled() => None,
                permit = worker.permits.acquire() => permit.ok(),
            };
            let performed = AssertUnwindSafe(worker.perform(&task, redelivered, &cancel, &progress));
            let end = performed.catch_unwind().await.unwrap_or_else(|_| {
                // The message of the panic is in the log already.
                error!("a task broke; it is released");
                End::Release
            });
            drop(permit);
            worker.settle(&task, end).await;
        };
        self.tracker.spawn(run.instrument(span));
        Ok(())
    }

    async fn perform(
        &self,
        task: &Task,
        redelivered: bool,
        cancel: &CancellationToken,
        progress: &Arc<Progress>,
    ) -> End {
        let context = &self.shared.context;
        let mut patience = Patience::new(&self.shared, cancel);
        loop {
            let result = match task {
                Task::Plan(plan) => planning::run(&self.shared, plan, cancel).await,
                Task::Chunk(chunk) => chunk::run(&self.shared, chunk, redelivered, cancel, progress).await,
            };
            let error = match result {
                Ok(end) => return end,
                // If a directory is gone and the root is still there, the job has ended.
                Err(e) if e.is_gone() => match context.folder.guard().await {
                    Ok(()) => return End::Done { wake: false },
                    Err(root) => root,
                },
                Err(e) => e,
            };
            match patience.refused(error).await {
                Ok(true) => {}
                Ok(false) => return End::Release,
                Err(e) if e.is_unfit() => return End::Unfit(e.to_string()),
                Err(e) => {
                    warn!(error = %e, "a task met a file that it cannot use");
                    self.shared.trouble(e.to_string());
                    // Wait before the release: somebody has to repair the file, and the message comes back at
                    // once.
                    let pause = tokio::time::sleep(context.config.timing.retry_first.0);
                    cancel.run_until_cancelled(pause).await;
                    return End::Release;
                }
            }
        }
    }

    /// Confirms the wake-up, then settles every message that waits for the task.
    async fn settle(&self, task: &Task, end: End) {
        let mut done = matches!(end, End::Done { .. });
        if let End::Done { wake: true } = end
            && let Err(e) = self.wake(task).await
        {
            debug!(error = %e, "a wake-up is not confirmed; its task comes again");
            done = false;
        }
        if let End::Unfit(why) = end {
            self.unfit.send_replace(Some(why));
        }
        let waiting = lock(&self.runs).remove(task).map(|run| run.waiting).unwrap_or_default();
        for message in waiting {
            let settled = if done { message.ack().await } else { message.release().await };
            if let Err(e) = settled {
                debug!(error = %e, "a message of a finished task comes again");
            }
        }
    }

    async fn wake(&self, task: &Task) -> Result<(), BusError> {
        let session = self.session.borrow().clone().ok_or(BusError::Closed)?;
        let chunk = match task {
            Task::Plan(_) => None,
            Task::Chunk(t) => Some(ChunkRef { epoch: t.epoch, batch: t.batch, chunk: t.chunk }),
        };
        let wake = Wake { job: Some(task.job().clone()), chunk };
        session.publish(Outgoing::Inbox(InboxMessage::Wake(wake))).await
    }

    /// Drops the tasks of a cancelled job at once.
    pub fn drop_job(&self, job: &JobId) {
        for (task, run) in lock(&self.runs).iter() {
            if task.job() == job {
                run.cancel.cancel();
            }
        }
    }

    /// Waits for running tasks, at most until the deadline, then releases the rest.
    pub async fn drain(&self, until: Instant, hurry: &CancellationToken) {
        self.tracker.close();
        let running = lock(&self.runs).len();
        if running > 0 {
            info!(tasks = running, "waits for chunks in flight");
        }
        tokio::select! {
            biased;
            () = self.tracker.wait() => return,
            () = hurry.cancelled() => {}
            () = tokio::time::sleep_until(until) => {}
        }
        self.stop.cancel();
        // Messages that are not released in time return to the queue when the connection ends.
        let last = if hurry.is_cancelled() { LAST_WORDS } else { RELEASE };
        let _ = tokio::time::timeout(last, self.tracker.wait()).await;
    }
}
