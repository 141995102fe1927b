//! `adu-export healthcheck`

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::input::ConfigArgs;
use super::{ExitCode, print};

/// Largest wait for the connection, and for each piece of the answer. So a daemon that hangs is reported
/// before the 15 s of the container image's health check are over.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Arguments of `healthcheck`.
#[derive(Clone, Debug, Args)]
pub struct HealthcheckArgs {
    /// The configuration of the daemon.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// `Done` if the daemon of this configuration is ready, else `Failed`: containers know only these two codes.
///
/// # Errors
/// If standard output cannot be written.
pub fn run(args: &HealthcheckArgs) -> anyhow::Result<ExitCode> {
    let found = args.config.load().map_err(Into::into).and_then(|config| ask(&config.http.listen));
    match found {
        Ok(()) => print("ok\n").map(|()| ExitCode::Done),
        Err(why) => print(&format!("{why:#}\n")).map(|()| ExitCode::Failed),
    }
}

/// Asks `/readyz` of the daemon that listens on `listen`.
fn ask(listen: &str) -> anyhow::Result<()> {
    let listen = listen.trim();
    anyhow::ensure!(
        listen != "off",
        "http.listen = \"off\": nobody answers; set an address such as 127.0.0.1:9950"
    );
    let addresses = reachable(listen)?;
    // A name such as localhost may have several addresses, and the daemon listens on the first one that it
    // can use.
    let mut answers = addresses.iter().map(|address| get(*address, "/readyz"));
    let first = answers.next().with_context(|| format!("http.listen = \"{listen}\" has no address"))?;
    let answer = first.or_else(|error| answers.find_map(Result::ok).ok_or(error)).with_context(|| {
        format!(
            "no answer from http://{}/readyz: is the daemon running with http.listen = \"{listen}\"?",
            addresses[0]
        )
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    anyhow::ensure!(status == "200", "not ready ({status}): {}", body.trim_end());
    Ok(())
}

/// The addresses at which a server that listens on `listen` answers on this host.
fn reachable(listen: &str) -> anyhow::Result<Vec<SocketAddr>> {
    let addresses = listen.to_socket_addrs().with_context(|| format!("find http.listen = \"{listen}\""))?;
    let local = |mut address: SocketAddr| {
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        address
    };
    Ok(addresses.map(local).collect())
}

fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::config::HttpConfig;
    use crate::http::{Health, HttpServer, Views};
    use crate::metrics::Metrics;
    use crate::status::scene::Scene;

    async fn asked(port: u16) -> Result<(), String> {
        let asked = tokio::task::spawn_blocking(move || ask(&format!("0.0.0.0:{port}")));
        asked.await.expect("no panic").map_err(|e| format!("{e:#}"))
    }

    #[tokio::test]
    async fn a_daemon_is_healthy_while_nothing_keeps_it_from_working() {
        let health = Health::new();
        let scene = Scene::new(false).await;
        let views = Views::new(Arc::new(Metrics::new()), health.clone(), Arc::clone(&scene.status));
        let config = HttpConfig { listen: "0.0.0.0:0".into(), details: false };
        let server = HttpServer::bind(&config, views).await.expect("binds").expect("on");
        let (port, stop) = (server.address().port(), CancellationToken::new());
        let serving = tokio::spawn(server.serve(stop.clone()));

        assert_eq!(asked(port).await, Err("not ready (503): daemon: is starting".into()));
        health.clear("daemon");
        assert_eq!(asked(port).await, Ok(()));
        health.obstacle("broker", "is not connected");
        assert_eq!(asked(port).await, Err("not ready (503): broker: is not connected".into()));

        stop.cancel();
        serving.await.expect("no panic").expect("orderly");
        let gone = asked(port).await.expect_err("nobody listens");
        assert!(gone.contains(&format!("no answer from http://127.0.0.1:{port}/readyz")), "{gone}");
    }

    #[test]
    fn what_cannot_be_asked_says_what_to_change() {
        let off = ask("off").expect_err("off").to_string();
        assert!(off.contains("http.listen") && off.contains("127.0.0.1:9950"), "{off}");
        assert_eq!(reachable("[::]:9950").expect("an address"), ["[::1]:9950".parse().expect("one")]);
        let missing = HealthcheckArgs { config: ConfigArgs { config: Some("/nonexistent/x.toml".into()) } };
        assert_eq!(run(&missing).expect("printed"), ExitCode::Failed);
    }
}
