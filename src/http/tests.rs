use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::folder::files::archive::Archive;
use crate::message::ChunkNo;
use crate::metrics::Metrics;
use crate::status::scene::{self, Scene};
use crate::status::{ChunksView, Picture, Wanted};

/// What a page may have at most.
const MOST_BYTES: usize = 300_000;

fn views(scene: &Scene) -> Views {
    Views::new(Arc::new(Metrics::new()), Health::new(), Arc::clone(&scene.status))
}

async fn bind(listen: &str, views: Views) -> Result<Option<HttpServer>, HttpError> {
    HttpServer::bind(&HttpConfig { listen: listen.into(), details: false }, views).await
}

/// Head and body of one request.
async fn ask(address: SocketAddr, request_line: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let request = format!("{request_line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

/// A server that answers until it is dropped.
struct Served {
    address: SocketAddr,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<Result<(), HttpError>>,
}

impl Served {
    async fn new(views: Views) -> Self {
        let server = bind("127.0.0.1:0", views).await.expect("binds").expect("on");
        let (address, stop) = (server.address(), CancellationToken::new());
        let serving = tokio::spawn(server.serve(stop.clone()));
        Self { address, stop, serving }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let (head, body) = ask(self.address, &format!("GET {path}")).await;
        (head[9..12].parse().expect("a status"), body)
    }

    async fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }
}

#[tokio::test]
async fn what_is_asked_is_answered_and_nothing_can_be_changed() {
    let scene = Scene::new(false).await;
    let mut state = scene::job("known", 3, 2);
    scene::export(&mut state, 2, |table, _| table == 0);
    scene.store(&state).await;
    let views = views(&scene);
    let served = Served::new(views.clone()).await;

    let (status, body) = served.get("/metrics").await;
    assert!(status == 200 && body.contains("adu_export_build_info"), "{status} {body}");
    assert_eq!(served.get("/healthz").await.0, 200);
    let (status, body) = served.get("/readyz").await;
    assert!(status == 503 && body.contains("is starting"), "{status} {body}");
    views.health.clear("daemon");
    assert_eq!(served.get("/readyz").await.0, 200);
    let jobs = served.json("/api/jobs").await;
    assert_eq!(
        (&jobs["running"][0]["job_id"], &jobs["running"][0]["progress"]["chunks_done"]),
        (&json!("known"), &json!(2))
    );
    assert_eq!(served.json("/api/jobs/known").await["status"], "running");
    assert_eq!(served.json("/api/jobs/known/tables?state=waiting").await["found"], 2);
    assert_eq!(served.json("/api/jobs/known/chunks?table=0").await["map"]["done"], 2);
    assert_eq!(served.json("/api/tables").await["found"], 0);
    assert_eq!(served.json("/api/overview").await["jobs"]["running"], 1);
    for (path, wanted, word) in [
        ("/api/jobs/other.r1", 404, "other.r1"),
        ("/api/jobs/..%2fx", 400, "job"),
        ("/api/jobs/known/tables?state=odd", 400, "odd"),
        ("/api/tables?page=0", 400, "page"),
        ("/api/tables?pages=1", 400, "pages"),
        ("/api/jobs/known/chunks?table=9", 404, "9"),
        ("/api/nothing", 404, "openapi"),
        ("/jobs/other", 404, "Not found"),
        ("/jobs/known/tables/9", 404, "place 9"),
        ("/jobs/known?state=odd", 400, "Not understood"),
        ("/nothing", 404, "no such page"),
        ("/live?of=nothing", 400, "begins with /"),
        ("/live?of=/nothing", 404, "no such page"),
    ] {
        let (status, body) = served.get(path).await;
        assert!(status == wanted && body.contains(word), "{path}: {status} {body}");
    }
    for path in
        ["/", "/tables", "/jobs/known", "/jobs/known/tables/0", "/operations", "/style.css", "/live.js"]
    {
        let (head, _) = ask(served.address, &format!("GET {path}")).await;
        assert!(head.contains(" 200 ") && head.contains("default-src 'none'"), "{path}: {head}");
        assert!(ask(served.address, &format!("DELETE {path}")).await.0.contains(" 405 "), "{path}");
    }
    assert!(ask(served.address, "DELETE /api/jobs/known").await.0.contains(" 405 "));
    std::fs::write(scene.context.folder.root().join(".temp/job_known/plans/e1.json"), "{").expect("damaged");
    let (status, body) = served.get("/api/jobs/known").await;
    assert_eq!(status, 200, "what was read before is known: {body}");

    served.stop.cancel();
    served.serving.await.expect("no panic").expect("orderly");
    assert!(TcpStream::connect(served.address).await.is_err(), "the port is free again");
}

#[tokio::test]
async fn filters_and_labels_and_words_of_them_in_errors_are_shown_only_with_details() {
    let has_request = |path: &str| {
        matches!(
            path,
            "/jobs/running" | "/jobs/ended" | "/api/jobs" | "/api/jobs/running" | "/api/jobs/ended"
        )
    };
    for details in [false, true] {
        let mut told = 0;
        let scene = Scene::new(details).await;
        let running = scene::job("running", 1, 1);
        scene.store(&running).await;
        let batch = *running.batches.keys().next().expect("a batch");
        let failure = crate::folder::files::record::Failure {
            v: 2,
            table: batch.batch.first(),
            cause: crate::folder::files::record::Cause::Permanent,
            error: scene::refused(),
            instance: scene::daemon(1).instance,
            at: scene::now(),
        };
        let workspace = scene.context.folder.job(running.id());
        workspace
            .create_failure(batch, ChunkNo(0), uuid::Uuid::from_u128(9), &failure)
            .await
            .expect("failed");
        let mut ended = scene::job("ended", 2, 2);
        scene::export(&mut ended, 1, |_, _| true);
        scene::settle(&mut ended, |table| table == 1);
        scene.commit(&ended).await;
        let served = Served::new(views(&scene)).await;
        for path in [
            "/",
            "/tables",
            "/jobs/running",
            "/jobs/ended",
            "/jobs/ended/tables/0",
            "/jobs/ended/tables/1",
            "/jobs/running/tables/0",
            "/api/overview",
            "/api/jobs",
            "/api/jobs/running",
            "/api/jobs/ended",
            "/api/jobs/ended/tables",
            "/api/jobs/ended/chunks",
            "/api/tables",
        ] {
            let (status, body) = served.get(path).await;
            assert_eq!(status, 200, "{path}: {body}");
            assert_eq!(
                body.contains("nightingale"),
                details && has_request(path),
                "{path} with details = {details}"
            );
            let has_words = details && (has_request(path) || body.contains("permission denied"));
            assert_eq!(body.contains("codeword"), has_words, "{path} with details = {details}: {body}");
            if !details && body.contains("permission denied") {
                told += 1;
            }
            let is_page = !path.starts_with("/api/");
            assert!(!(is_page && body.contains("<b>orders")), "{path} is escaped");
        }
        assert!(details || told >= 8, "{told} answers have the errors");
    }
}

#[tokio::test]
async fn a_viewer_is_sent_what_changes_and_the_end_of_the_server() {
    let scene = Scene::new(false).await;
    let mut state = scene::job("known", 1, 4);
    scene.store(&state).await;
    let served = Served::new(views(&scene)).await;
    let mut stream = TcpStream::connect(served.address).await.expect("connects");
    stream.write_all(b"GET /live?of=%2Fjobs%2Fknown HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
    let mut read = String::new();
    let mut until = async |text: &str| {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        let mut buffer = [0; 65_536];
        while !read.contains(text) {
            let n = tokio::time::timeout_at(deadline, stream.read(&mut buffer))
                .await
                .expect("in time")
                .expect("read");
            assert!(n > 0, "the stream ended before {text} came: {read}");
            read.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
        std::mem::take(&mut read)
    };
    let first = until("0 done, 0 running, 0 failed, 4 waiting").await;
    assert!(first.contains("text/event-stream") && first.contains("event: section"), "{first}");
    scene::export(&mut state, 1, |_, chunk| chunk == ChunkNo(2));
    let record = state.batches.iter().next().expect("a batch");
    let stored = record.1.records[2].as_ref().expect("a record");
    scene
        .context
        .folder
        .job(state.id())
        .create_record(*record.0, ChunkNo(2), stored)
        .await
        .expect("recorded");
    until("1 done, 0 running, 0 failed, 3 waiting").await;
    scene::export(&mut state, 1, |_, _| true);
    scene::settle(&mut state, |_| false);
    scene.commit(&state).await;
    until("event: reload").await;
    let mut other = TcpStream::connect(served.address).await.expect("connects");
    other.write_all(b"GET /live?of=%2F HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
    other.read_exact(&mut [0; 16]).await.expect("it has begun");
    served.stop.cancel();
    let ended = tokio::time::timeout(GRACE * 3, served.serving).await.expect("in time");
    ended.expect("no panic").expect("orderly");
}

#[tokio::test]
async fn a_viewer_is_told_once_that_a_page_is_old_and_once_that_it_is_not() {
    let scene = Scene::new(false).await;
    scene.store(&scene::job("known", 1, 4)).await;
    let served = Served::new(views(&scene)).await;
    let mut stream = TcpStream::connect(served.address).await.expect("connects");
    stream.write_all(b"GET /live?of=%2Fjobs%2Fknown HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
    let mut read = String::new();
    let mut until = async |text: &str| {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        let mut buffer = [0; 65_536];
        while !read.contains(text) {
            let n = tokio::time::timeout_at(deadline, stream.read(&mut buffer)).await;
            let n = n.unwrap_or_else(|_| panic!("{text} did not come: {read}")).expect("read");
            assert!(n > 0, "the stream ended before {text} came: {read}");
            read.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
        std::mem::take(&mut read)
    };
    assert!(!until("event: title").await.contains("event: stale"), "it is new");
    let slow = scene.status.hold().await;
    let told = until("event: stale\ndata: true").await;
    assert!(!told.contains("event: section"), "what was sent stays: {told}");
    drop(slow);
    let told = until("event: stale\ndata: false").await;
    assert!(!told.contains("stale\ndata: true"), "{told}");
}

fn here() -> Here {
    Here { host: "h".into(), path: "/".into(), assets: "x".into() }
}

fn job_page(picture: &Picture, wanted: &Wanted) -> String {
    let request = json!(picture.request);
    pages::job::JobPage { picture, request: &request, details: false, wanted, now: scene::now() }
        .page()
        .document(&here())
}

#[test]
fn pages_stay_small_however_large_a_job_is() {
    for (tables, chunks) in [(20_000, 5), (1, 100_000), (100, 4)] {
        let picture = scene::large(tables, chunks);
        let page = job_page(&picture, &Wanted { page: 1, ..Wanted::default() });
        assert!(page.len() < MOST_BYTES, "{tables} × {chunks}: {} bytes", page.len());
        let mut ended = scene::job("ended", tables, chunks);
        scene::export(&mut ended, 6, |_, _| true);
        scene::settle(&mut ended, |table| table % 3 == 0);
        let archive = Archive::of(&ended, scene::now());
        assert_eq!(archive.timeline.chunks.len(), (tables * chunks) as usize);
        let page = job_page(&Picture::of_archive(&archive), &Wanted { page: 1, ..Wanted::default() });
        assert!(page.len() < MOST_BYTES, "{tables} × {chunks}: {} bytes", page.len());
        let table = pages::table::page(&picture, &picture.tables[0], None, 1).document(&here());
        assert!(table.len() < MOST_BYTES, "{tables} × {chunks}: {} bytes", table.len());
        let view = ChunksView::of(&picture, None);
        let all = u64::from(tables) * u64::from(chunks);
        let map = &view.map;
        assert_eq!((map.chunks, map.done + map.running + map.failed + map.waiting), (all, all));
        assert_eq!(map.cells.iter().map(|c| u64::from(c.chunks)).sum::<u64>(), all, "every chunk has a cell");
        assert_eq!(map.running, 2.min(all - map.done), "and those that run are seen");
        let drawn: u64 = view.timeline.daemons.iter().map(|d| d.chunks).sum();
        assert_eq!(drawn, map.done + map.running);
        let size = serde_json::to_string(&view).expect("JSON").len();
        assert!(size < MOST_BYTES, "{size} bytes of JSON");
    }
}

#[tokio::test]
async fn the_overview_and_the_tables_stay_small_too() {
    let scene = Scene::new(false).await;
    let mut ended = scene::job("ended", 2_000, 3);
    scene::export(&mut ended, 6, |_, _| true);
    scene::settle(&mut ended, |table| table % 10 == 0);
    scene.commit(&ended).await;
    for number in 0..40 {
        let mut running = scene::job(&format!("a-job-with-a-name-{number}"), 3, 4);
        scene::export(&mut running, 2, |_, chunk| chunk.0 == 0);
        scene.store(&running).await;
        let mut presence = scene::presence(1 + number);
        presence.doing = (0..12).map(|n| scene::doing(running.id(), n % 3, 1 + n / 3)).collect();
        scene.fleet.heard(presence);
    }
    let served = Served::new(views(&scene)).await;
    let until = tokio::time::Instant::now() + Duration::from_secs(60);
    while served.json("/api/overview").await["ended"] == json!([]) {
        assert!(tokio::time::Instant::now() < until, "the archive is read");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for path in [
        "/",
        "/tables",
        "/tables?page=18",
        "/jobs/ended",
        "/jobs/ended?state=failed&page=2",
        "/jobs/ended/tables/1",
    ] {
        let (status, body) = served.get(path).await;
        assert!(status == 200 && body.len() < MOST_BYTES, "{path}: {status}, {} bytes", body.len());
    }
    let view = served.json("/api/jobs/ended/tables?state=failed").await;
    assert_eq!((&view["found"], &view["pages"]), (&json!(200), &json!(2)));
    assert_eq!(served.json("/api/tables").await["found"], 1_800);
}

#[tokio::test]
async fn every_link_of_a_page_has_an_answer() {
    let scene = Scene::new(false).await;
    let mut ended = scene::job("ended", 120, 3);
    scene::export(&mut ended, 2, |table, _| table != 4);
    scene::settle(&mut ended, |table| table == 4);
    scene.commit(&ended).await;
    scene.store(&scene::job("running", 2, 3)).await;
    scene.fleet.heard(scene::presence(1));
    let served = Served::new(views(&scene)).await;
    let (mut open, mut seen) = (vec!["/".to_owned()], std::collections::BTreeSet::new());
    while let Some(path) = open.pop() {
        let (place, anchor) = path.split_once('#').unwrap_or((path.as_str(), ""));
        let (status, body) = served.get(if place.is_empty() { "/" } else { place }).await;
        assert_eq!(status, 200, "{path}");
        assert!(anchor.is_empty() || body.contains(&format!("id=\"{anchor}\"")), "{path} has no such anchor");
        for link in body.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let link = link.replace("&amp;", "&");
            let is_ours = link.starts_with('/') && !link.starts_with("//");
            assert!(is_ours || link.starts_with('#') || place == "/operations", "{path} links to {link}");
            if is_ours && seen.len() < 150 && seen.insert(link.clone()) {
                open.push(link);
            }
        }
        assert!(!body.contains(" style=\"") && !body.contains("onclick"), "{path}: the policy forbids it");
    }
    assert!(seen.len() > 20, "{seen:?}");
}

#[test]
fn each_kind_of_trouble_links_to_a_section_of_the_manual() {
    let code = include_str!("../status/trouble.rs");
    let sections: Vec<&str> = pages::manual::anchors().into_iter().map(|a| &*a.leak()).collect();
    let named = code.split('"').skip(1).step_by(2).filter(|text| {
        text.starts_with("alert-") || ["disk-full", "upgrades", "backup", "the-status-page"].contains(text)
    });
    let mut found = 0;
    for section in named {
        assert!(sections.contains(&section), "OPERATIONS.md has no section {section}");
        found += 1;
    }
    assert!(found > 10, "{found}");
}

#[test]
fn the_document_describes_what_is_answered() {
    let document = openapi::document();
    for (path, at) in document["paths"].as_object().expect("paths") {
        assert!(at["get"]["responses"]["200"].is_object(), "{path}");
        let docs = include_str!("../../docs/HTTP.md");
        assert!(docs.contains(&format!("`{path}`")), "docs/HTTP.md does not name {path}");
    }
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().expect("a name");
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
    assert!(!text.contains("$defs"), "all schemas are components");
}

#[tokio::test]
async fn a_client_that_says_nothing_does_not_hold_up_the_end() {
    let scene = Scene::new(false).await;
    let served = Served::new(views(&scene)).await;
    let mut silent = TcpStream::connect(served.address).await.expect("connects");
    silent.write_all(b"GET /metrics HT").await.expect("written");
    served.stop.cancel();
    let ended = tokio::time::timeout(GRACE * 3, served.serving).await.expect("in time");
    ended.expect("no panic").expect("orderly");
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_setting() {
    let scene = Scene::new(false).await;
    let first = bind("127.0.0.1:0", views(&scene)).await.expect("binds").expect("on");
    let listen = first.address().to_string();
    let error = bind(&listen, views(&scene)).await.err().expect("in use").to_string();
    assert!(error.contains("http.listen") && error.contains(&listen), "{error}");
    assert!(bind("off", views(&scene)).await.expect("fine").is_none());
    let error = bind("nonsense", views(&scene)).await.err().expect("no address").to_string();
    assert!(error.contains("host:port"));
}
