//! Tables that inherit from others. A query of a table also returns the rows of its children, so a pattern
//! that matches both would export these rows twice. The child is left out if the parent's export contains
//! everything that its own export would contain. Named tables are always exported.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Chosen, ChosenTable};
use crate::plan::export_plan::SkippedRelation;

/// Maximum number of names in a note. There may be thousands of relations.
const NAMES_IN_NOTES: usize = 5;

/// A table that can be exported.
pub(super) struct Candidate<'a> {
    pub(super) table: ChosenTable<'a>,
    /// Whether the request names the table. Otherwise a pattern matched it.
    pub(super) named: bool,
}

/// Whether the export of a parent contains everything that the export of its child would contain.
fn has_all_of(parent: &ChosenTable<'_>, child: &ChosenTable<'_>) -> bool {
    let (p, c) = (parent.request, child.request);
    let all_rows = p.where_.is_none() && p.after.is_none() || (&p.where_, &p.after) == (&c.where_, &c.after);
    let same_values = (p.numeric, p.infinity, &p.as_bytes) == (c.numeric, c.infinity, &c.as_bytes);
    let columns: BTreeSet<&str> = parent.columns.iter().map(|c| c.column.name.as_str()).collect();
    // Row-level security of the parent may hide rows of its children.
    !p.only
        && parent.relation.partial.is_none()
        && all_rows
        && same_values
        && child.columns.iter().all(|c| columns.contains(c.column.name.as_str()))
}

/// Maps the name of each table to the tables that contain it.
fn parents<'t, 'a>(
    tables: impl Iterator<Item = &'t ChosenTable<'a>>,
) -> HashMap<&'a str, Vec<&'t ChosenTable<'a>>> {
    let mut parents: HashMap<&str, Vec<&ChosenTable<'_>>> = HashMap::new();
    for table in tables {
        for child in &table.relation.contains {
            parents.entry(child.as_str()).or_default().push(table);
        }
    }
    parents
}

/// Names of the candidates that are left out because others contain them.
pub(super) fn contained<'t, 'a: 't>(
    candidates: impl Iterator<Item = &'t Candidate<'a>> + Clone,
) -> BTreeSet<String> {
    let parents = parents(candidates.clone().map(|c| &c.table));
    if parents.is_empty() {
        return BTreeSet::new();
    }
    // Begin with tables that contain the most: a parent contains more tables than its child does.
    let mut matched: Vec<&ChosenTable<'_>> = candidates.filter(|c| !c.named).map(|c| &c.table).collect();
    matched.sort_by_key(|table| std::cmp::Reverse(table.relation.contains.len()));
    let mut out = BTreeSet::new();
    for child in matched {
        let name = child.name();
        let is_kept = |parent: &&&ChosenTable<'_>| !out.contains(&parent.name());
        let parents = parents.get(name.as_str()).into_iter().flatten();
        if parents.filter(is_kept).any(|parent| has_all_of(parent, child)) {
            out.insert(name);
        }
    }
    out
}

impl<'a> Chosen<'a> {
    /// Tables that were left out although no planned table contains them now, because planning of their
    /// parents failed. This function gives them numbers and moves them to `tables`.
    pub fn orphans(&mut self, failed: &BTreeSet<String>) -> Vec<ChosenTable<'a>> {
        let children = std::mem::take(&mut self.contained);
        let named = self.tables.iter().filter(|t| !failed.contains(&t.name()));
        let candidates: Vec<Candidate<'a>> = named
            .map(|table| Candidate { table: table.clone(), named: true })
            .chain(children.into_iter().map(|table| Candidate { table, named: false }))
            .collect();
        let contained = contained(candidates.iter());
        let first = self.tables.len();
        for candidate in candidates.into_iter().filter(|c| !c.named) {
            if contained.contains(&candidate.table.name()) {
                self.contained.push(candidate.table);
            } else {
                self.push(candidate.table);
            }
        }
        self.tables[first..].to_vec()
    }

    /// Relations that patterns matched but that are left out. Children name the tables that contain their
    /// rows.
    #[must_use]
    pub fn left_out(&self, exported: &BTreeSet<String>) -> Vec<SkippedRelation> {
        let parents = parents(self.tables.iter());
        let mut skipped = self.skipped.clone();
        skipped.extend(self.contained.iter().map(|child| {
            let table = child.name();
            let parents = parents.get(table.as_str()).into_iter().flatten();
            let within: Vec<String> = parents
                .filter(|parent| has_all_of(parent, child) && exported.contains(&parent.name()))
                .map(|parent| parent.name())
                .collect();
            let reason = format!(
                "its rows are among those of {}, from which it inherits: name it, or ask for `only`, to have them apart",
                names(&within)
            );
            SkippedRelation { table, reason, within }
        }));
        skipped
    }

    /// Notes about inherited rows, by table name.
    #[must_use]
    pub fn family_notes(&self, exported: &BTreeSet<String>) -> BTreeMap<String, String> {
        let parents = parents(self.tables.iter().filter(|t| !t.request.only && exported.contains(&t.name())));
        let mut notes = BTreeMap::new();
        for table in &self.tables {
            let name = table.name();
            let mut said = Vec::new();
            let children = &table.relation.contains;
            if !children.is_empty() {
                let children = names(children);
                said.push(if table.request.only {
                    format!("its own rows only, without those of {children}, which inherit from it")
                } else {
                    format!("the rows of {children}, which inherit from it, are among its own")
                });
            }
            if let Some(parents) = parents.get(name.as_str()) {
                let parents: Vec<String> = parents.iter().map(|parent| parent.name()).collect();
                said.push(format!(
                    "its rows are also among those of {}, from which it inherits",
                    names(&parents)
                ));
            }
            if !said.is_empty() {
                notes.insert(name, said.join("; "));
            }
        }
        notes
    }
}

/// The first names, and how many more there are.
fn names(of: &[String]) -> String {
    let mut text = of.iter().take(NAMES_IN_NOTES).map(String::as_str).collect::<Vec<_>>().join(", ");
    if of.len() > NAMES_IN_NOTES {
        text += &format!(" and {} more", of.len() - NAMES_IN_NOTES);
    }
    text
}
