//! A daemon dies or freezes between the import of a snapshot and its export.

use std::time::Duration;

use crate::scene::{Scene, died, froze, revive};
use crate::support::{Daemon, Proxy, Slow, eventually};

struct Joined {
    scene: Scene,
    proxy: Proxy,
    first: Daemon,
    job: String,
}

/// A running job whose coordinator holds the snapshot.
fn mid_job() -> Joined {
    let slow = Slow::new(Scene::database()).at(30_000);
    let first = slow.daemon();
    let Slow { site, proxy, .. } = slow;
    let scene = Scene { site };
    let job = scene.request();
    eventually("chunks are in flight", Duration::from_secs(30), || {
        (first.chunks_in_flight() > 0).then_some(())
    });
    Joined { scene, proxy, first, job }
}

fn epochs(scene: &Scene, job: &str) -> usize {
    scene.site.exports.names(&format!(".temp/job_{job}/plans")).len()
}

#[test]
fn a_death_between_import_and_export_leaves_the_snapshot_to_the_others() {
    let Joined { scene, proxy, first, job } = mid_job();
    let mut second = scene.doomed_with(&scene.site.config(), "mid:join:keeper=return(kill)");
    died(&mut second);
    let third = scene.site.daemon();
    assert_eq!(epochs(&scene, &job), 1, "nothing is planned again");
    proxy.free();
    scene.assert_whole(&job, [first, third]);
}

#[test]
fn a_keeper_that_froze_while_it_joined_does_no_harm() {
    let Joined { scene, proxy, first, job } = mid_job();
    let mut second = scene.doomed_with(&scene.site.config(), "mid:join:keeper=1*return(stop)");
    froze(&mut second);
    assert_eq!(epochs(&scene, &job), 1, "nothing is planned again");
    proxy.free();
    scene.finished(&job);
    second.thaw();
    scene.assert_whole(&job, [first, second.ready()]);
}

#[test]
fn a_job_whose_only_keeper_dies_while_another_joins_is_planned_again() {
    let Joined { scene, proxy, mut first, job } = mid_job();
    let mut second = scene.doomed_with(&scene.site.config(), "mid:join:keeper=1*return(stop)");
    froze(&mut second);
    first.kill();
    proxy.free();
    let third = scene.site.daemon();
    scene.finished(&job);
    revive(&second);
    scene.assert_whole(&job, [second, third]);
}
