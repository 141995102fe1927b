//! Daemons die and start, and jobs still end.

use crate::support::{Daemon, Database, Slow, fill, mid_job, table};

/// Two tables with many chunks. Other tables, which never change, have the same rows.
fn slow() -> Slow {
    let db = Database::empty();
    for (table, rows) in [("big", 60_000), ("other", 15_000)] {
        fill(&db, table, rows);
        db.execute(&format!("CREATE TABLE {table}_before AS SELECT * FROM {table}"));
    }
    Slow::new(db)
}

fn request(slow: &Slow) -> String {
    slow.request(&["big", "other"])
}

/// The job ends and has the rows of the moment when it began.
#[track_caller]
fn assert_completes(slow: &Slow, job: &str, daemons: Vec<Daemon>) {
    let archive = slow.completes(job);
    slow.site.assert_equal(&[
        ("SELECT * FROM big_before", "public_big"),
        ("SELECT * FROM other_before", "public_other"),
    ]);
    let chunks = table(&archive, "public.big")["chunks"].as_u64().expect("chunks");
    let parts = slow.site.exports.names("public_big").len() as u64;
    assert!((50..=chunks).contains(&parts), "{parts} parts of {chunks} chunks");
    slow.site.assert_sound(&[job], daemons);
}

fn a_killed_daemon_is_survived(victim_coordinates: bool) {
    let slow = slow();
    let mut daemons = vec![slow.daemon(), slow.daemon()];
    let job = request(&slow);
    daemons.iter().for_each(mid_job);
    let coordinates = |d: &Daemon| d.metric("adu_export_coordinator_active") > 0.0;
    assert_eq!(daemons.iter().filter(|d| coordinates(d)).count(), 1, "one coordinator");
    let victim = daemons.iter().position(|d| coordinates(d) == victim_coordinates).expect("there is one");

    // Slow enough that work is left, however long the change below takes.
    slow.proxy.slow_to(300_000);
    daemons.remove(victim).kill();
    // Later changes must not appear, because the survivor holds the snapshot.
    slow.site.db.execute("UPDATE big SET v = 'too late'");
    slow.site.assert_runs(&job, "the kill came while the job ran");
    assert_completes(&slow, &job, daemons);
}

#[test]
fn a_job_survives_its_coordinator() {
    a_killed_daemon_is_survived(true);
}

#[test]
fn a_job_survives_a_worker() {
    a_killed_daemon_is_survived(false);
}

#[test]
fn a_job_survives_the_only_daemon_when_another_one_comes() {
    let slow = slow();
    let mut first = slow.daemon();
    let job = request(&slow);
    mid_job(&first);
    first.kill();
    // The snapshot died with the daemon. Tables that are exported now may be newer, but they are complete.
    let second = slow.daemon();
    assert_completes(&slow, &job, vec![second]);
}

#[test]
fn a_daemon_that_joins_takes_chunks() {
    let slow = slow();
    let first = slow.daemon();
    let job = request(&slow);
    mid_job(&first);
    // Slow enough that work is left, however long the second daemon takes to start.
    slow.proxy.slow_to(500_000);
    let second = slow.daemon();
    mid_job(&second);
    slow.site.db.execute("UPDATE big SET v = 'too late'");
    slow.site.assert_runs(&job, "the second one came while the job ran");
    assert_completes(&slow, &job, vec![first, second]);
}
