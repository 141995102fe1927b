//! One round: jobs are published, faults happen, and at the end the checker looks at the result.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::statistics::Statistics;
use serde_json::{Value, json};

use crate::mischief::{Mischief, Service, commit};
use crate::support::{Borrowed, Database, Dice, Site, Slow};

const DAEMONS: usize = 3;
/// Time limit for all jobs of a round.
const LIMIT: Duration = Duration::from_secs(150);
/// Age of a queue before a kill -9. A quorum queue of RabbitMQ 3.10.8 that was declared just before a kill -9
/// may never get a leader again (seen at 0.6 s). It must then be deleted by hand.
const DECLARED: Duration = Duration::from_secs(5);
/// Rows of the table whose rows all have the same number. One transaction changes all of them.
const GENERATION_ROWS: i64 = 4000;

/// Tables that do not change during a round.
const TABLES: [&str; 5] = ["ordered", "paged", "tiny_1", "tiny_2", "empty"];

fn database(servers: &Borrowed) -> Database {
    let db = Database::on(**servers);
    db.execute(&format!(
        "CREATE TABLE ordered AS SELECT g::bigint AS id, repeat(md5(g::text), 3) AS note \
           FROM generate_series(1, 30000) g; \
         ALTER TABLE ordered ADD PRIMARY KEY (id); \
         CREATE TABLE paged AS SELECT g AS n, md5(g::text) AS hash FROM generate_series(1, 30000) g; \
         CREATE TABLE generation AS SELECT g AS id, 1::bigint AS number FROM generate_series(1, {GENERATION_ROWS}) g; \
         CREATE TABLE tiny_1 AS SELECT 1 AS one, NULL::text AS nothing; \
         CREATE TABLE tiny_2 AS SELECT g AS n FROM generate_series(1, 10) g; \
         CREATE TABLE empty (id integer); \
         ANALYZE"
    ));
    db
}

/// All tables, split into many chunks.
fn everything() -> Value {
    json!({"tables": [
        {"table": "public.ordered", "strategy": "range", "chunk_rows": 1000},
        {"table": "public.paged", "strategy": "ctid", "chunk_rows": 1500},
        {"table": "public.generation", "strategy": "ctid", "chunk_rows": 500},
        "public.tiny_1", "public.tiny_2", "public.empty",
    ]})
}

/// What remains to be done in a round.
#[derive(Clone, Copy)]
enum Deed {
    Publish,
    Cancel,
    Blow(Mischief),
}

pub(crate) fn play(servers: &Borrowed, seed: u64) {
    let mut dice = Dice::new(seed);
    let slow = Slow::of(Site::on(**servers, database(servers)), servers.postgres).at(1_500_000);
    let site = &slow.site;
    let mut services: Vec<Service> = (0..DAEMONS).map(|_| Service::start(site, slow.config())).collect();
    let mut jobs = Vec::new();
    let cancelled = format!("cancelled-{seed}");
    let mut cancel_sent = false;

    // The first job comes at once. The other jobs and all faults come in random order.
    let mut deeds: Vec<Deed> = Mischief::of_a_round(&mut dice).into_iter().map(Deed::Blow).collect();
    deeds.insert(dice.below(3), Deed::Publish);
    deeds.insert(dice.below(5), Deed::Publish);
    deeds.insert(1 + dice.below(5), Deed::Cancel);
    let begin = Instant::now();
    jobs.push(site.request_when_declared(&services[0].daemon, everything()));
    jobs.push(with_id(site, everything(), &cancelled));
    let declared = Instant::now();
    let mut ended = BTreeSet::new();
    let mut next = Instant::now() + dice.millis(300, 2500);
    let mut deeds = deeds.into_iter().peekable();
    loop {
        services.iter_mut().for_each(|s| s.tend(site));
        change(site);
        if let Some(Deed::Blow(Mischief::KillBroker)) = deeds.peek() {
            next = next.max(declared + DECLARED);
        }
        if Instant::now() >= next
            && let Some(deed) = deeds.next()
        {
            let at = begin.elapsed().as_secs_f64();
            match deed {
                Deed::Publish => {
                    jobs.push(site.request(everything()));
                    println!("chaos: {at:6.2} another job");
                }
                Deed::Cancel => {
                    site.cancel(&cancelled);
                    cancel_sent = true;
                    println!("chaos: {at:6.2} cancel");
                }
                Deed::Blow(blow) => {
                    let hit = commit(blow, &mut dice, site, servers, &mut services);
                    println!("chaos: {at:6.2} {blow:?}: {hit}");
                }
            }
            next = Instant::now() + dice.millis(200, 2500);
        }
        jobs.iter().filter(|job| site.exports.find_archive(job).is_some()).for_each(|job| {
            if ended.insert(job.clone()) {
                println!("chaos: {:6.2} {job} has ended", begin.elapsed().as_secs_f64());
            }
        });
        if deeds.peek().is_none() && ended.len() == jobs.len() {
            break;
        }
        if deeds.peek().is_none() {
            slow.proxy.free();
        }
        assert!(begin.elapsed() < LIMIT, "not all of {jobs:?} ended within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(cancel_sent, "the cancel was published");
    let daemons: Vec<_> = services.into_iter().map(|s| s.settled(site)).collect();
    for job in &jobs {
        let end = site.broker.events.wait_final(job, LIMIT);
        let fine = end.kind() == "job.completed" || (*job == cancelled && end.kind() == "job.cancelled");
        assert!(fine, "{}", end.body);
        assert_whole(site, job);
    }
    site.assert_sound(&jobs, daemons);
}

fn with_id(site: &Site, mut body: Value, job: &str) -> String {
    body["job_id"] = json!(job);
    site.request(body)
}

/// Changes every row of `generation` in one transaction, so that an export that mixes snapshots shows two
/// numbers.
fn change(site: &Site) {
    site.db.execute("UPDATE generation SET number = number + 1");
}

/// Every table of a job is complete and shows one moment.
#[track_caller]
fn assert_whole(site: &Site, job: &str) {
    let archive = site.exports.archive(job);
    let tables = archive["tables"].as_array().expect("tables");
    let directory = |name: &str| {
        let table = tables.iter().find(|t| t["table_name"] == format!("public.{name}"))?;
        table["directory"].as_str().map(str::to_owned)
    };
    let pairs: Vec<(String, String)> =
        TABLES.iter().filter_map(|name| Some((format!("SELECT * FROM {name}"), directory(name)?))).collect();
    site.assert_all_equal(&pairs);
    if archive["status"] == "completed" {
        assert_eq!(pairs.len(), TABLES.len(), "all tables of {job}: {archive}");
    }
    let Some(directory) = directory("generation") else { return };
    let (mut rows, mut numbers) = (0, Vec::new());
    for name in site.exports.names(&directory) {
        let file = std::fs::File::open(site.exports.path(&directory).join(name)).expect("open a part");
        let reader = SerializedFileReader::new(file).expect("a part is Parquet");
        for group in reader.metadata().row_groups() {
            rows += group.num_rows();
            let Some(Statistics::Int64(of_number)) = group.column(1).statistics() else {
                panic!("{directory} has no statistics");
            };
            numbers.extend(of_number.min_opt().into_iter().chain(of_number.max_opt()).copied());
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!((rows, numbers.len()), (GENERATION_ROWS, 1), "{directory}: one moment, not {numbers:?}");
}
