//! The ground under the tests: what they trust must itself be able to fail.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::{Database, Proxy, Services};

#[test]
fn every_test_file_is_part_of_a_target() {
    let manifest = std::fs::read_to_string("Cargo.toml").expect("read Cargo.toml");
    let main = std::fs::read_to_string("tests/main.rs").expect("read tests/main.rs");
    for entry in std::fs::read_dir("tests").expect("list tests") {
        let name = entry.expect("entry").file_name().into_string().expect("UTF-8");
        let module = name.trim_end_matches(".rs");
        let target = manifest.contains(&format!("path = \"tests/{name}"));
        let known =
            target || main.contains(&format!("mod {module};")) || matches!(module, "oracle" | "fixtures");
        assert!(known, "tests/{name} is neither a module of tests/main.rs nor a target in Cargo.toml");
    }
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
