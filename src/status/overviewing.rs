//! Puts the overview together from the folder, the fleet and this process's own figures.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use uuid::Uuid;

use super::fleet::Member;
use super::overview::{
    Broker, DaemonView, FleetRates, Held, JobCounts, Minute, Overview, SnapshotView, SourceView, Standing,
    Storage,
};
use super::picture::{JobBrief, Phase};
use super::tables::paged;
use super::trouble::{Signs, troubles};
use super::{Blind, Pictures, Status, rates};
use crate::message::presence::{Doing, Pool, Presence};
use crate::message::{JobId, SourceName, Task};

/// Jobs that have ended, on a page.
const ENDED: usize = 20;
/// Running jobs that are shown.
const MOST_RUNNING: usize = 30;
/// Tasks of a daemon that are shown.
const MOST_HELD: usize = 8;

/// What one look gives.
#[derive(Default)]
pub(super) struct Seen {
    pictures: Pictures,
    ended: Vec<JobBrief>,
    unread: u64,
    damaged: Vec<String>,
}

/// What is known of the folder: what the last look gave, and why there is no newer one.
struct Known {
    seen: Arc<Seen>,
    /// When that was; none before the first look.
    at: Option<Timestamp>,
    blind: Option<Blind>,
}

impl Status {
    /// The fleet at a glance. Without the folder it shows what the daemons say.
    pub async fn overview(&self, page: u32) -> Overview {
        let now = self.context.now();
        let members = self.fleet.members();
        let Known { seen, at: looked_at, blind } = self.see(now).await;
        let error = match &blind {
            Some(Blind::Folder(error)) => Some(error.to_string()),
            Some(Blind::Slow) | None => None,
        };
        let mut running: Vec<JobBrief> = seen.pictures.values().map(|p| p.brief.clone()).collect();
        running.sort_by(|a, b| {
            let key = |job: &JobBrief| (job.status == Phase::Waiting, job.received_at, job.job_id.clone());
            key(a).cmp(&key(b))
        });
        let mut daemons: Vec<DaemonView> = members.iter().map(|m| self.daemon(m, &seen.pictures)).collect();
        replace(&mut daemons, now);
        let sources = self.sources(&members, &daemons, &seen.pictures, now);
        let storage = self.storage(error).await;
        let broker = self.broker(&daemons);
        let signs = Signs {
            now,
            settled: now.duration_since(self.context.started_at).as_secs_f64()
                > self.context.config.timing.alive_timeout.0.as_secs_f64(),
            stalled_after: self.context.config.timing.stalled_after.0,
            daemons: &daemons,
            sources: &sources,
            storage: &storage,
            broker: &broker,
            running: &running,
            ended: &seen.ended,
            damaged: &seen.damaged,
            looked_at,
            is_slow: matches!(blind, Some(Blind::Slow)),
        };
        let troubles = troubles(&signs);
        let today = now.to_zoned(TimeZone::UTC).start_of_day().map_or(now, |day| day.timestamp());
        let counts = JobCounts::of(running.iter(), seen.ended.iter(), today);
        running.truncate(MOST_RUNNING);
        let (page, pages) = paged(seen.ended.len(), ENDED, page);
        let ended = seen.ended.iter().skip((page as usize - 1) * ENDED).take(ENDED).cloned().collect();
        Overview {
            at: now,
            looked_at,
            instance: self.context.instance,
            host: self.context.host.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            troubles,
            jobs: counts,
            rates: self.rates(&members, now),
            running,
            ended,
            page,
            pages,
            daemons,
            sources,
            storage,
            broker,
            archives_unread: seen.unread,
        }
    }

    async fn see(&self, now: Timestamp) -> Known {
        let running = self.running();
        let looked = self.looker.look(|look| Seen {
            pictures: look
                .jobs
                .iter()
                .map(|(id, state)| (id.clone(), self.picture(state, &running, now)))
                .collect(),
            ended: look.archives.ended().iter().map(|job| (**job).clone()).collect(),
            unread: look.archives.unread as u64,
            damaged: look
                .damaged
                .iter()
                .map(|(job, why)| format!("job {job}: {why}"))
                .chain(look.archives.damaged.values().cloned())
                .collect(),
        });
        match looked.await {
            Ok(seen) => {
                let seen = Arc::new(seen);
                *self.seen() = Some((now, Arc::clone(&seen)));
                Known { seen, at: Some(now), blind: None }
            }
            Err(blind) => {
                let (at, seen) = self.seen().clone().unzip();
                Known { seen: seen.unwrap_or_default(), at, blind: Some(blind) }
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Option<(Timestamp, Arc<Seen>)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees the memory of what was seen last.
    pub(super) fn forget_seen(&self) {
        *self.seen() = None;
    }

    fn standing(&self, member: &Member) -> Standing {
        match () {
            () if member.presence.alive.leaving => Standing::Leaving,
            () if member.silent() > self.context.config.timing.alive_timeout.0 => Standing::Silent,
            () => Standing::Alive,
        }
    }

    fn daemon(&self, member: &Member, pictures: &Pictures) -> DaemonView {
        let Presence { alive, host, version, started_at, coordinates, obstacles, doing, rates, .. } =
            member.presence.clone();
        let standing = self.standing(member);
        let lives = standing == Standing::Alive;
        let mut doing: Vec<Doing> = if lives { doing } else { Vec::new() };
        doing.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        DaemonView {
            instance: alive.instance,
            here: alive.instance == self.context.instance,
            host: if host.is_empty() { "(an older release)".into() } else { host },
            version,
            standing,
            coordinates: coordinates && lives,
            slots: alive.slots,
            cores: alive.cores,
            silent_seconds: member.silent().as_secs_f64(),
            started_at,
            sources: alive.sources,
            tasks: u32::try_from(doing.len()).unwrap_or(u32::MAX),
            holding: doing.into_iter().take(MOST_HELD).map(|doing| held(doing, pictures)).collect(),
            snapshots: if lives { u32::try_from(alive.lineages.len()).unwrap_or(u32::MAX) } else { 0 },
            rows_per_second: if lives { rates.rows_per_second } else { 0.0 },
            bytes_per_second: if lives { rates.bytes_per_second } else { 0.0 },
            obstacles: if lives { obstacles.into_iter().chain(alive.troubles).collect() } else { Vec::new() },
        }
    }

    fn rates(&self, members: &[Member], now: Timestamp) -> FleetRates {
        let of_living = |rate: fn(&Presence) -> f64| {
            members.iter().filter(|m| self.standing(m) == Standing::Alive).map(|m| rate(&m.presence)).sum()
        };
        let minutes = rates::together(members.iter().map(|m| &m.presence.rates), now);
        FleetRates {
            rows_per_second: of_living(|p| p.rates.rows_per_second),
            bytes_per_second: of_living(|p| p.rates.bytes_per_second),
            last_hour: minutes.into_iter().map(|(rows, bytes)| Minute { rows, bytes }).collect(),
        }
    }

    fn sources(
        &self,
        members: &[Member],
        daemons: &[DaemonView],
        pictures: &Pictures,
        now: Timestamp,
    ) -> Vec<SourceView> {
        let living: Vec<&Presence> =
            members.iter().filter(|m| self.standing(m) == Standing::Alive).map(|m| &m.presence).collect();
        let hosts: BTreeMap<Uuid, &str> = daemons.iter().map(|d| (d.instance, d.host.as_str())).collect();
        let mut views = Vec::new();
        for (name, entry) in self.context.sources().iter() {
            let of_source = || pictures.values().filter(|p| p.brief.source == *name);
            let have = || living.iter().filter(|p| p.alive.sources.contains(name));
            let pool = have().filter_map(|p| p.pools.get(name)).fold(Pool::default(), |sum, pool| Pool {
                idle: sum.idle + pool.idle,
                busy: sum.busy + pool.busy,
                waiting: sum.waiting + pool.waiting,
            });
            let out = living.iter().flat_map(|p| &p.doing).filter(|doing| {
                let job = doing.task.job();
                matches!(doing.task, Task::Chunk(_)) && source_of(pictures, job).is_some_and(|s| s == name)
            });
            let slots: u64 = have().map(|p| u64::from(p.alive.slots)).sum();
            let limits = [
                (u64::from(entry.config.max_parallel.get()), "max_parallel of the source"),
                (slots, "the slots of its daemons"),
                (
                    of_source().filter_map(|p| p.most_chunks).min().map_or(u64::MAX, u64::from),
                    "a limit of the server",
                ),
            ];
            let (chunks_allowed, allowed_by) = limits.into_iter().min_by_key(|l| l.0).unwrap_or((0, ""));
            let allowed_seconds = entry.config.max_snapshot_age.0.map(|span| span.0.as_secs_f64());
            let mut snapshots: BTreeMap<Uuid, SnapshotView> = BTreeMap::new();
            for picture in of_source() {
                for open in &picture.snapshots {
                    let holders = living.iter().filter(|p| p.alive.lineages.contains(&open.lineage));
                    snapshots.entry(open.lineage).or_insert_with(|| SnapshotView {
                        lineage: open.lineage,
                        job_id: picture.brief.job_id.clone(),
                        age_seconds: now.duration_since(open.time).as_secs_f64().max(0.0),
                        allowed_seconds,
                        needs_sessions: open.needs_keepers,
                        held_by: holders
                            .filter_map(|p| hosts.get(&p.alive.instance))
                            .map(ToString::to_string)
                            .collect(),
                    });
                }
            }
            let mut snapshots: Vec<SnapshotView> = snapshots.into_values().collect();
            snapshots.sort_by(|a, b| b.age_seconds.total_cmp(&a.age_seconds));
            views.push(SourceView {
                source: name.clone(),
                kind: entry.config.kind.as_str().into(),
                pool,
                pool_size: entry.config.pool_size.get(),
                daemons: u32::try_from(have().count()).unwrap_or(u32::MAX),
                chunks_out: out.count() as u64,
                chunks_allowed,
                allowed_by: allowed_by.into(),
                jobs: u32::try_from(of_source().count()).unwrap_or(u32::MAX),
                snapshots,
            });
        }
        views
    }

    async fn storage(&self, error: Option<String>) -> Storage {
        let ask = tokio::time::timeout(std::time::Duration::from_secs(2), self.context.destination.free());
        let free = ask.await.ok().and_then(Result::ok);
        Storage {
            root: self.context.folder.root().display().to_string(),
            id: self.context.folder.id(),
            free_bytes: free,
            min_free_bytes: self.context.config.export.min_free_bytes,
            paused: self.context.metrics.worker_paused.get() > 0,
            error,
        }
    }

    fn broker(&self, daemons: &[DaemonView]) -> Broker {
        let metrics = &self.context.metrics;
        Broker {
            prefix: self.context.config.broker.prefix.clone(),
            connected: metrics.broker_connected.get() > 0,
            blocked: metrics.broker_blocked.get() > 0,
            coordinator: daemons.iter().find(|d| d.coordinates).map(|d| d.host.clone()),
        }
    }
}

/// A daemon that died and was started again is no loss. Each later start on a host takes the place of one silent daemon.
fn replace(daemons: &mut [DaemonView], now: Timestamp) {
    let mut starts: Vec<(String, Timestamp)> = daemons
        .iter()
        .filter(|d| d.standing == Standing::Alive)
        .filter_map(|d| Some((d.host.clone(), d.started_at?)))
        .collect();
    starts.sort();
    for daemon in daemons.iter_mut().filter(|d| d.standing == Standing::Silent) {
        let silence = jiff::SignedDuration::try_from_secs_f64(daemon.silent_seconds).unwrap_or_default();
        let takes_over = |(host, at): &(String, Timestamp)| *host == daemon.host && *at > now - silence;
        if let Some(place) = starts.iter().position(takes_over) {
            starts.remove(place);
            daemon.standing = Standing::Replaced;
        }
    }
}

fn source_of<'a>(pictures: &'a Pictures, job: &JobId) -> Option<&'a SourceName> {
    pictures.get(job).map(|picture| &picture.brief.source)
}

fn held(doing: Doing, pictures: &Pictures) -> Held {
    let (mut place, mut what) = (None, String::new());
    match &doing.task {
        Task::Plan(task) => what = format!("plan {}", task.epoch),
        Task::Chunk(task) => {
            let picture = pictures.get(&task.job);
            let number = picture.and_then(|p| p.numbers.binary_search(&task.batch.first()).ok());
            match (picture, number) {
                (Some(picture), Some(number)) => {
                    let table = picture.tables.get(number);
                    place = u32::try_from(number).ok();
                    what = match table {
                        Some(table) if table.chunks > 1 => format!("{}, chunk {}", table.table, task.chunk),
                        Some(table) => table.table.clone(),
                        None => what,
                    };
                }
                _ => what = format!("table {}, chunk {}", task.batch, task.chunk),
            }
        }
    }
    Held {
        job_id: doing.task.job().clone(),
        place,
        what,
        seconds: doing.seconds,
        rows: doing.rows,
        bytes: doing.bytes,
    }
}
