//! What must hold after every job, however it went. Modelled on a total queue:
//! nothing lost, nothing twice, nothing unexpected, nothing left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::daemon::Daemon;
use super::exports::sha256;
use super::site::Site;
use super::wait::none_left;

const SOON: Duration = Duration::from_secs(15);

#[track_caller]
pub(crate) fn assert_sound(site: &Site, jobs: &[&str], daemons: Vec<Daemon>) {
    let mut archived = BTreeSet::new();
    for job in jobs {
        assert_events(site, job);
        for directory in assert_archive(site, job) {
            assert!(archived.insert(directory.clone()), "{directory} belongs to two tables or jobs");
        }
    }
    assert_eq!(site.exports.directories(), archived, "directories on disk and in archives");
    for event in site.broker.events.all() {
        assert!(event.premature.is_empty(), "{} came before {:?}", event.id(), event.premature);
    }

    none_left("nothing is left in .temp", SOON, || site.exports.leftovers());
    none_left("no chunk, planner or keeper is left on the server", SOON, || site.db.busy_backends());
    for daemon in daemons {
        daemon.stop();
    }
    none_left("no connection is left on the server", SOON, || site.db.all_backends());
    for queue in ["requests", "work"] {
        assert_eq!(site.broker.ready(queue), 0, "messages left in {queue}");
    }
}

/// At least one final event, all of one id; every event with the headers that consumers rely on.
#[track_caller]
fn assert_events(site: &Site, job: &str) {
    let events: Vec<_> = site.broker.events.all().into_iter().filter(|e| e.job() == job).collect();
    let ids: BTreeSet<_> = events.iter().filter(|e| e.is_final()).map(|e| e.id().to_owned()).collect();
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
}

/// The archive agrees with the files; gives the directories of its tables.
#[track_caller]
fn assert_archive(site: &Site, job: &str) -> Vec<String> {
    let archive = site.exports.archive(job);
    assert_eq!(archive["job_id"], *job);
    let mut directories = Vec::new();
    let mut rows = 0;
    for table in archive["tables"].as_array().expect("tables") {
        let Some(directory) = table["directory"].as_str() else { continue };
        directories.push(directory.to_owned());
        rows += table["rows"].as_u64().expect("rows");
        let listed = table["files"].as_array().expect("files");
        let name = |file: &Value| file["file"].as_str().expect("file").to_owned();
        let names: Vec<String> = listed.iter().map(name).collect();
        assert_eq!(site.exports.names(directory), names, "files of {directory}");
        for file in listed {
            let path = site.exports.path(directory).join(name(file));
            assert_eq!(file["sha256"], sha256(&path), "{}", path.display());
            assert_eq!(file["bytes"], path.metadata().expect("metadata").len(), "{}", path.display());
        }
        let of_files: u64 = listed.iter().map(|f| f["rows"].as_u64().expect("rows")).sum();
        assert_eq!(table["rows"], of_files, "rows of {directory}");
    }
    assert_eq!(archive["performance"]["total_rows_exported"], rows, "{archive}");
    directories
}
