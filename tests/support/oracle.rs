//! PostgreSQL as the oracle: what DuckDB reads from files must be what the server says.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::database::Database;
use super::services::{project, python};

/// A query and the directory that must hold its rows.
pub(crate) fn pair(query: &str, files: &Path) -> Value {
    json!({"query": query, "files": files})
}

/// What differs, empty if nothing does.
pub(crate) fn differences(database: &Database, pairs: &[Value]) -> String {
    let mut child = Command::new(python())
        .arg(project().join("tests/oracle/compare.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run compare.py");
    let order = json!({"dsn": database.admin_dsn(), "pairs": pairs});
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(order.to_string().as_bytes()).expect("write to compare.py");
    drop(stdin);
    let output = child.wait_with_output().expect("compare.py ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.code() {
        Some(0) => String::new(),
        // Python's own failures end with 1 as well, but say nothing here.
        Some(1) if !said.is_empty() => said,
        _ => panic!("compare.py: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)),
    }
}
