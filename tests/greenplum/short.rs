//! A retrieve that ends early never becomes a part, whoever ends it and however.

use std::time::Duration;

use serde_json::json;

use crate::scene::Scene;
use crate::support::{Dice, PATIENCE, Proxy};

/// Rows of the table.
const ROWS: u32 = 60_000;
/// How often something is ended.
const TRIES: u32 = 200;

fn scene() -> Scene {
    Scene::new(&format!(
        "CREATE TABLE big (id int, y int, filler text) DISTRIBUTED BY (id)
           PARTITION BY RANGE (y) (START (0) END (4) EVERY (1));
         INSERT INTO big SELECT g, g % 4, repeat(md5(g::text), 20) FROM generate_series(1, {ROWS}) g; ANALYZE"
    ))
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn a_retrieve_that_is_ended_is_never_a_part() {
    let scene = scene();
    let proxy = Proxy::to(scene.site.db.port());
    let mut config = scene.config();
    config["sources"]["warehouse"]["dsn"] = json!(scene.site.db.dsn_at(proxy.port));
    // Each chunk may be ended many times.
    config["timing"]["retry_limit"] = json!("10m");
    config["timing"]["retry_longest"] = json!("300ms");
    config["timing"]["keeper_wait"] = json!("10s");
    let daemon = scene.site.daemon_with(&config);
    let (mut dice, mut jobs, mut tries, mut ended) = (Dice::new(3), Vec::new(), 0, [0; 4]);
    while tries < TRIES {
        let directory = format!("round-{}", jobs.len());
        let job = scene.site.request(json!({
            "tables": [{"table": "public.big", "read": "retrieve", "chunk_rows": 5000}],
            "output": {"directory": directory},
        }));
        scene.in_flight(&[&daemon], 1);
        // Some peace in the end, so that every job completes.
        for _ in 0..25 {
            std::thread::sleep(dice.millis(50, 600));
            if scene.site.exports.find_archive(&job).is_some() {
                break;
            }
            tries += 1;
            match dice.below(8) {
                0..3 => ended[0] += scene.terminate_on_segments(),
                3..5 => ended[1] += scene.terminate_readers(),
                5..7 => ended[2] += scene.terminate_retrieving(),
                // The coordinator sees its sockets close, that of the snapshot too.
                _ => {
                    proxy.cut();
                    std::thread::sleep(Duration::from_millis(20));
                    proxy.mend();
                    ended[3] += 1;
                }
            }
        }
        let last = scene.site.broker.events.wait_final(&job, 2 * PATIENCE);
        assert_eq!(last.kind(), "job.completed", "{}", last.body);
        let found = scene
            .rows(&format!("{directory}/public_big"), "count(*), count(DISTINCT id), sum(length(filler))");
        let expected = [u64::from(ROWS), u64::from(ROWS), u64::from(ROWS) * 640].map(|n| n.to_string());
        assert_eq!(found, expected, "round {} after {tries} tries", jobs.len());
        jobs.push(job);
    }
    eprintln!(
        "{tries} tries in {} jobs ended: senders and readers on segments, coordinators, retrieve sessions, cuts: {ended:?}",
        jobs.len()
    );
    assert!(ended.iter().all(|n| *n > 0), "{ended:?}");
    scene.site.assert_sound(&jobs, [daemon]);
}
