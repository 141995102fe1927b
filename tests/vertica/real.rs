//! Against a real server: `ADU_TEST_VERTICA_DSN=vertica://user:password@host/database cargo test --features failpoints,otel
//! --test vertica real -- --ignored`. Tables are made by vertica-python in a schema of their own.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::support::{manual, project, scratch};

#[test]
#[ignore = "needs ADU_TEST_VERTICA_DSN, the DSN of a user that may create a schema"]
fn a_real_server_gives_the_values_that_vertica_python_reads() {
    let dsn =
        std::env::var("ADU_TEST_VERTICA_DSN").expect("ADU_TEST_VERTICA_DSN is the DSN of a Vertica user");
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let (schema, out) = (format!("adu_test_{seconds}"), scratch().join(format!("real-{seconds}")));
    std::fs::create_dir_all(&out).expect("a directory");
    let script = project().join("tests/oracle/vertica.py");
    let run = |what: &str| {
        let order = json!({"do": what, "dsn": dsn, "schema": schema, "out": out});
        let code = format!(
            "import sys, runpy; sys.argv = ['vertica.py', {:?}]; runpy.run_path({:?}, run_name='__main__')",
            order.to_string(),
            script.display().to_string()
        );
        manual::run_python(&code, &out)
    };
    run("create");
    let request = out.join("request.json");
    let tables = json!({"tables": [format!("{schema}.*")], "verify": "count"});
    std::fs::write(&request, tables.to_string()).expect("written");
    let exports = out.join("exports");
    let done = std::process::Command::new(crate::support::BINARY)
        .args(["export", "--dsn", &dsn, "--request"])
        .arg(&request)
        .arg("--out")
        .arg(&exports)
        .output()
        .expect("run adu-export");
    let compared = done.status.success().then(|| run("compare"));
    run("drop");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(compared.as_deref().map(str::trim), Some("same"));
}
