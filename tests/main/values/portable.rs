//! Portable files: types that every reader supports, with the server's values.

use serde_json::{Value, json};

use super::assert_exact;
use crate::support::{Database, Site, engines, project};

/// Types of columns in portable files, if exact files have another type.
const TEXTS: [(&str, &str); 8] = [
    ("a05", r#"{"n39": "string", "n76": "string"}"#),
    ("a07", r#"{"j": "string", "jb": "string"}"#),
    ("a09", r#"{"u": "string"}"#),
    ("a10", r#"{"u": "string"}"#),
    ("a11", r#"{"t": "string"}"#),
    (
        "a15",
        r#"{"d": "date32[day]", "ts": "timestamp[us]", "tz": "timestamp[us, tz=UTC]", "p": "date32[day]"}"#,
    ),
    (
        "a23",
        r#"{"u": "list<element: string>", "t": "list<element: string>", "w": "list<element: string>",
            "j": "list<element: string>", "d": "list<element: date32[day]>"}"#,
    ),
    ("a24", r#"{"c": "struct<u: string, t: string, w: string, j: string, d: date32[day]>"}"#),
];

#[test]
fn engines_read_portable_files_as_the_server_has_the_values() {
    let site = Site::new(Database::empty());
    let sql = std::fs::read_to_string(project().join("tests/oracle/readers.sql")).expect("readable");
    site.db.execute(&sql);
    let mut config = site.config();
    config["export"]["types"] = json!("portable");
    let daemon = site.daemon_with(&config);
    let done = site.export(json!({"tables": ["readers.*"]}));
    let archive = site.exports.archive(done.job());
    let archived = archive["tables"].as_array().expect("tables");
    assert!(archived.iter().all(|table| table["types"] == "portable"), "{archive}");
    let notes = |table: &str| {
        let name = format!("readers.{table}");
        let all = done.data()["tables"].as_array().expect("tables").clone();
        all.into_iter().find(|t| t["table"] == name.as_str()).expect(table)["notes"].clone()
    };
    assert_eq!(notes("a09")["u"], "UUID as text, since types are portable");
    assert_eq!(notes("a15")["p"], "infinite values are NULL, since types are portable");
    assert_eq!(
        notes("a24")["c"],
        "UUID, time, numeric of more than 38 digits, JSON as text; infinite values are NULL, since types are portable"
    );
    assert!(notes("a01").is_null() && notes("a04").is_null(), "{}", done.body);

    let views = site.db.rows("SELECT viewname FROM pg_views WHERE schemaname = 'portable'").concat();
    let tables =
        site.db.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'readers' ORDER BY 1").concat();
    let directory = |table: &String| json!(site.exports.path(&format!("readers_{table}")));
    let pairs: Vec<Value> = tables
        .iter()
        .map(|table| {
            let schema = if views.contains(table) { "portable" } else { "readers" };
            let arrow = TEXTS.iter().find(|(name, _)| name == table).map_or("{}", |(_, arrow)| *arrow);
            let arrow: Value = serde_json::from_str(arrow).expect("JSON");
            json!({"relation": format!("{schema}.{table}"), "files": directory(table), "arrow": arrow})
        })
        .collect();
    for judgement in site.cast_back(&pairs) {
        let rows = site.db.number(&format!("SELECT count(*) FROM {}", judgement.relation));
        assert_exact(&[judgement], rows);
    }
    let directories: Vec<Value> = tables.iter().map(directory).collect();
    for engine in ["DuckDB", "Polars", "DataFusion"] {
        let verdicts = engines(engine, &directories);
        assert_eq!(verdicts.len(), tables.len(), "{engine}");
        for (directory, column, verdict) in verdicts.into_iter().flatten() {
            assert_eq!(verdict, "same", "{engine} on column {column} of {directory}");
        }
    }
    // Exact files are refused where the README says so. Otherwise the table in the README would be wrong.
    let exact = site.export(json!({
        "tables": ["readers.a05", "readers.a09"], "output": {"types": "exact", "directory": "exact"},
    }));
    let archive = site.exports.archive(exact.job());
    assert!(archive["tables"].as_array().expect("tables").iter().all(|t| t["types"].is_null()), "{archive}");
    let wide = json!(site.exports.path("exact/readers_a05"));
    let [verdicts] = &engines("Polars", &[wide])[..] else { panic!("one directory") };
    assert!(verdicts.iter().all(|(_, _, verdict)| verdict.starts_with("refused")), "{verdicts:?}");
    site.assert_sound(&[done.job(), exact.job()], [daemon]);
}

#[test]
fn the_command_line_chooses_types_for_plan_and_export() {
    let site = Site::new(Database::empty());
    site.db.execute(
        "CREATE TABLE u (id uuid PRIMARY KEY, d date); INSERT INTO u VALUES (gen_random_uuid(), 'infinity')",
    );
    let mut config = site.config();
    config["sources"]["warehouse"]["infinity"] = json!("max");
    let config = site.write("one.toml", &config);
    let plan = |types: &[&str]| {
        let arguments = [&["plan", "--config", &config, "--table", "public.u", "--json"], types].concat();
        let done = site.run(&arguments);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        serde_json::from_slice::<Value>(&done.stdout).expect("JSON")
    };
    let exact = plan(&[]);
    assert!(exact["writer"]["types"].is_null(), "{exact}");
    let columns = |plan: &Value| {
        let columns = plan["tables"][0]["columns"].as_array().expect("columns").clone();
        columns.iter().map(|c| (c["type"].clone(), c["infinity"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(columns(&exact), [(json!("uuid"), Value::Null), (json!("date"), json!("max"))]);
    let portable = plan(&["--types", "portable"]);
    assert_eq!(portable["writer"]["types"], "portable");
    assert_eq!(columns(&portable), [(json!("uuid_text"), Value::Null), (json!("date"), json!("null"))]);
    let out = site.path("out").to_string_lossy().into_owned();
    let arguments = [
        "export", "--config", &config, "--table", "public.u", "--types", "portable", "--out", &out, "--json",
    ];
    let done = site.run(&arguments);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let archive: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!(archive["tables"][0]["columns"][0]["file_type"], "Utf8", "{archive}");
    let refused = site.run(&["plan", "--config", &config, "--table", "public.u", "--types", "odd"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && said.contains("use exact or portable"), "{said}");
    site.assert_sound(&[""; 0], []);
}
