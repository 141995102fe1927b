//! `adu-export submit`: sends a request, and waits for its end if asked to.

use clap::Args;

use std::time::Duration;

use uuid::Uuid;

use super::input::{ConfigArgs, Overrides, TableArgs};
use super::progress::clock;
use super::summary::Summary;
use super::{ExitCode, Usage};
use crate::bus::rabbitmq::{Client, RabbitBus};
use crate::message::request::OutputDirectory;
use crate::message::setting::{Compression, Span};
use crate::message::{Event, EventType};
use crate::message::{JobId, SourceName};
use crate::plan::size::{Rows, bytes_text};

/// Arguments of `submit`.
#[derive(Clone, Debug, Args)]
pub struct SubmitArgs {
    /// The configuration: broker and prefix.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The tables.
    #[command(flatten)]
    pub tables: TableArgs,
    /// Source to read [default: the only one]
    #[arg(long, value_name = "NAME")]
    pub source: Option<SourceName>,
    /// Identity of the job: a second request with it does nothing new
    #[arg(long, value_name = "ID")]
    pub job_id: Option<JobId>,
    /// Directory below the export folder
    #[arg(long, value_name = "DIR", value_parser = OutputDirectory::parse)]
    pub directory: Option<OutputDirectory>,
    /// snappy, zstd, zstd:1 to zstd:22, lz4, gzip or none
    #[arg(long, value_name = "C")]
    pub compression: Option<Compression>,
    /// Count the rows of every table under the same snapshot
    #[arg(long)]
    pub verify: bool,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
    /// Print the final event (without --wait: the job id) as JSON
    #[arg(long)]
    pub json: bool,
}

impl SubmitArgs {
    /// What overrides the request's file.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides {
            job: self.job_id.clone(),
            source: self.source.clone(),
            directory: self.directory.clone(),
            compression: self.compression,
            verify: self.verify,
            ..Overrides::default()
        }
    }
}

/// Publishes the request.
///
/// # Errors
/// When it cannot be read, or the broker does not take it.
pub async fn run(args: SubmitArgs) -> anyhow::Result<ExitCode> {
    let mut request = args.tables.request(&args.overrides()).map_err(|e| Usage(format!("{e:#}")))?;
    let job = request.job_id.clone().unwrap_or_else(|| JobId::from_message_id(None, Uuid::new_v4()));
    request.job_id = Some(job.clone());
    let body = serde_json::to_vec(&request)?;
    send(&args.config, &args.wait, args.json, job, body).await
}

/// Publishes a message about a job and, if asked to, waits for the job's end.
pub(super) async fn send(
    config: &ConfigArgs,
    wait: &WaitArgs,
    json: bool,
    job: JobId,
    body: Vec<u8>,
) -> anyhow::Result<ExitCode> {
    let config = config.load()?;
    config.broker.resolve_url()?;
    let bus = RabbitBus::new(&config.broker, "adu-export client")?;
    let mut client = bus.client().await?;
    if wait.wait {
        client.watch(&job).await?;
    }
    client.submit(body, Uuid::new_v4().to_string()).await?;
    if !wait.wait {
        match json {
            true => println!("{}", serde_json::json!({"job_id": job})),
            false => println!("{job}"),
        }
        client.close().await;
        return Ok(ExitCode::Done);
    }
    let limit = wait.timeout.map_or(Duration::MAX, |t| t.0);
    let Ok(end) = tokio::time::timeout(limit, follow(&mut client)).await else {
        eprintln!("adu-export: job {job} has not ended after {}; it goes on", clock(limit));
        return Ok(ExitCode::Unreachable);
    };
    let end = end?;
    client.close().await;
    if json {
        println!("{}", serde_json::to_string_pretty(&end)?);
    }
    eprint!("{}", Summary::of_event(end.kind.words().1, &end.data));
    Ok(ExitCode::of(end.kind).unwrap_or(ExitCode::Failed))
}

/// Shows what happens until the end.
async fn follow(client: &mut Client) -> anyhow::Result<Event> {
    loop {
        let event = client.next().await?;
        if ExitCode::of(event.kind).is_some() {
            return Ok(event);
        }
        if let Some(line) = line(&event) {
            eprintln!("{line}");
        }
    }
}

/// An event in one line.
fn line(event: &Event) -> Option<String> {
    let table = event.data.tables.first();
    Some(match event.kind {
        EventType::JobAccepted => "accepted".to_owned(),
        EventType::JobProgress => {
            let p = event.data.progress.as_ref()?;
            format!(
                "{} of {} tables, {} of {} chunks, {} of ~{} rows, {}",
                p.tables_done,
                p.tables,
                p.chunks_done,
                p.chunks,
                Rows(p.rows),
                Rows(p.rows_estimated.max(p.rows)),
                bytes_text(p.bytes)
            )
        }
        EventType::JobStalled => format!("stalled: {}", event.data.error.as_ref()?.message),
        EventType::TableCompleted => {
            let t = table?;
            let directory = t.directory.as_deref().unwrap_or_default();
            format!("{} is in {directory}: {} rows, {}", t.table, Rows(t.rows), bytes_text(t.bytes))
        }
        EventType::TableFailed => {
            let t = table?;
            format!("{} failed: {}", t.table, t.error.as_ref()?.message)
        }
        EventType::JobCompleted
        | EventType::JobPartial
        | EventType::JobFailed
        | EventType::JobCancelled
        | EventType::JobRejected => return None,
    })
}
