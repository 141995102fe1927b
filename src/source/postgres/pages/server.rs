//! What a server and its database are, for reading pages: whether its pages are known, how they can be asked for,
//! and how much room they would take there.

use std::ops::Range;

use tokio_postgres::SimpleQueryRow;

use super::super::quote::{ident, table};

/// The schema of the functions that `sql/page-reader.sql` makes.
const READERS: &str = "adu_page_reader";
/// Pages that one call of such a function returns: together they fit into a block of the stream.
const GROUP: u64 = 28;
/// First version whose pages are known, and the first that is not.
const VERSIONS: Range<u32> = 140_000..190_000;

/// What a server and its database are, for reading pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Server {
    version: u32,
    utf8: bool,
    /// Whether `old_snapshot_threshold` is on: then a snapshot does not keep the rows that it shows.
    forgets: bool,
    /// Size of a page.
    pub(super) block: u64,
    /// Bytes of the buffers that all sessions share.
    pub(super) buffers: u64,
    /// Whether it is a standby now.
    standby: bool,
    superuser: bool,
    raw: Option<RawPage>,
    /// The function that `sql/page-reader.sql` makes for the role, by its name.
    reader: Option<String>,
    /// The schema of the extension pg_buffercache, if the role may ask it which pages are in the buffers.
    pub(super) cache: Option<String>,
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
    /// Whether a superuser owns the schema. Another owner could put a function of his own in its place.
    safe: bool,
}

/// SQL with one row about the server.
pub(super) fn question() -> String {
    // What an extension owns of a kind, with its schema `n`.
    let owned = |extension: &str, catalogue: &str, alias: &str, schema: &str| {
        format!(
            "FROM pg_catalog.pg_extension x \
             JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass \
               AND d.refobjid = x.oid AND d.classid = 'pg_catalog.{catalogue}'::pg_catalog.regclass AND d.deptype = 'e' \
             JOIN pg_catalog.{catalogue} {alias} ON {alias}.oid = d.objid \
             JOIN pg_catalog.pg_namespace n ON n.oid = {alias}.{schema} WHERE x.extname = '{extension}'"
        )
    };
    // Whether a superuser owns the schema `n`, also as the owner of the database.
    let safe = "EXISTS (SELECT FROM pg_catalog.pg_roles o, pg_catalog.pg_database b, pg_catalog.pg_roles s \
                        WHERE o.oid = n.nspowner AND b.datname = pg_catalog.current_database() AND s.rolsuper \
                          AND s.oid = CASE WHEN o.rolname = 'pg_database_owner' THEN b.datdba ELSE o.oid END)";
    format!(
        "SELECT pg_catalog.getdatabaseencoding(), \
                coalesce(pg_catalog.current_setting('old_snapshot_threshold', true), '-1'), \
                pg_catalog.current_setting('block_size'), \
                (SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name = 'shared_buffers'), \
                pg_catalog.pg_is_in_recovery(), \
                (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user), \
                f.nspname, f.arguments, f.safe, \
                (SELECT p.proname FROM pg_catalog.pg_proc p \
                 JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace AND n.nspname = '{READERS}' \
                 JOIN pg_catalog.pg_roles o ON o.oid = p.proowner AND o.rolsuper \
                 JOIN pg_catalog.pg_roles s ON s.oid = n.nspowner AND s.rolsuper \
                 WHERE p.proname = current_user AND p.proargtypes::pg_catalog.text = '26 20 23' \
                   AND p.prorettype = 1001 AND p.prosecdef \
                   AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
                   AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE')), \
                (SELECT n.nspname {cache} AND v.relname = 'pg_buffercache' AND {safe} \
                   AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
                   AND pg_catalog.has_table_privilege(v.oid, 'SELECT')) \
         FROM (SELECT) one LEFT JOIN ( \
           SELECT n.nspname, p.proargtypes::pg_catalog.text AS arguments, {safe} AS safe \
           {inspect} AND p.proname = 'get_raw_page' AND p.pronargs = 3) f ON true",
        cache = owned("pg_buffercache", "pg_class", "v", "relnamespace"),
        inspect = owned("pageinspect", "pg_proc", "p", "pronamespace"),
    )
}

/// Reads the answer to [`question`].
pub(super) fn read(row: &SimpleQueryRow, version: u32) -> Option<Server> {
    let number = |index| row.get(index).and_then(|text: &str| text.parse::<u64>().ok());
    let raw = row.get(6).zip(row.get(7)).and_then(|(schema, arguments)| {
        let number = match arguments {
            "25 25 20" => "int8",
            "25 25 23" => "int4",
            _ => return None,
        };
        Some(RawPage { schema: schema.to_owned(), number, safe: row.get(8) == Some("t") })
    });
    let block = number(2)?;
    Some(Server {
        version,
        utf8: row.get(0) == Some("UTF8"),
        forgets: row.get(1) != Some("-1"),
        block,
        // The setting counts pages.
        buffers: number(3)?.saturating_mul(block),
        standby: row.get(4) == Some("t"),
        superuser: row.get(5) == Some("t"),
        raw,
        reader: row.get(9).map(str::to_owned),
        cache: row.get(10).map(str::to_owned),
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
        } else if self.superuser && self.raw.is_some() {
            "the schema of pageinspect belongs to a role that is no superuser"
        } else if self.superuser {
            "the extension pageinspect is not there"
        } else {
            "the role is no superuser, and page-reader.sql, which wants a superuser, has made no function for it"
        };
        Some(why.into())
    }

    /// How pages are asked for, if they can be.
    fn way(&self) -> Option<Way<'_>> {
        match (&self.raw, &self.reader) {
            (Some(raw), _) if self.superuser && raw.safe => Some(Way::Raw(raw)),
            (_, Some(reader)) => Some(Way::Reader(reader)),
            _ => None,
        }
    }

    /// Whether pages can be read, and which way is open, in words.
    pub(in super::super) fn note(&self) -> String {
        let standby = || "the server is a standby".to_owned();
        match (self.doubt().or_else(|| self.standby.then(standby)), self.way()) {
            (None, Some(Way::Reader(role))) => {
                format!("tables can be read by pages, by the function {}", table(READERS, role))
            }
            (None, _) => {
                "tables can be read by pages: the role is a superuser, and pageinspect is there".into()
            }
            (Some(why), _) => format!("no table can be read by pages: {why}"),
        }
    }

    /// A query of these pages of a relation, in order: their numbers and bytes; and whether each row has several
    /// pages, without their holes. A superuser's function is the extension's own, by schema and types: another
    /// function of that name that fits better would run with our rights. It names the relation for each page.
    pub(super) fn query(&self, relation: u32, pages: &Range<u64>) -> Option<String> {
        let (first, last) = (pages.start, pages.end.saturating_sub(1));
        let (call, step) = match self.way()? {
            Way::Raw(RawPage { schema, number, .. }) => (
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A server of which a superuser reads pages, with so many bytes of buffers.
    pub(in super::super) fn server(buffers: u64) -> Server {
        Server {
            version: 150_000,
            utf8: true,
            forgets: false,
            block: 8192,
            buffers,
            standby: false,
            superuser: true,
            raw: Some(RawPage { schema: "public".into(), number: "int8", safe: true }),
            reader: None,
            cache: None,
        }
    }

    #[test]
    fn a_server_says_which_way_to_its_pages_is_open() {
        let open = server(1);
        assert!(open.note().contains("the role is a superuser"));
        let why = |server: Server| server.doubt().expect("a doubt");
        assert!(why(Server { version: 130_000, ..open.clone() }).contains("14 to 18"));
        assert!(why(Server { version: 190_000, ..open.clone() }).contains("14 to 18"));
        assert!(why(Server { utf8: false, ..open.clone() }).contains("UTF8"));
        assert!(why(Server { forgets: true, ..open.clone() }).contains("old_snapshot_threshold"));
        assert!(why(Server { raw: None, ..open.clone() }).contains("pageinspect is not there"));
        let lent = RawPage { schema: "lent".into(), number: "int8", safe: false };
        assert!(why(Server { raw: Some(lent), ..open.clone() }).contains("no superuser"));
        assert!(why(Server { superuser: false, ..open.clone() }).contains("page-reader.sql"));
        let role = Server { superuser: false, raw: None, reader: Some("exporter".into()), ..open.clone() };
        assert!(role.note().contains("by the function \"adu_page_reader\".\"exporter\""), "{}", role.note());
        assert!(Server { standby: true, ..open }.note().ends_with("the server is a standby"));
    }

    #[test]
    fn functions_are_called_by_schema_and_types() {
        let sql = server(1).query(42, &(5..9)).expect("a query");
        assert!(
            sql.contains(
                "\"public\".get_raw_page((42::pg_catalog.oid::pg_catalog.regclass)::pg_catalog.text"
            ),
            "{sql}"
        );
        assert!(sql.contains("'main'::pg_catalog.text, b::pg_catalog.int8)"), "{sql}");
        assert!(sql.contains("generate_series(5::pg_catalog.int8, 8::pg_catalog.int8, 1::"), "{sql}");
    }
}
