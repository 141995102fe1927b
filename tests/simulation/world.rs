//! The state that all simulated processes share: the clock, the dice, the folder, the broker, the database,
//! and the list of broken promises.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adu_export::source::memory::MemoryDatabase;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use crate::broker::Broker;
use crate::depot::Depot;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::faults::{Fate, Faults, Kind};

/// Ten seconds before midnight: schedules cross the date line.
const BEGIN: i64 = 1_764_115_190;

pub(crate) struct World {
    begin: Instant,
    /// When new faults stop. Faults that have begun may still end badly.
    calm: Instant,
    pub(crate) faults: Faults,
    pub(crate) hosts: usize,
    pub(crate) database: MemoryDatabase,
    disk: Mutex<Disk>,
    depot: Mutex<Depot>,
    /// Tables are published in the depot, and not in the folder.
    pub(crate) has_depot: bool,
    broker: Mutex<Broker>,
    /// Deliveries whose handles were dropped. They have a lock of their own, because a handle may be dropped
    /// while the broker is locked.
    abandoned: Mutex<Vec<u64>>,
    /// The broker has something to deliver.
    pub(crate) deliver: Notify,
    chance: Mutex<Chance>,
}

struct Chance {
    dice: Dice,
    steps: u64,
    lives: u64,
    trace: Option<Vec<String>>,
    broken: Vec<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(crate) fn new(dice: Dice, faults: Faults, hosts: usize, has_depot: bool, traced: bool) -> Arc<Self> {
        let begin = Instant::now();
        let chance = Chance { dice, steps: 0, lives: 0, trace: traced.then(Vec::new), broken: Vec::new() };
        Arc::new(Self {
            begin,
            calm: begin + faults.last,
            faults,
            hosts,
            database: MemoryDatabase::default(),
            disk: Mutex::default(),
            depot: Mutex::default(),
            has_depot,
            broker: Mutex::default(),
            abandoned: Mutex::default(),
            deliver: Notify::new(),
            chance: Mutex::new(chance),
        })
    }

    /// Milliseconds since the beginning.
    pub(crate) fn millis(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn now(&self) -> Timestamp {
        let millis = BEGIN * 1000 + i64::try_from(self.millis()).unwrap_or(0);
        Timestamp::from_millisecond(millis).expect("a time of this century")
    }

    /// Whether faults still happen.
    pub(crate) fn is_stormy(&self) -> bool {
        Instant::now() < self.calm
    }

    pub(crate) fn calm(&self) -> Instant {
        self.calm
    }

    pub(crate) fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.disk)
    }

    pub(crate) fn depot(&self) -> MutexGuard<'_, Depot> {
        lock(&self.depot)
    }

    pub(crate) fn broker(&self) -> MutexGuard<'_, Broker> {
        lock(&self.broker)
    }

    /// Notes that a delivery's handle was dropped without acknowledging or releasing it.
    pub(crate) fn abandon(&self, tag: u64) {
        lock(&self.abandoned).push(tag);
    }

    pub(crate) fn take_abandoned(&self) -> Vec<u64> {
        std::mem::take(&mut *lock(&self.abandoned))
    }

    pub(crate) fn dice<T>(&self, roll: impl FnOnce(&mut Dice) -> T) -> T {
        roll(&mut lock(&self.chance).dice)
    }

    pub(crate) fn fresh(&self) -> Uuid {
        let mut chance = lock(&self.chance);
        let (high, low) = (chance.dice.roll(), chance.dice.roll());
        uuid::Builder::from_random_bytes(((u128::from(high) << 64) | u128::from(low)).to_be_bytes())
            .into_uuid()
    }

    /// A number for a process, never used before.
    pub(crate) fn life(&self) -> u64 {
        let mut chance = lock(&self.chance);
        chance.lives += 1;
        chance.lives
    }

    /// The fate of the next effect.
    pub(crate) fn fate(&self, kind: Kind) -> Fate {
        let stormy = self.is_stormy();
        let mut chance = lock(&self.chance);
        chance.steps += 1;
        self.faults.fate(&mut chance.dice, kind, stormy)
    }

    pub(crate) fn lives(&self) -> u64 {
        lock(&self.chance).lives
    }

    pub(crate) fn steps(&self) -> u64 {
        lock(&self.chance).steps
    }

    /// A random time up to `longest`.
    pub(crate) fn up_to(&self, longest: u64) -> Duration {
        Duration::from_millis(self.dice(|d| d.below(longest + 1)))
    }

    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        let mut chance = lock(&self.chance);
        if let Some(trace) = &mut chance.trace {
            let at = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
            trace.push(format!("{at:>7} {}", line()));
        }
    }

    /// Notes a broken promise.
    pub(crate) fn broken(&self, invariant: &str, what: impl std::fmt::Display) {
        let text = format!("{invariant}: {what}");
        self.note(|| format!("BROKEN {text}"));
        lock(&self.chance).broken.push(text);
    }

    pub(crate) fn take_broken(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.chance).broken)
    }

    pub(crate) fn take_trace(&self) -> Vec<String> {
        lock(&self.chance).trace.take().unwrap_or_default()
    }
}
