//! PostgreSQL as the oracle: the values that DuckDB reads from files must be those of the server.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::{Value, json};

use super::database::Database;
use super::services::{project, python};

/// A query and the directory that must hold its rows.
pub(crate) fn pair(query: &str, files: &Path) -> Value {
    json!({"query": query, "files": files})
}

/// The differences; empty if there are none.
pub(crate) fn differences(database: &Database, pairs: &[Value]) -> String {
    said("compare.py", database, pairs)
}

fn said(script: &str, database: &Database, pairs: &[Value]) -> String {
    let (code, said) = run(script, database, pairs);
    match code {
        Some(0) => String::new(),
        // A failure of Python also ends with 1, but prints nothing to standard output.
        Some(1) if !said.is_empty() => said,
        _ => panic!("{script}: {code:?}"),
    }
}

/// The server's comparison of a relation with the values that were cast back.
#[derive(Debug, Deserialize)]
pub(crate) struct Judgement {
    /// `schema.table`.
    pub(crate) relation: String,
    /// Number of rows in the files.
    pub(crate) rows: u64,
    /// The differences; empty if there are none.
    pub(crate) differences: Vec<String>,
}

/// Lets the server compare relations with their files, value by value.
pub(crate) fn cast_back(database: &Database, pairs: &[Value]) -> Vec<Judgement> {
    let (code, said) = run("cast_back.py", database, pairs);
    assert_eq!(code, Some(0), "cast_back.py");
    said.lines().map(|line| serde_json::from_str(line).expect("a comparison")).collect()
}

/// The problems that pyarrow, DuckDB and Polars have with reading files without a warning and with their
/// logical types; empty if there are none.
pub(crate) fn unreadable(database: &Database, pairs: &[Value]) -> String {
    said("readers.py", database, pairs)
}

/// What DuckDB, Polars and pyarrow read differently from partitioned directories; empty if nothing.
pub(crate) fn unlike(database: &Database, pairs: &[Value]) -> String {
    said("partitions.py", database, pairs)
}

/// How an engine reads each column of the files in directories: directory, column, result.
pub(crate) fn engines(engine: &str, directories: &[Value]) -> Vec<Vec<(String, String, String)>> {
    let (code, said) = ask("engines.py", &[engine], &json!({"directories": directories}));
    assert_eq!(code, Some(0), "engines.py {engine}");
    let columns = |line: &str| {
        let told: Value = serde_json::from_str(line).expect("JSON");
        let directory = told["directory"].as_str().expect("a directory").to_owned();
        let columns = told["columns"].as_object().expect("columns").clone();
        let row = |(column, result): (String, Value)| {
            (directory.clone(), column, result.as_str().expect("a result").to_owned())
        };
        columns.into_iter().map(row).collect()
    };
    said.lines().skip(1).map(columns).collect()
}

fn run(script: &str, database: &Database, pairs: &[Value]) -> (Option<i32>, String) {
    ask(script, &[], &json!({"dsn": database.admin_dsn(), "pairs": pairs}))
}

/// Runs a script with `order` as its input.
fn ask(script: &str, arguments: &[&str], order: &Value) -> (Option<i32>, String) {
    let mut child = Command::new(python())
        .arg(project().join("tests/oracle").join(script))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run Python");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(order.to_string().as_bytes()).expect("write to Python");
    drop(stdin);
    let output = child.wait_with_output().expect("Python ends");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}
