//! Events at the same moment as the end of a job.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::json;

use crate::support::{Database, Dice, PATIENCE, Site, Slow, eventually, fill};

#[test]
fn cancel_deadline_and_completion_at_once_leave_one_end() {
    const ORDERS: u64 = 50;
    let db = Database::empty();
    fill(&db, "one", 2000);
    fill(&db, "other", 2000);
    let site = Site::new(db);
    let daemons = [(); 2].map(|()| {
        let mut config = site.config();
        config["export"]["chunk_rows"] = json!(500);
        config["sources"]["warehouse"]["max_jobs"] = json!(8);
        site.daemon_with(&config)
    });
    let tables = ["public.one", "public.other"];
    let warm = site.export(json!({"tables": tables}));
    let began = Instant::now();
    let usual = site.export(json!({"tables": tables}));
    let usual_ms = u64::try_from(began.elapsed().as_millis()).expect("short");
    let mut jobs = vec![warm.job().to_owned(), usual.job().to_owned()];
    let mut ends = BTreeSet::new();
    for seed in 0..ORDERS {
        let mut dice = Dice::new(seed);
        // Close to the moment when the job would complete.
        let mut moment = || dice.millis(usual_ms / 2, usual_ms / 2 + usual_ms);
        let (deadline, pause) = (moment(), moment());
        let asked = Instant::now();
        let job = site.request(json!({"tables": tables, "deadline": format!("{}ms", deadline.as_millis())}));
        if seed % 3 != 0 {
            let at = asked + pause;
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            site.cancel(&job);
        }
        let last = site.broker.events.wait_final(&job, PATIENCE);
        println!(
            "seed {seed}: deadline {deadline:?}, cancel {pause:?}, usual {usual_ms} ms: {}",
            last.kind()
        );
        ends.insert(format!("{} {}", last.kind(), last.data()["error"]["code"]));
        jobs.push(job);
    }
    assert!(ends.len() >= 2, "the orders came out alike: {ends:?}");
    site.assert_sound(&jobs, daemons);
}

#[test]
fn exports_of_one_table_that_finish_out_of_order_leave_the_newest_as_latest() {
    let db = Database::empty();
    fill(&db, "hot", 500);
    fill(&db, "large", 8000);
    fill(&db, "larger", 20_000);
    let slow = Slow::new(db).at(600_000);
    let daemons = [slow.daemon(), slow.daemon()];
    let plans = |job: &str| eventually("the plan", PATIENCE, || slow.plan(job, 1));
    // Each job takes its snapshot later than the one before, but ends earlier.
    let first = slow.request(&["larger", "large", "hot"]);
    plans(&first);
    slow.site.db.execute("CREATE TABLE hot_1 AS SELECT * FROM hot; UPDATE hot SET v = 'second'");
    let second = slow.request(&["large", "hot"]);
    plans(&second);
    slow.site.db.execute("CREATE TABLE hot_2 AS SELECT * FROM hot; UPDATE hot SET v = 'third'");
    let third = slow.request(&["hot"]);

    let directory = |job: &str| {
        let archive = slow.site.exports.archive(job);
        let hot = crate::support::table(&archive, "public.hot").clone();
        hot["directory"].as_str().expect("a directory").to_owned()
    };
    slow.site.completed(&third);
    let newest = directory(&third);
    slow.site.assert_runs(&second, "the second one ends later");
    slow.site.completed(&second);
    slow.site.assert_runs(&first, "the first one ends last");
    assert_eq!(slow.site.exports.latest("public_hot").as_ref(), Some(&newest));
    slow.completes(&first);
    assert_eq!(slow.site.exports.latest("public_hot").as_ref(), Some(&newest));
    slow.site.assert_equal(&[
        ("SELECT * FROM hot_1", &directory(&first)),
        ("SELECT * FROM hot_2", &directory(&second)),
        ("SELECT * FROM hot", &newest),
    ]);
    slow.site.assert_sound(&[&first, &second, &third], daemons);
}

#[test]
fn jobs_that_finish_in_one_second_get_names_of_their_own() {
    let db = Database::empty();
    fill(&db, "small", 100);
    let site = Site::new(db);
    let daemons = [site.daemon(), site.daemon()];
    let body = json!({"tables": ["public.small"], "output": {"on_conflict": "timestamp"}});
    let mut jobs: Vec<String> = Vec::new();
    eventually("two have finished in the same second", PATIENCE, || {
        let some: Vec<String> = (0..8).map(|_| site.request(body.clone())).collect();
        some.iter().for_each(|job| drop(site.completed(job)));
        jobs.extend(some);
        site.exports.directories().iter().any(|d| d.ends_with("Z_2")).then_some(())
    });
    let today =
        |name: &str| name.strip_prefix("public_small_20").is_some_and(|rest| rest.len() == "26-11-25".len());
    let directories = site.exports.directories();
    assert_eq!(directories.len(), jobs.len(), "{directories:?}");
    assert!(directories.contains("public_small"), "{directories:?}");
    assert!(directories.iter().any(|d| today(d)), "{directories:?}");
    site.assert_sound(&jobs, daemons);
}

#[test]
fn of_two_jobs_that_want_one_name_for_themselves_one_fails() {
    let db = Database::empty();
    fill(&db, "small", 3000);
    let site = Site::new(db);
    let daemons = [(); 2].map(|()| {
        let mut config = site.config();
        config["export"]["chunk_rows"] = json!(1000);
        site.daemon_with(&config)
    });
    let body = json!({"tables": ["public.small"], "output": {"on_conflict": "fail"}});
    let jobs: Vec<String> = (0..4).map(|_| site.request(body.clone())).collect();
    let ends: Vec<_> = jobs.iter().map(|job| site.broker.events.wait_final(job, PATIENCE)).collect();
    let (done, failed): (Vec<_>, Vec<_>) = ends.iter().partition(|e| e.kind() == "job.completed");
    assert_eq!(done.len(), 1, "{ends:?}");
    for end in failed {
        assert_eq!(end.kind(), "job.failed", "{}", end.body);
        assert!(end.error().contains("directory_exists"), "{}", end.error());
        assert!(end.error().contains("on_conflict"), "{}", end.error());
    }
    site.assert_equal(&[("SELECT * FROM small", "public_small")]);
    let before = site.exports.fingerprint("public_small");
    let late = site.request(body);
    assert_eq!(site.broker.events.wait_final(&late, PATIENCE).kind(), "job.failed");
    assert_eq!(site.exports.fingerprint("public_small"), before, "nothing was written over");
    let jobs: Vec<&str> = jobs.iter().map(String::as_str).chain([late.as_str()]).collect();
    site.assert_sound(&jobs, daemons);
}
