//! The private servers. The first test that needs them starts them, and `scripts/services.sh` stops them when
//! this process ends, however it ends. A test that restarts, wipes or alarms a server borrows a private one.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use tokio::runtime::Runtime;

static SERVICES: LazyLock<Services> = LazyLock::new(|| {
    // Fails now, and not after a minute in the first comparison.
    assert!(python().exists(), "{} is missing: run `make test`", python().display());
    let _ = std::fs::remove_dir_all(scratch().join("sites"));
    Services::start("services")
});
static SPARE: Mutex<Vec<&'static Services>> = Mutex::new(Vec::new());
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("start tokio"));

/// Runs a future of the test's own clients.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    RUNTIME.block_on(future)
}

/// The addresses of the servers.
pub(crate) struct Services {
    pub(crate) postgres: u16,
    pub(crate) amqp: u16,
    /// The directory of PostgreSQL's programs.
    pub(super) pg_bin: PathBuf,
    /// The directory with the data of both servers.
    pub(super) data: PathBuf,
    pub(super) directory: PathBuf,
}

impl Services {
    /// The shared servers of this process.
    pub(crate) fn get() -> &'static Self {
        &SERVICES
    }

    /// The path of `psql`, which belongs to the server.
    pub(crate) fn psql(&self) -> String {
        self.pg_bin.join("psql").display().to_string()
    }

    /// Servers that no other test uses until the returned value is dropped. Later tests use them again.
    pub(crate) fn borrow() -> Borrowed {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Self::get();
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Borrowed(spare.unwrap_or_else(|| {
            let name = format!("services-{}", NEXT.fetch_add(1, Ordering::Relaxed));
            // They end with this process, like the shared ones.
            Box::leak(Box::new(Self::start(&name)))
        }))
    }

    fn start(name: &str) -> Self {
        let directory = scratch().join(name);
        script(&["start", &directory.to_string_lossy(), &std::process::id().to_string()]);
        let text = std::fs::read_to_string(directory.join("env")).expect("services.sh wrote env");
        let env: BTreeMap<&str, &str> = text.lines().filter_map(|l| l.split_once('=')).collect();
        let port = |name: &str| env[name].parse().expect("a port");
        Self {
            postgres: port("PG_PORT"),
            amqp: port("AMQP_PORT"),
            pg_bin: env["PG_BIN"].into(),
            data: env["DATA"].into(),
            directory,
        }
    }

    /// The same broker with another PostgreSQL.
    pub(super) fn with_postgres(&self, postgres: u16) -> &'static Self {
        let (pg_bin, data) = (self.pg_bin.clone(), self.data.clone());
        // Few tests need this, and the memory is freed when the process ends.
        Box::leak(Box::new(Self {
            postgres,
            amqp: self.amqp,
            pg_bin,
            data,
            directory: self.directory.clone(),
        }))
    }

    /// The URL of the broker.
    pub(crate) fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.amqp)
    }

    /// Runs `rabbitmqctl` for this broker and returns its output.
    pub(crate) fn rabbitmqctl(&self, arguments: &[&str]) -> String {
        script(&[&["ctl", &self.directory.to_string_lossy()], arguments].concat())
    }

    /// Lets the broker close connections by a command of `rabbitmqctl`. The command fails, and leaves other
    /// connections open, if one of them ends by itself at that moment.
    pub(crate) fn close_connections(&self, arguments: &[&str]) {
        let directory = self.directory.to_string_lossy();
        let all = [&["ctl", &directory], arguments].concat();
        let mut said = String::new();
        for _ in 0..10 {
            match try_script(&all) {
                Ok(_) => return,
                Err(error) => said = error,
            }
        }
        panic!("{said}");
    }
}

/// Borrowed servers. Dropping this value gives them back, unless the test failed.
pub(crate) struct Borrowed(&'static Services);

impl Deref for Borrowed {
    type Target = &'static Services;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Borrowed {
    /// Ends a server (`postgres` or `rabbitmq`) by a signal and waits for its end.
    pub(crate) fn halt(&self, server: &str, signal: &str) {
        script(&["halt", &self.directory.to_string_lossy(), server, signal]);
    }

    /// Starts a halted server again.
    pub(crate) fn resume(&self, server: &str) {
        script(&["resume", &self.directory.to_string_lossy(), server]);
    }

    /// Removes all data of the halted broker.
    pub(crate) fn wipe_broker(&self) {
        script(&["wipe", &self.directory.to_string_lossy()]);
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        // A failed test may leave them in any state.
        if !std::thread::panicking() {
            SPARE.lock().unwrap_or_else(PoisonError::into_inner).push(self.0);
        }
    }
}

/// Runs `scripts/services.sh` and returns its output.
fn script(arguments: &[&str]) -> String {
    try_script(arguments).unwrap_or_else(|error| panic!("{error}"))
}

/// Like [`script`], but an error has the arguments and the output.
fn try_script(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(project().join("scripts/services.sh"))
        .args(arguments)
        .output()
        .expect("run services.sh");
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("services.sh {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)))
    }
}

/// The project's directory.
pub(crate) fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The directory for files of this test target.
pub(crate) fn scratch() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(env!("CARGO_CRATE_NAME"))
}

/// The Python interpreter with DuckDB, pyarrow, Polars and pika.
pub(crate) fn python() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("venv").join("bin/python3")
}

/// A free port, below the range that the kernel uses for outgoing connections.
pub(crate) fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
        // Test processes that run at the same time have neighbouring ids. Spread their ports widely.
        let spread = std::process::id().wrapping_mul(2_654_435_761) % 9_000;
        let start = 10_000 + u16::try_from(spread).expect("below 9000");
        AtomicU16::new(start)
    });
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
