//! Exports without a snapshot: what they refuse, and what they say they do not guarantee.

use serde_json::{Value, json};

use crate::support::{Database, PATIENCE, Site, said};

#[test]
fn without_a_snapshot_no_table_is_split_by_pages_and_plan_and_archive_say_so() {
    let site = Site::new(Database::empty());
    // With a snapshot, all of these would be split by pages: no key, a key out of order, a column without an
    // index.
    site.db.execute(
        "CREATE TABLE keyless AS SELECT g AS id, md5(g::text) AS v FROM generate_series(1, 20000) g;
         CREATE TABLE scattered (id uuid PRIMARY KEY, v text);
         INSERT INTO scattered SELECT md5(v)::uuid, v FROM keyless;
         CREATE TABLE plain AS SELECT * FROM keyless;
         ANALYZE",
    );
    let table = |name: &str| json!({"table": format!("public.{name}"), "chunk_rows": 4000});
    let mut plain = table("plain");
    plain["chunk_column"] = json!("id");
    let tables = [table("keyless"), table("scattered"), plain];
    let request = |consistency: &str| json!({"tables": tables, "consistency": consistency});
    let plan = |request: &Value| {
        let (file, config) = (site.path("plan.json"), site.write("plan.toml", &site.config()));
        std::fs::write(&file, request.to_string()).expect("write a request");
        let done = site.run(&["plan", "--config", &config, "--request", &file.to_string_lossy()]);
        (done.status.code(), said(&done))
    };
    let promise = "without a snapshot";
    let (code, text) = plan(&request("snapshot"));
    assert_eq!((code, text.matches(": ctid: ").count()), (Some(0), 3), "{text}");
    assert!(!text.contains(promise) && text.contains("snapshot of "), "{text}");
    let (code, text) = plan(&request("none"));
    assert_eq!((code, text.matches(": ctid: ").count()), (Some(0), 0), "{text}");
    assert!(text.contains(promise) && text.contains("rows may move between pages"), "{text}");
    assert!(text.contains("chunks show different moments"), "{text}");

    let daemon = site.daemon();
    let done = site.export(request("none"));
    let archive = site.exports.archive(done.job());
    assert_eq!(archive["request"]["consistency"], "none");
    assert_eq!(archive["snapshots"], json!({}), "no moment is promised");
    let strategies = ["single", "range", "range"];
    for (table, strategy) in archive["tables"].as_array().expect("tables").iter().zip(strategies) {
        assert_eq!(table["strategy"], strategy, "{table}");
        assert!(table["snapshot_time"].is_null() && table["lineage"].is_null(), "{table}");
    }
    assert!(done.data()["snapshot_time"].is_null(), "{}", done.body);
    // Nothing is written here, so the rows come from one moment even without a snapshot.
    site.assert_equal(&[
        ("SELECT * FROM keyless", "public_keyless"),
        ("SELECT * FROM scattered", "public_scattered"),
        ("SELECT * FROM plain", "public_plain"),
    ]);

    let mut pages = table("keyless");
    pages["strategy"] = json!("ctid");
    let asked = json!({"tables": [pages], "consistency": "none"});
    let (code, text) = plan(&asked);
    assert_eq!(code, Some(1), "{text}");
    let job = site.request(asked);
    let last = site.broker.events.wait_final(&job, PATIENCE);
    assert_eq!(last.kind(), "job.failed", "{}", last.body);
    for told in [text, last.error()] {
        assert!(told.contains("table public.keyless cannot be split by ctid: without a snapshot"), "{told}");
    }
    site.assert_sound(&[done.job(), &job], [daemon]);
}
