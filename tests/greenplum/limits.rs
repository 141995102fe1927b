//! A role with few rights, and a resource queue with few slots.

use serde_json::{Value, json};

use crate::scene::{Scene, WAYS};
use crate::support::{PATIENCE, said};

/// A role in a resource queue. Dropping this value drops both.
struct Queued<'a> {
    scene: &'a Scene,
    name: String,
}

impl<'a> Queued<'a> {
    fn new(scene: &'a Scene, slots: u32) -> Self {
        let name = format!("adu_queued_{}", std::process::id());
        let db = &scene.site.db;
        db.execute(&format!("CREATE RESOURCE QUEUE {name} WITH (ACTIVE_STATEMENTS = {slots})"));
        db.execute(&format!("CREATE ROLE {name} LOGIN PASSWORD 'queued' RESOURCE QUEUE {name}"));
        Self { scene, name }
    }

    fn dsn(&self) -> String {
        self.scene.site.db.dsn().replace("exporter@", &format!("{}:queued@", self.name))
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let db = &self.scene.site.db;
        db.execute(&format!("DROP OWNED BY {0}; DROP ROLE {0}", self.name));
        db.execute(&format!("DROP RESOURCE QUEUE {}", self.name));
    }
}

const SETUP: &str = "
    CREATE TABLE a AS SELECT g AS id, g % 3 AS y, repeat(md5(g::text), 20) AS v FROM generate_series(1, 30000) g
      DISTRIBUTED BY (id);
    CREATE TABLE b AS SELECT * FROM a DISTRIBUTED RANDOMLY;
    CREATE TABLE p (id int, y int, v text) DISTRIBUTED BY (id) PARTITION BY RANGE (y) (START (0) END (3) EVERY (1));
    INSERT INTO p SELECT * FROM a;
    CREATE VIEW w AS SELECT id, y FROM a;
    ANALYZE;";

const EQUAL: [(&str, &str); 4] =
    [("SELECT * FROM a", "a"), ("SELECT * FROM b", "b"), ("SELECT * FROM p", "p"), ("SELECT * FROM w", "w")];

fn tables(way: &str) -> Value {
    let table = |name: &str| json!({"table": format!("public.{name}"), "read": way, "chunk_rows": 2000});
    json!([table("a"), table("b"), table("p"), "public.w"])
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn select_is_enough_for_every_way() {
    let scene = Scene::new(SETUP);
    scene.site.db.execute(
        "REVOKE ALL ON a, b, p, w FROM exporter, public; GRANT SELECT ON a, p, w TO exporter; \
         GRANT SELECT (id, v) ON b TO exporter; CREATE TABLE secret (id int); REVOKE ALL ON secret FROM exporter",
    );
    for way in WAYS {
        let request = json!({
            "tables": [
                {"table": "public.a", "read": way},
                {"table": "public.p", "read": way, "chunk_rows": 2000},
                {"table": "public.b", "columns": ["id", "v"]},
                "public.w",
            ],
            "output": {"directory": way},
        });
        scene.export(&request);
        let equal = [
            ("SELECT * FROM a", "a"),
            ("SELECT * FROM p", "p"),
            ("SELECT id, v FROM b", "b"),
            ("SELECT * FROM w", "w"),
        ];
        let equal = equal.map(|(query, name)| (query.to_owned(), format!("{way}/public_{name}")));
        scene.site.assert_all_equal(&equal);
        let output = scene.try_export(&json!({"tables": [{"table": "public.secret", "read": way}]}), &[]);
        assert!(said(&output).contains("GRANT SELECT ON \"public\".\"secret\""), "{}", said(&output));
    }
    scene.site.assert_one_shots_sound();
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn a_right_to_the_root_alone_is_enough() {
    let scene = Scene::new(SETUP);
    scene.site.db.execute("REVOKE SELECT ON p_1_prt_2 FROM exporter");
    let plan = scene.plan(&json!({"tables": ["public.p"]}));
    assert!(plan.to_string().contains("partition public.p_1_prt_2 the role may not read"), "{plan}");
    scene.export(&json!({"tables": ["public.p"]}));
    scene.site.assert_equal(&[("SELECT * FROM p", "public_p")]);
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn a_queue_of_three_slots_serves_eight_workers() {
    let scene = Scene::new(SETUP);
    let queued = Queued::new(&scene, 3);
    scene.site.db.execute(&format!("GRANT SELECT ON a, b, p, w TO {}", queued.name));
    let daemons = [(); 2].map(|()| {
        let mut config = scene.config();
        config["export"]["workers"] = json!(4);
        config["sources"]["warehouse"]["dsn"] = json!(queued.dsn());
        config["sources"]["warehouse"].as_object_mut().expect("a table").remove("password");
        scene.site.daemon_with(&config)
    });
    // All ways, and several jobs at the same time.
    let jobs: Vec<String> = WAYS
        .iter()
        .map(|way| {
            scene.site.request(json!({
                "tables": tables(way),
                "output": {"directory": way},
                "parallelism": {"table_threads": 4, "chunk_workers": 8},
            }))
        })
        .collect();
    for (job, way) in jobs.iter().zip(WAYS) {
        let last = scene.site.broker.events.wait_final(job, 2 * PATIENCE);
        assert_eq!(last.kind(), "job.completed", "{way}: {}", last.body);
        let equal = EQUAL.map(|(query, name)| (query.to_owned(), format!("{way}/public_{name}")));
        scene.site.assert_all_equal(&equal);
    }
    scene.site.assert_sound(&jobs, daemons);
}

#[test]
#[ignore = "needs ADU_TEST_GREENPLUM_DSN: make greenplum-check"]
fn one_slot_more_than_the_queue_has_is_waited_for() {
    let scene = Scene::new(SETUP);
    let queued = Queued::new(&scene, 3);
    scene.site.db.execute(&format!("GRANT SELECT ON a, b, p, w TO {}", queued.name));
    let out = scene.site.exports.0.to_string_lossy().into_owned();
    let request = scene.site.path("request.json");
    std::fs::write(&request, json!({"tables": tables("retrieve")}).to_string()).expect("write a request");
    let dsn = queued.dsn();
    let output = scene.site.run(&[
        "export",
        "--dsn",
        &dsn,
        "--request",
        &request.to_string_lossy(),
        "--out",
        &out,
        "--workers",
        "8",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let equal = EQUAL.map(|(query, name)| (query.to_owned(), format!("public_{name}")));
    scene.site.assert_all_equal(&equal);
}
