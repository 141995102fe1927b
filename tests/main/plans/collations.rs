//! The order of texts changed after their indexes were made, so no index and no partition bound may decide
//! what is read.

use serde_json::{Value, json};

use crate::support::{Database, Site};

const ROWS: u32 = 20_000;

/// Keys of every type that texts can have, in indexes and partitions from the time when `a10` came before
/// `a9`.
const RELATIONS: &str = "
    CREATE DOMAIN word AS text COLLATE old; CREATE DOMAIN words AS word;
    CREATE TABLE plain (k text COLLATE old PRIMARY KEY, w varchar(20) COLLATE old NOT NULL,
                        b char(12) COLLATE old NOT NULL, d words NOT NULL, n text COLLATE old, v int NOT NULL);
    INSERT INTO plain SELECT t, t, t, t, CASE WHEN g % 5 > 0 THEN t END, g
        FROM (SELECT g, 'a' || g AS t FROM generate_series(1, 20000) g) q;
    CREATE INDEX ON plain (w); CREATE INDEX ON plain (b); CREATE INDEX ON plain (d); CREATE INDEX ON plain (n);
    CREATE INDEX ON plain (v) WHERE k > 'a5';
    CREATE TABLE split (LIKE plain) PARTITION BY RANGE (k); ALTER TABLE split ADD PRIMARY KEY (k);
    CREATE TABLE low PARTITION OF split FOR VALUES FROM (MINVALUE) TO ('a15');
    CREATE TABLE high PARTITION OF split FOR VALUES FROM ('a15') TO (MAXVALUE);
    INSERT INTO split SELECT * FROM plain;
    CREATE MATERIALIZED VIEW kept AS SELECT * FROM plain; CREATE UNIQUE INDEX ON kept (k);
    CREATE VIEW seen AS SELECT * FROM plain;
    CREATE TABLE parent (LIKE plain INCLUDING ALL); CREATE TABLE child (LIKE plain INCLUDING ALL) INHERITS (parent);
    INSERT INTO child SELECT * FROM plain;
    ANALYZE;
    SET enable_seqscan = off; SET enable_bitmapscan = off;
    UPDATE pg_collation SET collversion = '0', ";

/// From now on, numbers in texts are compared as numbers. No index has this order.
fn change_order(site: &Site) {
    let version = site.db.number("SELECT current_setting('server_version_num')");
    let locale = match version {
        170_000.. => "colllocale",
        150_000.. => "colliculocale",
        _ => "collcollate",
    };
    site.db.execute("CREATE COLLATION old (provider = icu, locale = 'und')");
    site.db.execute(&format!("{RELATIONS} {locale} = 'und-u-kn-true' WHERE collname = 'old'"));
}

/// Exports tables in one job. Returns the job, the tables of its archive, and for each directory the query of
/// `plain` whose rows it must have.
fn export(site: &Site, asked: &[(Value, String)]) -> (String, Vec<Value>, Vec<(String, String)>) {
    let tables: Vec<&Value> = asked.iter().map(|(table, _)| table).collect();
    let done = site.export(json!({"tables": tables, "verify": "count"}));
    let archive = site.exports.archive(done.job());
    let found = archive["tables"].as_array().expect("tables").clone();
    let pairs: Vec<(String, String)> = asked
        .iter()
        .map(|(table, rows)| {
            let of = |t: &&Value| {
                format!("public.{}", t["table_name"].as_str().unwrap_or("")) == table["table"]
                    || t["table_name"] == table["table"]
            };
            let directory = found.iter().find(of).and_then(|t| t["directory"].as_str()).expect("a directory");
            (format!("SELECT * FROM plain WHERE {rows}"), directory.to_owned())
        })
        .collect();
    (done.job().to_owned(), found, pairs)
}

#[test]
fn texts_whose_order_changed_lose_no_row() {
    let site = Site::new(Database::empty());
    change_order(&site);
    let daemon = site.daemon();
    let mut jobs = Vec::new();
    let relations = ["plain", "split", "low", "kept", "seen", "parent"];
    let whole = |relation: &str| match relation {
        "low" => "k COLLATE \"C\" < 'a15'".to_owned(),
        _ => "true".to_owned(),
    };
    let mut pairs = Vec::new();
    let mut exported = |asked: Vec<(Value, String)>| {
        let (job, tables, more) = export(&site, &asked);
        jobs.push(job);
        pairs.extend(more);
        tables
    };

    // Ranges of every relation and every type.
    for (strategy, column) in
        [("range", "k"), ("range", "w"), ("range", "b"), ("range", "d"), ("range", "n"), ("auto", "n")]
    {
        let of: &[&str] = if column == "k" { &relations } else { &relations[..2] };
        let table = |r: &&str| {
            let table = json!({"table": format!("public.{r}"), "strategy": strategy, "chunk_column": column,
                               "chunk_rows": 4000});
            (table, whole(r))
        };
        for table in exported(of.iter().map(table).collect()) {
            let reason = table["strategy_reason"].as_str().expect("a reason");
            assert!(reason.contains("public.old was of version 0") && reason.contains("REINDEX"), "{table}");
            assert!(table["rows"].as_u64() > Some(u64::from(ROWS / 4)), "{table}");
        }
    }

    // If the request names no column, a relation that cannot be split by pages is not split by its key
    // either.
    let auto = |r: &&str| (json!({"table": format!("public.{r}"), "chunk_rows": 4000}), whole(r));
    for table in exported(relations.iter().map(auto).collect()) {
        let expected = match table["table_name"].as_str().expect("a name") {
            "public.split" | "public.seen" | "public.parent" => "single",
            _ => "ctid",
        };
        assert_eq!(table["strategy"], expected, "{table}");
    }

    // Filters and `after`: the server compares each row in the current order.
    for (filter, rows) in [
        ("k = 'a777'", "v = 777"),
        ("k >= 'a15000'", "v >= 15000"),
        ("w IN ('a9', 'a10', 'a11000')", "v IN (9, 10, 11000)"),
        ("b BETWEEN 'a100' AND 'a110'", "v BETWEEN 100 AND 110"),
        ("d = 'a12345' OR n = 'a12346'", "v IN (12345, 12346)"),
        ("k > 'a19000' AND v > 0", "v > 19000"),
    ] {
        let table = |r: &&str| {
            (json!({"table": format!("public.{r}"), "where": filter, "chunk_rows": 4000}), rows.to_owned())
        };
        exported(["plain", "split", "seen", "parent"].iter().map(table).collect());
    }
    let mut marks = Vec::new();
    for column in ["k", "w", "b", "d", "n"] {
        let after = json!({"column": column, "value": "a15000"});
        let table = |r: &&str| {
            let rows = format!("v > 15000 AND {column} IS NOT NULL");
            (json!({"table": format!("public.{r}"), "after": after, "chunk_rows": 1000}), rows)
        };
        let tables = exported(["plain", "split", "seen", "parent"].iter().map(table).collect());
        marks.extend(
            tables.iter().map(|t| t["high_water_mark"].as_str().unwrap_or("none").trim_end().to_owned()),
        );
    }
    assert!(marks.iter().all(|mark| mark == "a20000" || mark == "a19999"), "{marks:?}");
    site.assert_all_equal(&pairs);

    site.assert_sound(&jobs, [daemon]);
}

/// Ranges and composites have collations of their own, which their columns do not show, and so have expressions.
const MADE_OF_TEXTS: &str = "
    CREATE COLLATION old (provider = icu, locale = 'und');
    CREATE TYPE span AS RANGE (subtype = text, collation = old); CREATE DOMAIN spans AS span;
    CREATE TYPE pair AS (x text COLLATE old, y int);
    CREATE TABLE made (id int PRIMARY KEY, r span NOT NULL, d spans, a span[], p pair, b text COLLATE \"C\");
    INSERT INTO made SELECT g, span(t, NULL), span(t, NULL), ARRAY[span(t, NULL)], ROW(t, g)::pair, t
        FROM (SELECT g, 'a' || g AS t FROM generate_series(1, 20000) g) q;
    CREATE INDEX ON made (r); CREATE INDEX ON made (d); CREATE INDEX ON made (a); CREATE INDEX ON made (p);
    CREATE INDEX ON made (b COLLATE old);
    CREATE VIEW made_seen AS SELECT * FROM made;
    ANALYZE; UPDATE pg_collation SET collversion = '0', ";

#[test]
fn what_is_made_of_texts_loses_no_row_either() {
    // Nobody doubts the database's own collation.
    let site = Site::new(Database::encoded("UTF8"));
    let version = site.db.number("SELECT current_setting('server_version_num')");
    let locale = match version {
        170_000.. => "colllocale",
        150_000.. => "colliculocale",
        _ => "collcollate",
    };
    site.db.execute(&format!("{MADE_OF_TEXTS} {locale} = 'und-u-kn-true' WHERE collname = 'old'"));
    let mut config = site.config();
    config["sources"]["warehouse"]["allow_where"] = json!("any");
    let daemon = site.daemon_with(&config);
    let mut jobs = Vec::new();
    let filters = [
        "r = '[a9,)'",
        "d = '[a9,)'",
        "a = '{\"[a9,)\"}'",
        "p = ROW('a9', 9)::public.pair",
        "id IN (SELECT m.id FROM public.made m WHERE m.b COLLATE public.old = 'a9')",
    ];
    for (n, filter) in filters.into_iter().enumerate() {
        for relation in ["made", "made_seen"] {
            let directory = format!("d{n}");
            let done = site.export(json!({
                "tables": [{"table": format!("public.{relation}"), "columns": ["id"], "where": filter}],
                "output": {"directory": directory}, "verify": "count"}));
            site.assert_equal(&[(
                "SELECT id FROM made WHERE id = 9",
                &format!("{directory}/public_{relation}"),
            )]);
            jobs.push(done.job().to_owned());
        }
    }
    let after = json!({"column": "r", "value": "[a15000,)"});
    let newer = site.export(json!({"tables": [{"table": "public.made", "columns": ["id"], "after": after}]}));
    site.assert_equal(&[("SELECT id FROM made WHERE id > 15000", "public_made")]);
    let archive = site.exports.archive(newer.job());
    assert_eq!(archive["tables"][0]["high_water_mark"], "[a20000,)", "{archive}");
    jobs.push(newer.job().to_owned());
    let jobs: Vec<&str> = jobs.iter().map(String::as_str).collect();
    site.assert_sound(&jobs, [daemon]);
}

#[test]
fn an_order_of_which_the_server_notes_the_version_is_used() {
    let site = Site::new(Database::empty());
    site.db.execute(
        "CREATE COLLATION known (provider = icu, locale = 'und'); CREATE COLLATION libc (locale = 'C.UTF-8');
         CREATE TABLE t (k text COLLATE known PRIMARY KEY, c text COLLATE \"C\", p text COLLATE \"POSIX\",
                         u text, l text COLLATE libc);
         INSERT INTO t SELECT 'a' || g, 'a' || g, 'a' || g, 'a' || g, 'a' || g FROM generate_series(1, 10000) g;
         CREATE INDEX ON t (c); CREATE INDEX ON t (p); CREATE INDEX ON t (u); CREATE INDEX ON t (l); ANALYZE t",
    );
    let config = site.write("client.toml", &site.config());
    // The test database has C.UTF-8, and the server stores no version of that.
    for (column, trusted) in [("k", true), ("c", true), ("p", true), ("u", false), ("l", false)] {
        let request = json!({"tables": [{"table": "public.t", "strategy": "range", "chunk_column": column,
                                         "chunk_rows": 1000}]});
        let path = site.path("plan.json");
        std::fs::write(&path, request.to_string()).expect("write a request");
        let file = path.to_string_lossy().into_owned();
        let planned = site.run(&["plan", "--config", &config, "--request", &file]);
        let said = crate::support::said(&planned);
        assert!(planned.status.success() && said.contains("range on"), "{said}");
        assert_eq!(said.contains("each chunk scans the whole table"), !trusted, "{column}: {said}");
    }
    site.assert_sound(&[""; 0], []);
}
