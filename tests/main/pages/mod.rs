//! Tables that are read by pages have the rows that COPY sends, whatever happens to their pages; and whoever may
//! not read a table gets none of its pages.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Database, PATIENCE, Site, eventually, project, said};

mod changes;
mod reader;
mod rows;
mod standby;
mod way;

/// Has VACUUM mark all pages of a table. A snapshot of another session may keep it from that for a while.
#[track_caller]
pub(crate) fn vacuum(db: &Database, table: &str) {
    eventually("VACUUM marks all pages", PATIENCE, || {
        db.execute(&format!("VACUUM (ANALYZE, TRUNCATE off) {table}"));
        let unmarked =
            format!("SELECT relpages - relallvisible FROM pg_class WHERE oid = '{table}'::regclass");
        (db.number(&unmarked) == 0).then_some(())
    });
}

/// A site whose database has what pages need; none if the server lacks the extension.
pub(crate) fn site() -> Option<Site> {
    let db = Database::empty();
    if !can_read_pages(&db) {
        return None;
    }
    let site = Site::new(db);
    site.db.execute("CREATE EXTENSION pageinspect");
    Some(site)
}

/// Whether the server has the extension, in a version whose pages are known.
pub(crate) fn can_read_pages(db: &Database) -> bool {
    let has_it = "SELECT count(*) FROM pg_available_extensions WHERE name = 'pageinspect'
                  AND current_setting('server_version_num')::int >= 140000";
    let has_it = db.number(has_it) > 0;
    if !has_it {
        eprintln!("the server has no pageinspect, or is older than 14: nothing is tested");
    }
    has_it
}

/// Runs a one-shot export as a superuser. Returns the archive's entry of its first table.
#[track_caller]
pub(crate) fn export(site: &Site, table: &Value) -> Value {
    export_all(site, std::slice::from_ref(table))["tables"][0].clone()
}

/// Runs a one-shot export of some tables as a superuser. Returns the archive.
#[track_caller]
pub(crate) fn export_all(site: &Site, tables: &[Value]) -> Value {
    let request = site.path("request.json");
    std::fs::write(&request, json!({"tables": tables}).to_string()).expect("write a request");
    let (request, out) = (request.to_string_lossy(), site.exports.0.to_string_lossy());
    let dsn = site.db.admin_dsn();
    let output =
        site.run(&["export", "--quiet", "--json", "--dsn", &dsn, "--request", &request, "--out", &out]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    serde_json::from_slice(&output.stdout).expect("an archive")
}

/// The configuration of a daemon that is a superuser.
pub(crate) fn superuser(site: &Site) -> Value {
    let mut config = site.config();
    let warehouse = config["sources"]["warehouse"].as_object_mut().expect("a source");
    warehouse.insert("dsn".into(), json!(site.db.admin_dsn()));
    warehouse.remove("password");
    config
}

pub(crate) fn pages(table: &str) -> Value {
    json!({"table": table, "read": "pages", "chunk_rows": 3000})
}

/// Runs a script of `sql/` with psql, as a superuser.
#[track_caller]
pub(crate) fn script(site: &Site, name: &str, variables: &[&str]) {
    if let Err(said) = try_script(site, name, variables) {
        panic!("{said}");
    }
}

/// Runs a script of `sql/` with psql, as a superuser. The error is what psql said.
pub(crate) fn try_script(site: &Site, name: &str, variables: &[&str]) -> Result<(), String> {
    let mut psql = Command::new("psql");
    psql.args(["-qX", "-d", &site.db.admin_dsn(), "-f"]).arg(project().join("sql").join(name));
    variables.iter().for_each(|variable| {
        psql.args(["-v", variable]);
    });
    let output = psql.output().expect("run psql");
    if output.status.success() { Ok(()) } else { Err(said(&output)) }
}
