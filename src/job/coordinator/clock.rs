//! The coordinator's own clock.

use std::time::Duration;

use tokio::time::Instant;

use super::TICK;

/// The time during which this process ran. Pauses of the process are not counted.
pub(super) struct OwnClock {
    up: Duration,
    last: Instant,
}

impl OwnClock {
    pub(super) fn new() -> Self {
        Self { up: Duration::ZERO, last: Instant::now() }
    }

    pub(super) fn now(&mut self) -> Duration {
        let now = Instant::now();
        self.up += now.duration_since(self.last).min(TICK * 4);
        self.last = now;
        self.up
    }
}
