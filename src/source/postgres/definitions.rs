//! Compares definitions that a chunk depends on but that neither its snapshot nor its locks protect since the
//! job began: what views select, which functions they call, what policies hide, attributes of composites,
//! labels of enums, the order of a text key, and children of the tables that a view or filter reads. The
//! server follows the current definitions, while SQL that reads the catalogue sees the definitions of the
//! snapshot. The comparison runs after the chunk is read: a definition that is unchanged at the end did not
//! change in between.
//!
//! If a chunk reads only some rows, the planner may skip data that holds no such row now but does in the
//! snapshot: partitions by their bounds, all rows by NOT NULL, rows that an index does not have. An index
//! that is built CONCURRENTLY waits for the snapshots that exist near its end. It does not wait for a
//! snapshot that a daemon takes over from another daemon later.

use super::catalogue::is_read_child;
use super::order::cast;
use super::seen::{Conditions, SeenRelation, changed};
use super::session::Session;
use super::sqlstate::Stage;
use crate::relation::Slice;
use crate::source::SourceError;

/// First version that plans `IS NULL` on a NOT NULL column as false.
const HAS_NULL_FOLDING: u32 = 170_000;
/// First version that updates the catalogue row of an index when the index becomes valid. Older versions
/// overwrite the row in place.
const HAS_VERSIONED_INDEXES: u32 = 140_000;

/// The question that a chunk's transaction asks at its end.
pub(super) struct Definitions {
    sql: String,
    schema: String,
    name: String,
}

/// What a chunk may depend on.
struct Asked {
    /// Whether views, policies or a filter may read other tables.
    leads_on: bool,
    /// Whether definitions decide which rows the chunk reads.
    follows: bool,
    /// Whether the chunk may ask for rows whose key is NULL.
    nulls: bool,
    /// Number of a key column whose order depends on a collation.
    key: Option<i16>,
    /// Version of the server.
    version: u32,
}

impl Definitions {
    /// The definitions that a chunk of a relation depends on, if any.
    pub(super) fn of(
        seen: &SeenRelation,
        (schema, name): (&str, &str),
        conditions: Conditions<'_>,
        slice: Slice<'_>,
        version: u32,
    ) -> Option<Self> {
        let is_range = slice.order().is_some();
        let is_nulls = slice.column().is_some() && !is_range;
        let ordered_text =
            slice.order().is_some_and(|order| cast(order).is_ok_and(|cast| cast.has_collation));
        let leads_on = seen.is_view() || seen.has_policies() || conditions.may_read_tables();
        let asked = Asked {
            leads_on,
            follows: leads_on || !seen.composed.is_empty() || ordered_text,
            nulls: leads_on || conditions.filter.is_some() || is_nulls,
            key: conditions.key.filter(|_| ordered_text).and_then(|key| seen.number(key)),
            version,
        };
        if !asked.follows && !asked.nulls && !is_range {
            return None;
        }
        Some(Self { sql: asked.sql(seen), schema: schema.to_owned(), name: name.to_owned() })
    }

    /// Commits, compares the definitions and returns the connection to the pool.
    pub(super) async fn end(self, session: Session, what: &str) -> Result<(), SourceError> {
        let same = self.compare(&session, what).await?;
        session.give_back();
        same
    }

    /// Commits and compares the definitions. The inner error says what has changed.
    pub(super) async fn compare(
        &self,
        session: &Session,
        what: &str,
    ) -> Result<Result<(), SourceError>, SourceError> {
        let why = session.value(&self.sql, Stage::Chunk, what).await?;
        Ok(match why.as_deref() {
            Some("") => Ok(()),
            why => Err(changed(&self.schema, &self.name, why.unwrap_or("it cannot be told whether it did"))),
        })
    }
}

impl Asked {
    /// SQL that stores what the snapshot shows, commits, and then answers what has changed. An empty text
    /// means that nothing has changed.
    fn sql(&self, seen: &SeenRelation) -> String {
        // Custom settings store the values. They live as long as the session, and the next chunk overwrites
        // them.
        let note = |setting: &str, value: &str| {
            format!(
                "SELECT WHERE pg_catalog.set_config('adu_export.{setting}', ({value})::pg_catalog.text, false) IS NULL; "
            )
        };
        let noted = |setting: &str, ty: &str| {
            format!(
                "SELECT pg_catalog.unnest(pg_catalog.current_setting('adu_export.{setting}')::pg_catalog.{ty})"
            )
        };
        let texts = |of: &str| format!("SELECT coalesce(pg_catalog.array_agg(t.text), '{{}}') FROM ({of}) t");
        // A relation that was created after the snapshot holds no row of it.
        let locked = "SELECT pg_catalog.array_agg(l.relation) FROM pg_catalog.pg_locks l \
                      JOIN pg_catalog.pg_class c ON c.oid = l.relation \
                      WHERE l.locktype = 'relation' AND l.pid = pg_catalog.pg_backend_pid()";
        let read = noted("read", "_oid");
        let kept = |is_read: &str| {
            let mut of = vec!["SELECT NULL::pg_catalog.text AS text WHERE false".to_owned()];
            let has_partitions = seen.is_partitioned() || self.leads_on;
            of.extend(has_partitions.then(|| bounds(&read, is_read)));
            of.extend(has_partitions.then(|| defaults(&read, is_read_child(self.version))));
            of.extend((self.nulls && self.version >= HAS_NULL_FOLDING).then(|| nullable(&read)));
            of.extend(self.follows.then(|| definitions(seen, &read, self.key)));
            of.join(" UNION ALL ")
        };
        let children = children(seen, &read);
        format!(
            "{}{}{}COMMIT; SELECT CASE \
               WHEN EXISTS ({kept_noted} EXCEPT ({kept_now})) THEN 'a view, function, policy, type or collation that it \
                 depends on, the partitions or children of a table, or NOT NULL of a column have changed' \
               WHEN EXISTS (SELECT FROM ({children}) c WHERE c.inhrelid IN ({read}) AND c.text NOT IN ({grown_noted})) \
                 THEN 'a table has another child' \
               ELSE coalesce((SELECT i.why FROM ({indexes}) i WHERE i.text NOT IN ({grown_noted}) LIMIT 1), '') END",
            note("read", locked),
            // A partition that is being detached may be gone at the end.
            note("kept", &texts(&kept(is_read_child(self.version)))),
            note(
                "grown",
                &texts(&format!("SELECT c.text FROM ({children}) c UNION ALL {}", valid_indexes(&read, "")))
            ),
            kept_noted = noted("kept", "_text"),
            kept_now = kept(""),
            grown_noted = noted("grown", "_text"),
            indexes = self.doubtful_indexes(&read),
        )
    }

    /// Indexes that may lack rows of a snapshot in which they are not valid. If other tables are read, also
    /// new unique indexes, because the planner may leave out joins that they make unnecessary. An index that
    /// is built without CONCURRENTLY is valid from its first transaction on and has all rows that any
    /// snapshot of its server shows. This check cannot find an index that is dropped CONCURRENTLY while the
    /// chunk reads.
    fn doubtful_indexes(&self, read: &str) -> String {
        let later = format!(
            ", c.relname, i.indisunique, \
             {} OR pg_catalog.pg_is_in_recovery() OR i.xmin <> (SELECT a.xmin FROM pg_catalog.pg_attribute a \
               WHERE a.attrelid = i.indexrelid AND a.attnum = 1) AS later",
            self.version < HAS_VERSIONED_INDEXES
        );
        format!(
            "SELECT v.text, \
                    CASE WHEN v.later THEN 'the index ' || v.relname || ', which was created since, may lack rows' \
                         ELSE 'the unique index ' || v.relname || ' was created' END AS why \
             FROM ({}) v WHERE v.later OR {} AND v.indisunique",
            valid_indexes(read, &later),
            self.leads_on,
        )
    }
}

/// The children of some tables, so that an attached or detached partition counts as a change. If a table is
/// read without its children, its own children are left out.
fn children(seen: &SeenRelation, read: &str) -> String {
    let others = if seen.only { format!(" AND i.inhparent <> {}", seen.oid) } else { String::new() };
    format!(
        "SELECT i.inhrelid, 'child ' || i.inhparent || ' ' || i.inhrelid || ' ' || i.xmin::pg_catalog.text AS text \
         FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid \
         WHERE i.inhparent IN ({read}) AND c.relkind NOT IN ('i', 'I') AND c.relpersistence <> 't'{others}"
    )
}

/// Some tables and all their partitions.
fn tree(read: &str, is_read: &str) -> String {
    format!(
        "WITH RECURSIVE tree AS ( \
           SELECT r.oid FROM ({read}) r (oid) \
           UNION \
           SELECT i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid{is_read})"
    )
}

/// The bounds of all partitions of some tables.
fn bounds(read: &str, is_read: &str) -> String {
    format!(
        "({} SELECT 'bounds ' || c.oid || ' ' || pg_catalog.md5(c.relpartbound::pg_catalog.text) \
          FROM tree JOIN pg_catalog.pg_class c USING (oid) WHERE c.relispartition)",
        tree(read, is_read)
    )
}

/// The other partitions beside each default partition, because they decide which rows remain for the default
/// partition.
fn defaults(read: &str, is_read: &str) -> String {
    format!(
        "({} SELECT 'default ' || p.partdefid || ' ' || pg_catalog.md5(pg_catalog.string_agg( \
                   i.inhrelid::pg_catalog.text, ',' ORDER BY i.inhrelid)) \
          FROM tree JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = tree.oid AND p.partdefid <> 0 \
          JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid{is_read} GROUP BY p.partdefid)",
        tree(read, is_read)
    )
}

/// The columns of some tables that may be NULL.
fn nullable(read: &str) -> String {
    format!(
        "SELECT 'nullable ' || a.attrelid || ' ' || a.attnum FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid IN ({read}) AND a.attnum > 0 AND NOT a.attnotnull"
    )
}

/// The valid indexes of some tables. A standby may show a snapshot that its primary does not know. There, an
/// index that is built again counts as another index.
fn valid_indexes(read: &str, more: &str) -> String {
    format!(
        "SELECT 'index ' || i.indexrelid \
                || CASE WHEN pg_catalog.pg_is_in_recovery() THEN ' ' || c.relfilenode ELSE '' END AS text{more} \
         FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i' \
         WHERE i.indrelid IN ({read}) AND i.indisvalid"
    )
}

/// One text for each definition, as the snapshot of the statement shows it. A changed rule or policy has a
/// new catalogue row. A new label of an enum does not matter, because no row of the snapshot contains it.
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
        "SELECT d.text FROM ( \
           SELECT 'rule ' || r.oid || ' ' || r.xmin::pg_catalog.text AS text FROM pg_catalog.pg_rewrite r \
           WHERE r.ev_type = '1' AND r.ev_class IN ({read}) \
           UNION ALL \
           SELECT 'policy ' || p.oid || ' ' || p.xmin::pg_catalog.text FROM pg_catalog.pg_policy p \
           WHERE p.polrelid IN ({read}) \
           UNION ALL \
           SELECT 'table ' || c.oid || ' ' || c.relrowsecurity || ' ' || c.relforcerowsecurity || ' ' \
                  || (SELECT pg_catalog.count(*) FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid) \
           FROM pg_catalog.pg_class c \
           WHERE c.oid IN ({read}) AND c.relkind IN ('r', 'p') \
             AND (NOT c.relispartition OR c.oid = {root}) \
           UNION ALL \
           SELECT 'function ' || f.oid || ' ' || f.xmin::pg_catalog.text FROM pg_catalog.pg_proc f \
           WHERE f.oid IN ( \
             SELECT d.refobjid FROM pg_catalog.pg_depend d \
             WHERE d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass \
               AND (d.classid, d.objid) IN ( \
                 SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass, r.oid FROM pg_catalog.pg_rewrite r \
                 WHERE r.ev_class IN ({read}) \
                 UNION ALL \
                 SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass, p.oid FROM pg_catalog.pg_policy p \
                 WHERE p.polrelid IN ({read}))) \
           UNION ALL \
           SELECT c.text FROM ({children}) c \
           {order}{types}) d",
        root = seen.oid,
        children = children(seen, read),
        order = order.unwrap_or_default(),
    )
}

/// SQL for the query `parts`: the types of some columns of a table, and all types that they contain.
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
