//! The page of a table of a job.

use maud::{Markup, html};

use super::job::{one_error, timeline};
use super::{Page, Place, badge, bytes, charts, pager, prose, rows, scrolls, tile, way};
use crate::folder::files::archive::ArchivedTable;
use crate::status::picture::TablePicture;
use crate::status::tables::paged;
use crate::status::{ChunksView, Picture};
use crate::text::{Rows, count, seconds_text};

/// Files and columns of a page.
const PAGE: usize = 200;

/// The page of the table in a place of a job. `archived` is known when the job has ended.
#[must_use]
pub fn page(picture: &Picture, table: &TablePicture, archived: Option<&ArchivedTable>, page: u32) -> Page {
    let job = &picture.brief.job_id;
    let chunks = ChunksView::of(picture, Some(table.place));
    let mut sections = vec![("table", head(table)), ("how", how(table, archived))];
    if chunks.map.chunks > 0 {
        sections.push((
            "map",
            html! { h2 { "Chunks" span.number { (chunks.map.chunks) } } (charts::map(&chunks.map)) },
        ));
    }
    if !chunks.timeline.daemons.is_empty() {
        sections.push(("timeline", timeline(&chunks)));
    }
    if let Some(archived) = archived {
        sections.push(("files", files(job.as_str(), table.place, archived, page)));
        sections.push(("columns", columns(archived)));
    }
    Page {
        title: format!("{} of {job}", table.table),
        place: Place::Overview,
        lead: html! { p.path { a href="/" { "Overview" } " / job " a href={ "/jobs/" (job) } { (job) } " / table" } },
        sections,
        live: !picture.brief.status.is_end(),
    }
}

fn head(table: &TablePicture) -> Markup {
    html! {
        div.head.large { h1 { (table.table) } (badge(table.state.as_str())) }
        @if let Some(error) = &table.error { (one_error(error, &html! {})) }
        dl.tiles {
            (tile("Chunks", &html! { (table.chunks_done) "/" (table.chunks) }, &html! { (table.chunks_running) " running, " (table.chunks_failed) " failed" }))
            (tile("Rows", &rows(table.rows), &html! { @if table.estimated_rows > table.rows { "of about " (Rows(table.estimated_rows)) } }))
            (tile("Size", &bytes(table.bytes), &html! { (count(table.files.into(), "file")) }))
            @if let Some(seconds) = table.seconds {
                (tile("Took", &html! { (seconds_text(seconds)) }, &html! { @if seconds > 0.0 { (Rows((table.rows as f64 / seconds) as u64)) " rows/s" } }))
            }
        }
    }
}

fn how(table: &TablePicture, archived: Option<&ArchivedTable>) -> Markup {
    html! {
        h2 { "How it is exported" }
        dl.facts-list {
            div { dt { "Strategy" } dd { (way(table)) } }
            @if let Some(reason) = &table.reason { div { dt { "Why" } dd { (prose(reason)) } } }
            @if table.epoch > 1 { div { dt { "Plan" } dd { "number " (table.epoch) ": it was planned again" } } }
            @if let Some(note) = &table.note { div { dt { "Note" } dd { (prose(note)) } } }
            @if let Some(directory) = &table.directory { div { dt { "Directory" } dd { code { (directory) } } } }
            @if let Some(pages) = archived.and_then(|a| a.pages) { div { dt { "Pages" } dd { (pages.read) " read as they are, " (pages.recopied) " by COPY" } } }
            @if let Some(mark) = archived.and_then(|a| a.high_water_mark.as_ref()) { div { dt { "High-water mark" } dd { code { (mark) } } } }
        }
    }
}

fn files(job: &str, place: u32, table: &ArchivedTable, page: u32) -> Markup {
    let (page, pages) = paged(table.files.len(), PAGE, page);
    let shown = table.files.iter().skip((page as usize - 1) * PAGE).take(PAGE);
    let list = html! {
        table {
            thead { tr { th scope="col" { "File" } th.n scope="col" { "Rows" } th.n scope="col" { "Size" } th.wide scope="col" { "SHA-256" } } }
            tbody { @for f in shown { tr {
                th scope="row" { code { (f.file) } } td.n { (rows(f.rows)) } td.n { (bytes(f.bytes)) } td.wide { code.hash { (f.sha256) } }
            } } }
        }
    };
    html! {
        h2 { "Files" span.number { (table.files.len()) } }
        @if table.files.is_empty() { p.none { "It has no files." } } @else {
            (scrolls("Files", &list))
            (pager("Pages of files", page, pages, |page| format!("/jobs/{job}/tables/{place}?page={page}#files")))
        }
    }
}

fn columns(table: &ArchivedTable) -> Markup {
    let list = html! {
        table {
            thead { tr { th scope="col" { "Column" } th scope="col" { "Type in the source" } th scope="col" { "Type in the files" } th.wide scope="col" { "Note" } } }
            tbody { @for c in table.columns.iter().take(PAGE) { tr {
                th scope="row" { (c.name) } td { (c.source_type) } td { (c.file_type) } td.wide { @if let Some(note) = &c.note { (note) } }
            } } }
        }
    };
    html! {
        @if !table.columns.is_empty() {
            h2 { "Columns" span.number { (table.columns.len()) } }
            (scrolls("Columns", &list))
            @if table.columns.len() > PAGE { p.more { "The first " (PAGE) " are shown; the archive has all." } }
        }
    }
}
