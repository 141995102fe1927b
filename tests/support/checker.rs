//! What must hold after every job, however it ended. The model is a total queue: nothing is lost, doubled,
//! unexpected or left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;

use super::daemon::Daemon;
use super::exports::sha256;
use super::site::Site;
use super::wait::none_left;

const SOON: Duration = Duration::from_secs(15);

#[track_caller]
pub(crate) fn assert_sound(site: &Site, jobs: &[&str], daemons: Vec<Daemon>) {
    assert_folder(site, jobs);
    for job in jobs {
        assert_events(site, job);
    }
    for event in site.broker.events.all() {
        assert!(event.premature.is_empty(), "{} came before {:?}", event.id(), event.premature);
    }
    none_left("no chunk, planner or keeper is left on the server", SOON, || site.db.busy_backends());
    assert_idle(site, &daemons);
    for daemon in daemons {
        daemon.stop();
    }
    assert_disconnected(site);
    for queue in ["requests", "work"] {
        assert_eq!(site.broker.ready(queue), 0, "messages left in {queue}");
    }
}

/// What holds without a broker as well: after one-shot exports into the root of the site, which have ended.
#[track_caller]
pub(crate) fn assert_one_shots_sound(site: &Site, jobs: &[&str]) {
    assert_folder(site, jobs);
    assert_disconnected(site);
}

#[track_caller]
fn assert_disconnected(site: &Site) {
    none_left("no connection is left on the server", SOON, || site.db.all_backends());
}

/// Archives, directories, files and `.latest` agree, and nothing is left of the work.
#[track_caller]
fn assert_folder(site: &Site, jobs: &[&str]) {
    let mut archived = BTreeSet::new();
    for job in jobs {
        for directory in assert_archive(site, job) {
            assert!(archived.insert(directory.clone()), "{directory} belongs to two tables or jobs");
        }
    }
    assert_eq!(site.exports.directories(), archived, "directories on disk and in archives");
    assert_latest(site);
    none_left("nothing is left in .temp", SOON, || site.exports.leftovers());
}

/// No daemon holds a message any more. A message that is held when its daemon stops goes back to its queue.
/// Between the end of a chunk and its acknowledgement nothing shows that a message is held, so this checks
/// twice.
#[track_caller]
fn assert_idle(site: &Site, daemons: &[Daemon]) {
    let mut idle = 0;
    none_left("every message is taken and acknowledged", SOON, || {
        let queued =
            ["requests", "work"].map(|queue| (queue.to_owned(), u64::from(site.broker.ready(queue))));
        let held = daemons.iter().map(|daemon| (daemon.name.clone(), daemon.chunks_in_flight()));
        let busy: Vec<_> = queued.into_iter().chain(held).filter(|(_, messages)| *messages > 0).collect();
        idle = if busy.is_empty() { idle + 1 } else { 0 };
        if idle == 1 {
            std::thread::sleep(Duration::from_millis(200));
        }
        let shown = busy.iter().map(|(who, messages)| format!("{who}: {messages}"));
        if idle < 2 { shown.chain(["looks once more".to_owned()]).collect() } else { Vec::new() }
    });
}

/// A job has at least one final event, and all its final events have one id. Every event has the headers that
/// consumers rely on.
#[track_caller]
fn assert_events(site: &Site, job: &str) {
    let events: Vec<_> = site.broker.events.all().into_iter().filter(|e| e.job() == job).collect();
    // A job that is archived was accepted. A rejection under its id answers another message.
    let ends = || events.iter().filter(|e| e.is_final() && e.kind() != "job.rejected");
    let ids: BTreeSet<_> = ends().map(|e| e.id().to_owned()).collect();
    assert_eq!(ids.len(), 1, "final events of {job}: {ids:?}");
    let mut bodies = BTreeMap::new();
    for event in &events {
        assert_eq!(event.body["specversion"], "1.0");
        assert_eq!(event.message_id.as_deref(), Some(event.id()));
        assert_eq!(event.content_type.as_deref(), Some("application/cloudevents+json"));
        assert!(event.routing_key.ends_with(&format!(".{job}")), "{}", event.routing_key);
        let first = bodies.entry(event.id().to_owned()).or_insert_with(|| event.kind().to_owned());
        assert_eq!(first, event.kind(), "one id, one meaning");
    }
    let archive = site.exports.archive(job);
    let told: BTreeSet<_> = ends().map(|e| e.kind().trim_start_matches("job.").to_owned()).collect();
    assert!(
        told.iter().eq(archive["status"].as_str()),
        "{told:?} was told, the archive says {}",
        archive["status"]
    );
    for event in events.iter().filter(|e| e.kind() == "table.completed") {
        let told = &event.data()["tables"][0];
        let same = |t: &&Value| t["table_name"] == told["table"] && t["directory"] == told["directory"];
        assert!(tables(&archive).iter().any(|t| same(&t)), "{told} is not in the archive");
    }
}

fn tables(archive: &Value) -> &Vec<Value> {
    archive["tables"].as_array().expect("an archive has tables")
}

/// The archive agrees with the files. Returns the directories of its tables.
#[track_caller]
fn assert_archive(site: &Site, job: &str) -> Vec<String> {
    let archive = site.exports.archive(job);
    assert_eq!(archive["job_id"], *job);
    assert_statuses(&archive);
    let mut directories = Vec::new();
    let mut rows = 0;
    for table in tables(&archive) {
        let Some(directory) = table["directory"].as_str() else { continue };
        directories.push(directory.to_owned());
        rows += table["rows"].as_u64().expect("rows");
        let listed = table["files"].as_array().expect("files");
        let name = |file: &Value| file["file"].as_str().expect("file").to_owned();
        let mut names: Vec<String> = listed.iter().map(name).collect();
        if table["partition_by"].is_array() {
            // The parts of a chunk stand in several directories.
            names.sort_by(|a, b| a.split('/').cmp(b.split('/')));
        }
        assert_eq!(site.exports.files(directory), names, "files of {directory}");
        for file in listed {
            let path = site.exports.path(directory).join(name(file));
            assert_eq!(file["sha256"], sha256(&path), "{}", path.display());
            assert_eq!(file["bytes"], path.metadata().expect("metadata").len(), "{}", path.display());
            assert_eq!(
                lineage(&path).as_deref(),
                table["lineage"].as_str(),
                "snapshot of {}",
                path.display()
            );
        }
        let of_files: u64 = listed.iter().map(|f| f["rows"].as_u64().expect("rows")).sum();
        assert_eq!(table["rows"], of_files, "rows of {directory}");
    }
    assert_eq!(archive["performance"]["total_rows_exported"], rows, "{archive}");
    directories
}

/// Every table ended once, as the job's status says. At most five snapshots were used under which no table was
/// finished.
#[track_caller]
fn assert_statuses(archive: &Value) {
    let names: BTreeSet<_> = tables(archive).iter().map(|t| t["table_name"].as_str()).collect();
    assert_eq!(names.len(), tables(archive).len(), "a table is archived twice: {archive}");
    let count = |status: &str| tables(archive).iter().filter(|t| t["status"] == status).count();
    let (completed, failed, cancelled) = (count("completed"), count("failed"), count("cancelled"));
    assert_eq!(completed + failed + cancelled, names.len(), "{archive}");
    let consistent = match archive["status"].as_str().expect("status") {
        "completed" => failed + cancelled == 0,
        "partial" => completed > 0 && failed > 0 && cancelled == 0,
        "failed" => completed + cancelled == 0,
        "cancelled" => true,
        _ => false,
    };
    assert!(consistent, "{archive}");
    for table in tables(archive) {
        assert_eq!(table["directory"].is_string(), table["status"] == "completed", "{table}");
        assert_eq!(table["error"].is_object(), table["status"] == "failed", "{table}");
    }
    let snapshots = archive["snapshots"].as_object().expect("snapshots");
    let of_finished: BTreeSet<_> = tables(archive)
        .iter()
        .filter(|t| t["status"] == "completed")
        .filter_map(|t| t["lineage"].as_str())
        .collect();
    let fruitless = snapshots.keys().filter(|lineage| !of_finished.contains(lineage.as_str())).count();
    assert!(fruitless <= 5, "{snapshots:?}");
    for lineage in tables(archive).iter().filter_map(|t| t["lineage"].as_str()) {
        assert!(snapshots.contains_key(lineage), "{lineage} is not among {snapshots:?}");
    }
}

/// The snapshot of a file's rows, from the metadata of the file.
fn lineage(path: &Path) -> Option<String> {
    let reader =
        SerializedFileReader::new(File::open(path).expect("open a part")).expect("a part is Parquet");
    let pairs = reader.metadata().file_metadata().key_value_metadata()?;
    pairs.iter().find(|p| p.key == "adu.lineage")?.value.clone()
}

/// `.latest` points to the full export with the newest snapshot.
#[track_caller]
fn assert_latest(site: &Site) {
    let mut newest: BTreeMap<String, (Timestamp, Timestamp, String)> = BTreeMap::new();
    for archive in site.exports.archives() {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let time = |value: &Value| value.as_str().and_then(|t| t.parse().ok());
        for table in tables(&archive).iter().filter(|t| t["full"] == true && t["status"] == "completed") {
            if table["output_directory"].as_str().is_some_and(|d| !d.is_empty()) {
                continue;
            }
            let taken = time(&table["snapshot_time"]).or_else(|| time(&archive["received_at"]));
            let committed = time(&archive["committed_at"]).expect("committed_at");
            let export = (taken.expect("a time"), committed, text(&table["directory"]));
            let known = newest.entry(text(&table["base"])).or_insert_with(|| export.clone());
            *known = known.clone().max(export);
        }
    }
    for (base, (.., directory)) in newest {
        assert_eq!(site.exports.latest(&base), Some(directory), ".latest/{base}");
    }
}
