//! Exports show one moment of a database that changes all the time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::bank;
use crate::support::{Database, Site};

const EXPORTS: usize = 20;

#[test]
fn every_export_is_one_moment_of_tables_that_are_written_all_the_time() {
    let site = Site::new(Database::empty());
    bank::open(&site.db);
    let daemons = [site.daemon(), site.daemon()];
    let mut jobs = Vec::new();
    let transactions = bank::while_money_moves(&site.db, || {
        for turn in 0..EXPORTS {
            jobs.push(site.export(bank::request(turn)).job().to_owned());
        }
    });
    assert!(transactions > EXPORTS as u64, "only {transactions} transactions: nothing was written meanwhile");

    let kinds = bank::assert_every_job_is_one_moment(&site, &jobs);
    assert!(bank::KINDS.iter().all(|kind| kinds[kind] >= 4), "every kind of split: {kinds:?}");
    site.assert_sound(&jobs, daemons);
}

/// Clears and sets the marks of pages all the time.
fn vacuum(db: &Database, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        for table in ["a", "b"] {
            db.execute(&format!("VACUUM (INDEX_CLEANUP off) {table}"));
        }
        thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn every_export_by_pages_is_one_moment_of_tables_that_are_written_and_vacuumed_all_the_time() {
    let site = Site::new(Database::empty());
    if site.db.number("SELECT count(*) FROM pg_available_extensions WHERE name = 'pageinspect'") == 0 {
        return;
    }
    site.db.execute("CREATE EXTENSION pageinspect");
    bank::open(&site.db);
    site.db.execute("VACUUM (ANALYZE)");
    let daemon = || {
        let mut config = site.config();
        let warehouse = config["sources"]["warehouse"].as_object_mut().expect("a source");
        warehouse.insert("dsn".into(), json!(site.db.admin_dsn()));
        warehouse.insert("read".into(), json!("pages"));
        warehouse.remove("password");
        site.daemon_with(&config)
    };
    let daemons = [daemon(), daemon()];
    let done = AtomicBool::new(false);
    let mut jobs = Vec::new();
    let transactions = thread::scope(|scope| {
        scope.spawn(|| vacuum(&site.db, &done));
        let transactions = bank::while_money_moves(&site.db, || {
            for _ in 0..EXPORTS {
                let table = |name: &str| json!({"table": name, "chunk_rows": 3000});
                let request = json!({"tables": [table("public.a"), table("public.b")]});
                jobs.push(site.export(request).job().to_owned());
            }
        });
        done.store(true, Ordering::Relaxed);
        transactions
    });
    assert!(transactions > EXPORTS as u64, "only {transactions} transactions: nothing was written meanwhile");
    bank::assert_every_job_is_one_moment(&site, &jobs);
    let (mut read, mut recopied) = (0, 0);
    for table in jobs.iter().flat_map(|job| site.exports.archive(job)["tables"].as_array().cloned()).flatten()
    {
        read += table["pages"]["read"].as_u64().expect("read by pages");
        recopied += table["pages"]["recopied"].as_u64().expect("read by pages");
    }
    assert!(read > 10_000 && recopied > 1000, "{read} pages read, {recopied} copied");
    site.assert_sound(&jobs, daemons);
}
