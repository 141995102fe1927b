//! What `http.details` hides: labels, everything that narrows tables by their content, and the words of that in
//! errors, because a server and the parser quote what they did not like.

use std::collections::BTreeSet;

use super::picture::{JobBrief, Picture};
use crate::folder::files::archive::Archive;
use crate::message::ExportRequest;
use crate::message::event::ErrorReport;

/// What stands in place of a word.
const GONE: &str = "…";
/// Shorter words are hidden only in quotes: they are parts of any text.
const SHORT: usize = 4;
/// Words of SQL that tell nothing.
const SQL: [&str; 16] = [
    "true",
    "false",
    "null",
    "like",
    "ilike",
    "between",
    "case",
    "when",
    "then",
    "else",
    "cast",
    "date",
    "interval",
    "timestamp",
    "select",
    "from",
];

/// A request without what is hidden.
pub(super) fn hide_details(request: &mut ExportRequest) {
    request.labels.clear();
    for table in &mut request.tables {
        table.where_ = None;
        table.after = None;
    }
}

/// An archive without what is hidden.
pub(super) fn hide_of_archive(archive: &mut Archive) {
    let words = Words::of(&archive.request);
    archive.labels.clear();
    hide_details(&mut archive.request);
    for table in &mut archive.tables {
        // It is a value of the table, or of the request.
        table.high_water_mark = None;
    }
    let errors = archive.tables.iter_mut().map(|table| &mut table.error).chain([&mut archive.error]);
    errors.flatten().for_each(|error| words.hide(error));
}

/// A picture whose errors have no words of filters. Its request stays whole.
pub(super) fn hide_of_picture(picture: &mut Picture) {
    let words = Words::of(&picture.request);
    let errors = picture.tables.iter_mut().map(|table| &mut table.error).chain([&mut picture.brief.error]);
    errors.flatten().for_each(|error| words.hide(error));
}

/// A job in a line, whose error has no words of the filters of its request.
pub(super) fn hide_of_brief(brief: &mut JobBrief, request: &ExportRequest) {
    if let Some(error) = &mut brief.error {
        Words::of(request).hide(error);
    }
}

/// The words of a request's filters, in lower case.
struct Words(BTreeSet<String>);

impl Words {
    fn of(request: &ExportRequest) -> Self {
        let mut words = BTreeSet::new();
        let mut shown: BTreeSet<String> = SQL.map(str::to_owned).into();
        for table in &request.tables {
            shown.extend(words_of(&table.table.to_string()));
            words.extend(table.where_.iter().flat_map(|filter| words_of(filter)));
            if let Some(after) = &table.after {
                words.extend(words_of(&after.value));
                words.extend(after.overlap.iter().flat_map(|overlap| words_of(overlap)));
            }
        }
        Self(words.difference(&shown).cloned().collect())
    }

    fn hide(&self, error: &mut ErrorReport) {
        for text in [&mut error.message].into_iter().chain(error.remedy.as_mut()) {
            *text = self.hidden(text);
        }
    }

    fn hidden(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(begin) = rest.find(is_of_word) {
            let (before, word) = rest.split_at(begin);
            let end = word.find(|c| !is_of_word(c)).unwrap_or(word.len());
            let (word, after) = word.split_at(end);
            let is_quoted = before.ends_with(['"', '\'', '`']) && after.starts_with(['"', '\'', '`']);
            let matters = is_quoted || word.chars().count() >= SHORT;
            out.push_str(before);
            out.push_str(if matters && self.0.contains(&word.to_lowercase()) { GONE } else { word });
            rest = after;
        }
        out + rest
    }
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn words_of(text: &str) -> impl Iterator<Item = String> {
    text.split(|c| !is_of_word(c)).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::request::RequestMessage;

    #[test]
    fn words_of_filters_leave_errors_and_all_others_stay() {
        let body = r#"{"tables": [
            {"table": "public.orders", "where": "Customer = 'Secret Müller' AND region = 'EU' AND orders.n > 12345"},
            {"table": "public.events", "after": {"column": "at", "value": "2026-11-30 08:00"}}
        ]}"#;
        let Ok(RequestMessage::Export(request)) = RequestMessage::parse(body.as_bytes()) else {
            panic!("valid")
        };
        let words = Words::of(&request);
        for (text, shown) in [
            (
                "public.orders: column \"customer\" does not exist",
                "public.orders: column \"…\" does not exist",
            ),
            (
                "invalid input syntax for type integer: \"Secret Müller\" (chunk 3)",
                "invalid input syntax for type integer: \"… …\" (chunk 3)",
            ),
            ("invalid input value for enum r: \"EU\"", "invalid input value for enum r: \"…\""),
            ("the EU has 12345 orders", "the EU has … orders"),
            ("out of range: \"2026-11-30 08:00\"", "out of range: \"…-11-30 08:00\""),
            ("Expected: end of statement, found: secret", "Expected: end of statement, found: …"),
            ("permission denied for table orders", "permission denied for table orders"),
            ("…", "…"),
            ("", ""),
        ] {
            assert_eq!(words.hidden(text), shown);
        }
    }
}
