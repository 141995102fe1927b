//! Very large values: exact, and with bounded memory (I8).

use std::fs::File;
use std::path::Path;
use std::process::Command;

use arrow::array::AsArray;
use arrow::datatypes::Int32Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sha2::{Digest, Sha256};

use crate::support::{Database, Services, Site, project};

const WIDE: usize = 256 << 20;

/// Exports a table with a one-shot, with more arguments. Returns its peak memory in bytes.
fn peak(site: &Site, table: &str, more: &[&str]) -> usize {
    let out = site.exports.0.to_string_lossy().into_owned();
    let url = site.db.url_at(Services::get().postgres);
    let output = Command::new(project().join("bench/measure.py"))
        .args([env!("CARGO_BIN_EXE_adu-export"), "export", "--quiet", "--dsn", &url])
        .args(["--table", table, "--out", &out, "--workers", "1"])
        .args(more)
        .output()
        .expect("run measure.py");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let measured = String::from_utf8_lossy(&output.stdout).into_owned();
    let mib: f64 = measured.split_whitespace().nth(2).and_then(|n| n.parse().ok()).expect("a peak");
    (mib * 1024.0 * 1024.0) as usize
}

/// Row number, length and hash of every text in a directory.
fn texts(directory: &Path) -> Vec<(i32, usize, String)> {
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let file = File::open(entry.expect("an entry").path()).expect("a part");
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").with_batch_size(1);
        for batch in reader.build().expect("reads") {
            let batch = batch.expect("a batch");
            let (id, text) =
                (batch["id"].as_primitive::<Int32Type>().value(0), batch["v"].as_string::<i32>());
            let hash = Sha256::digest(text.value(0).as_bytes());
            let hash = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            texts.push((id, text.value(0).len(), hash));
        }
    }
    texts.sort();
    texts
}

#[test]
fn a_thousand_partitions_in_no_order_take_less_than_one_more_row_group() {
    let site = Site::new(Database::empty());
    site.db.execute(
        "CREATE TABLE scattered AS SELECT g AS id, (hashint4(g) & 2147483647) % 1000 AS part, \
            md5(g::text) || md5((-g)::text) || md5((g * 7)::text) || md5((g * 11)::text) AS noise \
         FROM generate_series(1, 600000) g; ANALYZE",
    );
    let whole = peak(&site, "public.scattered", &[]);
    let parted = peak(&site, "public.scattered", &["--partition-by", "part"]);
    eprintln!("peak {} MiB, without partitions {} MiB", parted >> 20, whole >> 20);
    assert!(parted < whole + (16 << 20), "{parted} bytes instead of {whole}");
    let partitions = site.exports.names("public_scattered_v2");
    assert_eq!(partitions.len(), 1000);
    let files =
        partitions.iter().map(|part| site.exports.names(&format!("public_scattered_v2/{part}")).len());
    assert_eq!(files.max(), Some(1), "files of a partition");
    let by = serde_json::json!({"part": "integer"});
    site.assert_partitioned("SELECT id, part, noise FROM scattered", "public_scattered_v2", &by);
}

#[test]
fn values_of_256_mb_take_four_times_their_size_and_no_more() {
    let site = Site::new(Database::empty());
    // Text that does not compress: Snappy looks back 64 KiB, and this text repeats after 1 MiB.
    site.db.execute(&format!(
        "CREATE TABLE narrow (id int PRIMARY KEY, v text);
         ALTER TABLE narrow ALTER v SET STORAGE EXTERNAL;
         CREATE TABLE wide (LIKE narrow INCLUDING ALL);
         INSERT INTO narrow SELECT g, md5(g::text) FROM generate_series(1, 20000) g;
         INSERT INTO wide TABLE narrow;
         UPDATE wide SET v = (SELECT repeat(string_agg(md5(g::text), ''), {WIDE} / 1048576)
                              FROM generate_series(id, id + 32767) g) WHERE id IN (12000, 15001, 15002);
         ANALYZE",
    ));
    let budget = peak(&site, "public.narrow", &[]);
    let peak = peak(&site, "public.wide", &[]);
    let factor = peak.saturating_sub(budget) as f64 / WIDE as f64;
    eprintln!("peak {} MiB, without the wide values {} MiB: {factor:.2} values", peak >> 20, budget >> 20);
    assert!(factor <= 4.0, "{factor:.2} times a value of {WIDE} bytes");

    let expected: Vec<(i32, usize, String)> = site
        .db
        .rows("SELECT id, octet_length(v), encode(sha256(v::bytea), 'hex') FROM wide ORDER BY id")
        .into_iter()
        .map(|row| (row[0].parse().expect("an id"), row[1].parse().expect("a length"), row[2].clone()))
        .collect();
    assert_eq!(expected.iter().filter(|(_, length, _)| *length == WIDE).count(), 3);
    let exported = texts(&site.exports.path("public_wide"));
    assert_eq!(exported.len(), expected.len());
    for (exported, expected) in exported.iter().zip(&expected) {
        assert_eq!(exported, expected);
    }
    site.assert_one_shots_sound();
}
