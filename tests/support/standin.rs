//! A stand-in for a Vertica server, on the PostgreSQL database of a test (`tests/support/vertica/`).

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::database::{Database, EXPORTER, PASSWORD};
use super::services::{project, python};

/// The stand-in's name of the database.
const DATABASE: &str = "vdb";

/// A running stand-in. Dropping it ends the server.
pub(crate) struct StandIn {
    postgres: String,
    state: PathBuf,
    options: Vec<String>,
    running: Mutex<Running>,
}

struct Running {
    child: Child,
    /// The ports of the nodes.
    ports: Vec<u16>,
    control: u16,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for StandIn {
    /// Ends the process that keeps the epochs, too: it has sessions on the test's database.
    fn drop(&mut self) {
        let keeper = std::fs::read(self.state.join("keeper.json")).ok();
        let keeper: Option<Value> = keeper.and_then(|said| serde_json::from_slice(&said).ok());
        if let Some(pid) = keeper.and_then(|keeper| keeper["pid"].as_u64()) {
            let _ = Command::new("kill").arg(pid.to_string()).status();
        }
    }
}

impl StandIn {
    /// Starts three nodes on a database. `state` is a directory for what outlives the server.
    pub(crate) fn start(db: &Database, state: &Path, options: &[&str]) -> Self {
        let postgres = db.admin_dsn();
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let running = run(&postgres, state, &options, &[]);
        let stand_in = Self { postgres, state: state.to_owned(), options, running: Mutex::new(running) };
        db.execute(&format!(
            "INSERT INTO vertica.users VALUES ('{EXPORTER}', '{PASSWORD}', 'sha512')
               ON CONFLICT (name) DO UPDATE SET password = excluded.password, method = excluded.method"
        ));
        stand_in
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The port of the first node.
    pub(crate) fn port(&self) -> u16 {
        self.running().ports[0]
    }

    /// The connection string of the exporting user at this port, without a password.
    pub(crate) fn dsn_at(port: u16) -> String {
        format!("vertica://{EXPORTER}@127.0.0.1:{port}/{DATABASE}?sslmode=disable")
    }

    /// Sends a command to the control port.
    #[track_caller]
    pub(crate) fn tell(&self, command: &Value) -> Value {
        let answer = self.try_tell(command);
        assert_eq!(answer["ok"], true, "{command}: {answer}");
        answer
    }

    fn try_tell(&self, command: &Value) -> Value {
        let control = self.running().control;
        let mut stream = TcpStream::connect(("127.0.0.1", control)).expect("the control port");
        stream.write_all(format!("{command}\n").as_bytes()).expect("sent");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{command}: {line:?}"))
    }

    /// Ends the server as a crash does.
    pub(crate) fn kill(&self) {
        let mut running = self.running();
        running.child.kill().expect("killed");
        running.child.wait().expect("ended");
    }

    /// Starts the killed server again, at the same port and with the same epochs.
    pub(crate) fn start_again(&self) {
        let mut running = self.running();
        let ports = running.ports.clone();
        *running = run(&self.postgres, &self.state, &self.options, &ports);
    }

    /// The statements that were sent, in order.
    pub(crate) fn statements(&self) -> Vec<(String, bool)> {
        let told = self.tell(&json!({"do": "statements"}));
        let all = told["statements"].as_array().expect("statements");
        let statement = |said: &Value| {
            (said["sql"].as_str().expect("SQL").to_owned(), said["known"].as_bool().expect("a word"))
        };
        all.iter().map(statement).collect()
    }

    /// The statements that run now.
    pub(crate) fn busy(&self) -> Vec<String> {
        let told = self.tell(&json!({"do": "sessions"}));
        let sessions = told["sessions"].as_array().expect("sessions");
        let busy = sessions.iter().filter(|session| session["running"] == true);
        busy.map(|session| session["statement"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Sessions of all nodes.
    pub(crate) fn sessions(&self) -> Vec<Value> {
        self.tell(&json!({"do": "sessions"}))["sessions"].as_array().expect("sessions").clone()
    }
}

fn run(postgres: &str, state: &Path, options: &[String], ports: &[u16]) -> Running {
    std::fs::create_dir_all(state).expect("a directory");
    let log = std::fs::OpenOptions::new().create(true).append(true).open(state.join("stand-in.log"));
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let ports = if ports.is_empty() { "0".to_owned() } else { ports.join(",") };
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(python())
        .arg(project().join("tests/support/vertica/server.py"))
        .args(["--postgres", postgres, "--port", &ports, "--database", DATABASE])
        .arg("--state")
        .arg(state)
        .args(["--owner", &std::process::id().to_string()])
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.expect("a log"))
        .spawn()
        .expect("start the stand-in");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("its ports");
    let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| {
        let log = std::fs::read_to_string(state.join("stand-in.log")).unwrap_or_default();
        panic!("the stand-in did not start: {line:?}\n{log}")
    });
    let port = |said: &Value| said.as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
    let ports = ready["nodes"].as_array().expect("nodes").iter().map(port).collect();
    Running { child, ports, control: port(&ready["control"]) }
}
