//! Plays one schedule to its end.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adu_export::bus::{Bus, Properties};
use adu_export::config::{Auto, Config, Secret};
use adu_export::context::{Context, SourceEntry, Sources, Surroundings};
use adu_export::daemon::roles::Roles;
use adu_export::daemon::supervise;
use adu_export::destination::{Destination, FolderDestination};
use adu_export::folder::Folder;
use adu_export::http::Health;
use adu_export::job::outcome::Owner;
use adu_export::machine::Machine;
use adu_export::message::SourceName;
use adu_export::message::setting::Span;
use adu_export::metrics::Metrics;
use adu_export::worker::Worker;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::broker::Line;
use crate::bus::{self, SimBus};
use crate::check;
use crate::depot::SimDepot;
use crate::folder::SimStore;
use crate::ledger::Ledger;
use crate::process::Process;
use crate::schedule::{Event, Schedule};
use crate::source::{SimParts, SimSource};
use crate::world::World;

/// How long a job may take after the faults have stopped.
const BOUND: Duration = Duration::from_secs(300);

/// The result of a schedule.
pub(crate) struct Played {
    pub(crate) broken: Vec<String>,
    pub(crate) trace: Vec<String>,
    pub(crate) steps: u64,
    pub(crate) seconds: u64,
    /// Processes that died.
    pub(crate) deaths: u64,
}

/// The state that all schedules of a thread share.
pub(crate) struct Stage {
    config: Config,
    source: SourceName,
    metrics: Arc<Metrics>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let dsn = Secret::new("postgres://sim@db/sim");
        let (mut config, source) = Config::for_dsn(&dsn, Path::new("/exports")).expect("a configuration");
        let millis = |m| Span(Duration::from_millis(m));
        let timing = &mut config.timing;
        timing.alive_interval = millis(1_500);
        timing.alive_timeout = millis(4_000);
        timing.look_interval = millis(8_000);
        timing.progress_interval = millis(1_000);
        timing.plan_wait = millis(6_000);
        timing.keeper_wait = millis(1_000);
        timing.unfit_retry = millis(3_000);
        // Long, because a request that a dead process had sent may still make a workspace.
        timing.abandoned_workspace = millis(20_000);
        timing.retry_first = millis(100);
        timing.retry_longest = millis(3_000);
        timing.retry_limit = millis(10_000);
        config.export.shutdown_grace = millis(3_000);
        config.export.row_group_bytes = NonZeroU64::MIN;
        // Three rows: a chunk gives up to four parts.
        config.export.file_bytes = NonZeroU64::new(48);
        let metrics = Arc::new(Metrics::new());
        metrics.add_source(&source);
        Self { config, source, metrics }
    }

    /// Plays a schedule; `traced` keeps every effect.
    pub(crate) fn play(&self, schedule: &Schedule, dice: crate::dice::Dice, traced: bool) -> Played {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let mut play = None;
        let played = runtime.block_on(async {
            let world = World::new(dice, schedule.faults.clone(), schedule.hosts, schedule.depot, traced);
            let running = Arc::new(Play {
                hosts: (0..schedule.hosts).map(|_| Mutex::default()).collect(),
                lives: Mutex::default(),
                ledger: Mutex::new(Ledger::new(&world.database, &schedule.tables)),
                world,
            });
            play = Some(Arc::clone(&running));
            running.run(self, schedule).await
        });
        drop(runtime);
        // Processes and their world hold each other: break the cycle.
        if let Some(play) = play {
            lock(&play.lives).clear();
            play.hosts.iter().for_each(|h| *lock(h) = None);
            *play.world.broker() = crate::broker::Broker::default();
        }
        played
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Running {
    process: Arc<Process>,
    roles: Roles,
    end: CancellationToken,
}

pub(crate) struct Play {
    pub(crate) world: Arc<World>,
    hosts: Vec<Mutex<Option<Running>>>,
    lives: Mutex<BTreeMap<u64, Arc<Process>>>,
    pub(crate) ledger: Mutex<Ledger>,
}

struct SimMachine(Arc<World>);

impl Machine for SimMachine {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn fresh(&self) -> Uuid {
        self.0.fresh()
    }

    fn cores(&self) -> u32 {
        2
    }
}

impl Play {
    async fn run(self: Arc<Self>, stage: &Stage, schedule: &Schedule) -> Played {
        let world = &self.world;
        self.lay_out().await;
        let quirks = Arc::new(schedule.quirks.clone());
        let this = Arc::clone(&self);
        tokio::spawn(bus::deliver(Arc::clone(world), move |life| lock(&this.lives).get(&life).cloned()));
        for host in 0..schedule.hosts {
            let (this, quirks, slots) = (Arc::clone(&self), Arc::clone(&quirks), schedule.slots);
            let (config, source, metrics) =
                (stage.config.clone(), stage.source.clone(), Arc::clone(&stage.metrics));
            tokio::spawn(async move {
                loop {
                    let parts =
                        Parts { config: &config, source: &source, metrics: &metrics, quirks: &quirks, slots };
                    this.live(host, &parts).await;
                    let pause = if this.world.is_stormy() { this.world.up_to(3_000) } else { Duration::ZERO };
                    tokio::time::sleep(pause + Duration::from_millis(1)).await;
                }
            });
        }
        let begun = Instant::now();
        for (at, event) in &schedule.events {
            tokio::time::sleep_until(begun + Duration::from_millis(*at)).await;
            self.happen(event);
        }
        self.settle(schedule).await;
        check::all(&self, schedule);
        Played {
            broken: world.take_broken(),
            trace: world.take_trace(),
            steps: world.steps(),
            seconds: world.millis() / 1000,
            deaths: world.lives().saturating_sub(schedule.hosts as u64),
        }
    }

    /// Initializes the root, as `check --init` does.
    async fn lay_out(&self) {
        let world = World::new(crate::dice::Dice::new(0), crate::faults::Faults::none(), 1, false, false);
        std::mem::swap(&mut *world.disk(), &mut *self.world.disk());
        let store = Arc::new(SimStore(Process::new(&world, 0)));
        let id = Uuid::from_u128(1);
        Folder::init_store(store, PathBuf::from("/exports"), id).await.expect("nothing fails yet");
        std::mem::swap(&mut *world.disk(), &mut *self.world.disk());
    }

    /// Waits until everything has ended, or for too long.
    async fn settle(&self, schedule: &Schedule) {
        let bound = self.world.calm() + BOUND;
        loop {
            let unquiet = check::unquiet(self, schedule);
            let Some(unquiet) = unquiet else { return };
            if Instant::now() > bound {
                self.world.broken("I9", format_args!("it hangs: {unquiet}"));
                return;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    fn happen(&self, event: &Event) {
        let world = &self.world;
        world.note(|| format!("EVENT {event:?}"));
        match event {
            Event::Send(body, id) => {
                let properties = Properties { message_id: Some(id.clone()), ..Properties::default() };
                bus::send(world, Line::Requests, body.to_string().as_bytes(), &properties);
            }
            Event::Update(table) => lock(&self.ledger).update(&world.database, table),
            Event::Rewrite(table) => lock(&self.ledger).rewrite(&world.database, table),
            Event::KillKeepers(host) => {
                let life = host.map(|host| self.hosts[host].lock().unwrap_or_else(PoisonError::into_inner));
                match life {
                    None => world.database.kill_keepers(None),
                    Some(running) => {
                        if let Some(running) = &*running {
                            world.database.kill_keepers(Some(running.process.life));
                        }
                    }
                }
            }
            Event::Wipe => {
                world.broker().purge(Line::Work);
                world.broker().purge(Line::Coordinator);
            }
            Event::Restart | Event::TakeAway => {
                let sessions = match event {
                    Event::TakeAway => world.broker().holders(),
                    _ => world.broker().all_sessions(),
                };
                for session in sessions {
                    let noticed = Instant::now() + world.up_to(300);
                    world.broker().sever(session, noticed);
                }
                world.deliver.notify_one();
            }
            Event::Kill(host) => {
                if let Some(running) = &*lock(&self.hosts[*host]) {
                    running.process.die();
                }
            }
            Event::Terminate(host) => {
                if let Some(running) = &*lock(&self.hosts[*host]) {
                    let (roles, end) = (running.roles.clone(), running.end.clone());
                    tokio::spawn(async move {
                        supervise::wind_down(&roles, &CancellationToken::new(), &end).await;
                    });
                }
            }
        }
    }

    /// One life of a process on a host.
    async fn live(&self, host: usize, parts: &Parts<'_>) {
        let process = Process::new(&self.world, host);
        lock(&self.lives).insert(process.life, Arc::clone(&process));
        self.world.note(|| format!("h{host} STARTS as {}", process.life));
        let end = CancellationToken::new();
        let body = async {
            let roles = parts.roles(&process).await;
            *lock(&self.hosts[host]) =
                Some(Running { process: Arc::clone(&process), roles: roles.clone(), end: end.clone() });
            let bus = SimBus(Arc::clone(&process));
            supervise::run(&roles, &bus as &dyn Bus, &end).await;
        };
        tokio::select! {
            biased;
            () = process.dead.cancelled() => {}
            () = body => self.world.note(|| format!("h{host} ENDS")),
        }
        process.die();
        *lock(&self.hosts[host]) = None;
    }
}

/// What is needed to make a process.
struct Parts<'a> {
    config: &'a Config,
    source: &'a SourceName,
    metrics: &'a Arc<Metrics>,
    quirks: &'a Arc<crate::source::Quirks>,
    slots: u32,
}

impl Parts<'_> {
    async fn roles(&self, process: &Arc<Process>) -> Roles {
        let world = &process.world;
        let store = Arc::new(SimStore(Arc::clone(process)));
        let folder = loop {
            match Folder::open_store(store.clone(), PathBuf::from("/exports")).await {
                Ok(folder) => break folder,
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        };
        let mut config = self.config.clone();
        config.export.workers = Auto::Exactly(NonZeroU32::new(self.slots).unwrap_or(NonZeroU32::MIN));
        let section = config.sources[self.source].clone();
        let source = Arc::new(SimSource::new(process, self.source.clone(), self.quirks));
        let mut sources = Sources::new();
        sources.insert(self.source.clone(), Arc::new(SourceEntry { source, config: section }));
        let destination: Arc<dyn Destination> = match world.has_depot {
            true => Arc::new(SimDepot::new(process)),
            false => Arc::new(FolderDestination::new(folder.clone())),
        };
        let surroundings = Surroundings {
            host: format!("h{}", process.host),
            machine: Arc::new(SimMachine(Arc::clone(world))),
            parts: Arc::new(SimParts { process: Arc::clone(process), destination: Arc::clone(&destination) }),
            destination,
        };
        let owner = Owner::Daemons { vhost: "/".into(), prefix: "p".into() };
        let context = Context::within(surroundings, config, folder, owner, sources, Arc::clone(self.metrics));
        let worker = Worker::new(Arc::clone(&context), self.slots);
        let stop = CancellationToken::new();
        Roles { context, worker, fleet: Arc::default(), health: Health::new(), stop }
    }
}
