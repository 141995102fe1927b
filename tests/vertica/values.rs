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
    let summary = scene.export(&json!({"tables": ["kinds.*"]}));
    let compared = oracle(&json!({
        "do": "compare",
        "dsn": StandIn::dsn_at(scene.stand_in.port()),
        "password": PASSWORD,
        "schema": "kinds",
        "out": scene.site.exports.0,
        "tables": true,
    }));
    let (verdict, types) = compared.trim_end().rsplit_once('\n').expect("a verdict and types");
    assert_eq!(verdict, "same", "{summary}");
    let types: Value = serde_json::from_str(types).expect("types");
    assert_eq!(types.as_object().map(serde_json::Map::len), Some(cases.len()), "{types}");
    for (case, ty) in [
        ("int", "int64"),
        ("numeric_18_4", "decimal128(18, 4)"),
        ("numeric_76_30", "decimal256(76, 30)"),
        ("numeric_80_2", "string"),
        ("date", "date32[day]"),
        ("timetz", "string"),
        ("timestamp", "timestamp[us]"),
        ("timestamptz", "timestamp[us, tz=UTC]"),
        ("uuid", "extension<arrow.uuid>"),
        ("varbinary", "binary"),
        ("array_int", "list<element: int64>"),
        ("row", "string"),
    ] {
        assert_eq!(types[case], ty, "{case}");
    }
}
