//! Files of a newer release appear while this build works. This build leaves the work to others, loses
//! nothing, and continues when the files are gone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::mounts::Mount;
use crate::support::{PATIENCE, Slow, eventually, mid_job, never};

/// Content that only a later release understands.
const NEWER: &str = r#"{"unknown":{"kind":"of a release to come"},"v":3}"#;

fn slow() -> Slow {
    Slow::big(12_000)
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}

/// Writes a new file.
fn place(path: &Path, text: &str) {
    assert!(!path.exists(), "{}", path.display());
    std::fs::write(path, text).expect("a newer file");
}

#[test]
fn a_newer_file_of_any_kind_makes_a_daemon_wait_and_costs_nothing() {
    let slow = slow();
    let daemon = slow.daemon();
    let job = slow.request(&["big"]);
    mid_job(&daemon);
    slow.proxy.slow_to(60_000);
    let exports = &slow.site.exports;
    let of_job = |name: &str| exports.path(&format!(".temp/job_{job}/{name}"));
    // Chunk 11 is dealt last, so no worker has begun it.
    let kinds: [PathBuf; 7] = [
        of_job("plans/e2.json"),
        of_job(&format!("plans/e2.fail-{}.json", uuid::Uuid::new_v4())),
        of_job("records/e1/0/000011.json"),
        of_job(&format!("records/e1/0/000011.fail-{}.json", uuid::Uuid::new_v4())),
        of_job("tables/0.e1.outcome.json"),
        of_job("cancel.json"),
        exports.path(".archive/by-id/of-a-newer-release.json"),
    ];
    let mut before: Option<&PathBuf> = None;
    for path in &kinds {
        place(path, NEWER);
        if let Some(before) = before {
            // The daemon may meet the next file before it has recovered from this one.
            std::fs::remove_file(before).expect("removed");
        }
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let why = daemon.unready(&name);
        assert!(why.contains("version 3") && why.contains("upgrade adu-export"), "{why}");
        before = Some(path);
    }
    slow.site.assert_runs(&job, "the job is in its middle");
    std::fs::remove_file(before.expect("the last one")).expect("removed");
    daemon.ready_again();
    slow.assert_whole(&[&job], [daemon]);
}

#[test]
fn a_daemon_that_cannot_read_the_plan_gives_its_chunks_back_and_others_do_them() {
    let slow = slow();
    let reader = slow.daemon();
    let job = slow.request(&["big"]);
    mid_job(&reader);
    slow.proxy.slow_to(60_000);
    let plans = slow.site.exports.path(&format!(".temp/job_{job}/plans"));
    // The same folder by another path, where the plan is of a newer release.
    let root = slow.site.path("seen-by-another");
    let newer = slow.site.path("newer-plans");
    std::fs::create_dir(&newer).expect("made");
    let mut plan = json_of(&plans.join("e1.json"));
    plan["v"] = json!(3);
    std::fs::write(newer.join("e1.json"), plan.to_string()).expect("written");
    let _whole = Mount::bind(&slow.site.exports.0, &root);
    let hidden = Mount::bind(&newer, &root.join(format!(".temp/job_{job}/plans")));
    let mut config = slow.config();
    config["export"]["root"] = json!(root);
    let other = slow.site.spawn(&config);
    let why = other.unready("plans/e1.json has version 3");
    assert!(why.contains("work: ") && why.contains("upgrade adu-export"), "{why}");
    never("it says that it is ready", Duration::from_secs(8), || {
        other.get("/readyz").is_some_and(|(status, _)| status == 200)
    });
    let before = reader.rows_exported();
    eventually("the reader goes on", PATIENCE, || (reader.rows_exported() > before).then_some(()));
    assert_eq!((other.rows_exported(), other.chunks_in_flight()), (0, 0), "it gave all of them back");
    assert_eq!(reader.get("/readyz").map(|r| r.0), Some(200));
    slow.site.assert_runs(&job, "the job is in its middle");

    drop(hidden);
    other.ready_again();
    eventually("the other one takes chunks now", PATIENCE, || (other.rows_exported() > 0).then_some(()));
    slow.assert_whole(&[&job], [reader, other]);
}

#[test]
fn commands_say_which_file_is_newer_and_what_to_do() {
    let slow = slow();
    let daemon = slow.daemon();
    let done = slow.site.export(json!({"tables": ["public.big"]}));
    let config = slow.site.write("cli.toml", &slow.config());
    let exports = &slow.site.exports;
    let (job, dsn) = (done.job(), slow.site.db.url_at(slow.proxy.port));
    let out = exports.0.to_string_lossy();
    let by_date = exports.names(".archive/jobs").pop().expect("one");
    let archive = exports.path(&format!(".archive/by-id/{job}.json"));
    let kept = std::fs::read(&archive).expect("an archive");
    slow.site.assert_sound(&[job], [daemon]);
    let says = |name: &str, commands: &[&[&str]]| {
        for command in commands {
            let output = slow.site.run(command);
            let text = crate::support::said(&output);
            assert!(!output.status.success(), "{command:?}: {text}");
            assert!(text.contains(name) && text.contains("version 3"), "{command:?}: {text}");
            assert!(text.contains("upgrade adu-export"), "{command:?}: {text}");
        }
    };
    // An archive has two names for one file, and this changes both.
    std::fs::write(&archive, NEWER).expect("written");
    let root = ["--root", &*out];
    says(
        &format!("{job}.json"),
        &[
            &["status", "--config", &config, job],
            &["verify", "--config", &config, job],
            &["verify", root[0], root[1], job],
            &["prune", "--config", &config],
        ],
    );
    says(&by_date, &[&["status", "--config", &config]]);
    std::fs::write(&archive, kept).expect("written");
    let claim = exports.path(".archive/names/public_big.json");
    let kept = std::fs::read(&claim).expect("a claim");
    std::fs::write(&claim, NEWER).expect("written");
    says("public_big.json", &[&["status", "--config", &config, "--latest", "public.big"]]);
    std::fs::write(&claim, kept).expect("written");
    let workspace = exports.path(".temp/job_newer");
    std::fs::create_dir(&workspace).expect("made");
    std::fs::write(workspace.join("request.json"), NEWER).expect("written");
    let export: &[&str] = &["export", "--dsn", &dsn, "--table", "public.big", "--out", &out];
    says(
        "request.json",
        &[&["status", "--config", &config], &["status", "--config", &config, "newer"], export],
    );
    std::fs::remove_dir_all(&workspace).expect("removed");
    let output = slow.site.run(&["status", "--config", &config, job]);
    assert!(output.status.success(), "{}", crate::support::said(&output));
}
