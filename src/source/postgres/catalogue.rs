//! The survey: facts of all relations that a request names or matches. The number of queries does not depend
//! on the number of relations.

use std::collections::HashMap;

use tokio_postgres::SimpleQueryRow;

use super::columns::{self, ColumnFacts};
use super::named::{Named, WHAT, oid_array};
use super::pages;
use super::quote::texts;
use super::session::Session;
use super::slice::HAS_TID_RANGE_SCAN;
use super::sqlstate::{FROM_PRIMARY, Stage};
use crate::message::pattern::{TablePattern, qualified};
use crate::message::setting::ReadWay;
use crate::relation::{self, Extent, Numbered, Relation, RelationKind, SurveyRequest, Unreadable};
use crate::source::{Refusal, SourceError};

mod facts;

use facts::{Facts, HIDDEN_ROWS, facts};
pub(super) use facts::{Sizes, is_read_child};

/// Why a standby cannot read an unlogged table. The primary does not log its changes.
const UNLOGGED: &str = "the server is a standby, and the table, or one that it reads, is unlogged";

/// Whether the survey failed because of a lock, so that another try with sizes from the last VACUUM can
/// succeed.
pub(super) fn was_locked(error: &SourceError, sizes: Sizes) -> bool {
    sizes == Sizes::Now && error.refusal == Some(Refusal::Lock)
}

/// Surveys all relations of the request. `all_rows` is the remedy where policies hide rows; `None` if the
/// configuration accepts that row-level security hides rows.
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
    let mut pages = pages(session, version, &facts, &request.ways).await?;
    let mut columns = columns::survey(session, version, &named, &oids, &request.statistics_for).await?;
    let parents = named.iter().filter(|n| facts.get(&n.oid).is_some_and(|f| f.inheritors(n.kind)));
    let mut contained = contained(session, parents.map(|n| n.oid)).await?;
    Ok(named
        .into_iter()
        // A relation that was dropped meanwhile is left out.
        .filter_map(|n| {
            let facts = facts.get(&n.oid)?;
            let columns = columns.remove(&n.oid).unwrap_or_default();
            let contains = contained.remove(&n.oid).unwrap_or_default();
            let alone = facts.inheritors(n.kind).then(|| {
                let relation = relation(&n, &facts.alone(), columns.alone(), version, all_rows);
                Box::new(Relation {
                    contains: contains.clone(),
                    ways: pages.get(&n.oid).cloned(),
                    ..relation
                })
            });
            let relation = relation(&n, facts, columns, version, all_rows);
            Some(Relation { contains, alone, ways: pages.remove(&n.oid), ..relation })
        })
        .collect())
}

/// What decides whether tables are read by pages, of those that are large enough.
async fn pages(
    session: &Session,
    version: u32,
    facts: &HashMap<u32, Facts>,
    ways: &[ReadWay],
) -> Result<HashMap<u32, relation::Facts>, SourceError> {
    let careful = ways.contains(&ReadWay::Auto);
    if version < HAS_TID_RANGE_SCAN || !careful && !ways.contains(&ReadWay::Pages) {
        return Ok(HashMap::new());
    }
    let large = facts.iter().filter(|(_, facts)| facts.heap && pages::is_large(facts.pages()));
    let mut large: Vec<u32> = large.map(|(oid, _)| *oid).collect();
    large.sort_unstable();
    pages::survey(session, large, careful).await
}

/// Finds the tables that inherit from these tables, directly or not.
async fn contained(
    session: &Session,
    parents: impl Iterator<Item = u32>,
) -> Result<HashMap<u32, Vec<String>>, SourceError> {
    let parents: Vec<u32> = parents.collect();
    let mut contained: HashMap<u32, Vec<String>> = HashMap::new();
    if parents.is_empty() {
        return Ok(contained);
    }
    let parents = oid_array(parents.into_iter());
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
    // Reading `ctid` needs the right to the whole table. Rights to columns are not enough.
    let has_pages = version >= HAS_TID_RANGE_SCAN
        && facts.heap
        && facts.select
        && facts.members == 1
        && facts.foreign_members == 0
        && matches!(n.kind, RelationKind::Table | RelationKind::MaterializedView | RelationKind::Partition);
    let pages = (facts.heap_bytes / facts.block_bytes.max(1)).min(u32::MAX.into());
    let foreign = n.kind == RelationKind::Foreign || facts.foreign_members > 0 || facts.reads_foreign;
    let mut surveyed = columns.columns;
    if foreign || n.kind == RelationKind::Table && facts.members > 1 {
        // PostgreSQL does not enforce NOT NULL of a foreign table, and a child may lack a NOT NULL of its
        // parent.
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
        extent: (has_pages && pages > 0).then_some(Extent { of: Numbered::Pages, end: pages }),
        primary_key: columns.primary_key,
        columns: surveyed,
        own: None,
        ways: None,
        schema: n.schema.clone(),
        name: n.name.clone(),
        kind: n.kind,
    }
}

/// The relations that the patterns match. The server compares literal schemas. Wildcards are matched here.
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
    format!(
        "SELECT c.oid, n.nspname, c.relname, c.relkind, c.relispartition \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE {} ORDER BY n.nspname, c.relname",
        named_where(request, "c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition")
    )
}

/// The condition on `pg_class` (`c`) and `pg_namespace` (`n`) for relations that the request names or may
/// match. `may_match` is the condition for the latter.
pub(super) fn named_where(request: &SurveyRequest, may_match: &str) -> String {
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
        wanted.push(format!("({may_match}{schemas})"));
    }
    let allowed = if request.schemas.is_empty() {
        String::new()
    } else {
        format!(" AND n.nspname = ANY ({})", texts(request.schemas.iter().map(String::as_str)))
    };
    let wanted = if wanted.is_empty() { "false".to_owned() } else { wanted.join(" OR ") };
    // Names that begin with pg_ belong to the system: catalogues, TOAST, temporary tables.
    format!(
        "c.relkind IN ('r', 'p', 'm', 'v', 'f') \
           AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'{allowed} \
           AND ({wanted})"
    )
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;
