//! `adu-export check`

use clap::Args;
use serde::Serialize;

use super::ExitCode;
use super::input::ConfigArgs;
use crate::bus::Bus;
use crate::bus::rabbitmq::RabbitBus;
use crate::config::Config;
use crate::daemon;
use crate::folder::{Created, Folder};
use crate::source::{ErrorKind, SourceError};

/// Arguments of `check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Make the export folder one, with an identity of its own
    #[arg(long)]
    pub init: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// One thing that was checked.
struct Finding {
    what: String,
    result: Result<String, String>,
    unreachable: bool,
}

/// Checks everything that a daemon needs.
///
/// # Errors
/// When the configuration cannot be read.
pub async fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    let mut findings = vec![Finding {
        what: "configuration".into(),
        result: config
            .check_daemon()
            .map(|()| args.config.path().display().to_string())
            .map_err(|e| e.to_string()),
        unreachable: false,
    }];
    findings.push(root(&config, args.init).await);
    if config.broker.url.is_some() || config.broker.url_file.is_some() {
        findings.push(broker(&config).await);
    }
    let sources = daemon::sources(&config)?;
    for (name, entry) in &sources {
        let checked = entry.source.check().await;
        findings.push(Finding {
            what: format!("source {name}"),
            unreachable: matches!(
                &checked,
                Err(SourceError { kind: ErrorKind::Unreachable | ErrorKind::Transient, .. })
            ),
            result: checked.map(|facts| facts.version).map_err(|e| match &e.remedy {
                Some(remedy) => format!("{e} ({remedy})"),
                None => e.to_string(),
            }),
        });
    }
    if args.json {
        let list: Vec<_> = findings
            .iter()
            .map(|f| serde_json::json!({"what": f.what, "ok": f.result.is_ok(), "text": f.result.as_ref().unwrap_or_else(|e| e)}))
            .collect();
        println!("{}", serde_json::Value::Array(list));
    } else {
        for f in &findings {
            match &f.result {
                Ok(text) => println!("ok      {}: {text}", f.what),
                Err(text) => println!("FAILED  {}: {text}", f.what),
            }
        }
    }
    let failed: Vec<&Finding> = findings.iter().filter(|f| f.result.is_err()).collect();
    Ok(match () {
        () if failed.is_empty() => ExitCode::Done,
        () if failed.iter().all(|f| f.unreachable) => ExitCode::Unreachable,
        () => ExitCode::Failed,
    })
}

async fn root(config: &Config, init: bool) -> Finding {
    let path = config.export.root.clone();
    let result = async {
        let group = daemon::group(config)?;
        let folder = match init {
            true => Folder::init(path.clone(), group).await?,
            false => Folder::open(path.clone(), group).await?,
        };
        // A file of a fresh name: that it can be written is seen, not guessed.
        let probe = format!("{}/check-{}", crate::folder::layout::TRASH, uuid::Uuid::new_v4());
        let created = folder.store().create(&probe, b"check".to_vec()).await?;
        folder.store().remove(&probe).await?;
        debug_assert_eq!(created, Created::New);
        Ok::<String, crate::folder::FolderError>(format!(
            "{} is export folder {}",
            path.display(),
            folder.id()
        ))
    };
    Finding {
        what: "export folder".into(),
        result: result.await.map_err(|e| e.to_string()),
        unreachable: false,
    }
}

async fn broker(config: &Config) -> Finding {
    let result = async {
        let bus = RabbitBus::new(&config.broker, "adu-export check").map_err(|e| e.to_string())?;
        let session = bus.connect().await.map_err(|e| e.to_string())?;
        session.close().await;
        Ok(format!("connected, prefix {}", config.broker.prefix))
    };
    Finding { what: "broker".into(), result: result.await, unreachable: true }
}
