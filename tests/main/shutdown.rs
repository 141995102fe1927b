//! Daemons stop in order, and other daemons continue their jobs.

use std::time::{Duration, Instant};

use crate::support::{Daemon, Database, Site, Slow, eventually, mid_job};

/// Two daemons in the middle of chunks of one job. Each chunk has a megabyte.
fn mid_chunk() -> (Slow, [Daemon; 2], String) {
    let slow = Slow::big(100_000).chunks_of(5000).at(4_000_000);
    let daemons = [slow.daemon(), slow.daemon()];
    let job = slow.request(&["big"]);
    daemons.iter().for_each(mid_job);
    (slow, daemons, job)
}

/// Keeps a copy of the current rows, which the job must export.
fn keep_rows(slow: &Slow) {
    slow.site.db.execute("CREATE TABLE before AS SELECT * FROM big");
}

#[track_caller]
fn assert_completes(slow: &Slow, job: &str, rest: Daemon) {
    slow.completes(job);
    slow.site.assert_equal(&[("SELECT * FROM before", "public_big")]);
    slow.site.assert_sound(&[job], [rest]);
}

#[test]
fn a_daemon_told_to_stop_finishes_its_chunks_and_ends_with_0() {
    let (slow, [mut leaving, staying], job) = mid_chunk();
    slow.proxy.slow_to(1_000_000);
    keep_rows(&slow);
    leaving.terminate();
    let status = leaving.ended(Duration::from_secs(14));
    assert_eq!(status.code(), Some(0), "{}", leaving.log());
    slow.site.assert_runs(&job, "it left while the job ran");
    slow.proxy.slow_to(200_000);
    slow.site.db.execute("UPDATE big SET v = 'too late'");
    assert_completes(&slow, &job, staying);
}

#[test]
fn a_chunk_that_outlasts_the_grace_is_released_and_done_elsewhere() {
    let (slow, [mut leaving, staying], job) = mid_chunk();
    // At this rate, shared by four chunks, a chunk of a megabyte takes minutes.
    slow.proxy.slow_to(8_000);
    keep_rows(&slow);
    let began = Instant::now();
    leaving.terminate();
    let status = leaving.ended(Duration::from_secs(40));
    assert!(began.elapsed() > Duration::from_secs(10), "it used its grace of 12 s");
    assert_eq!(status.code(), Some(0), "{}", leaving.log());
    assert_completes(&slow, &job, staying);
}

#[test]
fn a_second_signal_ends_a_daemon_at_once() {
    let (slow, [mut leaving, staying], job) = mid_chunk();
    slow.proxy.slow_to(8_000);
    keep_rows(&slow);
    leaving.terminate();
    eventually("it says that it leaves", Duration::from_secs(10), || {
        leaving.get("/readyz").is_none_or(|(status, _)| status != 200).then_some(())
    });
    assert!(leaving.lives(), "it waits for its chunks");
    leaving.terminate();
    leaving.ended(Duration::from_secs(6));
    assert_completes(&slow, &job, staying);
}

#[test]
fn an_idle_daemon_ends_at_once() {
    let site = Site::new(Database::empty());
    let mut daemon = site.daemon();
    daemon.terminate();
    let status = daemon.ended(Duration::from_secs(6));
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
    site.assert_sound(&[""; 0], []);
}
