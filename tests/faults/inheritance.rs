//! Child tables that come and go while a job reads their parent.

use serde_json::json;

use crate::support::{Database, Slow, assert_planned_again, fill, table};

/// A table, a child and a grandchild with 12,000 rows together.
fn family(db: &Database, name: &str) {
    fill(db, name, 6000);
    for (child, parent, from) in [("kid", name.to_owned(), 6001), ("grandkid", format!("{name}_kid"), 9001)] {
        db.execute(&format!(
            "CREATE TABLE {name}_{child} () INHERITS ({parent});
             INSERT INTO {name}_{child} SELECT g, g || ' ' || repeat(md5(g::text), 6)
             FROM generate_series({from}, {from} + 2999) g"
        ));
    }
}

#[test]
fn a_parent_whose_children_come_and_go_is_read_as_one_moment_shows_it() {
    let db = Database::empty();
    for name in ["joined", "parted", "under", "behind"] {
        family(&db, name);
    }
    fill(&db, "alone", 12000);
    // The rows of `older` lie in every range of the parent's key. The table is older than the job's snapshot.
    db.execute(
        "CREATE TABLE older AS SELECT g AS id, 'older' AS v FROM generate_series(1, 12000, 100) g;
         ALTER TABLE older ALTER id SET NOT NULL;
         CREATE VIEW seen AS SELECT id, v FROM under;
         CREATE VIEW childless AS SELECT id, v FROM ONLY under;
         CREATE TABLE later (LIKE older INCLUDING ALL); INSERT INTO later SELECT * FROM older;
         CREATE TABLE adopted (LIKE older INCLUDING ALL); INSERT INTO adopted SELECT * FROM older;
         CREATE VIEW through AS SELECT id, v FROM behind;
         CREATE VIEW unneeded AS SELECT id, v, (SELECT count(*) FROM under) AS n FROM ONLY behind;
         ANALYZE",
    );
    let slow = Slow::new(db);
    let daemons = [slow.daemon(), slow.daemon()];
    let ranges =
        |name: &str| json!({"table": name, "strategy": "range", "chunk_column": "id", "chunk_rows": 1000});
    let job = slow.request_together(&json!([ranges("public.joined"), ranges("public.parted"), ranges("public.seen"), ranges("public.childless"),
                   ranges("public.through"), ranges("public.alone"),
                   {"table": "public.unneeded", "columns": ["id", "v"], "chunk_column": "id", "chunk_rows": 1000}]));
    slow.change_mid_job(
        &job,
        &[
            "ALTER TABLE older INHERIT joined",
            "ALTER TABLE adopted INHERIT alone",
            "ALTER TABLE later INHERIT behind",
            "ALTER TABLE parted_grandkid NO INHERIT parted_kid",
            "ALTER TABLE under_kid NO INHERIT under",
        ],
    );
    let archive = slow.completes(&job);
    assert_planned_again(&archive, &["joined", "parted", "seen", "through"]);
    // A table without children in the snapshot is read without children that it has got since then.
    assert_eq!(table(&archive, "public.alone")["epoch"], 1);
    slow.site.assert_equal(&[
        ("SELECT * FROM ONLY alone", "public_alone"),
        ("SELECT * FROM joined", "public_joined"),
        ("SELECT * FROM parted", "public_parted"),
        ("SELECT * FROM seen", "public_seen"),
        ("SELECT * FROM childless", "public_childless"),
        ("SELECT * FROM through", "public_through"),
        ("SELECT id, v FROM unneeded", "public_unneeded"),
    ]);
    slow.site.assert_sound(&[&job], daemons);
}

#[test]
fn a_child_that_leaves_its_parent_while_a_pattern_s_job_runs_is_exported_by_itself() {
    let db = Database::empty();
    family(&db, "clan");
    db.execute("ANALYZE");
    let slow = Slow::new(db);
    let daemons = [slow.daemon(), slow.daemon()];
    let job = slow.site.request(json!({
        "tables": [{"table": "public.clan*", "strategy": "range", "chunk_column": "id", "chunk_rows": 1000}],
    }));
    slow.change_mid_job(&job, &["ALTER TABLE clan_kid NO INHERIT clan"]);
    let archive = slow.completes(&job);
    let parent = table(&archive, "public.clan");
    assert!(parent["epoch"].as_u64() > Some(1) && parent.get("contains").is_none(), "{parent}");
    assert_eq!(table(&archive, "public.clan_kid")["contains"], json!(["public.clan_grandkid"]), "{archive}");
    let skipped: Vec<&str> =
        archive["skipped"].as_array().expect("skipped").iter().filter_map(|s| s["table"].as_str()).collect();
    assert_eq!(skipped, ["public.clan_grandkid"], "{archive}");
    assert_eq!(archive["skipped"][0]["within"], json!(["public.clan_kid"]), "{archive}");
    slow.site.assert_equal(&[
        ("SELECT * FROM clan", "public_clan"),
        ("SELECT * FROM clan_kid", "public_clan_kid"),
    ]);
    slow.site.assert_sound(&[&job], daemons);
}
