//! `adu-export verify`

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::grid::printable;
use super::input::ConfigArgs;
use super::{ExitCode, Usage};
use crate::config::Config;
use crate::daemon;
use crate::folder::{Folder, layout};
use crate::job::archive::{Archive, ArchivedTable};
use crate::message::JobId;
use crate::message::pattern::TablePattern;
use crate::source::Selection;
use crate::write::PartFile;
use crate::write::read_back::verify_part;

/// Arguments of `verify`.
#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    /// The configuration: export folder and sources.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The job [default: every finished job whose directories still stand]
    #[arg(value_name = "JOB")]
    pub job: Option<JobId>,
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

/// Reads every file again.
///
/// # Errors
/// When folder or configuration cannot be read.
pub async fn run(args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let (root, config) = match &args.root {
        Some(root) => (std::path::absolute(root)?, None),
        None => {
            let config = args.config.load()?;
            (config.export.root.clone(), Some(config))
        }
    };
    let folder = Folder::open(root, None).await?;
    let archives = match &args.job {
        Some(job) => match folder.read::<Archive>(&layout::archive_by_id(job)).await? {
            Some(archive) => vec![archive],
            None => {
                return Err(
                    Usage(format!("there is no finished job `{job}` in {}", folder.root().display())).into()
                );
            }
        },
        None => super::status::all(&folder).await?,
    };
    let mut report = Report::default();
    for archive in &archives {
        for table in &archive.tables {
            let Some(directory) = &table.directory else { continue };
            let gone = folder.store().stat(directory).await?.is_none();
            // Without a job's name, what was pruned is no difference.
            if gone && args.job.is_none() {
                continue;
            }
            report.tables += 1;
            report.table(&folder, table, directory).await?;
            if let (true, Some(config)) = (args.against_source, &config) {
                report.against_source(config, archive, table).await?;
            }
        }
    }
    match args.json {
        true => println!(
            "{}",
            serde_json::json!({
                "tables": report.tables, "files": report.files, "rows": report.rows, "differences": report.differences,
            })
        ),
        false => {
            for difference in &report.differences {
                println!("{}", printable(difference));
            }
            println!(
                "{} tables, {} files, {} rows read: {}",
                report.tables,
                report.files,
                report.rows,
                if report.differences.is_empty() { "all as archived" } else { "differences found" }
            );
        }
    }
    Ok(if report.differences.is_empty() { ExitCode::Done } else { ExitCode::Failed })
}

#[derive(Default)]
struct Report {
    tables: u64,
    files: u64,
    rows: u64,
    differences: Vec<String>,
}

impl Report {
    /// Compares the files of a directory with its archive.
    async fn table(&mut self, folder: &Folder, table: &ArchivedTable, directory: &str) -> anyhow::Result<()> {
        for name in folder.store().list(directory).await? {
            if !table.files.iter().any(|f| f.file == name) {
                self.differences.push(format!("{directory}/{name}: the archive does not know this file"));
            }
        }
        for file in &table.files {
            let path = folder.root().join(directory).join(&file.file);
            let expected = PartFile {
                file: file.file.clone(),
                inode: 0,
                rows: file.rows,
                bytes: file.bytes,
                sha256: file.sha256.clone(),
                row_groups: 0,
                fsync_seconds: 0.0,
            };
            let result = tokio::task::spawn_blocking(move || verify_part(&path, &expected)).await?;
            match result {
                Ok(()) => {
                    self.files += 1;
                    self.rows += file.rows;
                }
                Err(difference) => self.differences.push(difference),
            }
        }
        Ok(())
    }

    /// Compares the rows of a table with the source's count as it is now.
    async fn against_source(
        &mut self,
        config: &Config,
        archive: &Archive,
        table: &ArchivedTable,
    ) -> anyhow::Result<()> {
        if !table.full {
            return Ok(());
        }
        let sources = daemon::sources(config)?;
        let Some(entry) = sources.get(&archive.source) else {
            return Err(Usage(format!("the configuration has no source `{}`", archive.source)).into());
        };
        let Some((schema, name)) = TablePattern::parse(&table.table_name).ok().and_then(|p| p.literal())
        else {
            return Ok(());
        };
        let selection = Selection { schema: &schema, name: &name, filter: None };
        let counted = entry.source.count(&selection, None).await?;
        if counted != table.rows {
            self.differences.push(format!(
                "{}: {} rows were exported, the source has {counted} now",
                table.table_name, table.rows
            ));
        }
        Ok(())
    }
}
