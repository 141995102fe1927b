//! Exports show one moment of a database that changes all the time.

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
