//! A bank whose total never changes while money moves. An export that mixes two moments would show a wrong
//! total.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::support::{Database, Site};

const ACCOUNTS: u64 = 20_000;

/// How boundaries were found, in the words of plans.
pub(super) const KINDS: [&str; 4] = ["ctid", "histogram bounds", "from a sample", "one ordered pass"];

/// Opens accounts in two tables. Their rows are so wide that a sample reads only some of the pages.
pub(super) fn open(db: &Database) {
    for table in ["a", "b"] {
        db.execute(&format!(
            "CREATE TABLE {table} (id bigint PRIMARY KEY, amount bigint NOT NULL, filler text NOT NULL)
                WITH (autovacuum_enabled = off);
             ALTER TABLE {table} ALTER filler SET STORAGE PLAIN;
             INSERT INTO {table} SELECT g, 1000, repeat('x', 1500) FROM generate_series(1, {ACCOUNTS}) g;
             ANALYZE {table};"
        ));
    }
}

/// Runs `work` while money moves all the time. Returns the number of transactions that moved money.
pub(super) fn while_money_moves(db: &Database, work: impl FnOnce()) -> u64 {
    let (done, transactions) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| transactions.store(write(db, &done), Ordering::Relaxed));
        // The writer stops, even if `work` panics.
        let _end = Ends(&done);
        work();
    });
    transactions.into_inner()
}

/// Runs transactions that do not change the total: they move amounts between the tables, and open, close and
/// renumber accounts.
fn write(db: &Database, done: &AtomicBool) -> u64 {
    let mut transactions = 0;
    while !done.load(Ordering::Relaxed) {
        transactions += 1;
        let n = transactions;
        let (from, to) = if n % 2 == 0 { ("a", "b") } else { ("b", "a") };
        let new = 10_000_000 + n;
        db.execute(&format!(
            "DO $$ DECLARE moved bigint; BEGIN
                 UPDATE {from} SET amount = amount - 10 WHERE id % 997 = {n} % 997 AND id <= {ACCOUNTS};
                 GET DIAGNOSTICS moved = ROW_COUNT;
                 INSERT INTO {to} VALUES ({new}, moved * 10, 'new');
                 UPDATE {to} SET id = -id WHERE id = {n} % {ACCOUNTS};
                 WITH closed AS (DELETE FROM {from} WHERE id = {new} - 41 RETURNING amount)
                    UPDATE {to} SET amount = amount + (SELECT coalesce(sum(c.amount), 0) FROM closed c) WHERE id = {new};
             END $$"
        ));
    }
    transactions
}

/// Tells the writer to stop when it is dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Uses each kind of split in turn.
pub(super) fn request(turn: usize) -> Value {
    let table = |name: &str| match turn % 5 {
        0 => json!({"table": name, "chunk_rows": 1500}),
        1 => json!({"table": name, "strategy": "ctid", "chunk_rows": 1500}),
        2 => json!({"table": name, "strategy": "range", "chunk_rows": 1500}),
        3 => json!({"table": name, "strategy": "range", "chunk_rows": 11_000, "where": "amount > -1000000"}),
        _ => json!({"table": name, "strategy": "range", "chunk_rows": 1500, "where": "amount > -1000000"}),
    };
    json!({"tables": [table("public.a"), table("public.b")]})
}

/// In these jobs, the files hold every account once and the whole total. Returns how often plans used each
/// kind of split.
#[track_caller]
pub(super) fn assert_every_job_is_one_moment(site: &Site, jobs: &[String]) -> BTreeMap<&'static str, usize> {
    let mut kinds = BTreeMap::new();
    for (turn, job) in jobs.iter().enumerate() {
        let archive = site.exports.archive(job);
        let mut sum = 0;
        for table in archive["tables"].as_array().expect("tables") {
            let reason = table["strategy_reason"].as_str().expect("a reason");
            for kind in KINDS {
                *kinds.entry(kind).or_insert(0) += usize::from(reason.contains(kind));
            }
            assert!(table["chunks"].as_u64().is_some_and(|chunks| chunks > 1), "turn {turn}: {reason}");
            let found = accounts(site, table["directory"].as_str().expect("a directory"));
            for id in 1..=ACCOUNTS as i64 {
                assert!(found.contains_key(&id) != found.contains_key(&-id), "turn {turn}: account {id}");
            }
            sum += found.values().sum::<i64>();
        }
        assert_eq!(sum, 2 * 1000 * ACCOUNTS as i64, "turn {turn}: money came or went");
    }
    kinds
}

/// Accounts by number, from one directory. Panics if a number occurs twice.
fn accounts(site: &Site, directory: &str) -> BTreeMap<i64, i64> {
    let mut all = BTreeMap::new();
    for name in site.exports.names(directory).iter().filter(|name| name.ends_with(".parquet")) {
        let file = File::open(site.exports.path(directory).join(name)).expect("a part");
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").build().expect("reads");
        for batch in reader {
            let batch = batch.expect("a batch");
            let column = |name: &str| batch[name].as_primitive::<Int64Type>().values().to_vec();
            for (id, amount) in column("id").into_iter().zip(column("amount")) {
                assert_eq!(all.insert(id, amount), None, "account {id} is twice in {directory}");
            }
        }
    }
    all
}
