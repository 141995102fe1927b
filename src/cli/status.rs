//! `adu-export status`: reads the export folder and asks no daemon. For one running job it also asks the source
//! who holds the job's snapshot.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use serde_json::json;
use tokio::time::timeout;
use uuid::Uuid;

use super::damage::Damage;
use super::grid::{Align, Grid};
use super::input::ConfigArgs;
use super::progress::ProgressDisplay;
use super::summary::Summary;
use super::{ExitCode, print, print_json, view};
use crate::config::Config;
use crate::destination;
use crate::folder::{Folder, FolderError};
use crate::job::archive::Archive;
use crate::job::look::{self, OpenedJob};
use crate::job::state::JobState;
use crate::message::pattern::TablePattern;
use crate::message::request::OutputDirectory;
use crate::message::{JobId, SourceName};
use crate::status::picture::phase;
use crate::text::{Rows, bytes_text};

/// Arguments of `status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// The configuration: the export folder.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Only this job
    #[arg(value_name = "JOB")]
    pub job: Option<JobId>,
    /// Show it again and again until the job ends
    #[arg(long)]
    pub watch: bool,
    /// Print the directory of the newest full export of a table
    #[arg(long, value_name = "TABLE", conflicts_with_all = ["job", "watch"])]
    pub latest: Option<TablePattern>,
    /// Source of that table [default: the first one that has it]
    #[arg(long, value_name = "NAME", requires = "latest")]
    pub source: Option<SourceName>,
    /// Output directory of that export
    #[arg(long, value_name = "DIR", requires = "latest", value_parser = OutputDirectory::parse)]
    pub directory: Option<OutputDirectory>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Finished jobs that the list shows.
const RECENT: usize = 20;
/// Longest time that a source may take to say who holds a snapshot.
const ASK: Duration = Duration::from_secs(5);
/// How often `--watch` looks.
const LOOK: Duration = Duration::from_secs(1);

/// Shows what was asked for.
///
/// # Errors
/// When the configuration or the export folder is not usable.
pub async fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    let group = crate::daemon::group(&config)?;
    let folder = Folder::open(config.export.root.clone(), group).await?;
    match (&args.latest, &args.job) {
        (Some(table), _) => latest(&folder, &config, table, args).await,
        (None, Some(job)) => one(&folder, &config, job, args).await,
        (None, None) => loop {
            list(&folder, args.json).await?;
            if !args.watch {
                return Ok(ExitCode::Done);
            }
            tokio::time::sleep(LOOK).await;
        },
    }
}

/// The state of a job that has a workspace, whoever owns it.
async fn state(folder: &Folder, job: &JobId) -> Result<Option<Box<JobState>>, FolderError> {
    let Some(stored) = folder.job(job).request().await? else { return Ok(None) };
    Ok(match look::open(folder, job, &stored.owner, Duration::ZERO).await? {
        OpenedJob::Job(state) => Some(state),
        OpenedJob::NotOurs | OpenedJob::Headless => None,
    })
}

fn word(state: &JobState) -> &'static str {
    phase(state).as_str()
}

async fn one(folder: &Folder, config: &Config, job: &JobId, args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let mut display = ProgressDisplay::on_stderr(args.json || !args.watch);
    loop {
        if let Some(archive) = folder.job(job).archive().await? {
            display.finish();
            if args.json {
                print_json(&archive)?;
            } else {
                print(&Summary::of_archive(&archive).to_string())?;
            }
            let ended = ExitCode::of(archive.status.event()).unwrap_or(ExitCode::Failed);
            return Ok(if args.watch { ended } else { ExitCode::Done });
        }
        let Some(state) = state(folder, job).await? else {
            // The job may just have been committed.
            if folder.job(job).is_archived().await? {
                continue;
            }
            anyhow::bail!(
                "there is no job `{job}` in this export folder; `adu-export status` lists those that are known"
            );
        };
        if !args.watch {
            let holding = holding(config, &state).await;
            if args.json {
                let mut value = shown(&state);
                value["snapshots"] = json!(holding);
                print_json(&value)?;
            } else {
                let lines: String = holding.iter().map(|holding| format!("{holding}\n")).collect();
                print(&format!("{}{lines}", running(&state)))?;
            }
            return Ok(ExitCode::Done);
        }
        display.update(&view::tables(&state, Vec::new()), started.elapsed());
        tokio::time::sleep(LOOK).await;
    }
}

/// A running job as a person reads it.
fn running(state: &JobState) -> String {
    let mut grid = Grid::new(&[
        ("TABLE", Align::Left),
        ("STATE", Align::Left),
        ("CHUNKS", Align::Right),
        ("ROWS", Align::Right),
        ("SIZE", Align::Right),
    ]);
    for table in view::tables(state, Vec::new()) {
        grid.row([
            table.table.clone(),
            table.state.as_str().to_owned(),
            format!("{}/{}", table.chunks_done, table.chunks),
            format!("{}/~{}", Rows(table.rows), Rows(table.estimated_rows.max(table.rows))),
            bytes_text(table.bytes),
        ]);
    }
    format!("{grid}{} {}\n", state.id(), word(state))
}

/// Who holds a snapshot that a running job reads.
#[derive(Serialize)]
struct Holding {
    lineage: Uuid,
    /// How many sessions hold it, each of another process; none if the source did not say, or nobody has to.
    sessions: Option<u32>,
    /// Whether sessions have to hold it.
    needs_sessions: bool,
}

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snapshot {}: ", self.lineage)?;
        match self.sessions {
            _ if !self.needs_sessions => write!(f, "an epoch of the server, which no session has to hold"),
            None => write!(f, "the source does not say who holds it; `adu-export check` says why"),
            Some(0) => write!(f, "no session holds it; unfinished tables are exported from a new one"),
            Some(1) => write!(
                f,
                "held by one session; if that ends, unfinished tables are exported from a new snapshot"
            ),
            Some(sessions) => write!(f, "held by {sessions} sessions"),
        }
    }
}

/// Asks the source who holds the snapshots that the job reads now.
async fn holding(config: &Config, state: &JobState) -> Vec<Holding> {
    // Epochs of a job may share a snapshot.
    let snapshots: BTreeMap<Uuid, bool> =
        state.open_snapshots().map(|snapshot| (snapshot.lineage, snapshot.needs_keepers())).collect();
    let entry = match crate::daemon::sources(config) {
        Ok(mut sources) if snapshots.values().any(|needs_sessions| *needs_sessions) => {
            sources.remove(&state.stored.source)
        }
        _ => None,
    };
    let mut holding = Vec::new();
    for (lineage, needs_sessions) in snapshots {
        let sessions = match entry.as_ref().and_then(|entry| entry.source.snapshots()) {
            Some(snapshots) if needs_sessions => {
                timeout(ASK, snapshots.keepers(lineage)).await.ok().and_then(Result::ok)
            }
            _ => None,
        };
        holding.push(Holding { lineage, sessions, needs_sessions });
    }
    holding
}

fn shown(state: &JobState) -> serde_json::Value {
    json!({
        "job_id": state.id(),
        "status": word(state),
        "source": state.stored.source,
        "received_at": state.stored.received_at,
        "epoch": state.plans.len(),
        "progress": state.progress(),
    })
}

async fn list(folder: &Folder, as_json: bool) -> anyhow::Result<()> {
    let (mut jobs, mut finished) = (Vec::new(), Vec::new());
    let mut damage = Damage::default();
    for job in folder.jobs().await? {
        jobs.extend(damage.apart(state(folder, &job).await)?);
    }
    jobs.sort_by_key(|j| j.stored.received_at);
    for name in folder.recent_archives(RECENT).await? {
        finished.extend(damage.apart(folder.recent_archive(&name).await)?);
    }
    if as_json {
        let brief = |a: &Archive| {
            json!({
                "job_id": a.job_id,
                "status": a.status,
                "source": a.source,
                "received_at": a.received_at,
                "committed_at": a.committed_at,
                "performance": a.performance,
            })
        };
        let running: Vec<_> = jobs.iter().map(|j| shown(j)).collect();
        let finished: Vec<_> = finished.iter().map(brief).collect();
        return print_json(&damage.told(json!({"running": running, "finished": finished})));
    }
    let mut grid = Grid::new(&[
        ("JOB", Align::Left),
        ("STATUS", Align::Left),
        ("SOURCE", Align::Left),
        ("TABLES", Align::Right),
        ("ROWS", Align::Right),
        ("SIZE", Align::Right),
        ("SINCE", Align::Left),
    ]);
    for job in &jobs {
        let p = job.progress();
        grid.row([
            job.id().to_string(),
            word(job).into(),
            job.stored.source.to_string(),
            format!("{}/{}", p.tables_done, p.tables),
            Rows(p.rows).to_string(),
            bytes_text(p.bytes),
            job.stored.received_at.to_string(),
        ]);
    }
    for archive in &finished {
        let p = &archive.performance;
        grid.row([
            archive.job_id.to_string(),
            archive.status.as_str().into(),
            archive.source.to_string(),
            format!("{}/{}", p.tables_processed, archive.tables.len()),
            Rows(p.total_rows_exported).to_string(),
            bytes_text(p.total_bytes),
            archive.committed_at.to_string(),
        ]);
    }
    print(&format!("{grid}{damage}"))
}

/// Prints where `.latest` of a table points.
async fn latest(
    folder: &Folder,
    config: &Config,
    table: &TablePattern,
    args: &StatusArgs,
) -> anyhow::Result<ExitCode> {
    let Some((schema, name)) = table.literal() else {
        anyhow::bail!("--latest takes one table, {table} is a pattern");
    };
    let destination = destination::of(folder);
    let sources = config.sources.keys().filter(|s| args.source.as_ref().is_none_or(|wanted| wanted == *s));
    for source in sources {
        let found = destination.latest(source, &schema, &name, args.directory.as_ref()).await?;
        let Some(found) = found else { continue };
        let path = folder.root().join(&found);
        if args.json {
            print_json(&json!({"table": table, "source": source, "directory": found, "path": path}))?;
        } else {
            print(&format!("{}\n", path.display()))?;
        }
        return Ok(ExitCode::Done);
    }
    anyhow::bail!(
        "there is no full export of {table} yet; only exports without columns, where and after count"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_that_nobody_has_to_hold_is_not_called_lost() {
        let told =
            |sessions, needs_sessions| Holding { lineage: Uuid::nil(), sessions, needs_sessions }.to_string();
        assert!(told(None, false).ends_with(": an epoch of the server, which no session has to hold"));
        assert!(told(Some(0), true).contains("no session holds it"));
        assert!(told(None, true).contains("does not say"));
    }
}
