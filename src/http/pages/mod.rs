//! The pages of the status page, rendered here, without any external asset. A page is a list of sections; those
//! that change are sent again by `live`.

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::status::picture::{JobBrief, Phase, TablePicture};
use crate::text::{Rows, bytes_text, seconds_text};

pub mod charts;
pub mod job;
pub mod manual;
pub mod overview;
pub mod table;
pub mod tables;

/// Seconds after which a browser without JavaScript loads the page again.
const RELOAD: u32 = 10;

/// A page.
pub struct Page {
    /// Its title.
    pub title: String,
    /// The entry of the navigation that it belongs to.
    pub place: Place,
    /// What comes before the sections and stays as it is.
    pub lead: Markup,
    /// Its sections, by their ids.
    pub sections: Vec<(&'static str, Markup)>,
    /// Whether it changes.
    pub live: bool,
}

/// An entry of the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The first page.
    Overview,
    /// The tables.
    Tables,
    /// The manual.
    Manual,
}

/// Who answers.
pub struct Here {
    /// Host of the daemon.
    pub host: String,
    /// Path and query of the page, for `live`.
    pub path: String,
    /// Changes with the assets, so that browsers load them again.
    pub assets: String,
}

impl Page {
    /// The whole document.
    #[must_use]
    pub fn document(&self, here: &Here) -> String {
        let link = |place: Place, path: &str, name: &str| {
            html! { a href=(path) aria-current=[(place == self.place).then_some("page")] { (name) } }
        };
        let document = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) " · ADU Export" }
                    link rel="icon" type="image/svg+xml" href={ "/icon.svg?" (here.assets) };
                    link rel="stylesheet" href={ "/style.css?" (here.assets) };
                    @if self.live {
                        noscript { meta http-equiv="refresh" content=(RELOAD); }
                        script defer src={ "/live.js?" (here.assets) } data-path=(here.path) {}
                    }
                }
                body {
                    a.skip href="#content" { "Skip to the content" }
                    header {
                        div.bar {
                            a.brand href="/" aria-label="ADU Export: overview" { (logo()) span { "ADU Export" } }
                            nav aria-label="Pages" {
                                (link(Place::Overview, "/", "Overview"))
                                (link(Place::Tables, "/tables", "Tables"))
                                (link(Place::Manual, "/operations", "Operations"))
                            }
                            p.here {
                                @if self.live {
                                    span #live role="status" data-state="reload" { "reloads every " (RELOAD) " s" }
                                }
                                span.host title="The daemon that answers" { (here.host) }
                            }
                        }
                    }
                    main #content tabindex="-1" {
                        (self.lead)
                        @for (id, section) in &self.sections {
                            section id=(id) { (section) }
                        }
                    }
                    footer { p { "Read-only. What is shown is also JSON: " a href="/api/openapi.json" { "/api" } " · version " (env!("CARGO_PKG_VERSION")) } }
                }
            }
        };
        document.into_string()
    }
}

/// A page that says what went wrong.
#[must_use]
pub fn problem(title: &str, message: &str) -> Page {
    Page {
        title: title.into(),
        place: Place::Overview,
        lead: html! {
            h1 { (title) }
            div.trouble.alarm { p { (message) } p { a href="/" { "Back to the overview" } } }
        },
        sections: Vec::new(),
        live: false,
    }
}

fn logo() -> Markup {
    html! {
        svg viewBox="0 0 32 32" width="26" height="26" aria-hidden="true" {
            rect.mark x="1" y="1" width="30" height="30" rx="7" {}
            path.line d="M8 22V13M14 22V9M20 22V16M26 22V11" {}
        }
    }
}

/// The state of a job or table as a badge. Its shape tells it apart without colour.
#[must_use]
pub fn badge(state: &str) -> Markup {
    let sign = match state {
        "running" | "alive" => "▶",
        "completed" | "done" => "✓",
        "failed" | "alarm" => "✕",
        "partial" | "warning" | "silent" => "!",
        "cancelled" | "cancelling" => "⊘",
        _ => "…",
    };
    html! { span.badge.(state) { span aria-hidden="true" { (sign) } " " (state) } }
}

/// A moment, told by its distance from now.
#[must_use]
pub fn moment(at: Timestamp, now: Timestamp) -> Markup {
    let seconds = now.duration_since(at).as_secs_f64();
    html! {
        time datetime=(at) title=(clock(at)) {
            @if seconds >= 0.0 { (seconds_text(seconds)) " ago" } @else { "in " (seconds_text(-seconds)) }
        }
    }
}

/// A moment, told by date and time.
#[must_use]
pub fn clock(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A number of rows, short; the whole number is its title.
#[must_use]
pub fn rows(number: u64) -> Markup {
    html! { span title={ (number) " rows" } { (Rows(number)) } }
}

/// A number of bytes, short; the whole number is its title.
#[must_use]
pub fn bytes(number: u64) -> Markup {
    html! { span title={ (number) " bytes" } { (bytes_text(number)) } }
}

/// Bytes per second.
#[must_use]
pub fn bytes_rate(rate: f64) -> String {
    format!("{}/s", bytes_text(rate as u64))
}

/// Rows per second.
#[must_use]
pub fn rows_rate(rate: f64) -> String {
    format!("{}/s", Rows(rate as u64))
}

/// How far a job is, in percent of its chunks and rows.
#[must_use]
pub fn percent(job: &JobBrief) -> f64 {
    if job.status == Phase::Completed {
        return 100.0;
    }
    let share = |done: u64, all: u64| if all == 0 { 0.0 } else { done as f64 / all as f64 };
    let chunks = share(job.progress.chunks_done, job.progress.chunks);
    let rows = share(job.progress.rows, job.progress.rows_estimated).min(1.0);
    // Chunks are not equal, estimates are not right: what is further has seen more.
    let most = chunks.max(rows);
    (if job.progress.chunks_done < job.progress.chunks { most.min(0.99) } else { most }) * 100.0
}

/// A value with its name, as a tile.
#[must_use]
pub fn tile(name: &str, value: &Markup, more: &Markup) -> Markup {
    html! { div.tile { dt { (name) } dd { span.value { (value) } span.more { (more) } } } }
}

/// Links to the other pages of a list. `link` makes the address of a page.
#[must_use]
pub fn pager(name: &str, page: u32, pages: u32, link: impl Fn(u32) -> String) -> Markup {
    html! {
        @if pages > 1 {
            nav.pager aria-label=(name) {
                @if page > 1 { a rel="prev" href=(link(page - 1)) { "← Previous" } }
                span { "Page " (page) " of " (pages) }
                @if page < pages { a rel="next" href=(link(page + 1)) { "Next →" } }
            }
        }
    }
}

/// A table that may be wider than its page. Such a region must be reachable by keyboard.
#[must_use]
pub fn scrolls(name: &str, table: &Markup) -> Markup {
    html! { div.scrolls role="group" aria-label=(name) tabindex="0" { (table) } }
}

/// How a table is split, and how it is read.
#[must_use]
pub fn way(table: &TablePicture) -> String {
    match &table.read {
        Some(read) => format!("{}, by {read}", table.strategy),
        None => table.strategy.clone(),
    }
}

/// Text with `commands` in backticks.
#[must_use]
pub fn prose(text: &str) -> Markup {
    let parts = text.split('`').enumerate();
    html! { @for (i, part) in parts { @if i % 2 == 1 { code { (part) } } @else { (part) } } }
}

/// Percent-encodes a value of a query.
#[must_use]
pub fn encoded(value: &str) -> String {
    percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// The icon of the browser's tab.
#[must_use]
pub fn icon() -> String {
    let PreEscaped(svg) = html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" {
            rect x="1" y="1" width="30" height="30" rx="7" fill="#1f6f5c" {}
            path d="M8 22V13M14 22V9M20 22V16M26 22V11" stroke="#fff" stroke-width="3" stroke-linecap="round" {}
        }
    };
    svg
}
