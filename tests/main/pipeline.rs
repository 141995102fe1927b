//! Requests become published Parquet files that are complete and equal to the source.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::support::{Database, PATIENCE, Site, Slow, eventually};

const TPCH: [&str; 8] =
    ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"];

#[test]
fn two_daemons_export_all_tables_equal_to_the_source() {
    let site = Site::new(Database::tpch());
    let total: u64 = TPCH.iter().map(|t| site.db.number(&format!("SELECT count(*) FROM {t}"))).sum();
    let with_small_chunks = || {
        let mut config = site.config();
        config["export"]["chunk_rows"] = json!(20_000);
        config
    };
    let daemons = [site.daemon_with(&with_small_chunks()), site.daemon_with(&with_small_chunks())];

    let done = site.export(json!({"tables": ["public.*"], "labels": {"team": "crm"}}));

    let rows = daemons.each_ref().map(|d| d.rows_exported());
    assert!(rows.iter().all(|n| *n > 0), "rows of each daemon: {rows:?}");
    assert_eq!(rows.iter().sum::<u64>(), total, "every row is read once");

    let queries = TPCH.map(|t| (format!("SELECT * FROM public.{t}"), format!("public_{t}")));
    let pairs = queries.each_ref().map(|(q, d)| (q.as_str(), d.as_str()));
    site.assert_equal(&pairs);
    site.db.execute("UPDATE lineitem SET l_tax = l_tax + 0.01 WHERE l_orderkey = 7 AND l_linenumber = 1");
    assert!(site.differences(&pairs).contains("1 rows only in server"), "the oracle sees one changed row");

    let directories: BTreeSet<String> = TPCH.iter().map(|t| format!("public_{t}")).collect();
    assert_eq!(site.exports.directories(), directories);
    for directory in &directories {
        assert_eq!(site.exports.latest(directory).as_deref(), Some(directory.as_str()));
        for (i, name) in site.exports.names(directory).iter().enumerate() {
            assert_eq!(*name, format!("part-{i:06}.parquet"));
        }
    }
    assert!(site.exports.names("public_lineitem").len() >= 30, "600,572 rows in chunks of 20,000");

    let job = done.job();
    assert_eq!(done.data()["labels"]["team"], "crm");
    assert_eq!(done.data()["archive"].as_str(), Some(format!(".archive/by-id/{job}.json").as_str()));
    assert_eq!(site.broker.events.of(job, "job.accepted").len(), 1);
    assert_eq!(site.broker.events.of(job, "table.completed").len(), 8);
    assert!(
        !site.broker.events.of(job, "job.progress").is_empty(),
        "a job of many chunks tells its progress"
    );
    site.assert_sound(&[job], daemons);
}

#[test]
fn the_archive_has_what_others_read_from_it() {
    let site = Site::new(Database::tpch());
    let daemon = site.daemon();
    let done = site.export(json!({"tables": ["public.orders", "public.nation"]}));

    let job = done.job();
    let archive = site.exports.archive(job);
    assert_eq!(archive["status"], "completed");
    let performance = &archive["performance"];
    assert!(performance["total_duration_seconds"].as_f64().expect("a number") > 0.0);
    assert_eq!(performance["tables_processed"], 2);
    assert_eq!(performance["total_rows_exported"], 150_025);
    assert!(performance["rows_per_second"].as_f64().expect("a number") > 0.0);
    let threading = &performance["threading_config"];
    for field in ["table_threads", "chunk_workers", "total_parallel_operations"] {
        assert!(threading[field].as_u64().is_some_and(|n| n > 0), "{field}: {threading}");
    }
    let tables = archive["tables"].as_array().expect("tables");
    let orders = tables.iter().find(|t| t["directory"] == "public_orders").expect("orders");
    assert_eq!(orders["table_name"], "public.orders");
    assert_eq!(orders["rows"], 150_000);
    assert!(orders["chunks"].as_u64().is_some_and(|n| n >= 1));
    assert!(orders["export_time_seconds"].as_f64().is_some_and(|s| s > 0.0));
    assert!(orders["throughput_rows_per_second"].as_f64().is_some_and(|r| r > 0.0));
    assert!(orders["strategy"].is_string());

    let by_id = site.exports.path(&format!(".archive/by-id/{job}.json"));
    let names = site.exports.names(".archive/jobs");
    let named = names.iter().find(|n| n.starts_with(&format!("job_{job}_20"))).expect("a name with a date");
    let linked = site.exports.path(&format!(".archive/jobs/{named}"));
    let inode = |path: &std::path::Path| path.metadata().expect("metadata").ino();
    assert_eq!(inode(&by_id), inode(&linked), "a hard link to the same file");
    site.assert_sound(&[job], [daemon]);
}

#[test]
fn values_of_every_mapped_type_survive() {
    let site = Site::new(Database::empty());
    site.db.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'ok', 'so \"so\"');
         CREATE TABLE every_type (
            id bigint PRIMARY KEY, b boolean, i2 smallint, i4 integer, i8 bigint, f4 real, f8 double precision,
            n numeric(12,2), n38 numeric(38,10), t text, vc varchar(20), c char(5), bin bytea, d date,
            tm time, ts timestamp, tz timestamptz, u uuid, j json, jb jsonb, e mood,
            ai integer[], at text[], an numeric(6,2)[], ad date[], au uuid[], ab boolean[]);
         INSERT INTO every_type (id) VALUES (1);
         INSERT INTO every_type VALUES
            (2, true, -32768, -2147483648, -9223372036854775808, -3.4028235e38, 5e-324, -9999999999.99,
             1234567890123456789012345678.0123456789, '', 'a,\"b\"', 'x', '\\x', '1970-01-01',
             '00:00:00', '1970-01-01 00:00:00.000001', '2000-01-01 00:00:00+00',
             '00000000-0000-0000-0000-000000000000', '{\"a\" : 1}', '{\"a\" : 1}', 'sad',
             '{}', '{\"\", NULL, \"a,b\"}', '{1.50, NULL}', '{2000-01-01}',
             '{00000000-0000-0000-0000-000000000001}', '{t, f, NULL}'),
            (3, false, 32767, 2147483647, 9223372036854775807, 'NaN', '-Infinity', 0,
             -0.0000000001, E'line\\nbreak\\ttab \\\\N', 'ü€😀', 'äöü', '\\x00ff0a5c', '9999-12-31',
             '23:59:59.999999', '1500-02-28 23:59:59.999999', '1969-12-31 23:59:59.999999+00',
             'ffffffff-ffff-ffff-ffff-ffffffffffff', '[1, null]', '\"\"', 'so \"so\"',
             '{1, NULL, -2147483648}', '{}', '{}', '{}', '{}', '{}');
         INSERT INTO every_type (id, i4, t) SELECT g, g, md5(g::text) FROM generate_series(4, 5000) g;
         ANALYZE every_type",
    );
    let daemon = site.daemon();
    let table = json!({"table": "public.every_type", "strategy": "range", "chunk_rows": 1000});
    let done = site.export(json!({"tables": [table]}));
    site.assert_equal(&[("SELECT * FROM every_type", "public_every_type")]);
    site.assert_sound(&[done.job()], [daemon]);
}

#[test]
fn types_without_a_mapping_arrive_as_the_servers_text() {
    let site = Site::new(Database::empty());
    site.db.execute(
        "CREATE TABLE odd (id int PRIMARY KEY, ip inet, m macaddr, v tsvector, x xml, bits varbit(9), tz timetz,
            oids regclass, area polygon, lsn pg_lsn, aa text[][]);
         INSERT INTO odd VALUES (1, '10.0.0.1/8', '08:00:2b:01:02:03', 'a b', '<a/>', B'101', '12:00+02', 'pg_class',
            '((0,0),(1,1),(2,0))', '1/2', '{{a,b},{c,NULL}}');
         INSERT INTO odd (id) VALUES (2)",
    );
    let daemon = site.daemon();
    let done = site.export(json!({"tables": ["public.odd"]}));
    let query = "SELECT id, ip::text, m::text, v::text, x::text, bits::text, tz::text, oids::text, area::text, \
                 lsn::text, aa::text FROM odd";
    site.assert_equal(&[(query, "public_odd")]);
    site.assert_sound(&[done.job()], [daemon]);
}

#[test]
fn every_row_has_a_chunk_whatever_its_key() {
    let site = Site::new(Database::empty());
    // Keys that are NULL, negative, huge, far apart, or very frequent.
    site.db.execute(
        "CREATE TABLE keys (k bigint, v text);
         INSERT INTO keys SELECT CASE WHEN g % 10 = 0 THEN NULL WHEN g % 10 < 4 THEN 42 ELSE g::bigint * g * g END, g
            FROM generate_series(1, 20000) g;
         INSERT INTO keys VALUES (-9223372036854775808, 'min'), (9223372036854775807, 'max'), (0, 'zero');
         CREATE TABLE all_null (k bigint, v text);
         INSERT INTO all_null SELECT NULL, g FROM generate_series(1, 5000) g;
         CREATE TABLE grown (k int PRIMARY KEY, v text);
         INSERT INTO grown SELECT g, g FROM generate_series(1, 5000) g;
         CREATE TABLE parent (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
         CREATE TABLE leaf_1 PARTITION OF parent FOR VALUES FROM (0) TO (3000);
         CREATE TABLE leaf_2 PARTITION OF parent DEFAULT;
         INSERT INTO parent SELECT g, g FROM generate_series(1, 6000) g;
         CREATE MATERIALIZED VIEW seen AS SELECT * FROM keys WHERE k > 0;
         ANALYZE;
         INSERT INTO grown SELECT g, g FROM generate_series(-40000, 0) g",
    );
    let daemon = site.daemon();
    let range = |table: &str, column: &str| json!({"table": table, "strategy": "range", "chunk_column": column, "chunk_rows": 1000});
    // Only newer servers can read ranges of pages.
    let has_pages = site.db.number("SELECT current_setting('server_version_num')") >= 140_000;
    let pages = |table: &str| match has_pages {
        true => json!({"table": table, "strategy": "ctid", "chunk_rows": 1000}),
        false => range(table, "k"),
    };
    let done = site.export(json!({"tables": [
        range("public.keys", "k"), range("public.all_null", "k"), range("public.parent", "id"),
        pages("public.grown"), "public.seen"]}));
    let again = site.export(json!({"tables": [pages("public.keys"), range("public.grown", "k")]}));
    site.assert_equal(&[
        ("SELECT * FROM keys", "public_keys"),
        ("SELECT * FROM all_null", "public_all_null"),
        ("SELECT * FROM parent", "public_parent"),
        ("SELECT * FROM grown", "public_grown"),
        ("SELECT * FROM seen", "public_seen"),
        ("SELECT * FROM keys", "public_keys_v2"),
        ("SELECT * FROM grown", "public_grown_v2"),
    ]);
    assert!(site.exports.names("public_keys").len() > 3, "it was split");
    assert!(site.exports.names("public_grown").len() > 3, "it was split");
    site.assert_sound(&[done.job(), again.job()], [daemon]);
}

#[test]
fn text_keys_are_split_in_the_order_of_their_own_collation() {
    let site = Site::new(Database::empty());
    // One of the two collations sorts upper and lower case apart, the other one side by side.
    site.db.execute(
        r#"CREATE TABLE plain (k text COLLATE "C", v int);
           CREATE TABLE human (k text COLLATE "en-x-icu", v int);
           INSERT INTO plain SELECT CASE WHEN g % 2 = 0 THEN upper(md5(g::text)) ELSE md5(g::text) END, g
              FROM generate_series(1, 20000) g;
           INSERT INTO human SELECT * FROM plain;
           ANALYZE"#,
    );
    let daemon = site.daemon();
    let range =
        |table: &str| json!({"table": table, "strategy": "range", "chunk_column": "k", "chunk_rows": 1000});
    let done = site.export(json!({"tables": [range("public.plain"), range("public.human")]}));
    for (table, directory) in [("plain", "public_plain"), ("human", "public_human")] {
        assert!(site.exports.names(directory).len() > 10, "{table} was split");
        site.assert_equal(&[(&format!("SELECT * FROM {table}"), directory)]);
    }
    site.assert_sound(&[done.job()], [daemon]);
}

#[test]
fn a_pattern_takes_tables_once_and_leaves_out_what_was_excluded() {
    let site = Site::new(Database::empty());
    site.db.execute(
        "CREATE SCHEMA s; CREATE SCHEMA other;
         CREATE TABLE s.a AS SELECT 1 AS x; CREATE TABLE s.tmp_b AS SELECT 2 AS x;
         CREATE TABLE other.c AS SELECT 3 AS x;
         CREATE TABLE s.part (id int) PARTITION BY LIST (id);
         CREATE TABLE s.part_1 PARTITION OF s.part DEFAULT; INSERT INTO s.part VALUES (1);
         CREATE VIEW s.view AS SELECT * FROM s.a;
         CREATE TABLE s.no_columns ();
         CREATE TABLE s.secret AS SELECT 4 AS x; REVOKE ALL ON s.secret FROM exporter",
    );
    let daemon = site.daemon();
    let done = site.export(json!({"tables": ["s.*", "s.a"], "exclude": ["s.tmp_*"]}));
    assert_eq!(site.exports.directories(), BTreeSet::from(["s_a".into(), "s_part".into()]));
    let skipped = site.exports.archive(done.job())["skipped"].to_string();
    assert!(skipped.contains("s.secret") && skipped.contains("s.no_columns"), "{skipped}");
    site.assert_sound(&[done.job()], [daemon]);
}

#[test]
fn columns_and_filters_shape_what_is_exported() {
    let site = Site::new(Database::tpch());
    let daemon = site.daemon();
    let filter = "o_orderdate >= '1995-01-01' AND (o_orderpriority LIKE '1-%' OR o_totalprice * 2 > 500000.5) \
                  AND o_orderstatus IN ('F', 'O') AND NOT o_comment IS NULL";
    let table = json!({"table": "public.orders", "columns": ["o_totalprice", "o_orderkey"], "where": filter,
                       "chunk_rows": 20000});
    let done = site
        .export(json!({"tables": [table], "output": {"directory": "crm/daily", "compression": "zstd:3"}}));
    let query = format!("SELECT o_totalprice, o_orderkey FROM orders WHERE {filter}");
    site.assert_equal(&[(&query, "crm/daily/public_orders")]);
    assert!(
        site.exports.path("crm/daily/.latest/public_orders").symlink_metadata().is_err(),
        "not a full export"
    );
    site.assert_sound(&[done.job()], [daemon]);
}

#[test]
fn an_empty_table_is_one_file_without_rows() {
    let site = Site::new(Database::empty());
    site.db.execute("CREATE TABLE nothing (id int PRIMARY KEY, v text)");
    let daemon = site.daemon();
    let done = site.export(json!({"tables": ["public.nothing"]}));
    assert_eq!(site.exports.names("public_nothing"), ["part-000000.parquet"]);
    site.assert_equal(&[("SELECT * FROM nothing", "public_nothing")]);
    site.assert_sound(&[done.job()], [daemon]);
}

#[test]
fn chunks_without_rows_have_no_part_except_the_first_of_a_table() {
    let site = Site::new(Database::empty());
    site.db.execute(
        "CREATE TABLE few (id int, v text) WITH (autovacuum_enabled = false);
         INSERT INTO few SELECT g, repeat('x', 100) FROM generate_series(1, 20000) g;
         CREATE TABLE none (LIKE few) WITH (autovacuum_enabled = false);
         INSERT INTO none SELECT * FROM few;
         ANALYZE; DELETE FROM few WHERE id NOT BETWEEN 9000 AND 9100; DELETE FROM none",
    );
    let daemon = site.daemon();
    let table = |name: &str| json!({"table": name, "strategy": "ctid", "chunk_rows": 1000});
    let done = site.export(json!({"tables": [table("public.few"), table("public.none")]}));
    site.assert_equal(&[("SELECT * FROM few", "public_few"), ("SELECT * FROM none", "public_none")]);
    assert_eq!(site.exports.names("public_none"), ["part-000000.parquet"]);
    let tables = site.exports.archive(done.job())["tables"].clone();
    let chunks: u64 = (0..2).filter_map(|table| tables[table]["chunks"].as_u64()).sum();
    assert!(chunks >= 40, "{tables}");
    // Each table's first chunk writes a part, even without rows, and so does every chunk with rows.
    let written = daemon.metric("adu_export_fsync_duration_seconds_count") as usize;
    assert_eq!(written, 2 + site.exports.names("public_few").len());
    site.assert_sound(&[done.job()], [daemon]);
}

#[test]
fn five_hundred_small_tables_are_five_hundred_directories() {
    let site = Site::new(Database::empty());
    site.db.execute(
        "DO $$ BEGIN FOR i IN 1..500 LOOP
            EXECUTE format('CREATE TABLE small_%s AS SELECT g AS id, %s AS of FROM generate_series(1, 20) g', i, i);
         END LOOP; END $$",
    );
    let daemons = [site.daemon(), site.daemon()];
    let done = site.export(json!({"tables": ["public.small_*"]}));
    assert_eq!(site.exports.directories().len(), 500);
    site.assert_equal(&[
        ("SELECT * FROM small_1", "public_small_1"),
        ("SELECT * FROM small_77", "public_small_77"),
        ("SELECT * FROM small_500", "public_small_500"),
    ]);
    assert_eq!(site.exports.archive(done.job())["performance"]["total_rows_exported"], 10_000);
    site.assert_sound(&[done.job()], daemons);
}

#[test]
fn the_rows_are_those_of_one_moment() {
    let slow = Slow::new(Database::tpch()).chunks_of(5000).at(6_000_000);
    let site = &slow.site;
    site.db.execute(
        "CREATE TABLE before AS SELECT * FROM orders; CREATE TABLE before_part AS SELECT * FROM part",
    );
    let daemon = slow.daemon();
    let job = slow.request(&["orders", "part"]);
    eventually("rows flow", PATIENCE, || (daemon.rows_exported() > 0).then_some(()));
    // One row moves from the last chunk to the first and back. Other rows are inserted, changed and deleted.
    site.db.execute(
        "UPDATE orders SET o_orderkey = -o_orderkey WHERE o_orderkey % 3 = 0;
         DELETE FROM orders WHERE o_orderkey % 7 = 0;
         UPDATE part SET p_size = p_size + 1;
         INSERT INTO part SELECT p_partkey + 1000000, p_name, p_mfgr, p_brand, p_type, p_size, p_container,
            p_retailprice, p_comment FROM part",
    );
    site.assert_runs(&job, "the change came while the job ran");
    slow.completes(&job);
    site.assert_equal(&[
        ("SELECT * FROM before", "public_orders"),
        ("SELECT * FROM before_part", "public_part"),
    ]);
    site.assert_sound(&[&job], [daemon]);
}
