//! A snapshot protects rows, not tables. After TRUNCATE, a rewrite, a dropped partition, or a column that was
//! dropped and added again, a chunk would silently read something else than the snapshot shows. This module
//! compares the catalogue in the snapshot with the current state. The chunk's own locks then prevent further
//! changes.

use std::num::NonZeroU32;

use super::catalogue::is_read_child;
use super::definitions::parts;
use super::quote::{ident, shown, table};
use super::seen::{FIXED_OIDS, SeenColumn, SeenRelation, changed};
use super::session::Session;
use super::sqlstate::Stage;
use crate::source::SourceError;

/// Asks the server's parser what the names of the columns mean now. The relation, the column numbers and the
/// types must be the same as in the snapshot. The question also takes the lock on the relation. Types without
/// a fixed oid are left out, because looking them up would leave named statements on the connection.
/// [`other_names`] checks columns of such types.
pub(super) async fn same_columns(
    session: &Session,
    schema: &str,
    name: &str,
    seen: &SeenRelation,
) -> Result<(), SourceError> {
    let fixed: Vec<(&String, &SeenColumn)> = seen
        .read
        .iter()
        .filter_map(|name| Some((name, seen.columns.get(name)?)))
        .filter(|(_, s)| s.oid < FIXED_OIDS)
        .collect();
    if fixed.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = fixed.iter().map(|(name, _)| ident(name)).collect();
    let sql = format!("SELECT {} FROM {}", list.join(", "), table(schema, name));
    let statement = session.prepare(&sql, &format!("read {}", shown(schema, name))).await?;
    for ((column, seen_column), now) in fixed.iter().zip(statement.columns()) {
        let same = now.table_oid() == Some(seen.oid)
            && now.column_id() == Some(seen_column.number)
            && now.type_().oid() == seen_column.oid;
        if !same {
            return Err(changed(schema, name, &format!("column {column} is another one now")));
        }
    }
    Ok(())
}

/// Checks that a table that is read alone still has the file that the snapshot shows. Send this question
/// after [`same_columns`], which takes the lock; there is no need to wait for that answer first.
pub(super) async fn same_file(
    session: &Session,
    schema: &str,
    name: &str,
    seen: &SeenRelation,
) -> Result<(), SourceError> {
    debug_assert!(seen.is_alone, "else nothing may have been locked");
    let sql = format!(
        "SELECT pg_catalog.pg_relation_filenode({root}), pg_catalog.row_security_active({root})",
        root = seen.oid
    );
    let rows = session.rows(&sql, Stage::Chunk, &format!("read {}", shown(schema, name))).await?;
    let row = rows.first();
    let file: Option<NonZeroU32> = row.and_then(|row| row.get(0)?.parse().ok());
    if file.is_none() || file != seen.file {
        return Err(changed(schema, name, "it was truncated, rewritten or dropped"));
    }
    if row.and_then(|row| row.get(1)) != Some("f") {
        return Err(changed(schema, name, "it has got row-level security"));
    }
    Ok(())
}

/// Checks every relation that this transaction has locked for reading. The relation must have the file that
/// the snapshot shows, and a partitioned or inherited table must have the same children. A new child that the
/// snapshot does not show holds no row of the snapshot, so it is harmless unless it is a foreign table. A new
/// child that the snapshot shows as a separate table is not harmless, because it holds rows of the snapshot.
pub(super) async fn same_files(
    session: &Session,
    schema: &str,
    name: &str,
    query: Locking<'_>,
    seen: &SeenRelation,
) -> Result<(), SourceError> {
    let what = format!("read {}", shown(schema, name));
    let mut sql = format!("{} LIMIT 0; ", query.whole);
    if seen.is_plain() {
        // Begin with the query without children. Its locks show what the filter and policies read.
        sql = format!("{} LIMIT 0; {REMEMBER_LOCKS}; {sql}", query.alone);
        if seen.composed.is_empty() {
            let alone = format!("{sql}{}", locks_nothing_else(seen));
            if !session.rows(&alone, Stage::Chunk, &what).await?.is_empty() {
                return Ok(());
            }
            sql.clear();
        }
    }
    sql.push_str(&changed_relations(seen, session.version()));
    let rows = session.rows(&sql, Stage::Chunk, &what).await?;
    match rows.first() {
        None => Ok(()),
        Some(row) => {
            let (of, relation) = (row.get(0).unwrap_or_default(), row.get(1).unwrap_or_default());
            let why = row.get(2).unwrap_or_default();
            let which = if (of, relation) == (schema, name) { "it".into() } else { shown(of, relation) };
            Err(changed(schema, name, &format!("{which} {why}")))
        }
    }
}

/// The queries of a chunk. Running them takes their locks.
pub(super) struct Locking<'a> {
    /// The query as COPY runs it.
    pub(super) whole: &'a str,
    /// The query without child tables.
    pub(super) alone: &'a str,
}

/// Returns a row if the table is unchanged, has no child, and is the only relation that its transaction has
/// locked for reading. Most tables with a filter pass this check, which takes a fifth of the time of the full
/// check. Without a row, [`changed_relations`] must check everything.
fn locks_nothing_else(root: &SeenRelation) -> String {
    format!(
        "SELECT 1 FROM pg_catalog.pg_class c \
         WHERE c.oid = {root} AND c.relfilenode = pg_catalog.pg_relation_filenode({root}) \
           AND (c.relrowsecurity OR NOT pg_catalog.row_security_active({root})) \
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = {root}) \
           AND (SELECT pg_catalog.bool_and(r.oid IS NOT DISTINCT FROM {root}) FROM pg_catalog.pg_locks l \
                LEFT JOIN pg_catalog.pg_class r ON r.oid = l.relation \
                WHERE l.locktype = 'relation' AND l.pid = pg_catalog.pg_backend_pid() \
                  AND (r.oid IS NULL \
                       OR r.relkind NOT IN ('i', 'I') \
                          AND r.relnamespace <> 'pg_catalog'::pg_catalog.regnamespace))",
        root = root.oid
    )
}

/// Stores the oids of locked relations until the transaction ends. Returns no row.
const REMEMBER_LOCKS: &str = "SELECT WHERE pg_catalog.set_config('adu_export.locked', \
     (SELECT pg_catalog.string_agg(l.relation::pg_catalog.text, ',') FROM pg_catalog.pg_locks l \
      WHERE l.locktype = 'relation' AND l.pid = pg_catalog.pg_backend_pid()), true) IS NULL";

/// Schema, name and reason of relations that differ from the snapshot. SQL that reads a catalogue table sees
/// the snapshot. Functions that look into the server's caches see the current state, and so do the locks. A
/// query of a table locks all its children, except pruned partitions. For parents that a view, policy or
/// filter reads, the planner may not need any child. `definitions` compares the children of such parents at
/// the end.
fn changed_relations(root: &SeenRelation, version: u32) -> String {
    let got_child = if root.is_plain() {
        format!(
            "UNION ALL \
             SELECT {root}::pg_catalog.oid, 'has got an older table as a child' FROM seen s \
             WHERE s.relkind = 'r' AND s.oid <> {root} \
               AND NOT EXISTS (SELECT FROM tree t WHERE t.root = {root} AND t.oid = s.oid) \
               AND s.oid <> ALL (pg_catalog.string_to_array( \
                     pg_catalog.current_setting('adu_export.locked'), ',')::pg_catalog.oid[]) ",
            root = root.oid
        )
    } else {
        String::new()
    };
    let lost_child = if root.only {
        String::new()
    } else {
        format!(
            "UNION ALL \
             SELECT t.root, 'has lost a child table' FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.oid \
             WHERE t.root = {} AND t.relkind = 'r' AND c.relpersistence <> 't' AND t.oid NOT IN (SELECT oid FROM locked) ",
            root.oid
        )
    };
    format!(
        "WITH RECURSIVE locked AS MATERIALIZED ( \
           SELECT l.relation AS oid FROM pg_catalog.pg_locks l \
           WHERE l.locktype = 'relation' AND l.pid = pg_catalog.pg_backend_pid() \
             AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d \
                               WHERE d.datname = pg_catalog.current_database())), \
         seen AS MATERIALIZED ( \
           SELECT c.oid, n.nspname, c.relname, c.relkind, c.relfilenode, c.relrowsecurity \
           FROM locked JOIN pg_catalog.pg_class c USING (oid) \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
           WHERE c.relkind IN ('r', 'm', 'p') \
             AND n.nspname NOT IN ('pg_catalog', 'information_schema')), \
         tree AS ( \
           SELECT s.oid AS root, s.relkind, i.inhrelid AS oid \
           FROM seen s JOIN pg_catalog.pg_inherits i ON i.inhparent = s.oid{read} WHERE s.relkind IN ('r', 'p') \
           UNION \
           SELECT t.root, t.relkind, i.inhrelid \
           FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid{read}), \
         partitions AS ( \
           SELECT s.oid AS root, p.relid::pg_catalog.oid AS oid \
           FROM seen s, LATERAL pg_catalog.pg_partition_tree(s.oid) p \
           WHERE s.relkind = 'p' AND p.relid <> s.oid), \
         findings AS ( \
           SELECT oid, 'was truncated, rewritten or dropped' AS why FROM seen \
           WHERE relkind IN ('r', 'm') \
             AND relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(oid) \
           UNION ALL \
           SELECT t.root, 'has lost a partition' FROM tree t \
           WHERE t.relkind = 'p' \
             AND NOT EXISTS (SELECT FROM partitions p WHERE p.root = t.root AND p.oid = t.oid) \
           UNION ALL \
           SELECT p.root, 'has got an older table as a partition' FROM partitions p \
           JOIN pg_catalog.pg_class c ON c.oid = p.oid \
           WHERE NOT EXISTS (SELECT FROM tree t WHERE t.root = p.root AND t.oid = p.oid) \
           {lost_child}\
           UNION ALL \
           SELECT oid, 'has got row-level security' FROM seen \
           WHERE NOT relrowsecurity AND pg_catalog.row_security_active(oid) \
           UNION ALL \
           SELECT {root}, 'is another relation now' WHERE {root} NOT IN (SELECT oid FROM locked) \
           UNION ALL \
           SELECT {root}, 'has got a child without a file of its own' FROM locked \
           WHERE pg_catalog.pg_relation_filenode(oid) IS NULL \
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = locked.oid) \
           {other_names} \
           {got_child}) \
         SELECT n.nspname, c.relname, f.why FROM findings f \
         JOIN pg_catalog.pg_class c ON c.oid = f.oid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LIMIT 1",
        root = root.oid,
        other_names = other_names(root),
        read = is_read_child(version),
    )
}

/// SQL that finds column numbers whose name has changed since the snapshot. It checks columns whose types
/// have no fixed oid, and the attributes of all composites in these types, because the binary form identifies
/// attributes by position only. A dropped column has no name.
fn other_names(root: &SeenRelation) -> String {
    if root.composed.is_empty() {
        return String::new();
    }
    let numbers: Vec<String> = root.composed.iter().map(i16::to_string).collect();
    format!(
        "UNION ALL \
         (WITH RECURSIVE {parts}, \
          names AS ( \
            SELECT a.attrelid, a.attnum, a.attname FROM pg_catalog.pg_attribute a \
            WHERE a.attrelid = {root} AND a.attnum IN ({numbers}) \
            UNION \
            SELECT a.attrelid, a.attnum, a.attname FROM parts p JOIN pg_catalog.pg_attribute a ON a.attrelid = p.typrelid \
            WHERE p.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped) \
          SELECT {root}, 'has another ' || CASE attrelid WHEN {root} THEN 'column ' ELSE 'attribute ' END || attname \
          FROM names \
          WHERE CASE WHEN pg_catalog.has_column_privilege(attrelid, attnum, 'SELECT') IS NULL THEN true \
                     ELSE (pg_catalog.pg_identify_object_as_address('pg_catalog.pg_class'::pg_catalog.regclass, \
                             attrelid, attnum)).object_names[3] IS DISTINCT FROM attname::pg_catalog.text END) ",
        root = root.oid,
        parts = parts(root.oid, &numbers.join(", ")),
        numbers = numbers.join(", "),
    )
}
