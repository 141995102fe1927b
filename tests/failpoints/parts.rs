//! A worker dies, freezes or fails between two parts of one chunk, and a coordinator between two partitions.

use serde_json::{Value, json};

use crate::scene::{Scene, coordinates, died, froze, revive};
use crate::support::{PATIENCE, eventually};

/// A scene whose only job has one chunk with several parts.
struct Several {
    scene: Scene,
}

/// The first part is done, and the second one is on its way.
const SECOND: &str = "before:fsync:part=1*off->1*return";

impl Several {
    fn new() -> Self {
        let scene = Scene::new();
        scene.site.db.execute(
            "CREATE TABLE noisy AS SELECT g AS id, md5(g::text) || md5((-g)::text) || md5((g * 7)::text) AS noise \
             FROM generate_series(1, 40000) g; ANALYZE noisy",
        );
        Self { scene }
    }

    fn request(&self) -> String {
        self.scene.site.request(json!({
            "tables": [{"table": "public.noisy", "strategy": "single"}],
            "output": {"file_bytes": 1 << 20, "compression": "none"},
        }))
    }

    /// The files in the chunk's directory of parts.
    fn parts(&self, job: &str) -> Vec<String> {
        self.scene.site.exports.names(&format!(".temp/job_{job}/parts/e1/0"))
    }

    fn assert_whole(&self, job: &str, daemons: impl IntoIterator<Item = crate::support::Daemon>) {
        self.scene.finished(job);
        let files = self.scene.site.exports.archive(job)["tables"][0]["files"].as_array().map_or(0, Vec::len);
        assert!(files >= 3, "{files} files");
        self.scene.site.assert_equal(&[("SELECT * FROM noisy", "public_noisy")]);
        self.scene.site.assert_sound(&[job], daemons);
    }
}

#[test]
fn a_kill_between_two_parts_leaves_each_row_once() {
    let several = Several::new();
    let mut victim = several.scene.doomed(&format!("{SECOND}(kill)"));
    let job = several.request();
    died(&mut victim);
    assert!(!several.parts(&job).is_empty(), "the first part stands");
    let successor = several.scene.site.daemon();
    several.assert_whole(&job, [successor]);
}

#[test]
fn a_zombie_between_two_parts_adds_nothing() {
    let several = Several::new();
    let mut zombie = several.scene.doomed(&format!("{SECOND}(stop)"));
    let job = several.request();
    froze(&mut zombie);
    let successor = several.scene.site.daemon();
    several.scene.finished(&job);
    coordinates(&successor);
    revive(&zombie);
    several.assert_whole(&job, [zombie, successor]);
}

#[test]
fn a_part_that_cannot_be_made_durable_takes_the_others_with_it() {
    let several = Several::new();
    // The coordinator waits before it publishes, so that the parts can be seen.
    let daemon = several.scene.doomed(&format!("{SECOND}(error);before:link:ready=sleep(2000)"));
    let job = several.request();
    let record = eventually("the chunk has a record", PATIENCE, || {
        let path = several.scene.site.exports.path(&format!(".temp/job_{job}/records/e1/0/000000.json"));
        let record: Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        Some(record)
    });
    assert!(daemon.log().contains("the storage failed; it is tried again"), "{}", daemon.log());
    let recorded = record["parts"][0]["parts"].as_array().expect("parts");
    let mut named: Vec<&str> = recorded
        .iter()
        .map(|part| part["reference"].as_str().and_then(|r| r.split_once(':')).expect("inode and file").1)
        .collect();
    named.sort_unstable();
    let mut there = several.parts(&job);
    there.sort();
    assert_eq!(there, named, "the parts of the attempt that failed are gone");
    several.assert_whole(&job, [daemon]);
}

/// The coordinator dies when it has linked the parts of some partitions.
#[test]
fn a_kill_between_two_partitions_leaves_each_row_once() {
    for point in ["before:make:ready=1*off->1*return(kill)", "before:link:ready=3*off->1*return(kill)"] {
        let scene = Scene::new();
        scene.site.db.execute(
            "CREATE TABLE regional AS SELECT g AS id, 'r' || g % 5 AS region FROM generate_series(1, 3000) g; \
             ALTER TABLE regional ADD PRIMARY KEY (id); ANALYZE regional",
        );
        let mut victim = scene.doomed(point);
        let table = json!({"table": "public.regional", "strategy": "range", "chunk_rows": 1000});
        let job = scene.site.request(json!({"tables": [table], "output": {"partition_by": ["region"]}}));
        died(&mut victim);
        let successor = scene.site.daemon();
        scene.finished(&job);
        scene.site.assert_partitioned(
            "SELECT * FROM regional",
            "public_regional",
            &json!({"region": "text"}),
        );
        scene.site.assert_sound(&[&job], [successor]);
    }
}
