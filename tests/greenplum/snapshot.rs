//! One snapshot per job, whoever writes and whoever dies.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::scene::{Scene, WAYS};
use crate::support::{Daemon, Database, Dice, PATIENCE, eventually, none_left, said, table};

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
const BIG: u64 = 6_000;

/// What the files of `big` hold.
#[derive(Debug)]
struct Found {
    rows: u64,
    /// Lowest and highest version of a row.
    versions: [u64; 2],
    /// How many snapshots were taken until the table was finished.
    epoch: u64,
}

impl Found {
    /// All rows have version 0 before the change, and 1 after it. The change came after the first snapshot.
    fn is_right(&self) -> bool {
        let version = u64::from(self.epoch > 1);
        self.rows == BIG && self.versions == [version; 2]
    }
}

/// A chunk imports the snapshot after all rows were changed, and the exporting session ends before the chunk reads
/// its first row. Such a session reads the changed rows, without an error.
fn ended_before_the_rows(way: &str, failpoints: &str) -> Found {
    let scene = Scene::new(&format!(
        "CREATE TABLE big AS SELECT g AS id, 0 AS version FROM generate_series(1, {BIG}) g DISTRIBUTED BY (id);
         ANALYZE"
    ));
    let daemon = scene.daemon(&format!("before:publish:chunk-task=1*sleep(4000);{failpoints}"));
    let strategy = if way == "retrieve" { "segment" } else { "single" };
    let job = scene.site.request(json!({
        "tables": [{"table": "public.big", "read": way, "strategy": strategy}],
        "parallelism": {"chunk_workers": 1},
    }));
    scene.planned(&job);
    scene.site.db.execute("UPDATE big SET version = 1");
    let locking = scene.site.db.session();
    locking.run("BEGIN; LOCK TABLE big IN ACCESS EXCLUSIVE MODE").expect("lock the table");
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
         AND usename = 'exporter' AND waiting AND query LIKE 'SELECT 1 FROM ONLY%'";
    eventually("a chunk waits for the table", PATIENCE, || (scene.site.db.number(waiting) > 0).then_some(()));
    assert_eq!(scene.terminate("aduk:%"), 1, "one session holds the snapshot");
    none_left("its transaction has ended", PATIENCE, || scene.holders());
    // Segments forget what older snapshots hide when later transactions tell them that nobody needs it.
    for _ in 0..5 {
        scene.site.db.execute("CREATE TABLE later AS SELECT 1 AS id DISTRIBUTED BY (id)");
        scene.site.db.execute("SELECT count(*) FROM later; DROP TABLE later");
    }
    locking.run("ROLLBACK").expect("unlock the table");
    let last = scene.site.broker.events.wait_final(&job, 2 * PATIENCE);
    assert_eq!(last.kind(), "job.completed", "{way}: {}", last.body);
    let archive = scene.site.exports.archive(&job);
    let table = &archive["tables"][0];
    let directory = table["directory"].as_str().expect("a directory");
    let row = scene.rows(directory, "count(*), min(version), max(version)");
    let row: Vec<u64> = row.iter().map(|n| n.parse().expect("a number")).collect();
    let epoch = table["epoch"].as_u64().expect("an epoch");
    let found = Found { rows: row[0], versions: [row[1], row[2]], epoch };
    eprintln!("{way} {failpoints}: {found:?}");
    scene.site.assert_sound(&[&job], [daemon]);
    found
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn a_chunk_that_outlived_its_snapshot_is_read_again() {
    for way in WAYS {
        let found = ended_before_the_rows(way, "");
        assert!(found.is_right() && found.epoch > 1, "{way}: {found:?}");
    }
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn without_the_proof_of_life_rows_are_wrong() {
    let found = WAYS.map(|way| ended_before_the_rows(way, "mid:prove:snapshot=return(error)"));
    assert!(found.iter().any(|found| !found.is_right()), "the proof changes nothing: {found:?}");
}

/// Two daemons run a job of all tables. The one that exported the snapshot is killed when the other one has begun to
/// use it. Returns what `status` said before, and the archive.
fn killed_after_the_export(way: &str, older: Option<&str>) -> (String, Value) {
    let scene = Scene::of(database(), "");
    let session = scene.site.db.session();
    if let Some(older) = older {
        session.run(older).expect("an older transaction");
    }
    let slowly = MOVED.map(|t| format!("mid:copy:{t}=sleep(300)")).join(";");
    let mut daemons = vec![scene.daemon(&slowly), scene.daemon(&slowly)];
    let job = scene.site.request(json!({"tables": tables(way), "output": {"directory": way}}));
    let says = |daemon: &Daemon, what: &str| {
        daemon.log().lines().any(|line| line.contains(&job) && line.contains(what))
    };
    eventually("both daemons read under the snapshot", PATIENCE, || {
        let reads = |d: &Daemon| says(d, "keeps the snapshot") || says(d, "reads under the snapshot");
        daemons.iter().all(reads).then_some(())
    });
    let config = scene.site.write("status.json", &scene.config());
    let status = scene.site.run(&["status", &job, "--config", &config]);
    let planner = daemons.iter().position(|daemon| says(daemon, "the plan is written"));
    let mut killed = daemons.remove(planner.expect("a daemon planned"));
    killed.kill();
    scene.site.db.execute("UPDATE heap SET v = v + 1; UPDATE columnar SET v = v - 1");
    let last = scene.site.broker.events.wait_final(&job, 2 * PATIENCE);
    assert_eq!(last.kind(), "job.completed", "{way}: {}", last.body);
    let archive = scene.site.exports.archive(&job);
    assert_consistent(&scene, &archive, way);
    scene.site.assert_sound(&[&job], daemons);
    (said(&status), archive)
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn a_session_that_began_first_keeps_the_job_going_when_the_exporting_daemon_dies() {
    for way in WAYS {
        let (status, archive) = killed_after_the_export(way, None);
        assert!(
            status.contains("held by 2 sessions"),
            "{way}: is another transaction open in the cluster? {status}"
        );
        assert_eq!(archive["epochs"], 1, "{way}: the snapshot outlived its daemon: {archive}");
    }
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn with_an_older_transaction_only_the_exporting_session_counts_and_status_says_so() {
    for way in WAYS {
        let older = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class";
        let (status, archive) = killed_after_the_export(way, Some(older));
        assert!(status.contains("held by one session"), "{way}: {status}");
        assert!(
            archive["epochs"].as_u64() > Some(1),
            "{way}: unfinished tables were exported again: {archive}"
        );
    }
}
