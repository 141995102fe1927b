//! Chunks do not overlap and together hold every row, whatever the keys and the statistics are.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::support::{Database, Site};

const TABLES: usize = 80;

/// Types of keys: how a number becomes a key, and the extreme values.
const KEYS: &[(&str, &str, &[&str])] = &[
    ("smallint", "(b % 32768)::smallint", &["-32768", "32767"]),
    ("integer", "(b % 2147483648)::integer", &["-2147483648", "2147483647"]),
    ("bigint", "b", &["-9223372036854775808", "9223372036854775807"]),
    ("numeric(20,4)", "(b % 1000000000000000)::numeric / 7", &["-0.0001", "9999999999999999.9999"]),
    ("numeric", "b::numeric * 1e40 + 0.1", &["NaN", "-1e300"]),
    ("date", "date '2000-01-01' + (b % 700000)::integer", &["-infinity", "infinity", "4713-01-01 BC"]),
    (
        "timestamp",
        "timestamp '2000-01-01' + (b % 1000000000000000) * interval '1 us'",
        &["-infinity", "infinity"],
    ),
    (
        "timestamptz",
        "timestamptz '2000-01-01' + (b % 1000000000000000) * interval '1 us'",
        &["-infinity", "infinity"],
    ),
    (
        "uuid",
        "md5(b::text)::uuid",
        &["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
    ),
    ("text COLLATE \"C\"", "translate(md5(b::text), '0123456', 'Ü'' \\Ba\n')", &["", "'", "\\"]),
    (
        "text COLLATE \"en-x-icu\"",
        "translate(left(md5(b::text), (b % 9)::integer), '01234', 'ÜBa b')",
        &["", "ß"],
    ),
    ("text", "translate(md5(b::text), '0123456', 'ÜBa b_-')", &["", "\u{10ffff}"]),
    ("varchar(20)", "left(translate(md5(b::text), '0123', 'Ab ä'), 20)", &["", " "]),
    ("char(12)", "left(translate(md5(b::text), '0123', 'Ab ä'), 10)", &["", "a"]),
];

/// Distributions of numbers: with duplicates, gaps, both signs, over the whole range, in order.
const SPREADS: &[&str] = &[
    "(random() * 4)::bigint",
    "g::bigint * 1000003",
    "(power(10, random() * 18))::bigint * (CASE WHEN random() < 0.5 THEN -1 ELSE 1 END)",
    "('x' || left(md5(random()::text), 16))::bit(64)::bigint",
    "g",
    "42",
    "CASE WHEN random() < 0.9 THEN (random() * 100)::bigint ELSE (random() * 1e15)::bigint END",
];

/// One table and how to split it.
#[derive(Debug)]
struct Case {
    key: usize,
    spread: usize,
    rows: u32,
    nulls: u32,
    edges: bool,
    indexed: bool,
    statistics: bool,
    grown: bool,
    partitioned: bool,
    chunk_rows: u32,
    strategy: &'static str,
}

fn case() -> impl Strategy<Value = Case> {
    let rows = prop_oneof![1 => Just(0_u32), 1 => Just(1), 10 => 2..3000_u32];
    let nulls = prop_oneof![3 => Just(0_u32), 1 => Just(50), 1 => Just(100), 3 => 1..30_u32];
    let strategy = prop::sample::select(&["range", "range", "range", "auto", "ctid"][..]);
    (
        (0..KEYS.len(), 0..SPREADS.len(), rows, nulls, any::<bool>()),
        (any::<bool>(), any::<bool>(), any::<bool>(), prop::bool::weighted(0.2), 1..800_u32, strategy),
    )
        .prop_map(
            |(
                (key, spread, rows, nulls, edges),
                (indexed, statistics, grown, partitioned, chunk_rows, strategy),
            )| {
                Case {
                    key,
                    spread,
                    rows,
                    nulls,
                    edges,
                    indexed,
                    statistics,
                    grown,
                    partitioned,
                    // Each chunk costs a file, so use at most 60.
                    chunk_rows: chunk_rows.max(rows / 60),
                    strategy: if partitioned && strategy == "ctid" { "range" } else { strategy },
                }
            },
        )
}

impl Case {
    fn create(&self, name: &str, seed: f64) -> String {
        let (ty, from, edges) = KEYS[self.key];
        let insert = |rows: u32| {
            format!(
                "INSERT INTO {name} (k, v) SELECT CASE WHEN random() * 100 < {} THEN NULL ELSE {from} END, g \
                 FROM (SELECT g, {} AS b FROM generate_series(1, {rows}) g) q;",
                self.nulls, SPREADS[self.spread],
            )
        };
        let options = " WITH (autovacuum_enabled = off)";
        let mut sql = match self.partitioned {
            true => format!(
                "CREATE TABLE {name} (k {ty}, v bigint) PARTITION BY HASH (v); \
                 CREATE TABLE {name}_0 PARTITION OF {name} FOR VALUES WITH (MODULUS 2, REMAINDER 0){options}; \
                 CREATE TABLE {name}_1 PARTITION OF {name} FOR VALUES WITH (MODULUS 2, REMAINDER 1){options};"
            ),
            false => format!("CREATE TABLE {name} (k {ty}, v bigint){options};"),
        };
        sql += &format!("SELECT setseed({seed});");
        sql += &insert(self.rows);
        if self.indexed {
            sql += &format!("CREATE INDEX ON {name} (k);");
        }
        if self.edges && self.rows > 0 {
            for edge in edges {
                sql += &format!("INSERT INTO {name} (k, v) VALUES ('{}', -1);", edge.replace('\'', "''"));
            }
        }
        if self.statistics {
            sql += &format!("ANALYZE {name};");
        }
        if self.grown {
            sql += &insert(self.rows / 2);
        }
        sql
    }

    fn request(&self, name: &str) -> Value {
        let mut table = json!({
            "table": format!("public.{name}"), "strategy": self.strategy, "chunk_rows": self.chunk_rows
        });
        if self.strategy != "ctid" {
            table["chunk_column"] = json!("k");
        }
        table
    }
}

/// The cases. `ADU_COVERAGE_SEED` chooses other tables.
fn cases() -> (u64, Vec<Case>) {
    let seed = std::env::var("ADU_COVERAGE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1_u64);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let new = |_| case().new_tree(&mut runner).expect("a case").current();
    (seed, (0..TABLES).map(new).collect())
}

#[test]
fn every_row_is_in_one_chunk_whatever_the_keys() {
    let (seed, cases) = cases();
    eprintln!("ADU_COVERAGE_SEED={seed}");
    let site = Site::new(Database::empty());
    let names: Vec<String> = (0..cases.len()).map(|i| format!("t{i}")).collect();
    for (case, name) in cases.iter().zip(&names) {
        site.db.execute(&case.create(name, (seed % 1000) as f64 / 1000.0));
    }
    let daemons = [site.daemon(), site.daemon()];
    let tables: Vec<Value> = cases.iter().zip(&names).map(|(case, name)| case.request(name)).collect();
    let done = site.export(json!({"tables": tables}));

    let pairs: Vec<Value> = names.iter().map(|name| json!({"relation": format!("public.{name}")})).collect();
    for (judged, case) in site.cast_back(&pairs).iter().zip(&cases) {
        let (name, differences) = (&judged.relation, &judged.differences);
        assert!(differences.is_empty(), "seed {seed}, {name}: {case:?}\n{differences:?}");
    }
    let archive = site.exports.archive(done.job());
    let split = |t: &&Value| t["chunks"].as_u64().is_some_and(|chunks| chunks > 1);
    let tables = archive["tables"].as_array().expect("tables");
    assert!(tables.iter().filter(split).count() > TABLES / 3, "many were split");
    site.assert_sound(&[done.job()], daemons);
}
