//! Every type comes back exact, by every way: the server itself compares.

use serde_json::{Value, json};

use crate::scene::{Scene, WAYS};
use crate::support::Database;
use crate::values::{Type, types};

/// Rows of a table. Each value comes many times, on every segment.
const ROWS: usize = 3000;

const SETUP: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'so \"so\"', 'ü');
    CREATE TYPE floatrange AS RANGE (subtype = float8);
    CREATE TYPE plain AS (i int, t text, n numeric, d date, r int4range);
    CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE DOMAIN price AS numeric(12,2);
    CREATE FUNCTION takes(type text, value text) RETURNS boolean LANGUAGE plpgsql AS
        $$ BEGIN EXECUTE format('SELECT %1$L::%2$s, ARRAY[NULL::%2$s]::%2$s[]', value, type); RETURN true;
           EXCEPTION WHEN OTHERS THEN RETURN false; END $$;
";

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// SQL of one column: NULL and the edge values in turns.
fn column(ty: &Type) -> String {
    let edges = ty.edges.iter().enumerate();
    let edges: Vec<String> =
        edges.map(|(i, edge)| format!("WHEN {} THEN {}::{}", i + 1, literal(edge), ty.pg)).collect();
    format!("CASE g % {} {} END", edges.len() + 1, edges.join(" "))
}

/// SQL of one array column.
fn array(ty: &Type) -> String {
    let edges: Vec<String> = ty.edges.iter().map(|edge| format!("{}::{}", literal(edge), ty.pg)).collect();
    let pg = ty.pg;
    format!(
        "CASE g % 4 WHEN 1 THEN '{{}}'::{pg}[] WHEN 2 THEN ARRAY[NULL]::{pg}[] \
         WHEN 3 THEN ARRAY[NULL, {}, NULL]::{pg}[] END",
        edges.join(", ")
    )
}

fn create(db: &Database, table: &str, storage: &str, columns: &[(String, String)]) {
    let definitions: Vec<_> = columns.iter().enumerate().map(|(i, (pg, _))| format!("c{i} {pg}")).collect();
    let values: Vec<_> = columns.iter().map(|(_, sql)| sql.as_str()).collect();
    db.execute(&format!(
        "SET optimizer = off;
         CREATE TABLE {table} (id bigint, {}) {storage} DISTRIBUTED BY (id);
         INSERT INTO {table} SELECT g, {} FROM generate_series(1, {ROWS}) g",
        definitions.join(", "),
        values.join(", "),
    ));
}

fn arrow(types: impl Iterator<Item = String>) -> Value {
    types.enumerate().map(|(i, ty)| (format!("c{i}"), json!(ty))).collect::<serde_json::Map<_, _>>().into()
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn every_type_comes_back_exact_by_every_way() {
    let scene = Scene::new(SETUP);
    let db = &scene.site.db;
    // Statistics of infinite numbers overflow.
    db.execute("SET gp_autostats_mode = none");
    // Segments of 6.24 end when they write a tsquery.
    let types: Vec<Type> = types(db).into_iter().filter(|ty| ty.pg != "tsquery").collect();
    assert!(types.len() > 40, "{} types", types.len());
    let scalars: Vec<_> = types.iter().map(|t| (t.pg.to_owned(), column(t))).collect();
    let arrays: Vec<_> = types.iter().map(|t| (format!("{}[]", t.pg), array(t))).collect();
    create(db, "scalars", "", &scalars);
    create(db, "columnar", "WITH (appendonly = true, orientation = column)", &scalars);
    create(db, "arrays", "", &arrays);
    let plain = "ROW(g, 'it''s ' || g, g / 7.0, 'infinity', int4range(NULL, 5))::plain";
    let made = [
        ("positive", "g::int".to_owned()),
        ("price", "g / 3.0".to_owned()),
        ("plain", format!("CASE WHEN g % 5 > 0 THEN {plain} END")),
        ("plain[]", format!("ARRAY[{plain}, NULL]")),
        ("mood", "(enum_range(NULL::mood))[1 + g % 4]".to_owned()),
        ("mood[]", "enum_range(NULL::mood)".to_owned()),
    ];
    let made: Vec<_> = made.into_iter().map(|(pg, sql)| (pg.to_owned(), sql)).collect();
    create(db, "made", "", &made);
    let tables = ["scalars", "columnar", "arrays", "made"];
    for way in WAYS {
        let fit = exact_columns(&scene, way, &tables);
        let requests: Vec<Value> = tables
            .iter()
            .map(|t| json!({"table": format!("public.{t}"), "read": way, "chunk_rows": 1000, "columns": fit[*t]}))
            .collect();
        let request = json!({"tables": requests, "output": {"directory": way}});
        for table in scene.plan(&request)["tables"].as_array().expect("tables") {
            assert_eq!(table["read"], way, "{table}");
        }
        scene.export(&request);
        let scalar = arrow(types.iter().map(|t| t.arrow.into()));
        let pairs: Vec<Value> = tables
            .iter()
            .map(|t| {
                let arrow = if ["scalars", "columnar"].contains(t) { scalar.clone() } else { json!({}) };
                let files = scene.site.exports.path(&format!("{way}/public_{t}"));
                json!({"relation": format!("public.{t}"), "files": files, "arrow": arrow, "columns": fit[*t]})
            })
            .collect();
        for judged in scene.site.cast_back(&pairs) {
            assert!(judged.differences.is_empty(), "{way}: {judged:#?}");
            assert_eq!(judged.rows, ROWS as u64, "{way}: {}", judged.relation);
        }
    }
    scene.site.assert_one_shots_sound();
}

/// The columns that this way can read. Texts of values are made by queries only.
fn exact_columns(scene: &Scene, way: &str, tables: &[&str]) -> Value {
    let columns = tables.iter().map(|table| {
        let plan = scene.plan(&json!({"tables": [format!("public.{table}")]}));
        let columns = plan["tables"][0]["columns"].as_array().expect("columns").iter();
        let fit = columns.filter(|c| way == "query" || c["fetch"] == "native");
        let names: Vec<&Value> = fit.map(|c| &c["name"]).collect();
        eprintln!("{way}: {} columns of {table}", names.len());
        ((*table).to_owned(), json!(names))
    });
    columns.collect::<serde_json::Map<_, _>>().into()
}
