//! Daemons go in an orderly way, and jobs go on elsewhere.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Daemon, Database, PATIENCE, Proxy, Services, Site, eventually};

/// Two daemons in the middle of the chunks of one job.
fn mid_chunk() -> (Site, Proxy, [Daemon; 2], String) {
    let site = Site::new(Database::tpch());
    let proxy = Proxy::to(Services::get().postgres);
    let daemons = [(); 2].map(|()| {
        let mut config = site.config();
        config["sources"]["warehouse"]["dsn"] = json!(site.db.dsn_at(proxy.port));
        config["export"]["chunk_rows"] = json!(10_000);
        site.daemon_with(&config)
    });
    proxy.slow_to(8_000_000);
    let job = site.request(json!({"tables": ["public.lineitem"]}));
    eventually("both are in the middle of chunks", PATIENCE, || {
        daemons.iter().all(|d| d.rows_exported() > 0 && d.chunks_in_flight() > 0).then_some(())
    });
    (site, proxy, daemons, job)
}

fn assert_completes(site: &Site, proxy: &Proxy, job: &str, rest: Vec<Daemon>) {
    proxy.free();
    site.completed(job);
    site.assert_equal(&[("SELECT * FROM before", "public_lineitem")]);
    site.assert_sound(&[job], rest);
}

#[test]
fn a_daemon_told_to_stop_finishes_its_chunks_and_ends_with_0() {
    let (site, proxy, [mut leaving, staying], job) = mid_chunk();
    proxy.slow_to(4_000_000);
    site.db.execute("CREATE TABLE before AS SELECT * FROM lineitem");
    leaving.terminate();
    let status = leaving.ended(Duration::from_secs(14));
    assert_eq!(status.code(), Some(0), "{}", leaving.log());
    assert!(site.exports.find_archive(&job).is_none(), "it left while the job ran");
    proxy.slow_to(500_000);
    site.db.execute("UPDATE lineitem SET l_comment = 'too late'");
    assert_completes(&site, &proxy, &job, vec![staying]);
}

#[test]
fn a_chunk_that_outlasts_the_grace_is_released_and_done_elsewhere() {
    let (site, proxy, [mut leaving, staying], job) = mid_chunk();
    // A chunk of 1.9 MB takes a quarter of an hour at this rate, shared by four.
    proxy.slow_to(8_000);
    site.db.execute("CREATE TABLE before AS SELECT * FROM lineitem");
    let began = Instant::now();
    leaving.terminate();
    let status = leaving.ended(Duration::from_secs(40));
    assert!(began.elapsed() > Duration::from_secs(10), "it used its grace of 12 s");
    assert_eq!(status.code(), Some(0), "{}", leaving.log());
    assert_completes(&site, &proxy, &job, vec![staying]);
}

#[test]
fn a_second_signal_ends_a_daemon_at_once() {
    let (site, proxy, [mut leaving, staying], job) = mid_chunk();
    proxy.slow_to(8_000);
    site.db.execute("CREATE TABLE before AS SELECT * FROM lineitem");
    leaving.terminate();
    eventually("it says that it leaves", Duration::from_secs(10), || {
        leaving.get("/readyz").is_none_or(|(status, _)| status != 200).then_some(())
    });
    assert!(leaving.lives(), "it waits for its chunks");
    leaving.terminate();
    leaving.ended(Duration::from_secs(6));
    assert_completes(&site, &proxy, &job, vec![staying]);
}

#[test]
fn an_idle_daemon_ends_at_once() {
    let site = Site::new(Database::empty());
    let mut daemon = site.daemon();
    daemon.terminate();
    let status = daemon.ended(Duration::from_secs(6));
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
}
