//! Keeps a process connected, whatever breaks, and winds it down in an orderly way. This code works with any
//! bus, so the simulation runs it too.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::roles::{LAST_WORDS, Roles, WORK};
use super::{ALARM, BROKER, DAEMON};
use crate::bus::{Bus, Outgoing, Session};
use crate::message::InboxMessage;
use crate::retry::{Pace, Pauses};

/// After a session that lasted this long, failures in a row are counted from zero again.
const STEADY: Duration = Duration::from_secs(60);

/// Connects, plays all roles, and starts anew when anything breaks.
pub async fn run(roles: &Roles, bus: &dyn Bus, end: &CancellationToken) {
    let timing = roles.context.config.timing.clone();
    let endless = || Pauses::endless(&timing, Arc::clone(&roles.context.machine));
    let mut pauses = endless();
    let metrics = Arc::clone(&roles.context.metrics);
    // The reasons since the last steady session: each is logged once.
    let mut told: BTreeSet<String> = BTreeSet::new();
    roles.health.obstacle(BROKER, "is not connected yet");
    roles.health.obstacle(WORK, "takes none yet");
    roles.health.clear(DAEMON);
    while !end.is_cancelled() {
        let Some(connected) = end.run_until_cancelled(bus.connect()).await else { return };
        let session = match connected {
            Ok(session) => session,
            Err(e) => {
                metrics.broker_connected.set(0);
                metrics.broker_blocked.set(0);
                roles.health.clear(ALARM);
                let why = e.to_string();
                roles.health.obstacle(BROKER, &why);
                if told.insert(why) {
                    error!(error = %e, "cannot connect to the broker; tries again");
                }
                let pause =
                    pauses.next(Pace::Soon).unwrap_or(timing.retry_longest.0).min(timing.retry_longest.0);
                if wait(end, pause).await {
                    return;
                }
                continue;
            }
        };
        metrics.broker_connected.set(1);
        let connected = Instant::now();
        let played = roles.play(&session).await;
        match played {
            Ok(()) => {
                // We are stopping: running work publishes its wake-ups on this session.
                drained(roles, &session, end).await;
                return;
            }
            Err(e) => {
                metrics.broker_connected.set(0);
                // The cause of the session says more than that the session is over.
                let why = session.cause().map_or_else(|| e.to_string(), |cause| cause.to_string());
                roles.health.obstacle(BROKER, format!("the connection broke: {why}"));
                roles.health.obstacle(WORK, "takes none without a broker");
                if told.insert(why.clone()) {
                    warn!(error = why, "the session with the broker broke; starts a new one");
                }
            }
        }
        let _ = tokio::time::timeout(LAST_WORDS, session.close()).await;
        if connected.elapsed() > STEADY {
            pauses = endless();
            told.clear();
        }
        let pause = pauses.next(Pace::Soon).unwrap_or(timing.retry_longest.0);
        if wait(end, pause).await {
            return;
        }
    }
}

/// Waits for the pause. Returns true if the end came first.
async fn wait(end: &CancellationToken, pause: Duration) -> bool {
    tokio::select! {
        biased;
        () = end.cancelled() => true,
        () = tokio::time::sleep(pause) => false,
    }
}

/// Stops: takes no more work, finishes or releases running work, waits until other daemons keep our
/// snapshots, then fires `end`.
pub async fn wind_down(roles: &Roles, hurry: &CancellationToken, end: &CancellationToken) {
    // The process ends even if something breaks here.
    let _end = end.clone().drop_guard();
    roles.stop.cancel();
    roles.health.obstacle(DAEMON, "is stopping");
    let until = Instant::now() + roles.context.config.export.shutdown_grace.0;
    roles.worker.drain(until, hurry).await;
    roles.worker.shared().keepers.hand_over(until, hurry).await;
}

/// Publishes what this process holds until nothing is left, then says that it leaves.
async fn drained(roles: &Roles, session: &Arc<dyn Session>, end: &CancellationToken) {
    let mut tick = tokio::time::interval(roles.context.config.timing.alive_interval.0);
    loop {
        tokio::select! {
            biased;
            () = end.cancelled() => break,
            _ = tick.tick() => {
                let mut alive = roles.worker.alive(false);
                alive.slots = 0;
                if session.publish(Outgoing::Inbox(InboxMessage::Alive(alive))).await.is_err() {
                    break;
                }
                let mut presence = roles.present(false);
                presence.alive.slots = 0;
                let _ = roles.introduce(session, presence).await;
            }
        }
    }
    end.cancelled().await;
    let leaving = roles.worker.alive(true);
    let goodbye = async {
        let _ = session.publish(Outgoing::Inbox(InboxMessage::Alive(leaving))).await;
        roles.introduce(session, roles.present(true)).await
    };
    let _ = tokio::time::timeout(LAST_WORDS, goodbye).await;
    let _ = tokio::time::timeout(LAST_WORDS, session.close()).await;
}
