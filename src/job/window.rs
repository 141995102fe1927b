//! The tasks that are handed out on the work queue: which jobs may run, how many tasks are out, which of them
//! are lost. Pure.
//!
//! Each source has about twice as many tasks out as it has live slots. They are dealt round-robin over jobs,
//! and within a job over tables. So a small job never waits behind a large one, and a cancel frees the
//! workers at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use uuid::Uuid;

use super::state::{BatchId, BatchState, JobState};
use crate::config::{MAX_JOBS, MAX_PARALLEL};
use crate::message::inbox::Alive;
use crate::message::task::{ChunkTask, PlanTask};
use crate::message::{ChunkNo, JobId, SourceName, Task};

/// How many tables of a job, and how many chunks of a table, to export at once on this many cores.
#[must_use]
pub fn by_cores(cores: u32) -> (u32, u32) {
    ((cores * 3 / 4).max(2), (cores / 2).max(2))
}

/// Bounds of one source.
#[derive(Clone, Debug)]
pub struct SourceLimits {
    /// Chunks at once, over all daemons.
    pub max_parallel: u32,
    /// Jobs at once.
    pub max_jobs: u32,
    /// Chunks of one table at once, if neither the request nor `[export]` says.
    pub chunk_workers: Option<u32>,
}

impl Default for SourceLimits {
    fn default() -> Self {
        Self { max_parallel: MAX_PARALLEL.get(), max_jobs: MAX_JOBS.get(), chunk_workers: None }
    }
}

/// Settings of the window.
#[derive(Clone, Debug, Default)]
pub struct WindowSettings {
    /// Identity of the root, put into every task.
    pub root: Uuid,
    /// Bounds by source.
    pub sources: BTreeMap<SourceName, SourceLimits>,
    /// Tables of a job at once; else by cores.
    pub table_threads: Option<u32>,
    /// Chunks of a table at once; else by cores.
    pub chunk_workers: Option<u32>,
    /// A daemon that is silent for this long is dead, and a task that nobody holds for this long is lost.
    pub alive_timeout: Duration,
}

/// A task that is handed out.
#[derive(Debug)]
struct Out {
    /// Order in which it was handed out.
    turn: u64,
    /// When it was handed out or last held.
    seen: Duration,
    /// Whether it was later found to be no longer in the queue.
    passed: bool,
}

#[derive(Debug)]
struct Daemon {
    alive: Alive,
    seen: Duration,
}

/// What the coordinator remembers: the tasks that are out, and the living daemons.
#[derive(Debug, Default)]
pub struct Window {
    out: HashMap<Task, Out>,
    daemons: HashMap<Uuid, Daemon>,
    turn: u64,
    /// The job that was served last.
    last_served: Option<JobId>,
}

impl Window {
    /// Notes that a daemon lives. True if the daemon is new.
    pub fn heard(&mut self, alive: Alive, up: Duration) -> bool {
        if alive.leaving {
            self.daemons.remove(&alive.instance);
            return false;
        }
        for task in &alive.holding {
            // A task that is unknown here was handed out by a predecessor.
            let out = Out { turn: 0, seen: up, passed: true };
            self.out.entry(task.clone()).or_insert(out);
        }
        let latest = alive.holding.iter().filter_map(|t| self.out.get(t)).map(|o| o.turn).max();
        for (task, out) in &mut self.out {
            // A task that was handed out later has been delivered, so this task is not in the queue any more.
            out.passed |= latest.is_some_and(|l| l > out.turn);
            if alive.holding.contains(task) {
                out.seen = up;
            }
        }
        self.daemons.insert(alive.instance, Daemon { alive, seen: up }).is_none()
    }

    /// Notes that the work queue is empty: a task that nobody holds is not in it.
    pub fn queue_is_empty(&mut self) {
        self.out.values_mut().for_each(|o| o.passed = true);
    }

    /// Whether a task is out that nobody holds. Only then is the depth of the queue needed.
    #[must_use]
    pub fn wants_depth(&self, up: Duration, settings: &WindowSettings) -> bool {
        self.out.values().any(|o| !o.passed && up.saturating_sub(o.seen) > settings.alive_timeout)
    }

    /// Forgets daemons that are silent and tasks that are finished or lost.
    pub fn tidy(&mut self, jobs: &BTreeMap<JobId, JobState>, up: Duration, settings: &WindowSettings) {
        let silent = |since: Duration| up.saturating_sub(since) > settings.alive_timeout;
        self.daemons.retain(|_, d| !silent(d.seen));
        self.out.retain(|task, out| {
            let wanted = jobs.get(task.job()).is_some_and(|job| is_wanted(job, task));
            wanted && !(out.passed && silent(out.seen))
        });
    }

    /// Lineages that living daemons hold.
    #[must_use]
    pub fn claimed(&self) -> BTreeSet<Uuid> {
        self.daemons.values().flat_map(|d| d.alive.lineages.iter().copied()).collect()
    }

    /// How many living daemons hold a lineage.
    #[must_use]
    pub fn holders(&self, lineage: Uuid) -> usize {
        self.daemons.values().filter(|d| d.alive.lineages.contains(&lineage)).count()
    }

    /// Living daemons.
    #[must_use]
    pub fn daemons(&self) -> usize {
        self.daemons.len()
    }

    /// How many chunks of a source the living daemons can export at once.
    #[must_use]
    pub fn slots(&self, source: &SourceName) -> u32 {
        self.daemons.values().filter(|d| d.alive.sources.contains(source)).map(|d| d.alive.slots).sum()
    }

    /// Why a job does not move, as text for people.
    #[must_use]
    pub fn why_quiet(&self, job: &JobState) -> String {
        let source = &job.stored.source;
        if self.slots(source) == 0 {
            return format!("no living daemon has the source {source}");
        }
        let out: Vec<&Task> = self.out.keys().filter(|t| t.job() == job.id()).collect();
        let held = |t: &&&Task| self.daemons.values().any(|d| d.alive.holding.contains(t));
        let held = out.iter().filter(held).count();
        let troubles: BTreeSet<&str> =
            self.daemons.values().flat_map(|d| d.alive.troubles.iter().map(String::as_str)).collect();
        let mut text = format!("{} tasks are out, {held} of them held by a daemon", out.len());
        let settling = job.batches.values().filter(|batch| batch.settling).count();
        if settling > 0 {
            text.push_str(&format!("; {settling} batches of tables are being moved into place"));
        }
        for trouble in troubles {
            text.push_str("; ");
            text.push_str(trouble);
        }
        text
    }

    fn cores(&self) -> u32 {
        self.daemons.values().map(|d| d.alive.cores).sum()
    }

    /// Counts the window of a predecessor as handed out: the first unfinished chunks are likely in the queue.
    /// If they are not, they are found lost later.
    pub fn inherit(
        &mut self,
        jobs: &mut BTreeMap<JobId, JobState>,
        up: Duration,
        settings: &WindowSettings,
    ) -> usize {
        self.deal(jobs, up, settings).len()
    }

    /// The jobs of a source that may run: first those that have begun or are being planned, then the others
    /// by arrival. An older request may become known after a newer one, and must not overtake one that is
    /// being planned.
    fn admit(&self, jobs: &BTreeMap<JobId, JobState>, source: &SourceName, max_jobs: usize) -> Vec<JobId> {
        let planning: BTreeSet<&JobId> =
            self.out.keys().filter(|t| matches!(t, Task::Plan(_))).map(Task::job).collect();
        let mut waiting: Vec<&JobState> =
            jobs.values().filter(|j| j.stored.source == *source && j.archive.is_none()).collect();
        let waits = |j: &JobState| j.plans.is_empty() && !planning.contains(j.id());
        waiting.sort_by_key(|j| (waits(j), j.stored.received_at, j.id().clone()));
        let mut admitted: Vec<JobId> = waiting.iter().take(max_jobs).map(|j| j.id().clone()).collect();
        admitted.sort_unstable();
        admitted
    }

    /// Hands out as many tasks as there is room for.
    pub fn deal(
        &mut self,
        jobs: &mut BTreeMap<JobId, JobState>,
        up: Duration,
        settings: &WindowSettings,
    ) -> Vec<Task> {
        let mut dealt = Vec::new();
        let sources: BTreeSet<SourceName> = jobs.values().map(|j| j.stored.source.clone()).collect();
        for source in sources {
            let limits = settings.sources.get(&source).cloned().unwrap_or_default();
            let slots = self.slots(&source);
            if slots == 0 {
                continue;
            }
            let mut admitted = self.admit(jobs, &source, limits.max_jobs as usize);
            // The job after the one that was served last goes first.
            let start = self
                .last_served
                .as_ref()
                .and_then(|last| admitted.iter().position(|j| j > last))
                .unwrap_or(0);
            admitted.rotate_left(start);
            let allowed =
                admitted.iter().filter_map(|id| jobs.get(id)?.most_chunks()).min().unwrap_or(u32::MAX);
            let room = limits.max_parallel.min(slots.saturating_mul(2)).min(allowed) as usize;
            let mut out = self.out.keys().filter(|t| is_of(jobs, t, &source)).count();
            let mut shares: Vec<Share> = admitted
                .into_iter()
                .filter_map(|id| Some(self.share(jobs.get(&id)?, settings, &limits)))
                .collect();
            while out < room {
                let before = out;
                for share in &mut shares {
                    if out >= room {
                        break;
                    }
                    let Some(job) = jobs.get_mut(&share.job) else { continue };
                    let Some(task) = self.next_task(job, share, settings) else { continue };
                    self.turn += 1;
                    self.out.insert(task.clone(), Out { turn: self.turn, seen: up, passed: false });
                    self.last_served = Some(share.job.clone());
                    dealt.push(task);
                    out += 1;
                }
                if out == before {
                    break;
                }
            }
        }
        dealt
    }

    /// How many tasks a job may have out, and how many are out.
    fn share(&self, job: &JobState, settings: &WindowSettings, limits: &SourceLimits) -> Share {
        let (some_tables, some_chunks) = by_cores(self.cores());
        let asked = &job.stored.request.parallelism;
        let tables = asked.table_threads.map(u32::from).or(settings.table_threads);
        let chunks = asked.chunk_workers.map(u32::from).or(limits.chunk_workers).or(settings.chunk_workers);
        let mut out: BTreeMap<BatchId, u32> = BTreeMap::new();
        for task in self.out.keys() {
            if let Task::Chunk(t) = task
                && t.job == *job.id()
            {
                *out.entry(t.batch_id()).or_default() += 1;
            }
        }
        Share {
            job: job.id().clone(),
            tables: tables.unwrap_or(some_tables) as usize,
            chunks: chunks.unwrap_or(some_chunks),
            out,
        }
    }

    /// The next task of a job that its share has room for.
    fn next_task(&self, job: &mut JobState, share: &mut Share, settings: &WindowSettings) -> Option<Task> {
        let root = settings.root;
        if job.cancel.is_some() || job.archive.is_some() {
            return None;
        }
        let plan = Task::Plan(PlanTask { job: job.id().clone(), epoch: job.next_epoch(), root });
        // Tables that are being given up together are planned together, on one snapshot.
        let giving_up = job.batches.values().any(|batch| batch.giving_up);
        let unplanned = job.plans.is_empty() || !giving_up && !job.abandoned().is_empty();
        if unplanned && !self.out.contains_key(&plan) {
            return Some(plan);
        }
        // First begin new tables, while there is room for them.
        let id = job.id().clone();
        if share.out.len() < share.tables {
            for (batch_id, batch) in &mut job.batches {
                if batch.takes_work()
                    && !share.out.contains_key(batch_id)
                    && let Some(chunk) = self.free_chunk(&id, *batch_id, batch, root)
                {
                    share.out.insert(*batch_id, 1);
                    return Some(Task::Chunk(chunk));
                }
            }
        }
        // Then continue the tables with the fewest chunks out.
        let mut under_way: Vec<(&mut u32, BatchId)> = share
            .out
            .iter_mut()
            .filter(|(_, out)| **out < share.chunks)
            .map(|(id, out)| (out, *id))
            .collect();
        under_way.sort_unstable();
        for (out, batch_id) in under_way {
            if let Some(batch) = job.batches.get_mut(&batch_id).filter(|b| b.takes_work())
                && let Some(chunk) = self.free_chunk(&id, batch_id, batch, root)
            {
                *out += 1;
                return Some(Task::Chunk(chunk));
            }
        }
        None
    }

    /// The next chunk of a batch that is neither out nor finished.
    fn free_chunk(&self, job: &JobId, id: BatchId, batch: &mut BatchState, root: Uuid) -> Option<ChunkTask> {
        let task = |chunk| ChunkTask { job: job.clone(), epoch: id.epoch, batch: id.batch, chunk, root };
        let chunks = u32::try_from(batch.records.len()).unwrap_or(u32::MAX);
        let is_free = |c: &ChunkNo| batch.is_unfinished(*c) && !self.out.contains_key(&Task::Chunk(task(*c)));
        let next = batch.next.0;
        let fresh = (next..chunks).map(ChunkNo).find(is_free);
        // After the first pass, look again for chunks that were lost on the way.
        let found = fresh.or_else(|| (0..next.min(chunks)).map(ChunkNo).find(is_free));
        batch.next = fresh.map_or(ChunkNo(chunks), |fresh| ChunkNo(fresh.0 + 1));
        found.map(task)
    }
}

struct Share {
    job: JobId,
    tables: usize,
    chunks: u32,
    out: BTreeMap<BatchId, u32>,
}

fn is_of(jobs: &BTreeMap<JobId, JobState>, task: &Task, source: &SourceName) -> bool {
    jobs.get(task.job()).is_some_and(|j| j.stored.source == *source)
}

/// Whether a task still has to be done.
fn is_wanted(job: &JobState, task: &Task) -> bool {
    if job.archive.is_some() || job.cancel.is_some() {
        return false;
    }
    match task {
        Task::Plan(t) => t.epoch == job.next_epoch(),
        Task::Chunk(t) => {
            job.batches.get(&t.batch_id()).is_some_and(|b| b.is_open() && b.is_unfinished(t.chunk))
        }
    }
}
