//! Checks what must hold at the end: nothing is lost, nothing exists twice, and nothing else exists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use adu_export::folder::layout;
use adu_export::job::archive::{Archive, ArchivedTable, Status, TableStatus};
use adu_export::message::event::EventType;
use adu_export::message::request::OutputDirectory;
use adu_export::message::{Event, JobId};
use jiff::Timestamp;

use crate::disk::{Disk, Eyes};
use crate::ledger::{Ledger, Row};
use crate::play::Play;
use crate::schedule::{Job, Schedule};
use crate::source::sum;
use crate::world::World;

/// The files of a published table.
pub(crate) fn published(world: &World, disk: &Disk, directory: &str) -> Vec<String> {
    match world.has_depot {
        true => world.depot().list(directory),
        false => files(disk, directory),
    }
}

/// The files of a directory and of those in it, by their paths below it.
fn files(disk: &Disk, directory: &str) -> Vec<String> {
    let mut found = Vec::new();
    for name in disk.list(directory, Eyes::Truth) {
        let path = format!("{directory}/{name}");
        match disk.stat(&path, Eyes::Truth).is_some_and(|s| s.directory) {
            true => found.extend(files(disk, &path).into_iter().map(|below| format!("{name}/{below}"))),
            false => found.push(name),
        }
    }
    found
}

fn archives(disk: &Disk) -> Vec<Archive> {
    let names = disk.list(layout::BY_ID, Eyes::Truth);
    let names = names.iter().filter(|n| !n.starts_with('.'));
    let read = |name: &String| {
        let bytes = disk.read(&format!("{}/{name}", layout::BY_ID), Eyes::Truth).unwrap_or_default();
        serde_json::from_slice(&bytes).expect("an archive reads back")
    };
    names.map(read).collect()
}

/// What has not come to its end yet, if anything.
pub(crate) fn unquiet(play: &Play, schedule: &Schedule) -> Option<String> {
    {
        let broker = play.world.broker();
        if !broker.is_quiet() {
            return Some("requests or tasks wait".into());
        }
    }
    let disk = play.world.disk();
    for job in &schedule.jobs {
        let id = JobId::parse(&job.id).expect("an id");
        if !disk.exists(&layout::archive_by_id(&id)) {
            return Some(format!("job {} has no archive", job.id));
        }
    }
    let left: Vec<String> =
        disk.list(layout::TEMP, Eyes::Truth).into_iter().filter(|name| name != "trash").collect();
    if !left.is_empty() {
        return Some(format!("{left:?} stay in .temp"));
    }
    for ((directory, base), (_, _, newest)) in newest(&archives(&disk)) {
        let shown = match play.world.has_depot {
            true => play.world.depot().latest(directory.as_ref(), &base),
            false => {
                let pointed =
                    disk.pointed(&format!("{}/{base}", layout::latest(directory.as_ref())), Eyes::Truth);
                pointed.and_then(|to| Some(layout::public(directory.as_ref(), to.strip_prefix("../")?)))
            }
        };
        if shown.as_ref() != Some(&newest) {
            return Some(format!("readers find {shown:?} instead of {newest}"));
        }
    }
    None
}

type Newest = (Timestamp, Timestamp, String);

/// The newest full export of each base name.
fn newest(archives: &[Archive]) -> BTreeMap<(Option<OutputDirectory>, String), Newest> {
    let mut newest: BTreeMap<_, Newest> = BTreeMap::new();
    for archive in archives {
        for table in archive.tables.iter().filter(|t| t.full && t.status == TableStatus::Completed) {
            let (Some(directory), Some(base)) = (table.directory.clone(), table.base.clone()) else {
                continue;
            };
            let snapshot = table.snapshot_time.unwrap_or(archive.received_at);
            let export = (snapshot, archive.committed_at, directory);
            let key = (table.output_directory.clone(), base);
            let known = newest.entry(key).or_insert_with(|| export.clone());
            *known = known.clone().max(export);
        }
    }
    newest
}

/// Checks everything.
pub(crate) fn all(play: &Play, schedule: &Schedule) {
    let world = &play.world;
    let broken = |invariant: &str, what: String| world.broken(invariant, what);
    let disk = world.disk();
    let ledger = play.ledger.lock().unwrap_or_else(PoisonError::into_inner);
    let archives = archives(&disk);
    let mut found = Vec::new();
    for archive in &archives {
        let id = archive.job_id.as_str();
        let root = id.split(".r").next().unwrap_or(id);
        let Some(job) = schedule.jobs.iter().find(|j| j.id == root) else {
            found.push(("I3", format!("nobody asked for job {id}")));
            continue;
        };
        of_job(world, &disk, &ledger, schedule, job, archive, &mut found);
    }
    directories(world, &disk, &archives, &mut found);
    let events = std::mem::take(&mut world.broker().events);
    self::events(&events, &archives, &mut found);
    drop(disk);
    for (invariant, what) in found {
        broken(invariant, what);
    }
}

type Problems = Vec<(&'static str, String)>;

fn of_job(
    world: &World,
    disk: &Disk,
    ledger: &Ledger,
    schedule: &Schedule,
    job: &Job,
    archive: &Archive,
    found: &mut Problems,
) {
    let id = &archive.job_id;
    let by_id = disk.stat(&layout::archive_by_id(id), Eyes::Truth).map(|s| s.inode);
    let by_date = layout::archive_by_date(id, archive.committed_at);
    if disk.stat(&by_date, Eyes::Truth).map(|s| s.inode) != by_id {
        found.push(("archive", format!("{id} is not linked as {by_date}")));
    }
    let names: Vec<&str> =
        archive.tables.iter().map(|t| t.table_name.strip_prefix("s.").unwrap_or(&t.table_name)).collect();
    let unique: BTreeSet<&&str> = names.iter().collect();
    if unique.len() < names.len() {
        found.push(("twice", format!("{id}: {names:?}")));
    }
    let cancelled = archive.status == Status::Cancelled;
    if !id.as_str().contains(".r") && !cancelled && archive.error.is_none() {
        for table in job.tables.iter().filter(|t| !names.contains(&t.as_str())) {
            found.push(("lost", format!("{id}: table {table} is not in the archive")));
        }
    }
    if cancelled && !job.ends_early {
        found.push(("I9", format!("{id} is cancelled, and nobody asked for it")));
    }
    let completed = archive.tables.iter().filter(|t| t.status == TableStatus::Completed).count();
    let status = match (cancelled, completed, archive.tables.len() - completed) {
        (true, ..) => Status::Cancelled,
        (_, _, 0) if archive.error.is_none() => Status::Completed,
        (_, 0, _) => Status::Failed,
        _ => Status::Partial,
    };
    if status != archive.status {
        found.push(("archive", format!("{id} is {:?}, its tables say {status:?}", archive.status)));
    }
    for table in &archive.tables {
        match table.status {
            TableStatus::Completed => rows(world, disk, ledger, job, archive, table, found),
            TableStatus::Failed => failure(world.lives(), schedule, job, archive, table, found),
            TableStatus::Cancelled => {}
        }
    }
}

/// Checks that the schedule explains the failure.
fn failure(
    lives: u64,
    schedule: &Schedule,
    job: &Job,
    archive: &Archive,
    table: &ArchivedTable,
    found: &mut Problems,
) {
    let name = table.table_name.strip_prefix("s.").unwrap_or(&table.table_name);
    let code = table.error.as_ref().map_or("", |e| e.code.as_str());
    let rewritten =
        schedule.events.iter().any(|(_, e)| matches!(e, crate::schedule::Event::Rewrite(t) if t == name));
    let expected = match code {
        "XX001" => schedule.quirks.broken.contains(name),
        "directory_exists" => job.on_conflict == "fail",
        "changed" => rewritten,
        "lineage_lost" => {
            let killed = |e: &crate::schedule::Event| matches!(e, crate::schedule::Event::KillKeepers(_));
            job.snapshot && (lives > schedule.hosts as u64 || schedule.events.iter().any(|(_, e)| killed(e)))
        }
        // Two deaths beside others and three alone make a chunk fail. Random kills of processes count too.
        "poison" => lives >= schedule.hosts as u64 + 4,
        _ => false,
    };
    if !expected {
        found.push((
            "lost",
            format!("{} of {} failed without a reason: {:?}", name, archive.job_id, table.error),
        ));
    }
}

fn rows(
    world: &World,
    disk: &Disk,
    ledger: &Ledger,
    job: &Job,
    archive: &Archive,
    table: &ArchivedTable,
    found: &mut Problems,
) {
    let shown = format!("{} of {}", table.table_name, archive.job_id);
    let Some(directory) = &table.directory else {
        found.push(("lost", format!("{shown} is completed and has no directory")));
        return;
    };
    let there = published(world, disk, directory);
    let mut listed: Vec<String> = table.files.iter().map(|f| f.file.clone()).collect();
    listed.sort_unstable_by(|a, b| a.split('/').cmp(b.split('/')));
    if there != listed {
        found.push(("I4", format!("{shown}: {directory} has {there:?}, the archive lists {listed:?}")));
        return;
    }
    let mut rows: Vec<Row> = Vec::new();
    for file in &table.files {
        let content = match world.has_depot {
            true => world.depot().read(directory, &file.file),
            false => disk.read(&format!("{directory}/{}", file.file), Eyes::Truth),
        };
        let content = content.unwrap_or_default();
        if sum(&content) != file.sha256 || content.len() as u64 != file.rows * 16 {
            found.push(("I10", format!("{shown}: {directory}/{} is not the part of the archive", file.file)));
        }
        let number = |bytes: &[u8]| i64::from_be_bytes(bytes.try_into().expect("eight bytes"));
        rows.extend(content.chunks_exact(16).map(|row| (number(&row[..8]), number(&row[8..]))));
    }
    rows.sort_unstable();
    let name = table.table_name.strip_prefix("s.").unwrap_or(&table.table_name);
    match (job.snapshot, table.snapshot_time) {
        (true, Some(time)) => {
            let expected = ledger.at(name, time.as_second());
            if rows != expected {
                found.push(("I6", format!("{shown}: rows {rows:?}, its snapshot has {expected:?}")));
            }
        }
        (true, None) => found.push(("I6", format!("{shown} has no snapshot"))),
        (false, _) => {
            let mut ids: Vec<i64> = rows.iter().map(|r| r.0).collect();
            ids.dedup();
            let strange = rows.iter().any(|row| !ledger.ever(name, *row));
            if strange || ids.len() < rows.len() {
                found.push(("I6", format!("{shown}: rows {rows:?} were never there, or are there twice")));
            }
            let expected: Vec<i64> = ledger.at(name, i64::MAX).iter().map(|r| r.0).collect();
            if !ledger.rewritten.contains(name) && ids != expected {
                found.push(("I6", format!("{shown}: rows {ids:?} instead of {expected:?}")));
            }
        }
    }
}

/// Checks that each table of each job has its own directory, and that no other directory exists.
fn directories(world: &World, disk: &Disk, archives: &[Archive], found: &mut Problems) {
    let mut claimed: BTreeSet<&str> = BTreeSet::new();
    for archive in archives {
        for directory in archive.tables.iter().filter_map(|t| t.directory.as_deref()) {
            if !claimed.insert(directory) {
                found.push(("twice", format!("{directory} belongs to two tables")));
            }
        }
    }
    let in_depot = world.depot().directories();
    for path in in_depot.iter().filter(|path| !claimed.contains(path.as_str())) {
        found.push(("twice", format!("{path} belongs to no archive")));
    }
    let crm = OutputDirectory::parse("crm").expect("valid");
    for output in [None, Some(&crm)] {
        for name in disk.list(output.map_or("", OutputDirectory::as_str), Eyes::Truth) {
            let path = layout::public(output, &name);
            if !name.starts_with('.') && path != "crm" && !claimed.contains(path.as_str()) {
                found.push(("twice", format!("{path} belongs to no archive")));
            }
        }
    }
}

fn events(events: &[Event], archives: &[Archive], found: &mut Problems) {
    let mut first: BTreeMap<&str, &Event> = BTreeMap::new();
    for event in events {
        if matches!(event.kind, EventType::JobProgress | EventType::JobStalled | EventType::JobRejected) {
            continue;
        }
        let known = first.entry(&event.id).or_insert(event);
        if *known != event {
            found.push(("I5", format!("two events have the id {}: {known:?} and {event:?}", event.id)));
        }
    }
    let of = |job: &JobId| {
        let job = job.clone();
        first.values().filter(move |e| e.data.job_id.as_ref() == Some(&job))
    };
    for archive in archives {
        let ends: Vec<EventType> = of(&archive.job_id).map(|e| e.kind).filter(|k| k.is_final()).collect();
        if ends != [archive.status.event()] {
            found.push((
                "I5",
                format!("{} is {:?}, and its ends are {ends:?}", archive.job_id, archive.status),
            ));
        }
        for table in &archive.tables {
            let told = |kind: EventType| {
                of(&archive.job_id).any(|e| {
                    e.kind == kind
                        && e.data
                            .tables
                            .iter()
                            .any(|t| t.table == table.table_name && t.directory == table.directory)
                })
            };
            let holds = match table.status {
                TableStatus::Completed => told(EventType::TableCompleted),
                TableStatus::Failed => told(EventType::TableFailed),
                TableStatus::Cancelled => true,
            };
            if !holds {
                found.push(("I5", format!("no event tells of {} of {}", table.table_name, archive.job_id)));
            }
        }
    }
}
