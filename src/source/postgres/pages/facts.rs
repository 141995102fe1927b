//! Whether a table's pages may be read: what the catalogue says about the server and the table, asked when a
//! table is planned, and again in each chunk's own transaction. Every rule has its reason in words.

use std::collections::{BTreeMap, HashMap};

use tokio_postgres::SimpleQueryRow;

use super::columns::CatalogueColumn;
use super::server::{self, Server};
use crate::text::count;

/// What a table is, for reading its pages.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Default))]
pub(in super::super) struct Table {
    pub(super) oid: u32,
    heap: bool,
    kind: char,
    temporary: bool,
    children: bool,
    policies: bool,
    labelled: bool,
    /// Whether a column is dropped, in the snapshot or now.
    dropped: bool,
    /// Whether the role may read all columns.
    whole: bool,
    system: bool,
    /// `relpages` and `relallvisible`.
    pub(super) counted: (u64, u64),
    /// `relfilenode`.
    pub(super) file: u32,
    pub(super) schema: SchemaRow,
}

/// A row of `pg_namespace`, and which version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Default))]
pub(in super::super) struct SchemaRow {
    pub(super) oid: u32,
    name: String,
    version: String,
}

/// SQL with one row about the server and one for each of these relations.
pub(in super::super) fn question(oids: &str) -> String {
    format!(
        "{}; SELECT c.oid, a.amname = 'heap', c.relkind, c.relpersistence = 't', \
                EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid), \
                c.relrowsecurity OR EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid), \
                EXISTS (SELECT FROM pg_catalog.pg_seclabel l WHERE l.objoid = c.oid \
                          AND l.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass), \
                n.nspname ~ '^pg_' OR n.nspname = 'information_schema', \
                c.relpages, c.relallvisible, c.relfilenode, n.oid, n.nspname, n.xmin, \
                EXISTS (SELECT FROM pg_catalog.pg_attribute d WHERE d.attrelid = c.oid AND d.attnum > 0 \
                          AND (d.attisdropped \
                               OR pg_catalog.has_column_privilege(c.oid, d.attnum, 'SELECT') IS NULL)), \
                pg_catalog.has_table_privilege(c.oid, 'SELECT') \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam WHERE c.oid = ANY ({oids})",
        server::question()
    )
}

/// SQL with the row of a schema as it is now, if it runs in a transaction of its own.
pub(super) fn schema_question(schema: u32) -> String {
    format!("SELECT n.oid, n.nspname, n.xmin FROM pg_catalog.pg_namespace n WHERE n.oid = {schema}")
}

/// SQL with a row for each column of a relation, by number.
pub(super) fn columns_question(relation: u32) -> String {
    format!(
        "SELECT a.attname, a.attlen, a.attalign, a.atthasmissing, CASE WHEN a.attisdropped THEN 0 ELSE b.oid END, \
                CASE WHEN b.typtype = 'e' THEN (SELECT pg_catalog.json_object_agg(e.oid, e.enumlabel) \
                                                FROM pg_catalog.pg_enum e WHERE e.enumtypid = b.oid) END \
         FROM pg_catalog.pg_attribute a LEFT JOIN LATERAL ( \
           WITH RECURSIVE base AS ( \
             SELECT t.oid, t.typtype, t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid \
             UNION ALL SELECT t.oid, t.typtype, t.typbasetype FROM base \
             JOIN pg_catalog.pg_type t ON t.oid = base.typbasetype WHERE base.typtype = 'd') \
           SELECT base.oid, base.typtype FROM base WHERE base.typtype <> 'd') b ON true \
         WHERE a.attrelid = {relation} AND a.attnum > 0 ORDER BY a.attnum"
    )
}

/// Reads the answer to [`question`].
pub(in super::super) fn read(rows: &[SimpleQueryRow], version: u32) -> Option<(Server, HashMap<u32, Table>)> {
    let (about, tables) = rows.split_first()?;
    let server = server::read(about, version)?;
    let tables = tables.iter().filter_map(read_table).map(|table| (table.oid, table)).collect();
    Some((server, tables))
}

fn read_table(row: &SimpleQueryRow) -> Option<Table> {
    let is = |index| row.get(index) == Some("t");
    Some(Table {
        oid: row.get(0)?.parse().ok()?,
        heap: is(1),
        kind: row.get(2)?.chars().next()?,
        temporary: is(3),
        children: is(4),
        policies: is(5),
        labelled: is(6),
        dropped: is(14),
        whole: is(15),
        system: is(7),
        counted: (row.get(8)?.parse().ok()?, row.get(9)?.parse().ok()?),
        file: row.get(10)?.parse().ok()?,
        schema: schema_row(row, 11)?,
    })
}

/// Reads the row of a schema, beginning at this column.
pub(super) fn schema_row(row: &SimpleQueryRow, first: usize) -> Option<SchemaRow> {
    Some(SchemaRow {
        oid: row.get(first)?.parse().ok()?,
        name: row.get(first + 1)?.to_owned(),
        version: row.get(first + 2)?.to_owned(),
    })
}

/// Reads a row of the answer to [`columns_question`].
pub(super) fn column(row: &SimpleQueryRow) -> Option<CatalogueColumn> {
    let labels = match row.get(5) {
        None => None,
        Some(json) => {
            let labels: BTreeMap<String, String> = serde_json::from_str(json).ok()?;
            let label = |(oid, label): (String, String)| Some((oid.parse().ok()?, label));
            Some(labels.into_iter().map(label).collect::<Option<_>>()?)
        }
    };
    Some(CatalogueColumn {
        name: row.get(0)?.to_owned(),
        length: row.get(1)?.parse().ok()?,
        alignment: row.get(2)?.chars().next()?,
        has_missing: row.get(3) == Some("t"),
        ty: row.get(4)?.parse().ok()?,
        labels,
    })
}

impl Table {
    /// Why the pages of this table are not read; none if they may be.
    pub(in super::super) fn doubt(&self, server: &Server) -> Option<String> {
        let why = if !self.heap || !matches!(self.kind, 'r' | 'm') {
            "it is no heap"
        } else if self.temporary || self.system {
            "it belongs to a session or to the system"
        } else if self.children {
            "it has children"
        } else if self.policies {
            "it has row-level security"
        } else if self.labelled {
            "it has a security label"
        } else if self.counted.0 == 0 {
            "no VACUUM has seen it"
        } else if server.has_groups() && self.dropped {
            "it has a dropped column, and the role is no superuser"
        } else if server.has_groups() && !self.whole {
            "the role may not read all of its columns"
        } else {
            return None;
        };
        Some(why.into())
    }

    /// How many of its pages are marked as visible to all, as far as the catalogue knows, in words.
    pub(super) fn marked(&self) -> String {
        let (counted, visible) = self.counted;
        let share = visible.min(counted) * 100 / counted.max(1);
        format!("{share} % of {} are marked as visible to all", count(counted, "page"))
    }
}

#[cfg(test)]
impl Table {
    /// A table of which this is known: its pages, and how many of them are marked as visible to all.
    pub(super) fn counted(pages: u64, visible: u64) -> Self {
        Self { counted: (pages, visible), ..Self::default() }
    }
}
