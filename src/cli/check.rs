//! `adu-export check`

use clap::Args;
use serde::Serialize;

use super::input::ConfigArgs;
use super::one_shot::Explained;
use super::{ExitCode, print, print_json};
use crate::bus::rabbitmq::RabbitBus;
use crate::bus::{Bus, Queue};
use crate::config::{Config, Effective};
use crate::folder::Folder;
use crate::text::{bytes_text, count};

/// Arguments of `check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Create the export folder if it is missing, and give it its identity
    #[arg(long)]
    pub init: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The result of one check.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    ok: bool,
    text: String,
    /// How a source is reached.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    settings: Vec<Shown>,
    #[serde(skip)]
    code: ExitCode,
}

/// A setting of a connection.
#[derive(Debug, Serialize)]
struct Shown {
    keyword: &'static str,
    /// None for a secret.
    value: Option<String>,
    from: String,
}

/// Checks everything, in the order in which a daemon needs it.
///
/// # Errors
/// If the configuration cannot be read.
pub async fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    let mut findings = vec![finding("configuration", check_daemon(&config))];
    findings.push(finding("export folder", folder(&config, args.init).await));
    if config.broker.url.is_some() || config.broker.url_file.is_some() {
        findings.push(finding("broker", broker(&config).await));
    }
    match crate::daemon::sources(&config) {
        Err(error) => findings.push(finding("sources", Err(error.into()))),
        Ok(sources) => {
            for (name, entry) in &sources {
                let found = entry.source.check().await;
                let Effective { settings, notes: unused } = entry.config.kind.effective();
                let text = found.map_err(|e| Explained(e, entry.config.origin).into()).map(|facts| {
                    let snapshots = if facts.snapshots { "" } else { ", without snapshots" };
                    let notes: String = facts.notes.iter().map(|note| format!("; {note}")).collect();
                    format!("{} {}{snapshots}{notes}", facts.product, facts.version)
                });
                let shown = settings.into_iter().map(|setting| Shown {
                    keyword: setting.keyword,
                    value: setting.value,
                    from: setting.place.to_string(),
                });
                let mut found = finding(&format!("source {name}"), text);
                found.settings = shown.collect();
                // They may be the reason why it cannot be reached.
                found.text.extend(unused.iter().map(|note| format!("; {note}")));
                findings.push(found);
            }
        }
    }
    if args.json {
        print_json(&findings)?;
    } else {
        for f in &findings {
            print(&format!("{} {}: {}\n", if f.ok { "ok    " } else { "FAILED" }, f.what, f.text))?;
            for Shown { keyword, value, from } in &f.settings {
                let value = value.as_deref().unwrap_or("(not shown)");
                print(&format!("         {keyword} = {value}, from {from}\n"))?;
            }
        }
    }
    Ok(findings.iter().find(|f| !f.ok).map_or(ExitCode::Done, |f| f.code))
}

fn finding(what: &str, found: anyhow::Result<String>) -> Finding {
    let what = what.to_owned();
    match found {
        Ok(text) => Finding { what, ok: true, text, settings: vec![], code: ExitCode::Done },
        Err(error) => {
            let code = ExitCode::of_error(&error);
            Finding { what, ok: false, text: format!("{error:#}"), settings: vec![], code }
        }
    }
}

fn check_daemon(config: &Config) -> anyhow::Result<String> {
    config.check_daemon()?;
    Ok(format!("{}, prefix {}", count(config.sources.len() as u64, "source"), config.broker.prefix))
}

async fn folder(config: &Config, init: bool) -> anyhow::Result<String> {
    let (root, group) = (config.export.root.clone(), crate::daemon::group(config)?);
    let missing = init && !root.exists();
    if missing {
        // If the parent is missing too, a file system is probably not mounted, or the path is wrong.
        let parent = root.parent().filter(|p| !p.as_os_str().is_empty());
        anyhow::ensure!(
            parent.is_none_or(std::path::Path::is_dir),
            "{} cannot be created, because the directory above it is missing; mount its file system, or correct export.root",
            root.display()
        );
    }
    let folder = if init { Folder::init(root, group).await? } else { Folder::open(root, group).await? };
    folder.probe().await?;
    let free = folder.free_bytes().await?;
    anyhow::ensure!(
        free >= config.export.min_free_bytes,
        "only {} are free, workers pause below {} (export.min_free_bytes)",
        bytes_text(free),
        bytes_text(config.export.min_free_bytes)
    );
    let made = if missing { ", made now" } else { "" };
    Ok(format!("{} is {}{made}, {} free", folder.root().display(), folder.id(), bytes_text(free)))
}

async fn broker(config: &Config) -> anyhow::Result<String> {
    let session = RabbitBus::new(&config.broker, "adu-export check")?.connect().await?;
    // A subscription would take messages from the queue, so we only ask for their number.
    let waiting = session.ready(Queue::Requests).await?;
    session.close().await;
    let queues = if config.broker.declare { "declared" } else { "there" };
    Ok(format!("connected, queues are {queues}, {} waiting", count(waiting.into(), "request")))
}
