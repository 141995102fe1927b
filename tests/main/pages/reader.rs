//! The function of an ordinary role gives pages of what the role may read, and of nothing else.

use serde_json::json;

use super::{can_read_pages, export, pages, script, site, try_script, vacuum};
use crate::support::{Database, PATIENCE, Postgres, Site, eventually};

/// What the role's function answers to each role, and to each table.
#[track_caller]
fn assert_refused(site: &Site, before: &str, call: &str, why: &str) {
    let session = site.db.session();
    let error = session.run(&format!("{before}; SELECT {call}")).expect_err("refused");
    assert!(error.contains(why), "{before}; {call}: {error}");
}

#[test]
fn an_ordinary_role_reads_by_its_function_what_it_may_read_and_nothing_else() {
    let Some(site) = site() else { return };
    // Twice: the script replaces what an older one made.
    script(&site, "page-reader.sql", &["role=exporter"]);
    script(&site, "page-reader.sql", &["role=exporter"]);
    site.db.execute(
        "CREATE TABLE wide (id bigint PRIMARY KEY, t text, n numeric) WITH (fillfactor = 10, autovacuum_enabled = off);
         INSERT INTO wide SELECT i, repeat(md5(i::text), i % 20), i / 7.0 FROM generate_series(1, 12000) i",
    );
    vacuum(&site.db, "wide");
    site.db.execute("UPDATE wide SET n = -n WHERE id % 1000 = 0");
    let daemon = site.daemon();
    let job = site.export(json!({"tables": [pages("public.wide")]}));
    let archive = site.exports.archive(job.job());
    let table = &archive["tables"][0];
    let counts = (table["pages"]["read"].as_u64(), table["pages"]["recopied"].as_u64());
    assert!(counts.0 > Some(1000) && counts.1 >= Some(12), "{table}");
    site.assert_equal(&[("SELECT * FROM wide", "public_wide")]);

    // A dropped column: the function refuses, so the plan says COPY.
    site.db.execute("ALTER TABLE wide DROP COLUMN n");
    let copied = site.export(json!({"tables": [pages("public.wide")]}));
    let reason = site.exports.archive(copied.job())["tables"][0]["strategy_reason"].to_string();
    assert!(reason.contains("it has a dropped column"), "{reason}");
    site.assert_sound(&[job.job(), copied.job()], [daemon]);

    site.db.execute(
        "CREATE TABLE plain (id bigint); INSERT INTO plain VALUES (1); GRANT SELECT ON plain TO exporter;
         CREATE TABLE secret (LIKE plain); REVOKE ALL ON secret FROM exporter, PUBLIC;
         CREATE TABLE partly (a int, b int); REVOKE ALL ON partly FROM exporter, PUBLIC;
         GRANT SELECT (a) ON partly TO exporter;
         CREATE TABLE guarded (LIKE plain); GRANT SELECT ON guarded TO exporter;
         ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
         CREATE VIEW seen AS SELECT * FROM plain; GRANT SELECT ON seen TO exporter;
         DROP ROLE IF EXISTS stranger; CREATE ROLE stranger; GRANT SELECT ON plain TO stranger",
    );
    site.db.execute("VACUUM");
    let call = |table: &str| format!("adu_page_reader.exporter('{table}'::regclass, 0, 1)");
    let us = "SET SESSION AUTHORIZATION exporter";
    site.db.session().run(&format!("{us}; SELECT {}", call("public.plain"))).expect("allowed");
    for table in [
        "public.secret",
        "public.partly",
        "public.guarded",
        "public.seen",
        "public.wide",
        "pg_class",
        "pg_authid",
    ] {
        assert_refused(&site, us, &call(table), "may not be read");
    }
    let temporary = format!("{us}; CREATE TEMP TABLE fleeting AS SELECT 1 AS a");
    assert_refused(&site, &temporary, &call("fleeting"), "may not be read");
    for other in ["SET SESSION AUTHORIZATION stranger", "SET ROLE stranger"] {
        assert_refused(&site, other, &call("public.plain"), "permission denied");
    }
    let definer = format!(
        "CREATE OR REPLACE FUNCTION borrowed() RETURNS bytea[] LANGUAGE sql SECURITY DEFINER AS $$ SELECT {} $$; \
         ALTER FUNCTION borrowed() OWNER TO stranger; {us}",
        call("public.plain")
    );
    assert_refused(&site, &definer, "borrowed()", "permission denied");
    assert_refused(&site, us, "adu_page_reader.exporter('plain'::regclass, 0, 65)", "1 to 64 pages");
    // ANALYZE by a superuser, as by autovacuum, runs functions of an index as the table's owner.
    let peek = |body: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION lent.peek(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS \
             $$ BEGIN {body} RETURN $1; END $$"
        )
    };
    site.db.execute(&format!(
        "CREATE SCHEMA lent; GRANT ALL ON SCHEMA lent TO stranger; SET ROLE stranger; {}; CREATE TABLE lent.t (a int); \
         INSERT INTO lent.t VALUES (1); CREATE INDEX ON lent.t (lent.peek(a)); {}; RESET ROLE",
        peek(""),
        peek(&format!("PERFORM {};", call("public.plain")))
    ));
    let error = site.db.session().run("ANALYZE lent.t").expect_err("refused");
    assert!(error.contains("permission denied"), "{error}");

    // What changes after the caller's snapshot counts too.
    for (table, change) in [
        ("grown", "ALTER TABLE grown ENABLE ROW LEVEL SECURITY"),
        ("shrunk", "ALTER TABLE shrunk DROP COLUMN b"),
        ("taken", "REVOKE SELECT ON taken FROM exporter, PUBLIC"),
        (
            "lengthened",
            "ALTER TABLE lengthened ADD c text, ADD d int; UPDATE lengthened SET c = 'secret'; \
             ALTER TABLE lengthened DROP COLUMN c",
        ),
    ] {
        site.db.execute(&format!("CREATE TABLE {table} (a int, b int); GRANT SELECT ON {table} TO exporter"));
        site.db.execute(&format!("INSERT INTO {table} VALUES (1, 2)"));
        site.db.execute(&format!("VACUUM {table}"));
        let session = site.db.session();
        let begin = format!("{us}; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1");
        session.run(&begin).expect("a snapshot");
        site.db.execute(change);
        let error = session.run(&format!("SELECT {}", call(table))).expect_err("refused");
        assert!(error.contains("may not be read"), "{table}: {error}");
    }
    let session = site.db.session();
    session
        .run(&format!("{us}; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1"))
        .expect("a snapshot");
    site.db.execute("CREATE TABLE late AS SELECT 1 AS a, 'secret' AS b; GRANT SELECT ON late TO exporter");
    site.db.execute("ALTER TABLE late DROP COLUMN b");
    let error = session.run(&format!("SELECT {}", call("late"))).expect_err("refused");
    assert!(error.contains("may not be read"), "a table that is younger than the snapshot: {error}");
    script(&site, "page-reader-remove.sql", &[]);
    assert_refused(&site, us, &call("public.plain"), "does not exist");
}

#[test]
fn the_function_of_a_role_serves_no_other_role() {
    let Some(site) = site() else { return };
    site.db.execute(
        "DROP ROLE IF EXISTS lender; DROP ROLE IF EXISTS borrower; CREATE ROLE lender; CREATE ROLE borrower;
         CREATE TABLE plain (id bigint); INSERT INTO plain VALUES (1); GRANT SELECT ON plain TO lender, borrower",
    );
    script(&site, "page-reader.sql", &["role=lender"]);
    let call = "adu_page_reader.lender('plain'::regclass, 0, 1)";
    let as_lender = format!("SET SESSION AUTHORIZATION lender; SELECT {call}");
    site.db.session().run(&as_lender).expect("allowed");
    // Default privileges that an administrator has set for functions do not count.
    site.db.execute("ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO borrower; GRANT USAGE ON SCHEMA adu_page_reader TO borrower");
    script(&site, "page-reader.sql", &["role=lender"]);
    assert_refused(&site, "SET SESSION AUTHORIZATION borrower", call, "permission denied");
    site.db.session().run(&as_lender).expect("still allowed");
    // As after a restore: the name belongs to a role with another number.
    site.db.execute("ALTER ROLE lender RENAME TO former; ALTER ROLE borrower RENAME TO lender");
    assert_refused(&site, "SET SESSION AUTHORIZATION former", call, "made for another role");
    script(&site, "page-reader-remove.sql", &[]);
    site.db.execute("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM lender; DROP OWNED BY lender, former; DROP ROLE lender, former");
}

#[test]
fn a_function_in_a_schema_of_an_ordinary_role_is_not_trusted() {
    let Some(site) = site() else { return };
    site.db.execute(
        "CREATE TABLE plain WITH (fillfactor = 10) AS SELECT i AS id FROM generate_series(1, 40000) i;
         CREATE SCHEMA lent AUTHORIZATION exporter; ALTER EXTENSION pageinspect SET SCHEMA lent",
    );
    vacuum(&site.db, "plain");
    let said = try_script(&site, "page-reader.sql", &["role=exporter"]).expect_err("refused");
    assert!(said.contains("belongs to a role that is no superuser"), "{said}");
    let table = export(&site, &pages("public.plain"));
    let reason = table["strategy_reason"].to_string();
    assert!(reason.contains("the schema of pageinspect belongs to a role that is no superuser"), "{reason}");
    site.db.execute("ALTER SCHEMA lent OWNER TO postgres");
    script(&site, "page-reader.sql", &["role=exporter"]);
    let daemon = site.daemon();
    let job = site.export(json!({"tables": [pages("public.plain")]}));
    assert!(site.exports.archive(job.job())["tables"][0]["pages"]["read"].as_u64() > Some(1000));
    daemon.stop();
}

/// A function of an index that tries to read pages, and tells what came of it.
const PEEK: &str = "
    CREATE SCHEMA lent; GRANT ALL ON SCHEMA lent TO stranger; SET ROLE stranger;
    CREATE TABLE lent.told (session_role text, what text);
    CREATE FUNCTION lent.tell(said text) RETURNS void LANGUAGE sql AS 'INSERT INTO lent.told VALUES (session_user, said)';
    CREATE FUNCTION lent.peek(a int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
    BEGIN
      IF pg_backend_pid() <> (SELECT pid FROM lent.maker) THEN
        PERFORM adu_page_reader.exporter('public.secret'::regclass, 0, 1);
        PERFORM lent.tell('got pages');
      END IF;
      RETURN a;
    EXCEPTION WHEN OTHERS THEN PERFORM lent.tell(SQLERRM); RETURN a;
    END $$;
    CREATE TABLE lent.maker AS SELECT pg_backend_pid() AS pid;
    CREATE TABLE lent.t (a int); CREATE INDEX ON lent.t (lent.peek(a));
    INSERT INTO lent.t SELECT generate_series(1, 200);
    RESET ROLE";

#[test]
fn autovacuum_lends_its_rights_to_nobody_and_a_server_that_forgets_snapshots_is_read_by_copy() {
    // Since version 17 no server forgets them.
    let forgets = Database::empty().number("SHOW server_version_num") < 170_000;
    let mut settings = vec![("autovacuum_naptime", "1s"), ("autovacuum_analyze_threshold", "1")];
    settings.extend(forgets.then_some(("old_snapshot_threshold", "1h")));
    let server = Postgres::start(&settings);
    let db = Database::on(server.services());
    if !can_read_pages(&db) {
        return;
    }
    let site = Site::on(server.services(), db);
    site.db.execute(
        "CREATE ROLE stranger; CREATE TABLE secret AS SELECT 'secret' AS t; REVOKE ALL ON secret FROM PUBLIC;
         CREATE TABLE plain WITH (fillfactor = 10) AS SELECT i AS id FROM generate_series(1, 40000) i; ANALYZE plain",
    );
    script(&site, "page-reader.sql", &["role=exporter"]);
    site.db.execute(PEEK);
    let told = "SELECT session_role || ': ' || what FROM lent.told WHERE session_role <> 'stranger'";
    let said = eventually("autovacuum analyzes the index", PATIENCE, || {
        let rows = site.db.rows(told);
        (!rows.is_empty()).then_some(rows)
    });
    assert!(said.iter().all(|row| row[0].starts_with("postgres: permission denied")), "{said:?}");
    if forgets {
        let reason = export(&site, &pages("public.plain"))["strategy_reason"].to_string();
        assert!(reason.contains("old_snapshot_threshold is on"), "{reason}");
    }
}
