//! Workers: a task from delivery to acknowledgement.
//!
//! Work outlives the session that delivered it: when the connection breaks, a
//! chunk goes on, and the redelivered message attaches to it. A message is
//! acknowledged after its effect is durable and the coordinator's wake-up is
//! confirmed (invariant I1).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{RwLock, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::bus::{BusError, Consumer, Delivery, Outgoing, Queue, Session, Settle};
use crate::context::Context;
use crate::folder::{FolderError, layout};
use crate::message::inbox::{Alive, ChunkRef, Wake};
use crate::message::{InboxMessage, JobId, Task};
use crate::plan::ExportPlan;
use crate::source::Progress;

pub mod chunk;
pub mod export;
pub mod keepers;
pub mod planning;
pub mod record;

use keepers::Keepers;

/// Plans that a process remembers; more are read again from the folder.
const PLANS: usize = 64;
/// How long a trouble is told to the coordinator.
const TROUBLE_LASTS: Duration = Duration::from_secs(120);

/// How long released chunks may take to end what they do on the server.
const RELEASE: Duration = Duration::from_secs(10);
/// The same when there is no time.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How a task ended.
#[derive(Debug)]
pub enum End {
    /// Its effect is durable, or it had none.
    Done {
        /// Whether the coordinator has something to look at.
        wake: bool,
    },
    /// Not done: somebody else may.
    Release,
    /// This daemon cannot do it, nor others like it.
    Unfit(String),
}

/// What tasks of a process share.
pub struct Shared {
    /// What every role shares.
    pub context: Arc<Context>,
    /// The snapshots that this process keeps alive.
    pub keepers: Keepers,
    /// Healthy chunks hold it shared, a suspect alone.
    pub lone: RwLock<()>,
    plans: Mutex<BTreeMap<(JobId, u32), Arc<ExportPlan>>>,
    troubles: Mutex<Vec<(Instant, String)>>,
}

impl Shared {
    /// The plan of an epoch, if it is there.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn plan(&self, job: &JobId, epoch: u32) -> Result<Option<Arc<ExportPlan>>, FolderError> {
        let key = (job.clone(), epoch);
        if let Some(plan) = lock(&self.plans).get(&key) {
            return Ok(Some(Arc::clone(plan)));
        }
        let Some(plan) = self.context.folder.read::<ExportPlan>(&layout::plan(job, epoch)).await? else {
            return Ok(None);
        };
        let plan = Arc::new(plan);
        let mut plans = lock(&self.plans);
        if plans.len() >= PLANS {
            plans.pop_first();
        }
        plans.insert(key, Arc::clone(&plan));
        Ok(Some(plan))
    }

    /// Remembers what keeps this process from working, for `alive` and the status.
    pub fn trouble(&self, text: String) {
        let mut troubles = lock(&self.troubles);
        troubles.retain(|(at, old)| at.elapsed() < TROUBLE_LASTS && *old != text);
        troubles.truncate(7);
        troubles.push((Instant::now(), text));
    }

    fn troubles(&self) -> Vec<String> {
        let mut troubles = lock(&self.troubles);
        troubles.retain(|(at, _)| at.elapsed() < TROUBLE_LASTS);
        troubles.iter().map(|(_, text)| text.clone()).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A task that runs, and the messages that wait for its end.
struct Run {
    waiting: Vec<Box<dyn Settle>>,
    cancel: CancellationToken,
    progress: Arc<Progress>,
}

/// The worker of a process.
pub struct Worker {
    shared: Arc<Shared>,
    slots: u32,
    runs: Mutex<HashMap<Task, Run>>,
    tracker: TaskTracker,
    session: watch::Sender<Option<Arc<dyn Session>>>,
    stop: CancellationToken,
}

impl Worker {
    /// A worker that takes `slots` tasks at once.
    #[must_use]
    pub fn new(context: Arc<Context>, slots: u32) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::new(Shared {
                keepers: Keepers::new(Arc::clone(&context)),
                context,
                lone: RwLock::new(()),
                plans: Mutex::default(),
                troubles: Mutex::default(),
            }),
            slots,
            runs: Mutex::default(),
            tracker: TaskTracker::new(),
            session: watch::Sender::new(None),
            stop: CancellationToken::new(),
        })
    }

    /// What its tasks share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What this process is and holds.
    #[must_use]
    pub fn alive(&self, leaving: bool) -> Alive {
        let cores = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
        Alive {
            instance: self.shared.context.instance,
            slots: self.slots,
            cores,
            sources: self.shared.context.sources().keys().cloned().collect(),
            holding: lock(&self.runs).keys().cloned().collect(),
            lineages: self.shared.keepers.lineages(),
            troubles: self.shared.troubles(),
            leaving,
        }
    }

    /// Live figures of what runs.
    #[must_use]
    pub fn progress(&self) -> Vec<(Task, u64, u64)> {
        lock(&self.runs)
            .iter()
            .map(|(task, run)| {
                let (rows, bytes) = run.progress.read();
                (task.clone(), rows, bytes)
            })
            .collect()
    }

    /// Takes tasks while the session lasts. `ready` is told whether this
    /// daemon consumes, and if not, why.
    ///
    /// # Errors
    /// When the session ends.
    pub async fn consume(
        self: &Arc<Self>,
        session: Arc<dyn Session>,
        ready: impl Fn(Option<String>) + Send,
        beat: impl Fn() + Send,
        stop: CancellationToken,
    ) -> Result<(), BusError> {
        self.session.send_replace(Some(Arc::clone(&session)));
        let (unfit_tx, mut unfit) = watch::channel(None::<String>);
        loop {
            if let Err(e) = self.shared.context.folder.guard().await {
                unfit_tx.send_replace(Some(e.to_string()));
            }
            let obstacle = unfit.borrow_and_update().clone();
            if let Some(why) = obstacle {
                warn!(reason = why, "this daemon takes no work");
                ready(Some(why));
                if self.wait_to_try_again(&session, &beat, &stop).await? {
                    return Ok(());
                }
                unfit_tx.send_replace(None);
                continue;
            }
            let prefetch = u16::try_from(self.slots).unwrap_or(u16::MAX);
            let mut work: Consumer = session.subscribe(Queue::Work, prefetch).await?;
            ready(None);
            loop {
                beat();
                let delivery = tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    _ = unfit.changed() => break,
                    () = tokio::time::sleep(Duration::from_secs(1)) => continue,
                    delivery = work.next() => delivery.ok_or(BusError::Closed)?,
                };
                self.take(delivery, unfit_tx.clone()).await?;
            }
        }
    }

    /// True if it is time to stop for good.
    async fn wait_to_try_again(
        &self,
        session: &Arc<dyn Session>,
        beat: &(impl Fn() + Send),
        stop: &CancellationToken,
    ) -> Result<bool, BusError> {
        let until = Instant::now() + self.shared.context.config.timing.unfit_retry.0;
        let closed = session.closed();
        while Instant::now() < until {
            beat();
            tokio::select! {
                () = stop.cancelled() => return Ok(true),
                () = closed.cancelled() => return Err(BusError::Closed),
                () = tokio::time::sleep(Duration::from_secs(1).min(until - Instant::now())) => {}
            }
        }
        Ok(false)
    }

    /// Begins a delivered task, or attaches the message to the run it belongs to.
    async fn take(
        self: &Arc<Self>,
        delivery: Delivery,
        unfit: watch::Sender<Option<String>>,
    ) -> Result<(), BusError> {
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
            unfit.send_replace(Some(why));
            return delivery.settle.release().await;
        }
        let cancel = self.stop.child_token();
        let progress = Arc::new(Progress::default());
        {
            let mut runs = lock(&self.runs);
            if let Some(run) = runs.get_mut(&task) {
                debug!(?task, "a redelivered task attaches to its run");
                run.waiting.push(delivery.settle);
                return Ok(());
            }
            let run = Run {
                waiting: vec![delivery.settle],
                cancel: cancel.clone(),
                progress: Arc::clone(&progress),
            };
            runs.insert(task.clone(), run);
        }
        let worker = Arc::clone(self);
        let redelivered = delivery.redelivered;
        self.tracker.spawn(async move {
            let end = worker.perform(&task, redelivered, &cancel, &progress).await;
            worker.settle(&task, end, &unfit).await;
        });
        Ok(())
    }

    async fn perform(
        &self,
        task: &Task,
        redelivered: bool,
        cancel: &CancellationToken,
        progress: &Arc<Progress>,
    ) -> End {
        let result = match task {
            Task::Plan(plan) => planning::run(&self.shared, plan, cancel).await,
            Task::Chunk(chunk) => chunk::run(&self.shared, chunk, redelivered, cancel, progress).await,
        };
        match result {
            Ok(end) => end,
            Err(e) if e.is_gone() => End::Done { wake: false },
            Err(e @ FolderError::Newer { .. }) => End::Unfit(e.to_string()),
            Err(e) => {
                warn!(job.id = %task.job(), error = %e, "a task met an error of the export folder");
                self.shared.trouble(e.to_string());
                // Not at once again: the storage needs time.
                tokio::time::sleep(self.shared.context.config.timing.retry_first.0).await;
                End::Release
            }
        }
    }

    /// Confirms the wake-up, then settles every message that waits for the task.
    async fn settle(&self, task: &Task, end: End, unfit: &watch::Sender<Option<String>>) {
        let mut done = matches!(end, End::Done { .. });
        if let End::Done { wake: true } = end
            && let Err(e) = self.wake(task).await
        {
            debug!(error = %e, "a wake-up is not confirmed; its task comes again");
            done = false;
        }
        if let End::Unfit(why) = end {
            unfit.send_replace(Some(why));
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
            Task::Chunk(t) => Some(ChunkRef { epoch: t.epoch, table: t.table, chunk: t.chunk }),
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

    /// Waits for what runs, at most until the deadline, then releases the rest.
    pub async fn drain(&self, until: Instant, hurry: &CancellationToken) {
        self.tracker.close();
        let running = lock(&self.runs).len();
        if running > 0 {
            info!(running, "waits for chunks in flight");
        }
        tokio::select! {
            () = self.tracker.wait() => return,
            () = hurry.cancelled() => {}
            () = tokio::time::sleep_until(until) => {}
        }
        self.stop.cancel();
        // What is not released in time comes back to the queue with the connection's end.
        let last = if hurry.is_cancelled() { LAST_WORDS } else { RELEASE };
        let _ = tokio::time::timeout(last, self.tracker.wait()).await;
    }
}
