//! Compares a relation in the snapshot with the plan. `guard` checks what has changed since the snapshot.

use std::collections::HashMap;
use std::num::NonZeroU32;

use tokio_postgres::SimpleQueryRow;

use super::quote::{ident, literal, shown};
use super::server::ServerFacts;
use super::slice::Selected;
use crate::relation::{Column, RelationKind};
use crate::source::SourceError;

/// Types below this oid have the same oid on every server, and none of them is a domain.
pub(super) const FIXED_OIDS: u32 = 10_000;

/// Oid of the schema `pg_catalog`, the same on every server.
pub(super) const PG_CATALOG: u32 = 11;

/// A relation as the snapshot shows it.
pub(super) struct SeenRelation {
    pub(super) oid: u32,
    /// What kind of relation it is. A partition is here a table or a partitioned table too.
    kind: RelationKind,
    /// The file with the relation's rows, if it has one.
    pub(super) file: Option<NonZeroU32>,
    /// Whether the relation has child tables, or inherits from another table without being its partition.
    /// Extensions may store rows elsewhere and add them to a query, but not to a query of `ONLY` the table
    /// (compressed chunks of TimescaleDB).
    has_family: bool,
    /// Whether to leave out the rows of its children.
    pub(super) only: bool,
    /// Whether policies may hide rows.
    has_policies: bool,
    /// Number of the column whose ranges skip whole partitions.
    pruned_by: Option<i16>,
    pub(super) columns: HashMap<String, SeenColumn>,
    /// Names of the columns that the chunk reads: exported columns, the key, and columns of the filter.
    pub(super) read: Vec<String>,
    /// Numbers of the columns that the chunk reads and whose types have no fixed oid.
    pub(super) composed: Vec<i16>,
    /// Whether the chunk reads only the table's own file. Child tables that were created after the snapshot
    /// are then left out of the query.
    pub(super) is_alone: bool,
    /// The role's own search path, if it was asked for.
    pub(super) role_path: Option<String>,
}

/// What a chunk reads besides the exported columns.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Conditions<'a> {
    /// The column of the chunk's range.
    pub(super) key: Option<&'a str>,
    /// The chunk's filter.
    pub(super) filter: Option<&'a str>,
}

impl Conditions<'_> {
    /// Whether the filter may read other tables.
    pub(super) fn may_read_tables(&self) -> bool {
        let filter = self.filter.map(str::to_lowercase).unwrap_or_default();
        // The command TABLE reads a table too.
        filter.contains("select") || has_word(&filter, "table")
    }

    /// Whether the name of a column occurs in the conditions. A word in a literal counts too, which does no
    /// harm except that the chunk is slower.
    pub(super) fn name(&self, column: &str) -> bool {
        let filter = self.filter.map(str::to_lowercase).unwrap_or_default();
        self.key == Some(column)
            || filter.contains(&ident(column).to_lowercase())
            || has_word(&filter, &column.to_lowercase())
    }
}

/// Whether a name occurs in a text as a whole word.
fn has_word(text: &str, name: &str) -> bool {
    let is_letter = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
    !name.is_empty()
        && text.match_indices(name).any(|(at, name)| {
            let (before, after) = (&text[..at], &text[at + name.len()..]);
            !before.chars().next_back().is_some_and(is_letter) && !after.chars().next().is_some_and(is_letter)
        })
}

pub(super) struct SeenColumn {
    pub(super) number: i16,
    pub(super) oid: u32,
    /// `typtype` of the column's type.
    pub(super) kind: char,
    /// Oid of the base type, if the type is a domain; else 0.
    pub(super) base: u32,
    /// The collation by which values are compared; 0 if the type has none.
    pub(super) collation: u32,
    /// Whether the type is outside pg_catalog, so that its operators may be too.
    pub(super) foreign: bool,
    pub(super) source_type: String,
    /// Whether this column (by number) has been dropped since the snapshot.
    pub(super) gone: bool,
    pub(super) readable: bool,
}

impl SeenRelation {
    /// Whether ranges of a column skip whole partitions.
    pub(super) fn is_pruned_by(&self, column: &str) -> bool {
        self.pruned_by.is_some() && self.pruned_by == self.columns.get(column).map(|c| c.number)
    }

    /// Number of a column.
    pub(super) fn number(&self, column: &str) -> Option<i16> {
        self.columns.get(column).map(|c| c.number)
    }

    /// Whether policies may hide rows.
    pub(super) fn has_policies(&self) -> bool {
        self.has_policies
    }

    /// Whether the relation is an ordinary table, which may have child tables.
    pub(super) fn is_plain(&self) -> bool {
        self.kind == RelationKind::Table
    }

    /// Whether the relation has partitions.
    pub(super) fn is_partitioned(&self) -> bool {
        self.kind == RelationKind::Partitioned
    }

    /// Whether the relation is a view.
    pub(super) fn is_view(&self) -> bool {
        self.kind == RelationKind::View
    }
}

/// The error of a chunk whose table differs from the plan.
pub(super) fn changed(schema: &str, name: &str, why: &str) -> SourceError {
    SourceError::changed(
        "changed",
        format!("{} changed since its snapshot was taken: {why}", shown(schema, name)),
    )
    .with_remedy(
        "avoid TRUNCATE, rewrites, other partitions or columns, and indexes that are built CONCURRENTLY \
             while a job runs",
    )
}

/// SQL that reads a relation as the snapshot shows it. For a view or a filter it also reads the role's own
/// search path. It must run before any session setting of the plan, because names of types depend on the
/// search path.
pub(super) fn question(schema: &str, name: &str, filtered: bool, server: &ServerFacts) -> String {
    // What Greenplum's catalogue lacks: it has no row-level security up to version 6, and tables are read
    // without their children.
    let (key, policies, family) = match server.greenplum {
        None => (
            "(SELECT p.partattrs[0] FROM pg_catalog.pg_partitioned_table p \
              WHERE p.partrelid = c.oid AND p.partstrat <> 'h')",
            "c.relrowsecurity",
            "EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid) \
             OR NOT c.relispartition \
                AND EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid)",
        ),
        Some(_) => ("NULL", "false", "false"),
    };
    format!(
        "SELECT c.oid, c.relkind, a.attname, a.attnum, a.atttypid, \
                pg_catalog.format_type(a.atttypid, a.atttypmod), \
                pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT'), \
                {key}, {policies}, c.relfilenode, {family}, \
                t.typtype, t.typbasetype, a.attcollation, t.typnamespace <> {PG_CATALOG}, \
                CASE WHEN {filtered} OR c.relkind = 'v' \
                     THEN (SELECT s.reset_val FROM pg_catalog.pg_settings s WHERE s.name = 'search_path') END \
         FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_catalog.pg_attribute a \
           ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         LEFT JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
         WHERE n.nspname = {} AND c.relname = {}",
        literal(schema),
        literal(name)
    )
}

/// Reads the answer to [`question`]; `None` if the relation does not exist, or if nobody exports relations of its
/// kind.
pub(super) fn read(rows: &[SimpleQueryRow]) -> Option<SeenRelation> {
    let first = rows.first()?;
    let number = |text: Option<&str>| text.and_then(|t| t.parse().ok());
    let kind = match first.get(1)? {
        "r" => RelationKind::Table,
        "p" => RelationKind::Partitioned,
        "m" => RelationKind::MaterializedView,
        "v" => RelationKind::View,
        "f" => RelationKind::Foreign,
        _ => return None,
    };
    let columns = rows.iter().filter_map(|row| {
        let column = SeenColumn {
            number: row.get(3)?.parse().ok()?,
            oid: number(row.get(4))?,
            kind: row.get(11)?.chars().next()?,
            base: number(row.get(12))?,
            collation: number(row.get(13))?,
            foreign: row.get(14) == Some("t"),
            source_type: row.get(5)?.to_owned(),
            gone: row.get(6).is_none(),
            readable: row.get(6) == Some("t"),
        };
        Some((row.get(2)?.to_owned(), column))
    });
    Some(SeenRelation {
        oid: number(first.get(0))?,
        kind,
        file: number(first.get(9)).and_then(NonZeroU32::new),
        has_family: first.get(10) != Some("f"),
        only: false,
        has_policies: first.get(8) == Some("t"),
        pruned_by: first.get(7).and_then(|t| t.parse().ok()),
        columns: columns.collect(),
        read: Vec::new(),
        composed: Vec::new(),
        is_alone: false,
        role_path: first.get(15).map(str::to_owned),
    })
}

/// Reads the answer to [`question`] and compares it with the columns of the plan.
pub(super) fn compare(
    rows: &[SimpleQueryRow],
    selection: &Selected<'_>,
    columns: &[Column],
    conditions: Conditions<'_>,
) -> Result<SeenRelation, SourceError> {
    let (schema, name) = (selection.schema, selection.name);
    let Some(mut seen) = read(rows) else {
        return Err(changed(schema, name, "it is not there"));
    };
    seen.only = selection.only;
    seen.read = columns.iter().map(|c| c.name.clone()).collect();
    for (name, column) in &seen.columns {
        if column.readable && conditions.name(name) && !seen.read.contains(name) {
            seen.read.push(name.clone());
        }
    }
    for planned in columns {
        match seen.columns.get(&planned.name) {
            None => return Err(changed(schema, name, &format!("column {} is not there", planned.name))),
            Some(c) if c.source_type != planned.source_type => {
                let why = format!(
                    "column {} is {} and was planned as {}",
                    planned.name, c.source_type, planned.source_type
                );
                return Err(changed(schema, name, &why));
            }
            Some(c) if c.gone => {
                return Err(changed(schema, name, &format!("column {} was dropped", planned.name)));
            }
            Some(_) => {}
        }
    }
    let composed = seen.read.iter().filter_map(|name| seen.columns.get(name)).filter(|c| c.oid >= FIXED_OIDS);
    seen.composed = composed.map(|c| c.number).collect();
    // Columns of other types, filters and policies may read other relations.
    seen.is_alone = seen.is_plain()
        && (seen.only || !seen.has_family)
        && !seen.has_policies
        && seen.file.is_some()
        && seen.composed.is_empty()
        && !seen.read.is_empty()
        && conditions.filter.is_none();
    Ok(seen)
}

#[cfg(test)]
impl SeenColumn {
    /// A column of a built-in type.
    pub(super) fn of(oid: u32) -> Self {
        let source_type = String::new();
        Self {
            number: 1,
            oid,
            kind: 'b',
            base: 0,
            collation: 0,
            foreign: false,
            source_type,
            gone: false,
            readable: true,
        }
    }
}

#[cfg(test)]
impl SeenRelation {
    /// A table with some columns.
    pub(super) fn plain<const N: usize>(columns: [(&str, SeenColumn); N]) -> Self {
        Self {
            only: false,
            oid: 1,
            kind: RelationKind::Table,
            file: Some(NonZeroU32::MIN),
            has_family: false,
            has_policies: false,
            pruned_by: None,
            columns: columns.into_iter().map(|(name, column)| (name.to_owned(), column)).collect(),
            read: Vec::new(),
            composed: Vec::new(),
            is_alone: false,
            role_path: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_in_filters_by_whole_names() {
        let names = |filter, column| Conditions { key: None, filter: Some(filter) }.name(column);
        for (filter, column) in [
            ("\"e\" = 'a'", "e"),
            ("E = 1", "e"),
            ("f(e)", "E"),
            ("t.é > 1", "É"),
            ("\"a \"\"b\" > 1", "a \"b"),
        ] {
            assert!(names(filter, column), "{filter}");
        }
        for (filter, column) in [("\"the\" = 1", "e"), ("e1 = 1", "e"), ("a_e$ = 1", "e"), ("é1 = 2", "é")]
        {
            assert!(!names(filter, column), "{filter}");
        }
    }
}
