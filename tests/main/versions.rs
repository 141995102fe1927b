//! A directory belongs for ever to one export of one table.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Database, Site, said};

#[test]
fn a_second_export_is_v2_and_latest_follows() {
    let site = Site::new(Database::tpch());
    let daemon = site.daemon();
    let first = site.export(json!({"tables": ["public.customer"]}));
    assert_eq!(site.exports.latest("public_customer").as_deref(), Some("public_customer"));
    let before = site.exports.fingerprint("public_customer");
    site.db
        .execute("CREATE TABLE old AS SELECT * FROM customer; UPDATE customer SET c_acctbal = c_acctbal + 1");

    let second = site.export(json!({"tables": ["public.customer"]}));
    let third = site.export(json!({"tables": ["public.customer"]}));

    assert_eq!(second.data()["tables"][0]["directory"], "public_customer_v2");
    assert_eq!(third.data()["tables"][0]["directory"], "public_customer_v3");
    assert_eq!(site.exports.latest("public_customer").as_deref(), Some("public_customer_v3"));
    assert_eq!(site.exports.fingerprint("public_customer"), before, "the first one is untouched");
    site.assert_equal(&[
        ("SELECT * FROM old", "public_customer"),
        ("SELECT * FROM customer", "public_customer_v2"),
        ("SELECT * FROM customer", "public_customer_v3"),
    ]);
    site.assert_sound(&[first.job(), second.job(), third.job()], [daemon]);
}

#[test]
fn two_jobs_on_one_table_make_two_versions() {
    let site = Site::new(Database::tpch());
    let daemons = [site.daemon(), site.daemon()];
    let table = json!({"table": "public.orders", "chunk_rows": 20_000});
    let jobs = [(); 3].map(|()| site.request(json!({"tables": [table]})));
    for job in &jobs {
        site.completed(job);
    }
    let names = ["public_orders", "public_orders_v2", "public_orders_v3"];
    assert!(site.exports.directories().iter().eq(&names));
    site.assert_equal(&names.map(|name| ("SELECT * FROM orders", name)));
    site.assert_sound(&jobs, daemons);
}

#[test]
fn a_partial_export_is_a_version_but_never_latest() {
    let site = Site::new(Database::tpch());
    let daemon = site.daemon();
    let full = site.export(json!({"tables": ["public.nation"]}));
    let some = site.export(json!({"tables": [{"table": "public.nation", "where": "n_regionkey = 1"}]}));
    assert_eq!(some.data()["tables"][0]["directory"], "public_nation_v2");
    assert_eq!(site.exports.latest("public_nation").as_deref(), Some("public_nation"));
    site.assert_sound(&[full.job(), some.job()], [daemon]);
}

#[test]
fn tables_whose_names_look_alike_never_share_a_directory() {
    let site = Site::new(Database::empty());
    site.db.execute(
        "CREATE SCHEMA a; CREATE SCHEMA a_b; CREATE SCHEMA \"A\"; CREATE SCHEMA \"..\"; CREATE SCHEMA \".temp\";
         CREATE TABLE orders AS SELECT 1 AS x;
         CREATE TABLE orders_v2 AS SELECT 2 AS x;
         CREATE TABLE \"orders_2025-08-05\" AS SELECT 3 AS x;
         CREATE TABLE a.b_c AS SELECT 4 AS x;
         CREATE TABLE a_b.c AS SELECT 5 AS x;
         CREATE TABLE \"A\".b_c AS SELECT 6 AS x;
         CREATE TABLE \"..\".\"../../etc\" AS SELECT 7 AS x;
         CREATE TABLE \".temp\".\"x/y %2F\" AS SELECT 8 AS x;
         CREATE TABLE \"Ünï \"\"q\"\" * . x\" AS SELECT 9 AS x;
         CREATE TABLE \"\\ \n\" AS SELECT 10 AS x",
    );
    let daemon = site.daemon();
    let all = json!({"tables": ["*.*"]});
    let first = site.export(all.clone());
    let second = site.export(all);

    for done in [&first, &second] {
        let reports = done.data()["tables"].as_array().expect("tables");
        assert_eq!(reports.len(), 10, "{reports:?}");
        for report in reports {
            let directory = report["directory"].as_str().expect("a directory");
            assert!(!directory.contains('/') && !directory.starts_with('.'), "{directory}");
        }
    }
    assert_eq!(site.exports.directories().len(), 20);
    // Whatever the names of directories are, each holds the table that the event names.
    let values = ["orders", "orders_v2", "\"orders_2025-08-05\""];
    let mut pairs = Vec::new();
    for (i, table) in values.iter().enumerate() {
        let named = format!("public.{}", table.trim_matches('"'));
        for done in [&first, &second] {
            let reports = done.data()["tables"].as_array().expect("tables");
            let report = reports.iter().find(|r| r["table"] == named.as_str()).expect("its report");
            let directory = report["directory"].as_str().expect("a directory");
            pairs.push((format!("SELECT {} AS x", i + 1), directory.to_owned()));
        }
    }
    pairs.push(("SELECT * FROM orders".to_owned(), "public_orders_v2".to_owned()));
    pairs.push(("SELECT * FROM a.b_c".to_owned(), "a_b_c".to_owned()));
    site.assert_all_equal(&pairs);
    site.assert_sound(&[first.job(), second.job()], [daemon]);
}

#[test]
fn one_name_in_two_sources_is_two_directories() {
    let (site, lake) = (Site::new(Database::empty()), Database::empty());
    site.db.execute("CREATE TABLE t AS SELECT 'warehouse' AS x");
    lake.execute("CREATE TABLE t AS SELECT 'lake' AS x");
    let mut config = site.config();
    config["sources"]["lake"] = config["sources"]["warehouse"].clone();
    config["sources"]["lake"]["dsn"] = json!(lake.dsn());
    let daemon = site.daemon_with(&config);

    let directory = |source: &str| {
        let done = site.export(json!({"source": source, "tables": ["public.t"]}));
        (
            done.job().to_owned(),
            done.data()["tables"][0]["directory"].as_str().expect("a directory").to_owned(),
        )
    };
    let exports = ["lake", "warehouse", "lake", "warehouse"].map(directory);

    let distinct: BTreeSet<_> = exports.iter().map(|(_, directory)| directory).collect();
    assert_eq!(distinct.len(), 4, "{exports:?}");
    let mut pairs = Vec::new();
    for (i, (_, directory)) in exports.iter().enumerate() {
        let source = ["lake", "warehouse"][i % 2];
        pairs.push((format!("SELECT '{source}' AS x"), directory.clone()));
        let base = exports[i % 2].1.as_str();
        assert_eq!(*directory, if i < 2 { base.to_owned() } else { format!("{base}_v2") });
        assert_eq!(site.exports.latest(base), Some(format!("{base}_v2")));
    }
    site.assert_all_equal(&pairs);
    site.assert_sound(&exports.each_ref().map(|(job, _)| job.as_str()), [daemon]);
}

#[test]
fn a_conflict_may_fail_the_table_or_date_it() {
    let site = Site::new(Database::tpch());
    let daemon = site.daemon();
    let with = |rule: &str| json!({"tables": ["public.region"], "output": {"on_conflict": rule}});
    let first = site.export(with("fail"));
    let second = site.request(with("fail"));
    let failed = site.broker.events.wait_final(&second, crate::support::PATIENCE);
    assert_eq!(failed.kind(), "job.failed");
    assert!(failed.error().contains("public_region"), "{}", failed.error());
    let dated = [site.export(with("timestamp")), site.export(with("timestamp"))];
    for done in &dated {
        let directory = done.data()["tables"][0]["directory"].as_str().expect("a directory");
        assert!(directory.starts_with("public_region_20"), "{directory}");
    }
    assert_eq!(site.exports.directories().len(), 3);
    site.assert_sound(&[first.job(), &second, dated[0].job(), dated[1].job()], [daemon]);
}

#[test]
fn prune_removes_old_versions_only_when_told_and_never_the_newest() {
    let site = Site::new(Database::tpch());
    let daemon = site.daemon();
    let mut jobs = Vec::new();
    let mut export = |tables: Value| jobs.push(site.export(json!({"tables": tables})).job().to_owned());
    for _ in 0..4 {
        export(json!(["public.region", "public.nation"]));
    }
    export(json!([{"table": "public.region", "where": "r_regionkey > 1"}]));
    for value in ["0", "1", "2"] {
        let after = json!({"column": "r_regionkey", "value": value});
        export(json!([{"table": "public.region", "after": after}]));
    }
    std::fs::write(site.exports.path("public_nation_v2/notes.txt"), "mine").expect("written");
    let config = site.write("prune.toml", &site.config());
    let prune = |more: &[&str]| {
        let output = site.run(&[&["prune", "--config", &config, "--keep", "2"], more].concat());
        (output.status.code(), said(&output))
    };

    let before = site.exports.directories();
    let (code, listed) = prune(&["--table", "public.region"]);
    assert_eq!(code, Some(0), "{listed}");
    assert!(listed.contains("public_region ") && listed.contains("public_region_v2"), "{listed}");
    assert!(!listed.contains("public_region_v3") && !listed.contains("nation"), "{listed}");
    assert_eq!(site.exports.directories(), before, "listed, not removed");
    assert_eq!(prune(&["--older-than", "1h", "--yes"]).0, Some(0), "nothing is so old");
    assert_eq!(site.exports.directories(), before);

    let (code, removed) = prune(&["--yes"]);
    assert_eq!(code, Some(3), "one is not what was published: {removed}");
    let left = site.exports.directories();
    let expected = [
        "public_nation_v2",
        "public_nation_v3",
        "public_nation_v4",
        "public_region_v3",
        "public_region_v4",
        "public_region_v5",
        // Increments: each has rows that no other export has.
        "public_region_v6",
        "public_region_v7",
        "public_region_v8",
    ];
    assert_eq!(left.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    assert!(site.exports.path(".latest/public_region").join("part-000000.parquet").exists());
    // The owner of the notes removes them, together with the rest of that directory.
    std::fs::remove_dir_all(site.exports.path("public_nation_v2")).expect("removed");
    site.assert_sound(&jobs[2..], [daemon]);
}
