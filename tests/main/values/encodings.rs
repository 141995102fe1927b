//! Columns that make the encoders choose an encoding, change it later, or write no values.

use serde_json::{Map, Value, json};

use super::assert_exact;
use crate::support::{Database, Site};

#[test]
fn whatever_the_encoders_choose_everybody_reads() {
    let site = Site::new(Database::empty());
    // The first rows repeat values. Later most values are new, and the encoder gives up its dictionary.
    let columns = "
        g AS id, g % 7 AS few, 42 AS one, NULL::int AS none, (g / 5000)::smallint AS runs,
        CASE WHEN g < 50000 THEN g::bigint END AS early, CASE WHEN g % 3 > 0 THEN g % 50 END AS few_null, CASE WHEN g BETWEEN 9000 AND 90000 THEN g END AS late,
        (g::bigint * 7919 - 9e17::bigint) * CASE WHEN g % 2 = 0 THEN 1 ELSE -1 END AS far,
        CASE WHEN g < 30000 THEN g % 10 ELSE g::bigint * 12345678901 END AS grows,
        (g % 5000)::numeric(15,2) / 100 AS price, (g::numeric(18,4) * 1000003) AS amount,
        date '1992-01-01' + g % 2500 AS day, timestamp '2000-01-01' + g * interval '1 second' AS instant,
        (ARRAY['', 'a', 'eight888', 'nine99999', 'é😀', repeat('long ', 50)])[1 + g % 6] AS word,
        CASE WHEN g < 30000 THEN 'status ' || g % 9 ELSE md5(g::text) END AS words,
        CASE WHEN g % 11 = 0 THEN NULL ELSE md5(g::text) || repeat('x', g % 90) END AS plain,
        CASE WHEN g % 2 = 0 THEN '' END AS empty, NULL::text AS no_text, md5((g % 300)::text)::bytea AS few_bytes,
        jsonb_build_object('n', g % 40) AS doc";
    site.db.execute(&format!(
        "CREATE TABLE many AS SELECT {columns} FROM generate_series(1, 250000) g;
         CREATE TABLE one AS SELECT {columns} FROM generate_series(1, 1) g;
         CREATE TABLE seven AS SELECT {columns} FROM generate_series(1, 7) g;
         ALTER TABLE seven ALTER id SET NOT NULL, ALTER word SET NOT NULL, ALTER one SET NOT NULL;
         ANALYZE",
    ));
    let types = site.db.rows(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
          WHERE attrelid = 'many'::regclass AND attnum > 0",
    );
    let types: Value =
        types.into_iter().map(|row| (row[0].clone(), json!(row[1]))).collect::<Map<_, _>>().into();
    let daemon = site.daemon();
    let mut jobs = Vec::new();
    let compressions = ["snappy", "zstd:3", "none", "lz4", "gzip"];
    for (compression, version) in compressions.into_iter().zip(["", "_v2", "_v3", "_v4", "_v5"]) {
        let tables = ["public.many", "public.one", "public.seven"];
        jobs.push(
            site.export(json!({"tables": tables, "output": {"compression": compression}})).job().to_owned(),
        );
        for (table, rows) in [("many", 250_000), ("one", 1), ("seven", 7)] {
            let directory = format!("public_{table}{version}");
            let files = site.exports.path(&directory);
            let judged = site.cast_back(&[json!({"relation": format!("public.{table}"), "files": files})]);
            assert_exact(&judged, rows);
            site.assert_equal(&[(&format!("SELECT * FROM {table}"), &directory)]);
            site.assert_readable(&directory, &types);
        }
    }
    let jobs: Vec<_> = jobs.iter().map(String::as_str).collect();
    site.assert_sound(&jobs, [daemon]);
}
