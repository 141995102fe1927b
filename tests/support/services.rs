//! The private servers: started by the first test that needs them, stopped by
//! `scripts/services.sh` when this process ends, however it ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::runtime::Runtime;

static SERVICES: LazyLock<Services> = LazyLock::new(Services::start);
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("start tokio"));

/// Drives a future of the test's own clients.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    RUNTIME.block_on(future)
}

/// Where the servers listen.
pub(crate) struct Services {
    pub(crate) postgres: u16,
    pub(crate) amqp: u16,
    directory: PathBuf,
}

impl Services {
    /// The servers of this process.
    pub(crate) fn get() -> &'static Self {
        &SERVICES
    }

    fn start() -> Self {
        // Fails early, not after a minute in the first comparison.
        assert!(python().exists(), "{} is missing: run `make test`", python().display());
        let _ = std::fs::remove_dir_all(scratch().join("sites"));
        let directory = scratch().join("services");
        let started = Command::new(project().join("scripts/services.sh"))
            .arg("start")
            .arg(&directory)
            .arg(std::process::id().to_string())
            .status()
            .expect("run scripts/services.sh");
        assert!(started.success(), "PostgreSQL and RabbitMQ did not start; see {}", directory.display());
        let text = std::fs::read_to_string(directory.join("env")).expect("services.sh wrote env");
        let env: BTreeMap<&str, &str> = text.lines().filter_map(|l| l.split_once('=')).collect();
        let port = |name: &str| env[name].parse().expect("a port");
        Self { postgres: port("PG_PORT"), amqp: port("AMQP_PORT"), directory }
    }

    /// Runs `rabbitmqctl` of the private broker and gives its output.
    pub(crate) fn rabbitmqctl(&self, arguments: &[&str]) -> String {
        let output = Command::new(project().join("scripts/services.sh"))
            .arg("ctl")
            .arg(&self.directory)
            .args(arguments)
            .output()
            .expect("run scripts/services.sh");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// The project's directory.
pub(crate) fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where tests keep their files.
pub(crate) fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// The interpreter that has DuckDB, pyarrow, Polars and pika.
pub(crate) fn python() -> PathBuf {
    scratch().with_file_name("venv").join("bin/python3")
}

/// A port that nobody listens on, below those that the kernel gives to outgoing connections.
pub(crate) fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
        let start = 10_000 + u16::try_from(std::process::id() % 9_000).expect("below 9000");
        AtomicU16::new(start)
    });
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
