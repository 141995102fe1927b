//! Two coordinators at once, and a coordinator that finds nothing but the folder.

use crate::scene::{Scene, TAKEOVER, coordinates, died, froze};
use crate::support::eventually;

/// Two coordinators stop before the same step and then both take it.
fn two_coordinators_agree(point: &str) {
    let scene = Scene::new();
    let stop = format!("{point}1*return(stop)");
    let mut old = scene.doomed(&stop);
    let job = scene.request();
    froze(&mut old);
    let new = scene.doomed(&stop);
    // The new coordinator reaches the same step, unless the old one has already finished everything.
    eventually("the successor is at the same step, or beyond", TAKEOVER, || {
        let beyond = || scene.site.exports.leftovers().is_empty();
        (new.is_frozen() || beyond()).then_some(())
    });
    old.thaw();
    new.thaw();
    scene.assert_whole(&job, [old, new]);
}

macro_rules! at_each_step {
    ($($name:ident: $point:literal,)*) => {
        mod two_coordinators_agree {
            $(#[test] fn $name() { super::two_coordinators_agree($point); })*
        }
    };
}

at_each_step! {
    before_planning_is_asked_for: "before:publish:plan-task=",
    before_chunks_are_handed_out: "before:publish:chunk-task=",
    before_the_links: "before:link:ready=",
    between_the_links: "mid:link:ready=2*off->",
    after_the_links: "after:link:ready=",
    before_a_target: "before:create:target=",
    before_a_target_has_its_name: "before:name:target=",
    after_a_target: "after:create:target=",
    before_a_table_is_published: "before:rename:ready=",
    after_a_table_is_published: "after:rename:ready=",
    before_an_outcome: "before:create:outcome=",
    before_an_outcome_has_its_name: "before:name:outcome=",
    after_an_outcome: "after:create:outcome=",
    before_a_table_is_told: "before:publish:table.completed=",
    before_the_commit: "before:create:commit=",
    before_the_commit_has_its_name: "before:name:commit=",
    after_the_commit: "after:create:commit=",
    before_the_link_by_date: "before:link:by-date=",
    before_latest: "before:point:latest=",
    before_the_end_is_told: "before:publish:job.completed=",
    before_the_workspace_goes: "before:rename:workspace=",
    before_the_trash_is_emptied: "before:remove:trash=",
}

/// All chunks are done, the coordinator is gone and every message is lost.
#[test]
fn a_successor_organizes_without_any_message() {
    let scene = Scene::new();
    let mut first = scene.doomed("before:link:ready=return(kill)");
    let job = scene.request();
    died(&mut first);
    for queue in ["requests", "work", "coordinator"] {
        eventually(&format!("{queue} has its messages back"), TAKEOVER, || {
            scene.site.broker.purge(queue);
            (scene.site.broker.ready(queue) == 0).then_some(())
        });
    }
    let successor = scene.site.daemon();
    coordinates(&successor);
    scene.assert_whole(&job, [successor]);
}
