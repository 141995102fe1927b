//! A private PostgreSQL for one test, with its own settings and perhaps a standby.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::services::{Services, block_on, free_port};
use super::wait::eventually;

/// A server. Dropping this value ends the server and removes its data.
pub(crate) struct Postgres {
    pub(crate) port: u16,
    data: PathBuf,
    server: Child,
}

impl Postgres {
    /// Starts an empty server with these settings.
    #[track_caller]
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        let data = new_directory();
        let mut init = program("initdb");
        // The server's files need not survive a power failure.
        init.args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            "-D",
        ]);
        finish(init.arg(&data));
        Self::serve(data, settings)
    }

    /// Starts a hot standby that follows this server.
    #[track_caller]
    pub(crate) fn standby(&self, settings: &[(&str, &str)]) -> Self {
        let data = new_directory();
        let mut copy = program("pg_basebackup");
        copy.args([
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
            "-U",
            "postgres",
            "-h",
            "127.0.0.1",
            "-p",
        ]);
        finish(copy.arg(self.port.to_string()).arg("-D").arg(&data));
        Self::serve(data, settings)
    }

    fn serve(data: PathBuf, settings: &[(&str, &str)]) -> Self {
        let port = free_port();
        let log = std::fs::File::create(data.with_extension("log")).expect("create a log");
        let mut server = program("postgres");
        server.arg("-D").arg(&data).args(["-p", &port.to_string()]).stderr(log);
        let own = [("listen_addresses", "127.0.0.1"), ("unix_socket_directories", ""), ("fsync", "off")];
        for (name, value) in own.iter().chain(settings) {
            server.arg("-c").arg(format!("{name}={value}"));
        }
        let mut new = Self { port, data, server: server.spawn().expect("run postgres") };
        eventually("PostgreSQL answers", Duration::from_secs(30), || {
            if let Ok(Some(status)) = new.server.try_wait() {
                panic!("PostgreSQL ended with {status}:\n{}", new.log());
            }
            block_on(new.try_rows("postgres", "SELECT 1")).ok()
        });
        new
    }

    /// The shared services, but with this server as the PostgreSQL.
    pub(crate) fn services(&self) -> &'static Services {
        Services::get().with_postgres(self.port)
    }

    /// The single number that a query returns, run as superuser.
    #[track_caller]
    pub(crate) fn number(&self, database: &str, sql: &str) -> u64 {
        match block_on(self.try_rows(database, sql)) {
            Ok(rows) => rows[0].parse().expect(sql),
            Err(error) => panic!("{sql}: {error:?}\n{}", self.log()),
        }
    }

    async fn try_rows(&self, database: &str, sql: &str) -> Result<Vec<String>, tokio_postgres::Error> {
        let dsn = format!("postgres://postgres@127.0.0.1:{}/{database}", self.port);
        let (client, connection) = tokio_postgres::connect(&dsn, NoTls).await?;
        tokio::spawn(connection);
        let messages = client.simple_query(sql).await?;
        let first = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        };
        Ok(messages.iter().filter_map(first).collect())
    }

    /// The log of the server.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.data.with_extension("log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("---- last of the log of PostgreSQL at port {}", self.port);
            lines[lines.len().saturating_sub(40)..].iter().for_each(|line| eprintln!("{line}"));
        }
        // Nobody needs the data any more, so an immediate shutdown is enough.
        let _ = kill_process(Pid::from_child(&self.server), Signal::QUIT);
        let _ = self.server.wait();
        let _ = std::fs::remove_dir_all(&self.data);
        let _ = std::fs::remove_file(self.data.with_extension("log"));
    }
}

/// A new directory next to the data of the shared servers, with the same owner. It is removed with their data
/// at the latest.
pub(super) fn new_directory() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let beside = &Services::get().data;
    let owner = beside.join("postgres").metadata().expect("the data of PostgreSQL");
    let directory = beside.join(format!("postgres-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir(&directory).expect("create a directory");
    chown(&directory, Some(owner.uid()), Some(owner.gid())).expect("give a directory to the server");
    std::fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .expect("close it");
    directory
}

/// A command that runs a program of PostgreSQL, or any program by its path, as the user of the servers. It
/// ends with the test's thread.
pub(super) fn program(name: &str) -> Command {
    let services = Services::get();
    let mut command = Command::new("setpriv");
    if rustix::process::geteuid().is_root() {
        let owner = services.data.join("postgres").metadata().expect("the data of PostgreSQL");
        let (user, group) = (owner.uid().to_string(), owner.gid().to_string());
        command.args(["--reuid", &user, "--regid", &group, "--clear-groups"]);
    }
    command.args(["--pdeathsig", "QUIT", "--"]).arg(services.pg_bin.join(name)).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

#[track_caller]
fn finish(command: &mut Command) {
    let output = command.stderr(Stdio::piped()).output().expect("run a program of PostgreSQL");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
