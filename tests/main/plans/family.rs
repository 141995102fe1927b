//! Tables that inherit from others: no row is exported twice unless asked for, none is lost, and users learn
//! which table contains which.

use serde_json::{Value, json};

use crate::support::{Database, Site};

/// `p` and `q` have children. `own` has an additional column and a child. `mixed` has columns of two parents.
/// `far` is in another schema than its parent.
const FAMILY: &str = "
    CREATE SCHEMA elsewhere; GRANT USAGE ON SCHEMA elsewhere TO exporter;
    CREATE TABLE p (id int PRIMARY KEY, v text); CREATE TABLE q (id int, w text);
    CREATE TABLE c () INHERITS (p);
    CREATE TABLE own (more int) INHERITS (p);
    CREATE TABLE grand () INHERITS (own);
    CREATE TABLE mixed () INHERITS (p, q);
    CREATE TABLE elsewhere.far () INHERITS (p);
    CREATE TABLE lone (id int);
    INSERT INTO p SELECT g, 'p' || g FROM generate_series(1, 3000) g;
    INSERT INTO c SELECT g, 'c' || g FROM generate_series(3001, 5000) g;
    INSERT INTO own SELECT g, 'own', g FROM generate_series(5001, 5100) g;
    INSERT INTO grand SELECT g, 'grand', g FROM generate_series(5101, 5200) g;
    INSERT INTO mixed SELECT g, 'mixed', 'w' FROM generate_series(5201, 5300) g;
    INSERT INTO q SELECT g, 'q' FROM generate_series(1, 50) g;
    INSERT INTO elsewhere.far SELECT g, 'far' FROM generate_series(5301, 5400) g;
    INSERT INTO lone VALUES (1);
    CREATE TABLE parts (id int) PARTITION BY HASH (id);
    CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 1, REMAINDER 0) PARTITION BY HASH (id);
    CREATE TABLE parts_0_0 PARTITION OF parts_0 FOR VALUES WITH (MODULUS 1, REMAINDER 0);
    INSERT INTO parts VALUES (1);
    CREATE VIEW seen AS SELECT * FROM p;
    ANALYZE";

/// What a plan exports, skips (`-`) and fails (`!`), by name without schema `public`.
fn planned(site: &Site, config: &str, request: &Value) -> (Value, Vec<String>) {
    let file = site.path("plan.json");
    std::fs::write(&file, request.to_string()).expect("write a request");
    let done = site.run(&["plan", "--json", "--config", config, "--request", &file.to_string_lossy()]);
    let plan: Value = serde_json::from_slice(&done.stdout)
        .unwrap_or_else(|e| panic!("{request}: {e}: {}", crate::support::said(&done)));
    let list = |name: &str| plan[name].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().replace("public.", "");
    let mut said: Vec<String> = Vec::new();
    for table in list("tables") {
        let only = if table["only"] == true { "only " } else { "" };
        let schema =
            if table["schema"] == "public" { String::new() } else { format!("{}.", text(&table["schema"])) };
        said.push(format!("{only}{schema}{}", text(&table["name"])));
    }
    for skipped in list("skipped") {
        let within: Vec<String> = skipped["within"].as_array().into_iter().flatten().map(&text).collect();
        let reason = skipped["reason"].as_str().expect("a reason");
        assert!(within.iter().all(|parent| reason.contains(parent.as_str())), "{skipped}");
        said.push(format!("-{} in {}", text(&skipped["table"]), within.join("+")));
    }
    for failed in list("failed") {
        said.push(format!("!{} {}", text(&failed["table"]), text(&failed["error"]["code"])));
    }
    said.sort();
    (plan, said)
}

#[test]
fn children_are_left_out_where_their_rows_come_with_a_parent_and_only_there() {
    let site = Site::new(Database::empty());
    site.db.execute(FAMILY);
    let config = site.write("plan.toml", &site.config());
    let rest = ["lone", "parts"];
    let cases = [
        // A child with additional columns is exported too. Its own children are not.
        (json!(["public.*"]), vec!["mixed", "own", "p", "q", "-c in p", "-grand in own"]),
        (json!(["*.*"]), vec!["mixed", "own", "p", "q", "-c in p", "-elsewhere.far in p", "-grand in own"]),
        (
            json!(["elsewhere.*", "public.*"]),
            vec!["mixed", "own", "p", "q", "-c in p", "-elsewhere.far in p", "-grand in own"],
        ),
        // Named tables are always exported.
        (json!(["public.c", "public.*"]), vec!["mixed", "own", "p", "q", "c", "-grand in own"]),
        // A parent does not replace its children if its export lacks some of their rows or columns.
        (
            json!([{"table": "public.p", "where": "id > 1"}, "public.*"]),
            vec!["mixed", "own", "p", "q", "c", "-grand in own"],
        ),
        (
            json!([{"table": "public.p", "after": {"column": "id", "value": "1"}}, "public.*"]),
            vec!["mixed", "own", "p", "q", "c", "-grand in own"],
        ),
        (
            json!([{"table": "public.p", "columns": ["id"]}, "public.*"]),
            vec!["mixed", "own", "p", "q", "c", "-grand in own"],
        ),
        (
            json!([{"table": "public.p", "as_bytes": ["v"]}, "public.*"]),
            vec!["mixed", "own", "p", "q", "c", "-grand in own"],
        ),
        (
            json!([{"table": "public.p", "only": true}, "public.*"]),
            vec!["mixed", "own", "only p", "q", "c", "-grand in own"],
        ),
        (
            json!([{"table": "public.own", "only": true}, "public.*"]),
            vec!["mixed", "only own", "p", "q", "grand", "-c in p"],
        ),
        // A parent replaces its children if its export has everything that theirs would have.
        (
            json!([{"table": "public.p", "columns": ["v", "id"]}, "public.*"]),
            vec!["mixed", "own", "p", "q", "-c in p", "-grand in own"],
        ),
        (
            json!([{"table": "public.*", "where": "id > 1"}]),
            vec!["mixed", "own", "p", "q", "-c in p", "-grand in own"],
        ),
        (
            json!([{"table": "public.*", "columns": ["id"]}]),
            vec!["p", "q", "-mixed in p+q", "-c in p", "-own in p", "-grand in p"],
        ),
        // A parent that fails replaces no child.
        (
            json!([{"table": "public.p", "strategy": "hash"}, "public.*"]),
            vec!["!p strategy_unavailable", "mixed", "own", "q", "c", "-grand in own"],
        ),
        (
            json!([{"table": "public.p", "strategy": "hash"}, {"table": "public.own", "strategy": "hash"}, "public.*"]),
            vec!["!p strategy_unavailable", "!own strategy_unavailable", "mixed", "q", "c", "grand"],
        ),
    ];
    for (tables, expected) in cases {
        let pattern_of_all = tables.to_string().contains("*");
        let mut expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        expected.extend(rest.iter().filter(|_| pattern_of_all).map(|r| (*r).to_owned()));
        expected.sort();
        let (plan, said) = planned(&site, &config, &json!({"tables": tables}));
        assert_eq!(said, expected, "{tables}");
        let mut numbers: Vec<u64> = ["tables", "failed"]
            .iter()
            .flat_map(|l| plan[l].as_array().into_iter().flatten())
            .map(|t| t["number"].as_u64().expect("a number"))
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>(), "{plan}");
    }
    let but = |exclude: &str| {
        planned(
            &site,
            &config,
            &json!({"tables": ["public.*"], "exclude": [exclude, "public.lone", "public.parts"]}),
        )
        .1
    };
    assert_eq!(but("public.p"), ["-grand in own", "c", "mixed", "own", "q"]);
    assert_eq!(but("public.nothing"), ["-c in p", "-grand in own", "mixed", "own", "p", "q"]);
    assert_eq!(but("public.own"), ["-c in p", "grand", "mixed", "p", "q"]);
    assert_eq!(planned(&site, &config, &json!({"tables": ["public.c*", "public.g*"]})).1, ["c", "grand"]);

    // A parent that may not be read, may not be named, or shows only some rows replaces no child either.
    let mut one_schema = site.config();
    one_schema["sources"]["warehouse"]["schemas"] = json!(["elsewhere"]);
    let one_schema = site.write("schemas.toml", &one_schema);
    assert_eq!(planned(&site, &one_schema, &json!({"tables": ["*.*"]})).1, ["elsewhere.far"]);
    site.db.execute("REVOKE SELECT ON p FROM exporter");
    let request = json!({"tables": ["public.*"], "exclude": ["public.lone", "public.parts"]});
    assert_eq!(planned(&site, &config, &request).1, ["-grand in own", "-p in ", "c", "mixed", "own", "q"]);
    site.db.execute(
        "GRANT SELECT ON p TO exporter; CREATE POLICY few ON p USING (id < 10); ALTER TABLE p ENABLE ROW LEVEL SECURITY",
    );
    assert_eq!(planned(&site, &config, &request).1, ["-grand in own", "-p in ", "c", "mixed", "own", "q"]);
    let mut visible = site.config();
    visible["sources"]["warehouse"]["session"] = json!({"row_security": "on"});
    let visible = site.write("visible.toml", &visible);
    assert_eq!(planned(&site, &visible, &request).1, ["-grand in own", "c", "mixed", "own", "p", "q"]);
}

#[test]
fn what_contains_what_is_told_and_only_the_own_rows_of_a_table_can_be_asked_for() {
    let site = Site::new(Database::empty());
    site.db.execute(FAMILY);
    let daemon = site.daemon();
    let whole = site
        .export(json!({"tables": ["public.*"], "exclude": ["public.q*", "public.mixed"], "verify": "count"}));
    let archive = site.exports.archive(whole.job());
    let of = |tables: &Value, name: &str| {
        let field = if tables[0]["table"].is_null() { "table_name" } else { "table" };
        tables
            .as_array()
            .expect("tables")
            .iter()
            .find(|t| t[field] == name)
            .unwrap_or_else(|| panic!("{name} in {tables}"))
            .clone()
    };
    for told in [&whole.data()["tables"], &archive["tables"]] {
        let p = of(told, "public.p");
        let contained = ["elsewhere.far", "public.c", "public.grand", "public.mixed", "public.own"];
        assert_eq!(p["contains"], json!(contained), "{p}");
        assert!(
            p["note"].as_str().is_some_and(|n| n.contains("public.c") && n.contains("among its own")),
            "{p}"
        );
        let own = of(told, "public.own");
        assert_eq!(own["contains"], json!(["public.grand"]), "{own}");
        assert!(own["note"].as_str().is_some_and(|n| n.contains("also among those of public.p")), "{own}");
        assert!(of(told, "public.lone").get("contains").is_none());
    }
    assert_eq!(archive["skipped"][0]["within"], json!(["public.p"]), "{}", archive["skipped"]);
    site.assert_equal(&[("SELECT * FROM p", "public_p"), ("SELECT * FROM own", "public_own")]);

    // With every strategy, with and without filters, whatever the types.
    site.db.execute("CREATE TYPE mood AS ENUM ('ok'); ALTER TABLE p ADD m mood; ANALYZE");
    let only = |more: Value| {
        let mut entry = json!({"table": "public.p", "only": true});
        entry.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        entry
    };
    let splits = [
        (json!({"strategy": "single"}), "single", ""),
        (json!({"strategy": "ctid", "chunk_rows": 500}), "ctid", ""),
        (json!({"strategy": "range", "chunk_rows": 500}), "range", ""),
        (json!({"chunk_rows": 500}), "ctid", ""),
        (
            json!({"chunk_column": "v", "strategy": "range", "chunk_rows": 500, "columns": ["id", "v"]}),
            "range",
            "",
        ),
        (json!({"where": "id > 10 AND v <> 'x'", "columns": ["id", "v"]}), "single", "WHERE id > 10"),
        (json!({"after": {"column": "id", "value": "2000"}, "chunk_rows": 300}), "range", "WHERE id > 2000"),
    ];
    let mut jobs = vec![whole.job().to_owned()];
    let config = site.write("verify.toml", &site.config());
    let mut pairs = Vec::new();
    for (n, (more, strategy, rows)) in splits.into_iter().enumerate() {
        let columns = if more["columns"].is_null() { "*" } else { "id, v" };
        let done = site.export(json!({"tables": [only(more.clone())], "verify": "count"}));
        let table = &site.exports.archive(done.job())["tables"][0];
        assert_eq!(
            (&table["strategy"], &table["full"]),
            (&json!(strategy), &json!(false)),
            "{more}: {table}"
        );
        assert!(table.get("contains").is_none(), "{table}");
        let note = table["note"].as_str().unwrap_or_default();
        assert!(note.contains("its own rows only") && note.contains("public.c"), "{table}");
        if strategy != "single" {
            assert!(table["chunks"].as_u64() > Some(2), "{more}: {table}");
        }
        pairs.push((format!("SELECT {columns} FROM ONLY p {rows}"), format!("public_p_v{}", n + 2)));
        let done_verify = site.run(&["verify", done.job(), "--config", &config, "--against-source"]);
        assert!(done_verify.status.success(), "{}", crate::support::said(&done_verify));
        jobs.push(done.job().to_owned());
    }
    site.assert_all_equal(&pairs);
    assert_eq!(
        site.exports.latest("public_p").as_deref(),
        Some("public_p"),
        "only whole exports are the latest"
    );

    // Without children, `only` changes nothing. Children that match the same pattern are exported separately,
    // each with its own rows.
    let apart = site.export(
        json!({"tables": [{"table": "public.*", "only": true}], "exclude": ["public.parts", "public.q"]}),
    );
    let archive = site.exports.archive(apart.job());
    assert!(archive["skipped"].as_array().is_none_or(Vec::is_empty), "{}", archive["skipped"]);
    site.assert_equal(&[
        ("SELECT * FROM ONLY p", "public_p_v9"),
        ("SELECT * FROM c", "public_c"),
        ("SELECT * FROM ONLY own", "public_own_v2"),
        ("SELECT * FROM grand", "public_grand"),
        ("SELECT * FROM mixed", "public_mixed"),
    ]);
    assert_eq!(site.exports.latest("public_lone").as_deref(), Some("public_lone_v2"));
    jobs.push(apart.job().to_owned());

    for (table, why) in [
        ("public.parts", "partitioned"),
        ("public.parts_0", "partitioned"),
        ("public.seen", "a view"),
        ("public.part*", "partitioned"),
    ] {
        let job = site.request(json!({"tables": [{"table": table, "only": true}]}));
        let last = site.broker.events.wait_final(&job, crate::support::PATIENCE);
        assert_eq!(last.kind(), "job.failed", "{}", last.body);
        assert!(
            last.body.to_string().contains(why) && last.body.to_string().contains("`only`"),
            "{}",
            last.body
        );
        jobs.push(job);
    }
    let leaf = site.export(json!({"tables": [{"table": "public.parts_0_0", "only": true}]}));
    site.assert_equal(&[("SELECT * FROM parts", "public_parts_0_0")]);
    jobs.push(leaf.job().to_owned());
    site.assert_sound(&jobs, [daemon]);
}
