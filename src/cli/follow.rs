//! Sends a request to the daemons and, with `--wait`, waits for the end of its job.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use tokio::time::Instant;

use super::ended::{self, Standing};
use super::input::ConfigArgs;
use super::summary::Summary;
use super::{ExitCode, print, print_json};
use crate::bus::BusError;
use crate::bus::rabbitmq::{Client, RabbitBus};
use crate::config::BrokerConfig;
use crate::intake::RequestedAction;
use crate::message::event::JobProgress;
use crate::message::setting::Span;
use crate::message::{Event, EventType, JobId};
use crate::text::{Rows, bytes_text};

/// Pause before a new attempt to connect to a lost broker.
const AGAIN: Duration = Duration::from_secs(2);
/// A broker that stays away for longer counts as unreachable.
const GIVE_UP_AFTER: Duration = Duration::from_secs(120);

/// How to wait for the end of a job.
#[derive(Clone, Debug, Args)]
pub struct WaitArgs {
    /// Wait for the end of the job; the exit code says how it ended
    #[arg(long)]
    pub wait: bool,
    /// Stop waiting after this time, e.g. 90s or 12h; the job continues
    #[arg(long, value_name = "TIME", requires = "wait")]
    pub timeout: Option<Span>,
}

/// Arguments of a command about one job.
#[derive(Clone, Debug, Args)]
pub struct JobArgs {
    /// The configuration: broker and prefix.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The job
    #[arg(value_name = "JOB")]
    pub job: JobId,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A command about a job.
#[derive(Clone, Copy, Debug)]
pub enum About {
    /// Cancel the job.
    Cancel,
    /// Export the failed tables of the job again.
    Retry,
}

impl About {
    /// The field of the message.
    fn word(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Retry => "retry",
        }
    }

    /// The command as intake reads it.
    fn action(self, job: &JobId) -> RequestedAction {
        match self {
            Self::Cancel => RequestedAction::Cancel(job.clone()),
            Self::Retry => RequestedAction::Retry(job.clone()),
        }
    }

    /// The job whose end answers the command: for a retry, the new job.
    fn answered_by(self, job: &JobId) -> JobId {
        match self {
            Self::Cancel => job.clone(),
            Self::Retry => job.retry(job.retry_number() + 1),
        }
    }
}

impl JobArgs {
    /// Sends the command. With `--wait`, it waits for the end of the job, or of the new job of a retry. If
    /// the export folder is visible from here, a finished job is shown from its archive, and an impossible
    /// command is refused, both without a message.
    ///
    /// # Errors
    /// As [`send`].
    pub async fn ask(&self, about: About) -> anyhow::Result<ExitCode> {
        let config = self.config.load()?;
        let code = |code| if matches!(about, About::Cancel) { ended::code_of_cancel(code) } else { code };
        match ended::standing(&config, &about.action(&self.job), &self.job).await {
            Standing::Open => {}
            Standing::Unknown(root) => eprintln!(
                "job {} is not known in {root}; daemons wait a minute for its request before they reject this command",
                self.job
            ),
            // With `--wait`, the event of its end is still asked for.
            Standing::Ended(archive) if self.wait.wait => eprintln!("{}", ended::line(&archive)),
            Standing::Ended(archive) => {
                if self.json {
                    print_json(&ended::json(&archive))?;
                } else {
                    print(&ended::text(&archive))?;
                }
                return Ok(code(ExitCode::of(archive.status.event()).unwrap_or(ExitCode::Failed)));
            }
            Standing::Refused(_) if self.wait.wait => {}
            Standing::Refused(error) => {
                if self.json {
                    print_json(&json!({"job_id": self.job, "error": error}))?;
                } else {
                    let remedy = error.remedy.as_deref().map_or(String::new(), |r| format!("; {r}"));
                    eprintln!("rejected: {}{remedy}", error.message);
                }
                return Ok(ExitCode::Rejected);
            }
        }
        let asked = Asked {
            body: serde_json::to_vec(&json!({ about.word(): self.job }))?,
            message_id: uuid::Uuid::new_v4().to_string(),
            job: about.answered_by(&self.job),
        };
        let sent = send(&config.broker, &asked, &self.wait, self.json).await?;
        Ok(if self.wait.wait { code(sent) } else { sent })
    }
}

/// A message to the daemons.
#[derive(Clone, Debug)]
pub struct Asked {
    /// JSON.
    pub body: Vec<u8>,
    /// Identity of the message.
    pub message_id: String,
    /// The job that the message is about.
    pub job: JobId,
}

impl Asked {
    /// Whether an event answers this message.
    fn is_answered_by(&self, event: &Event) -> bool {
        let ours = event.data.message_id.as_deref() == Some(self.message_id.as_str());
        match event.kind {
            // The rejection may belong to another message about the same job.
            EventType::JobRejected => ours,
            _ => ours || event.data.job_id.as_ref() == Some(&self.job),
        }
    }
}

/// Sends the message, and waits with `--wait`.
///
/// # Errors
/// If the broker cannot be reached or refuses the message.
pub async fn send(
    broker: &BrokerConfig,
    asked: &Asked,
    wait: &WaitArgs,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let bus = RabbitBus::new(broker, "adu-export client")?;
    if !wait.wait {
        let client = bus.client().await?;
        client.submit(asked.body.clone(), asked.message_id.clone()).await?;
        client.close().await;
        if json {
            print_json(&json!({"job_id": asked.job}))?;
        } else {
            print(&format!("{}\n", asked.job))?;
        }
        return Ok(ExitCode::Done);
    }
    let heard = AtomicBool::new(false);
    let ended = follow(&bus, asked, &heard);
    let event = match wait.timeout {
        None => ended.await?,
        Some(limit) => match tokio::time::timeout(limit.0, ended).await {
            Ok(event) => event?,
            Err(_) => {
                if heard.load(Ordering::Relaxed) {
                    eprintln!(
                        "job {} has not ended within {limit}; it continues, see `adu-export status {}`",
                        asked.job, asked.job
                    );
                } else {
                    eprintln!(
                        "no daemon has said anything about job {} within {limit}; the message waits in the queue: \
                         is a daemon running? `adu-export check` checks broker and sources",
                        asked.job
                    );
                }
                return Ok(ExitCode::Unreachable);
            }
        },
    };
    if json {
        print_json(&event)?;
    } else {
        print(&Summary::of_event(event.kind.words().1, &event.data).to_string())?;
    }
    Ok(ExitCode::of(event.kind).unwrap_or(ExitCode::Failed))
}

/// Waits for the final event of the job. After a lost connection it sends the message again: daemons
/// recognise the job and repeat a final event that was missed. `heard` becomes true when any event arrives.
async fn follow(bus: &RabbitBus, asked: &Asked, heard: &AtomicBool) -> anyhow::Result<Event> {
    let mut told = 0;
    let mut client = ask(bus, asked).await?;
    loop {
        let event = match client.next().await {
            Ok(event) => event,
            Err(error) => {
                eprintln!(
                    "the connection to the broker broke: {error}; connecting again (the job continues)"
                );
                client = again(bus, asked).await.with_context(|| format!("wait for job {}", asked.job))?;
                continue;
            }
        };
        if !asked.is_answered_by(&event) {
            continue;
        }
        heard.store(true, Ordering::Relaxed);
        if event.kind.is_final() {
            client.close().await;
            return Ok(event);
        }
        match (&event.data.progress, &event.data.error) {
            (_, Some(error)) => eprintln!("{}: {}", event.kind.words().1, error.message),
            (Some(progress), None) if progress.chunks_done > told => {
                told = progress.chunks_done;
                eprintln!("{}", progress_line(progress));
            }
            (Some(_), None) => {}
            (None, None) => eprintln!("{} {}", event.subject, event.kind.words().1),
        }
    }
}

async fn ask(bus: &RabbitBus, asked: &Asked) -> Result<Client, BusError> {
    let mut client = bus.client().await?;
    client.watch(&asked.job).await?;
    client.submit(asked.body.clone(), asked.message_id.clone()).await?;
    Ok(client)
}

async fn again(bus: &RabbitBus, asked: &Asked) -> Result<Client, BusError> {
    let since = Instant::now();
    loop {
        tokio::time::sleep(AGAIN).await;
        match ask(bus, asked).await {
            Err(error) if since.elapsed() > GIVE_UP_AFTER => return Err(error),
            Err(_) => {}
            Ok(client) => return Ok(client),
        }
    }
}

fn progress_line(p: &JobProgress) -> String {
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

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::message::event::EventData;

    #[test]
    fn a_rejection_of_another_message_is_not_ours() {
        let job = JobId::parse("j").expect("valid");
        let asked = Asked { body: vec![], message_id: "m".into(), job: job.clone() };
        let event = |kind, job_id: Option<&JobId>, message_id: &str| {
            let data = EventData {
                job_id: job_id.cloned(),
                message_id: Some(message_id.into()),
                ..EventData::default()
            };
            Event::new("p", kind, "j", None, Timestamp::UNIX_EPOCH, data)
        };
        assert!(asked.is_answered_by(&event(EventType::JobCompleted, Some(&job), "other")));
        assert!(!asked.is_answered_by(&event(EventType::JobRejected, Some(&job), "other")));
        assert!(asked.is_answered_by(&event(EventType::JobRejected, None, "m")));
    }
}
