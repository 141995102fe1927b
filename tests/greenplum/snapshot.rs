//! One snapshot per job, whoever writes and whoever dies.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::scene::{Scene, WAYS};
use crate::support::{Daemon, Database, Dice, PATIENCE, table};

/// Rows of each table.
const ROWS: u32 = 6000;
/// Heap and append-optimized tables. Rows move between segments when their `home` changes.
const MOVED: [&str; 3] = ["heap", "columnar", "parted"];

fn database() -> Database {
    let db = Database::greenplum(true);
    db.execute(&format!(
        "CREATE TABLE heap AS SELECT g AS slot, g AS home, g % 4 AS y, 100::bigint AS v, repeat(md5(g::text), 8) AS filler
           FROM generate_series(1, {ROWS}) g DISTRIBUTED BY (home);
         CREATE TABLE columnar (slot int, home int, y int, v bigint, filler text)
           WITH (appendonly = true, orientation = column) DISTRIBUTED BY (home);
         CREATE TABLE parted (slot int, home int, y int, v bigint, filler text) DISTRIBUTED BY (home)
           PARTITION BY RANGE (y) (START (0) END (4) EVERY (1));
         INSERT INTO columnar SELECT * FROM heap; INSERT INTO parted SELECT * FROM heap; ANALYZE"
    ));
    db
}

/// Moves value between tables and between rows, and rows between segments, until it is stopped.
fn write(db: &Database, seed: u64, stop: &AtomicBool) -> u32 {
    let (session, mut dice, mut commits) = (db.session(), Dice::new(seed), 0);
    while !stop.load(Ordering::Relaxed) {
        let mut row = || dice.below(ROWS as usize) + 1;
        let (i, j, k) = (row(), row(), row());
        let sql = match dice.below(4) {
            // The order of the tables is always the same: each update locks its table.
            0 => format!(
                "BEGIN; UPDATE columnar SET v = v - 7 WHERE slot = {i}; UPDATE heap SET v = v + 7 WHERE slot = {j}; COMMIT"
            ),
            1 => format!(
                "BEGIN; UPDATE heap SET v = v - 3 WHERE slot = {i}; UPDATE parted SET v = v + 3 WHERE slot = {j}; COMMIT"
            ),
            n => {
                let moved = MOVED[dice.below(MOVED.len())];
                let least = if n == 2 { k } else { k / 2 };
                format!("UPDATE {moved} SET home = home + 1 WHERE slot BETWEEN {least} AND {k}")
            }
        };
        match session.run(&sql) {
            Ok(()) => commits += 1,
            Err(_) => drop(session.run("ROLLBACK")),
        }
    }
    commits
}

fn tables(way: &str) -> Value {
    let strategy = if way == "copy" { "auto" } else { "segment" };
    let table = |name: &&str| json!({"table": format!("public.{name}"), "read": way, "strategy": strategy, "chunk_rows": 500});
    MOVED.iter().map(table).collect()
}

/// Every key of each table came once, and the sum of the tables of one snapshot is what it was.
#[track_caller]
fn assert_consistent(scene: &Scene, archive: &Value, what: &str) {
    let found = MOVED.map(|name| table(archive, &format!("public.{name}")));
    let directories = found.map(|t| t["directory"].as_str().expect("a directory"));
    let rows = scene.rows_of_all(&directories, "count(*), count(DISTINCT slot), sum(v)");
    let n = ROWS.to_string();
    for (name, row) in MOVED.iter().zip(&rows) {
        assert_eq!(row[..2], [n.clone(), n.clone()], "{what}: rows and keys of {name}: {archive}");
    }
    if found.iter().all(|t| t["lineage"] == found[0]["lineage"]) {
        let sum: i64 = rows.iter().map(|row| row[2].parse::<i64>().expect("a sum")).sum();
        assert_eq!(sum, 3 * 100 * i64::from(ROWS), "{what}: the sum of {rows:?}: {archive}");
    }
}

/// Runs `mischief` while jobs of all ways run under writers. Checks each.
fn under_writers(rounds: usize, mut mischief: impl FnMut(&Scene, &mut Vec<Daemon>, &mut Dice)) {
    let scene = Scene::of(database(), "");
    let slowly = MOVED.map(|t| format!("mid:copy:{t}=sleep(120)")).join(";");
    let mut daemons = vec![scene.daemon(&slowly), scene.daemon(&slowly)];
    let stop = AtomicBool::new(false);
    let (mut jobs, mut dice) = (Vec::new(), Dice::new(7));
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        let writers = [1, 2].map(|seed| {
            let (db, stop) = (&scene.site.db, &stop);
            scope.spawn(move || write(db, seed, stop))
        });
        for way in WAYS.into_iter().cycle().take(rounds) {
            let directory = format!("round-{}", jobs.len());
            let job = scene.site.request(json!({"tables": tables(way), "output": {"directory": directory}}));
            mischief(&scene, &mut daemons, &mut dice);
            let last = scene.site.broker.events.wait_final(&job, 2 * PATIENCE);
            assert_eq!(last.kind(), "job.completed", "{way}: {}", last.body);
            let archive = scene.site.exports.archive(&job);
            assert_consistent(&scene, &archive, way);
            eprintln!("{way}: {} epochs", archive["epochs"]);
            jobs.push(job);
        }
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            assert!(writer.join().expect("a writer") > 10, "a writer wrote");
        }
    });
    scene.site.assert_sound(&jobs, daemons);
}

/// Stops the writers also when an assertion fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn twenty_exports_under_writers_are_consistent() {
    under_writers(21, |_, _, _| {});
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn the_session_that_holds_the_snapshot_ends_at_random_moments() {
    let mut ended = 0;
    under_writers(12, |scene, _, dice| {
        std::thread::sleep(dice.millis(300, 3000));
        ended += scene.terminate("aduk:%");
    });
    assert!(ended > 0, "no session ended");
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn sessions_of_chunks_end_at_random_moments() {
    let mut ended = 0;
    under_writers(12, |scene, _, dice| {
        std::thread::sleep(dice.millis(300, 2500));
        ended += if dice.below(2) == 0 { scene.terminate_readers() } else { scene.terminate_on_segments() };
    });
    assert!(ended > 0, "no session ended");
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn a_daemon_is_killed_at_random_moments() {
    let slowly = MOVED.map(|t| format!("mid:copy:{t}=sleep(120)")).join(";");
    under_writers(9, |scene, daemons, dice| {
        std::thread::sleep(dice.millis(300, 3000));
        let mut killed = daemons.remove(dice.below(2));
        killed.kill();
        daemons.push(scene.daemon(&slowly));
    });
}

/// The rows of the table `big`.
const BIG: u32 = 60_000;

/// The exporting session ends while a chunk is in the middle of its scan, and then all rows change. What the
/// files of the job hold: rows, keys, versions.
fn ended_in_the_middle(way: &str, failpoints: &str) -> [u64; 3] {
    let scene = Scene::new(&format!(
        "CREATE TABLE big AS SELECT g AS id, 0 AS version, repeat(md5(g::text), 30) AS filler
           FROM generate_series(1, {BIG}) g DISTRIBUTED BY (id); ANALYZE"
    ));
    let daemon = scene.daemon(&format!("mid:copy:big=1*sleep(25000);{failpoints}"));
    let strategy = if way == "retrieve" { "segment" } else { "single" };
    let job = scene.site.request(json!({
        "tables": [{"table": "public.big", "read": way, "strategy": strategy}],
        "parallelism": {"chunk_workers": 1},
    }));
    scene.mid_scan();
    assert_eq!(scene.terminate("aduk:%"), 1, "one session holds the snapshot");
    scene.site.db.execute("UPDATE big SET version = 1");
    // Segments forget what older snapshots hide when later transactions tell them that nobody needs it.
    for _ in 0..5 {
        scene.site.db.execute("CREATE TABLE later (id int) DISTRIBUTED BY (id); DROP TABLE later");
        assert_eq!(scene.site.db.number("SELECT count(*) FROM big WHERE version = 1"), u64::from(BIG));
    }
    let last = scene.site.broker.events.wait_final(&job, 2 * PATIENCE);
    assert_eq!(last.kind(), "job.completed", "{way}: {}", last.body);
    let archive = scene.site.exports.archive(&job);
    let directory = archive["tables"][0]["directory"].as_str().expect("a directory");
    let row = scene.rows(directory, "count(*), count(DISTINCT id), count(DISTINCT version)");
    let row: Vec<u64> = row.iter().map(|n| n.parse().expect("a number")).collect();
    eprintln!("{way} {failpoints}: {row:?} in epoch {}", archive["tables"][0]["epoch"]);
    scene.site.assert_sound(&[&job], [daemon]);
    row.try_into().expect("three numbers")
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn a_chunk_that_outlived_its_snapshot_is_read_again() {
    for way in WAYS {
        assert_eq!(ended_in_the_middle(way, ""), [BIG.into(), BIG.into(), 1], "{way}");
    }
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn without_the_proof_of_life_rows_are_wrong() {
    let found = WAYS.map(|way| ended_in_the_middle(way, "mid:prove:snapshot=return(error)"));
    assert!(
        found.iter().any(|row| *row != [u64::from(BIG), u64::from(BIG), 1]),
        "the proof changes nothing: {found:?}"
    );
}
