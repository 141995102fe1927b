//! Kill -9 and SIGSTOP at each step of a job. The only daemon is intake, coordinator, planner and worker at
//! once.

use crate::scene::{Scene, coordinates, died, froze, revive};

/// The daemon dies at the failpoint. Another one finishes the job.
fn survives_a_kill(point: &str) {
    let scene = Scene::new();
    let mut victim = scene.doomed(&format!("{point}1*return(kill)"));
    let job = scene.request();
    died(&mut victim);
    let successor = scene.site.daemon();
    scene.assert_whole(&job, [successor]);
}

/// The daemon stops at the failpoint. Another one finishes the job. Then the first one continues.
fn survives_a_zombie(point: &str) {
    let scene = Scene::new();
    let mut zombie = scene.doomed(&format!("{point}1*return(stop)"));
    let job = scene.request();
    froze(&mut zombie);
    let successor = scene.site.daemon();
    scene.finished(&job);
    coordinates(&successor);
    revive(&zombie);
    scene.assert_whole(&job, [zombie, successor]);
}

macro_rules! at_each_point {
    ($($name:ident: $point:literal,)*) => {
        mod a_job_survives_a_kill {
            $(#[test] fn $name() { super::survives_a_kill($point); })*
        }
        mod a_job_survives_a_zombie {
            $(#[test] fn $name() { super::survives_a_zombie($point); })*
        }
    };
}

at_each_point! {
    // Intake.
    before_the_workspace: "before:make:workspace=",
    before_the_request_is_stored: "before:create:request=",
    before_the_request_has_its_name: "before:name:request=",
    after_the_request_is_stored: "after:create:request=",
    after_accepted_is_told: "after:publish:job.accepted=",
    after_the_first_wake_up: "after:publish:wake-job=",
    before_the_request_is_acknowledged: "before:ack:requests=",
    after_the_request_is_acknowledged: "after:ack:requests=",
    // Planner.
    before_planning_is_asked_for: "before:publish:plan-task=",
    after_planning_is_asked_for: "after:publish:plan-task=",
    before_the_ready_directories: "before:make:ready=",
    after_the_ready_directories: "after:make:ready=1*off->",
    before_the_plan: "before:create:plan=",
    before_the_plan_has_its_name: "before:name:plan=",
    after_the_plan: "after:create:plan=",
    after_the_wake_up_of_the_plan: "after:publish:wake-job=1*off->",
    before_the_plan_is_told: "before:publish:planned=",
    // Worker.
    before_chunks_are_handed_out: "before:publish:chunk-task=",
    after_chunks_are_handed_out: "after:publish:chunk-task=",
    in_the_middle_of_a_copy: "mid:copy:ordered=",
    before_a_part_is_synced: "before:fsync:part=",
    before_a_part_has_its_name: "before:name:part=",
    after_a_part_has_its_name: "after:name:part=",
    before_a_record: "before:create:record=",
    before_a_record_has_its_name: "before:name:record=",
    after_a_record: "after:create:record=",
    before_a_wake_up: "before:publish:wake-chunk=",
    after_a_wake_up: "after:publish:wake-chunk=",
    before_a_chunk_is_acknowledged: "before:ack:work=1*off->",
    after_a_chunk_is_acknowledged: "after:ack:work=1*off->",
    // Coordinator.
    before_the_links: "before:link:ready=",
    between_the_links: "mid:link:ready=2*off->",
    after_the_links: "after:link:ready=",
    before_a_target: "before:create:target=",
    after_a_target: "after:create:target=",
    before_a_table_is_published: "before:rename:ready=",
    after_a_table_is_published: "after:rename:ready=",
    before_an_outcome: "before:create:outcome=",
    after_an_outcome: "after:create:outcome=",
    before_a_table_is_told: "before:publish:table.completed=",
    after_a_table_is_told: "after:publish:table.completed=",
    before_the_commit: "before:create:commit=",
    before_the_commit_has_its_name: "before:name:commit=",
    after_the_commit: "after:create:commit=",
    before_the_link_by_date: "before:link:by-date=",
    after_the_link_by_date: "after:link:by-date=",
    before_latest: "before:point:latest=",
    after_latest: "after:point:latest=",
    before_the_end_is_told: "before:publish:job.completed=",
    after_the_end_is_told: "after:publish:job.completed=",
    before_daemons_hear_of_the_end: "before:publish:finished=",
    before_the_workspace_goes: "before:rename:workspace=",
    after_the_workspace_went: "after:rename:workspace=",
    before_the_trash_is_emptied: "before:remove:trash=",
    after_the_trash_is_emptied: "after:remove:trash=",
    before_the_inbox_is_acknowledged: "before:ack:coordinator=6*off->",
    after_the_inbox_is_acknowledged: "after:ack:coordinator=6*off->",
}
