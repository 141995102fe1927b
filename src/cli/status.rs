//! `adu-export status`: reads the export folder; no daemon is asked.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::grid::{Align, Grid};
use super::input::ConfigArgs;
use super::summary::Summary;
use super::{ExitCode, Usage};
use crate::folder::{Folder, FolderError, layout};
use crate::job::archive::{Archive, TableStatus};
use crate::job::look;
use crate::job::outcome::StoredRequest;
use crate::job::state::JobState;
use crate::message::JobId;
use crate::message::pattern::TablePattern;
use crate::plan::size::{Rows, bytes_text};

/// Finished jobs that are listed.
const RECENT: usize = 20;
/// How often `--watch` looks.
const WATCH: Duration = Duration::from_secs(1);

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

/// Shows jobs.
///
/// # Errors
/// When the export folder cannot be read.
pub async fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    let folder = Folder::open(config.export.root.clone(), None).await?;
    if let Some(table) = &args.latest {
        return latest(&folder, table, args.json).await;
    }
    loop {
        let code = match &args.job {
            Some(job) => one(&folder, job, args.json).await?,
            None => {
                list(&folder, args.json).await?;
                None
            }
        };
        if !args.watch || code.is_some() {
            return Ok(code.unwrap_or(ExitCode::Done));
        }
        tokio::time::sleep(WATCH).await;
    }
}

async fn running(folder: &Folder) -> Result<Vec<JobState>, FolderError> {
    let mut jobs = Vec::new();
    for name in folder.store().list(layout::TEMP).await? {
        let Some(job) = layout::job_of_workspace(&name) else { continue };
        jobs.extend(state(folder, &job).await?);
    }
    jobs.sort_by_key(|j| j.stored.received_at);
    Ok(jobs)
}

async fn state(folder: &Folder, job: &JobId) -> Result<Option<JobState>, FolderError> {
    let Some(stored) = folder.read::<StoredRequest>(&layout::request(job)).await? else { return Ok(None) };
    let mut state = JobState::new(stored, Duration::ZERO);
    look::refresh(folder, &mut state, Duration::ZERO).await?;
    Ok(Some(state))
}

fn word(state: &JobState) -> &'static str {
    match () {
        () if state.archive.is_some() => "finishing",
        () if state.cancel.is_some() => "cancelling",
        () if state.plans.is_empty() => "waiting",
        () => "running",
    }
}

async fn list(folder: &Folder, as_json: bool) -> anyhow::Result<()> {
    let mut shown = Vec::new();
    let mut grid = Grid::new(&[
        ("JOB", Align::Left),
        ("STATUS", Align::Left),
        ("SOURCE", Align::Left),
        ("TABLES", Align::Right),
        ("ROWS", Align::Right),
        ("SIZE", Align::Right),
        ("RECEIVED", Align::Left),
    ]);
    for state in running(folder).await? {
        let p = state.progress();
        shown.push(in_json(&state));
        grid.row([
            state.id().to_string(),
            word(&state).to_owned(),
            state.stored.source.to_string(),
            format!("{}/{}", p.tables_done, p.tables),
            format!("{}/~{}", Rows(p.rows), Rows(p.rows_estimated.max(p.rows))),
            bytes_text(p.bytes),
            format!("{:.0}", state.stored.received_at),
        ]);
    }
    for archive in recent(folder).await? {
        shown.push(json!({
            "job_id": archive.job_id, "status": archive.status, "source": archive.source,
            "received_at": archive.received_at, "performance": archive.performance,
        }));
        grid.row([
            archive.job_id.to_string(),
            archive.status.as_str().to_owned(),
            archive.source.to_string(),
            format!("{}/{}", archive.performance.tables_processed, archive.tables.len()),
            Rows(archive.performance.total_rows_exported).to_string(),
            bytes_text(archive.performance.total_bytes),
            format!("{:.0}", archive.received_at),
        ]);
    }
    match as_json {
        true => println!("{}", Value::Array(shown)),
        false => print!("{grid}"),
    }
    Ok(())
}

/// The newest archives.
async fn recent(folder: &Folder) -> Result<Vec<Archive>, FolderError> {
    let mut archives = all(folder).await?;
    archives.sort_by_key(|a| std::cmp::Reverse(a.committed_at));
    archives.truncate(RECENT);
    Ok(archives)
}

/// All archives.
pub(super) async fn all(folder: &Folder) -> Result<Vec<Archive>, FolderError> {
    let mut archives = Vec::new();
    for name in folder.store().list(layout::BY_ID).await? {
        if !name.starts_with('.') {
            archives.extend(folder.read::<Archive>(&format!("{}/{name}", layout::BY_ID)).await?);
        }
    }
    Ok(archives)
}

fn in_json(state: &JobState) -> Value {
    json!({
        "job_id": state.id(), "status": word(state), "source": state.stored.source,
        "received_at": state.stored.received_at, "progress": state.progress(),
    })
}

/// One job; a code once it has ended.
async fn one(folder: &Folder, job: &JobId, as_json: bool) -> anyhow::Result<Option<ExitCode>> {
    if let Some(archive) = folder.read::<Archive>(&layout::archive_by_id(job)).await? {
        match as_json {
            true => println!("{}", serde_json::to_string_pretty(&archive)?),
            false => print!("{}", Summary::of_archive(&archive)),
        }
        return Ok(Some(ExitCode::of(archive.status.event()).unwrap_or(ExitCode::Failed)));
    }
    let Some(state) = state(folder, job).await? else {
        return Err(Usage(format!("there is no job `{job}` in {}", folder.root().display())).into());
    };
    if as_json {
        println!("{}", in_json(&state));
        return Ok(None);
    }
    let p = state.progress();
    println!(
        "{job} {}: {} of {} tables, {} of {} chunks, {} of ~{} rows, {}",
        word(&state),
        p.tables_done,
        p.tables,
        p.chunks_done,
        p.chunks,
        Rows(p.rows),
        Rows(p.rows_estimated.max(p.rows)),
        bytes_text(p.bytes)
    );
    Ok(None)
}

/// The newest full export of a table: newest snapshot, then latest commit.
async fn latest(folder: &Folder, table: &TablePattern, as_json: bool) -> anyhow::Result<ExitCode> {
    let mut found: Vec<Value> = Vec::new();
    let mut newest = std::collections::BTreeMap::new();
    for archive in all(folder).await? {
        for t in archive.tables.iter().filter(|t| t.full && t.status == TableStatus::Completed) {
            let matches = TablePattern::parse(&t.table_name)
                .ok()
                .and_then(|name| name.literal())
                .is_some_and(|(schema, name)| table.matches(&schema, &name));
            let Some(directory) = t.directory.clone().filter(|_| matches) else { continue };
            let key = (t.output_directory.clone(), t.base.clone());
            let age = (t.snapshot_time.unwrap_or(archive.received_at), archive.committed_at);
            let entry = (age, directory, t.table_name.clone(), t.rows);
            match newest.get(&key) {
                Some(known) if *known >= entry => {}
                _ => drop(newest.insert(key, entry)),
            }
        }
    }
    for ((snapshot, _), directory, table, rows) in newest.into_values() {
        let path = folder.root().join(&directory);
        match as_json {
            true => found
                .push(json!({"table": table, "directory": path, "snapshot_time": snapshot, "rows": rows})),
            false => {
                println!("{}", path.display());
                found.push(Value::Null);
            }
        }
    }
    if as_json {
        println!("{}", Value::Array(found.clone()));
    }
    if found.is_empty() {
        eprintln!("adu-export: there is no full export of {table} in {}", folder.root().display());
        return Ok(ExitCode::Failed);
    }
    Ok(ExitCode::Done)
}
