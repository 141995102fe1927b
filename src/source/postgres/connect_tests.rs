use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::config::{SourceConfig, SourceKind};

fn config(toml: &str) -> PostgresConfig {
    let section: SourceConfig = toml::from_str(toml).expect("valid");
    let SourceKind::Postgres(server) = section.kind else { panic!("another kind") };
    server
}

#[test]
fn a_bad_connection_string_names_the_field_and_not_the_password() {
    let name = SourceName::parse("warehouse").expect("valid");
    let config = config("kind = \"postgres\"\ndsn = \"postgres://u:geheim@h/d?sslmode=maybe\"");
    let Err(error) = Connector::new(&name, Origin::Configuration, &config) else { panic!("accepted") };
    assert!(error.message.starts_with("sources.warehouse.dsn:"), "{error}");
    assert!(!error.message.contains("geheim"));
}

#[tokio::test]
async fn the_address_after_a_silent_one_is_tried() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        listener.local_addr().expect("an address").port()
    };
    let port = silent.local_addr().expect("an address").port();
    let mut config = config(&format!(
        "kind = \"postgres\"\ndsn = \"host=127.0.0.1,127.0.0.1 port={port},{closed} user=u dbname=d sslmode=disable\""
    ));
    config.connect_timeout.0 = Duration::from_millis(100);
    let name = SourceName::parse("w").expect("valid");
    let connector = Connector::new(&name, Origin::Configuration, &config).expect("valid");
    let Err(error) = connector.connect().await else { panic!("nobody is there") };
    assert!(error.message.contains("refused"), "{error}");
}

#[tokio::test]
async fn a_server_that_lets_us_in_and_does_not_answer_is_no_fault_of_the_network() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = server.local_addr().expect("an address").port();
    tokio::spawn(async move {
        let (mut client, _) = server.accept().await.expect("a client");
        let mut startup = vec![0; client.read_u32().await.expect("a length") as usize - 4];
        client.read_exact(&mut startup).await.expect("a startup message");
        client.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await.expect("written");
        // The question arrives, and waits for ever.
        let _ = client.read_to_end(&mut startup).await;
    });
    let mut config = config(&format!(
        "kind = \"postgres\"\ndsn = \"host=127.0.0.1 port={port} user=u dbname=d sslmode=disable\""
    ));
    config.connect_timeout.0 = Duration::from_millis(500);
    let name = SourceName::parse("w").expect("valid");
    let connector = Connector::new(&name, Origin::Configuration, &config).expect("valid");
    let Err(error) = connector.connect().await else { panic!("it answers") };
    assert!(error.message.starts_with("logged in to 127.0.0.1:"), "{error}");
    let report = error.report(Origin::Configuration);
    assert!(report.remedy.is_some_and(|remedy| remedy.contains("gp_resqueue_status")));
}
