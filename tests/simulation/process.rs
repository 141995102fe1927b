//! One simulated process: a set of tasks. All of its effects pass through here, so that each can be delayed,
//! can fail, or can be the last one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::faults::{Fate, Kind, When};
use crate::world::World;

/// How long after the death of its process a change may still land, in milliseconds.
const LATEST: u64 = 6_000;

/// The storage, broker or source reported an error. Whether the effect happened is unknown.
pub(crate) struct Refused;

pub(crate) struct Process {
    pub(crate) world: Arc<World>,
    /// The process's host. The host's caches survive the process.
    pub(crate) host: usize,
    /// Unique per process start.
    pub(crate) life: u64,
    /// Fires when the process dies.
    pub(crate) dead: CancellationToken,
    stopped_until: Mutex<Instant>,
}

impl Process {
    pub(crate) fn new(world: &Arc<World>, host: usize) -> Arc<Self> {
        Arc::new(Self {
            world: Arc::clone(world),
            host,
            life: world.life(),
            dead: CancellationToken::new(),
            stopped_until: Mutex::new(Instant::now()),
        })
    }

    /// Kills the process: it has no further effect. Its connections break, its temporary files stay.
    pub(crate) fn die(&self) {
        if self.dead.is_cancelled() {
            return;
        }
        self.world.note(|| format!("h{} DIES", self.host));
        self.dead.cancel();
        self.world.database.kill_keepers(Some(self.life));
        let sessions = self.world.broker().sessions_of(self.life);
        for session in sessions {
            self.world.broker().sever(session, Instant::now());
        }
        self.world.deliver.notify_one();
    }

    /// Stops the process for a while, like SIGSTOP. The broker may end its sessions.
    fn stop(&self, millis: u64) {
        let until = Instant::now() + Duration::from_millis(millis);
        self.world.note(|| format!("h{} STOPPED for {millis} ms", self.host));
        *self.stopped_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        if self.world.dice(|d| d.one_in(2)) {
            let sessions = self.world.broker().sessions_of(self.life);
            let noticed = until + self.world.up_to(500);
            for session in sessions {
                self.world.broker().sever(session, noticed);
            }
            self.world.deliver.notify_one();
        }
    }

    /// Returns when this process runs. Never returns if it is dead.
    pub(crate) async fn runs(&self) {
        loop {
            if self.dead.is_cancelled() {
                std::future::pending::<()>().await;
            }
            let until = *self.stopped_until.lock().unwrap_or_else(PoisonError::into_inner);
            if Instant::now() >= until {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    async fn pass(&self, millis: u64) {
        if millis > 0 {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
        self.runs().await;
    }

    /// Performs a change of folder or depot, as [`act`](Self::act) does. The change may also land after its
    /// process died, because it was sent already.
    pub(crate) async fn send<T: Send + 'static>(
        &self,
        what: &str,
        on: &str,
        perform: impl FnOnce(Fate) -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let (world, host, line) = (Arc::clone(&self.world), self.host, format!("{what} {on}"));
        let (mut sent, mut done) = (Some(perform), None);
        let acted = self.act(Kind::Change, what, on, |fate| {
            let Some(perform) = sent.take() else { return };
            if !fate.is_late() {
                done = Some(perform(fate));
                return;
            }
            let later = world.up_to(LATEST);
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                tokio::time::sleep(later).await;
                world.note(|| format!("h{host} {line}: lands after its process died"));
                drop(perform(fate.landing()));
            });
        });
        acted.await?;
        done.ok_or(Refused)
    }

    /// Performs one effect: after a while, as a whole or not at all. If the process dies at a change of the
    /// folder, half of the change may happen: `perform` sees that by [`Fate::is_half`].
    pub(crate) async fn act<T: Send>(
        &self,
        kind: Kind,
        what: &str,
        on: &str,
        perform: impl FnOnce(Fate) -> T + Send,
    ) -> Result<T, Refused> {
        let fate = self.world.fate(kind);
        self.pass(fate.delay).await;
        if fate.stopped > 0 {
            self.stop(fate.stopped);
            self.runs().await;
        }
        if fate.dies == When::Before {
            self.world.note(|| format!("h{} dies before {what} {on}", self.host));
            if kind == Kind::Change && (fate.delay & 1 == 1 || fate.is_late()) {
                let _ = perform(fate);
            }
            self.die();
            return std::future::pending().await;
        }
        if fate.fails == When::Before {
            self.world.note(|| format!("h{} {what} {on}: refused", self.host));
            return Err(Refused);
        }
        let done = perform(fate);
        self.world.note(|| format!("h{} {what} {on}", self.host));
        if fate.dies == When::After {
            self.die();
        }
        // Other processes may act before this one learns of its success.
        self.pass(if fate.delay & 3 == 1 { fate.delay } else { 0 }).await;
        if fate.fails == When::After {
            self.world.note(|| format!("h{} {what} {on}: done, and reported as refused", self.host));
            return Err(Refused);
        }
        Ok(done)
    }
}
