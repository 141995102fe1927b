//! What a chunk reads through definitions that neither its snapshot nor its
//! locks protect from the beginning of the job on: what views select, which
//! functions they call, what policies hide, attributes of composites, labels of
//! enums, the order of a text key, children of the tables that a view or filter
//! reads. The server follows the definitions of the moment, while SQL that reads
//! the catalogue sees those of the snapshot. They are compared once the chunk is
//! read: what still holds after its end has held all the time.

use super::seen::{Conditions, SeenRelation, changed};
use super::session::Session;
use super::sqlstate::Stage;
use crate::plan::export_plan::Slice;
use crate::source::SourceError;

/// What is asked at the end of a chunk's transaction.
pub(super) struct Definitions {
    sql: String,
    changed: SourceError,
}

impl Definitions {
    /// Those that a chunk of a relation depends on, if any.
    pub(super) fn of(
        seen: &SeenRelation,
        schema: &str,
        name: &str,
        conditions: Conditions<'_>,
        slice: Slice<'_>,
    ) -> Option<Self> {
        let ordered_text = matches!(slice, Slice::Range { cast, .. } if has_collation(cast));
        if !seen.is_view()
            && !seen.has_policies()
            && seen.composed.is_empty()
            && !conditions.may_read_tables()
            && !ordered_text
        {
            return None;
        }
        let key = conditions.key.filter(|_| ordered_text).and_then(|key| seen.number(key));
        // Names of settings that live as long as the session: the next chunk overwrites them.
        let note = |setting: &str, value: &str| {
            format!(
                "SELECT WHERE pg_catalog.set_config('adu_export.{setting}', ({value})::pg_catalog.text, false) IS NULL; "
            )
        };
        let noted = |setting: &str, ty: &str| {
            format!("pg_catalog.current_setting('adu_export.{setting}')::pg_catalog.{ty}")
        };
        // What was made after the snapshot holds no row of it.
        let read = "SELECT pg_catalog.array_agg(l.relation) FROM pg_catalog.pg_locks l \
                    JOIN pg_catalog.pg_class c ON c.oid = l.relation \
                    WHERE l.locktype = 'relation' AND l.pid = pg_catalog.pg_backend_pid()";
        let read_now = noted("read", "_oid");
        let definitions = definitions(seen, &read_now, key);
        let sql = format!(
            "{}{}COMMIT; SELECT {before} <@ ({definitions}) AND NOT EXISTS ( \
               SELECT FROM ({children}) c WHERE c.inhrelid = ANY ({read_now}) AND c.text <> ALL ({before}))",
            note("read", read),
            note("definitions", &definitions),
            before = noted("definitions", "_text"),
            children = children(&read_now),
        );
        let why = "a view, function, policy, type or collation, or the children of a table, that it depends on changed";
        Some(Self { sql, changed: changed(schema, name, why) })
    }

    /// Commits, compares and gives the connection back.
    pub(super) async fn end(self, session: Session, what: &str) -> Result<(), SourceError> {
        let same = session.value(&self.sql, Stage::Chunk, what).await?;
        session.give_back();
        if same.as_deref() == Some("t") { Ok(()) } else { Err(self.changed) }
    }
}

/// Whether ranges of a type, as plans name it, depend on a collation.
fn has_collation(cast: &str) -> bool {
    matches!(cast, "text" | "character varying" | "bpchar")
}

/// The children of some tables; partitions that are attached or detached count.
fn children(read: &str) -> String {
    format!(
        "SELECT i.inhrelid, 'child ' || i.inhparent || ' ' || i.inhrelid || ' ' || i.xmin::pg_catalog.text AS text \
         FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid \
         WHERE i.inhparent = ANY ({read}) AND c.relkind NOT IN ('i', 'I') AND c.relpersistence <> 't'"
    )
}

/// One text for each definition, as the statement's own snapshot shows them. Rows of rules and policies are replaced
/// when these are; a label that is added to an enum is in no row of ours.
fn definitions(seen: &SeenRelation, read: &str, key: Option<i16>) -> String {
    let composed: Vec<String> = seen.composed.iter().map(i16::to_string).collect();
    let types = if composed.is_empty() {
        String::new()
    } else {
        format!(
            "UNION ALL \
             (WITH RECURSIVE {parts} \
              SELECT 'attribute ' || a.attrelid || ' ' || a.attnum || ' ' || a.atttypid || ' ' || a.attname \
              FROM parts p JOIN pg_catalog.pg_attribute a ON a.attrelid = p.typrelid \
              WHERE p.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped \
              UNION ALL \
              SELECT 'label ' || e.oid || ' ' || e.enumlabel \
              FROM parts p JOIN pg_catalog.pg_enum e ON e.enumtypid = p.oid) ",
            parts = parts(seen.oid, &composed.join(", ")),
        )
    };
    let order = key.map(|number| {
        format!(
            "UNION ALL SELECT 'collation ' || a.attcollation FROM pg_catalog.pg_attribute a \
             WHERE a.attrelid = {} AND a.attnum = {number} ",
            seen.oid
        )
    });
    format!(
        "SELECT pg_catalog.array_agg(d.text) FROM ( \
           SELECT 'rule ' || r.oid || ' ' || r.xmin::pg_catalog.text AS text FROM pg_catalog.pg_rewrite r \
           WHERE r.ev_type = '1' AND r.ev_class = ANY ({read}) \
           UNION ALL \
           SELECT 'policy ' || p.oid || ' ' || p.xmin::pg_catalog.text FROM pg_catalog.pg_policy p \
           WHERE p.polrelid = ANY ({read}) \
           UNION ALL \
           SELECT 'table ' || c.oid || ' ' || c.relrowsecurity || ' ' || c.relforcerowsecurity || ' ' \
                  || (SELECT pg_catalog.count(*) FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid) \
           FROM pg_catalog.pg_class c \
           WHERE c.oid = ANY ({read}) AND c.relkind IN ('r', 'p') \
             AND (NOT c.relispartition OR c.oid = {root}) \
           UNION ALL \
           SELECT 'function ' || f.oid || ' ' || f.xmin::pg_catalog.text FROM pg_catalog.pg_proc f \
           WHERE f.oid IN ( \
             SELECT d.refobjid FROM pg_catalog.pg_depend d \
             WHERE d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass \
               AND (d.classid, d.objid) IN ( \
                 SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass, r.oid FROM pg_catalog.pg_rewrite r \
                 WHERE r.ev_class = ANY ({read}) \
                 UNION ALL \
                 SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass, p.oid FROM pg_catalog.pg_policy p \
                 WHERE p.polrelid = ANY ({read}))) \
           UNION ALL \
           SELECT c.text FROM ({children}) c \
           {order}{types}) d",
        root = seen.oid,
        children = children(read),
        order = order.unwrap_or_default(),
    )
}

/// The query `parts`: types of some columns of a table, and all types that these are made of.
pub(super) fn parts(table: u32, columns: &str) -> String {
    format!(
        "parts AS ( \
           SELECT t.oid, t.typtype, t.typrelid, t.typelem, t.typbasetype \
           FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
           WHERE a.attrelid = {table} AND a.attnum IN ({columns}) \
           UNION \
           SELECT t.oid, t.typtype, t.typrelid, t.typelem, t.typbasetype \
           FROM parts p, LATERAL ( \
             SELECT p.typelem AS oid UNION ALL SELECT p.typbasetype \
             UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = p.oid \
             UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a \
                       WHERE p.typtype = 'c' AND a.attrelid = p.typrelid AND a.attnum > 0 AND NOT a.attisdropped) of \
           JOIN pg_catalog.pg_type t ON t.oid = of.oid)"
    )
}
