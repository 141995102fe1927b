//! OPERATIONS.md as a page, so that remedies have a place to link to without a network.

use std::fmt::Write;
use std::sync::LazyLock;

use maud::{PreEscaped, html};
use pulldown_cmark::{CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use super::{Page, Place};

const TEXT: &str = include_str!("../../../docs/OPERATIONS.md");

/// The page of the manual.
#[must_use]
pub fn page() -> Page {
    static BODY: LazyLock<String> = LazyLock::new(|| rendered(TEXT));
    Page {
        title: "Operations".into(),
        place: Place::Manual,
        lead: html! { article.manual { (PreEscaped(BODY.as_str())) } },
        sections: Vec::new(),
        live: false,
    }
}

/// The anchors of all headings.
#[must_use]
pub fn anchors() -> Vec<String> {
    let headings = TEXT.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

/// The anchor of a heading, as in links between documents.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// Links to files that are not served here become plain text.
fn rendered(text: &str) -> String {
    let mut events: Vec<Event<'_>> = Vec::new();
    let mut heading: Option<(usize, HeadingLevel, String)> = None;
    let mut unlinked = 0;
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                heading = Some((events.len(), level, String::new()));
                events.push(Event::Html(CowStr::Borrowed("")));
            }
            Event::End(TagEnd::Heading(level)) => {
                if let Some((place, level, words)) = heading.take() {
                    let mut tag = String::new();
                    let _ = write!(tag, "<{level} id=\"{}\">", anchor(&words));
                    events[place] = Event::Html(tag.into());
                }
                events.push(Event::Html(format!("</{level}>\n").into()));
            }
            Event::Start(Tag::Link { ref dest_url, .. })
                if !dest_url.starts_with('#') && !dest_url.starts_with("https://") =>
            {
                unlinked += 1;
            }
            Event::End(TagEnd::Link) if unlinked > 0 => unlinked -= 1,
            Event::Start(Tag::Table(_)) => {
                events.push(Event::Html(
                    "<div class=\"scrolls\" role=\"group\" aria-label=\"Table\" tabindex=\"0\">".into(),
                ));
                events.push(event);
            }
            Event::End(TagEnd::Table) => {
                events.push(event);
                events.push(Event::Html("</div>".into()));
            }
            Event::Text(ref words) | Event::Code(ref words) => {
                if let Some((_, _, heading)) = &mut heading {
                    heading.push_str(words);
                }
                events.push(event);
            }
            event => events.push(event),
        }
    }
    let mut html = String::new();
    pulldown_cmark::html::push_html(&mut html, events.into_iter());
    // Blocks of code scroll, and what scrolls must be reachable by keyboard.
    html.replace("<pre>", "<pre tabindex=\"0\">").replace(" style=\"text-align: right\"", "")
}

/// The heading of a section, for links to it.
#[must_use]
pub fn has(section: &str) -> bool {
    anchors().iter().any(|anchor| anchor == section)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_anchors_and_no_dead_links() {
        let html = rendered(TEXT);
        assert!(html.contains("<h3 id=\"alert-job-stalled\">Alert job stalled</h3>"));
        for part in html.split("href=\"").skip(1) {
            let target = part.split('"').next().unwrap_or_default();
            match target.strip_prefix('#') {
                Some(section) => assert!(has(section), "{target}"),
                None => assert!(target.starts_with("https://"), "{target}"),
            }
        }
        assert!(!html.contains("style="), "the Content-Security-Policy forbids it");
    }
}
