//! Tells systemd when the daemon is ready (connected and consuming), its status line, and the watchdog
//! signal. The watchdog is fed only while the coordinator's and worker's loops beat.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use crate::http::Health;

fn tell(states: &[NotifyState<'_>]) {
    // Without systemd nobody listens: ignore the error.
    let _ = sd_notify::notify(states);
}

/// A reload begins.
pub fn reloading() {
    if let Ok(time) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, time]);
    }
}

/// A reload has ended.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The daemon stops.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells systemd the state of this process until the end.
pub async fn notify(health: Health, end: CancellationToken) {
    let watchdog = sd_notify::watchdog_enabled();
    let limit = watchdog.unwrap_or(Duration::from_secs(60));
    let mut said_ready = false;
    let mut last = String::new();
    let mut tick = tokio::time::interval((limit / 4).min(Duration::from_secs(1)));
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = tick.tick() => {}
        }
        let ready = health.ready();
        let status = ready.clone().err().map_or_else(|| "consuming".into(), |why| why.replace('\n', "; "));
        if !said_ready && ready.is_ok() {
            said_ready = true;
            tell(&[NotifyState::Ready]);
        }
        if status != last {
            tell(&[NotifyState::Status(&status)]);
            last = status;
        }
        if watchdog.is_some() && health.alive().is_ok() {
            tell(&[NotifyState::Watchdog]);
        }
    }
}
