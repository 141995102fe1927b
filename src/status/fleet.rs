//! The daemons of the fleet, as each of them described itself last.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use super::rates::RateLog;
use crate::message::Presence;
use crate::message::presence::Rates;

/// Daemons that left are remembered for this long: their last hour is part of the fleet's.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// Daemons that fell silent are shown for this long.
const MISSED: Duration = Duration::from_secs(24 * 3600);
/// Daemons that are remembered at most. Each restart of a daemon is a new one.
const MOST: usize = 1000;

/// Who is there. Clones share nothing: a process has one.
#[derive(Debug, Default)]
pub struct Fleet {
    members: Mutex<BTreeMap<Uuid, Member>>,
    own: Mutex<RateLog>,
}

/// A daemon, and when it was last heard.
#[derive(Clone, Debug)]
pub struct Member {
    /// What it said.
    pub presence: Presence,
    heard: Instant,
}

impl Member {
    /// A daemon that speaks now.
    #[must_use]
    pub fn now(presence: Presence) -> Self {
        Self { presence, heard: Instant::now() }
    }

    fn is_remembered(&self) -> bool {
        self.silent() < if self.presence.alive.leaving { REMEMBERED } else { MISSED }
    }

    /// How long it has been silent.
    #[must_use]
    pub fn silent(&self) -> Duration {
        self.heard.elapsed()
    }
}

impl Fleet {
    /// Notes what a daemon says of itself. One that leaves holds nothing more, but what it read is remembered.
    pub fn heard(&self, mut presence: Presence) {
        let mut members = lock(&self.members);
        if presence.alive.leaving {
            presence.doing.clear();
            presence.alive.holding.clear();
            presence.alive.lineages.clear();
            presence.coordinates = false;
        }
        members.insert(presence.alive.instance, Member::now(presence));
        members.retain(|_, member| member.is_remembered());
        while members.len() > MOST {
            let quietest = members.iter().max_by_key(|(_, m)| m.silent()).map(|(id, _)| *id);
            quietest.map(|id| members.remove(&id));
        }
    }

    /// Notes how much this process has read since its start, and returns its rates.
    pub fn read(&self, now: Timestamp, so_far: (u64, u64)) -> Rates {
        let mut own = lock(&self.own);
        own.note(now, so_far);
        own.rates()
    }

    /// All daemons, also those that left in the last hour, or fell silent in the last day.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let mut members: Vec<Member> =
            lock(&self.members).values().filter(|m| m.is_remembered()).cloned().collect();
        members.sort_by(|a, b| {
            let key =
                |m: &Member| (m.presence.host.clone(), m.presence.started_at, m.presence.alive.instance);
            key(a).cmp(&key(b))
        });
        members
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
