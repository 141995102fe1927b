//! `adu-export verify`

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::input::ConfigArgs;
use super::{ExitCode, print, print_json};
use crate::config::Config;
use crate::context::SourceEntry;
use crate::destination::{self, Destination};
use crate::folder::{Folder, FolderError};
use crate::job::archive::{Archive, ArchivedTable, Status, TableStatus};
use crate::job::outcome::FinishedFile;
use crate::message::JobId;
use crate::message::pattern::TablePattern;
use crate::relation::filter::Expression;
use crate::relation::{Filter, Selection, SurveyRequest};
use crate::text::count;
use crate::write::read_back::{Written, read_back};

/// Arguments of `verify`.
#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    /// The configuration: export folder and sources.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The job
    #[arg(value_name = "JOB")]
    pub job: JobId,
    /// Export folder, without a configuration file
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub root: Option<PathBuf>,
    /// Count the rows of the source too; it may have changed since
    #[arg(long, conflicts_with = "root")]
    pub against_source: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The result of checking a table.
#[derive(Debug, Serialize)]
struct TableCheck {
    table: String,
    directory: String,
    files: usize,
    rows: u64,
    source_rows: Option<u64>,
    problems: Vec<String>,
    /// The job that owns the directory now.
    #[serde(skip_serializing_if = "Option::is_none")]
    belongs_to: Option<JobId>,
}

/// Reads every file of a job again.
///
/// # Errors
/// When there is no such archive, or the source cannot be asked.
pub async fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let (root, config) = match &args.root {
        Some(root) => (root.clone(), None),
        None => {
            let config = args.config.load()?;
            (config.export.root.clone(), Some(config))
        }
    };
    let folder = Folder::open(root, None).await?;
    let Some(archive) = folder.job(&args.job).archive().await? else {
        anyhow::bail!("there is no archive of job `{}`: it is unknown or has not ended", args.job);
    };
    let source = match (&config, args.against_source) {
        (Some(config), true) => Some(source(config, &archive)?),
        _ => None,
    };
    let destination = destination::of(&folder);
    let mut checks = Vec::new();
    let mut later: Option<Vec<Archive>> = None;
    for table in archive.tables.iter().filter(|t| t.status == TableStatus::Completed) {
        let mut check = files(&destination, table).await?;
        if !check.problems.is_empty() {
            let later = match &mut later {
                Some(later) => later,
                None => later.insert(committed_after(&folder, &archive).await?),
            };
            if let Some(next) = successor(later, &check.directory) {
                let text = format!(
                    "it was pruned: the directory belongs to job {} since {:.0}; `adu-export verify {}` looks at that",
                    next.job_id, next.committed_at, next.job_id
                );
                check.problems = vec![text];
                check.belongs_to = Some(next.job_id.clone());
            }
        }
        if let Some(entry) = &source {
            let rows = source_rows(entry, &archive, table).await?;
            check.source_rows = Some(rows);
            if rows != table.rows {
                let text = format!("the source has {rows} rows now, {} were exported", table.rows);
                check.problems.push(text);
            }
        }
        checks.push(check);
    }
    let bad = checks.iter().filter(|v| !v.problems.is_empty()).count();
    let missing: Vec<&ArchivedTable> =
        archive.tables.iter().filter(|t| t.status != TableStatus::Completed).collect();
    let whole = archive.status == Status::Completed;
    if args.json {
        let missing: Vec<&str> = missing.iter().map(|t| t.table_name.as_str()).collect();
        print_json(&serde_json::json!({
            "job_id": args.job, "status": archive.status, "ok": bad == 0 && whole, "tables": checks,
            "not_exported": missing,
        }))?;
    } else {
        for v in &checks {
            let word = if v.problems.is_empty() { "ok    " } else { "FAILED" };
            let (files, rows) = (count(v.files as u64, "file"), count(v.rows, "row"));
            print(&format!("{word} {}: {files}, {rows} in {}\n", v.table, v.directory))?;
            for problem in &v.problems {
                print(&format!("       {problem}\n"))?;
            }
        }
        for table in &missing {
            print(&format!("-      {}: was not exported\n", table.table_name))?;
        }
        if !whole {
            print(&format!(
                "job {} is {}: {} exported\n",
                args.job,
                archive.status.as_str(),
                count(checks.len() as u64, "table")
            ))?;
        }
    }
    Ok(match (bad, checks.is_empty()) {
        (0, _) if whole => ExitCode::Done,
        (0, false) => ExitCode::Partial,
        _ => ExitCode::Failed,
    })
}

/// Compares a directory with what the archive says of it.
async fn files(destination: &Arc<dyn Destination>, table: &ArchivedTable) -> anyhow::Result<TableCheck> {
    let named = || format!("the archive names no directory of table {}", table.table_name);
    let directory = table.directory.clone().with_context(named)?;
    let problems = match destination.list(&directory).await {
        Ok(None) => vec!["the directory is gone: it was pruned, or moved or removed by hand".into()],
        listed => {
            let (destination, of, expected) =
                (Arc::clone(destination), directory.clone(), table.files.clone());
            let compared = tokio::task::spawn_blocking(move || compare(&*destination, &of, &expected));
            let mut problems = compared.await?;
            match listed {
                Err(error) => problems.push(format!("the directory cannot be read: {error}")),
                Ok(names) => {
                    let files: HashSet<&str> = table.files.iter().map(|f| f.file.as_str()).collect();
                    let strange = names.into_iter().flatten().filter(|name| !files.contains(name.as_str()));
                    problems.extend(strange.map(|name| format!("{name} is not of this export")));
                }
            }
            problems
        }
    };
    Ok(TableCheck {
        table: table.table_name.clone(),
        directory,
        files: table.files.len(),
        rows: table.rows,
        source_rows: None,
        problems,
        belongs_to: None,
    })
}

/// Archives of jobs that ended after this one.
async fn committed_after(folder: &Folder, archive: &Archive) -> Result<Vec<Archive>, FolderError> {
    let mut later = Vec::new();
    for job in folder.archived().await? {
        match folder.job(&job).archive().await {
            Ok(other) => later.extend(other.filter(|other| other.committed_at > archive.committed_at)),
            // This archive cannot say which directories it owns. The files of the checked job are compared
            // nevertheless.
            Err(error @ FolderError::Unreadable { .. }) => eprintln!("{error}"),
            Err(error) => return Err(error),
        }
    }
    Ok(later)
}

/// The job that published a directory last. The export that was there before has been removed.
fn successor<'a>(later: &'a [Archive], directory: &str) -> Option<&'a Archive> {
    let names = |archive: &&Archive| {
        let mut completed = archive.tables.iter().filter(|t| t.status == TableStatus::Completed);
        completed.any(|t| t.directory.as_deref() == Some(directory))
    };
    later.iter().filter(names).max_by_key(|archive| archive.committed_at)
}

fn compare(destination: &dyn Destination, directory: &str, expected: &[FinishedFile]) -> Vec<String> {
    let mut problems = Vec::new();
    for file in expected {
        let written = Written { rows: file.rows, bytes: file.bytes, sha256: &file.sha256 };
        let read = match destination.open(directory, &file.file) {
            Ok(opened) => read_back(opened.into(), &written),
            Err(error) => Err(format!("cannot be read: {error}")),
        };
        if let Err(error) = read {
            problems.push(format!("{}: {error}", file.file));
        }
    }
    problems
}

fn source(config: &Config, archive: &Archive) -> anyhow::Result<Arc<SourceEntry>> {
    let sources = crate::daemon::sources(config)?;
    let name = &archive.source;
    sources.get(name).cloned().with_context(|| format!("the configuration has no source `{name}`"))
}

/// Rows of the source now, under the filter of the request.
async fn source_rows(entry: &SourceEntry, archive: &Archive, table: &ArchivedTable) -> anyhow::Result<u64> {
    let pattern = TablePattern::parse(&table.table_name)?;
    let (schema, name) = pattern.literal().context("the archive names a pattern")?;
    let asked = archive.request.entry_for(&schema, &name);
    let (mut filter, mut relations) = (None, Vec::new());
    if let Some(text) = asked.and_then(|t| t.where_.as_ref()) {
        filter = Some(Filter::Where(Expression::parse(text, entry.config.allow_where)?));
    }
    if let Some(after) = asked.and_then(|t| t.after.as_ref()) {
        let survey =
            SurveyRequest { tables: vec![TablePattern::exact(&schema, &name)], ..SurveyRequest::default() };
        relations = entry.source.survey(&survey, None).await?;
        if !relations.iter().flat_map(|r| &r.columns).any(|c| c.column.name == after.column) {
            anyhow::bail!(
                "{}: its export took what is new by column `{}`, which it does not have any more: its rows cannot be \
                 counted again; leave --against-source out",
                table.table_name,
                after.column
            );
        }
        filter = Filter::both(filter, Some(Filter::wanted(after)));
    }
    let columns = relations.first().map_or(&[][..], |r| &r.columns);
    let filter = filter.map(|filter| entry.source.print(&filter, columns)).transpose()?;
    let selection = Selection {
        schema: &schema,
        name: &name,
        only: asked.is_some_and(|t| t.only),
        filter: filter.as_ref(),
    };
    entry.source.count(&selection, None).await.with_context(|| format!("count {}", table.table_name))
}
