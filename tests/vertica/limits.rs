//! Logins and sessions that the server refuses.

use std::time::Duration;

use serde_json::json;

use crate::scene::Scene;
use crate::support::{PASSWORD, PATIENCE, eventually, said};

#[test]
fn a_wrong_password_is_named_and_read_again_from_its_file() {
    let scene = Scene::big(3000);
    let secret = scene.site.path("secret");
    std::fs::write(&secret, "wrong").expect("written");
    let mut config = scene.config();
    let warehouse = &mut config["sources"]["warehouse"];
    warehouse.as_object_mut().expect("a section").remove("password");
    warehouse["password_file"] = json!(secret);
    let path = scene.site.write("wrong.toml", &config);
    let checked = scene.site.run(&["check", "--config", &path]);
    let told = said(&checked);
    assert!(!checked.status.success() && told.contains("password") && !told.contains("\"wrong\""), "{told}");
    let daemon = scene.site.spawn(&config).ready();
    let job = scene.site.request(json!({"tables": ["public.big"]}));
    eventually("the refusal is logged", PATIENCE, || {
        daemon.log().contains("planning is tried again").then_some(())
    });
    scene.site.assert_runs(&job, "it waits for the password");
    std::fs::write(&secret, PASSWORD).expect("written");
    scene.site.completed(&job);
    scene.assert_has_all("public_big", 3000);
    assert!(!daemon.log().contains(PASSWORD), "no secret in the log");
    scene.site.assert_sound(&[job], [daemon]);
}

#[test]
fn sessions_that_the_server_refuses_are_tried_again() {
    let scene = Scene::big(12_000);
    scene.stand_in.tell(&json!({"do": "max_sessions", "n": 1}));
    let daemon = scene.daemon();
    let job = scene.site.request(json!({"tables": ["public.big"]}));
    eventually("a session is refused", PATIENCE, || daemon.log().contains("tried again").then_some(()));
    scene.stand_in.tell(&json!({"do": "max_sessions", "n": 50}));
    scene.site.completed(&job);
    scene.assert_has_all("public_big", 12_000);
    scene.site.assert_sound(&[job], [daemon]);
}

#[test]
fn chunks_at_once_are_limited_by_the_nodes_unless_the_configuration_says_otherwise() {
    let scene = Scene::big(3000);
    for (max_parallel, expected) in [(None, Some(12)), (Some(5), None)] {
        let mut config = scene.config();
        if let Some(max) = max_parallel {
            config["sources"]["warehouse"]["max_parallel"] = json!(max);
        }
        let daemon = scene.site.daemon_with(&config);
        scene.proxy.slow_to(300_000);
        let job = scene.mid_job(&daemon, &["big"]);
        let plan = scene.site.exports.plan(&job, 1).expect("a plan");
        assert_eq!(plan["most_chunks"]["chunks"].as_u64(), expected, "{}", plan["most_chunks"]);
        scene.proxy.slow_to(1 << 40);
        scene.site.completed(&job);
        daemon.stop();
    }
}

#[test]
fn sessions_have_a_label_and_the_resource_pool_and_another_pool_is_refused_by_name() {
    let scene = Scene::big(3000);
    let mut config = scene.config();
    config["sources"]["warehouse"]["resource_pool"] = json!("export");
    let daemon = scene.site.daemon_with(&config);
    let job = scene.site.request(json!({"tables": ["public.big"]}));
    scene.site.completed(&job);
    let sessions = scene.stand_in.sessions();
    assert!(!sessions.is_empty(), "sessions are kept");
    for session in &sessions {
        assert_eq!(
            (session["label"].as_str(), session["pool"].as_str()),
            (Some("adu-export"), Some("export"))
        );
        assert_eq!(session["binary"], true);
    }
    daemon.stop();
    crate::support::none_left("sessions end with their daemon", Duration::from_secs(5), || {
        scene.stand_in.sessions().iter().map(ToString::to_string).collect()
    });
    config["sources"]["warehouse"]["resource_pool"] = json!("nowhere");
    let path = scene.site.write("pool.toml", &config);
    let checked = scene.site.run(&["check", "--config", &path]);
    let told = said(&checked);
    assert!(!checked.status.success() && told.contains("nowhere"), "{told}");
    assert!(told.contains("correct resource_pool of the source"), "{told}");
}
