//! Tests of the test tools: they must be able to fail.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::{Database, Proxy, Services, project};

/// Rust files below a directory.
fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("list tests") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_test_file_is_part_of_a_target() {
    let tests = project().join("tests");
    let text = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let manifest = text(&project().join("Cargo.toml"));
    let mut files = Vec::new();
    rust_files(&tests, &mut files);
    assert!(files.len() > 50, "{files:?}");
    for file in files {
        let shown = file.strip_prefix(project()).expect("below the project").display().to_string();
        let directory = file.parent().expect("a directory");
        // The file that declares a module is in its directory, or one level above if the module is the
        // directory's `mod.rs` or `main.rs`.
        let (module, above) = match file.file_name().and_then(|name| name.to_str()) {
            Some("main.rs") => {
                assert!(
                    manifest.contains(&format!("path = \"{shown}\"")),
                    "{shown} is no target of Cargo.toml"
                );
                continue;
            }
            Some("mod.rs") => (directory, directory.parent().expect("tests")),
            _ => (file.as_path(), directory),
        };
        // All targets have `support`, and `tests/main/main.rs` declares it like the others.
        let above = if above == tests { tests.join("main") } else { above.to_owned() };
        let module = module.file_stem().and_then(|name| name.to_str()).expect("a name");
        let declared = ["main.rs", "mod.rs"].map(|name| text(&above.join(name))).concat();
        let declared = declared.lines().any(|line| line.ends_with(&format!("mod {module};")));
        assert!(declared, "{shown} is no module: neither main.rs nor mod.rs of {} has it", above.display());
    }
}

#[test]
fn make_quick_names_a_test_that_there_is() {
    let makefile = std::fs::read_to_string(project().join("Makefile")).expect("read the Makefile");
    let named =
        makefile.lines().find_map(|line| line.strip_prefix("PIPELINE := pipeline::")).expect("a test");
    let tests = std::fs::read_to_string(project().join("tests/main/pipeline.rs")).expect("read its file");
    assert!(tests.contains(&format!("#[test]\nfn {named}()")), "no test is called {named}");
}

#[test]
fn a_test_has_tpch_to_itself() {
    let (one, other) = (Database::tpch(), Database::tpch());
    one.execute("DELETE FROM region");
    assert_eq!(one.number("SELECT count(*) FROM region"), 0);
    assert_eq!(other.number("SELECT count(*) FROM region"), 5);
    assert_eq!(other.number("SELECT count(*) FROM lineitem"), 600_572);
}

#[test]
fn the_broker_is_our_own() {
    let output = Services::get().rabbitmqctl(&["status"]);
    let port = Services::get().amqp.to_string();
    assert!(output.contains(&port), "it listens on our port {port}: {output}");
}

#[test]
fn a_slow_proxy_is_slow_and_then_free() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let proxy = Proxy::to(listener.local_addr().expect("bound").port());
    let mut client = TcpStream::connect(("127.0.0.1", proxy.port)).expect("connect");
    let (mut server, _) = listener.accept().expect("accept");
    let mut pass = |bytes: usize| {
        let began = Instant::now();
        server.write_all(&vec![7; bytes]).expect("write");
        client.read_exact(&mut vec![0; bytes]).expect("read");
        began.elapsed()
    };
    proxy.slow_to(100_000);
    let slow = pass(50_000);
    assert!(slow > Duration::from_millis(400), "{slow:?}");
    proxy.free();
    assert!(pass(50_000) < slow / 4);
    assert_eq!(proxy.passed(), 100_000);
}
