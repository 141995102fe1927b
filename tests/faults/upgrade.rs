//! Daemons of an older release work beside daemons of this build. `make upgrade-check` builds that release
//! from the project's history and sets its path in `ADU_OLDER`. It is not part of `make test`.

use serde_json::json;

use crate::support::{BINARY, Daemon, Database, PATIENCE, Slow, eventually, fill, mid_job, said};

fn older() -> String {
    std::env::var("ADU_OLDER").expect("ADU_OLDER names the older release: make upgrade-check")
}

/// Two tables of twelve chunks each.
fn slow() -> Slow {
    let db = Database::empty();
    for table in ["big", "large"] {
        fill(&db, table, 12_000);
    }
    Slow::new(db)
}

/// Slow enough that work is left, whatever happens meanwhile.
const SLOWLY: u64 = 150_000;

fn daemon(slow: &Slow, binary: &str) -> Daemon {
    slow.site.spawn_of(binary, &slow.config(), &[])
}

fn request(slow: &Slow, table: &str) -> String {
    slow.site.request(json!({"tables": [format!("public.{table}")]}))
}

fn coordinates(daemon: &Daemon) -> bool {
    daemon.metric("adu_export_coordinator_active") > 0.0
}

/// Both jobs complete, and each is planned once. The older daemons met files that they cannot read. The
/// daemons of this build are ready.
#[track_caller]
fn both_complete(slow: &Slow, jobs: [&str; 2], older: Vec<Daemon>, new: Vec<Daemon>) {
    for daemon in &older {
        // An older daemon may say that it is ready as long as no job needs what it cannot do.
        let left =
            || daemon.log().contains("has version 2, this release reads up to 1; upgrade").then_some(());
        eventually(&format!("{} leaves its work to others", daemon.name), PATIENCE, left);
    }
    slow.proxy.mend();
    for job in jobs {
        slow.site.completed(job);
        assert_eq!(slow.site.exports.archive(job)["epochs"], 1, "no snapshot was lost");
    }
    for daemon in &older {
        assert_eq!(daemon.chunks_in_flight(), 0, "{} gave all of them back", daemon.name);
    }
    slow.site.assert_equal(&[("SELECT * FROM big", "public_big"), ("SELECT * FROM large", "public_large")]);
    for daemon in &new {
        daemon.ready_again();
    }
    slow.site.assert_sound(&jobs, older.into_iter().chain(new));
}

#[test]
#[ignore = "wants an older release: make upgrade-check"]
fn an_older_coordinator_leaves_its_job_to_new_daemons() {
    let slow = slow();
    let old = daemon(&slow, &older()).ready();
    let first = request(&slow, "big");
    mid_job(&old);
    slow.proxy.slow_to(SLOWLY);
    assert!(coordinates(&old));
    let new = [daemon(&slow, BINARY).ready(), daemon(&slow, BINARY).ready()];
    let second = request(&slow, "large");
    new.iter().for_each(mid_job);
    eventually("a new daemon coordinates", PATIENCE, || new.iter().any(coordinates).then_some(()));
    both_complete(&slow, [&first, &second], vec![old], new.into());
}

#[test]
#[ignore = "wants an older release: make upgrade-check"]
fn an_older_daemon_that_joins_new_ones_does_no_harm() {
    let slow = slow();
    let new = daemon(&slow, BINARY).ready();
    let first = request(&slow, "big");
    mid_job(&new);
    slow.proxy.slow_to(SLOWLY);
    let old = [daemon(&slow, &older()), daemon(&slow, &older())];
    let second = request(&slow, "large");
    old.iter().for_each(|old| drop(old.unready("version 2")));
    both_complete(&slow, [&first, &second], old.into(), vec![new]);
}

#[test]
#[ignore = "wants an older release: make upgrade-check"]
fn a_fleet_is_upgraded_one_daemon_after_the_other() {
    let slow = slow();
    let mut old = [daemon(&slow, &older()).ready(), daemon(&slow, &older()).ready()];
    let first = request(&slow, "big");
    old.iter().for_each(mid_job);
    slow.proxy.slow_to(SLOWLY);
    let mut new = Vec::new();
    let mut second = None;
    for old in &mut old {
        old.terminate();
        assert!(old.ended(PATIENCE).success(), "{}", old.log());
        new.push(daemon(&slow, BINARY).ready());
        second.get_or_insert_with(|| request(&slow, "large"));
    }
    both_complete(&slow, [&first, &second.expect("it was sent")], Vec::new(), new);
}

#[test]
#[ignore = "wants an older release: make upgrade-check"]
fn a_fleet_goes_back_to_an_older_release_when_its_jobs_have_ended() {
    let slow = slow();
    slow.proxy.mend();
    let new = daemon(&slow, BINARY).ready();
    let first = slow.site.export(json!({"tables": ["public.big"]}));
    new.stop();
    let old = daemon(&slow, &older());
    old.unready("version 2");
    let [back] =
        crate::support::manual::blocks("### Going back", "sh", "adu.export").try_into().expect("one block");
    let back = back.replace("/data/exports", &slow.site.exports.0.to_string_lossy());
    let output = std::process::Command::new("bash").args(["-euc", &back]).output().expect("run bash");
    assert!(output.status.success(), "{}", said(&output));
    old.ready_again();
    let second = slow.site.export(json!({"tables": ["public.big"]}));
    assert_eq!(second.data()["tables"][0]["directory"], "public_big_v2", "{}", second.body);
    slow.site.assert_equal(&[("SELECT * FROM big", "public_big"), ("SELECT * FROM big", "public_big_v2")]);
    slow.site.assert_sound(&[first.job(), second.job()], [old]);
}
