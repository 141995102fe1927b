//! Two workers have the same chunk. Each is stopped at a step of its own, and they continue one after the
//! other. There is one record, and the part that it names is published.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::scene::{Scene, TAKEOVER, froze};
use crate::support::{PATIENCE, eventually, none_left};

/// The daemon waits here before it publishes, so that the record can be read.
const PAUSE: &str = "before:link:ready=sleep(1500)";

fn two_workers_agree(one: &str, other: &str) {
    let scene = Scene::new();
    let config = |workers: u32| {
        let mut config = scene.site.config();
        config["export"]["workers"] = json!(workers);
        config
    };
    let mut first = scene.doomed_with(&config(1), &format!("{one}=1*return(stop);{PAUSE}")).ready();
    let job = scene.site.request(json!({"tables": [{"table": "public.ordered", "strategy": "single"}]}));
    froze(&mut first);
    let second = scene.doomed_with(&config(1), &format!("{other}=1*return(stop);{PAUSE}")).ready();
    // The broker closes the connection of the first worker, and gives the chunk to the second one.
    let mut seen = BTreeSet::new();
    let look = |seen: &mut BTreeSet<String>| seen.extend(records(&scene, &job));
    eventually("the second worker is at its step, or beyond", TAKEOVER, || {
        look(&mut seen);
        (second.is_frozen() || scene.site.exports.find_archive(&job).is_some()).then_some(())
    });
    first.thaw();
    eventually("the job is over", PATIENCE, || {
        look(&mut seen);
        scene.site.exports.find_archive(&job)
    });
    second.thaw();

    assert_eq!(seen.len(), 1, "one record, ever: {seen:#?}");
    let record: Value = serde_json::from_str(seen.first().expect("one")).expect("a record is JSON");
    let file = &scene.site.exports.archive(&job)["tables"][0]["files"][0];
    // The checker compares the archive with the file.
    assert_eq!(record["parts"][0]["parts"][0]["sha256"], file["sha256"], "record and archive");
    scene.site.completed(&job);
    none_left("the workspace goes", PATIENCE, || scene.site.exports.leftovers());
    scene.site.assert_equal(&[("SELECT * FROM ordered", "public_ordered")]);
    scene.site.assert_sound(&[&job], [first, second]);
}

#[test]
fn a_worker_that_stops_after_a_refused_record_leaves_the_parts_that_it_may_name() {
    let scene = Scene::new();
    let mut config = scene.site.config();
    config["export"]["shutdown_grace"] = json!("1s");
    config["timing"]["retry_first"] = json!("20s");
    config["timing"]["retry_longest"] = json!("20s");
    config["timing"]["look_interval"] = json!("60s");
    // The record is stored, but the storage reports an error.
    let mut first = scene.doomed_with(&config, "after:create:record=return(error)").ready();
    let job = scene.site.request(json!({"tables": [{"table": "public.ordered", "strategy": "single"}]}));
    eventually("the record stands", PATIENCE, || records(&scene, &job));
    eventually("it is tried again later", PATIENCE, || {
        first.log().contains("the storage failed; it is tried again").then_some(())
    });
    first.terminate();
    first.ended(PATIENCE);
    scene.site.assert_runs(&job, "nobody has settled it");
    let second = scene.doomed("");
    scene.site.completed(&job);
    none_left("the workspace goes", PATIENCE, || scene.site.exports.leftovers());
    scene.site.assert_equal(&[("SELECT * FROM ordered", "public_ordered")]);
    scene.site.assert_sound(&[&job], [second]);
}

/// The content of the only chunk's record.
fn records(scene: &Scene, job: &str) -> Option<String> {
    let tables: PathBuf = scene.site.exports.path(&format!(".temp/job_{job}/records/e1"));
    let table = std::fs::read_dir(tables).ok()?.flatten().next()?;
    std::fs::read_to_string(table.path().join("000000.json")).ok()
}

macro_rules! pairs {
    ($($one:ident: $at:literal => { $($other:ident: $also_at:literal,)* })*) => {
        $(mod $one {
            $(#[test] fn $other() { super::two_workers_agree($at, $also_at); })*
        })*
    };
}

pairs! {
    a_worker_stopped_in_its_copy_agrees_with_one_stopped: "mid:copy:ordered" => {
        in_its_copy: "mid:copy:ordered",
        before_its_part_is_synced: "before:fsync:part",
        after_its_part_has_a_name: "after:name:part",
        before_its_record_has_a_name: "before:name:record",
    }
    a_worker_stopped_before_its_part_is_synced_agrees_with_one_stopped: "before:fsync:part" => {
        in_its_copy: "mid:copy:ordered",
        before_its_part_is_synced: "before:fsync:part",
        after_its_part_has_a_name: "after:name:part",
        before_its_record_has_a_name: "before:name:record",
    }
    a_worker_stopped_after_its_part_has_a_name_agrees_with_one_stopped: "after:name:part" => {
        in_its_copy: "mid:copy:ordered",
        before_its_part_is_synced: "before:fsync:part",
        after_its_part_has_a_name: "after:name:part",
        before_its_record_has_a_name: "before:name:record",
    }
    a_worker_stopped_before_its_record_has_a_name_agrees_with_one_stopped: "before:name:record" => {
        in_its_copy: "mid:copy:ordered",
        before_its_part_is_synced: "before:fsync:part",
        after_its_part_has_a_name: "after:name:part",
        before_its_record_has_a_name: "before:name:record",
    }
    a_worker_stopped_before_its_wake_up_agrees_with_one_stopped: "before:publish:wake-chunk" => {
        in_its_copy: "mid:copy:ordered",
        before_its_part_is_synced: "before:fsync:part",
        after_its_part_has_a_name: "after:name:part",
        before_its_record_has_a_name: "before:name:record",
    }
}
