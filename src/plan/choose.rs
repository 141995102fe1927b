//! Chooses the tables of a request: matches its names and patterns with the relations of the survey. Pure. A
//! named table that cannot be exported fails. A matched table that cannot be exported is skipped. Both report
//! why.

use std::collections::{HashMap, HashSet};

use self::family::Candidate;
use super::export_plan::{FailedTable, SkippedRelation};
use crate::message::TableNo;
use crate::message::event::ErrorReport;
use crate::message::pattern::{TablePattern, qualified};
use crate::message::request::{ExportRequest, TableRequest};
use crate::relation::{Frozen, Relation, RelationKind, Selection, SurveyColumn, Unreadable};
use crate::spelling::did_you_mean;

mod family;

/// A table that will be planned.
#[derive(Clone, Debug)]
pub struct ChosenTable<'a> {
    /// Number of the table in the job.
    pub number: TableNo,
    /// Facts of the table.
    pub relation: &'a Relation,
    /// The entry of the request with the options for this table.
    pub request: &'a TableRequest,
    /// The columns to export, in the order of the files.
    pub columns: Vec<&'a SurveyColumn>,
}

impl<'a> ChosenTable<'a> {
    /// `schema.table`
    fn name(&self) -> String {
        qualified(&self.relation.schema, &self.relation.name)
    }

    /// What to read of the table.
    #[must_use]
    pub fn selection(&self, filter: Option<&'a Frozen>) -> Selection<'a> {
        let Relation { schema, name, .. } = self.relation;
        Selection { schema, name, only: self.request.only, filter }
    }
}

/// What each entry of a request led to. Tables get numbers in the order of the request, and by name within a
/// pattern. Failed tables get numbers too.
#[derive(Clone, Debug, Default)]
pub struct Chosen<'a> {
    /// Tables to plan, by number.
    pub tables: Vec<ChosenTable<'a>>,
    /// Named tables that cannot be exported, and patterns without any match.
    pub failed: Vec<FailedTable>,
    /// Relations that patterns matched but that cannot be exported.
    pub skipped: Vec<SkippedRelation>,
    /// Tables that patterns matched and that are left out, because the export of another table in `tables`
    /// contains their rows.
    contained: Vec<ChosenTable<'a>>,
    /// The next free number.
    next: u32,
}

impl<'a> Chosen<'a> {
    fn number(&mut self) -> TableNo {
        let number = TableNo(self.next);
        self.next += 1;
        number
    }

    fn push(&mut self, table: ChosenTable<'a>) {
        let number = self.number();
        self.tables.push(ChosenTable { number, ..table });
    }
}

/// Chooses the tables of a request among the relations of a survey. `children` are tables that patterns
/// matched in an earlier epoch and that were left out. They are chosen if no other table contains them any
/// more. `schemas` are the schemas that requests may name; empty for all.
#[must_use]
pub fn choose<'a>(
    request: &'a ExportRequest,
    children: &'a [TableRequest],
    schemas: &[String],
    relations: &'a [Relation],
) -> Chosen<'a> {
    let allowed: Vec<&Relation> =
        relations.iter().filter(|r| schemas.is_empty() || schemas.contains(&r.schema)).collect();
    let by_name: HashMap<(&str, &str), &Relation> =
        allowed.iter().map(|r| ((r.schema.as_str(), r.name.as_str()), *r)).collect();
    let named: HashSet<(String, String)> = request.tables.iter().filter_map(|t| t.table.literal()).collect();
    let mut choosing = Choosing { items: Vec::new(), skipped: Vec::new(), taken: HashSet::new() };
    for entry in &request.tables {
        let pattern = &entry.table;
        if let Some(schema) = pattern.literal_schema()
            && !schemas.is_empty()
            && !schemas.contains(&schema)
        {
            choosing.fail(pattern.as_str().to_owned(), forbidden_schema(pattern, &schema, schemas));
            continue;
        }
        if let Some((schema, table)) = pattern.literal() {
            match by_name.get(&(schema.as_str(), table.as_str())) {
                Some(relation) => choosing.take_named(relation, entry),
                None => choosing.fail(qualified(&schema, &table), unknown_table(&schema, &table, &allowed)),
            }
            continue;
        }
        let mut found: Vec<&Relation> =
            allowed.iter().copied().filter(|r| may_match(r) && pattern.matches(&r.schema, &r.name)).collect();
        if found.is_empty() {
            choosing.fail(pattern.as_str().to_owned(), no_match(pattern));
            continue;
        }
        found.retain(|r| !request.exclude.iter().any(|e| e.matches(&r.schema, &r.name)));
        if found.is_empty() {
            choosing.fail(pattern.as_str().to_owned(), all_excluded(pattern));
            continue;
        }
        found.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        for relation in found {
            // A table that the request also names keeps the options of that entry.
            if !named.contains(&(relation.schema.clone(), relation.name.clone())) {
                choosing.take_matched(relation, entry);
            }
        }
    }
    for child in children {
        if let Some((schema, name)) = child.table.literal()
            && let Some(relation) = by_name.get(&(schema.as_str(), name.as_str()))
        {
            choosing.take_matched(relation, child);
        }
    }
    choosing.finish()
}

/// Whether patterns may match the relation. Partitions come with their partitioned table. Views and foreign
/// tables must be named.
fn may_match(relation: &Relation) -> bool {
    matches!(relation.kind, RelationKind::Table | RelationKind::Partitioned | RelationKind::MaterializedView)
}

struct Choosing<'a> {
    items: Vec<Item<'a>>,
    skipped: Vec<SkippedRelation>,
    taken: HashSet<(&'a str, &'a str)>,
}

/// What a name or a match of a pattern led to, in the order of the request.
enum Item<'a> {
    Failed(String, ErrorReport),
    Table(Candidate<'a>),
}

impl<'a> Choosing<'a> {
    fn fail(&mut self, table: String, error: ErrorReport) {
        self.items.push(Item::Failed(table, error));
    }

    fn skip(&mut self, relation: &Relation, reason: impl Into<String>) {
        let table = qualified(&relation.schema, &relation.name);
        self.skipped.push(SkippedRelation { table, reason: reason.into(), within: Vec::new() });
    }

    fn first_time(&mut self, relation: &'a Relation) -> bool {
        self.taken.insert((&relation.schema, &relation.name))
    }

    fn take_named(&mut self, relation: &'a Relation, entry: &'a TableRequest) {
        if !self.first_time(relation) {
            return self.skip(relation, "named more than once: the options of its first entry count");
        }
        let name = qualified(&relation.schema, &relation.name);
        let relation = relation.read(entry.only);
        if let Some(Unreadable { why, remedy }) = unreadable(relation, entry) {
            let message = format!("table {name} may not be read: {why}");
            let error = ErrorReport::permanent("unreadable", message, remedy);
            return self.fail(name, error);
        }
        if relation.columns.is_empty() {
            let error = ErrorReport::permanent(
                "no_columns",
                format!("table {name} has no columns: Parquet files need at least one"),
                "leave it out, or add a column",
            );
            return self.fail(name, error);
        }
        self.take(relation, entry, true);
    }

    fn take_matched(&mut self, relation: &'a Relation, entry: &'a TableRequest) {
        if !self.first_time(relation) {
            return;
        }
        let relation = relation.read(entry.only);
        if let Some(Unreadable { why, remedy }) = unreadable(relation, entry) {
            let remedy = if relation.elsewhere.is_some() { format!("; {remedy}") } else { String::new() };
            return self.skip(relation, format!("{why}{remedy}"));
        }
        if relation.columns.is_empty() {
            return self.skip(relation, "it has no columns");
        }
        let every: Vec<&SurveyColumn> = relation.columns.iter().collect();
        if let Some(why) = forbidden(&every).filter(|_| entry.columns.is_none()) {
            return self.skip(relation, &why);
        }
        self.take(relation, entry, false);
    }

    fn take(&mut self, relation: &'a Relation, entry: &'a TableRequest, named: bool) {
        let columns = own_rows(relation, entry)
            .and_then(|()| wanted_columns(relation, entry))
            .and_then(|columns| readable(relation, columns));
        match columns {
            Ok(columns) => {
                let table = ChosenTable { number: TableNo::default(), relation, request: entry, columns };
                self.items.push(Item::Table(Candidate { table, named }));
            }
            Err(error) => self.fail(qualified(&relation.schema, &relation.name), error),
        }
    }

    /// Assigns numbers. It runs last, because the tables that are left out must be known.
    fn finish(self) -> Chosen<'a> {
        let mut chosen = Chosen { skipped: self.skipped, ..Chosen::default() };
        let candidates = self.items.iter().filter_map(|item| match item {
            Item::Table(candidate) => Some(candidate),
            Item::Failed(..) => None,
        });
        let contained = family::contained(candidates);
        for item in self.items {
            match item {
                Item::Table(candidate) if contained.contains(&candidate.table.name()) => {
                    chosen.contained.push(candidate.table);
                }
                Item::Table(candidate) => chosen.push(candidate.table),
                Item::Failed(table, error) => {
                    let number = chosen.number();
                    chosen.failed.push(FailedTable { number, table, error });
                }
            }
        }
        chosen
    }
}

/// Why an entry can read nothing of the relation. For a view, or for partitions with a filter, only the
/// server's planner knows what a query reads, so `elsewhere` is no proof.
fn unreadable<'a>(relation: &'a Relation, entry: &TableRequest) -> Option<&'a Unreadable> {
    let is_sure = match relation.kind {
        RelationKind::View => false,
        RelationKind::Partitioned | RelationKind::Partition => {
            entry.where_.is_none() && entry.after.is_none()
        }
        RelationKind::Table | RelationKind::MaterializedView | RelationKind::Foreign => true,
    };
    relation.unreadable.as_ref().or(relation.elsewhere.as_ref().filter(|_| is_sure))
}

/// Refuses `only` for a relation that has no rows of its own, and in a pattern. Patterns do not match
/// partitions, so a pattern with `only` would silently lose all rows of a partitioned table.
fn own_rows(relation: &Relation, entry: &TableRequest) -> Result<(), ErrorReport> {
    if !entry.only || relation.has_own_rows {
        return Ok(());
    }
    let name = qualified(&relation.schema, &relation.name);
    let (what, remedy) = match relation.kind {
        RelationKind::View => ("a view, which no table inherits from", "leave `only` out"),
        _ => (
            "partitioned, and all of its rows are its partitions'",
            "leave `only` out, name the partitions that are wanted, or name the table itself without `only`",
        ),
    };
    Err(ErrorReport::permanent(
        "no_own_rows",
        format!("table {name} is {what}: `only` has no meaning for it"),
        remedy,
    ))
}

fn wanted_columns<'a>(
    relation: &'a Relation,
    entry: &TableRequest,
) -> Result<Vec<&'a SurveyColumn>, ErrorReport> {
    let by_name: HashMap<&str, &SurveyColumn> =
        relation.columns.iter().map(|c| (c.column.name.as_str(), c)).collect();
    let find = |name: &str, field: &str| {
        by_name.get(name).copied().ok_or_else(|| unknown_column(relation, name, field))
    };
    if let Some(after) = &entry.after
        && !find(&after.column, "after")?.ordered
    {
        let name = qualified(&relation.schema, &relation.name);
        return Err(ErrorReport::permanent(
            "not_sortable",
            format!("column `{}` of table {name}, named by `after`, cannot be compared", after.column),
            "name a column that grows: a number, a date or a timestamp",
        ));
    }
    let Some(names) = &entry.columns else {
        return Ok(relation.columns.iter().collect());
    };
    let mut seen = HashSet::new();
    if let Some(twice) = names.iter().find(|n| !seen.insert(n.as_str())) {
        let name = qualified(&relation.schema, &relation.name);
        return Err(ErrorReport::permanent(
            "duplicate_column",
            format!("column `{twice}` of table {name} is asked for twice"),
            "name every column once",
        ));
    }
    names.iter().map(|name| find(name, "columns")).collect()
}

/// The columns that the role may not read, in words.
fn forbidden(columns: &[&SurveyColumn]) -> Option<String> {
    let names: Vec<&str> = columns.iter().filter(|c| !c.readable).map(|c| c.column.name.as_str()).collect();
    (!names.is_empty()).then(|| format!("no SELECT right on the columns {}", names.join(", ")))
}

fn readable<'a>(
    relation: &Relation,
    columns: Vec<&'a SurveyColumn>,
) -> Result<Vec<&'a SurveyColumn>, ErrorReport> {
    let Some(why) = forbidden(&columns) else { return Ok(columns) };
    Err(ErrorReport::permanent(
        "unreadable",
        format!("table {} may not be read: {why}", qualified(&relation.schema, &relation.name)),
        "grant it to the role, or name the other columns in `columns`",
    ))
}

fn unknown_column(relation: &Relation, column: &str, field: &str) -> ErrorReport {
    let names = || relation.columns.iter().map(|c| c.column.name.as_str());
    let shown: Vec<&str> = names().take(20).collect();
    let more = if relation.columns.len() > shown.len() { ", …" } else { "" };
    ErrorReport::permanent(
        "unknown_column",
        format!(
            "table {} has no column `{column}`, named by `{field}`",
            qualified(&relation.schema, &relation.name)
        ),
        format!(
            "column names are case-sensitive; it has {}{more}.{}",
            shown.join(", "),
            did_you_mean(column, names())
        ),
    )
}

fn unknown_table(schema: &str, table: &str, relations: &[&Relation]) -> ErrorReport {
    let in_schema = relations.iter().filter(|r| r.schema == schema).map(|r| r.name.as_str());
    ErrorReport::permanent(
        "unknown_table",
        format!("table {} does not exist, or the role may not see it", qualified(schema, table)),
        format!(
            "names are case-sensitive; check schema, spelling and rights.{}",
            did_you_mean(table, in_schema)
        ),
    )
}

fn forbidden_schema(pattern: &TablePattern, schema: &str, schemas: &[String]) -> ErrorReport {
    ErrorReport::permanent(
        "forbidden_schema",
        format!("{pattern}: requests may not name schema `{schema}` of this source"),
        format!(
            "use one of {}, or add it to `schemas` of the source in the configuration.{}",
            schemas.join(", "),
            did_you_mean(schema, schemas.iter().map(String::as_str))
        ),
    )
}

fn no_match(pattern: &TablePattern) -> ErrorReport {
    ErrorReport::permanent(
        "no_match",
        format!("pattern {pattern} matches no table"),
        "patterns take tables, partitioned tables and materialized views, case-sensitive; views, foreign tables \
         and single partitions are taken when they are named",
    )
}

fn all_excluded(pattern: &TablePattern) -> ErrorReport {
    ErrorReport::permanent(
        "no_match",
        format!("every table that pattern {pattern} matches is excluded"),
        "narrow `exclude`, or leave the pattern out",
    )
}

#[cfg(test)]
mod tests;
