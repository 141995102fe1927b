//! An export folder that is full, fails, reports false results, is read-only, or is another folder than
//! before.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::mounts::Mount;
use crate::support::{
    Daemon, Database, Event, PATIENCE, Services, Site, Slow, eventually, fill, mid_job, never,
};
use crate::tampering::{Injection, Liar};

fn database() -> Database {
    let db = Database::empty();
    fill(&db, "big", 40_000);
    db
}

/// The daemon has neither given up a chunk nor read one twice.
#[track_caller]
fn assert_attempts_kept(daemon: &Daemon) {
    let (_, metrics) = daemon.get("/metrics").expect("metrics");
    for outcome in ["released", "failed", "duplicate", "replanned"] {
        let line = format!("adu_export_chunks_total{{outcome=\"{outcome}\",source=\"warehouse\"}} 0\n");
        assert!(metrics.contains(&line), "no chunk was {outcome}:\n{metrics}");
    }
}

#[test]
fn a_full_disk_is_waited_out_and_said_so() {
    let mut disk = None;
    let site = Site::prepared(Services::get(), database(), |root| disk = Some(Mount::tmpfs(root, 24)));
    let slow = Slow::of(site, Services::get().postgres);
    let disk = disk.expect("mounted");
    let mut config = slow.config();
    config["timing"]["stalled_after"] = json!("5s");
    let daemon = slow.site.daemon_with(&config);
    let job = slow.request(&["big"]);
    mid_job(&daemon);
    let before = daemon.log().len();
    let ballast = slow.site.exports.path(".temp/ballast");
    let mut file = std::fs::File::create(&ballast).expect("a file");
    eventually("workers wait for space", PATIENCE, || {
        while file.write_all(&[0; 4096]).is_ok() {}
        (daemon.metric("adu_export_worker_paused") > 1.5).then_some(())
    });
    // A new request gets no answer before it can be stored.
    let later = slow.request(&["big"]);
    daemon.unready("storage: ");
    daemon.unready("intake: ");
    let stalled = slow.site.broker.events.wait(&job, "job.stalled", PATIENCE);
    assert!(stalled.error().contains("full"), "{}", stalled.error());
    never("a job ends because a disk is full", Duration::from_secs(6), || {
        slow.site.broker.events.all().iter().any(Event::is_final)
    });
    assert!(daemon.metric("adu_export_worker_paused") > 1.5, "they still wait");
    assert!(
        daemon.metric("adu_export_root_free_bytes") < 200e3,
        "{}",
        daemon.metric("adu_export_root_free_bytes")
    );
    assert!(slow.site.broker.events.of(&later, "job.accepted").is_empty());
    daemon.assert_no_loop(before);

    drop(file);
    std::fs::remove_file(&ballast).expect("make room");
    daemon.ready_again();
    assert!(daemon.metric("adu_export_worker_paused") < 0.5);
    slow.proxy.mend();
    slow.site.completed(&job);
    slow.site.completed(&later);
    assert_attempts_kept(&daemon);
    slow.assert_whole(&[&job, &later], [daemon]);
    drop(disk);
}

#[test]
fn a_storage_that_cannot_make_anything_durable_holds_everything_up_and_spoils_nothing() {
    let slow = Slow::new(database());
    let daemon = slow.daemon();
    let job = slow.request(&["big"]);
    mid_job(&daemon);
    let before = daemon.log().len();
    let broken = Injection::into(&daemon, &slow.site, "fsync:error=EIO");
    let why = daemon.unready("work: ");
    assert!(why.contains("Input/output error"), "{why}");
    let rows = daemon.rows_exported();
    let later = slow.request(&["big"]);
    daemon.unready("intake: ");
    never("anything is said to be durable", Duration::from_secs(8), || {
        let said = |e: &Event| e.is_final() || e.job() == later;
        slow.site.broker.events.all().iter().any(said) || daemon.rows_exported() > rows
    });
    daemon.assert_no_loop(before);
    assert!(broken.end() > 3, "fsync was called and failed");
    daemon.ready_again();

    let now_and_then = Injection::into(&daemon, &slow.site, "fsync:error=EIO:when=4+6");
    slow.proxy.mend();
    slow.site.completed(&job);
    slow.site.completed(&later);
    assert!(now_and_then.end() > 3, "fsync failed now and then");
    // `.latest` is updated without delaying the end of a job. If its fsync failed, a later scan repairs it.
    let newest = slow.site.exports.archive(&later)["tables"][0]["directory"].as_str().map(str::to_owned);
    eventually(".latest leads to the newest export", PATIENCE, || {
        (slow.site.exports.latest("public_big") == newest).then_some(())
    });
    slow.assert_whole(&[&job, &later], [daemon]);
}

#[test]
fn an_end_that_cannot_be_written_says_why_nothing_moves() {
    let slow = Slow::new(database());
    slow.proxy.free();
    let by_date = slow.site.exports.path(".archive/jobs");
    std::fs::remove_dir(&by_date).expect("no archive yet");
    std::fs::write(&by_date, "in the way").expect("written");
    let mut config = slow.config();
    config["timing"]["stalled_after"] = json!("5s");
    let daemon = slow.site.daemon_with(&config);
    let job = slow.request(&["big"]);
    let stalled = slow.site.broker.events.wait(&job, "job.stalled", PATIENCE);
    assert!(stalled.error().contains("Not a directory"), "{}", stalled.error());
    std::fs::remove_file(&by_date).expect("removed");
    std::fs::create_dir(&by_date).expect("made");
    slow.site.completed(&job);
    slow.assert_whole(&[&job], [daemon]);
}

#[test]
fn links_and_renames_that_succeed_and_report_an_error_are_seen_through() {
    let slow = Slow::new(database());
    slow.proxy.free();
    slow.site.db.execute(
        "CREATE TABLE small AS SELECT g AS n FROM generate_series(1, 100) g; CREATE TABLE empty (id int)",
    );
    let liar = Liar::compile(&slow.site);
    let daemons = [(); 2].map(|()| slow.site.spawn_in(&slow.config(), &liar.environment()).ready());
    let tables = json!({"tables": ["public.big", "public.small", "public.empty"]});
    let jobs = [(); 4].map(|()| slow.site.request(tables.clone()));
    let mut pairs = Vec::new();
    for job in &jobs {
        slow.site.completed(job);
        let archive = slow.site.exports.archive(job);
        for table in archive["tables"].as_array().expect("tables") {
            let name = table["table_name"].as_str().expect("a name");
            let directory = table["directory"].as_str().expect("a directory");
            pairs.push((format!("SELECT * FROM {name}"), directory.to_owned()));
        }
    }
    slow.site.assert_all_equal(&pairs);
    let lies = liar.lies();
    for place in ["request.json", "/plans/", "/parts/", "/records/", "/ready/", "/tables/", "/by-id/"] {
        let lied = |lie: &&String| lie.starts_with("link ") && lie.contains(place);
        assert!(lies.iter().any(|lie| lied(&lie)), "no link to {place} was denied: {lies:#?}");
    }
    for place in ["exports/public_", ".temp/trash/", ".latest/"] {
        let lied = |lie: &&String| lie.starts_with("rename ") && lie.contains(place);
        assert!(lies.iter().any(|lie| lied(&lie)), "no rename to {place} was denied: {lies:#?}");
    }
    slow.site.assert_sound(&jobs, daemons);
}

/// How a daemon loses its root.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    ReadOnly,
    /// The mount is gone, and the daemon sees the empty directory below it.
    Unmounted,
    /// Another export folder is at the same path.
    Other,
}

impl Loss {
    /// The word with which the daemon reports the loss.
    fn word(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::Unmounted => "has lost its .adu-root",
            Self::Other => "another file system is mounted",
        }
    }
}

/// The root of one daemon: a mount of the folder that only this daemon uses, so that it can be lost alone.
struct Root {
    folder: PathBuf,
    at: PathBuf,
    other: PathBuf,
    mount: Option<Mount>,
    over: Option<Mount>,
}

impl Root {
    fn new(site: &Site, name: &str) -> Self {
        let (folder, at, other) =
            (site.exports.path(""), site.path(name), site.path(&format!("{name}-other")));
        let mount = Some(Mount::bind(&folder, &at));
        Self { folder, at, other, mount, over: None }
    }

    /// Another folder, initialized as an operator would do it.
    fn prepare_other(&self, site: &Site) {
        std::fs::create_dir(&self.other).expect("a directory");
        let mut config = site.config();
        config["export"]["root"] = json!(self.other);
        let config = site.write("other.toml", &config);
        assert!(site.run(&["check", "--init", "--config", &config]).status.success());
    }

    #[track_caller]
    fn lose(&mut self, how: Loss) {
        match how {
            Loss::ReadOnly => self.mount.as_ref().expect("mounted").make_read_only(),
            Loss::Unmounted => self.mount = None,
            Loss::Other => self.over = Some(Mount::bind(&self.other, &self.at)),
        }
    }

    #[track_caller]
    fn give_back(&mut self, how: Loss) {
        match how {
            Loss::ReadOnly => self.mount.as_ref().expect("mounted").make_writable(),
            Loss::Unmounted => {
                let left: Vec<_> = std::fs::read_dir(&self.at).expect("a directory").collect();
                assert!(left.is_empty(), "nothing was written where no folder is: {left:?}");
                self.mount = Some(Mount::bind(&self.folder, &self.at));
            }
            Loss::Other => {
                self.over = None;
                let files = files_below(&self.other);
                assert_eq!(files, [self.other.join(".adu-root")], "nothing was written in another folder");
            }
        }
    }

    /// The configuration of a daemon with one worker, so that no file is open between its chunks.
    fn config(&self, slow: &Slow) -> Value {
        let mut config = slow.config();
        config["export"]["root"] = json!(self.at);
        config["export"]["workers"] = json!(1);
        config
    }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        match entry.path() {
            path if path.is_dir() => files.extend(files_below(&path)),
            path => files.push(path),
        }
    }
    files
}

/// One of two daemons is coordinator and loses its root in the middle of a job. The other one finishes the
/// job.
#[track_caller]
fn elsewhere(how: Loss) {
    let slow = Slow::new(database());
    let mut root = Root::new(&slow.site, "one");
    root.prepare_other(&slow.site);
    let stays = Root::new(&slow.site, "two");
    let loser = slow.site.daemon_with(&root.config(&slow));
    eventually("the first one coordinates", PATIENCE, || {
        (loser.metric("adu_export_coordinator_active") > 0.5).then_some(())
    });
    let other = slow.site.daemon_with(&stays.config(&slow));
    slow.proxy.slow_to(500_000);
    let job = slow.request(&["big"]);
    [&loser, &other].into_iter().for_each(mid_job);
    let before = loser.log().len();
    root.lose(how);
    loser.unready(how.word());
    eventually("it coordinates no more, somebody else does", PATIENCE, || {
        let [own, theirs] = [&loser, &other].map(|d| d.metric("adu_export_coordinator_active") > 0.5);
        (!own && theirs).then_some(())
    });
    eventually("it holds no chunk", PATIENCE, || (loser.chunks_in_flight() == 0).then_some(()));
    let rows = loser.rows_exported();
    slow.site.assert_runs(&job, "the root was lost while the job ran");
    slow.proxy.mend();
    slow.site.completed(&job);
    // A whole job, from request to end, while the root is away.
    let during = slow.site.export(json!({"tables": ["public.big"]}));
    assert_eq!(loser.rows_exported(), rows, "it did nothing meanwhile");
    assert_ne!(loser.get("/readyz").map(|r| r.0), Some(200), "it never says that it works");
    loser.assert_no_loop(before);
    root.give_back(how);
    loser.ready_again();
    slow.proxy.slow_to(1_000_000);
    let after = slow.request(&["big"]);
    eventually("it works again", PATIENCE, || (loser.rows_exported() > rows).then_some(()));
    slow.assert_whole(&[&job, during.job(), &after], [loser, other]);
}

#[test]
fn a_coordinator_whose_root_becomes_read_only_leaves_its_work_to_others() {
    elsewhere(Loss::ReadOnly);
}

#[test]
fn a_coordinator_whose_root_is_unmounted_leaves_its_work_to_others() {
    elsewhere(Loss::Unmounted);
}

#[test]
fn a_coordinator_whose_root_is_another_one_leaves_its_work_to_others() {
    elsewhere(Loss::Other);
}

/// The only daemon loses its root in the middle of a job. The job continues when the root is back.
#[track_caller]
fn waited_for(how: Loss) {
    let slow = Slow::new(database());
    let mut root = Root::new(&slow.site, "one");
    root.prepare_other(&slow.site);
    let daemon = slow.site.daemon_with(&root.config(&slow));
    slow.proxy.slow_to(500_000);
    let job = slow.request(&["big"]);
    mid_job(&daemon);
    let before = daemon.log().len();
    root.lose(how);
    daemon.unready(how.word());
    let later = slow.request(&["big"]);
    never("it works without its root", Duration::from_secs(8), || {
        let said = |e: &Event| e.is_final() || e.job() == later;
        let ready = daemon.get("/readyz").is_some_and(|(status, _)| status == 200);
        ready || slow.site.broker.events.all().iter().any(said)
    });
    assert_eq!(daemon.metric("adu_export_broker_connected"), 1.0, "the broker has nothing to do with it");
    daemon.assert_no_loop(before);
    root.give_back(how);
    daemon.ready_again();
    slow.assert_whole(&[&job, &later], [daemon]);
}

#[test]
fn a_root_that_becomes_read_only_is_waited_for() {
    waited_for(Loss::ReadOnly);
}

#[test]
fn a_root_that_is_unmounted_is_waited_for() {
    waited_for(Loss::Unmounted);
}

#[test]
fn a_root_that_is_another_one_is_waited_for() {
    waited_for(Loss::Other);
}
