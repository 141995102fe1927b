//! The page of a job.

use jiff::Timestamp;
use maud::{Markup, html};
use serde_json::Value;

use super::charts::{self, progress, shares};
use super::{
    Page, Place, badge, bytes, clock, encoded, moment, pager, percent, prose, rows, rows_rate, scrolls, tile,
    way,
};
use crate::message::event::ErrorReport;
use crate::status::picture::{JobBrief, Phase, TablePicture};
use crate::status::{ChunksView, JobTables, Picture, Wanted};
use crate::text::{Rows, bytes_text, count, seconds_text};

/// Relations that are left out, on a page.
const MOST_SKIPPED: usize = 50;
/// Different errors that are shown.
const MOST_ERRORS: usize = 5;
/// Bytes of a request that are shown.
const MOST_REQUEST: usize = 8_000;

/// What the page of a job is made of.
pub struct JobPage<'a> {
    /// The job.
    pub picture: &'a Picture,
    /// Its request, without what is hidden.
    pub request: &'a Value,
    /// Whether nothing is hidden.
    pub details: bool,
    /// Which tables are shown.
    pub wanted: &'a Wanted,
    /// The time.
    pub now: Timestamp,
}

impl JobPage<'_> {
    /// The page.
    #[must_use]
    pub fn page(&self) -> Page {
        let job = &self.picture.brief;
        let chunks = ChunksView::of(self.picture, None);
        let mut sections = vec![
            ("job", head(job, self.now)),
            ("errors", errors(self.picture)),
            ("map", self.map(&chunks)),
            ("timeline", timeline(&chunks)),
            ("tables", self.tables()),
        ];
        if !self.picture.skipped.is_empty() {
            sections.push(("skipped", self.skipped()));
        }
        sections.push(("commands", commands(job)));
        sections.push(("request", self.request()));
        Page {
            title: format!("{} · {}", job.job_id, job.status.as_str()),
            place: Place::Overview,
            lead: html! { p.path { a href="/" { "Overview" } " / job" } },
            sections,
            live: !job.status.is_end(),
        }
    }

    fn map(&self, chunks: &ChunksView) -> Markup {
        html! {
            h2 { "Chunks" span.number { (chunks.map.chunks) } }
            @if chunks.map.chunks == 0 {
                p.none { @if self.picture.brief.epoch == 0 { "The job is not planned yet." } @else { "No table could be planned." } }
            } @else { (charts::map(&chunks.map)) }
        }
    }

    /// The address of a page of the tables.
    fn link(&self, page: u32, state: Option<&str>) -> String {
        let mut query = Vec::new();
        query.extend((page > 1).then(|| format!("page={page}")));
        query.extend(state.map(|state| format!("state={state}")));
        query.extend(self.wanted.search.as_deref().map(|search| format!("search={}", encoded(search))));
        let mark = if query.is_empty() { "" } else { "?" };
        format!("/jobs/{}{mark}{}#tables", self.picture.brief.job_id, query.join("&"))
    }

    fn tables(&self) -> Markup {
        let view = JobTables::of(self.picture, self.wanted);
        let job = &self.picture.brief.job_id;
        let state = self.wanted.state.map(|s| s.as_str());
        let table = html! {
            table {
                thead { tr {
                    th scope="col" { "Table" } th scope="col" { "State" } th.wide scope="col" { "How" } th scope="col" { "Chunks" }
                    th.n scope="col" { "Rows" } th.n.wide scope="col" { "Size" } th.n.wide scope="col" { "Took" } th.wide scope="col" { "Directory" }
                } }
                tbody { @for t in &view.tables { (row(job, t)) } }
            }
        };
        html! {
            h2 { "Tables" span.number { (self.picture.tables.len()) } }
            @if self.picture.tables.len() > 1 {
                div.filter {
                    nav aria-label="Tables by state" {
                        a href=(self.link(1, None)) aria-current=[state.is_none().then_some("true")] { "all" }
                        @for count in &view.states {
                            a href=(self.link(1, Some(count.state.as_str()))) aria-current=[(state == Some(count.state.as_str())).then_some("true")] { (count.state.as_str()) " " span.more { (count.tables) } }
                        }
                    }
                    form method="get" action={ "/jobs/" (job) "#tables" } role="search" {
                        label for="search" { "Name contains" }
                        input #search type="search" name="search" maxlength="200" value=[self.wanted.search.as_deref()];
                        @if let Some(state) = state { input type="hidden" name="state" value=(state); }
                        button { "Show" }
                    }
                }
            }
            @if view.tables.is_empty() { p.none { "No such table." } } @else {
                (scrolls("Tables", &table))
                (pager("Pages of tables", view.page, view.pages, |page| self.link(page, state)))
            }
        }
    }

    fn skipped(&self) -> Markup {
        let skipped = &self.picture.skipped;
        html! {
            details #skipped-list {
                summary { h2 { "Left out" span.number { (skipped.len()) } } }
                ul { @for s in skipped.iter().take(MOST_SKIPPED) { li { code { (s.table) } ": " (s.reason) } } }
                @if skipped.len() > MOST_SKIPPED { p.more { "and " (skipped.len() - MOST_SKIPPED) " more: see the archive" } }
            }
        }
    }

    fn request(&self) -> Markup {
        let text = format!("{:#}", self.request);
        let end = (0..=MOST_REQUEST.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        html! {
            details #request-text {
                summary { h2 { "Request" } }
                @if !self.details { p.more { "Filters and labels are not shown: " code { "http.details" } " is off." } }
                pre tabindex="0" role="group" aria-label="Request" { (text[..end]) }
                @if end < text.len() { p.more { "It goes on: the API has all of it." } }
            }
        }
    }
}

fn head(job: &JobBrief, now: Timestamp) -> Markup {
    let p = &job.progress;
    let percent = percent(job);
    let (left, about) = match (job.committed_at, job.seconds_left) {
        (Some(_), _) => (seconds_text(job.seconds), "from request to end"),
        (None, Some(left)) => (format!("≈ {}", seconds_text(left)), "left"),
        (None, None) => (seconds_text(job.seconds), "since the request"),
    };
    html! {
        div.head.large {
            h1 { (job.job_id) }
            (badge(job.status.as_str()))
            @if let Some(of) = &job.retry_of { span.more { "retries " a href={ "/jobs/" (of) } { (of) } } }
        }
        p.facts {
            span { "source " strong { (job.source) } }
            span { "received " (clock(job.received_at)) " (" (moment(job.received_at, now)) ")" }
            @if let Some(at) = job.committed_at { span { "ended " (clock(at)) } }
            @if job.epoch > 1 { span { "planned " (job.epoch) " times" } }
        }
        (progress("Progress", percent))
        dl.tiles {
            (tile("Done", &html! { (format!("{percent:.0}")) " %" }, &html! { (p.chunks_done) " of " (count(p.chunks, "chunk")) @if job.chunks_running > 0 { ", " (job.chunks_running) " running" } }))
            (tile(if job.committed_at.is_some() { "Took" } else { "Time" }, &html! { (left) }, &html! { (about) }))
            (tile("Tables", &html! { (p.tables_done) "/" (p.tables) }, &html! { @if job.tables_failed > 0 { span.bad { (job.tables_failed) " failed" } } @else { "none failed" } }))
            (tile("Rows", &rows(p.rows), &html! { @if p.rows_estimated > p.rows { "of about " (Rows(p.rows_estimated)) } @else { (rows_rate(job.rows_per_second)) } }))
            (tile("Files", &bytes(p.bytes), &html! { @if job.status == Phase::Running { (rows_rate(job.rows_per_second)) } @else { "Parquet" } }))
        }
    }
}

fn errors(picture: &Picture) -> Markup {
    let failed: Vec<&TablePicture> = picture.tables.iter().filter(|t| t.error.is_some()).collect();
    let of_job = picture.brief.error.as_ref().filter(|_| failed.is_empty());
    // Many tables may fail for one reason.
    let mut groups: Vec<(&ErrorReport, Vec<&TablePicture>)> = Vec::new();
    for table in failed {
        let Some(error) = &table.error else { continue };
        let is_known =
            |(known, _): &(&ErrorReport, _)| known.code == error.code && known.remedy == error.remedy;
        match groups.iter().position(is_known) {
            Some(known) => groups[known].1.push(table),
            None if groups.len() < MOST_ERRORS => groups.push((error, vec![table])),
            None => {}
        }
    }
    html! {
        @if of_job.is_some() || !groups.is_empty() {
            h2 { "Errors" }
            @if let Some(error) = of_job { (one_error(error, &html! {})) }
            @for (error, tables) in &groups {
                (one_error(error, &html! {
                    p.links {
                        @for table in tables.iter().take(10) {
                            a href={ "/jobs/" (picture.brief.job_id) "/tables/" (table.place) } { (table.table) }
                        }
                        @if tables.len() > 10 { a href={ "/jobs/" (picture.brief.job_id) "?state=failed#tables" } { "and " (tables.len() - 10) " more" } }
                    }
                }))
            }
        }
    }
}

/// An error with its remedy.
#[must_use]
pub fn one_error(error: &ErrorReport, more: &Markup) -> Markup {
    html! {
        div.trouble.alarm {
            p { span.sign aria-hidden="true" { "✕" } strong { (cut(&error.message)) } }
            @if let Some(remedy) = &error.remedy { p.remedy { (prose(&cut(remedy))) } }
            p.more { "code " code { (error.code) } @if error.retryable { " · the same request may succeed later" } }
            (more)
        }
    }
}

/// Text as far as it is shown. The API has all of it.
fn cut(text: &str) -> String {
    const MOST: usize = 1000;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// When who worked, and what took longest.
#[must_use]
pub fn timeline(chunks: &ChunksView) -> Markup {
    let table = html! {
        table {
            thead { tr { th scope="col" { "Chunk" } th scope="col" { "Daemon" } th.n scope="col" { "Took" } th.n.wide scope="col" { "× median" } th.wide scope="col" { "Began" } th scope="col" { "State" } } }
            tbody { @for c in &chunks.longest { tr {
                th scope="row" { a href={ "/jobs/" (chunks.job_id) "/tables/" (c.place) } { (c.table) } " " span.more { (c.chunk) } }
                td { (c.host) } td.n { (seconds_text(c.seconds)) } td.n.wide { (c.times_median) } td.wide { (clock(c.started_at)) } td { (badge(c.state.as_str())) }
            } } }
        }
    };
    html! {
        h2 { "Timeline by daemon" }
        @if chunks.timeline.from.is_none() && chunks.map.done > 0 {
            p.none { "The release that exported this did not keep when its chunks ran." }
        } @else { (charts::timeline(&chunks.timeline)) }
        @if chunks.longest.len() > 1 {
            details id="longest" { summary { "The longest chunks" } (scrolls("The longest chunks", &table)) }
        }
    }
}

fn row(job: &crate::message::JobId, t: &TablePicture) -> Markup {
    html! {
        tr {
            th scope="row" { a href={ "/jobs/" (job) "/tables/" (t.place) } { (t.table) } }
            td { (badge(t.state.as_str())) }
            td.wide title=[t.reason.as_deref()] { (way(t)) }
            td.chunks { (shares(t.chunks_done, t.chunks_running, t.chunks_failed, t.chunks)) span.more { (t.chunks_done) "/" (t.chunks) } }
            td.n { (rows(t.rows)) @if !t.ended() && t.estimated_rows > t.rows { span.more { " of ~" (Rows(t.estimated_rows)) } } }
            td.n.wide { (bytes_text(t.bytes)) }
            td.n.wide { @if let Some(seconds) = t.seconds { (seconds_text(seconds)) } }
            td.wide { @if let Some(directory) = &t.directory { code { (directory) } } @else if let Some(error) = &t.error { span.bad { (error.code) } } }
        }
    }
}

fn commands(job: &JobBrief) -> Markup {
    let command = |verb: &str, what: &str| {
        html! { div { dt { (what) } dd { code { "adu-export " (verb) " --config adu-export.toml " (job.job_id) } } } }
    };
    html! {
        h2 { "Commands" }
        dl.commands {
            @match job.status {
                Phase::Waiting | Phase::Running => { (command("status --watch", "Watch it")) (command("cancel", "Cancel it; finished tables stay")) }
                Phase::Cancelling | Phase::Finishing => { (command("status --watch", "Watch it")) }
                Phase::Completed => { (command("verify", "Read the files again and compare them with the archive")) }
                Phase::Partial => { (command("retry", "Export what failed, as a new job")) (command("verify", "Read the files again and compare them with the archive")) }
                Phase::Failed | Phase::Cancelled => { (command("retry", "Export what failed, as a new job")) }
            }
        }
    }
}
