//! How tables are surveyed, split and refused, and what is sent for it.

use serde_json::{Value, json};

use crate::scene::Scene;
use crate::support::said;

/// The plan of a table of the schema `public`.
fn table<'a>(plan: &'a Value, name: &str) -> &'a Value {
    let tables = plan["tables"].as_array().unwrap_or_else(|| panic!("no tables: {plan}"));
    tables.iter().find(|t| t["name"] == name).unwrap_or_else(|| panic!("no {name}: {plan}"))
}

#[test]
fn a_large_table_is_cut_by_its_segmentation_for_all_nodes() {
    let scene = Scene::big(10_000);
    let plan = scene.plan(&json!({"tables": ["public.big"]}));
    let big = table(&plan, "big");
    assert_eq!(big["strategy"]["name"], "hash", "{big}");
    assert_eq!(big["strategy"]["pieces"].as_array().map(Vec::len), Some(12), "{big}");
    assert_eq!(big["snapshot_rows"], 10_000);
    let reason = big["reason"].as_str().expect("a reason");
    assert!(reason.contains("12 ranges of id") && reason.contains("3 nodes"), "{reason}");
}

#[test]
fn a_key_that_leads_the_sort_order_is_cut_into_ranges_and_small_tables_are_not_cut() {
    let scene = Scene::new(
        "CREATE TABLE sorted (id bigint PRIMARY KEY, t text); INSERT INTO sorted SELECT g, 'x' FROM generate_series(1, 5000) g;
         CREATE TABLE small (id bigint PRIMARY KEY); INSERT INTO small VALUES (1);
         CREATE TABLE everywhere (id bigint PRIMARY KEY, t text); INSERT INTO everywhere SELECT g, 'x' FROM generate_series(1, 5000) g",
    );
    scene.site.db.execute(
        "INSERT INTO vertica.tables (schema, relation, segment_expression, sort) VALUES ('public', 'everywhere', '', ARRAY['t'])",
    );
    let plan = scene.plan(&json!({"tables": ["public.sorted", "public.small", "public.everywhere"]}));
    for name in ["sorted", "everywhere"] {
        assert_eq!(table(&plan, name)["strategy"]["kind"], "range", "{}", table(&plan, name));
    }
    assert_eq!(table(&plan, "small")["strategy"]["kind"], "single");
    scene.export(&json!({"tables": [{"table": "public.sorted", "chunk_rows": 1000}]}));
    assert_eq!(
        scene.rows("public_sorted", "count(*), count(DISTINCT id), min(id), max(id)"),
        ["5000", "5000", "1", "5000"]
    );
}

#[test]
fn views_and_external_tables_come_only_by_name_and_temporary_ones_never() {
    let scene = Scene::new(
        "CREATE TABLE t (id bigint PRIMARY KEY); INSERT INTO t VALUES (1), (2);
         CREATE VIEW v AS SELECT id, id * 2 AS twice FROM t;
         CREATE TABLE ext (id bigint); INSERT INTO ext VALUES (7);
         CREATE TABLE tmp (id bigint)",
    );
    scene.site.db.execute(
        "INSERT INTO vertica.tables (schema, relation, definition) VALUES ('public', 'ext', 'COPY FROM ''x''');
         INSERT INTO vertica.tables (schema, relation, temporary) VALUES ('public', 'tmp', true)",
    );
    scene.export(&json!({"tables": ["public.*"]}));
    assert_eq!(scene.site.exports.directories().into_iter().collect::<Vec<_>>(), ["public_t"]);
    scene.export(&json!({"tables": ["public.v", "public.ext"]}));
    assert_eq!(scene.rows("public_v", "count(*), max(twice)"), ["2", "4"]);
    assert_eq!(scene.rows("public_ext", "count(*), max(id)"), ["1", "7"]);
    let refused = scene.try_export(&json!({"tables": ["public.tmp"]}), &[]);
    assert!(!refused.status.success() && said(&refused).contains("temporary"), "{}", said(&refused));
}

#[test]
fn rows_whose_hash_is_null_are_exported_once() {
    let scene = Scene::big(5000);
    scene.site.db.execute(
        "CREATE OR REPLACE FUNCTION vertica.hash(line text) RETURNS int8 LANGUAGE sql IMMUTABLE AS
         $$ SELECT CASE WHEN line NOT LIKE '%7)' THEN hashtextextended(line, 0) & 9223372036854775807 END $$",
    );
    for chunk_rows in [1000, 10_000] {
        let directory = format!("by_{chunk_rows}");
        let table = json!({"table": "public.big", "strategy": "hash", "chunk_rows": chunk_rows});
        scene.export(&json!({"tables": [table], "output": {"directory": directory}}));
        scene.assert_has_all(&format!("{directory}/public_big"), 5000);
    }
}

#[test]
fn a_table_without_rows_becomes_one_file_without_rows() {
    let scene = Scene::new("CREATE TABLE none (id bigint PRIMARY KEY, t text)");
    for strategy in ["auto", "hash", "range", "single"] {
        let table = json!({"table": "public.none", "strategy": strategy});
        scene.export(&json!({"tables": [table], "output": {"directory": strategy}}));
        let directory = format!("{strategy}/public_none");
        assert_eq!(scene.rows(&directory, "count(*)"), ["0"]);
        assert_eq!(scene.columns(&directory), ["id", "t"]);
        assert_eq!(scene.site.exports.names(&directory), ["part-000000.parquet"]);
    }
}

/// The server refuses to tell the columns of views while a table that one of them reads is gone.
#[test]
fn a_broken_view_is_in_nobodys_way() {
    let scene = Scene::new(
        "CREATE TABLE t (id bigint); CREATE VIEW good AS SELECT id FROM t; CREATE VIEW bad AS SELECT id FROM t",
    );
    let broken = json!({"do": "fail", "rows": 0, "match": "v_catalog.view_columns", "count": 0, "sqlstate": "42V01",
                        "message": "Relation \"gone\" does not exist"});
    scene.stand_in.tell(&broken);
    scene.plan(&json!({"tables": ["public.*"]}));
    let told = said(&scene.try_export(&json!({"tables": ["public.t", "public.bad"]}), &[]));
    assert!(told.contains("public.bad may not be read") && told.contains("does not exist"), "{told}");
    assert_eq!(scene.rows("public_t", "count(*)"), ["0"]);
    // Only the question about both is refused.
    scene.stand_in.tell(&json!({"do": "good"}));
    let both =
        json!({"do": "fail", "rows": 0, "match": "v_catalog.view_columns", "count": 1, "sqlstate": "42V01"});
    scene.stand_in.tell(&both);
    let plan = scene.plan(&json!({"tables": ["public.good", "public.bad"]}));
    assert_eq!(plan["tables"].as_array().map(Vec::len), Some(2), "{plan}");
}

#[test]
fn questions_about_few_tables_name_them() {
    let scene = Scene::big(3000);
    scene.site.db.execute("CREATE TABLE other (id bigint)");
    scene.plan(&json!({"tables": ["public.big"]}));
    for catalogue in
        ["v_catalog.columns", "v_catalog.projections", "projection_columns", "projection_storage"]
    {
        let statements = scene.stand_in.statements();
        let (asked, _) = statements.iter().find(|(s, _)| s.contains(catalogue)).expect("a question");
        assert!(asked.contains("table_id IN (45035996"), "{asked}");
    }
}

#[test]
fn a_way_to_read_is_refused_by_name() {
    let scene = Scene::new("CREATE TABLE t (id bigint)");
    let refused = scene.try_export(&json!({"tables": [{"table": "public.t", "read": "copy"}]}), &[]);
    assert!(said(&refused).contains("public.t cannot be read by copy"), "{}", said(&refused));
    let mut config = scene.config();
    config["sources"]["warehouse"]["read"] = json!("copy");
    let path = scene.site.write("refused.toml", &config);
    let refused = scene.site.run(&["check", "--config", &path]);
    assert!(said(&refused).contains("sources.warehouse.read"), "{}", said(&refused));
}

#[test]
fn filters_and_newer_rows_are_selected_by_the_server() {
    let scene = Scene::new(
        "CREATE TABLE log (id bigint PRIMARY KEY, at timestamptz, n numeric(12,2), t varchar(20));
         INSERT INTO log SELECT g, '2026-01-01 00:00:00+00'::timestamptz + g * interval '1 hour', g / 4.0, 'it''s ' || g
           FROM generate_series(1, 100) g;
         INSERT INTO log VALUES (101, NULL, NULL, NULL)",
    );
    let count = |request: Value, directory: &str| {
        scene.export(&json!({"tables": [request], "output": {"directory": directory}}));
        scene.rows(&format!("{directory}/public_log"), "count(*), coalesce(min(id), 0), coalesce(max(id), 0)")
    };
    let by = |text: &str| json!({"table": "public.log", "where": text});
    assert_eq!(count(by("n >= 20 AND t LIKE 'it''s 9%'"), "a"), ["10", "90", "99"]);
    assert_eq!(count(by("at IS NOT DISTINCT FROM NULL"), "b"), ["1", "101", "101"]);
    let after = |value: &str, overlap: Option<&str>| {
        let mut after = json!({"column": "at", "value": value});
        if let Some(overlap) = overlap {
            after["overlap"] = json!(overlap);
        }
        json!({"table": "public.log", "after": after})
    };
    assert_eq!(count(after("2026-01-04 00:00:00+00", None), "c"), ["28", "73", "100"]);
    assert_eq!(count(after("2026-01-04 00:00:00+00", Some("2 hours")), "d"), ["30", "71", "100"]);
}

#[test]
fn rows_of_many_tables_are_counted_by_few_questions() {
    let scene = Scene::new("");
    let tables: String = (0..120)
        .map(|n| format!("CREATE TABLE t{n} (id bigint); INSERT INTO t{n} SELECT generate_series(1, {n});"))
        .collect();
    scene.site.db.execute(&tables);
    scene.export(&json!({"tables": ["public.*"]}));
    assert_eq!(scene.site.exports.directories().len(), 120);
    assert_eq!(scene.rows("public_t117", "count(*), max(id)"), ["117", "117"]);
    let counts: Vec<String> = scene
        .stand_in
        .statements()
        .into_iter()
        .map(|(statement, _)| statement)
        .filter(|s| s.contains("COUNT(*)"))
        .collect();
    assert_eq!(counts.len(), 2, "{counts:?}");
}

#[test]
fn check_says_what_an_operator_must_know() {
    let scene = Scene::new(
        "CREATE TABLE t (id bigint); CREATE TABLE u (id bigint); CREATE VIEW v AS SELECT id FROM t",
    );
    let config = scene.site.write("check.toml", &scene.config());
    let checked = scene.site.run(&["check", "--config", &config]);
    let text = said(&checked);
    for part in ["Vertica", "3 nodes up", "ancient history mark", "sees 2 tables and 1 view"] {
        assert!(checked.status.success() && text.contains(part), "{part}: {text}");
    }
    let no_right = json!({"do": "fail", "rows": 0, "sqlstate": "42501", "match": "access_policy", "count": 0,
                          "message": "Permission denied for relation access_policy"});
    scene.stand_in.tell(&no_right);
    let text = said(&scene.site.run(&["check", "--config", &config]));
    assert!(text.contains("cannot tell whether access policies"), "{text}");
}

#[test]
fn a_plan_says_what_an_export_cannot_notice() {
    let scene = Scene::new(
        "CREATE TABLE t (id bigint); INSERT INTO t VALUES (1), (2);
         CREATE TABLE open (id bigint); CREATE TABLE parts (id bigint); CREATE TABLE gone (id bigint);
         CREATE VIEW v AS SELECT id FROM t WHERE random() < 0.5",
    );
    scene.site.db.execute(
        "INSERT INTO vertica.policies (table_name, enabled) VALUES ('public.t', 'Enabled'), ('public.open', 'Disabled');
         INSERT INTO vertica.tables (schema, relation, partition_expression) VALUES ('public', 'parts', 'parts.id');
         INSERT INTO vertica.sizes VALUES ('public', 'gone', 5, 100)",
    );
    let plan = scene
        .plan(&json!({"tables": ["public.t", "public.open", "public.parts", "public.gone", "public.v"]}));
    let note = |name: &str| table(&plan, name)["note"].as_str().unwrap_or_default().to_owned();
    assert!(note("t").contains("access policy"), "{plan}");
    assert_eq!(note("open"), "", "{plan}");
    assert!(note("parts").contains("do not swap or move partitions"), "{plan}");
    assert!(note("v").contains("not compared"), "{plan}");
    assert!(note("gone").contains("none of 5 rows"), "{plan}");
    assert!(
        table(&plan, "v")["snapshot_rows"].is_null() && table(&plan, "t")["snapshot_rows"] == 2,
        "{plan}"
    );
    // Each reading gives other rows, and none of them is wrong.
    for n in 0..3 {
        scene.export(&json!({"tables": ["public.v"], "output": {"directory": format!("v{n}")}}));
    }
    // A user who may not see policies exports all the same.
    let no_right =
        json!({"do": "fail", "rows": 0, "sqlstate": "42501", "match": "access_policy", "count": 0});
    scene.stand_in.tell(&no_right);
    scene.export(&json!({"tables": ["public.t"]}));
}

#[test]
fn rows_are_counted_before_all_other_questions_about_a_table() {
    let scene = Scene::new(
        "CREATE TABLE sorted (id bigint PRIMARY KEY, t text); INSERT INTO sorted SELECT g, 'x' FROM generate_series(1, 5000) g",
    );
    scene.plan(&json!({"tables": ["public.sorted"]}));
    let statements: Vec<String> = scene.stand_in.statements().into_iter().map(|(s, _)| s).collect();
    let first = statements.iter().find(|s| s.contains("\"public\".\"sorted\"")).expect("a question");
    assert!(first.contains("COUNT(*)"), "{statements:?}");
    assert!(statements.iter().any(|s| s.contains("ROW_NUMBER")), "{statements:?}");
    // Counted once: a count is the best estimate, and what `verify` compares.
    scene.stand_in.tell(&json!({"do": "forget"}));
    scene.export(&json!({"tables": [{"table": "public.sorted", "where": "id > 10"}], "verify": "count"}));
    let counts = scene.stand_in.statements().into_iter().filter(|(s, _)| s.contains("COUNT(*)")).count();
    assert_eq!(counts, 1);
}

/// Whether a statement has the form of a template of `docs/vertica-statements.md`, in which `{…}` stands for any
/// text and `[…]` may be missing.
fn has_form(statement: &str, template: &str) -> bool {
    if let Some((before, rest)) = template.split_once('[') {
        let (part, after) = rest.split_once(']').expect("a closing bracket");
        return has_form(statement, &format!("{before}{part}{after}"))
            || has_form(statement, &format!("{before}{after}"));
    }
    match template.split_once('{') {
        None => statement == template,
        Some((before, rest)) => {
            let (_, after) = rest.split_once('}').expect("a closing brace");
            let Some(statement) = statement.strip_prefix(before) else { return false };
            let ends = statement.char_indices().map(|(at, _)| at).skip(1).chain([statement.len()]);
            ends.into_iter().any(|end| has_form(&statement[end..], after))
        }
    }
}

#[test]
fn every_statement_that_arrives_is_listed() {
    let scene = Scene::big(3000);
    scene.site.db.execute("CREATE VIEW v AS SELECT id FROM public.big");
    scene.export(&json!({
        "tables": [{"table": "public.big", "where": "id < 2000", "chunk_rows": 500}, "public.v"],
        "verify": "count",
    }));
    let config = scene.site.write("check.toml", &scene.config());
    assert!(scene.site.run(&["check", "--config", &config]).status.success());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/vertica-statements.md");
    let list = std::fs::read_to_string(path).expect("the list");
    let templates: Vec<&str> =
        list.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once("` |")?.0)).collect();
    let statements = scene.stand_in.statements();
    assert!(statements.len() > 10, "{statements:?}");
    for (statement, known) in statements {
        assert!(known, "the stand-in does not know {statement}");
        // The last template fits every SELECT, so only statements on tables of users may need it.
        let fits = |template: &&&str| has_form(&statement, template);
        let template = templates.iter().find(fits);
        let template = template.unwrap_or_else(|| panic!("not listed: {statement}"));
        assert!(
            !template.contains("SELECT {columns} FROM {table}") || statement.contains("FROM \"public\"."),
            "not listed: {statement}"
        );
    }
}
