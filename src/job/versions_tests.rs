//! Files of other releases: every kind of control file is read.

use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::archive::Archive;
use super::latest::Latest;
use super::look;
use super::outcome::{
    CancelCause, CancelMark, Outcome, PlanFailure, StoredRequest, TableOutcome, TableResult,
};
use super::plan::ClosedPlan;
use super::record::{Cause, Failure, Record, StartMarker};
use super::tests::{planned, record, running};
use crate::destination::FolderDestination;
use crate::destination::folder::consume::{Ready, Target};
use crate::folder::layout::{self, StartName};
use crate::folder::{Folder, FolderError, VERSION};
use crate::message::event::ErrorReport;
use crate::message::{ChunkNo, Epoch, JobId, TableNo};
use crate::plan::ExportPlan;

type Read<'a> = Pin<Box<dyn Future<Output = Result<bool, FolderError>> + 'a>>;

/// One kind of control file, an example of it, and its type.
struct Kind {
    path: String,
    example: Value,
    read: for<'a> fn(&'a Folder, &'a str) -> Read<'a>,
}

macro_rules! kind {
    ($type:ty, $path:expr, $example:expr) => {
        Kind {
            path: $path,
            example: serde_json::to_value($example).expect("JSON"),
            read: |folder, path| Box::pin(async move { Ok(folder.read::<$type>(path).await?.is_some()) }),
        }
    };
}

fn job() -> JobId {
    JobId::parse("j").expect("valid")
}

fn error() -> ErrorReport {
    ErrorReport::permanent("x", "it broke", "mend it")
}

/// All kinds, as a job of one table leaves them. `destination/folder/places.rs` tests the claims of names.
fn kinds() -> Vec<Kind> {
    let (id, at) = (Uuid::from_u128(7), Timestamp::UNIX_EPOCH);
    let (mut state, batch) = running(vec![planned(0, 0, 2)]);
    let job = job();
    let stored = StoredRequest::clone(&state.stored);
    let plan = ExportPlan::clone(state.plan(batch.epoch).expect("planned"));
    let closed = ClosedPlan {
        v: VERSION,
        job: job.clone(),
        epoch: Epoch(2),
        source: plan.source.clone(),
        closed_at: at,
        failed: Vec::new(),
        error: Some(error()),
    };
    let tables = vec![TableOutcome { table: TableNo(0), result: TableResult::Failed { error: error() } }];
    let outcome = Outcome { v: VERSION, at, tables };
    if let Some(batch) = state.batches.get_mut(&batch) {
        batch.outcome = Some(outcome.clone().into());
    }
    let failure =
        Failure { v: VERSION, table: TableNo(0), cause: Cause::Changed, error: error(), instance: id, at };
    let start = StartMarker { v: VERSION, instance: id, table: TableNo(0), alone: false, at };
    let cancel = CancelMark { v: VERSION, why: CancelCause::Request, by: None, at };
    vec![
        kind!(StoredRequest, layout::request(&job), stored),
        kind!(ExportPlan, layout::plan(&job, Epoch(1)), plan),
        kind!(ClosedPlan, layout::plan(&job, Epoch(2)), closed),
        kind!(
            PlanFailure,
            layout::plan_failure(&job, Epoch(2), id),
            PlanFailure { v: VERSION, error: error() }
        ),
        kind!(Record, layout::record(&job, batch, ChunkNo(0)), record(&[0])),
        kind!(Failure, layout::failure(&job, batch, ChunkNo(1), id), failure),
        kind!(StartMarker, layout::start_marker(&job, batch, ChunkNo(1), StartName { id, beat: 0 }), start),
        kind!(
            Target,
            layout::target(&job, Epoch(1), TableNo(0), 1),
            Target { v: VERSION, directory: "s_t0".into(), inode: 1 }
        ),
        kind!(Outcome, layout::outcome(&job, batch), outcome),
        kind!(CancelMark, layout::cancel(&job), cancel),
        kind!(Archive, layout::archive_by_id(&job), Archive::of(&state, at)),
    ]
}

struct Root(PathBuf);

impl Root {
    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.0.join(path)).expect("removed");
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

async fn folder() -> (Folder, Root) {
    let root = std::env::temp_dir().join(format!("adu-versions-{}", Uuid::new_v4()));
    (Folder::init(root.clone(), None).await.expect("initializes"), Root(root))
}

fn with(example: &Value, field: &str, value: Value) -> String {
    let mut changed = example.clone();
    changed[field] = value;
    changed.to_string()
}

/// What a newer release may write: its version may stand anywhere, and nothing else has to be as before.
fn newer(example: &Value) -> Vec<String> {
    let mut other_types = example.clone();
    other_types
        .as_object_mut()
        .expect("an object")
        .values_mut()
        .for_each(|v| *v = json!({"new": [v.clone()]}));
    vec![
        with(example, "v", json!(3)),
        with(&other_types, "v", json!(3)),
        r#"{"v":3}"#.into(),
        r#" { "unknown": {"v": 1, "deep": [[{}]]}, "v": 3 }"#.into(),
        r#"{"v":3,"job":7,"parts":"none","number":1e999,"tables":{"v":1}}"#.into(),
        r#"{"v":18446744073709551615}"#.into(),
    ]
}

fn damaged(example: &Value) -> Vec<String> {
    let mut without = example.clone();
    without.as_object_mut().expect("an object").remove("v");
    let text = example.to_string();
    let mut texts = vec![
        without.to_string(),
        String::new(),
        "\0\0\0".into(),
        "[3]".into(),
        "3".into(),
        r#"{"v":3"#.into(),
        r#"{"v":2}"#.into(),
        text[..text.len() / 2].into(),
    ];
    texts.extend([json!("3"), json!(0), json!(-3), json!(3.5), json!(null)].map(|v| with(example, "v", v)));
    texts
}

#[tokio::test]
async fn a_newer_file_is_told_as_newer_and_never_as_damaged() {
    let (folder, root) = folder().await;
    for Kind { path, example, read } in kinds() {
        assert_eq!(example["v"].as_u64().map(|v| v <= u64::from(VERSION)), Some(true), "{path}");
        for v in [1, VERSION] {
            root.write(&path, &with(&example, "v", json!(v)));
            assert!(read(&folder, &path).await.expect("readable"), "{path} of version {v}");
        }
        for text in newer(&example) {
            root.write(&path, &text);
            let found = read(&folder, &path).await;
            assert!(matches!(found, Err(FolderError::Newer { .. })), "{path}: {text}: {found:?}");
        }
        for text in damaged(&example) {
            root.write(&path, &text);
            let found = read(&folder, &path).await;
            assert!(matches!(found, Err(FolderError::Unreadable { .. })), "{path}: {text}: {found:?}");
        }
    }
}

#[tokio::test]
async fn whoever_opens_a_job_with_a_newer_file_is_told_so() {
    let (folder, root) = folder().await;
    let (state, _) = running(vec![planned(0, 0, 2)]);
    let owner = state.stored.owner.clone();
    let job = job();
    let open = async || look::open(&folder, &job, &owner, Duration::ZERO).await.map(|_| ());
    let kinds = kinds();
    for kind in kinds.iter().take(2) {
        root.write(&kind.path, &kind.example.to_string());
    }
    let mut opened = 0;
    for Kind { path, example, .. } in &kinds {
        if path.contains(".start-") || path.contains(".target-") {
            continue;
        }
        let before = root.0.join(path).exists();
        root.write(path, r#"{"unknown":{},"v":3}"#);
        let found = open().await;
        assert!(matches!(found, Err(FolderError::Newer { .. })), "{path}: {found:?}");
        root.remove(path);
        if before {
            root.write(path, &example.to_string());
        }
        open().await.expect("it was only that file");
        opened += 1;
    }
    assert_eq!(opened, 9);
}

#[tokio::test]
async fn targets_and_archives_of_a_newer_release_stop_whoever_needs_them() {
    let (folder, root) = folder().await;
    let job = job();
    root.write(&layout::target(&job, Epoch(1), TableNo(0), 1), r#"{"v":3,"where":"elsewhere"}"#);
    let ready = Ready { job: &job, epoch: Epoch(1), id: Uuid::nil(), table: TableNo(0), part: None };
    let tried = folder.publish(&ready, 1, "s_t0").await;
    assert!(matches!(tried, Err(FolderError::Newer { .. })), "it may stand elsewhere: {tried:?}");
    root.write(&format!("{}/x", layout::ready_table(&job, Epoch(1), Uuid::nil(), TableNo(0))), "");
    let tried = folder.publish(&ready, 1, "s_t0").await;
    assert!(matches!(tried, Err(FolderError::Newer { .. })), "{tried:?}");
    assert!(!root.0.join("s_t0").exists(), "nothing was published");
    root.write(&layout::archive_by_id(&job), r#"{"v":3}"#);
    let repaired = Latest::default().repair(&folder, &FolderDestination::new(folder.clone()), &|| {}).await;
    assert!(matches!(repaired, Err(FolderError::Newer { .. })), "{repaired:?}");
}

#[tokio::test]
async fn a_newer_file_that_was_met_keeps_all_of_a_process_away_while_it_stands() {
    let (folder, root) = folder().await;
    let path = layout::archive_by_id(&job());
    root.write(&path, r#"{"v":3}"#);
    folder.guard().await.expect("nobody has met it");
    assert!(folder.read::<Archive>(&path).await.is_err());
    let other_role = folder.clone();
    for _ in 0..2 {
        let guarded = other_role.guard().await;
        assert!(matches!(guarded, Err(FolderError::Newer { .. })), "{guarded:?}");
    }
    other_role.identify().await.expect("it is the folder that it was");
    root.remove(&path);
    other_role.guard().await.expect("it is gone");
}
