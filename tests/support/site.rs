//! Everything that one test owns.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use lapin::BasicProperties;
use serde_json::{Value, json};
use uuid::Uuid;

use super::broker::Broker;
use super::daemon::{BINARY, Daemon, leashed};
use super::database::{Database, PASSWORD};
use super::events::Event;
use super::exports::Exports;
use super::oracle::{self, Judgement};
use super::services::{Services, free_port, scratch};
use super::wait::{PATIENCE, eventually};

/// The database, broker names, export root and daemons of one test.
pub(crate) struct Site {
    pub(crate) db: Database,
    pub(crate) broker: Broker,
    pub(crate) exports: Exports,
    services: &'static Services,
    directory: PathBuf,
    daemons: AtomicU32,
    requests: AtomicU32,
}

impl Site {
    /// A site whose source is `db`, with an initialized root.
    pub(crate) fn new(db: Database) -> Self {
        Self::on(Services::get(), db)
    }

    /// Like [`new`](Self::new), on these servers.
    pub(crate) fn on(services: &'static Services, db: Database) -> Self {
        Self::prepared(services, db, |_| {})
    }

    /// Like [`on`](Self::on), with a root that `prepare` changed while it was empty.
    pub(crate) fn prepared(services: &'static Services, db: Database, prepare: impl FnOnce(&Path)) -> Self {
        let id = &Uuid::new_v4().simple().to_string()[..8];
        let directory = scratch().join("sites").join(id);
        let root = directory.join("exports");
        std::fs::create_dir_all(&root).expect("create a root");
        prepare(&root);
        let broker = Broker::new(services, &format!("test.{id}"), &root);
        let site = Self {
            db,
            broker,
            exports: Exports(root),
            services,
            directory,
            daemons: 0.into(),
            requests: 0.into(),
        };
        let config = site.write("init.toml", &site.config());
        let done = site.run(&["check", "--init", "--config", &config]);
        assert!(done.status.success(), "check --init: {}", said(&done));
        site
    }

    /// The configuration of a daemon: two workers, all intervals at a tenth, and an HTTP port of its own.
    pub(crate) fn config(&self) -> Value {
        json!({
            "broker": {
                "url": self.services.url(),
                "prefix": self.broker.prefix,
                "heartbeat": "4s",
                "call_timeout": "5s",
            },
            "export": {
                "root": self.exports.0,
                "workers": 2,
                "min_free_bytes": 0,
                "shutdown_grace": "12s",
            },
            "http": {"listen": format!("127.0.0.1:{}", free_port())},
            "log": {"level": "info,adu_export=debug"},
            "timing": {
                "alive_interval": "1s",
                "alive_timeout": "3s",
                "look_interval": "6s",
                "progress_interval": "1s",
                "stalled_after": "60s",
                "plan_wait": "6s",
                "keeper_wait": "3s",
                "unfit_retry": "3s",
                "retry_first": "100ms",
                "retry_longest": "6s",
                "retry_limit": "60s",
                "abandoned_workspace": "6m",
            },
            "sources": {"warehouse": {
                "kind": self.db.kind(),
                "dsn": self.db.dsn(),
                "password": PASSWORD,
            }},
        })
    }

    /// Writes a configuration and returns its path.
    pub(crate) fn write(&self, name: &str, config: &Value) -> String {
        let path = self.directory.join(name);
        std::fs::write(&path, toml::to_string(config).expect("TOML")).expect("write a configuration");
        path.to_string_lossy().into_owned()
    }

    /// A path in the private directory of this test.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Starts a daemon and waits until it consumes.
    #[track_caller]
    pub(crate) fn daemon(&self) -> Daemon {
        self.daemon_with(&self.config())
    }

    /// Starts a daemon with this configuration and waits until it consumes.
    #[track_caller]
    pub(crate) fn daemon_with(&self, config: &Value) -> Daemon {
        self.spawn(config).ready()
    }

    /// Starts a daemon with this configuration.
    #[track_caller]
    pub(crate) fn spawn(&self, config: &Value) -> Daemon {
        self.spawn_in(config, &[])
    }

    /// Starts a daemon with this configuration and more environment variables.
    #[track_caller]
    pub(crate) fn spawn_in(&self, config: &Value, env: &[(&str, &str)]) -> Daemon {
        self.spawn_of(BINARY, config, env)
    }

    /// Starts a daemon of another build.
    #[track_caller]
    pub(crate) fn spawn_of(&self, binary: &str, config: &Value, env: &[(&str, &str)]) -> Daemon {
        let name = format!("daemon-{}", self.daemons.fetch_add(1, Ordering::Relaxed) + 1);
        let path = self.write(&format!("{name}.toml"), config);
        let listen = config["http"]["listen"].as_str().expect("http.listen");
        let port = listen.rsplit(':').next().and_then(|p| p.parse().ok()).expect("a port");
        let log = self.directory.join(format!("{name}.log"));
        Daemon::spawn_of(binary, &name, Path::new(&path), port, &log, env)
    }

    /// Runs a command of the binary to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        leashed(BINARY).args(arguments).current_dir(&self.directory).output().expect("run adu-export")
    }

    /// Runs a one-shot export of a request into the root. `arguments` name the source.
    pub(crate) fn one_shot(&self, arguments: &[&str], request: &Value) -> Output {
        let root = self.exports.0.to_string_lossy();
        self.run_for(request, &[&["export", "--out", &root], arguments].concat())
    }

    /// The plan of a request, without an export. `arguments` name the source.
    #[track_caller]
    pub(crate) fn planned(&self, arguments: &[&str], request: &Value) -> Value {
        answer(&self.run_for(request, &[&["plan"], arguments].concat()), request)
    }

    /// Runs a command for a request.
    fn run_for(&self, request: &Value, arguments: &[&str]) -> Output {
        let path = self.path(&format!("request-{}.json", self.requests.fetch_add(1, Ordering::Relaxed)));
        std::fs::write(&path, request.to_string()).expect("write a request");
        self.run(&[arguments, &["--request", &path.to_string_lossy(), "--json"]].concat())
    }

    /// Starts a command of the binary. Its output goes to `name.log`.
    pub(crate) fn start(&self, name: &str, arguments: &[&str]) -> std::process::Child {
        let log = std::fs::File::create(self.directory.join(format!("{name}.log"))).expect("create a log");
        leashed(BINARY)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(log)
            .current_dir(&self.directory)
            .spawn()
            .expect("run adu-export")
    }

    /// Publishes a request and returns its job id, which is a new one unless the request has one.
    pub(crate) fn request(&self, mut body: Value) -> String {
        let fresh = format!("job-{}", &Uuid::new_v4().simple().to_string()[..8]);
        let job = body["job_id"].as_str().map_or(fresh, ToOwned::to_owned);
        body["job_id"] = json!(job);
        let properties = BasicProperties::default().with_message_id(job.clone().into());
        self.broker.publish(body.to_string().as_bytes(), properties);
        job
    }

    /// Publishes a cancel of a job.
    pub(crate) fn cancel(&self, job: &str) {
        self.tell("cancel", job);
    }

    /// Publishes the first retry of a job. Returns the id of the new job.
    pub(crate) fn retry(&self, job: &str) -> String {
        self.tell("retry", job);
        format!("{job}.r1")
    }

    fn tell(&self, what: &str, job: &str) {
        let properties = BasicProperties::default().with_message_id(format!("{what}-{job}").into());
        self.broker.publish(json!({what: job}).to_string().as_bytes(), properties);
    }

    /// Publishes a request as soon as the queue exists, because the daemon may never become ready.
    pub(crate) fn request_when_declared(&self, daemon: &Daemon, body: Value) -> String {
        let what = format!("{} declares its queues", daemon.name);
        eventually(&what, PATIENCE, || self.broker.declared("requests").then_some(()));
        self.request(body)
    }

    /// Publishes a request and waits for its `job.completed`.
    #[track_caller]
    pub(crate) fn export(&self, body: Value) -> Event {
        let job = self.request(body);
        self.completed(&job)
    }

    /// Waits for the end of a job, which must be `completed`.
    #[track_caller]
    pub(crate) fn completed(&self, job: &str) -> Event {
        let last = self.broker.events.wait_final(job, PATIENCE);
        assert_eq!(last.kind(), "job.completed", "{}", last.body);
        last
    }

    /// The job has not ended: what a test did came in its middle.
    #[track_caller]
    pub(crate) fn assert_runs(&self, job: &str, what: &str) {
        assert!(self.exports.find_archive(job).is_none(), "{job} ended too early: {what}");
    }

    /// Checks that the rows of every query are those of its directory.
    #[track_caller]
    pub(crate) fn assert_equal(&self, pairs: &[(&str, &str)]) {
        let differences = self.differences(pairs);
        assert!(differences.is_empty(), "{differences}");
    }

    /// Like [`assert_equal`](Self::assert_equal), for pairs that a test has gathered: the oracle runs once
    /// for all of them.
    #[track_caller]
    pub(crate) fn assert_all_equal(&self, pairs: &[(String, String)]) {
        let pairs: Vec<_> = pairs.iter().map(|(query, files)| (query.as_str(), files.as_str())).collect();
        self.assert_equal(&pairs);
    }

    /// The differences between queries and directories.
    pub(crate) fn differences(&self, pairs: &[(&str, &str)]) -> String {
        let pairs: Vec<Value> =
            pairs.iter().map(|(query, files)| oracle::pair(query, &self.exports.path(files))).collect();
        oracle::differences(&self.db, &pairs)
    }

    /// Checks that pyarrow, DuckDB and Polars read a directory without a warning. `types` has the types of
    /// its columns on the server.
    #[track_caller]
    pub(crate) fn assert_readable(&self, directory: &str, types: &Value) {
        let pair = json!({"files": self.exports.path(directory), "types": types});
        let unreadable = oracle::unreadable(&self.db, &[pair]);
        assert!(unreadable.is_empty(), "{unreadable}");
    }

    /// Checks that DuckDB, Polars and pyarrow read the rows of a query from a partitioned directory. `by` has the
    /// columns in the names of its directories, with their types.
    #[track_caller]
    pub(crate) fn assert_partitioned(&self, query: &str, directory: &str, by: &Value) {
        let pair = json!({"query": query, "files": self.exports.path(directory), "by": by});
        let differences = oracle::unlike(&self.db, &[pair]);
        assert!(differences.is_empty(), "{differences}");
    }

    /// Lets the server compare relations with their newest directories, value by value.
    #[track_caller]
    pub(crate) fn cast_back(&self, pairs: &[Value]) -> Vec<Judgement> {
        let pairs: Vec<Value> = pairs
            .iter()
            .map(|pair| {
                let mut pair = pair.clone();
                if pair["files"].is_null() {
                    let base = pair["relation"].as_str().expect("a relation").replace('.', "_");
                    pair["files"] = json!(self.exports.path(&base));
                }
                pair
            })
            .collect();
        let compared = oracle::cast_back(&self.db, &pairs);
        assert_eq!(compared.len(), pairs.len(), "every pair is compared");
        compared
    }

    /// Checks everything that must hold when `jobs` have ended, whatever happened before. It stops the
    /// daemons, so that unacknowledged messages are seen too.
    #[track_caller]
    pub(crate) fn assert_sound(&self, jobs: &[impl AsRef<str>], daemons: impl IntoIterator<Item = Daemon>) {
        let jobs: Vec<&str> = jobs.iter().map(AsRef::as_ref).collect();
        super::checker::assert_sound(self, &jobs, daemons.into_iter().collect());
    }

    /// Like [`assert_sound`](Self::assert_sound), for one-shot exports, which publish no events: checks every
    /// job that has an archive in the root.
    #[track_caller]
    pub(crate) fn assert_one_shots_sound(&self) {
        let jobs = self.exports.jobs();
        super::checker::assert_one_shots_sound(self, &jobs.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// The output of a command.
pub(crate) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// What a command that must succeed answers in JSON.
#[track_caller]
pub(crate) fn answer(output: &Output, request: &Value) -> Value {
    assert_eq!(output.status.code(), Some(0), "{request}: {}", said(output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

impl Drop for Site {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.directory);
            return;
        }
        eprintln!("the site of this test is kept: {}", self.directory.display());
        for event in self.broker.events.all() {
            eprintln!("event {} {}", event.kind(), event.id());
        }
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return };
        for path in entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "log"))
        {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("---- last of the {} lines of {}", lines.len(), path.display());
            for line in &lines[lines.len().saturating_sub(40)..] {
                eprintln!("{}", line.chars().take(300).collect::<String>());
            }
        }
    }
}
