//! The survey: facts of all relations that a request means, in a constant
//! number of queries however many there are.

use std::collections::HashMap;

use tokio_postgres::SimpleQueryRow;

use super::chunk::HAS_TID_RANGE_SCAN;
use super::columns::{self, ColumnFacts};
use super::quote::{ident, table, texts};
use super::session::Session;
use super::sqlstate::{FROM_PRIMARY, Stage};
use crate::message::pattern::{TablePattern, qualified};
use crate::source::{Relation, RelationKind, SourceError, SurveyRequest, Unreadable};

/// What is asked, in messages.
pub(super) const WHAT: &str = "read the catalogue";
/// What policies do to a role.
const HIDDEN_ROWS: &str = "row-level security hides rows from the role of the source";
/// Growth since the last ANALYZE from which on its histograms say little of where rows are: what came later usually
/// lies beyond the last bound.
const OUTDATED: f64 = 1.25;
/// First version in which a partition may be detached without a lock.
const HAS_PENDING_DETACH: u32 = 140_000;
/// SQLSTATE of a lock that was not to be had.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// What a standby says of relations whose changes its primary does not log.
const UNLOGGED: &str = "the server is a standby, and it is unlogged, or a table that it reads is";

/// A relation that is meant.
pub(super) struct Named {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    kind: RelationKind,
}

/// Where sizes come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sizes {
    /// The files, now.
    Now,
    /// The last VACUUM or ANALYZE: where somebody holds a strong lock, asking
    /// for the size of the file would wait for it.
    LastVacuum,
}

/// Whether a failed survey is worth another try without touching the tables.
pub(super) fn was_locked(error: &SourceError, sizes: Sizes) -> bool {
    sizes == Sizes::Now && error.code == LOCK_NOT_AVAILABLE
}

/// Everything that the request means. `all_rows`: what helps where policies hide rows; none says that the
/// configuration asks for what row-level security leaves visible.
pub(super) async fn survey(
    session: &Session,
    version: u32,
    request: &SurveyRequest,
    sizes: Sizes,
    all_rows: Option<&str>,
) -> Result<Vec<Relation>, SourceError> {
    let named = named(session, request).await?;
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let oids = oid_array(named.iter().map(|n| n.oid));
    let facts = facts(session, version, &oids, sizes).await?;
    let mut columns = columns::survey(session, version, &named, &oids, &request.statistics_for).await?;
    let parents = named.iter().filter(|n| facts.get(&n.oid).is_some_and(|f| f.inheritors(n.kind)));
    let mut contained = contained(session, parents.map(|n| n.oid)).await?;
    Ok(named
        .into_iter()
        // Dropped while we looked: as if it had never been.
        .filter_map(|n| {
            let facts = facts.get(&n.oid)?;
            let columns = columns.remove(&n.oid).unwrap_or_default();
            let contains = contained.remove(&n.oid).unwrap_or_default();
            let alone = facts.inheritors(n.kind).then(|| {
                let relation = relation(&n, &facts.alone(), columns.alone(), version, all_rows);
                Box::new(Relation { contains: contains.clone(), ..relation })
            });
            let relation = relation(&n, facts, columns, version, all_rows);
            Some(Relation { contains, alone, ..relation })
        })
        .collect())
}

/// Which tables inherit from some, directly or not.
async fn contained(
    session: &Session,
    parents: impl Iterator<Item = u32>,
) -> Result<HashMap<u32, Vec<String>>, SourceError> {
    let parents = oid_array(parents);
    let mut contained: HashMap<u32, Vec<String>> = HashMap::new();
    if parents == oid_array(std::iter::empty()) {
        return Ok(contained);
    }
    let sql = format!(
        "WITH RECURSIVE tree AS (SELECT o AS root, o AS oid FROM pg_catalog.unnest({parents}) o \
                                 UNION SELECT t.root, i.inhrelid FROM tree t \
                                       JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid) \
         SELECT t.root, n.nspname, c.relname FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.oid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE t.oid <> t.root AND c.relpersistence <> 't' ORDER BY n.nspname, c.relname"
    );
    session
        .each(&sql, Stage::Question, WHAT, |row| {
            let root = row.get(0).and_then(|oid| oid.parse().ok());
            if let (Some(root), Some(schema), Some(name)) = (root, row.get(1), row.get(2)) {
                contained.entry(root).or_default().push(qualified(schema, name));
            }
        })
        .await?;
    Ok(contained)
}

fn relation(
    n: &Named,
    facts: &Facts,
    columns: ColumnFacts,
    version: u32,
    all_rows: Option<&str>,
) -> Relation {
    let has_pages = version >= HAS_TID_RANGE_SCAN
        && facts.heap
        && facts.members == 1
        && facts.foreign_members == 0
        && matches!(n.kind, RelationKind::Table | RelationKind::MaterializedView | RelationKind::Partition);
    let pages = facts.heap_bytes / facts.block_bytes.max(1);
    let foreign = n.kind == RelationKind::Foreign || facts.foreign_members > 0 || facts.reads_foreign;
    let mut surveyed = columns.columns;
    if foreign || n.kind == RelationKind::Table && facts.members > 1 {
        // Nobody enforces the NOT NULL of a foreign table, and a child may lack that of its parent.
        surveyed.iter_mut().for_each(|c| c.column.nullable = true);
    }
    Relation {
        unreadable: facts.unreadable(n, surveyed.len(), all_rows),
        elsewhere: facts.unlogged.then(|| Unreadable { why: UNLOGGED.into(), remedy: FROM_PRIMARY.into() }),
        contains: Vec::new(),
        alone: None,
        has_own_rows: facts.has_own_rows,
        partial: facts.hidden_rows.then(|| format!("{HIDDEN_ROWS}: what it sees is exported")),
        foreign,
        estimated_rows: facts.rows(n.kind),
        bytes: facts.heap_bytes + facts.toast_bytes,
        heap_bytes: facts.heap_bytes,
        outdated: facts.are_outdated(),
        pages: if has_pages { u32::try_from(pages).unwrap_or(u32::MAX) } else { 0 },
        primary_key: columns.primary_key,
        columns: surveyed,
        schema: n.schema.clone(),
        name: n.name.clone(),
        kind: n.kind,
    }
}

/// The relations that the patterns match. Schemas are compared by the server
/// where they are literal, wildcards here.
async fn named(session: &Session, request: &SurveyRequest) -> Result<Vec<Named>, SourceError> {
    let mut found = Vec::new();
    let exact: std::collections::HashSet<(String, String)> =
        request.tables.iter().filter_map(TablePattern::literal).collect();
    let patterns: Vec<&TablePattern> = request.tables.iter().filter(|p| p.literal().is_none()).collect();
    let sql = named_sql(request);
    session
        .each(&sql, Stage::Question, WHAT, |row| {
            let Some((named, own_kind, partition)) = parse_named(&row) else { return };
            let by_name = exact.contains(&(named.schema.clone(), named.name.clone()));
            let by_pattern = !partition
                && matches!(own_kind, "r" | "p" | "m")
                && patterns.iter().any(|p| p.matches(&named.schema, &named.name));
            if by_name || by_pattern {
                found.push(named);
            }
        })
        .await?;
    Ok(found)
}

fn parse_named(row: &SimpleQueryRow) -> Option<(Named, &'static str, bool)> {
    let partition = row.get(4) == Some("t");
    let (own_kind, kind) = match row.get(3)? {
        "r" if partition => ("r", RelationKind::Partition),
        "p" if partition => ("p", RelationKind::Partition),
        "r" => ("r", RelationKind::Table),
        "p" => ("p", RelationKind::Partitioned),
        "m" => ("m", RelationKind::MaterializedView),
        "v" => ("v", RelationKind::View),
        _ => ("f", RelationKind::Foreign),
    };
    let named =
        Named { oid: row.get(0)?.parse().ok()?, schema: row.get(1)?.into(), name: row.get(2)?.into(), kind };
    Some((named, own_kind, partition))
}

fn named_sql(request: &SurveyRequest) -> String {
    let exact: Vec<(String, String)> = request.tables.iter().filter_map(TablePattern::literal).collect();
    let mut wanted = Vec::new();
    if !exact.is_empty() {
        wanted.push(format!(
            "(n.nspname, c.relname) IN (SELECT * FROM ROWS FROM (pg_catalog.unnest({}), pg_catalog.unnest({})) w)",
            texts(exact.iter().map(|(s, _)| s.as_str())),
            texts(exact.iter().map(|(_, t)| t.as_str())),
        ));
    }
    let patterns: Vec<&TablePattern> = request.tables.iter().filter(|p| p.literal().is_none()).collect();
    if !patterns.is_empty() {
        let schemas: Option<Vec<String>> = patterns.iter().map(|p| p.literal_schema()).collect();
        let schemas = schemas
            .map(|s| format!(" AND n.nspname = ANY ({})", texts(s.iter().map(String::as_str))))
            .unwrap_or_default();
        wanted.push(format!("(c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition{schemas})"));
    }
    let allowed = if request.schemas.is_empty() {
        String::new()
    } else {
        format!(" AND n.nspname = ANY ({})", texts(request.schemas.iter().map(String::as_str)))
    };
    let wanted = if wanted.is_empty() { "false".to_owned() } else { wanted.join(" OR ") };
    // Names with pg_ belong to the system: catalogues, TOAST, temporary tables.
    format!(
        "SELECT c.oid, n.nspname, c.relname, c.relkind, c.relispartition \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'm', 'v', 'f') \
           AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'{allowed} \
           AND ({wanted}) \
         ORDER BY n.nspname, c.relname"
    )
}

/// What the catalogue knows of a relation, its partitions and children summed up.
#[derive(Clone, Default)]
struct Facts {
    schema_usage: bool,
    select: bool,
    any_column: bool,
    hidden_rows: bool,
    populated: bool,
    heap: bool,
    /// Relations with files of their own: the relation, its partitions and children.
    members: u32,
    foreign_members: u32,
    /// Whether it is a view that reads foreign tables.
    reads_foreign: bool,
    heap_bytes: u64,
    toast_bytes: u64,
    block_bytes: u64,
    /// Rows and pages where the last ANALYZE or VACUUM saw any.
    counted_rows: f64,
    counted_pages: f64,
    /// Whether it is none whose rows are its partitions' or another table's.
    has_own_rows: bool,
    /// Whether the server is a standby and has no rows of some relation that is read.
    unlogged: bool,
    own: Own,
}

/// What of the facts is of the relation itself.
#[derive(Clone, Copy, Default)]
struct Own {
    heap_bytes: u64,
    toast_bytes: u64,
    counted_rows: f64,
    counted_pages: f64,
    unlogged: bool,
}

impl Facts {
    /// Whether other tables inherit from it, which partitions do not.
    fn inheritors(&self, kind: RelationKind) -> bool {
        match kind {
            RelationKind::Table => self.members > 1 || self.foreign_members > 0,
            RelationKind::Foreign => self.members > 0 || self.foreign_members > 0,
            _ => false,
        }
    }

    /// Without the tables that inherit from it.
    fn alone(&self) -> Self {
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

    /// As the planner does it: rows per page as they were, times pages as they are.
    fn rows(&self, kind: RelationKind) -> Option<u64> {
        if matches!(kind, RelationKind::View | RelationKind::Foreign) || self.foreign_members > 0 {
            return None;
        }
        let pages = self.pages();
        if pages == 0.0 {
            return Some(0);
        }
        (self.counted_pages > 0.0).then(|| (self.counted_rows / self.counted_pages * pages).round() as u64)
    }

    fn pages(&self) -> f64 {
        self.heap_bytes as f64 / self.block_bytes.max(1) as f64
    }

    /// Whether the statistics were taken of a table that was much smaller.
    fn are_outdated(&self) -> bool {
        self.pages() > OUTDATED * self.counted_pages
    }

    fn unreadable(&self, named: &Named, columns: usize, all_rows: Option<&str>) -> Option<Unreadable> {
        let (schema, name) = (&named.schema, table(&named.schema, &named.name));
        let (why, remedy) = if !self.schema_usage {
            let grant = format!(
                "grant it to the role of the source: GRANT USAGE ON SCHEMA {} TO <role>",
                ident(schema)
            );
            (format!("no USAGE right on schema {schema}"), grant)
        } else if !self.select && !self.any_column && columns > 0 {
            (
                "no SELECT right".into(),
                format!("grant it to the role of the source: GRANT SELECT ON {name} TO <role>"),
            )
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

/// What of `pg_inherits`, as `i`, is a child that a query reads.
pub(super) fn is_read_child(version: u32) -> &'static str {
    if version >= HAS_PENDING_DETACH { " AND NOT i.inhdetachpending" } else { "" }
}

async fn facts(
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
                                                       AND c.relkind IN ('r', 'm')) AS counted_pages \
                    , pg_catalog.bool_or(c.relpersistence = 'u') AS unlogged \
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

/// `'{1,2}'::oid[]`.
pub(super) fn oid_array(oids: impl Iterator<Item = u32>) -> String {
    let list: Vec<String> = oids.map(|o| o.to_string()).collect();
    format!("'{{{}}}'::pg_catalog.oid[]", list.join(","))
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;
