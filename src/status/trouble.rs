//! What is wrong now, with what to do about it. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::overview::{Broker, DaemonView, Severity, SnapshotView, SourceView, Standing, Storage, Trouble};
use super::picture::{JobBrief, Phase};
use crate::message::{JobId, SourceName};
use crate::text::{bytes_text, seconds_text};

/// Failed jobs are a trouble for this long.
const RECENT: i64 = 24 * 3600;
/// Failed jobs that are named.
const MOST_FAILED: usize = 5;

impl Trouble {
    fn new(severity: Severity, what: String, remedy: impl Into<String>, section: &'static str) -> Self {
        Self { severity, what, remedy: Some(remedy.into()), section, job_id: None }
    }

    fn of_job(self, job: &JobId) -> Self {
        Self { job_id: Some(job.clone()), ..self }
    }
}

/// What troubles are found in.
pub struct Signs<'a> {
    /// The time.
    pub now: Timestamp,
    /// Whether this daemon has heard all others: it runs for longer than `timing.alive_timeout`.
    pub settled: bool,
    /// `timing.stalled_after`.
    pub stalled_after: Duration,
    /// The daemons.
    pub daemons: &'a [DaemonView],
    /// The sources.
    pub sources: &'a [SourceView],
    /// The storage.
    pub storage: &'a Storage,
    /// The broker.
    pub broker: &'a Broker,
    /// Jobs that run or wait.
    pub running: &'a [JobBrief],
    /// Jobs that have ended, the newest first.
    pub ended: &'a [JobBrief],
    /// Control files that cannot be read, and why.
    pub damaged: &'a [String],
    /// When the jobs were read from the export folder; none before the first look has ended.
    pub looked_at: Option<Timestamp>,
    /// Whether a newer look takes long.
    pub is_slow: bool,
}

/// Everything that is wrong, the worst first.
#[must_use]
pub fn troubles(signs: &Signs<'_>) -> Vec<Trouble> {
    let mut found = Vec::new();
    of_storage(signs.storage, &mut found);
    of_look(signs, &mut found);
    of_daemons(signs, &mut found);
    of_running(signs, &mut found);
    for source in signs.sources {
        for snapshot in &source.snapshots {
            found.extend(of_snapshot(source, snapshot, signs.settled && signs.broker.connected));
        }
    }
    of_sources(signs, &mut found);
    of_ended(signs, &mut found);
    for file in signs.damaged {
        found.push(Trouble::new(
            Severity::Warning,
            file.clone(),
            "restore the file from a backup, or move it away with its job's workspace",
            "backup",
        ));
    }
    found.sort_by_key(|trouble| trouble.severity);
    found
}

fn of_storage(storage: &Storage, found: &mut Vec<Trouble>) {
    if let Some(error) = &storage.error {
        let what = format!("the export folder cannot be read here: {error}");
        let remedy = "look at the mount and its server; other daemons work on if they see it";
        found.push(Trouble::new(Severity::Alarm, what, remedy, "alert-daemon-not-ready"));
    }
    let Some(free) = storage.free_bytes else { return };
    let (least, prune) =
        (storage.min_free_bytes, "make room: `adu-export prune`, or cancel a job that will not fit");
    if free < least {
        let what = format!(
            "the export folder is full: {} free, chunks wait below {}",
            bytes_text(free),
            bytes_text(least)
        );
        found.push(Trouble::new(Severity::Alarm, what, prune, "disk-full"));
    } else if free < least.saturating_mul(2) {
        let what = format!(
            "the export folder is nearly full: {} free, chunks wait below {}",
            bytes_text(free),
            bytes_text(least)
        );
        found.push(Trouble::new(Severity::Warning, what, prune, "alert-disk-nearly-full"));
    }
}

/// A look that takes long says nothing of the jobs.
fn of_look(signs: &Signs<'_>, found: &mut Vec<Trouble>) {
    if !signs.is_slow {
        return;
    }
    let what = match signs.looked_at {
        Some(at) => format!(
            "the export folder answers slowly: what is shown of jobs is {} old",
            seconds_text(signs.now.duration_since(at).as_secs_f64().max(0.0))
        ),
        None => "the export folder is still being read for the first time: jobs are not known yet".to_owned(),
    };
    let remedy = "it goes on by itself; if it stays so, look at the mount and its server";
    found.push(Trouble::new(Severity::Warning, what, remedy, "the-status-page"));
}

fn of_daemons(signs: &Signs<'_>, found: &mut Vec<Trouble>) {
    let alive = || signs.daemons.iter().filter(|d| d.standing == Standing::Alive);
    for daemon in alive() {
        for obstacle in &daemon.obstacles {
            let section = match obstacle.split_once(':').map(|(what, _)| what) {
                Some("broker") => "alert-broker-disconnected",
                Some("alarm") => "alert-broker-blocked",
                Some("storage") => "disk-full",
                _ => "alert-daemon-not-ready",
            };
            let what = format!("the daemon on {} cannot work: {obstacle}", daemon.host);
            let remedy = "it goes on by itself once the cause is gone; its journal says since when";
            found.push(Trouble::new(Severity::Alarm, what, remedy, section));
        }
    }
    // Without its broker this daemon hears nobody.
    let silent = |d: &&DaemonView| d.standing == Standing::Silent && signs.broker.connected;
    for daemon in signs.daemons.iter().filter(silent) {
        let what =
            format!("the daemon on {} is silent for {}", daemon.host, seconds_text(daemon.silent_seconds));
        let remedy = "look at its host: `systemctl status adu-export`; the others do its work meanwhile";
        found.push(Trouble::new(Severity::Warning, what, remedy, "alert-daemon-down"));
    }
    if signs.settled && signs.broker.connected && signs.broker.coordinator.is_none() {
        let what =
            "no daemon says that it coordinates: if none does, nothing is planned or finished".to_owned();
        let remedy = "see who consumes the coordinator's queue (rabbitmqctl list_consumers): a daemon of an older \
                      release does not say so, and works; any other client must not hold it";
        found.push(Trouble::new(Severity::Warning, what, remedy, "alert-no-coordinator"));
    }
    let versions: BTreeSet<&str> = alive().map(|d| d.version.as_str()).collect();
    if versions.len() > 1 {
        let list: Vec<&str> =
            versions.into_iter().map(|v| if v.is_empty() { "an older one" } else { v }).collect();
        let what = format!("daemons have different versions: {}", list.join(", "));
        found.push(Trouble::new(Severity::Warning, what, "finish the upgrade", "upgrades"));
    }
}

/// Sources that jobs need and that nobody says that it has: not only those of the daemon that answers.
fn of_sources(signs: &Signs<'_>, found: &mut Vec<Trouble>) {
    // Others may have it, and were not heard.
    if !signs.settled || !signs.broker.connected {
        return;
    }
    let needed: BTreeSet<&SourceName> = signs.running.iter().map(|job| &job.source).collect();
    for source in needed {
        let has = |daemon: &DaemonView| daemon.standing == Standing::Alive && daemon.sources.contains(source);
        if !signs.daemons.iter().any(has) {
            found.push(Trouble::new(
                Severity::Alarm,
                format!("no living daemon has the source {source}: its jobs wait"),
                "start a daemon whose configuration has it",
                "alert-job-stalled",
            ));
        }
    }
}

fn of_running(signs: &Signs<'_>, found: &mut Vec<Trouble>) {
    // Others of the source may have taken all places (`max_jobs`).
    let is_busy = |source: &SourceName| {
        signs.running.iter().any(|job| job.source == *source && job.status != Phase::Waiting)
    };
    for job in signs.running {
        let since = job.moved_at.max(job.planned_at).unwrap_or(job.received_at);
        let quiet = signs.now.duration_since(since).as_secs_f64();
        let may_wait = job.status == Phase::Waiting && is_busy(&job.source);
        if !may_wait && quiet > signs.stalled_after.as_secs_f64() {
            let quiet = seconds_text(quiet);
            let what = match job.status {
                Phase::Waiting => format!("job {} has waited for {quiet} to be planned", job.job_id),
                _ => format!("no chunk of job {} ended for {quiet}", job.job_id),
            };
            let remedy = match job.chunks_running {
                _ if !signs.broker.connected => {
                    "what other daemons do is not known here without the broker".into()
                }
                0 => "no daemon works on it: see what keeps the daemons from working, and who has its source"
                    .to_owned(),
                n => format!("{} run; look whether their bytes grow", crate::text::count(n, "chunk")),
            };
            found.push(Trouble::new(Severity::Alarm, what, remedy, "alert-job-stalled").of_job(&job.job_id));
        } else if job.tables_failed > 0 {
            found.push(failed(job, Severity::Warning));
        }
    }
}

fn of_ended(signs: &Signs<'_>, found: &mut Vec<Trouble>) {
    let is_recent =
        |job: &&JobBrief| job.committed_at.is_some_and(|at| signs.now.duration_since(at).as_secs() < RECENT);
    let retried: BTreeSet<&JobId> =
        signs.running.iter().chain(signs.ended).filter_map(|job| job.retry_of.as_ref()).collect();
    let is_open = |job: &&JobBrief| {
        matches!(job.status, Phase::Failed | Phase::Partial) && !retried.contains(&job.job_id)
    };
    let recent = signs.ended.iter().take_while(is_recent).filter(is_open);
    found.extend(recent.take(MOST_FAILED).map(|job| failed(job, Severity::Alarm)));
}

fn failed(job: &JobBrief, severity: Severity) -> Trouble {
    let tables = crate::text::count(job.tables_failed.into(), "table");
    let mut what = match job.tables_failed {
        0 => format!("job {} failed", job.job_id),
        _ => format!("{tables} of job {} failed", job.job_id),
    };
    let mut remedy = None;
    if let Some(error) = &job.error {
        what.push_str(": ");
        what.push_str(&error.message);
        remedy.clone_from(&error.remedy);
    }
    let again = format!("`adu-export retry {}` exports what failed", job.job_id);
    let remedy = remedy.map_or_else(|| again.clone(), |remedy| format!("{remedy}; then {again}"));
    Trouble::new(severity, what, remedy, "alert-chunks-failing").of_job(&job.job_id)
}

fn of_snapshot(source: &SourceView, snapshot: &SnapshotView, settled: bool) -> Option<Trouble> {
    if !snapshot.needs_sessions {
        return None;
    }
    let job = &snapshot.job_id;
    if let Some(allowed) = snapshot.allowed_seconds.filter(|allowed| snapshot.age_seconds > allowed * 0.8) {
        let what = format!(
            "the snapshot of job {job} on {} is {} old; at {} the job is ended",
            source.source,
            seconds_text(snapshot.age_seconds),
            seconds_text(allowed)
        );
        let remedy = "add daemons, or raise max_snapshot_age";
        return Some(Trouble::new(Severity::Warning, what, remedy, "alert-old-snapshot").of_job(job));
    }
    // Just after planning, those who hold it may not have said so yet.
    if settled && snapshot.held_by.is_empty() && snapshot.age_seconds > 60.0 {
        let what = format!("no daemon holds the snapshot of job {job} on {}", source.source);
        let remedy = "unfinished tables are exported from a new one; look what ended the sessions";
        let lost = Trouble::new(Severity::Warning, what, remedy, "alert-snapshot-session-lost");
        return Some(lost.of_job(job));
    }
    None
}
