//! The page of all tables: the newest export of each.

use maud::{Markup, html};

use super::{Page, Place, badge, bytes, clock, encoded, pager, rows, scrolls};
use crate::status::{TablesView, Wanted};
use crate::text::{count, seconds_text};

/// The page of the newest exports.
#[must_use]
pub fn page(view: &TablesView, wanted: &Wanted) -> Page {
    let search = wanted.search.as_deref();
    Page {
        title: "Tables".into(),
        place: Place::Tables,
        lead: html! {
            h1 { "Tables" }
            p.more { "The newest export of each table, from the archives." }
            form.filter method="get" action="/tables" role="search" {
                label for="search" { "Name contains" }
                input #search type="search" name="search" maxlength="200" value=[search];
                button { "Show" }
            }
        },
        sections: vec![("tables", list(view, search))],
        live: true,
    }
}

fn list(view: &TablesView, search: Option<&str>) -> Markup {
    let link = |page| match search {
        Some(search) => format!("/tables?page={page}&search={}", encoded(search)),
        None => format!("/tables?page={page}"),
    };
    let table = html! {
        table {
            thead { tr {
                th scope="col" { "Table" } th.wide scope="col" { "Source" } th.n scope="col" { "Age" } th.n scope="col" { "Rows" } th.n scope="col" { "Size" }
                th.n scope="col" { "Versions" } th.wide scope="col" { "Directory" } th.wide scope="col" { "Job" }
            } }
            tbody { @for t in &view.tables { tr {
                th scope="row" {
                    (t.table)
                    @if !t.full { " " span.tag title="Some columns or rows were left out" { "part" } }
                    @if let Some(job) = &t.failed_since { " " a.bad href={ "/jobs/" (job) } { "failed since" } }
                }
                td.wide { (t.source) }
                td.n { span title=(clock(t.snapshot_time.unwrap_or(t.exported_at))) { (seconds_text(t.age_seconds)) } }
                td.n { (rows(t.rows)) }
                td.n { (bytes(t.bytes)) }
                td.n { (t.versions) }
                td.wide { code { (t.directory) } @if t.gone { " " (badge("silent")) } }
                td.wide { a href={ "/jobs/" (t.job_id) } { (t.job_id) } }
            } } }
        }
    };
    html! {
        h2.quiet { "Newest exports" }
        p.more {
            (count(view.found, "table"))
            @if view.archives_unread > 0 { " · " (count(view.archives_unread, "archive")) " still to be read" }
        }
        @if view.tables.is_empty() { p.none { @if search.is_some() { "No table has such a name." } @else { "No table was exported yet." } } } @else {
            (scrolls("Tables", &table))
            (pager("Pages of tables", view.page, view.pages, link))
        }
    }
}
