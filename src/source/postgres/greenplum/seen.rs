//! Compares the tables of a piece in the snapshot with their present state, under locks, before a chunk reads
//! them.
//!
//! A snapshot protects rows, not tables: after TRUNCATE or a rewrite a chunk would read other rows than the
//! snapshot shows, without an error. The relfilenode on the coordinator changes with every rewrite. EXCHANGE
//! PARTITION gives a leaf's name to another table, so names are resolved now and compared too. A column that
//! was dropped and added again has another number.

use std::collections::HashMap;

use tokio_postgres::SimpleQueryRow;

use super::super::quote::{literal, table, texts};
use super::super::seen::{FIXED_OIDS, changed};
use super::super::session::Session;
use super::super::sqlstate::Stage;
use super::piece::{Leaf, Piece};
use crate::message::pattern::qualified;
use crate::relation::Column;
use crate::source::SourceError;

/// Locks the tables for as long as the transaction lasts: nobody can truncate, rewrite, exchange or drop them.
/// A lock on the coordinator is enough, because every change of a definition takes its locks there first. `LOCK
/// TABLE` would need the right to the whole table, and this works with rights to columns too. Nothing is read.
pub(super) fn lock(leaves: &[Leaf]) -> String {
    let one = |leaf: &Leaf| format!("SELECT 1 FROM ONLY {} WHERE false", table(&leaf.schema, &leaf.name));
    leaves.iter().map(one).collect::<Vec<_>>().join(" UNION ALL ")
}

/// SQL that asks how the snapshot shows the tables, and what they are now. Casts to `regclass` and functions
/// of the server's caches answer for now; tables of the catalogue answer as the snapshot shows them.
pub(super) fn question(piece: &Piece, columns: &[Column]) -> String {
    let describe = |number: &str| {
        format!(
            "pg_catalog.pg_describe_object('pg_catalog.pg_class'::pg_catalog.regclass, a.attrelid, {number})"
        )
    };
    // Each table is a constant of its own query, so that the server looks its rows up in an index.
    let one = |(i, leaf): (usize, &Leaf)| {
        format!(
            "SELECT {i}, n.nspname, c.relname, {whole} OR c.relfilenode = pg_catalog.pg_relation_filenode(c.oid), \
                    a.attname, a.atttypid, pg_catalog.format_type(a.atttypid, a.atttypmod), \
                    {described} IN ({object} || ' column ' || a.attname, \
                                    'column ' || a.attname || ' of ' || {object}), \
                    a.attnum, c.oid \
             FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = {now}::pg_catalog.regclass \
                                                AND a.attnum > 0 AND NOT a.attisdropped \
                                                AND a.attname = ANY ({columns}) \
             WHERE c.oid = {now}::pg_catalog.regclass::pg_catalog.oid",
            whole = piece.is_whole,
            described = describe("a.attnum"),
            object = describe("0"),
            now = literal(&table(&leaf.schema, &leaf.name)),
            columns = texts(columns.iter().map(|c| c.name.as_str())),
        )
    };
    let each: Vec<String> = piece.leaves.iter().enumerate().map(one).collect();
    format!("{} ORDER BY 1, 9", each.join(" UNION ALL "))
}

/// What the chunk depends on and cannot lock: attributes and labels of the types of some columns.
#[derive(Debug, Default)]
pub(super) struct OwnTypes {
    /// Oid of a table, and numbers of its columns whose types have no fixed oid.
    pub(super) columns: Vec<(u32, i16)>,
}

/// Checks the answer to [`question`]: each table must be what the snapshot shows, and have the columns of the
/// plan.
pub(super) fn compare(
    rows: &[SimpleQueryRow],
    (schema, name): (&str, &str),
    leaves: &[Leaf],
    columns: &[Column],
) -> Result<OwnTypes, SourceError> {
    let mut own_types = OwnTypes::default();
    for (i, leaf) in leaves.iter().enumerate() {
        let index = i.to_string();
        let of_leaf: Vec<&SimpleQueryRow> = rows.iter().filter(|row| row.get(0) == Some(&index)).collect();
        let which = if (leaf.schema.as_str(), leaf.name.as_str()) == (schema, name) {
            "it".to_owned()
        } else {
            format!("its leaf {}", qualified(&leaf.schema, &leaf.name))
        };
        let differs = |why: &str| Err(changed(schema, name, &format!("{which} {why}")));
        let Some(first) = of_leaf.first() else { return differs("is not there") };
        if (first.get(1), first.get(2)) != (Some(leaf.schema.as_str()), Some(leaf.name.as_str())) {
            return differs("was exchanged, renamed or created since");
        }
        if first.get(3) != Some("t") {
            return differs("was truncated, rewritten or dropped");
        }
        let seen: HashMap<&str, &&SimpleQueryRow> =
            of_leaf.iter().filter_map(|row| Some((row.get(4)?, row))).collect();
        for planned in columns {
            let Some(row) = seen.get(planned.name.as_str()) else {
                return differs(&format!("has no column {}", planned.name));
            };
            if row.get(6) != Some(planned.source_type.as_str()) {
                let found = row.get(6).unwrap_or_default();
                let why =
                    format!("has column {} as {found}, planned as {}", planned.name, planned.source_type);
                return differs(&why);
            }
            if row.get(7) != Some("t") {
                return differs(&format!("has another column {} now", planned.name));
            }
            let number = |i: usize| row.get(i).and_then(|t| t.parse::<u32>().ok());
            if number(5).is_none_or(|oid| oid >= FIXED_OIDS)
                && let (Some(oid), Some(column)) = (number(9), row.get(8).and_then(|t| t.parse().ok()))
            {
                own_types.columns.push((oid, column));
            }
        }
    }
    Ok(own_types)
}

/// Definitions that a chunk depends on and cannot lock, as text. A definition that is the same at the end of
/// the chunk as in the snapshot did not change in between.
pub(in super::super) struct Fingerprint {
    sql: String,
    before: Option<String>,
    schema: String,
    name: String,
}

impl Fingerprint {
    /// Takes the fingerprint of a chunk's types, and of a view if the chunk reads one. `None` if the chunk
    /// depends on nothing but what it has locked.
    pub(super) async fn take(
        session: &Session,
        (schema, name): (&str, &str),
        own_types: &OwnTypes,
        is_whole: bool,
        what: &str,
    ) -> Result<Option<Self>, SourceError> {
        let mut of = Vec::new();
        if !own_types.columns.is_empty() {
            of.push(types(&own_types.columns));
        }
        if is_whole {
            of.push(view(schema, name));
        }
        if of.is_empty() {
            return Ok(None);
        }
        let sql = format!(
            "SELECT pg_catalog.md5(pg_catalog.array_to_string(ARRAY( \
               SELECT f.t FROM ({}) f(t) ORDER BY 1), ','))",
            of.join(" UNION ALL ")
        );
        let before = session.value(&sql, Stage::Chunk, what).await?;
        Ok(Some(Self { sql, before, schema: schema.to_owned(), name: name.to_owned() }))
    }

    /// Compares the fingerprint with the present definitions. The snapshot's transaction must have ended.
    pub(super) async fn compare(self, session: &Session, what: &str) -> Result<(), SourceError> {
        let now = session.value(&self.sql, Stage::Chunk, what).await?;
        if now.is_none() || now != self.before {
            let why = "a view, a table that it reads, a function, or a type of a column has changed";
            return Err(changed(&self.schema, &self.name, why));
        }
        Ok(())
    }
}

/// One text for each attribute and label of the types of some columns, and of the types within them.
fn types(columns: &[(u32, i16)]) -> String {
    let columns: Vec<String> = columns.iter().map(|(table, number)| format!("({table}, {number})")).collect();
    format!(
        "(WITH RECURSIVE used(oid) AS ( \
            SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE (a.attrelid, a.attnum) IN ({columns}) \
            UNION \
            SELECT w.oid FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid, LATERAL ( \
              SELECT t.typelem AS oid UNION ALL SELECT t.typbasetype \
              UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid \
              UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a \
                        WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) w \
            WHERE w.oid >= {FIXED_OIDS}) \
          SELECT 'attribute ' || a.attrelid || ' ' || a.attnum || ' ' || a.atttypid || ' ' || a.attname \
          FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid \
          JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped \
          WHERE t.typtype = 'c' \
          UNION ALL \
          SELECT 'label ' || e.oid || ' ' || e.enumlabel \
          FROM used u JOIN pg_catalog.pg_enum e ON e.enumtypid = u.oid)",
        columns = columns.join(", "),
    )
}

/// One text for each rule, function and table that a view reads, and those of the views within it.
fn view(schema: &str, name: &str) -> String {
    format!(
        "(WITH RECURSIVE used(oid) AS ( \
            SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
            WHERE n.nspname = {schema} AND c.relname = {name} \
            UNION \
            SELECT w.oid FROM used u, LATERAL ( \
              SELECT d.refobjid AS oid FROM pg_catalog.pg_rewrite r \
              JOIN pg_catalog.pg_depend d ON d.objid = r.oid \
                AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
                AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
              WHERE r.ev_class = u.oid \
              UNION ALL \
              SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = u.oid) w) \
          SELECT 'rule ' || r.oid || ' ' || r.xmin::pg_catalog.text \
          FROM used u JOIN pg_catalog.pg_rewrite r ON r.ev_class = u.oid \
          UNION ALL \
          SELECT 'table ' || c.oid || ' ' || c.relname || ' ' || c.relfilenode \
          FROM used u JOIN pg_catalog.pg_class c ON c.oid = u.oid \
          UNION ALL \
          SELECT 'function ' || f.oid || ' ' || f.xmin::pg_catalog.text \
          FROM used u JOIN pg_catalog.pg_rewrite r ON r.ev_class = u.oid \
          JOIN pg_catalog.pg_depend d ON d.objid = r.oid \
            AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
            AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass \
          JOIN pg_catalog.pg_proc f ON f.oid = d.refobjid)",
        schema = literal(schema),
        name = literal(name),
    )
}
