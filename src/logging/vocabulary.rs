//! Compares the log statements of the code with the vocabulary in `docs/LOGS.md`, both ways.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const LEVELS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];

/// What a statement or the page says of an event.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    level: String,
    fields: BTreeSet<String>,
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The files below a directory, without those of tests.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a directory").flatten().map(|entry| entry.path());
    let (directories, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let is_code =
        |path: &PathBuf| path.to_str().is_some_and(|p| p.ends_with(".rs") && !p.ends_with("tests.rs"));
    let below = directories.iter().flat_map(|directory| sources(directory));
    files.into_iter().filter(is_code).chain(below).collect()
}

/// Splits at commas outside of brackets and quotes, up to the bracket that closes a call.
fn arguments(text: &str) -> Vec<String> {
    let (mut arguments, mut depth, mut quoted) = (vec![String::new()], 0_i32, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted && depth == 0 => break,
            ')' | ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                arguments.push(String::new());
                continue;
            }
            _ => {}
        }
        let last = arguments.last_mut().expect("at least one");
        last.push(c);
        if c == '\\' {
            last.extend(chars.next());
        }
    }
    let trimmed = arguments.iter().map(|argument| argument.trim().to_owned());
    trimmed.filter(|argument| !argument.is_empty()).collect()
}

/// The log statements of the code by their events.
fn statements() -> BTreeMap<String, Said> {
    let mut found: BTreeMap<String, Said> = BTreeMap::new();
    for path in sources(&project("src")) {
        let text = std::fs::read_to_string(&path).expect("readable");
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().expect("a piece");
        for level in LEVELS {
            for (at, call) in code.match_indices(&format!("{level}!(")) {
                let before = code[..at].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '"') {
                    continue;
                }
                let place = || format!("{}:{}", path.display(), code[..at].matches('\n').count() + 1);
                let mut fields = arguments(&code[at + call.len()..]);
                let event = fields.pop().expect("arguments");
                let event = event.strip_prefix('"').and_then(|event| event.strip_suffix('"'));
                let event = event.unwrap_or_else(|| panic!("{}: the event is no plain text", place()));
                assert!(!event.contains(['{', '|', '\\']), "{}: an event has no values: {event}", place());
                let name = |field: &String| match field.split_once('=') {
                    Some((name, _)) => name.trim().to_owned(),
                    None => field.trim_start_matches(['%', '?']).to_owned(),
                };
                let fields = fields.iter().filter(|field| !field.starts_with("parent:")).map(name).collect();
                let said = Said { level: level.to_owned(), fields };
                let known = found
                    .entry(event.to_owned())
                    .or_insert_with(|| Said { level: level.to_owned(), ..Said::default() });
                assert_eq!(known.level, said.level, "{}: two levels of {event}", place());
                known.fields.extend(said.fields);
            }
        }
    }
    found
}

/// The rows of the tables in a section of the page.
fn rows(section: &str) -> Vec<Vec<String>> {
    let page = std::fs::read_to_string(project("docs/LOGS.md")).expect("the page");
    let (_, rest) = page.split_once(&format!("\n## {section}\n")).expect("the section");
    let section = rest.split("\n## ").next().expect("a piece");
    let lines = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = lines.map(|line| line.split(" | ").map(str::to_owned).collect::<Vec<_>>());
    rows.filter(|row| !row[0].starts_with("---") && !["event", "field"].contains(&row[0].as_str())).collect()
}

/// The names in code spans.
fn names(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_code_and_the_page_have_the_same_events_with_the_same_fields() {
    let mut documented = BTreeMap::new();
    for row in rows("Events") {
        let [event, level, fields, meaning] = row.try_into().expect("four cells");
        assert!(!meaning.is_empty(), "{event}");
        let said = Said { level, fields: names(&fields) };
        assert!(documented.insert(event.clone(), said).is_none(), "twice: {event}");
    }
    let statements = statements();
    assert!(statements.len() > 80, "only {} statements are found", statements.len());
    for (event, said) in &statements {
        assert_eq!(documented.get(event), Some(said), "docs/LOGS.md: {event}");
    }
    for event in documented.keys() {
        assert!(statements.contains_key(event), "docs/LOGS.md has an event that nothing logs: {event}");
    }
}

#[test]
fn each_field_has_a_meaning_and_a_plain_name() {
    let meanings: BTreeSet<String> = rows("Fields").iter().flat_map(|row| names(&row[0])).collect();
    let of_spans = ["daemon", "job", "epoch", "table", "chunk"].map(str::to_owned);
    let used: BTreeSet<String> =
        statements().into_values().flat_map(|said| said.fields).chain(of_spans).collect();
    assert_eq!(meanings, used);
    for field in used {
        assert!(field.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{field}");
    }
}
