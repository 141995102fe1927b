//! Drawings as inline SVG. They have no style attributes, which the Content-Security-Policy forbids: classes and
//! attributes say everything.

use std::fmt::Write;

use maud::{Markup, html};

use crate::status::chunks::{ChunkMap, DaemonLine, TimelineView};
use crate::status::overview::Minute;
use crate::text::{Rows, bytes_text, count, seconds_text};

/// Width of drawings that fill their place.
const WIDE: f64 = 1000.0;
/// Cells of a map in a row.
const COLUMNS: usize = 60;

/// A bar that is filled to a percentage.
#[must_use]
pub fn progress(name: &str, percent: f64) -> Markup {
    let percent = percent.clamp(0.0, 100.0);
    html! {
        svg.progress viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label={ (name) ": " (format!("{percent:.0}")) " %" } {
            rect.empty width="100" height="6" {}
            rect.done width=(format!("{percent:.1}")) height="6" {}
        }
    }
}

/// How many of something are used.
#[must_use]
pub fn meter(name: &str, used: u64, all: u64) -> Markup {
    let share = if all == 0 { 0.0 } else { used as f64 / all as f64 * 100.0 };
    html! {
        svg.progress viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label={ (name) ": " (used) " of " (all) } {
            rect.empty width="100" height="6" {}
            rect.running width=(format!("{:.1}", share.min(100.0))) height="6" {}
        }
    }
}

/// The chunks of a table in four parts.
#[must_use]
pub fn shares(done: u32, running: u32, failed: u32, all: u32) -> Markup {
    let width = |n: u32| if all == 0 { 0.0 } else { f64::from(n) / f64::from(all) * 100.0 };
    let parts = [("done", done), ("running", running), ("failed", failed)];
    let starts = parts.iter().scan(0.0, |at, (_, n)| {
        let start = *at;
        *at += width(*n);
        Some(start)
    });
    let starts: Vec<f64> = starts.collect();
    html! {
        svg.progress viewBox="0 0 100 6" preserveAspectRatio="none" role="img"
            aria-label={ (done) " of " (all) " done, " (running) " running, " (failed) " failed" } {
            rect.empty width="100" height="6" {}
            @for ((class, n), start) in parts.into_iter().zip(starts) {
                @if n > 0 {
                    rect.(class) x=(format!("{start:.1}")) width=(format!("{:.1}", width(n))) height="6" {}
                }
            }
        }
    }
}

/// Sixty minutes as bars.
#[must_use]
pub fn hour(name: &str, minutes: &[Minute], value: fn(&Minute) -> u64, text: fn(u64) -> String) -> Markup {
    let most = minutes.iter().map(value).max().unwrap_or(0);
    let step = WIDE / minutes.len().max(1) as f64;
    let mut path = String::new();
    for (i, minute) in minutes.iter().enumerate() {
        let height = if most == 0 { 0.0 } else { value(minute) as f64 / most as f64 * 96.0 };
        if height > 0.0 {
            let (x, width) = (i as f64 * step + 1.5, step - 3.0);
            let height = height.max(1.0);
            let _ = write!(path, "M{x:.1} {:.1}h{width:.1}v{height:.1}h-{width:.1}z", 100.0 - height);
        }
    }
    let total: u64 = minutes.iter().map(value).sum();
    html! {
        figure.hour {
            figcaption { span { (name) } span.more { "peak " (text(most / 60)) "/s · " (text(total)) " in 60 min" } }
            svg viewBox={ "0 0 " (WIDE) " 100" } preserveAspectRatio="none" role="img"
                aria-label={ (name) " in the last hour: " (text(total)) ", at most " (text(most)) " in a minute" } {
                path.grid d="M0 0.5H1000M0 50H1000M0 99.5H1000" {}
                path.bars d=(path) {}
            }
            div.axis aria-hidden="true" { span { "60 min ago" } span { "now" } }
        }
    }
}

/// Rows for [`hour`].
#[must_use]
pub fn rows_text(rows: u64) -> String {
    Rows(rows).to_string()
}

/// The states of chunks as cells.
#[must_use]
pub fn map(map: &ChunkMap) -> Markup {
    let height = map.cells.len().div_ceil(COLUMNS).max(1) * 10;
    let columns = map.cells.len().clamp(1, COLUMNS);
    let summary =
        format!("{} done, {} running, {} failed, {} waiting", map.done, map.running, map.failed, map.waiting);
    html! {
        figure.map {
            svg.few[columns < COLUMNS] viewBox={ "0 0 " (COLUMNS * 10) " " (height) } role="img" aria-label={ "Map of " (count(map.chunks, "chunk")) ": " (summary) } {
                @for (i, cell) in map.cells.iter().enumerate() {
                    @let partly = cell.done > 0 && cell.done < cell.chunks;
                    rect.(cell.state.as_str()).partly[partly] x=(i % COLUMNS * 10) y=(i / COLUMNS * 10) {
                        title {
                            (short(&cell.table)) " · "
                            @if cell.chunks > 1 { (count(cell.chunks.into(), "chunk")) " from " (cell.chunk) ", " (cell.done) " done" }
                            @else { "chunk " (cell.chunk) }
                            " · " (cell.state.as_str())
                            @if let Some(host) = &cell.host { " on " (host) }
                        }
                    }
                }
            }
            figcaption.legend {
                (key("done", map.done)) (key("running", map.running)) (key("failed", map.failed)) (key("waiting", map.waiting))
                @if map.per_cell > 1 { span.more { "one cell is " (count(map.per_cell, "chunk")) } }
            }
        }
    }
}

fn key(state: &'static str, number: u64) -> Markup {
    html! {
        span.key { svg viewBox="0 0 10 10" width="11" height="11" aria-hidden="true" { rect.(state) width="10" height="10" rx="2" {} } (number) " " (state) }
    }
}

/// Who worked when.
#[must_use]
pub fn timeline(view: &TimelineView) -> Markup {
    let (Some(from), Some(to)) = (view.from, view.to) else {
        return html! { p.none { "No chunk has begun." } };
    };
    let length = (to.as_millisecond() - from.as_millisecond()).max(1) as f64;
    html! {
        figure.timeline {
            @for line in &view.daemons {
                div.lane {
                    p { strong { (line.host) } " " span.more title=(line.instance) { (count(line.chunks, "chunk")) } }
                    @if line.busy.is_empty() { (bars(line, length)) } @else { (busy(line)) }
                }
            }
            div.lane.axis aria-hidden="true" {
                span {}
                div { span { (from.strftime("%H:%M:%S")) } span { (seconds_text(length / 2e3)) } span { (to.strftime("%H:%M:%S")) } }
            }
            @if view.daemons.iter().flat_map(|d| &d.bars).any(|bar| bar.slow) {
                p.legend { span.key { svg viewBox="0 0 10 10" width="11" height="11" aria-hidden="true" { rect.slow width="10" height="10" rx="2" {} } "took more than three times as long as the middle chunk" } }
            }
            @if view.daemons_left_out > 0 { p.more { (count(view.daemons_left_out, "daemon")) " with less work left out" } }
            @if view.chunks_left_out > 0 { p.more { (count(view.chunks_left_out, "chunk")) " left out: the archive keeps the longest 200,000" } }
        }
    }
}

fn bars(line: &DaemonLine, length: f64) -> Markup {
    let lanes = line.lanes.max(1);
    let lane = (64.0 / f64::from(lanes)).clamp(5.0, 16.0);
    html! {
        svg viewBox={ "0 0 " (WIDE) " " (format!("{:.0}", lane * f64::from(lanes))) } preserveAspectRatio="none"
            height=(format!("{:.0}", lane * f64::from(lanes))) role="img"
            aria-label={ (line.host) ": " (count(line.chunks, "chunk")) ", at most " (line.lanes) " at once, " (seconds_text(line.seconds)) " of work" } {
            rect.empty width=(WIDE) height="100%" {}
            @for bar in &line.bars {
                rect.(bar.state.as_str()).slow[bar.slow].vain[bar.in_vain]
                    x=(format!("{:.1}", bar.start as f64 / length * WIDE))
                    y=(format!("{:.1}", f64::from(bar.lane) * lane + 0.5))
                    width=(format!("{:.1}", (bar.duration as f64 / length * WIDE - 0.6).max(0.9)))
                    height=(format!("{:.1}", lane - 1.0)) {
                    title {
                        (short(&bar.table)) " · chunk " (bar.chunk) " · " (seconds_text(bar.duration as f64 / 1e3)) " · " (bar.state.as_str())
                        @if bar.in_vain { " · planned again later" }
                    }
                }
            }
        }
    }
}

fn busy(line: &DaemonLine) -> Markup {
    let most = f64::from(line.busy.iter().copied().fold(0.0_f32, f32::max)).max(1.0);
    let step = WIDE / line.busy.len().max(1) as f64;
    let mut path = "M0 40".to_owned();
    for (i, now) in line.busy.iter().enumerate() {
        let (x, y) = (i as f64 * step, 40.0 - f64::from(*now) / most * 38.0);
        let _ = write!(path, "L{x:.1} {y:.1}H{:.1}", x + step);
    }
    path.push_str("V40z");
    html! {
        svg viewBox={ "0 0 " (WIDE) " 40" } preserveAspectRatio="none" height="40" role="img"
            aria-label={ (line.host) ": " (count(line.chunks, "chunk")) ", at most " (line.lanes) " at once, " (seconds_text(line.seconds)) " of work" } {
            rect.empty width=(WIDE) height="40" {}
            path.done d=(path) { title { "how many chunks ran at once, at most " (line.lanes) } }
        }
    }
}

/// Bytes for [`hour`].
#[must_use]
pub fn bytes(number: u64) -> String {
    bytes_text(number)
}

/// The end of a long name, for what many cells repeat.
fn short(name: &str) -> String {
    const MOST: usize = 40;
    let length = name.chars().count();
    if length <= MOST {
        name.to_owned()
    } else {
        format!("…{}", name.chars().skip(length - MOST).collect::<String>())
    }
}
