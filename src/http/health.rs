//! Health of the daemon: whether its loops move, and whether it can work. Probes and the watchdog ask; the
//! loops report.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Shared by all loops of the daemon. Clones share one state.
#[derive(Clone)]
pub struct Health(Arc<Mutex<State>>);

struct State {
    next: u64,
    loops: BTreeMap<u64, LoopState>,
    /// What keeps the daemon from working. The key is the thing concerned (see `obstacle`), the value the
    /// reason.
    obstacles: BTreeMap<&'static str, String>,
}

struct LoopState {
    name: &'static str,
    limit: Duration,
    last: Instant,
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// The state of a daemon that is starting: alive, but not ready.
    #[must_use]
    pub fn new() -> Self {
        let obstacles = BTreeMap::from([("daemon", "is starting".to_owned())]);
        Self(Arc::new(Mutex::new(State { next: 0, loops: BTreeMap::new(), obstacles })))
    }

    /// Watches a loop that must beat at least once per `limit`, until its [`Heartbeat`] is dropped.
    #[must_use]
    pub fn watch(&self, name: &'static str, limit: Duration) -> Heartbeat {
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        state.loops.insert(id, LoopState { name, limit, last: Instant::now() });
        Heartbeat { id, health: self.clone() }
    }

    /// Notes that `what` (`daemon`, `broker`, `storage`, a role, …) keeps the daemon from working. Returns
    /// true if the reason is new, so that the caller logs a repeated reason only once.
    pub fn obstacle(&self, what: &'static str, why: impl Into<String>) -> bool {
        let why = why.into();
        let before = self.lock().obstacles.insert(what, why.clone());
        before.as_ref() != Some(&why)
    }

    /// Notes that `what` no longer keeps the daemon from working. Returns true if it did before.
    pub fn clear(&self, what: &'static str) -> bool {
        self.lock().obstacles.remove(what).is_some()
    }

    /// Checks that every loop has beaten in time.
    ///
    /// # Errors
    /// Lists the loops that have not, one per line.
    pub fn alive(&self) -> Result<(), String> {
        let now = Instant::now();
        let state = self.lock();
        let late = state.loops.values().filter_map(|l| {
            let silent = now.saturating_duration_since(l.last);
            (silent > l.limit).then(|| format!("{} has not moved for {} s", l.name, silent.as_secs()))
        });
        none_or_lines(late)
    }

    /// Checks that nothing keeps the daemon from working.
    ///
    /// # Errors
    /// Lists the reasons, one per line.
    pub fn ready(&self) -> Result<(), String> {
        none_or_lines(self.lock().obstacles.iter().map(|(what, why)| format!("{what}: {why}")))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn none_or_lines(reasons: impl Iterator<Item = String>) -> Result<(), String> {
    let lines: Vec<String> = reasons.collect();
    if lines.is_empty() { Ok(()) } else { Err(lines.join("\n")) }
}

/// What a watched loop holds. Dropping it means that the loop has ended in an orderly way.
pub struct Heartbeat {
    id: u64,
    health: Health,
}

impl Heartbeat {
    /// Reports that the loop is moving.
    pub fn beat(&self) {
        if let Some(watched) = self.health.lock().loops.get_mut(&self.id) {
            watched.last = Instant::now();
        }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.health.lock().loops.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stops_moving_is_named_until_it_ends() {
        let health = Health::new();
        let worker = health.watch("worker", Duration::ZERO);
        let steady = health.watch("coordinator", Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(health.alive(), Err("worker has not moved for 0 s".into()));
        steady.beat();
        drop(worker);
        assert_eq!(health.alive(), Ok(()));
    }

    #[test]
    fn ready_means_that_nothing_is_in_the_way() {
        let health = Health::new();
        assert_eq!(health.ready(), Err("daemon: is starting".into()));
        assert!(health.obstacle("broker", "is not connected"), "news");
        assert!(!health.obstacle("broker", "is not connected"), "no news");
        health.clear("daemon");
        assert_eq!(health.ready(), Err("broker: is not connected".into()));
        health.clear("broker");
        assert_eq!(health.ready(), Ok(()));
    }
}
