//! Which tables a request means: names and patterns against what
//! the survey found. Pure. A named table that cannot be exported fails; what
//! a pattern matched and cannot be exported is skipped; both say why.

use std::collections::{HashMap, HashSet};

use super::export_plan::{FailedTable, SkippedRelation};
use crate::message::event::ErrorReport;
use crate::message::pattern::{TablePattern, qualified};
use crate::message::request::{ExportRequest, TableRequest};
use crate::source::{Relation, RelationKind, SurveyColumn, Unreadable};
use crate::spelling::did_you_mean;

/// A table that will be planned.
#[derive(Clone, Debug)]
pub struct ChosenTable<'a> {
    /// Its number in the job.
    pub number: u32,
    /// Its facts.
    pub relation: &'a Relation,
    /// The entry of the request whose options it takes.
    pub request: &'a TableRequest,
    /// The columns wanted, in the order of the files.
    pub columns: Vec<&'a SurveyColumn>,
}

/// What became of the entries of a request. Numbers are dealt in the order of
/// the request, within a pattern by name, and count failed tables too.
#[derive(Clone, Debug, Default)]
pub struct Chosen<'a> {
    /// Tables to plan, by number.
    pub tables: Vec<ChosenTable<'a>>,
    /// Named tables that cannot be exported, and patterns without any match.
    pub failed: Vec<FailedTable>,
    /// Relations that patterns matched and that are left out.
    pub skipped: Vec<SkippedRelation>,
}

/// Chooses the tables of a request among the relations of a survey.
/// `schemas`: what requests may name; empty for all.
#[must_use]
pub fn choose<'a>(request: &'a ExportRequest, schemas: &[String], relations: &'a [Relation]) -> Chosen<'a> {
    let allowed: Vec<&Relation> =
        relations.iter().filter(|r| schemas.is_empty() || schemas.contains(&r.schema)).collect();
    let by_name: HashMap<(&str, &str), &Relation> =
        allowed.iter().map(|r| ((r.schema.as_str(), r.name.as_str()), *r)).collect();
    let named: HashSet<(String, String)> = request.tables.iter().filter_map(|t| t.table.literal()).collect();
    let mut choosing = Choosing { chosen: Chosen::default(), next: 0, taken: HashSet::new() };
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
            // A table named by itself takes the options given there.
            if !named.contains(&(relation.schema.clone(), relation.name.clone())) {
                choosing.take_matched(relation, entry);
            }
        }
    }
    choosing.chosen
}

/// What patterns take: not the leaves of a partitioned table as well, and
/// views and foreign tables only by name.
fn may_match(relation: &Relation) -> bool {
    matches!(relation.kind, RelationKind::Table | RelationKind::Partitioned | RelationKind::MaterializedView)
}

struct Choosing<'a> {
    chosen: Chosen<'a>,
    next: u32,
    taken: HashSet<(&'a str, &'a str)>,
}

impl<'a> Choosing<'a> {
    fn number(&mut self) -> u32 {
        let number = self.next;
        self.next += 1;
        number
    }

    fn fail(&mut self, table: String, error: ErrorReport) {
        let number = self.number();
        self.chosen.failed.push(FailedTable { number, table, error });
    }

    fn skip(&mut self, relation: &Relation, reason: impl Into<String>) {
        let table = qualified(&relation.schema, &relation.name);
        self.chosen.skipped.push(SkippedRelation { table, reason: reason.into() });
    }

    fn first_time(&mut self, relation: &'a Relation) -> bool {
        self.taken.insert((&relation.schema, &relation.name))
    }

    fn take_named(&mut self, relation: &'a Relation, entry: &'a TableRequest) {
        if !self.first_time(relation) {
            return self.skip(relation, "named more than once: the options of its first entry count");
        }
        let name = qualified(&relation.schema, &relation.name);
        if let Some(Unreadable { why, remedy }) = &relation.unreadable {
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
        self.take(relation, entry);
    }

    fn take_matched(&mut self, relation: &'a Relation, entry: &'a TableRequest) {
        if !self.first_time(relation) {
            return;
        }
        if let Some(Unreadable { why, .. }) = &relation.unreadable {
            return self.skip(relation, why);
        }
        if relation.columns.is_empty() {
            return self.skip(relation, "it has no columns");
        }
        let every: Vec<&SurveyColumn> = relation.columns.iter().collect();
        if let Some(why) = forbidden(&every).filter(|_| entry.columns.is_none()) {
            return self.skip(relation, &why);
        }
        self.take(relation, entry);
    }

    fn take(&mut self, relation: &'a Relation, entry: &'a TableRequest) {
        match wanted_columns(relation, entry).and_then(|columns| readable(relation, columns)) {
            Ok(columns) => {
                let number = self.number();
                self.chosen.tables.push(ChosenTable { number, relation, request: entry, columns });
            }
            Err(error) => self.fail(qualified(&relation.schema, &relation.name), error),
        }
    }
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
        && find(&after.column, "after")?.range_cast.is_none()
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

/// Which of the columns the role may not read, in words.
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
        "grant it to the role of the source, or name the other columns in `columns`",
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
        format!(
            "table {} does not exist, or the role of the source may not see it",
            qualified(schema, table)
        ),
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
