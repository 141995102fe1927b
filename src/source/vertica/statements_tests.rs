//! The list of the documentation against the statements that code can make.

use super::super::condition::{Condition, HashRange, HashedColumn, KeyType};
use super::*;
use crate::source::decode::Form;

/// The templates of `docs/vertica-statements.md`.
fn listed() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/vertica-statements.md");
    let text = std::fs::read_to_string(path).expect("the list");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let (template, page) = row.split_once("` |").expect("a template in a row");
        assert!(page.contains("](https://"), "{template} has no page of the documentation");
        template.to_owned()
    })
    .collect()
}

/// The templates without optional parts, in all combinations.
fn combinations(template: &str) -> Vec<String> {
    let Some(start) = template.find('[') else { return vec![template.to_owned()] };
    let end = start + template[start..].find(']').expect("a closing bracket");
    let (before, part, after) = (&template[..start], &template[start + 1..end], &template[end + 1..]);
    let rest = combinations(after);
    rest.iter().flat_map(|rest| [format!("{before}{part}{rest}"), format!("{before}{rest}")]).collect()
}

/// The template of a chunk's rows, without its optional parts. Its places would fit every SELECT.
const ROWS: &str = "SELECT {columns} FROM {table}";

/// Whether a statement has the form of a template, in which `{…}` stands for any text. What the template of a
/// chunk's rows reads is a quoted name.
fn has_form(statement: &str, template: &str) -> bool {
    if template.contains(ROWS) && !reads_a_quoted_table(statement) {
        return false;
    }
    let mut parts = template.split('{').enumerate().map(|(i, part)| match i {
        0 => part,
        _ => part.split_once('}').expect("a closing brace").1,
    });
    let Some(mut rest) = parts.next().and_then(|first| statement.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.len() > part.len() && rest.ends_with(part);
        }
        match rest.get(1..).and_then(|later| later.find(part)) {
            Some(at) => rest = &rest[1 + at + part.len()..],
            None => return false,
        }
    }
    false
}

/// Whether a statement begins as one of a chunk's rows: with a list of columns, and `FROM` a quoted name.
fn reads_a_quoted_table(statement: &str) -> bool {
    let of_columns = |list: &str| {
        list.split(", ")
            .all(|column| ["\"", "(\"", "ST_AsBinary(\""].iter().any(|begin| column.starts_with(begin)))
    };
    let select = match statement.strip_prefix("AT EPOCH ") {
        Some(rest) => rest.split_once(' ').map_or("", |(_, select)| select),
        None => statement,
    };
    select
        .strip_prefix("SELECT ")
        .and_then(|rest| rest.split_once(" FROM \""))
        .is_some_and(|(list, _)| of_columns(list))
}

fn reading(fetch: Fetch) -> Reading {
    Reading { fetch, form: Form::Text, infinity: None, table: 1, column: String::new(), is_view: false }
}

/// One of each statement, with names and values that are hard to quote.
fn samples() -> Vec<Statement> {
    let plain = From { epoch: None, schema: "s", name: "t", filter: None };
    let hard =
        From { epoch: Some(Epoch(88)), schema: "my \"s", name: "it's", filter: Some("\"a\" = 1 -- b") };
    let column = |name: &str| HashedColumn { name: name.into(), source_type: "int".into() };
    let hash = HashRange { columns: vec![column("a"), column("b\"")], from: None, to: Some(5) };
    let key = |from: Option<&str>, to: Option<&str>| Condition::Key {
        column: "k".into(),
        ty: KeyType::Numeric { precision: 12, scale: 2 },
        from: from.map(str::to_owned),
        to: to.map(str::to_owned),
    };
    let readings = [Fetch::Native, Fetch::AsText, Fetch::AsLongText, Fetch::AsShape].map(reading);
    let names = ["a", "b\"", "c", "d"];
    let columns = || names.into_iter().zip(&readings);
    let mut all = vec![
        version(),
        time_zone(),
        date_style(),
        resource_pool("my \"pool"),
        nodes(),
        epochs(),
        tables(),
        views(),
        policies(),
        complex_types(),
        keys(),
        rights(&[1]),
        rights(&[1, 2]),
        columns_now("s", "it's \\", false),
        columns_now("s", "v", true),
    ];
    for of in [&[7, 8][..], &[0; TABLES_AT_ONCE + 1]].map(Wanted) {
        all.extend([super::columns(of), view_columns(of), projections(of), leading_columns(of), sizes(of)]);
    }
    for from in [plain, hard] {
        all.push(counts(from.epoch, &[from, plain]));
        all.extend([count(&from), maximum(&from, "k\""), every_nth(&from, "k", 5_000_000)]);
        for condition in [
            None,
            Some(Condition::Hash(hash.clone())),
            Some(key(None, Some("1"))),
            Some(key(Some("1"), Some("2"))),
            Some(Condition::Null { column: "k".into() }),
        ] {
            all.push(rows(&from, columns(), condition.as_ref()));
        }
    }
    all
}

#[test]
fn every_statement_is_listed_with_its_page_and_every_listed_one_is_sent() {
    let listed = listed();
    let templates: Vec<(usize, String)> = listed
        .iter()
        .enumerate()
        .flat_map(|(i, template)| combinations(template).into_iter().map(move |one| (i, one)))
        .collect();
    let mut used = vec![false; listed.len()];
    for statement in samples() {
        let found = templates.iter().find(|(_, template)| has_form(statement.text(), template));
        let (i, _) = found.unwrap_or_else(|| panic!("docs/vertica-statements.md lacks {}", statement.text()));
        used[*i] = true;
    }
    let unused: Vec<&String> = listed.iter().zip(&used).filter(|(_, used)| !**used).map(|(t, _)| t).collect();
    assert!(unused.is_empty(), "nobody sends {unused:?}");
}

#[test]
fn a_statement_that_is_not_listed_is_found() {
    let templates: Vec<String> = listed().iter().flat_map(|template| combinations(template)).collect();
    for statement in [
        "SELECT 1",
        "DROP TABLE \"s\".\"t\"",
        "SELECT version() ",
        "EXPLAIN SELECT \"a\" FROM \"s\".\"t\"",
        "SELECT node_name FROM v_catalog.nodes",
        "SELECT COUNT(DISTINCT \"a\") FROM \"s\".\"t\"",
        "AT EPOCH 7 SELECT MIN(\"a\") FROM \"s\".\"t\"",
        "SELECT q.k FROM (SELECT \"a\" FROM \"s\".\"t\") q",
    ] {
        let found = templates.iter().find(|template| has_form(statement, template));
        assert_eq!(found, None, "{statement} passes");
    }
}

#[test]
fn names_values_and_filters_are_quoted() {
    let from = From { epoch: Some(Epoch(7)), schema: "s\"", name: "t", filter: Some("a -- b") };
    let reading = reading(Fetch::Native);
    let key = Condition::Null { column: "k\"".into() };
    let statement = rows(&from, [("c\"", &reading)].into_iter(), Some(&key));
    assert_eq!(
        statement.text(),
        "AT EPOCH 7 SELECT \"c\"\"\" FROM \"s\"\"\".\"t\" WHERE (\na -- b\n) AND \"k\"\"\" IS NULL"
    );
    assert!(columns_now("s", "it's", false).text().contains("c.table_name = 'it''s'"));
    assert_eq!(resource_pool("a\"b").text(), "SET SESSION RESOURCE_POOL = \"a\"\"b\"");
}

#[test]
fn few_tables_are_named_and_of_many_all_are_asked_for() {
    let few = sizes(Wanted(&[7, 8]));
    assert!(few.text().contains(" WHERE anchor_table_id IN (7, 8) GROUP BY"), "{}", few.text());
    assert!(leading_columns(Wanted(&[7])).text().ends_with("sort_position = 0 AND table_id IN (7)"));
    for all in [&[][..], &[1; TABLES_AT_ONCE + 1]] {
        assert!(!super::columns(Wanted(all)).text().contains("WHERE"));
    }
}

#[test]
fn only_one_place_hands_sql_to_the_client() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/source/vertica");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
        let code = text.split("\nmod tests").next().unwrap_or_default();
        let makes = code
            .lines()
            .filter(|line| line.contains("wire::Statement {") && !line.trim_start().starts_with("fn of"));
        found.extend(makes.map(|_| entry.file_name().into_string().expect("UTF-8")));
    }
    found.retain(|file| file != "statements_tests.rs");
    assert_eq!(found, ["sessions.rs"]);
}
