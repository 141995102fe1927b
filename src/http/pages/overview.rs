//! The first page: what is wrong, jobs, daemons, sources, storage.

use jiff::Timestamp;
use maud::{Markup, html};

use super::charts::{self, hour, meter, progress};
use super::{
    Page, Place, badge, bytes, bytes_rate, clock, moment, pager, percent, prose, rows, rows_rate, scrolls,
    tile,
};
use crate::status::Overview;
use crate::status::overview::{DaemonView, Severity, SnapshotView, SourceView, Standing, Trouble};
use crate::status::picture::JobBrief;
use crate::text::{Rows, bytes_text, count, seconds_text};

/// Daemons that are shown.
const MOST_DAEMONS: usize = 50;
/// Troubles that are shown.
const MOST_TROUBLES: usize = 30;
/// Before the first look has ended, or if the folder cannot be read.
const NOT_KNOWN: &str = "Not known: the export folder was not read yet.";
/// Seconds for which a daemon that left is shown.
const LEFT: f64 = 600.0;

/// The page of an overview.
#[must_use]
pub fn page(view: &Overview) -> Page {
    Page {
        title: match view.troubles.len() {
            0 => "Overview".into(),
            n => format!("({n}) Overview"),
        },
        place: Place::Overview,
        lead: html! { h1.quiet { "Overview" } },
        sections: vec![
            ("troubles", troubles(view)),
            ("figures", figures(view)),
            ("running", running(view)),
            ("rates", rates(view)),
            ("daemons", daemons(view)),
            ("sources", sources(view)),
            ("places", places(view)),
            ("ended", ended(view)),
        ],
        live: true,
    }
}

fn troubles(view: &Overview) -> Markup {
    if view.troubles.is_empty() {
        return html! {
            h2.quiet { "What is wrong" }
            p.fine { span aria-hidden="true" { "✓ " } "Nothing is wrong." span.more { " Looked at " (clock(view.at)) } }
        };
    }
    html! {
        h2 { "What is wrong" span.number { (view.troubles.len()) } }
        ul.troubles { @for trouble in view.troubles.iter().take(MOST_TROUBLES) { li { (one_trouble(trouble)) } } }
        @if view.troubles.len() > MOST_TROUBLES { p.more { "and " (view.troubles.len() - MOST_TROUBLES) " more: " code { "/api/overview" } } }
    }
}

/// A trouble, what to do, and where to read more.
fn one_trouble(trouble: &Trouble) -> Markup {
    let manual = format!("/operations#{}", trouble.section);
    html! {
        div.trouble.(trouble.severity.as_str()) {
            p {
                span.sign title=(trouble.severity.as_str()) { @if trouble.severity == Severity::Alarm { "✕" } @else { "!" } }
                span.quiet { (trouble.severity.as_str()) ": " }
                strong { (trouble.what) }
            }
            @if let Some(remedy) = &trouble.remedy { p.remedy { (prose(remedy)) } }
            p.links {
                @if let Some(job) = &trouble.job_id { a href={ "/jobs/" (job) } { "Job " (job) } }
                a href=(manual) { "Operations: " (trouble.section.trim_start_matches("alert-").replace('-', " ")) }
            }
        }
    }
}

fn figures(view: &Overview) -> Markup {
    let alive = || view.daemons.iter().filter(|d| d.standing == Standing::Alive);
    let slots: u32 = alive().map(|d| d.slots).sum();
    let tasks: u32 = alive().map(|d| d.tasks).sum();
    let jobs = &view.jobs;
    let today = [
        ("completed", jobs.completed_today),
        ("partial", jobs.partial_today),
        ("failed", jobs.failed_today),
        ("cancelled", jobs.cancelled_today),
    ];
    let parts: Vec<String> =
        today.iter().filter(|(_, n)| *n > 0).map(|(what, n)| format!("{n} {what}")).collect();
    let is_known = view.looked_at.is_some();
    let known = |value: Markup| {
        if is_known {
            value
        } else {
            html! { "?" }
        }
    };
    html! {
        h2.quiet { "Figures" }
        dl.tiles {
            (tile("Running jobs", &known(html! { (jobs.running) }), &html! { @if is_known { (jobs.waiting) " waiting" } @else { "not known yet" } }))
            (tile("Ended today", &known(html! { (jobs.ended_today) }), &html! { @if !is_known { "not known yet" } @else if parts.is_empty() { "since 00:00 UTC" } @else { (parts.join(", ")) } }))
            (tile("Rows", &html! { (rows_rate(view.rates.rows_per_second)) }, &html! { "read now" }))
            (tile("Bytes", &html! { (bytes_rate(view.rates.bytes_per_second)) }, &html! { "read now" }))
            (tile("Daemons", &html! { (alive().count()) }, &html! { (tasks) " of " (count(slots.into(), "slot")) " busy" }))
        }
    }
}

fn rates(view: &Overview) -> Markup {
    let minutes = &view.rates.last_hour;
    html! {
        h2 { "The last hour" }
        div.columns {
            (hour("Rows read", minutes, |m| m.rows, charts::rows_text))
            (hour("Bytes read", minutes, |m| m.bytes, charts::bytes))
        }
    }
}

fn running(view: &Overview) -> Markup {
    let all = view.jobs.running + view.jobs.waiting;
    html! {
        h2 { "Running and waiting jobs" @if all > 0 { span.number { (all) } } }
        @if view.looked_at.is_none() {
            p.none { (NOT_KNOWN) }
        } @else if view.running.is_empty() {
            p.none { "No job runs. " code { "adu-export submit" } " or a message to " code { (view.broker.prefix) ".requests" } " starts one." }
        } @else {
            div.jobs { @for job in &view.running { (running_job(job, view.at)) } }
            @if all as usize > view.running.len() {
                p.more { "The first " (view.running.len()) " of " (all) " are shown." }
            }
        }
    }
}

fn running_job(job: &JobBrief, now: Timestamp) -> Markup {
    let p = &job.progress;
    let percent = percent(job);
    html! {
        article.job {
            div.head {
                h3 { a href={ "/jobs/" (job.job_id) } { (job.job_id) } }
                (badge(job.status.as_str()))
                span.more { (job.source) " · received " (moment(job.received_at, now)) }
                @if job.tables_failed > 0 { span.bad { (count(job.tables_failed.into(), "table")) " failed" } }
            }
            @if p.chunks > 0 {
                (progress(&format!("Progress of {}", job.job_id), percent))
                p.facts {
                    span { strong { (format!("{percent:.0}")) " %" } }
                    span { (p.tables_done) "/" (p.tables) " tables" }
                    span { (p.chunks_done) "/" (p.chunks) " chunks" }
                    span { (Rows(p.rows)) " rows" }
                    span { (bytes_text(p.bytes)) }
                    span { (rows_rate(job.rows_per_second)) }
                    span { @match job.seconds_left {
                        Some(left) => { "about " (seconds_text(left)) " left" }
                        None => { "running for " (seconds_text(job.seconds)) }
                    } }
                }
            }
        }
    }
}

fn daemons(view: &Overview) -> Markup {
    let is_news = |d: &&DaemonView| match d.standing {
        Standing::Alive | Standing::Silent => true,
        Standing::Leaving => d.silent_seconds < LEFT,
        Standing::Replaced => false,
    };
    let mut shown: Vec<&DaemonView> = view.daemons.iter().filter(is_news).collect();
    shown.sort_by_key(|d| d.standing);
    html! {
        h2 { "Daemons" span.number { (view.daemons.iter().filter(|d| d.standing == Standing::Alive).count()) } }
        div.cards { @for daemon in shown.iter().take(MOST_DAEMONS) { (one_daemon(daemon, view.at)) } }
        @if shown.len() > MOST_DAEMONS { p.more { "and " (shown.len() - MOST_DAEMONS) " more: " code { "/api/overview" } } }
    }
}

fn one_daemon(daemon: &DaemonView, now: Timestamp) -> Markup {
    let id = daemon.instance.simple().to_string();
    html! {
        article.card.(daemon.standing.as_str()) {
            div.head {
                h3 title=(daemon.instance) { (daemon.host) " " small { (&id[..8]) } }
                @if daemon.standing != Standing::Alive { (badge(daemon.standing.as_str())) }
                @if daemon.coordinates { span.tag { "coordinator" } }
                @if daemon.here { span.tag { "this page" } }
            }
            @if daemon.standing == Standing::Alive {
                (meter("Slots", daemon.tasks.into(), daemon.slots.into()))
            }
            p.facts {
                @if daemon.standing == Standing::Alive {
                    span { (daemon.tasks) "/" (count(daemon.slots.into(), "slot")) }
                    span { (rows_rate(daemon.rows_per_second)) }
                    span { (bytes_rate(daemon.bytes_per_second)) }
                }
                span { @if daemon.version.is_empty() { "older release" } @else { "v" (daemon.version) } }
                @if let Some(at) = daemon.started_at { span { "started " (moment(at, now)) } }
                span { "heard " (seconds_text(daemon.silent_seconds.floor())) " ago" }
                @if daemon.snapshots > 0 { span { "holds " (count(daemon.snapshots.into(), "snapshot")) } }
            }
            @for obstacle in &daemon.obstacles { p.bad { (obstacle) } }
            @if !daemon.holding.is_empty() {
                details id={ "holds-" (id) } {
                    summary { "Works on " (count(daemon.tasks.into(), "task")) }
                    ul.held {
                        @for held in &daemon.holding {
                            li {
                                @match held.place {
                                    Some(place) => a href={ "/jobs/" (held.job_id) "/tables/" (place) } { (held.what) },
                                    None => a href={ "/jobs/" (held.job_id) } { (held.what) },
                                }
                                span.more { " of " (held.job_id) " · " (seconds_text(held.seconds)) " · " (Rows(held.rows)) " rows · " (bytes_text(held.bytes)) }
                            }
                        }
                    }
                    @if daemon.tasks as usize > daemon.holding.len() {
                        p.more { "and " (daemon.tasks as usize - daemon.holding.len()) " more" }
                    }
                }
            }
        }
    }
}

fn sources(view: &Overview) -> Markup {
    html! {
        h2 { "Sources" }
        div.cards { @for source in &view.sources { (one_source(source)) } }
    }
}

fn one_source(source: &SourceView) -> Markup {
    let size = u64::from(source.pool_size) * u64::from(source.daemons);
    html! {
        article.card {
            div.head { h3 { (source.source) } span.tag { (source.kind) } }
            dl.meters {
                div {
                    dt { "Chunks out" } dd { (source.chunks_out) " of " (source.chunks_allowed) }
                    dd.meter { (meter("Chunks out", source.chunks_out, source.chunks_allowed)) }
                    dd.more { "allowed by " (source.allowed_by) }
                }
                div {
                    dt { "Connections" } dd { (source.pool.busy) " busy, " (source.pool.idle) " idle" @if source.pool.waiting > 0 { ", " span.bad { (source.pool.waiting) " waiting" } } }
                    dd.meter { (meter("Busy connections", source.pool.busy, size)) }
                    dd.more { "at most " (source.pool_size) " on each of " (count(source.daemons.into(), "daemon")) }
                }
            }
            @if source.snapshots.is_empty() { p.more { "No snapshot is held." } }
            @for snapshot in &source.snapshots { (one_snapshot(snapshot)) }
        }
    }
}

fn one_snapshot(snapshot: &SnapshotView) -> Markup {
    html! {
        p.snapshot {
            "Snapshot of " a href={ "/jobs/" (snapshot.job_id) } { (snapshot.job_id) } ": " strong { (seconds_text(snapshot.age_seconds)) } " old"
            @if let Some(allowed) = snapshot.allowed_seconds { " of " (seconds_text(allowed)) " allowed" }
            span.more {
                @if !snapshot.needs_sessions { " · an epoch of the server, which no session has to hold" }
                @else if snapshot.held_by.is_empty() { " · held by no daemon" }
                @else { " · held by " (snapshot.held_by.join(", ")) }
            }
        }
    }
}

fn places(view: &Overview) -> Markup {
    let (storage, broker) = (&view.storage, &view.broker);
    html! {
        h2 { "Storage and broker" }
        div.cards {
            article.card {
                div.head { h3 { "Export folder" } @if storage.paused { span.bad { "workers wait for space" } } }
                p { code { (storage.root) } }
                p.facts {
                    @match storage.free_bytes {
                        Some(free) => { span { strong { (bytes_text(free)) } " free" } span { "chunks wait below " (bytes_text(storage.min_free_bytes)) } }
                        None => span.bad { "free space is not known" },
                    }
                }
                @if let Some(error) = &storage.error { p.bad { (error) } }
            }
            article.card {
                div.head { h3 { "Broker" } (badge(if broker.connected { "alive" } else { "silent" })) }
                p { code { (broker.prefix) } }
                p.facts {
                    span { @if broker.connected { "this daemon is connected" } @else { "this daemon is not connected" } }
                    @if broker.blocked { span.bad { "takes no messages: an alarm of its own" } }
                    span { @match &broker.coordinator { Some(host) => { "coordinated on " (host) } None => "no coordinator is known" } }
                }
            }
        }
    }
}

fn ended(view: &Overview) -> Markup {
    let table = html! {
        table {
            thead { tr {
                th scope="col" { "Job" } th scope="col" { "Status" } th.wide scope="col" { "Source" } th.n scope="col" { "Tables" }
                th.n scope="col" { "Rows" } th.n.wide scope="col" { "Size" } th.n.wide scope="col" { "Took" } th.n.wide scope="col" { "Rows/s" } th scope="col" { "Ended" }
            } }
            tbody { @for job in &view.ended { tr {
                th scope="row" { a href={ "/jobs/" (job.job_id) } { (job.job_id) } }
                td { (badge(job.status.as_str())) }
                td.wide { (job.source) }
                td.n { (job.progress.tables_done) "/" (job.progress.tables) }
                td.n { (rows(job.progress.rows)) }
                td.n.wide { (bytes(job.progress.bytes)) }
                td.n.wide { (seconds_text(job.seconds)) }
                td.n.wide { (Rows(job.rows_per_second as u64)) }
                td { @if let Some(at) = job.committed_at { (moment(at, view.at)) } }
            } } }
        }
    };
    html! {
        h2 { "Ended jobs" }
        @if view.archives_unread > 0 { p.more { (count(view.archives_unread, "archive")) " still to be read" } }
        @if view.looked_at.is_none() { p.none { (NOT_KNOWN) } }
        @else if view.ended.is_empty() { p.none { "No job has ended yet." } }
        @else {
            (scrolls("Ended jobs", &table))
            (pager("Pages of ended jobs", view.page, view.pages, |page| format!("/?page={page}#ended")))
        }
    }
}
