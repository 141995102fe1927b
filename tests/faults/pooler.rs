//! PgBouncer between daemons and the server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_postgres::SimpleQueryMessage;

use crate::support::manual::run_python;
use crate::support::{
    Bouncer, Daemon, Database, PATIENCE, Site, block_on, eventually, fill, none_left, said,
};

/// Two daemons, each with two workers and a keeper, and one connection for questions.
const POOL: u32 = 7;
const ACCOUNTS: u32 = 20_000;

fn config(site: &Site, bouncer: &Bouncer) -> Value {
    let mut config = site.config();
    config["sources"]["warehouse"]["dsn"] = json!(site.db.dsn_at(bouncer.port));
    config["export"]["chunk_rows"] = json!(4000);
    config
}

/// What sessions of the server still hold after an export: one line for each session that holds something.
fn left_behind(bouncer: &Bouncer, db: &Database) -> Vec<String> {
    // As many clients at once as there may be connections, so that each connection answers.
    let clients: Vec<_> = (0..POOL).map(|_| bouncer.client(db)).collect();
    let ask = |client: &tokio_postgres::Client| {
        let sql = "BEGIN; SELECT pg_backend_pid(), (SELECT count(*) FROM pg_prepared_statements), \
                   current_setting('row_security'), current_setting('search_path'), current_setting('bytea_output'), \
                   current_setting('jit'), current_setting('lock_timeout'), current_setting('statement_timeout'), \
                   current_setting('constraint_exclusion'), current_setting('tcp_keepalives_idle'), \
                   current_setting('transaction_isolation'), current_setting('transaction_read_only')";
        let messages = block_on(client.simple_query(sql)).expect(sql);
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|i| row.get(i).unwrap_or_default().to_owned()))
            }
            _ => None,
        });
        row.expect("a row").collect::<Vec<String>>()
    };
    let mut answers: Vec<_> = clients.iter().map(ask).collect();
    let fresh: Vec<String> = {
        let direct = db.rows(
            "SELECT 0, 0, current_setting('row_security'), current_setting('search_path'), \
             current_setting('bytea_output'), current_setting('jit'), current_setting('lock_timeout'), \
             current_setting('statement_timeout'), current_setting('constraint_exclusion'), \
             current_setting('tcp_keepalives_idle'), current_setting('transaction_isolation'), \
             current_setting('transaction_read_only')",
        );
        direct[0][1..].to_vec()
    };
    let mut pids: Vec<String> = answers.iter().map(|row| row[0].clone()).collect();
    pids.sort();
    pids.dedup();
    assert_eq!(pids.len(), POOL as usize, "every connection of the pool is looked at");
    answers.retain(|row| row[1..] != fresh);
    answers.iter().map(|row| row.join(" | ")).collect()
}

/// Moves money between the accounts of two tables until it is told to stop. The sum is always zero.
fn transfer(db: &Database, stop: &AtomicBool) {
    let session = db.session();
    let mut account = 1;
    while !stop.load(Ordering::Relaxed) {
        account = (account * 7919 + 13) % ACCOUNTS + 1;
        let sql = format!(
            "BEGIN; UPDATE assets SET n = n + 1 WHERE id = {account}; UPDATE debts SET n = n - 1 WHERE id = {account}; COMMIT"
        );
        session.run(&sql).expect("a transfer");
    }
}

#[test]
fn transaction_mode_keeps_values_snapshots_and_cancels_and_leaves_nothing_behind() {
    let db = Database::empty();
    fill(&db, "still", 30_000);
    for table in ["assets", "debts"] {
        db.execute(&format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, n bigint NOT NULL);
             INSERT INTO {table} SELECT g, 0 FROM generate_series(1, {ACCOUNTS}) g; ANALYZE {table}"
        ));
    }
    db.execute("CREATE VIEW endless AS SELECT g AS id, pg_sleep(0.05) IS NULL AS v FROM generate_series(1, 100000) g");
    let site = Site::new(db);
    let bouncer = Bouncer::start(&site.db, "transaction", POOL);
    let daemons = [(); 2].map(|()| site.daemon_with(&config(&site, &bouncer)));
    let stop = AtomicBool::new(false);
    let mut jobs = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| transfer(&site.db, &stop));
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..4 {
                let job = format!("round-{round}");
                let tables = json!(["public.assets", "public.still", "public.debts"]);
                site.export(json!({"job_id": job, "tables": tables, "parallelism": {"chunk_workers": 4}}));
                let archive = site.exports.archive(&job);
                assert_eq!(archive["epochs"], 1, "one snapshot: {archive}");
                let directory = |table: &str| {
                    let tables = archive["tables"].as_array().expect("tables");
                    let found = tables.iter().find(|t| t["table_name"] == format!("public.{table}"));
                    site.exports.path(found.expect("there")["directory"].as_str().expect("a directory"))
                };
                let files =
                    format!("['{}/*', '{}/*']", directory("assets").display(), directory("debts").display());
                let code = format!(
                    "import duckdb\nprint(*duckdb.sql(\"SELECT count(*), sum(n), count(DISTINCT id) FROM read_parquet({files})\").fetchone())"
                );
                let sums = run_python(&code, &site.path(""));
                assert_eq!(sums.trim(), format!("{} 0 {ACCOUNTS}", 2 * ACCOUNTS), "round {round}");
                jobs.push(job);
            }
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    });
    site.assert_equal(&[("SELECT * FROM still", "public_still"), ("SELECT * FROM still", "public_still_v4")]);
    none_left("nothing of the exports runs", Duration::from_secs(10), || site.db.busy_backends());
    assert_eq!(left_behind(&bouncer, &site.db), [""; 0]);

    let endless = site.request(json!({"job_id": "endless", "tables": ["public.endless"]}));
    eventually("the view is read", PATIENCE, || {
        site.db.backends(&["active"]).iter().any(|b| b.contains("COPY")).then_some(())
    });
    site.cancel(&endless);
    assert_eq!(site.broker.events.wait_final(&endless, PATIENCE).kind(), "job.cancelled");
    // The test no longer asks through PgBouncer, because version 1.18 may refuse all new clients after a
    // cancel request.
    none_left("the server was told to stop", Duration::from_secs(30), || site.db.busy_backends());
    jobs.push(endless);
    daemons.into_iter().for_each(Daemon::stop);
    // PgBouncer keeps connections to the server as long as it lives.
    drop(bouncer);
    // The next daemon empties the trash of stopped daemons.
    let daemon = site.daemon();
    site.assert_sound(&jobs, [daemon]);
}

#[test]
fn session_mode_works_and_statement_mode_says_what_to_set() {
    let db = Database::empty();
    fill(&db, "big", 12_000);
    let site = Site::new(db);
    let export = |mode: &str| {
        let bouncer = Bouncer::start(&site.db, mode, POOL);
        let (url, out) = (site.db.url_at(bouncer.port), site.exports.0.to_string_lossy().into_owned());
        let output = site.run(&[
            "export",
            "--dsn",
            &url,
            "--table",
            "public.big",
            "--out",
            &out,
            "--workers",
            "2",
            "--quiet",
        ]);
        (output.status.code(), said(&output))
    };
    let (code, text) = export("session");
    assert_eq!(code, Some(0), "{text}");
    site.assert_equal(&[("SELECT * FROM big", "public_big")]);
    let (code, text) = export("statement");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("statement pooling mode") && text.contains("pool_mode = transaction"), "{text}");
    site.assert_one_shots_sound();
}
