//! A daemon process that a test can signal, kill and query.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::wait::eventually;

/// The built binary.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_adu-export");

/// A process of the binary. Dropping this value kills it.
pub(crate) struct Daemon {
    pub(crate) name: String,
    child: Child,
    port: u16,
    log: PathBuf,
}

/// A command that the kernel kills when the test's thread ends.
pub(crate) fn leashed(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]).stdin(Stdio::null());
    // Whoever runs the tests may send traces of other programs.
    let ours = std::env::vars_os().map(|(name, _)| name);
    ours.filter(|name| name.to_string_lossy().starts_with("OTEL_")).for_each(|name| {
        command.env_remove(name);
    });
    command
}

impl Daemon {
    /// Starts `adu-export daemon` with more environment variables. It listens on `port` and logs to `log`.
    pub(crate) fn spawn(name: &str, config: &Path, port: u16, log: &Path, env: &[(&str, &str)]) -> Self {
        Self::spawn_of(BINARY, name, config, port, log, env)
    }

    /// Like [`spawn`](Self::spawn), with another build.
    pub(crate) fn spawn_of(
        binary: &str,
        name: &str,
        config: &Path,
        port: u16,
        log: &Path,
        env: &[(&str, &str)],
    ) -> Self {
        let output = File::create(log).expect("create a log");
        let child = leashed(binary)
            .arg("daemon")
            .arg("--config")
            .arg(config)
            .envs(env.iter().copied())
            .stdout(output.try_clone().expect("share the log"))
            .stderr(output)
            .spawn()
            .expect("start a daemon");
        Self { name: name.into(), child, port, log: log.into() }
    }

    /// Waits until the daemon reports that it consumes.
    #[track_caller]
    pub(crate) fn ready(mut self) -> Self {
        let what = format!("{} is ready", self.name);
        eventually(&what, Duration::from_secs(20), || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{} ended with {status}:\n{}", self.name, self.log());
            }
            (self.get("/readyz")?.0 == 200).then_some(())
        });
        self
    }

    /// Waits until the daemon reports that it cannot work, and returns its reasons.
    #[track_caller]
    pub(crate) fn unready(&self, because: &str) -> String {
        let what = format!("{} is not ready because of {because}", self.name);
        eventually(&what, Duration::from_secs(30), || {
            let (status, body) = self.get("/readyz")?;
            (status != 200 && body.contains(because)).then_some(body)
        })
    }

    /// Waits until the daemon can work again.
    #[track_caller]
    pub(crate) fn ready_again(&self) {
        eventually(&format!("{} is ready again", self.name), Duration::from_secs(40), || {
            (self.get("/readyz")?.0 == 200).then_some(())
        });
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Checks that no warning or error in the log since `from` repeats again and again.
    #[track_caller]
    pub(crate) fn assert_no_loop(&self, from: usize) {
        let log = self.log();
        let mut times = std::collections::BTreeMap::new();
        for line in log[from..].lines() {
            let Some((_, text)) = line.split_once(" WARN ").or_else(|| line.split_once(" ERROR ")) else {
                continue;
            };
            let shape: String = text.chars().map(|c| if c.is_ascii_hexdigit() { '#' } else { c }).collect();
            times.entry(shape).or_insert_with(Vec::new).push(line);
        }
        for lines in times.into_values() {
            assert!(lines.len() <= 4, "{} times in the log of {}: {}", lines.len(), self.name, lines[0]);
        }
    }

    /// Status and body of a GET; `None` if there is no answer.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        // HTTP/1.0 has neither keep-alive nor chunked bodies.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    /// The JSON body of a GET.
    #[track_caller]
    pub(crate) fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path).unwrap_or_else(|| panic!("{} does not answer", self.name));
        assert_eq!(status, 200, "{path} of {}: {body}", self.name);
        serde_json::from_str(&body).expect(path)
    }

    /// The sum of a metric over all its labels; 0 if it does not exist yet.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics").unwrap_or_else(|| panic!("{} does not answer", self.name));
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
        });
        values.sum()
    }

    /// Number of rows that this process has exported.
    #[track_caller]
    pub(crate) fn rows_exported(&self) -> u64 {
        self.metric("adu_export_rows_total") as u64
    }

    /// Number of chunks that this process works on.
    #[track_caller]
    pub(crate) fn chunks_in_flight(&self) -> u64 {
        self.metric("adu_export_chunks_in_flight") as u64
    }

    fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGSTOP: the process neither works nor answers, and does not notice the pause.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Sends SIGCONT.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Whether a signal has stopped all threads of the process.
    pub(crate) fn is_frozen(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    }

    /// Sends SIGKILL and waits for the end of the process.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().expect("a killed process ends");
    }

    /// Waits for the end of the process.
    #[track_caller]
    pub(crate) fn ended(&mut self, within: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        eventually(&what, within, || self.child.try_wait().expect("wait for a child"))
    }

    /// Stops the daemon in an orderly way.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        self.terminate();
        let status = self.ended(Duration::from_secs(20));
        assert!(status.success(), "{} ended with {status}", self.name);
    }

    /// The log of the process.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether the process still runs.
    pub(crate) fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.lives() {
            self.kill();
        }
    }
}
