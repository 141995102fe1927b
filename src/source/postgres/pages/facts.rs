//! Whether a table's pages may be read: what the catalogue says about the server and the table, asked when a
//! table is planned, and again in each chunk's own transaction. Every rule has its reason in words.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use tokio_postgres::SimpleQueryRow;

use super::super::quote::{ident, table};
use super::columns::CatalogueColumn;

/// The schema of the functions that `sql/page-reader.sql` makes.
const READERS: &str = "adu_page_reader";
/// Pages that one call of such a function returns: together they fit into a block of the stream.
const GROUP: u64 = 28;
/// First version whose pages are known, and the first that is not.
const VERSIONS: std::ops::Range<u32> = 140_000..190_000;

/// What a server and its database are, for reading pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Server {
    version: u32,
    utf8: bool,
    /// Whether `old_snapshot_threshold` is on: then a snapshot does not keep the rows that it shows.
    forgets: bool,
    /// Size of a page.
    pub(super) block: u64,
    superuser: bool,
    raw: Option<RawPage>,
    /// The function that `sql/page-reader.sql` makes for the role, by its name.
    reader: Option<String>,
}

/// How pages are asked for.
#[derive(Clone, Copy, Debug)]
enum Way<'a> {
    /// By the extension's own function, as a superuser.
    Raw(&'a RawPage),
    /// By the role's function.
    Reader(&'a str),
}

/// The function that returns a page, as the extension owns it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RawPage {
    schema: String,
    /// Type of the page's number.
    number: &'static str,
}

/// What a table is, for reading its pages.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// `relpages`.
    counted_pages: u64,
    pub(super) schema: SchemaRow,
}

/// A row of `pg_namespace`, and which version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct SchemaRow {
    pub(super) oid: u32,
    name: String,
    version: String,
}

/// SQL with one row about the server and one for each of these relations.
pub(in super::super) fn question(oids: &str) -> String {
    format!(
        "SELECT pg_catalog.getdatabaseencoding(), \
                coalesce(pg_catalog.current_setting('old_snapshot_threshold', true), '-1'), \
                pg_catalog.current_setting('block_size'), \
                (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user), f.nspname, f.arguments, \
                (SELECT p.proname FROM pg_catalog.pg_proc p \
                 JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace AND n.nspname = '{READERS}' \
                 JOIN pg_catalog.pg_roles o ON o.oid = p.proowner AND o.rolsuper \
                 JOIN pg_catalog.pg_roles s ON s.oid = n.nspowner AND s.rolsuper \
                 WHERE p.proname = current_user AND p.proargtypes::pg_catalog.text = '26 20 23' \
                   AND p.prorettype = 1001 AND p.prosecdef \
                   AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
                   AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE')) \
         FROM (SELECT) one LEFT JOIN ( \
           SELECT n.nspname, p.proargtypes::pg_catalog.text AS arguments \
           FROM pg_catalog.pg_extension x \
           JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass \
             AND d.refobjid = x.oid AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.deptype = 'e' \
           JOIN pg_catalog.pg_proc p ON p.oid = d.objid JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
           WHERE x.extname = 'pageinspect' AND p.proname = 'get_raw_page' AND p.pronargs = 3) f ON true; \
         SELECT c.oid, a.amname = 'heap', c.relkind, c.relpersistence = 't', \
                EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid), \
                c.relrowsecurity OR EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid), \
                EXISTS (SELECT FROM pg_catalog.pg_seclabel l WHERE l.objoid = c.oid \
                          AND l.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass), \
                n.nspname ~ '^pg_' OR n.nspname = 'information_schema', \
                c.relpages, n.oid, n.nspname, n.xmin, \
                EXISTS (SELECT FROM pg_catalog.pg_attribute d WHERE d.attrelid = c.oid AND d.attnum > 0 \
                          AND (d.attisdropped \
                               OR pg_catalog.has_column_privilege(c.oid, d.attnum, 'SELECT') IS NULL)), \
                pg_catalog.has_table_privilege(c.oid, 'SELECT') \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam WHERE c.oid = ANY ({oids})"
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
    let (server, tables) = rows.split_first()?;
    let raw = server.get(4).zip(server.get(5)).and_then(|(schema, arguments)| {
        let number = match arguments {
            "25 25 20" => "int8",
            "25 25 23" => "int4",
            _ => return None,
        };
        Some(RawPage { schema: schema.to_owned(), number })
    });
    let server = Server {
        version,
        utf8: server.get(0) == Some("UTF8"),
        forgets: server.get(1) != Some("-1"),
        block: server.get(2)?.parse().ok()?,
        superuser: server.get(3) == Some("t"),
        raw,
        reader: server.get(6).map(str::to_owned),
    };
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
        dropped: is(12),
        whole: is(13),
        system: is(7),
        counted_pages: row.get(8)?.parse().ok()?,
        schema: schema_row(row, 9)?,
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

impl Server {
    /// Why no pages of this server are read; none if they may be.
    pub(in super::super) fn doubt(&self) -> Option<String> {
        let why = if !VERSIONS.contains(&self.version) {
            "the pages of PostgreSQL 14 to 18 are known"
        } else if !self.utf8 {
            "the database's encoding is not UTF8"
        } else if self.forgets {
            "old_snapshot_threshold is on"
        } else if self.way().is_some() {
            return None;
        } else if self.superuser {
            "the extension pageinspect is not there"
        } else {
            "the role is no superuser, and page-reader.sql has made no function for it"
        };
        Some(why.into())
    }

    /// How pages are asked for, if they can be.
    fn way(&self) -> Option<Way<'_>> {
        match (&self.raw, &self.reader) {
            (Some(raw), _) if self.superuser => Some(Way::Raw(raw)),
            (_, Some(reader)) => Some(Way::Reader(reader)),
            _ => None,
        }
    }

    /// Whether pages can be read, in words.
    pub(in super::super) fn note(&self) -> String {
        match self.doubt() {
            None => "tables can be read by pages".into(),
            Some(why) => format!("no table can be read by pages: {why}"),
        }
    }

    /// A query of these pages of a relation, in order: their numbers and bytes; and whether each row has several
    /// pages, without their holes. A superuser's function is the extension's own, by schema and types: another
    /// function of that name that fits better would run with our rights. It names the relation for each page.
    pub(super) fn query(&self, relation: u32, pages: &Range<u64>) -> Option<String> {
        let (first, last) = (pages.start, pages.end.saturating_sub(1));
        let (call, step) = match self.way()? {
            Way::Raw(RawPage { schema, number }) => (
                format!(
                    "{}.get_raw_page(({relation}::pg_catalog.oid::pg_catalog.regclass)::pg_catalog.text, \
                     'main'::pg_catalog.text, b::pg_catalog.{number})",
                    ident(schema)
                ),
                1,
            ),
            Way::Reader(role) => (
                format!(
                    "{}({relation}::pg_catalog.oid, b, \
                     LEAST({GROUP}, {} OPERATOR(pg_catalog.-) b)::pg_catalog.int4)",
                    table(READERS, role),
                    pages.end
                ),
                GROUP,
            ),
        };
        Some(format!(
            "SELECT b, {call} FROM pg_catalog.generate_series({first}::pg_catalog.int8, {last}::pg_catalog.int8, \
             {step}::pg_catalog.int8) b"
        ))
    }

    /// Whether a row of [`Self::query`] has several pages, without their holes.
    pub(super) fn has_groups(&self) -> bool {
        matches!(self.way(), Some(Way::Reader(_)))
    }
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
        } else if self.counted_pages == 0 {
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
}
