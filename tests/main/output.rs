//! What a request says about its files: their size.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Database, Services, Site, said};

const MIB: u64 = 1 << 20;

/// A table of some megabytes that do not compress, in the order of its key, and small ones.
fn database() -> Database {
    let db = Database::empty();
    db.execute(
        "CREATE TABLE big AS SELECT g::bigint AS id, \
            md5(g::text) || md5((-g)::text) || md5((g * 7)::text) || md5((g * 11)::text) AS noise \
            FROM generate_series(1, 80000) g; \
         ALTER TABLE big ADD PRIMARY KEY (id); \
         CREATE TABLE small AS SELECT g AS n, md5(g::text) AS noise FROM generate_series(1, 60000) g; \
         CREATE TABLE tiny AS SELECT 1 AS one; \
         CREATE TABLE empty (id integer); \
         ANALYZE",
    );
    db
}

fn files(table: &Value) -> Vec<(String, u64)> {
    let file = |f: &Value| (f["file"].as_str().expect("a name").to_owned(), f["bytes"].as_u64().expect("bytes"));
    table["files"].as_array().expect("files").iter().map(file).collect()
}

/// The tables of an archive by name.
fn tables(archive: &Value) -> BTreeMap<String, Value> {
    let named = |t: &Value| (t["table_name"].as_str().expect("a name").to_owned(), t.clone());
    archive["tables"].as_array().expect("tables").iter().map(named).collect()
}

#[test]
fn a_file_is_followed_by_the_next_at_the_size_that_was_asked_for() {
    let site = Site::new(database());
    let daemon = site.daemon();
    let done = site.export(json!({
        "tables": [{"table": "public.big", "chunk_rows": 40000, "strategy": "range"}, "public.small", "public.tiny", "public.empty"],
        // A row group is larger than the file that was asked for, unless the file ends it.
        "output": {"file_bytes": MIB, "compression": "none"},
        "verify": "count",
    }));
    let tables = tables(&site.exports.archive(done.job()));
    let big = files(&tables["public.big"]);
    let of_chunk = |chunk: &str| big.iter().filter(|(name, _)| name.starts_with(chunk)).count();
    let (first, second) = (of_chunk("part-000000-"), of_chunk("part-000001-"));
    assert!(first >= 4 && second >= 4 && first + second == big.len(), "{big:?}");
    let mut sorted = big.clone();
    sorted.sort();
    assert_eq!(sorted, big, "by name, files are in the order of the key");
    for (name, bytes) in &big {
        let is_last = name.ends_with(&format!("-{:04}.parquet", if name.contains("-000000-") { first - 1 } else { second - 1 }));
        assert!(is_last || (MIB..MIB + MIB / 2).contains(bytes), "{name} has {bytes} bytes");
    }
    // A batch of small tables: each table has files of its own.
    assert!(files(&tables["public.small"]).len() >= 2, "{:?}", tables["public.small"]);
    let one = |table: &str| files(&tables[table]).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(one("public.tiny"), ["part-000000-0000.parquet"]);
    assert_eq!(one("public.empty"), ["part-000000-0000.parquet"]);
    site.assert_equal(&[
        ("SELECT * FROM big", "public_big"),
        ("SELECT * FROM small", "public_small"),
        ("SELECT * FROM tiny", "public_tiny"),
        ("SELECT * FROM empty", "public_empty"),
    ]);
    let written: usize = tables.values().map(|table| files(table).len()).sum();
    assert_eq!(daemon.metric("adu_export_files_written_total"), written as f64);

    let config = site.write("client.toml", &site.config());
    let verify = || site.run(&["verify", "--config", &config, done.job()]);
    assert!(verify().status.success(), "{}", said(&verify()));
    let (last, _) = &big[first - 1];
    let kept = site.exports.path("public_big").join(last);
    std::fs::rename(&kept, site.path("aside")).expect("moved");
    let output = verify();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains(last.as_str()), "{}", said(&output));
    std::fs::rename(site.path("aside"), kept).expect("moved back");
    site.assert_sound(&[done.job()], [daemon]);
}

#[test]
fn the_size_of_files_comes_from_request_flag_or_configuration() {
    let site = Site::new(database());
    let dsn = site.db.url_at(Services::get().postgres);
    let out = site.exports.0.to_string_lossy().into_owned();
    let export = |more: &[&str]| {
        let mut arguments = vec!["export", "--dsn", &dsn, "--table", "public.big", "--out", &out, "--json"];
        arguments.extend(more);
        let output = site.run(&arguments);
        assert!(output.status.success(), "{}", said(&output));
        let archive: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        files(&archive["tables"][0]).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(export(&[]), ["part-000000.parquet"]);
    let by_flag = export(&["--file-bytes", "2097152", "--compression", "none"]);
    assert!((3..7).contains(&by_flag.len()) && by_flag[1] == "part-000000-0001.parquet", "{by_flag:?}");

    let mut config = site.config();
    config["export"]["file_bytes"] = json!(4 * MIB);
    let path = site.write("sized.toml", &config);
    let plan = |more: &[&str]| {
        let mut arguments = vec!["plan", "--config", &path, "--table", "public.big", "--json"];
        arguments.extend(more);
        let output = site.run(&arguments);
        assert!(output.status.success(), "{}", said(&output));
        let plan: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (plan["writer"]["file_bytes"].clone(), plan["writer"]["row_group_bytes"].clone())
    };
    assert_eq!(plan(&[]), (json!(4 * MIB), json!(4 * MIB)), "a row group is no larger than a file");
    assert_eq!(plan(&["--file-bytes", "33554432"]), (json!(32 * MIB), json!(16 * MIB)));

    let refused = site.run(&["export", "--dsn", &dsn, "--table", "public.big", "--out", &out, "--file-bytes", "1000"]);
    assert!(!refused.status.success());
    assert!(said(&refused).contains("output.file_bytes") && said(&refused).contains("1 MiB"), "{}", said(&refused));
    site.assert_one_shots_sound();
}
