//! One table fails. The others are published, the archive says why it failed, and a retry exports it.

use serde_json::{Value, json};

use crate::support::{Daemon, Database, PATIENCE, Site, Slow, fill, mid_job, table};

/// The job ends as partial: `failed` has an error, and all other tables are published.
#[track_caller]
fn partial(site: &Site, job: &str, failed: &str) -> Value {
    let last = site.broker.events.wait_final(job, PATIENCE);
    assert_eq!(last.kind(), "job.partial", "{}", last.body);
    assert_eq!(site.broker.events.of(job, "table.failed").len(), 1);
    let archive = site.exports.archive(job);
    for table in archive["tables"].as_array().expect("tables") {
        let expected = if table["table_name"] == failed { "failed" } else { "completed" };
        assert_eq!(table["status"], expected, "{table}");
    }
    table(&archive, failed)["error"].clone()
}

/// `retry` makes a job for the failed tables, and it completes.
#[track_caller]
fn retried(site: &Site, job: &str, tables: &[&str]) -> String {
    let again = site.retry(job);
    site.completed(&again);
    let archive = site.exports.archive(&again);
    assert_eq!(archive["retry_of"], job);
    let names = archive["tables"].as_array().expect("tables").iter().map(|t| t["table_name"].clone());
    assert_eq!(names.collect::<Vec<_>>(), tables, "only what failed is exported again");
    again
}

fn three_tables() -> Slow {
    let db = Database::empty();
    for name in ["one", "secret", "other"] {
        fill(&db, name, 12_000);
    }
    Slow::new(db)
}

#[test]
fn a_right_that_is_revoked_fails_its_table_alone_and_a_retry_mends_it() {
    let slow = three_tables();
    let daemons: [Daemon; 2] = [slow.daemon(), slow.daemon()];
    let job = slow.request_together(&json!(["public.one", "public.secret", "public.other"]));
    daemons.iter().for_each(mid_job);
    slow.site.db.execute("REVOKE ALL ON secret FROM exporter");
    slow.site.assert_runs(&job, "it was revoked while the job ran");
    slow.proxy.mend();
    let error = partial(&slow.site, &job, "public.secret");
    assert_eq!(error["code"], "42501", "{error}");
    assert!(error["message"].as_str().is_some_and(|m| m.contains("public.secret")), "{error}");
    assert!(error["remedy"].as_str().is_some_and(|m| m.contains("grant")), "{error}");

    slow.site.db.execute("GRANT SELECT ON secret TO exporter");
    let again = retried(&slow.site, &job, &["public.secret"]);
    slow.site.assert_equal(&[
        ("SELECT * FROM one", "public_one"),
        ("SELECT * FROM secret", "public_secret"),
        ("SELECT * FROM other", "public_other"),
    ]);
    slow.site.assert_sound(&[&job, &again], daemons);
}

#[test]
fn a_value_that_cannot_be_computed_fails_its_table_alone_and_a_retry_mends_it() {
    let db = Database::empty();
    fill(&db, "one", 5000);
    fill(&db, "other", 10);
    db.execute(
        "CREATE VIEW broken AS SELECT id, 1000 / (id - 4321) AS q FROM one;
         CREATE VIEW broken_in_a_batch AS SELECT id, 1000 / (id - 7) AS q FROM other",
    );
    let site = Site::new(db);
    let daemons = [(); 2].map(|()| {
        let mut config = site.config();
        config["export"]["chunk_rows"] = json!(1000);
        site.daemon_with(&config)
    });
    let ranges =
        json!({"table": "public.broken", "strategy": "range", "chunk_column": "id", "chunk_rows": 500});
    let job = site.request(json!({"tables": ["public.one", "public.other", ranges]}));
    let error = partial(&site, &job, "public.broken");
    assert_eq!(error["code"], "22012", "{error}");
    assert!(error["message"].as_str().is_some_and(|m| m.contains("public.broken")), "{error}");
    assert!(error["remedy"].is_string(), "{error}");
    // Small tables share a batch, but each of them fails alone.
    let small = site.request(json!({"tables": ["public.broken_in_a_batch", "public.other"]}));
    let error = partial(&site, &small, "public.broken_in_a_batch");
    assert_eq!(error["code"], "22012", "{error}");

    site.db.execute(
        "CREATE OR REPLACE VIEW broken AS SELECT id, 1000 / nullif(id - 4321, 0) AS q FROM one;
         CREATE OR REPLACE VIEW broken_in_a_batch AS SELECT id, 1000 / nullif(id - 7, 0) AS q FROM other",
    );
    let again = retried(&site, &job, &["public.broken"]);
    let small_again = retried(&site, &small, &["public.broken_in_a_batch"]);
    site.assert_equal(&[
        ("SELECT * FROM one", "public_one"),
        ("SELECT * FROM other", "public_other"),
        ("SELECT * FROM other", "public_other_v2"),
        ("SELECT * FROM broken", "public_broken"),
        ("SELECT * FROM broken_in_a_batch", "public_broken_in_a_batch"),
    ]);
    let strategy = table(&site.exports.archive(&again), "public.broken")["strategy"].clone();
    assert_eq!(strategy, "range", "a retry keeps what the request said of the table");
    site.assert_sound(&[&job, &small, &again, &small_again], daemons);
}

#[test]
fn a_job_of_which_every_table_fails_is_failed_and_can_be_retried() {
    let db = Database::empty();
    fill(&db, "one", 100);
    db.execute(
        "CREATE VIEW broken AS SELECT id, 1000 / (id - 7) AS q FROM one; REVOKE ALL ON one FROM exporter",
    );
    let site = Site::new(db);
    let daemon = site.daemon();
    let job = site.request(json!({"tables": ["public.one", "public.broken", "public.missing"]}));
    let last = site.broker.events.wait_final(&job, PATIENCE);
    assert_eq!(last.kind(), "job.failed", "{}", last.body);
    let archive = site.exports.archive(&job);
    for (name, code) in
        [("public.one", "unreadable"), ("public.broken", "22012"), ("public.missing", "unknown_table")]
    {
        assert_eq!(table(&archive, name)["error"]["code"], code, "{archive}");
    }
    site.db.execute(
        "GRANT SELECT ON one TO exporter; CREATE TABLE missing (id int);
         CREATE OR REPLACE VIEW broken AS SELECT id, 0 AS q FROM one",
    );
    let again = retried(&site, &job, &["public.one", "public.broken", "public.missing"]);
    site.assert_sound(&[&job, &again], [daemon]);
}
