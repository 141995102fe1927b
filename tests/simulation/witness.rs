//! Checks at each acknowledgement (I1, I2) and event (I5) that what it promises is durable.

use adu_export::folder::layout;
use adu_export::job::archive::Archive;
use adu_export::message::event::EventType;
use adu_export::message::{Event, JobId, Task};

use crate::broker::{Line, Unacked};
use crate::check::published;
use crate::disk::{Disk, Eyes};
use crate::world::World;

pub(crate) fn archive(disk: &Disk, job: &JobId) -> Option<Archive> {
    let bytes = disk.read(&layout::archive_by_id(job), Eyes::Truth)?;
    Some(serde_json::from_slice(&bytes).expect("an archive reads back"))
}

/// Whether any file of a directory, with this end of its name, contains a text.
fn has(disk: &Disk, dir: &str, end: &str, text: &str) -> bool {
    disk.list(dir, Eyes::Truth).iter().filter(|name| name.ends_with(end)).any(|name| {
        let content = disk.read(&format!("{dir}/{name}"), Eyes::Truth).unwrap_or_default();
        content.windows(text.len()).any(|w| w == text.as_bytes())
    })
}

/// Checks an event when the broker accepts it: what the event says must be durable.
pub(crate) fn said(world: &World, event: &Event) {
    let Some(job) = &event.data.job_id else { return };
    let disk = world.disk();
    let archived = || archive(&disk, job);
    let workspace = layout::workspace(job);
    let table = event.data.tables.first();
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let holds = match event.kind {
        EventType::JobAccepted => disk.exists(&layout::request(job)) || archived().is_some(),
        EventType::JobProgress | EventType::JobStalled => true,
        EventType::JobRejected => {
            drop(disk);
            world.broker().rejected.extend(event.data.message_id.clone());
            return;
        }
        EventType::TableCompleted => table.is_some_and(|t| {
            let directory = t.directory.clone().unwrap_or_default();
            let tables = format!("{workspace}/tables");
            published(world, &disk, &directory).len() == t.files as usize
                && t.files > 0
                && (has(&disk, &tables, ".outcome.json", &quoted(&directory)) || archived().is_some())
        }),
        EventType::TableFailed => {
            has(&disk, &format!("{workspace}/tables"), ".outcome.json", "\"failed\"")
                || has(&disk, &format!("{workspace}/plans"), ".json", "\"failed\"")
                || archived().is_some()
        }
        end => archived().is_some_and(|a| a.status.event() == end),
    };
    drop(disk);
    if !holds {
        world.broken("I5", format_args!("{} is said before it is durable", event.id));
    }
}

/// Checks an acknowledgement: the effect must be durable, and the wake-up sent.
pub(crate) fn acknowledged(world: &World, life: u64, unacked: &Unacked) {
    match unacked.line {
        Line::Requests => request(world, life, unacked),
        Line::Work => {
            if let Ok(task) = serde_json::from_slice::<Task>(&unacked.message.body) {
                work(world, life, &task);
            }
        }
        Line::Coordinator | Line::Control(_) => {}
    }
}

fn work(world: &World, life: u64, task: &Task) {
    let job = task.job();
    let disk = world.disk();
    if archive(&disk, job).is_some() || disk.exists(&layout::cancel(job)) {
        return;
    }
    let (effect, wake) = match task {
        // A planner with an older view than the coordinator may only wake the coordinator.
        Task::Plan(_) => (true, (life, job.to_string(), None)),
        Task::Chunk(t) => {
            if disk.exists(&layout::outcome(job, t.batch_id())) {
                return;
            }
            let dir = layout::records(job, t.batch_id());
            let failed = format!("{:06}.fail-", t.chunk);
            let done = disk.exists(&layout::record(job, t.batch_id(), t.chunk))
                || disk.list(&dir, Eyes::Truth).iter().any(|name| name.starts_with(&failed));
            (done, (life, job.to_string(), Some((t.batch_id(), t.chunk))))
        }
    };
    drop(disk);
    if !effect {
        world.broken("I1", format_args!("{task:?} is acknowledged without a record"));
    } else if !world.broker().wakes.contains(&wake) {
        world.broken("I1", format_args!("{task:?} is acknowledged before its wake-up"));
    }
}

fn request(world: &World, life: u64, unacked: &Unacked) {
    let id = unacked.message.properties.message_id.clone().unwrap_or_default();
    if world.broker().rejected.contains(&id) {
        return;
    }
    let body: serde_json::Value = serde_json::from_slice(&unacked.message.body).unwrap_or_default();
    let job = |field: &str| JobId::parse(body.get(field)?.as_str()?).ok();
    let disk = world.disk();
    let holds = if let Some(job) = job("cancel") {
        !disk.exists(&layout::workspace(&job))
            || disk.exists(&layout::cancel(&job))
            || archive(&disk, &job).is_some()
    } else if let Some(job) = job("job_id") {
        let woken = || world.broker().wakes.contains(&(life, job.to_string(), None));
        archive(&disk, &job).is_some() || disk.exists(&layout::request(&job)) && woken()
    } else {
        true
    };
    drop(disk);
    if !holds {
        world.broken("I2", format_args!("request {id} is acknowledged before it is durable and woken"));
    }
}
