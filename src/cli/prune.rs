//! `adu-export prune`: removes old versions of tables. No other part of the system removes published tables.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::damage::Damage;
use super::input::ConfigArgs;
use super::{ExitCode, print, print_json};
use crate::destination;
use crate::folder::{Folder, FolderError};
use crate::job::archive::Archive;
use crate::job::outdated::{Outdated, outdated};
use crate::message::pattern::TablePattern;
use crate::message::setting::Span;
use crate::text::bytes_text;

/// Arguments of `prune`.
#[derive(Clone, Debug, Args)]
pub struct PruneArgs {
    /// The configuration: the export folder.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Export folder, without a configuration file
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub root: Option<PathBuf>,
    /// Versions of each table that stay, full exports and others counted apart; increments (`after`) always stay
    #[arg(long, value_name = "N", default_value = "1")]
    pub keep: NonZeroU32,
    /// Only versions whose job ended so long ago, e.g. 30d
    #[arg(long, value_name = "AGE", default_value = "0s")]
    pub older_than: Span,
    /// Only these tables; patterns as in requests
    #[arg(long = "table", value_name = "TABLE")]
    pub tables: Vec<TablePattern>,
    /// Remove them; without this they are only listed
    #[arg(long)]
    pub yes: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Lists old versions, and removes them if asked to.
///
/// # Errors
/// When the export folder is not usable.
pub async fn run(args: &PruneArgs) -> anyhow::Result<ExitCode> {
    let root = match &args.root {
        Some(root) => root.clone(),
        None => args.config.load()?.export.root,
    };
    let folder = Folder::open(root, None).await?;
    let destination = destination::of(&folder);
    let (archives, damage) = archives(&folder).await?;
    let before = Timestamp::now().checked_sub(args.older_than.0)?;
    let mut old = outdated(&archives, args.keep.get() as usize, before);
    old.retain(|v| args.tables.is_empty() || args.tables.iter().any(|p| wanted(p, &v.table)));
    let (mut lines, mut count, mut kept, mut bytes) = (Vec::new(), 0, 0, 0);
    let mut listed = Vec::new();
    for version in &old {
        // Skip a version that somebody removed by hand.
        let Some(found) = destination.list(&version.directory).await? else { continue };
        count += 1;
        let (word, why) = match (damage.is_none(), is_removable(found, version)) {
            (_, false) => {
                kept += 1;
                ("left_alone", ": it is not what its job published")
            }
            (false, true) => {
                kept += 1;
                ("left_alone", ": it may belong to the job of a damaged archive")
            }
            (true, true) => {
                bytes += version.files.iter().map(|f| f.bytes).sum::<u64>();
                if args.yes {
                    destination.remove(&version.directory, &format!("pruned_{}", version.job)).await?;
                }
                (if args.yes { "removed" } else { "old" }, "")
            }
        };
        listed.push(json!({
            "state": word, "directory": version.directory, "table": version.table, "job_id": version.job,
            "committed_at": version.committed_at,
        }));
        lines.push(format!("{word} {} ({} of job {}){why}\n", version.directory, version.table, version.job));
    }
    if args.json {
        print_json(&damage.told(json!({"bytes": bytes, "versions": listed})))?;
    } else {
        print(&lines.concat())?;
        print(&damage.to_string())?;
        let hint = if args.yes || count == 0 || !damage.is_none() { "" } else { "; --yes removes them" };
        print(&format!("{count} old versions, {}{hint}\n", bytes_text(bytes)))?;
    }
    Ok(if kept == 0 && damage.is_none() { ExitCode::Done } else { ExitCode::Partial })
}

/// Reads all archives. If one is damaged, nobody knows which directories belong to its job, so nothing may be
/// removed.
async fn archives(folder: &Folder) -> Result<(Vec<Archive>, Damage), FolderError> {
    let (mut archives, mut damage) = (Vec::new(), Damage::default());
    for job in folder.archived().await? {
        archives.extend(damage.apart(folder.job(&job).archive().await)?);
    }
    Ok((archives, damage))
}

fn wanted(pattern: &TablePattern, table: &str) -> bool {
    let named = TablePattern::parse(table).ok().and_then(|t| t.literal());
    named.is_some_and(|(schema, name)| pattern.matches(&schema, &name))
}

/// Whether the directory still holds the files of its job and nothing else.
fn is_removable(mut found: Vec<String>, version: &Outdated) -> bool {
    found.sort();
    let mut published: Vec<&str> = version.files.iter().map(|f| f.file.as_str()).collect();
    published.sort_unstable();
    found == published
}
