//! A PgBouncer for one test in front of the shared PostgreSQL. It runs as the same user as the servers.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use super::database::{Database, EXPORTER, PASSWORD};
use super::postgres::{new_directory, program};
use super::services::{Services, block_on, free_port};
use super::wait::eventually;

/// A PgBouncer process. Dropping this value ends it.
pub(crate) struct Bouncer {
    pub(crate) port: u16,
    directory: PathBuf,
    process: Child,
}

impl Bouncer {
    /// Starts PgBouncer for this database, with this `pool_mode` and `pool` connections to the server.
    #[track_caller]
    pub(crate) fn start(db: &Database, mode: &str, pool: u32) -> Self {
        let (port, server) = (free_port(), Services::get().postgres);
        let directory = new_directory();
        let path = directory.display();
        let users = format!("\"{EXPORTER}\" \"{}\"\n", PASSWORD.replace('"', "\"\""));
        std::fs::write(directory.join("users.txt"), users).expect("write users");
        let config = format!(
            "[databases]\n{} = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {path}/users.txt\n\
             pool_mode = {mode}\ndefault_pool_size = {pool}\nmax_client_conn = 200\nlog_connections = 0\n\
             log_disconnections = 0\n",
            db.name
        );
        std::fs::write(directory.join("pgbouncer.ini"), config).expect("write a configuration");
        let log = std::fs::File::create(directory.join("log")).expect("create a log");
        let mut command = program("/usr/sbin/pgbouncer");
        command.arg(directory.join("pgbouncer.ini")).stderr(log).stdout(Stdio::null());
        let mut new = Self { port, directory, process: command.spawn().expect("run pgbouncer") };
        eventually("PgBouncer listens", Duration::from_secs(10), || {
            if let Ok(Some(status)) = new.process.try_wait() {
                panic!("PgBouncer ended with {status}:\n{}", new.log());
            }
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        new
    }

    /// A session through PgBouncer, as the exporting role.
    pub(crate) fn client(&self, db: &Database) -> Client {
        // PgBouncer may refuse a session right after a server connection ended.
        let connect = || async {
            let (client, connection) = tokio_postgres::connect(&db.url_at(self.port), NoTls).await?;
            tokio::spawn(connection);
            Ok::<_, tokio_postgres::Error>(client)
        };
        eventually("PgBouncer takes a client", Duration::from_secs(10), || block_on(connect()).ok())
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- log of PgBouncer\n{}", self.log());
        }
        // SIGKILL loses nothing, and a test in the background of a script may not be able to send other
        // signals.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
