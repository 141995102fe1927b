//! Faults that hit daemons and servers in the middle of their work.

use std::time::{Duration, Instant};

use crate::support::{Borrowed, Daemon, Dice, EXPORTER, Site};

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mischief {
    /// kill -9 of any daemon.
    KillAny,
    /// kill -9 of the coordinator.
    KillCoordinator,
    /// kill -9 of the daemon that took a snapshot.
    KillPlanner,
    /// SIGSTOP for longer than the heartbeat.
    Freeze,
    /// SIGSTOP of the coordinator for longer than the heartbeat.
    FreezeCoordinator,
    /// The broker closes all connections.
    CloseConnections,
    /// A normal stop of the broker, and a new start.
    RestartBroker,
    /// kill -9 of the broker, and a new start.
    KillBroker,
    /// Some sessions of the daemons are terminated, keepers among them.
    TerminateBackends,
}

use Mischief::*;

impl Mischief {
    /// The faults of a round, in random order. The broker goes away only once, because that takes a while.
    pub(crate) fn of_a_round(dice: &mut Dice) -> Vec<Self> {
        let broker = [RestartBroker, KillBroker, CloseConnections][dice.below(3)];
        let mut list = vec![KillCoordinator, KillPlanner, broker, CloseConnections, TerminateBackends];
        list.push([Freeze, FreezeCoordinator][dice.below(2)]);
        list.push([KillAny, Freeze, TerminateBackends, KillCoordinator][dice.below(4)]);
        dice.shuffle(&mut list);
        list
    }
}

/// A daemon that is started again after a kill, and continued after a stop.
pub(crate) struct Service {
    config: serde_json::Value,
    pub(crate) daemon: Daemon,
    again: Option<Instant>,
    thaw: Option<Instant>,
}

impl Service {
    pub(crate) fn start(site: &Site, config: serde_json::Value) -> Self {
        Self { daemon: site.spawn(&config), config, again: None, thaw: None }
    }

    fn is_up(&self) -> bool {
        self.again.is_none() && self.thaw.is_none()
    }

    fn coordinates(&self) -> bool {
        let said = self.daemon.get("/metrics").map(|(_, text)| text).unwrap_or_default();
        said.lines().any(|line| line == "adu_export_coordinator_active 1")
    }

    fn planned(&self) -> bool {
        self.daemon.log().contains("the plan is written")
    }

    fn kill(&mut self, back: Duration) {
        self.daemon.kill();
        self.again = Some(Instant::now() + back);
    }

    fn freeze(&mut self, back: Duration) {
        self.daemon.freeze();
        self.thaw = Some(Instant::now() + back);
    }

    /// Starts or continues the daemon when it is time. Fails if the daemon has ended by itself.
    #[track_caller]
    pub(crate) fn tend(&mut self, site: &Site) {
        let due = |at: Option<Instant>| at.is_some_and(|at| Instant::now() >= at);
        if due(self.thaw) {
            self.daemon.thaw();
            self.thaw = None;
        }
        if due(self.again) {
            self.daemon = site.spawn(&self.config);
            self.again = None;
        }
        let lives = self.again.is_some() || self.daemon.lives();
        assert!(lives, "{} ended by itself:\n{}", self.daemon.name, self.daemon.log());
    }

    /// The daemon, running and ready.
    #[track_caller]
    pub(crate) fn settled(mut self, site: &Site) -> Daemon {
        self.daemon.thaw();
        if self.again.is_some() {
            self.daemon = site.spawn(&self.config);
        }
        self.daemon.ready()
    }
}

/// Causes one fault. Returns what it hit.
pub(crate) fn commit(
    blow: Mischief,
    dice: &mut Dice,
    site: &Site,
    servers: &Borrowed,
    services: &mut [Service],
) -> String {
    let up: Vec<usize> = (0..services.len()).filter(|i| services[*i].is_up()).collect();
    if up.is_empty() {
        return "nobody is up".into();
    }
    let any = up[dice.below(up.len())];
    let such = |is: fn(&Service) -> bool| up.iter().copied().find(|i| is(&services[*i])).unwrap_or(any);
    let away = dice.millis(200, 2500);
    let frozen = dice.millis(5000, 9000);
    let victim = match blow {
        KillCoordinator | FreezeCoordinator => such(Service::coordinates),
        KillPlanner => such(Service::planned),
        _ => any,
    };
    match blow {
        KillAny | KillCoordinator | KillPlanner => services[victim].kill(away),
        Freeze | FreezeCoordinator => services[victim].freeze(frozen),
        CloseConnections => {
            servers.close_connections(&["close_all_connections", "chaos"]);
            site.broker.reconnect();
            return "all connections".into();
        }
        RestartBroker | KillBroker => {
            servers.halt("rabbitmq", if blow == KillBroker { "KILL" } else { "TERM" });
            servers.resume("rabbitmq");
            site.broker.reconnect();
            return "the broker".into();
        }
        TerminateBackends => {
            // Seldom all sessions, because that would end every snapshot.
            let share = [30, 50, 50, 100][dice.below(4)];
            let ended = site.db.number(&format!(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                 WHERE datname = current_database() AND usename = '{EXPORTER}' AND random() * 100 < {share}"
            ));
            return format!("{ended} sessions");
        }
    }
    format!("daemon {victim}")
}
