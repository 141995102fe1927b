//! One epoch for all chunks, and what happens when its history is gone.

use serde_json::json;

use crate::scene::Scene;
use crate::support::{Daemon, PATIENCE};

/// Rows of the table; chunks have a thousand.
const ROWS: u32 = 12_000;

/// A job in its middle: slow, and with chunks left.
fn mid_job(scene: &Scene) -> (Daemon, String) {
    scene.proxy.slow_to(700_000);
    let daemon = scene.daemon();
    let job = scene.mid_job(&daemon, &["big"]);
    scene.site.assert_runs(&job, "it is in its middle");
    (daemon, job)
}

#[test]
fn rows_that_are_written_meanwhile_are_in_no_chunk() {
    let scene = Scene::big(ROWS);
    let (daemon, job) = mid_job(&scene);
    scene.site.db.execute(&format!(
        "INSERT INTO public.big SELECT g, 'new' || g FROM generate_series({ROWS} + 1, {ROWS} + 5000) g;
         DELETE FROM public.big WHERE id <= 500;
         UPDATE public.big SET filler = 'changed' WHERE id % 7 = 0"
    ));
    scene.proxy.slow_to(1 << 40);
    scene.site.completed(&job);
    scene.assert_has_all("public_big", ROWS);
    scene.site.assert_sound(&[job], [daemon]);
}

#[test]
fn an_epoch_behind_the_mark_is_given_up_for_a_new_one() {
    let scene = Scene::big(ROWS);
    let (daemon, job) = mid_job(&scene);
    let before = scene.site.exports.plan(&job, 1).expect("a plan")["snapshot"].clone();
    assert!(before["recall"].is_number(), "{before}");
    scene.site.db.execute("DELETE FROM public.big WHERE id > 11000");
    scene.stand_in.tell(&json!({"do": "ahm"}));
    scene.proxy.slow_to(1 << 40);
    scene.site.completed(&job);
    scene.assert_has_all("public_big", 11_000);
    assert!(daemon.log().contains("ancient history mark"), "the reason is logged");
    scene.site.assert_sound(&[job], [daemon]);
}

#[test]
fn a_column_that_is_dropped_makes_its_table_planned_again() {
    let scene = Scene::big(ROWS);
    scene.site.db.execute("ALTER TABLE public.big ADD COLUMN gone int DEFAULT 1");
    let (daemon, job) = mid_job(&scene);
    scene.site.db.execute("ALTER TABLE public.big DROP COLUMN gone");
    scene.proxy.slow_to(1 << 40);
    scene.site.completed(&job);
    scene.assert_has_all("public_big", ROWS);
    assert_eq!(scene.columns("public_big"), ["id", "filler"]);
    assert!(daemon.log().contains("column `gone`"), "the reason is logged");
    scene.site.assert_sound(&[job], [daemon]);
}

/// All epochs show the new column, and none of them what was in the old one.
#[test]
fn a_column_that_is_dropped_and_added_again_makes_its_table_planned_again() {
    let scene = Scene::big(ROWS);
    scene.site.db.execute("ALTER TABLE public.big ADD COLUMN again int DEFAULT 1");
    let (daemon, job) = mid_job(&scene);
    scene.site.db.execute(
        "ALTER TABLE public.big DROP COLUMN again; ALTER TABLE public.big ADD COLUMN again int DEFAULT 2",
    );
    scene.proxy.slow_to(1 << 40);
    scene.site.completed(&job);
    scene.assert_has_all("public_big", ROWS);
    assert_eq!(scene.rows("public_big", "min(again), max(again)"), ["2", "2"]);
    assert!(daemon.log().contains("column `again` was dropped and added again"), "the reason is logged");
    scene.site.assert_sound(&[job], [daemon]);
}

#[test]
fn a_table_that_is_made_anew_under_its_name_is_planned_again() {
    let scene = Scene::big(ROWS);
    let (daemon, job) = mid_job(&scene);
    scene.site.db.execute(
        "DROP TABLE public.big;
         CREATE TABLE public.big (id bigint PRIMARY KEY, filler text NOT NULL);
         INSERT INTO public.big SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, 3000) g",
    );
    scene.proxy.slow_to(1 << 40);
    scene.site.completed(&job);
    scene.assert_has_all("public_big", 3000);
    scene.site.assert_sound(&[job], [daemon]);
}

#[test]
fn a_table_that_is_truncated_is_never_published_with_rows_missing() {
    let scene = Scene::big(ROWS);
    let (daemon, job) = mid_job(&scene);
    scene.site.db.execute(
        "TRUNCATE public.big;
         INSERT INTO public.big SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, 2500) g",
    );
    scene.proxy.slow_to(1 << 40);
    let last = scene.site.broker.events.wait_final(&job, PATIENCE);
    assert_eq!(last.kind(), "job.completed", "{}", last.body);
    scene.assert_has_all("public_big", 2500);
    scene.site.assert_sound(&[job], [daemon]);
}

#[test]
fn a_table_that_loses_rows_again_and_again_is_whole_or_fails_by_name() {
    let scene = Scene::big(ROWS);
    scene.proxy.slow_to(700_000);
    let daemon = scene.daemon();
    let job = scene.mid_job(&daemon, &["big"]);
    let mut lost = 0;
    while scene.site.exports.find_archive(&job).is_none() && lost < 60 {
        // TRUNCATE ends its transaction: for a moment the table is empty.
        scene.site.db.execute("TRUNCATE public.big");
        scene.site.db.execute(&format!(
            "INSERT INTO public.big SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, {ROWS}) g"
        ));
        lost += 1;
        std::thread::sleep(std::time::Duration::from_millis(700));
    }
    scene.proxy.slow_to(1 << 40);
    let last = scene.site.broker.events.wait_final(&job, PATIENCE);
    match last.kind() {
        // The table had no rows when it was planned, or all of them: it is never a part of them.
        "job.completed" if scene.rows("public_big", "count(*)") == ["0"] => {}
        "job.completed" => scene.assert_has_all("public_big", ROWS),
        "job.failed" => assert!(last.body.to_string().contains("public.big"), "{}", last.body),
        other => panic!("{other}: {}", last.body),
    }
    scene.site.assert_sound(&[job], [daemon]);
}
