//! Facts of relations from the catalogue: rights, sizes, partitions and children, in one query for all
//! relations.

use std::collections::HashMap;

use tokio_postgres::SimpleQueryRow;

use super::super::named::{Named, WHAT};
use super::super::quote::{ident, table};
use super::super::session::Session;
use super::super::sqlstate::Stage;
use crate::relation::{RelationKind, Unreadable};
use crate::source::SourceError;

/// The effect of row-level security on a role.
pub(super) const HIDDEN_ROWS: &str = "row-level security hides rows from the role";

/// Where sizes come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::source::postgres) enum Sizes {
    /// The size of the files now.
    Now,
    /// The size at the last VACUUM or ANALYZE. While somebody holds a strong lock, a question for the file
    /// size would wait for that lock.
    LastVacuum,
}

/// Growth since the last ANALYZE that makes its histograms outdated. Newer rows usually lie beyond the last
/// bound.
const OUTDATED: f64 = 1.25;
/// First version that can detach a partition without a strong lock.
const HAS_PENDING_DETACH: u32 = 140_000;

/// Facts of a relation. Sizes include its partitions and children.
#[derive(Clone, Default)]
pub(super) struct Facts {
    pub(super) schema_usage: bool,
    pub(super) select: bool,
    pub(super) any_column: bool,
    pub(super) hidden_rows: bool,
    pub(super) populated: bool,
    pub(super) heap: bool,
    /// Number of relations with files of their own: the relation, its partitions and children.
    pub(super) members: u32,
    pub(super) foreign_members: u32,
    /// Whether the relation is a view that reads foreign tables.
    pub(super) reads_foreign: bool,
    pub(super) heap_bytes: u64,
    pub(super) toast_bytes: u64,
    pub(super) block_bytes: u64,
    /// Rows and pages of the relations for which an ANALYZE or VACUUM has counted them.
    pub(super) counted_rows: f64,
    pub(super) counted_pages: f64,
    /// Whether the relation may have rows of its own. False for a partitioned table and for a view.
    pub(super) has_own_rows: bool,
    /// Whether the server is a standby and a relation that is read is unlogged, so that its rows are missing
    /// here.
    pub(super) unlogged: bool,
    pub(super) own: Own,
}

/// Facts of the relation itself, without partitions and children.
#[derive(Clone, Copy, Default)]
pub(super) struct Own {
    pub(super) heap_bytes: u64,
    pub(super) toast_bytes: u64,
    pub(super) counted_rows: f64,
    pub(super) counted_pages: f64,
    pub(super) unlogged: bool,
}

impl Facts {
    /// Whether other tables inherit from it. Partitions do not count.
    pub(super) fn inheritors(&self, kind: RelationKind) -> bool {
        match kind {
            RelationKind::Table => self.members > 1 || self.foreign_members > 0,
            RelationKind::Foreign => self.members > 0 || self.foreign_members > 0,
            _ => false,
        }
    }

    /// The facts of the relation without tables that inherit from it.
    pub(super) fn alone(&self) -> Self {
        let Own { heap_bytes, toast_bytes, counted_rows, counted_pages, unlogged } = self.own;
        let (members, foreign_members) = (self.members.min(1), 0);
        Self {
            members,
            foreign_members,
            heap_bytes,
            toast_bytes,
            counted_rows,
            counted_pages,
            unlogged,
            ..self.clone()
        }
    }

    /// Estimates rows as the server's planner does: earlier rows per page, times the number of pages now.
    pub(super) fn rows(&self, kind: RelationKind) -> Option<u64> {
        if matches!(kind, RelationKind::View | RelationKind::Foreign) || self.foreign_members > 0 {
            return None;
        }
        let pages = self.pages();
        if pages == 0.0 {
            return Some(0);
        }
        (self.counted_pages > 0.0).then(|| (self.counted_rows / self.counted_pages * pages).round() as u64)
    }

    pub(super) fn pages(&self) -> f64 {
        self.heap_bytes as f64 / self.block_bytes.max(1) as f64
    }

    /// Whether the table was much smaller when its statistics were taken.
    pub(super) fn are_outdated(&self) -> bool {
        self.pages() > OUTDATED * self.counted_pages
    }

    pub(super) fn unreadable(
        &self,
        named: &Named,
        columns: usize,
        all_rows: Option<&str>,
    ) -> Option<Unreadable> {
        let (schema, name) = (&named.schema, table(&named.schema, &named.name));
        let (why, remedy) = if !self.schema_usage {
            let grant = format!("grant it to the role: GRANT USAGE ON SCHEMA {} TO <role>", ident(schema));
            (format!("no USAGE right on schema {schema}"), grant)
        } else if !self.select && !self.any_column && columns > 0 {
            ("no SELECT right".into(), format!("grant it to the role: GRANT SELECT ON {name} TO <role>"))
        } else if let Some(remedy) = all_rows.filter(|_| self.hidden_rows) {
            (HIDDEN_ROWS.into(), remedy.to_owned())
        } else if !self.populated {
            let why = "the materialized view is not populated";
            (why.into(), format!("fill it: REFRESH MATERIALIZED VIEW {name}"))
        } else {
            return None;
        };
        Some(Unreadable { why, remedy })
    }
}

/// Condition on `pg_inherits`, as `i`, for children that a query reads.
pub(in super::super) fn is_read_child(version: u32) -> &'static str {
    if version >= HAS_PENDING_DETACH { " AND NOT i.inhdetachpending" } else { "" }
}

/// The facts of some relations, by oid.
pub(super) async fn facts(
    session: &Session,
    version: u32,
    oids: &str,
    sizes: Sizes,
) -> Result<HashMap<u32, Facts>, SourceError> {
    let mut facts = HashMap::new();
    session
        .each(&facts_sql(version, oids, sizes), Stage::Question, WHAT, |row| {
            if let Some((oid, f)) = parse_facts(&row) {
                facts.insert(oid, f);
            }
        })
        .await?;
    Ok(facts)
}

fn parse_facts(row: &SimpleQueryRow) -> Option<(u32, Facts)> {
    let yes = |i: usize| row.get(i) == Some("t");
    let number = |i: usize| row.get(i).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
    let facts = Facts {
        schema_usage: yes(1),
        select: yes(2),
        any_column: yes(3),
        hidden_rows: yes(4),
        populated: yes(5),
        heap: yes(6),
        members: number(7) as u32,
        foreign_members: number(8) as u32,
        heap_bytes: number(9) as u64,
        toast_bytes: number(10) as u64,
        block_bytes: number(11) as u64,
        counted_rows: number(12),
        counted_pages: number(13),
        reads_foreign: yes(14),
        has_own_rows: yes(15),
        unlogged: yes(16),
        own: Own {
            unlogged: yes(17),
            heap_bytes: number(18) as u64,
            toast_bytes: number(19) as u64,
            counted_rows: number(20),
            counted_pages: number(21),
        },
    };
    Some((row.get(0)?.parse().ok()?, facts))
}

fn facts_sql(version: u32, oids: &str, sizes: Sizes) -> String {
    let block = "pg_catalog.current_setting('block_size')::pg_catalog.int8";
    let size = |relation: &str| match sizes {
        Sizes::Now => format!("pg_catalog.pg_relation_size({relation}.oid)"),
        Sizes::LastVacuum => format!("{relation}.relpages * {block}"),
    };
    format!(
        "WITH RECURSIVE roots AS (SELECT pg_catalog.unnest({oids}) AS oid), \
         tree AS (SELECT oid AS root, oid FROM roots \
                  UNION SELECT t.root, i.inhrelid FROM tree t \
                        JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid{read}), \
         used AS (SELECT oid AS root, oid FROM roots JOIN pg_catalog.pg_class v USING (oid) WHERE v.relkind = 'v' \
                  UNION SELECT u.root, n.oid FROM used u, LATERAL ( \
                    SELECT d.refobjid AS oid FROM pg_catalog.pg_class v \
                    JOIN pg_catalog.pg_rewrite r ON r.ev_class = v.oid JOIN pg_catalog.pg_depend d ON d.objid = r.oid \
                    WHERE v.oid = u.oid AND v.relkind = 'v' AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
                      AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
                    UNION ALL \
                    SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = u.oid{read}) n), \
         sums AS (SELECT t.root, \
                    pg_catalog.count(*) FILTER (WHERE c.relkind IN ('r', 'm')) AS members, \
                    pg_catalog.count(*) FILTER (WHERE c.relkind = 'f' AND t.oid <> t.root) AS foreign_members, \
                    pg_catalog.sum(CASE WHEN c.relkind IN ('r', 'm') THEN {heap} END) AS heap_bytes, \
                    pg_catalog.sum((SELECT {toast} FROM pg_catalog.pg_class o WHERE o.oid = c.reltoastrelid)) \
                      AS toast_bytes, \
                    pg_catalog.sum(c.reltuples) FILTER (WHERE c.reltuples > 0 AND c.relpages > 0 \
                                                        AND c.relkind IN ('r', 'm')) AS counted_rows, \
                    pg_catalog.sum(c.relpages) FILTER (WHERE c.reltuples > 0 \
                                                       AND c.relkind IN ('r', 'm')) AS counted_pages, \
                    pg_catalog.bool_or(c.relpersistence = 'u') AS unlogged \
                  FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.oid GROUP BY t.root) \
         SELECT c.oid, \
                pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE'), \
                pg_catalog.has_table_privilege(c.oid, 'SELECT'), \
                pg_catalog.has_any_column_privilege(c.oid, 'SELECT'), \
                c.relrowsecurity AND pg_catalog.row_security_active(c.oid), \
                c.relispopulated, am.amname = 'heap', s.members, s.foreign_members, \
                s.heap_bytes, s.toast_bytes, {block}, s.counted_rows, s.counted_pages, \
                EXISTS (SELECT FROM used u JOIN pg_catalog.pg_class f ON f.oid = u.oid \
                        WHERE u.root = c.oid AND f.relkind = 'f'), \
                c.relkind NOT IN ('p', 'v'), \
                pg_catalog.pg_is_in_recovery() AND (s.unlogged OR EXISTS (SELECT FROM used u \
                   JOIN pg_catalog.pg_class f ON f.oid = u.oid WHERE u.root = c.oid AND f.relpersistence = 'u')), \
                pg_catalog.pg_is_in_recovery() AND c.relpersistence = 'u', \
                CASE WHEN c.relkind = 'r' AND s.members + s.foreign_members > 1 THEN {own_heap} END, \
                CASE WHEN c.relkind = 'r' AND s.members + s.foreign_members > 1 \
                     THEN (SELECT {toast} FROM pg_catalog.pg_class o WHERE o.oid = c.reltoastrelid) END, \
                CASE WHEN c.reltuples > 0 AND c.relpages > 0 THEN c.reltuples END, \
                CASE WHEN c.reltuples > 0 THEN c.relpages END \
         FROM sums s JOIN pg_catalog.pg_class c ON c.oid = s.root \
         LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam \
         WHERE pg_catalog.has_table_privilege(c.oid, 'SELECT') IS NOT NULL",
        heap = size("c"),
        own_heap = size("c"),
        toast = size("o"),
        read = is_read_child(version),
    )
}
