//! A broker that goes away, loses data, refuses or raises alarms. Each of these tests has a broker of its
//! own, so that other tests are not affected.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Borrowed, Daemon, Database, PATIENCE, Services, Site, Slow, eventually, fill, mid_job, never,
};

/// Longer than three heartbeats of the tests' daemons.
const AWAY: Duration = Duration::from_secs(14);

/// A table that takes a while, on servers that only this test uses.
fn slow(servers: &Borrowed) -> Slow {
    let db = Database::on(**servers);
    fill(&db, "big", 80_000);
    Slow::of(Site::on(**servers, db), servers.postgres).at(700_000)
}

/// The broker ends in the middle of a job, is away for a while and comes back with its data.
#[track_caller]
fn away(servers: &Borrowed, signal: &str) {
    let slow = slow(servers);
    let daemons = [slow.daemon(), slow.daemon()];
    let declared = Instant::now();
    let job = slow.request(&["big"]);
    daemons.iter().for_each(mid_job);
    if signal == "KILL" {
        // RabbitMQ 3.10 that is killed within seconds of the declaration of a quorum queue forgets the queue's
        // leader for ever. That is a fault of RabbitMQ, and not the one under test.
        std::thread::sleep(Duration::from_secs(5).saturating_sub(declared.elapsed()));
    }
    let before = daemons.each_ref().map(|d| d.log().len());
    // One daemon may be between two chunks, so the rows of both count.
    let exported = || daemons.iter().map(Daemon::rows_exported).sum::<u64>();
    let rows = exported();
    servers.halt("rabbitmq", signal);
    for daemon in &daemons {
        daemon.unready("broker: ");
        assert!(daemon.metric("adu_export_broker_connected") < 0.5);
    }
    never("a daemon gives up", AWAY, || {
        !daemons.iter().all(|d| d.get("/healthz").is_some_and(|h| h.0 == 200))
    });
    assert!(exported() > rows, "chunks that were begun are finished without a broker");
    servers.resume("rabbitmq");
    slow.site.broker.reconnect();
    for (daemon, before) in daemons.iter().zip(before) {
        daemon.ready_again();
        assert!(daemon.metric("adu_export_broker_connected") > 0.5);
        daemon.assert_no_loop(before);
    }
    slow.assert_whole(&[&job], daemons);
}

#[test]
fn a_broker_that_is_stopped_for_longer_than_three_heartbeats_costs_no_job() {
    away(&Services::borrow(), "TERM");
}

#[test]
fn a_broker_that_is_killed_costs_no_job() {
    away(&Services::borrow(), "KILL");
}

#[test]
fn a_broker_that_lost_all_its_data_gets_every_job_back_from_the_folder() {
    let servers = Services::borrow();
    let slow = slow(&servers);
    slow.site.db.execute("CREATE TABLE small AS SELECT 1 AS one");
    let mut config = slow.config();
    config["sources"]["warehouse"]["max_jobs"] = json!(1);
    let daemons = [slow.site.daemon_with(&config), {
        config["http"] = slow.config()["http"].clone();
        slow.site.daemon_with(&config)
    }];
    let first = slow.request(&["big"]);
    daemons.iter().for_each(mid_job);
    let waiting = [(); 2].map(|()| slow.request(&["small"]));
    let stored = |job: &String| slow.site.exports.path(&format!(".temp/job_{job}/request.json")).exists();
    eventually("all requests are stored", PATIENCE, || waiting.iter().all(stored).then_some(()));
    servers.halt("rabbitmq", "KILL");
    servers.wipe_broker();
    servers.resume("rabbitmq");
    slow.site.broker.reconnect();
    for job in &waiting {
        assert!(slow.plan(job, 1).is_none(), "{job} was not planned when the broker lost it");
    }
    slow.site.assert_runs(&first, "the broker was wiped while the job ran");
    daemons.iter().for_each(Daemon::ready_again);

    let archive = slow.completes(&first);
    assert_eq!(archive["epochs"], 1, "{archive}");
    for job in &waiting {
        slow.site.completed(job);
    }
    slow.site.assert_equal(&[
        ("SELECT * FROM big", "public_big"),
        ("SELECT * FROM small", "public_small"),
        ("SELECT * FROM small", "public_small_v2"),
    ]);
    slow.site.assert_sound(&[&first, &waiting[0], &waiting[1]], daemons);
}

#[test]
fn chunks_longer_than_the_broker_lets_anybody_hold_a_message_are_finished_once() {
    let servers = Services::borrow();
    // The broker checks each minute. Like every interval, the tests set it to a tenth.
    let set = |timeout: u32, tick: u32| {
        servers.rabbitmqctl(&[
            "eval",
            &format!(
                "application:set_env(rabbit, consumer_timeout, {timeout}), \
                 application:set_env(rabbit, channel_tick_interval, {tick})."
            ),
        ]);
    };
    set(6_000, 1_000);
    let db = Database::on(*servers);
    fill(&db, "big", 12_000);
    let slow = Slow::of(Site::on(*servers, db), servers.postgres);
    let mut config = slow.config();
    config["export"]["chunk_rows"] = json!(6000);
    let daemon = slow.site.daemon_with(&config);
    // Two chunks of 1.2 MB at the same time take about fourteen seconds.
    slow.proxy.slow_to(180_000);
    let job = slow.request(&["big"]);
    eventually("both chunks run", PATIENCE, || (daemon.chunks_in_flight() == 2).then_some(()));
    eventually("the broker takes a message back", Duration::from_secs(30), || {
        daemon.log().contains("consumer_timeout").then_some(())
    });
    slow.site.completed(&job);
    let archive = slow.site.exports.archive(&job);
    assert_eq!(archive["epochs"], 1, "{archive}");
    let (_, metrics) = daemon.get("/metrics").expect("metrics");
    let chunks = |outcome: &str| {
        metrics.contains(&format!("adu_export_chunks_total{{outcome=\"{outcome}\",source=\"warehouse\"}} 0"))
    };
    assert!(chunks("duplicate") && chunks("released"), "each chunk was read once:\n{metrics}");
    slow.proxy.mend();
    set(1_800_000, 60_000);
    slow.site.assert_equal(&[("SELECT * FROM big", "public_big")]);
    slow.site.assert_sound(&[&job], [daemon]);
}

/// The broker raises an alarm in the middle of a job and clears it later.
#[track_caller]
fn alarmed(alarm: &[&str], lift: &[&str]) {
    let servers = Services::borrow();
    let slow = slow(&servers);
    let daemons = [slow.daemon(), slow.daemon()];
    let job = slow.request(&["big"]);
    daemons.iter().for_each(mid_job);
    let before = daemons.each_ref().map(|d| d.log().len());
    // Slow enough, however long the command takes.
    slow.proxy.slow_to(100_000);
    servers.rabbitmqctl(alarm);
    for daemon in &daemons {
        let why = daemon.unready("alarm: ");
        assert!(why.contains("memory or disk"), "{why}");
        eventually("the metric says so", Duration::from_secs(20), || {
            (daemon.metric("adu_export_broker_blocked") > 0.5).then_some(())
        });
    }
    // Longer than the time limit of a call, so that calls do time out.
    never("a job ends that nobody can be told of", Duration::from_secs(8), || {
        slow.site.broker.events.all().iter().any(crate::support::Event::is_final)
    });
    slow.site.assert_runs(&job, "the alarm was raised while the job ran");
    servers.rabbitmqctl(lift);
    for (daemon, before) in daemons.iter().zip(before) {
        daemon.ready_again();
        assert!(daemon.metric("adu_export_broker_blocked") < 0.5);
        assert!(daemon.metric("adu_export_broker_connected") > 0.5);
        daemon.assert_no_loop(before);
    }
    slow.assert_whole(&[&job], daemons);
}

#[test]
fn a_memory_alarm_of_the_broker_is_waited_out() {
    alarmed(
        &["set_vm_memory_high_watermark", "0.0001"],
        &["set_vm_memory_high_watermark", "absolute", "1GB"],
    );
}

#[test]
fn a_disk_alarm_of_the_broker_is_waited_out() {
    alarmed(&["set_disk_free_limit", "100000GB"], &["set_disk_free_limit", "50MB"]);
}

/// A user of the broker that only the daemons use.
struct Account<'a> {
    servers: &'a Services,
    user: String,
}

impl<'a> Account<'a> {
    fn new(servers: &'a Services, site: &Site) -> Self {
        let this = Self { servers, user: site.broker.prefix.replace('.', "-") };
        servers.rabbitmqctl(&["add_user", &this.user, "secret"]);
        this.may(".*", ".*", ".*");
        this
    }

    fn url(&self) -> Value {
        json!(format!("amqp://{}:secret@127.0.0.1:{}/%2f", self.user, self.servers.amqp))
    }

    fn may(&self, configure: &str, write: &str, read: &str) {
        self.servers.rabbitmqctl(&["set_permissions", &self.user, configure, write, read]);
    }

    /// Closes the connections, because a channel checks a right only at its first use.
    fn reconnects(&self) {
        self.servers.close_connections(&["close_all_user_connections", &self.user, "rights have changed"]);
    }
}

#[test]
fn rights_that_are_revoked_are_named_and_waited_for() {
    let servers = Services::borrow();
    let slow = slow(&servers);
    let account = Account::new(&servers, &slow.site);
    let mut config = slow.config();
    config["broker"]["url"] = account.url();
    let daemon = slow.site.daemon_with(&config);
    let job = slow.request(&["big"]);
    mid_job(&daemon);
    let before = daemon.log().len();

    servers.rabbitmqctl(&["clear_permissions", &account.user]);
    account.reconnects();
    let why = daemon.unready("vhost");
    assert!(why.contains("grant the user access"), "{why}");
    // Some rights are granted again. The daemon names the missing one each time.
    for (rights, missing) in [((".*", "", ".*"), "set_permissions"), ((".*", ".*", ""), "set_permissions")] {
        account.may(rights.0, rights.1, rights.2);
        account.reconnects();
        let why = daemon.unready("ACCESS_REFUSED");
        assert!(why.contains(missing), "{why}");
    }
    never("it says that it is ready", Duration::from_secs(8), || {
        daemon.get("/readyz").is_some_and(|(status, _)| status == 200)
    });
    account.may(".*", ".*", ".*");
    daemon.ready_again();
    daemon.assert_no_loop(before);
    slow.assert_whole(&[&job], [daemon]);
    servers.rabbitmqctl(&["delete_user", &account.user]);
}
