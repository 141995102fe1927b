//! TLS between daemons and the server, as `sslmode` demands it.

use std::process::Command;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::scene::Scene;
use crate::support::{said, scratch};

/// A certificate for a host that signs itself, and its key.
fn certificate(host: &str) -> [String; 2] {
    let directory = scratch().join(format!("tls-{}", Uuid::new_v4()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let paths = ["server.pem", "server.key"].map(|name| directory.join(name));
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args([
            "-days",
            "2",
            "-subj",
            &format!("/CN={host}"),
            "-addext",
            &format!("subjectAltName=DNS:{host}"),
        ])
        .arg("-out")
        .arg(&paths[0])
        .arg("-keyout")
        .arg(&paths[1])
        .output()
        .expect("run openssl");
    assert!(output.status.success(), "{}", said(&output));
    paths.map(|path| path.to_string_lossy().into_owned())
}

#[test]
fn tls_is_used_as_sslmode_demands_it() {
    let [pem, key] = certificate("localhost");
    let scene = Scene::with("", &["--tls", &pem, &key, "--tls-required"]);
    scene.fill("big", 3000);
    let with = |host: &str, sslmode: &str, ca: bool| -> Value {
        let mut config = scene.config();
        let warehouse = &mut config["sources"]["warehouse"];
        let port = scene.stand_in.port();
        warehouse["dsn"] = json!(format!("vertica://exporter@{host}:{port}/vdb?sslmode={sslmode}"));
        if ca {
            warehouse["ca_file"] = json!(pem);
        }
        config
    };
    for (host, sslmode, ca, refused) in [
        ("127.0.0.1", "disable", false, Some("TLS is required")),
        ("127.0.0.1", "prefer", false, None),
        ("127.0.0.1", "require", false, None),
        ("127.0.0.1", "verify-ca", true, None),
        ("localhost", "verify-full", true, None),
        ("127.0.0.1", "verify-full", true, Some("certificate")),
    ] {
        let path = scene.site.write("tls.toml", &with(host, sslmode, ca));
        let checked = scene.site.run(&["check", "--config", &path]);
        let told = said(&checked);
        match refused {
            None => assert!(checked.status.success(), "{sslmode}: {told}"),
            Some(why) => assert!(!checked.status.success() && told.contains(why), "{sslmode}: {told}"),
        }
    }
    let daemon = scene.site.daemon_with(&with("localhost", "verify-full", true));
    let job = scene.site.request(json!({"tables": ["public.big"]}));
    scene.site.completed(&job);
    scene.assert_has_all("public_big", 3000);
    let sessions = scene.stand_in.sessions();
    assert!(!sessions.is_empty() && sessions.iter().all(|session| session["tls"] == true), "{sessions:?}");
    scene.site.assert_sound(&[job], [daemon]);
}

/// Each node has a certificate with its own name, and the operator has named one of them.
#[test]
fn a_node_with_another_name_in_its_certificate_takes_no_session_and_the_first_does() {
    let ([pem, key], [other_pem, other_key]) = (certificate("localhost"), certificate("node2"));
    let options = ["--tls", &pem, &key, "--tls-others", &other_pem, &other_key, "--tls-required"];
    let scene = Scene::with("", &[&options[..], &["--load-balance", "roundrobin"]].concat());
    scene.fill("big", 12_000);
    let both = scene.site.path("both.pem");
    let read = |path: &str| std::fs::read_to_string(path).expect("a certificate");
    std::fs::write(&both, read(&pem) + &read(&other_pem)).expect("written");
    let mut config = scene.config();
    let warehouse = &mut config["sources"]["warehouse"];
    let port = scene.stand_in.port();
    warehouse["dsn"] = json!(format!("vertica://exporter@localhost:{port}/vdb?sslmode=verify-full"));
    warehouse["ca_file"] = json!(both);
    warehouse["load_balance"] = json!(true);
    let daemon = scene.site.daemon_with(&config);
    let job = scene.site.request(json!({"tables": ["public.big"]}));
    scene.site.completed(&job);
    scene.assert_has_all("public_big", 12_000);
    let sessions = scene.stand_in.sessions();
    let is_first =
        |session: &Value| session["tls"] == true && session["node"].to_string().contains("node0001");
    assert!(!sessions.is_empty() && sessions.iter().all(is_first), "{sessions:?}");
    assert!(daemon.log().contains("the node that the server names cannot be used"), "the reason is logged");
    scene.site.assert_sound(&[job], [daemon]);
}
