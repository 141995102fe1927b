//! Values of every type: what is in the files is what vertica-python reads from the same server.

use std::process::Command;

use serde_json::{Value, json};

use crate::scene::Scene;
use crate::support::{PASSWORD, StandIn, project, python};

/// Random values of each type; `ADU_VALUES_ROWS` changes it.
const ROWS: u32 = 300;

/// Runs `tests/oracle/vertica.py`.
#[track_caller]
fn oracle(order: &Value) -> String {
    let output = Command::new(python())
        .args(["-W", "ignore"])
        .arg(project().join("tests/oracle/vertica.py"))
        .arg(order.to_string())
        .output()
        .expect("run Python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_type_has_the_values_that_vertica_python_reads() {
    let rows = std::env::var("ADU_VALUES_ROWS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROWS);
    let scene = Scene::new("");
    let postgres = scene.site.db.admin_dsn();
    let filled = oracle(&json!({"do": "fill", "postgres": postgres, "rows": rows}));
    let cases: Vec<String> = serde_json::from_str(&filled).expect("names");
    assert!(cases.len() > 50, "{cases:?}");
    scene.export(&json!({"tables": ["kinds.*"]}));
    let types = compared(&scene, "");
    assert_eq!(types.as_object().map(serde_json::Map::len), Some(cases.len()), "{types}");
    for (case, ty) in [
        ("int", "int64"),
        ("numeric_18_4", "decimal128(18, 4)"),
        ("numeric_76_30", "decimal256(76, 30)"),
        ("numeric_80_2", "string"),
        ("date", "date32[day]"),
        ("time", "time64[us]"),
        ("timetz", "string"),
        ("uuid", "extension<arrow.uuid>"),
        ("varbinary", "binary"),
        ("array_int", "list<element: int64>"),
        ("array_array", "list<element: list<element: int64>>"),
        ("row", "struct<name: string, age: int64, tags: list<element: int64>>"),
        ("array_row", "list<element: struct<name: string, id: int64>>"),
        ("map", "string"),
        // A value of these is beyond what files hold.
        ("timestamp", "string"),
        ("timestamptz", "string"),
        ("timestamp_raw", "string"),
        ("date_raw", "string"),
        ("months_raw", "string"),
    ] {
        assert_eq!(types[case], ty, "{case}");
    }
    scene.site.db.execute(
        "DELETE FROM kinds.timestamp WHERE v > '290000-01-01' AND v < 'infinity';
         DELETE FROM kinds.timestamptz WHERE v > '290000-01-01' AND v < 'infinity';
         DELETE FROM kinds.timestamp_raw WHERE v > 9000000000000000000;
         DELETE FROM kinds.date_raw WHERE abs(v) > 1000000000;
         DELETE FROM kinds.months_raw WHERE abs(v) > 1000000000",
    );
    let again = ["timestamp", "timestamptz", "timestamp_raw", "date_raw", "months_raw"];
    let tables: Vec<String> = again.iter().map(|case| format!("kinds.{case}")).collect();
    scene.export(&json!({"tables": tables, "output": {"directory": "again"}}));
    let types = compared(&scene, "again");
    for (case, ty) in again.into_iter().zip([
        "timestamp[us]",
        "timestamp[us, tz=UTC]",
        "timestamp[us]",
        "date32[day]",
        "struct<months: int32 not null, days: int32 not null, microseconds: int64 not null>",
    ]) {
        assert_eq!(types[case], ty, "{case}");
    }
}

/// Compares the tables in a directory with vertica-python's reading. Returns the type of each in the files.
#[track_caller]
fn compared(scene: &Scene, directory: &str) -> Value {
    let said = oracle(&json!({
        "do": "compare",
        "dsn": StandIn::dsn_at(scene.stand_in.port()),
        "password": PASSWORD,
        "schema": "kinds",
        "out": scene.site.exports.path(directory),
        "tables": true,
    }));
    let (verdict, types) = said.trim_end().rsplit_once('\n').expect("a verdict and types");
    assert_eq!(verdict, "same");
    serde_json::from_str(types).expect("types")
}

#[test]
fn a_catalogue_that_tells_another_type_than_the_server_sends_gives_no_wrong_values() {
    let scene = Scene::new(
        "CREATE TABLE t (id bigint PRIMARY KEY, n numeric(12,2)); INSERT INTO t VALUES (1, 12.34), (2, NULL);
         CREATE TABLE u (n numeric(14,3)); INSERT INTO u VALUES (12.345)",
    );
    scene.export(&json!({"tables": ["public.t"]}));
    scene.site.db.execute(
        "UPDATE vertica.types SET numeric_scale = 3 WHERE type = 'numeric(12,2)';
         UPDATE vertica.types SET numeric_precision = NULL, numeric_scale = NULL WHERE type = 'numeric(14,3)'",
    );
    let refused = scene.try_export(&json!({"tables": ["public.t"], "output": {"directory": "wrong"}}), &[]);
    let text = crate::support::said(&refused);
    assert!(!refused.status.success() && text.contains("protocol"), "{text}");
    for part in ["public.t", "column `n`", "numeric(12,2)"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // Without digits in the catalogue the server writes the number.
    scene.export(&json!({"tables": ["public.u"], "output": {"directory": "unknown"}}));
    assert_eq!(scene.rows("unknown/public_u", "n, typeof(n)"), ["12.345", "VARCHAR"]);
}
