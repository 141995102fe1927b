//! Workspaces that a release of version 1 left behind when it was killed. This build must finish them, and so
//! must every later one. This test knows the files only as JSON, as they were on disk then.
//! `tests/fixtures/README.md` says how they were made.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Database, PATIENCE, Services, Site, none_left, project, said};

/// The tables of each job.
const TABLES: [&str; 4] = ["ordered", "paged", "small", "empty"];

/// Name of the source in the one-shot export.
const SOURCE_OF_THEN: &str = "127_0_0_1_31334_fixture";

/// What the old release left on disk, copied into a site.
struct Left {
    /// By job and table: the lineage of tables that had all their parts.
    whole: BTreeMap<String, BTreeMap<String, String>>,
    /// All lineages that existed then.
    lineages: BTreeSet<String>,
    /// Directories that were already published.
    published: BTreeSet<String>,
}

fn database() -> Database {
    let db = Database::empty();
    let tables = std::fs::read_to_string(project().join("tests/fixtures/tables.sql")).expect("the tables");
    db.execute(&tables);
    db
}

/// JSON files below a directory.
fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "json") {
            found.push(path);
        }
    }
}

/// Replaces inode numbers by the current ones. A target names its directory by inode number, a record its
/// part.
fn renumber(value: &mut Value, inodes: &BTreeMap<u64, u64>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_u64().filter(|_| name == "inode") {
                    // A chunk without rows has no part.
                    Some(0) => {}
                    Some(old) => *value = json!(inodes.get(&old).unwrap_or_else(|| panic!("inode {old}"))),
                    None => renumber(value, inodes),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| renumber(item, inodes)),
        _ => {}
    }
}

/// Unpacks a fixture into a folder, and replaces its daemons, one-shot runs and server by those of this site.
fn lay_out(site: &Site, root: &Path, fixture: &str) -> Left {
    std::fs::create_dir_all(root).expect("made");
    let tar = project().join("tests/fixtures/version-1").join(fixture);
    let unpacked =
        Command::new("tar").arg("-xzf").arg(tar).arg("-C").arg(root).arg("--no-same-owner").output();
    let unpacked = unpacked.expect("run tar");
    assert!(unpacked.status.success(), "{}", said(&unpacked));
    let list = std::fs::read_to_string(root.join("inodes.txt")).expect("a list of inodes");
    std::fs::remove_file(root.join("inodes.txt")).expect("removed");
    let mut inodes = BTreeMap::new();
    for line in list.lines() {
        let (old, path) = line.split_once(' ').expect("an inode and a path");
        let now = std::fs::symlink_metadata(root.join(path)).expect(path).ino();
        let before = inodes.insert(old.parse::<u64>().expect("an inode"), now);
        assert!(before.is_none_or(|before| before == now), "one inode, one file: {path}");
    }
    let mut all = Vec::new();
    for area in [".temp", ".archive"] {
        files(&root.join(area), &mut all);
    }
    let (port, database) = (Services::get().postgres, &site.db.name);
    let (server, source) =
        (format!("exporter@127.0.0.1:{port}/{database}"), format!("127_0_0_1_{port}_{database}"));
    let mut left = Left { whole: BTreeMap::new(), lineages: BTreeSet::new(), published: BTreeSet::new() };
    for path in &all {
        // The source of a one-shot export is named after its address.
        let text = std::fs::read_to_string(path).expect("readable").replace(SOURCE_OF_THEN, &source);
        let mut value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["v"], 1, "{}", path.display());
        renumber(&mut value, &inodes);
        match value["owner"]["kind"].as_str() {
            Some("daemons") => value["owner"]["prefix"] = json!(site.broker.prefix),
            Some("one_shot") => value["owner"]["server"] = json!(server),
            _ => {}
        }
        left.learn(path, &value);
        // Overwrite the file in place, because archives have two names.
        std::fs::write(path, value.to_string()).expect("written");
    }
    left
}

impl Left {
    /// Collects lineages and complete tables from plans and records.
    fn learn(&mut self, path: &Path, file: &Value) {
        let Some(lineage) = file["snapshot"]["lineage"].as_str() else { return };
        self.lineages.insert(lineage.to_owned());
        let (job, workspace) =
            (file["job"].as_str().expect("a job"), path.ancestors().nth(2).expect("its workspace"));
        for table in file["tables"].as_array().expect("tables") {
            let records = workspace.join(format!("records/e{}/{}", file["epoch"], table["batch"]));
            let names = std::fs::read_dir(records).into_iter().flatten().flatten();
            // A record is `000017.json`. Failures and starts have longer names.
            let records = names.filter(|e| e.file_name().to_string_lossy().len() == 11).count();
            let bounds = table["strategy"]["bounds"].as_array().map_or(0, Vec::len);
            if records == bounds + 1 {
                let name = table["name"].as_str().expect("a name").to_owned();
                self.whole.entry(job.to_owned()).or_default().insert(name, lineage.to_owned());
            }
        }
    }
}

/// Each table comes from the old snapshot if all its parts existed, else from a new one. Returns the rows and
/// directories to compare.
#[track_caller]
fn assert_continued(left: &Left, archive: &Value, schema: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let job = archive["job_id"].as_str().expect("an id");
    let whole = left.whole.get(job).cloned().unwrap_or_default();
    for table in archive["tables"].as_array().expect("tables").iter().filter(|t| t["status"] == "completed") {
        let name = table["table_name"].as_str().expect("a name");
        let name = name.strip_prefix(&format!("{schema}.")).expect("a table of the job");
        let lineage = table["lineage"].as_str().expect("a lineage");
        match whole.get(name) {
            Some(before) => assert_eq!(lineage, before, "{job}: {name} had all of its parts: {archive}"),
            None => assert!(!left.lineages.contains(lineage), "{job}: {name} is planned again: {archive}"),
        }
        assert_eq!(table["directory"], format!("{schema}_{name}"), "its first and only one");
        pairs.push((format!("SELECT * FROM {schema}.{name}"), format!("{schema}_{name}")));
    }
    pairs
}

#[test]
fn jobs_that_a_release_of_version_1_left_are_finished() {
    let site = Site::new(database());
    let mut left = lay_out(&site, &site.exports.0, "daemons.tar.gz");
    left.published = site.exports.directories();
    assert!(left.published.contains("cancelled_ordered"), "{:?}", left.published);
    let mut config = site.config();
    config["sources"]["warehouse"]["max_jobs"] = json!(8);
    let daemons = [site.daemon_with(&config), site.daemon()];
    let jobs = ["requested", "planned", "half_exported", "again", "half_settled", "cancelled", "committed"];
    let mut expected = BTreeSet::new();
    let mut pairs = Vec::new();
    for job in jobs {
        let last = site.broker.events.wait_final(job, PATIENCE);
        let status = if job == "cancelled" { "cancelled" } else { "completed" };
        assert_eq!(last.kind(), format!("job.{status}"), "{}", last.body);
        let archive = site.exports.archive(job);
        assert_eq!(archive["status"], status, "{archive}");
        assert_eq!(archive["tables"].as_array().map(Vec::len), Some(TABLES.len()), "{archive}");
        pairs.extend(assert_continued(&left, &archive, job));
        if status == "completed" {
            expected.extend(TABLES.map(|table| format!("{job}_{table}")));
        }
    }
    site.assert_all_equal(&pairs);
    // A cancelled job keeps what was published and adds nothing.
    expected.extend(left.published.iter().filter(|d| d.starts_with("cancelled_")).cloned());
    assert_eq!(site.exports.directories(), expected, "each table once");
    let config = site.write("cli.toml", &site.config());
    for job in ["half_settled", "committed"] {
        let output = site.run(&["verify", "--config", &config, job]);
        assert!(output.status.success(), "{}", said(&output));
    }
    // The same request is recognized, and names that were claimed then still belong to their owners.
    let again = site.export(json!({"tables": ["half_settled.ordered"]}));
    assert_eq!(again.data()["tables"][0]["directory"], "half_settled_ordered_v2", "{}", again.body);
    let mut all = jobs.to_vec();
    all.push(again.job());
    site.assert_sound(&all, daemons);
}

#[test]
fn a_one_shot_export_that_a_release_of_version_1_began_is_resumed() {
    let site = Site::new(database());
    let root = site.path("one-shot");
    let left = lay_out(&site, &root, "one_shot.tar.gz");
    let table = |name: &str, strategy: &str| json!({"table": format!("one_shot.{name}"), "strategy": strategy, "chunk_rows": 10});
    let request = json!({"tables":
        [table("ordered", "range"), table("paged", "ctid"), "one_shot.small", "one_shot.empty"]});
    let path = site.path("request.json");
    std::fs::write(&path, request.to_string()).expect("written");
    let (path, out) = (path.to_string_lossy(), root.to_string_lossy());
    let dsn = site.db.url_at(Services::get().postgres);
    let output = site.run(&["export", "--dsn", &dsn, "--request", &path, "--out", &out, "--workers", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let archives: Vec<Value> = std::fs::read_dir(root.join(".archive/by-id"))
        .expect("a directory")
        .map(|e| {
            serde_json::from_slice(&std::fs::read(e.expect("entry").path()).expect("read")).expect("JSON")
        })
        .collect();
    let [archive] = archives.as_slice() else { panic!("{} jobs", archives.len()) };
    let job = archive["job_id"].as_str().expect("an id");
    assert!(left.whole.contains_key(job), "the job of then goes on: {archive}");
    let mut names: Vec<String> = std::fs::read_dir(&root)
        .expect("a directory")
        .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    assert_eq!(names, ["one_shot_empty", "one_shot_ordered", "one_shot_paged", "one_shot_small"]);
    let files = |name: &str| root.join(format!("one_shot_{name}")).to_string_lossy().into_owned();
    site.assert_all_equal(&TABLES.map(|name| (format!("SELECT * FROM one_shot.{name}"), files(name))));
    none_left("nothing is left in .temp", PATIENCE, || {
        let names = std::fs::read_dir(root.join(".temp")).expect("there").flatten();
        names.map(|e| e.file_name().to_string_lossy().into_owned()).filter(|n| n != "trash").collect()
    });
}
