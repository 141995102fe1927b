//! Pictures, maps, timelines and troubles, on jobs built by hand.

use std::time::Duration;

use super::chunks::ChunksView;
use super::overview::{Broker, DaemonView, Severity, SnapshotView, SourceView, Standing, Storage, Trouble};
use super::picture::{ChunkState, JobBrief, Phase, Running, TableState};
use super::scene::{self, Scene, now};
use super::trouble::{Signs, troubles};
use super::{Picture, Wanted, tables};
use crate::folder::files::archive::Archive;
use crate::folder::files::outcome::TableResult;
use crate::folder::files::record::{Cause, Failure};
use crate::message::{ChunkNo, JobId, SourceName};

#[test]
fn a_running_job_shows_what_each_chunk_does() {
    let mut state = scene::job("j", 3, 4);
    scene::export(&mut state, 2, |table, chunk| table == 0 || chunk.0 == 0);
    let second = state.batches.values_mut().nth(1).expect("a batch");
    let failure = Failure {
        v: 2,
        table: second.tables[0],
        cause: Cause::Permanent,
        error: scene::refused(),
        instance: scene::daemon(1).instance,
        at: now(),
    };
    second.fail(uuid::Uuid::from_u128(5), ChunkNo(3), failure);
    let running = scene::running(&state, &[(1, 1), (2, 2)]);
    let picture = Picture::of_state(&state, &running, now());
    let states: Vec<Vec<ChunkState>> = (0..3)
        .map(|table| picture.chunks.iter().filter(|c| c.table == table).map(|c| c.state).collect())
        .collect();
    use ChunkState::{Done, Failed, Running as Runs, Waiting};
    assert_eq!(
        states,
        [vec![Done; 4], vec![Done, Runs, Waiting, Failed], vec![Done, Waiting, Runs, Waiting]]
    );
    let second = &picture.tables[1];
    assert_eq!(
        (second.state, second.rows),
        (TableState::Running, 1_250_000),
        "with the rows of the chunk that runs"
    );
    assert!(second.error.is_some() && picture.brief.error.is_some());
    assert_eq!((picture.brief.status, picture.brief.chunks_running), (Phase::Running, 2));
    assert!(picture.brief.seconds_left.is_some_and(|left| left > 0.0));
    let view = ChunksView::of(&picture, None);
    assert_eq!((view.map.done, view.map.running, view.map.failed, view.map.waiting), (6, 2, 1, 3));
    let bars: usize = view.timeline.daemons.iter().map(|d| d.bars.len()).sum();
    assert_eq!(bars, 8, "what is done and what runs");
}

#[test]
fn the_picture_of_a_job_survives_its_workspace() {
    let mut state = scene::job("j", 3, 4);
    scene::export(&mut state, 2, |table, chunk| table != 2 || chunk.0 < 3);
    let before = ChunksView::of(&Picture::of_state(&state, &Running::default(), now()), None);
    scene::settle(&mut state, |table| table == 2);
    let archive = Archive::of(&state, now());
    let text = serde_json::to_string(&archive).expect("JSON");
    let archive: Archive = serde_json::from_str(&text).expect("readable");
    let picture = Picture::of_archive(&archive);
    let after = ChunksView::of(&picture, None);
    assert_eq!((after.timeline, after.longest), (before.timeline, before.longest));
    assert_eq!((after.map.done, after.map.failed), (11, 1));
    assert_eq!(picture.brief.tables_failed, 1);

    // Older releases kept no times.
    let mut older: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    older.as_object_mut().expect("an object").remove("timeline").expect("a timeline");
    let older: Archive = serde_json::from_value(older).expect("readable");
    let view = ChunksView::of(&Picture::of_archive(&older), None);
    assert_eq!((view.map.done, view.timeline.daemons.len()), (8, 0));
}

#[test]
fn work_that_is_done_again_stays_in_the_timeline_and_leaves_the_map() {
    let mut state = scene::job("j", 1, 2);
    scene::export(&mut state, 1, |_, chunk| chunk.0 == 0);
    scene::settle(&mut state, |_| false);
    for batch in state.batches.values_mut() {
        let mut outcome = (**batch.outcome.as_ref().expect("settled")).clone();
        outcome.tables[0].result = TableResult::Abandoned { cause: Cause::Changed };
        batch.outcome = Some(outcome.into());
    }
    let first = state.plans[0].export().expect("a plan").clone();
    let again = crate::plan::ExportPlan { epoch: state.next_epoch(), ..(*first).clone() };
    state.add_plan(again);
    let picture = Picture::of_state(&state, &Running::default(), now());
    let view = ChunksView::of(&picture, None);
    assert_eq!((view.map.chunks, view.map.done, picture.tables[0].epoch), (2, 0, 2));
    let bars = &view.timeline.daemons[0].bars;
    assert!(bars.len() == 1 && bars[0].in_vain, "{bars:?}");
}

#[test]
fn many_chunks_are_drawn_as_how_many_ran_at_once() {
    let picture = scene::large(1, 20_000);
    let view = ChunksView::of(&picture, None);
    for daemon in &view.timeline.daemons {
        assert!(daemon.bars.is_empty() && daemon.busy.len() == 240);
        let (from, to) = (view.timeline.from.expect("a time"), view.timeline.to.expect("a time"));
        let step = to.duration_since(from).as_secs_f64() / 240.0;
        let drawn: f64 = daemon.busy.iter().map(|n| f64::from(*n) * step).sum();
        assert!(
            (drawn - daemon.seconds).abs() < daemon.seconds * 0.02 + 1.0,
            "{drawn} of {}",
            daemon.seconds
        );
    }
    assert_eq!(view.longest.len(), 10);
    assert!(view.longest[0].seconds >= view.longest[9].seconds && view.longest[0].times_median >= 1.0);
}

#[test]
fn tables_that_need_attention_come_first() {
    let mut state = scene::job("j", 250, 1);
    scene::export(&mut state, 1, |_, _| true);
    scene::settle(&mut state, |table| table == 77);
    let picture = Picture::of_archive(&Archive::of(&state, now()));
    let of = |wanted: Wanted| tables::JobTables::of(&picture, &wanted);
    let first = of(Wanted { page: 1, ..Wanted::default() });
    assert_eq!((first.tables[0].place, first.tables.len(), first.pages), (77, 100, 3));
    assert_eq!(
        of(Wanted { page: 9, ..Wanted::default() }).tables.len(),
        50,
        "a page behind the last is the last"
    );
    assert_eq!(of(Wanted { page: 1, search: Some("THEM_24".into()), state: None }).found, 11);
    assert_eq!(of(Wanted { page: 1, search: None, state: Some(TableState::Failed) }).found, 1);
}

fn warehouse() -> SourceName {
    SourceName::parse("warehouse").expect("valid")
}

/// A fleet in which nothing is wrong.
struct Calm {
    daemons: Vec<DaemonView>,
    source: SourceView,
    storage: Storage,
    broker: Broker,
    running: Vec<JobBrief>,
    ended: Vec<JobBrief>,
    damaged: Vec<String>,
    looked_at: Option<jiff::Timestamp>,
    is_slow: bool,
}

impl Calm {
    fn new() -> Self {
        let daemon = |number: u128| DaemonView {
            instance: scene::daemon(number).instance,
            host: scene::daemon(number).host,
            version: "1".into(),
            standing: Standing::Alive,
            here: number == 1,
            coordinates: number == 1,
            slots: 4,
            cores: 4,
            silent_seconds: 1.0,
            started_at: None,
            sources: vec![warehouse()],
            tasks: 0,
            holding: vec![],
            snapshots: 1,
            rows_per_second: 0.0,
            bytes_per_second: 0.0,
            obstacles: vec![],
        };
        let mut running = scene::job("runs", 1, 2);
        scene::export(&mut running, 1, |_, chunk| chunk.0 == 0);
        let running = Picture::of_state(&running, &Running::default(), now()).brief;
        let snapshot = SnapshotView {
            lineage: uuid::Uuid::from_u128(77),
            job_id: running.job_id.clone(),
            age_seconds: 100.0,
            allowed_seconds: Some(1000.0),
            needs_sessions: true,
            held_by: vec!["export-1".into()],
        };
        Self {
            daemons: vec![daemon(1), daemon(2)],
            source: SourceView {
                source: warehouse(),
                kind: "postgres".into(),
                pool: Default::default(),
                pool_size: 1,
                daemons: 2,
                chunks_out: 0,
                chunks_allowed: 8,
                allowed_by: String::new(),
                jobs: 1,
                snapshots: vec![snapshot],
            },
            storage: Storage {
                root: "/data".into(),
                id: uuid::Uuid::nil(),
                free_bytes: Some(100),
                min_free_bytes: 10,
                paused: false,
                error: None,
            },
            broker: Broker {
                prefix: "p".into(),
                connected: true,
                blocked: false,
                coordinator: Some("export-1".into()),
            },
            running: vec![JobBrief { moved_at: Some(now()), ..running }],
            ended: vec![],
            damaged: vec![],
            looked_at: Some(now()),
            is_slow: false,
        }
    }

    fn troubles(&self) -> Vec<Trouble> {
        troubles(&Signs {
            now: now(),
            settled: true,
            stalled_after: Duration::from_secs(600),
            daemons: &self.daemons,
            sources: std::slice::from_ref(&self.source),
            storage: &self.storage,
            broker: &self.broker,
            running: &self.running,
            ended: &self.ended,
            damaged: &self.damaged,
            looked_at: self.looked_at,
            is_slow: self.is_slow,
        })
    }
}

/// A job that ended. Its second table failed, unless it is the retry of another.
fn ended(id: &str, retry_of: Option<&str>) -> JobBrief {
    let mut state = scene::job(id, 2, 1);
    scene::export(&mut state, 1, |_, _| true);
    scene::settle(&mut state, |table| retry_of.is_none() && table == 1);
    let brief = JobBrief::of_archive(&Archive::of(&state, now()));
    JobBrief { retry_of: retry_of.map(|of| JobId::parse(of).expect("valid")), ..brief }
}

type Change = fn(&mut Calm);

#[test]
fn each_trouble_is_told_once_with_its_remedy() {
    assert_eq!(Calm::new().troubles(), [], "nothing is wrong");
    let cases: [(&str, &str, Change); 14] = [
        ("full", "disk-full", |c| c.storage.free_bytes = Some(9)),
        ("nearly full", "alert-disk-nearly-full", |c| c.storage.free_bytes = Some(19)),
        ("what is shown of jobs is 40 s old", "the-status-page", |c| {
            c.looked_at = Some(now() - jiff::SignedDuration::from_secs(40));
            c.is_slow = true;
        }),
        ("jobs are not known yet", "the-status-page", |c| {
            (c.looked_at, c.is_slow) = (None, true);
        }),
        ("cannot work: broker: is away", "alert-broker-disconnected", |c| {
            c.daemons[1].obstacles = vec!["broker: is away".into()]
        }),
        ("silent for 5 min", "alert-daemon-down", |c| {
            c.daemons[1].standing = Standing::Silent;
            c.daemons[1].silent_seconds = 300.0
        }),
        ("no daemon says that it coordinates", "alert-no-coordinator", |c| c.broker.coordinator = None),
        ("different versions: 1, 2", "upgrades", |c| c.daemons[1].version = "2".into()),
        ("no chunk of job runs ended for 20 min", "alert-job-stalled", |c| {
            c.running[0].moved_at = Some(now() - jiff::SignedDuration::from_mins(20))
        }),
        ("job runs has waited for 30 min", "alert-job-stalled", |c| {
            let running = c.running[0].clone();
            // A job of another source does not take its place.
            let source = SourceName::parse("elsewhere").expect("valid");
            c.daemons[1].sources.push(source.clone());
            c.running.push(JobBrief { source, ..running.clone() });
            c.running[0] = JobBrief { status: Phase::Waiting, moved_at: None, planned_at: None, ..running };
        }),
        // The daemon that answers has other sources; who has this one is dead.
        ("no living daemon has the source elsewhere: its jobs wait", "alert-job-stalled", |c| {
            c.running[0].source = SourceName::parse("elsewhere").expect("valid");
            let gone = DaemonView {
                standing: Standing::Leaving,
                sources: vec![c.running[0].source.clone()],
                ..c.daemons[1].clone()
            };
            c.daemons.push(gone);
        }),
        ("no daemon holds the snapshot", "alert-snapshot-session-lost", |c| {
            c.source.snapshots[0].held_by.clear()
        }),
        ("at 16 min 40 s the job is ended", "alert-old-snapshot", |c| {
            c.source.snapshots[0].age_seconds = 900.0
        }),
        ("1 table of job broke failed: permission denied", "alert-chunks-failing", |c| {
            c.ended = vec![ended("broke", None)]
        }),
    ];
    for (what, section, change) in cases {
        let mut calm = Calm::new();
        change(&mut calm);
        let found = calm.troubles();
        assert!(
            found.len() == 1 && found[0].what.contains(what) && found[0].section == section,
            "{what}: {found:?}"
        );
        assert!(found[0].remedy.is_some(), "{what}");
    }
    let mut calm = Calm::new();
    calm.broker.connected = false;
    calm.daemons[1].standing = Standing::Silent;
    calm.source.snapshots[0].held_by.clear();
    calm.running[0].source = SourceName::parse("elsewhere").expect("valid");
    assert_eq!(calm.troubles(), [], "without the broker nobody is heard");
    let mut calm = Calm::new();
    calm.ended = vec![ended("again", Some("broke")), ended("broke", None)];
    assert_eq!(calm.troubles(), [], "what was retried is no trouble any more");
    calm.daemons[1].version = "2".into();
    calm.storage.free_bytes = Some(1);
    let severities: Vec<Severity> = calm.troubles().iter().map(|t| t.severity).collect();
    assert_eq!(severities, [Severity::Alarm, Severity::Warning], "the worst comes first");
}

#[tokio::test]
async fn any_daemon_knows_all_as_soon_as_they_have_spoken() {
    let scene = Scene::new(false).await;
    let state = scene::job("j", 2, 3);
    scene.store(&state).await;
    for number in 1..=3 {
        let mut presence = scene::presence(number);
        presence.doing = vec![scene::doing(state.id(), 1, u32::try_from(number).expect("small") - 1)];
        scene.fleet.heard(presence);
    }
    let mut left = scene::presence(3);
    left.alive.leaving = true;
    scene.fleet.heard(left);
    let view = scene.status.overview(1).await;
    let standing: Vec<Standing> = view.daemons.iter().map(|d| d.standing).collect();
    assert_eq!(standing, [Standing::Alive, Standing::Alive, Standing::Leaving]);
    assert_eq!(view.broker.coordinator.as_deref(), Some("export-1"));
    assert_eq!((view.sources[0].chunks_out, view.sources[0].chunks_allowed), (2, 16));
    assert_eq!(view.sources[0].snapshots[0].held_by, ["export-1", "export-2"]);
    assert_eq!(view.running[0].chunks_running, 2);
    assert_eq!(
        view.daemons[1].holding[0].what,
        "public.table_with_a_name_as_long_as_people_like_to_give_them_1, chunk 1"
    );
    assert_eq!(view.rates.rows_per_second, 2e6);
}

#[tokio::test]
async fn an_archive_of_a_newer_release_is_told_and_keeps_no_daemon_from_working() {
    let scene = Scene::new(false).await;
    let mut ended = scene::job("ended", 1, 1);
    scene::export(&mut ended, 1, |_, _| true);
    scene::settle(&mut ended, |_| false);
    scene.commit(&ended).await;
    let root = scene.context.folder.root();
    let names = scene.context.folder.archive_names().await.expect("listed");
    let path = root.join(".archive/jobs").join(&names[0]);
    let good = std::fs::read_to_string(&path).expect("an archive");
    let mut newer: serde_json::Value = serde_json::from_str(&good).expect("JSON");
    newer["v"] = 99.into();
    std::fs::write(&path, newer.to_string()).expect("written");
    let view = scene.status.overview(1).await;
    let told = view.troubles.iter().any(|trouble| trouble.what.contains("has version 99"));
    assert!(told && view.storage.error.is_none() && view.ended.is_empty(), "{:?}", view.troubles);
    scene.context.folder.guard().await.expect("fit for work");
    std::fs::write(&path, good).expect("repaired");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let view = scene.status.overview(1).await;
    assert_eq!((view.troubles.len(), view.ended.len()), (0, 1), "{:?}", view.troubles);
}

#[tokio::test]
async fn a_slow_look_is_no_alarm_and_claims_nothing_of_jobs() {
    let scene = Scene::new(false).await;
    scene.store(&scene::job("runs", 1, 1)).await;
    let before = scene.status.overview(1).await;
    assert_eq!((before.jobs.running, before.looked_at), (1, Some(before.at)));
    let fresh = Scene::new(false).await;
    fresh.store(&scene::job("runs", 1, 1)).await;
    let held = (scene.status.hold().await, fresh.status.hold().await);
    let (old, none) = tokio::join!(scene.status.overview(1), fresh.status.overview(1));
    drop(held);
    assert_eq!((old.jobs.running, old.looked_at), (1, before.looked_at), "what was known stays");
    assert_eq!((none.jobs.running, none.looked_at), (0, None));
    for (view, says) in [(&old, "what is shown of jobs is"), (&none, "jobs are not known yet")] {
        assert_eq!(view.storage.error, None);
        let told: Vec<_> = view.troubles.iter().filter(|t| t.what.contains(says)).collect();
        assert!(told.len() == 1 && told[0].severity == Severity::Warning, "{:?}", view.troubles);
        assert!(view.troubles.iter().all(|t| !t.what.contains("cannot be read")), "{:?}", view.troubles);
    }
    let page = |view| crate::http::pages::overview::page(view).sections.into_iter().map(|(_, s)| s.0);
    let (old, none) = (page(&old).collect::<String>(), page(&none).collect::<String>());
    assert!(old.contains("/jobs/runs") && !old.contains("No job runs"), "{old}");
    assert!(none.contains("Not known") && !none.contains("No job runs"), "{none}");
    assert!(!none.contains("No job has ended"), "{none}");
}
