//! What a request says about its files: their size, and directories for the values of columns.

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
    let file =
        |f: &Value| (f["file"].as_str().expect("a name").to_owned(), f["bytes"].as_u64().expect("bytes"));
    table["files"].as_array().expect("files").iter().map(file).collect()
}

/// The tables of an archive by name.
fn tables_of(archive: &Value) -> BTreeMap<String, Value> {
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
    let tables = tables_of(&site.exports.archive(done.job()));
    let big = files(&tables["public.big"]);
    let of_chunk = |chunk: &str| big.iter().filter(|(name, _)| name.starts_with(chunk)).count();
    let (first, second) = (of_chunk("part-000000-"), of_chunk("part-000001-"));
    assert!(first >= 4 && second >= 4 && first + second == big.len(), "{big:?}");
    let mut sorted = big.clone();
    sorted.sort();
    assert_eq!(sorted, big, "by name, files are in the order of the key");
    for (name, bytes) in &big {
        let is_last = name.ends_with(&format!(
            "-{:04}.parquet",
            if name.contains("-000000-") { first - 1 } else { second - 1 }
        ));
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

    let refused =
        site.run(&["export", "--dsn", &dsn, "--table", "public.big", "--out", &out, "--file-bytes", "1000"]);
    assert!(!refused.status.success());
    assert!(
        said(&refused).contains("output.file_bytes") && said(&refused).contains("1 MiB"),
        "{}",
        said(&refused)
    );
    site.assert_one_shots_sound();
}

/// Texts that name directories, and those that could lead elsewhere or be read as something else.
const TEXTS: [&str; 32] = [
    "EU",
    "x.parquet",
    "eu",
    "a b",
    " lead",
    "trail ",
    "a/b",
    "../../escape",
    "..",
    ".",
    "a=b",
    "100%",
    "%41",
    "Übermaß 東京",
    "😀",
    "NULL",
    "null",
    "007",
    "true",
    "2024-01-01",
    "nan",
    "a+b&c",
    "it's \"q\"",
    "line\nbreak",
    "a\\b",
    "__x",
    "[x]{y}^",
    "a,b;c",
    "x#y?z*",
    "-1",
    "1e5",
    "__hive_default_partition__",
];

#[test]
fn partitions_come_back_with_their_values_and_types_from_three_readers() {
    let site = Site::new(Database::empty());
    let texts: Vec<String> = TEXTS.iter().map(|text| format!("'{}'", text.replace('\'', "''"))).collect();
    let values = [
        ("text", "text", format!("(ARRAY[{}])[1 + g % {}]", texts.join(", "), TEXTS.len())),
        ("flag", "boolean", "g % 2 = 0".to_owned()),
        ("small", "smallint", "(g % 7 - 3)::smallint".to_owned()),
        (
            "big",
            "bigint",
            "CASE g % 3 WHEN 0 THEN 9223372036854775807 WHEN 1 THEN -9223372036854775808 ELSE 5 END"
                .to_owned(),
        ),
        (
            "day",
            "date",
            "CASE g % 3 WHEN 0 THEN '0001-01-01'::date WHEN 1 THEN '9999-12-31' ELSE '2024-02-29' END"
                .to_owned(),
        ),
        ("id", "uuid", "md5((g % 5)::text)::uuid".to_owned()),
        ("mood", "mood", "(ARRAY['sad', 'it''s ok'])[1 + g % 2]::mood".to_owned()),
        ("code", "character(4)", "(ARRAY['a', 'bc'])[1 + g % 2]::character(4)".to_owned()),
    ];
    let mut sql = "CREATE TYPE mood AS ENUM ('sad', 'it''s ok'); CREATE DOMAIN region AS text;".to_owned();
    for (name, ty, value) in &values {
        sql += &format!(
            "CREATE TABLE by_{name} AS SELECT g AS n, (CASE WHEN g % 11 = 0 THEN NULL ELSE {value} END)::{ty} AS part, \
                md5(g::text) AS note FROM generate_series(1, 6000) g; ALTER TABLE by_{name} ADD PRIMARY KEY (n);"
        );
    }
    site.db.execute(&(sql + "CREATE TABLE nobody (n int, part region, note text); ANALYZE"));
    let daemon = site.daemon();
    let mut tables: Vec<Value> = values
        .iter()
        .map(|(name, ..)| json!({"table": format!("public.by_{name}"), "strategy": "range", "chunk_rows": 2000}))
        .collect();
    tables.push(json!("public.nobody"));
    let done =
        site.export(json!({"tables": tables, "output": {"partition_by": ["part"]}, "verify": "count"}));
    for (name, ty, _) in &values {
        let ty = if ["mood", "character(4)"].contains(ty) { "text" } else { ty };
        let part = if *ty == *"text" { "concat(part)" } else { "part" };
        let query =
            format!("SELECT n, CASE WHEN part IS NOT NULL THEN {part} END AS part, note FROM by_{name}");
        site.assert_partitioned(&query, &format!("public_by_{name}"), &json!({"part": ty}));
    }
    site.assert_partitioned("SELECT n, part, note FROM nobody", "public_nobody", &json!({"part": "text"}));
    assert_eq!(
        site.exports.files("public_nobody"),
        ["part=__HIVE_DEFAULT_PARTITION__/part-000000-0000.parquet"]
    );
    let directories = site.exports.names("public_by_text");
    assert_eq!(directories.len(), TEXTS.len() + 1, "{directories:?}");
    assert!(directories.contains(&"part=..%2F..%2Fescape".to_owned()), "{directories:?}");

    let archive = site.exports.archive(done.job());
    let by_text = tables_of(&archive)["public.by_text"].clone();
    assert_eq!(by_text["partition_by"], json!(["part"]));
    assert!(files(&by_text).iter().any(|(name, _)| name.starts_with("part=EU/part-000002-")), "{by_text}");

    let config = site.write("client.toml", &site.config());
    let verify = || site.run(&["verify", "--against-source", "--config", &config, done.job()]);
    assert!(verify().status.success(), "{}", said(&verify()));
    let stranger = site.exports.path("public_by_text/part=EU/stranger.parquet");
    std::fs::copy(site.exports.path(&format!("public_by_text/{}", files(&by_text)[0].0)), &stranger)
        .expect("copied");
    let output = verify();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("part=EU/stranger.parquet is not of this export"), "{}", said(&output));
    std::fs::remove_file(stranger).expect("removed");
    site.assert_sound(&[done.job()], [daemon]);
}

#[test]
fn several_columns_with_files_of_a_size_and_columns_in_another_order() {
    let site = Site::new(Database::empty());
    site.db.execute(
        "CREATE TABLE sales AS SELECT g AS id, 2020 + g % 3 AS year, md5(g::text) || md5((-g)::text) AS noise, \
            (ARRAY['north', 'south'])[1 + g % 2] AS region FROM generate_series(1, 60000) g; ANALYZE",
    );
    let dsn = site.db.url_at(Services::get().postgres);
    let out = site.exports.0.to_string_lossy().into_owned();
    let output = site.run(&[
        "export",
        "--dsn",
        &dsn,
        "--table",
        "public.sales",
        "--out",
        &out,
        "--json",
        "--compression",
        "none",
        "--partition-by",
        "region",
        "--partition-by",
        "year",
        "--file-bytes",
        "1048576",
    ]);
    assert!(output.status.success(), "{}", said(&output));
    let by = json!({"region": "text", "year": "integer"});
    site.assert_partitioned("SELECT * FROM sales", "public_sales", &by);
    let archive: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(archive["tables"][0]["partition_by"], json!(["region", "year"]));
    let directories: std::collections::BTreeSet<_> = files(&archive["tables"][0])
        .into_iter()
        .map(|(name, _)| name.rsplit_once('/').expect("below").0.to_owned())
        .collect();
    assert_eq!(directories.len(), 6, "{directories:?}");
    assert!(directories.contains("region=north/year=2021"), "{directories:?}");
    let plan = site.run(&["plan", "--dsn", &dsn, "--table", "public.sales", "--partition-by", "region"]);
    assert!(said(&plan).contains("in a directory for each region"), "{}", said(&plan));
    site.assert_one_shots_sound();
}

#[test]
fn what_cannot_be_partitioned_fails_with_table_column_and_remedy() {
    let site = Site::new(Database::empty());
    site.db.execute(
        "CREATE TABLE fine AS SELECT 1 AS n, 'EU' AS region;
         CREATE TABLE absent (n int);
         CREATE TABLE numbers AS SELECT 1 AS n, 1.5::numeric AS region;
         CREATE TABLE moments AS SELECT 1 AS n, now() AS region;
         CREATE TABLE alone AS SELECT 'EU' AS region;
         CREATE TABLE twice AS SELECT 1 AS n, 'EU' AS region, 'eu' AS \"Region\";
         CREATE TABLE blank AS SELECT g AS n, CASE g WHEN 2 THEN '' ELSE 'EU' END AS region FROM generate_series(1, 3) g;
         CREATE TABLE null_name AS SELECT 1 AS n, '__HIVE_DEFAULT_PARTITION__' AS region;
         CREATE TABLE endless AS SELECT 1 AS n, 'infinity'::date AS region;
         CREATE TABLE many AS SELECT g AS n, (g % 50)::text AS region FROM generate_series(1, 5000) g;
         CREATE TABLE apart AS SELECT g AS n, (g / 150)::text AS region FROM generate_series(1, 5000) g;
         ALTER TABLE apart ADD PRIMARY KEY (n); ANALYZE",
    );
    let mut config = site.config();
    config["export"]["partitions_max"] = json!(30);
    let daemon = site.daemon_with(&config);
    // No chunk of `apart` has too many values, but the table has.
    let tables = json!(["public.*", {"table": "public.apart", "strategy": "range", "chunk_rows": 1000}]);
    let job = site.request(json!({"tables": tables, "output": {"partition_by": ["region"]}}));
    let last = site.broker.events.wait_final(&job, crate::support::PATIENCE);
    assert_eq!(last.kind(), "job.partial", "{}", last.body);
    let archive = site.exports.archive(&job);
    let tables = tables_of(&archive);
    for (table, code, word) in [
        ("absent", "no_such_column", "has no column \"region\""),
        ("numbers", "partition_type", "is of type numeric"),
        ("moments", "partition_type", "is of type timestamp with time zone"),
        ("alone", "partition_column", "no column would be left"),
        ("twice", "partition_column", "\"Region\""),
        ("blank", "partition_value", "an empty text"),
        ("null_name", "partition_value", "__HIVE_DEFAULT_PARTITION__"),
        ("endless", "partition_value", "a date that is infinite"),
        ("many", "too_many_partitions", "more than 30 values"),
        ("apart", "too_many_partitions", "more than 30 values"),
    ] {
        let error = &tables[&format!("public.{table}")]["error"];
        assert_eq!(error["code"], code, "{table}: {error}");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains(&format!("public.{table}")) && message.contains(word), "{table}: {error}");
        assert!(message.contains("region") && error["remedy"].is_string(), "{table}: {error}");
    }
    site.assert_partitioned("SELECT * FROM fine", "public_fine", &json!({"region": "text"}));
    site.assert_sound(&[&job], [daemon]);
}
