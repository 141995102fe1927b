//! The survey of a Greenplum database. The number of queries does not depend on the number of relations.
//!
//! Rows and pages are those of leaves: a root has none of its own. Each relation with files of its own is a leaf;
//! a relation without partitions is its own only leaf. Plain inheritance counts too: COPY of a parent reads only its own
//! rows, so its children are leaves beside it.

use std::collections::HashMap;

use tokio_postgres::SimpleQueryRow;

use super::super::catalogue::Sizes;
use super::super::catalogue::named_where;
use super::super::columns;
use super::super::connect::Connector;
use super::super::named::{Named, oid_array};
use super::super::quote::{ident, table};
use super::super::server::Greenplum;
use super::super::session::Session;
use super::answer;
use super::cluster::Cluster;
use super::divide::{Layout, SizedLeaf, Whole};
use super::piece::Leaf;
use crate::message::pattern::{TablePattern, qualified};
use crate::relation::{Facts, Relation, RelationKind, SurveyRequest, Unreadable};
use crate::source::SourceError;

/// Surveys all relations of the request.
pub(in super::super) async fn survey(
    session: &Session,
    connector: &Connector,
    server: Greenplum,
    request: &SurveyRequest,
    sizes: Sizes,
) -> Result<Vec<Relation>, SourceError> {
    let named = named(session, server, request).await?;
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let cluster = Cluster::read(session).await?;
    let no_retrieve = cluster.no_retrieve(connector).await;
    if let Some(why) = &no_retrieve {
        tracing::info!(
            reason = why,
            "rows cannot be retrieved from the segments; huge tables are queried instead"
        );
    }
    let oids = oid_array(named.iter().map(|n| n.oid));
    let mut members = members(session, server, &oids, sizes).await?;
    let roots = roots(session, server, &oids).await?;
    let names = request.statistics_for.as_slice();
    let mut columns = columns::survey(session, session.version(), &named, &oids, names).await?;
    let mut relations = Vec::new();
    for named in named {
        // A relation that was dropped meanwhile is left out.
        let Some(root) = roots.get(&named.oid) else { continue };
        let members = members.remove(&named.oid).ok_or_else(|| answer::strange("leaves"))?;
        let columns = columns.remove(&named.oid).unwrap_or_default();
        let found = Found { named, root, members, columns };
        relations.push(found.relation(&cluster, no_retrieve.as_deref()));
    }
    Ok(relations)
}

/// A relation of a tree that has files of its own, or rows elsewhere.
struct Member {
    oid: u32,
    leaf: Leaf,
    /// Whether it is an external or foreign table.
    is_external: bool,
    rows: f64,
    bytes: u64,
    readable: bool,
}

/// Facts of a relation itself.
struct Root {
    schema_usage: bool,
    select: bool,
    any_column: bool,
    populated: bool,
    distribution: Option<String>,
    is_replicated: bool,
    is_writable_external: bool,
    /// Whether it has generated columns, which COPY of a table does not take.
    has_generated: bool,
}

/// All that the catalogue says about a relation.
struct Found<'a> {
    named: Named,
    root: &'a Root,
    members: Vec<Member>,
    columns: columns::ColumnFacts,
}

impl Found<'_> {
    fn relation(self, cluster: &Cluster, no_retrieve: Option<&str>) -> Relation {
        let layout = self.layout(cluster, no_retrieve);
        let elsewhere = self.members.iter().any(|m| m.is_external);
        let (is_parent, contains) = (self.is_parent(), self.contains());
        let Self { named, root, members, columns } = self;
        let is_view = named.kind == RelationKind::View;
        let bytes = members.iter().map(|m| m.bytes).sum();
        let counted = members.iter().all(|m| m.rows > 0.0 || m.bytes == 0);
        let rows = members.iter().map(|m| m.rows.max(0.0)).sum::<f64>() as u64;
        let mut surveyed = columns.columns;
        for column in &mut surveyed {
            // Greenplum tables are split by leaf and segment, not by keys.
            column.order = None;
            // A child may lack a NOT NULL of its parent, and external tables do not enforce it.
            column.column.nullable |= is_parent || elsewhere;
        }
        let relation = Relation {
            unreadable: unreadable(&named, root, surveyed.len()),
            elsewhere: None,
            contains,
            alone: None,
            ways: None,
            has_own_rows: named.kind != RelationKind::Partitioned && !is_view,
            partial: None,
            foreign: elsewhere,
            estimated_rows: (!is_view && !elsewhere && counted).then_some(rows),
            bytes,
            heap_bytes: bytes,
            outdated: false,
            extent: None,
            primary_key: columns.primary_key,
            columns: surveyed,
            own: Some(Facts::of(layout)),
            schema: named.schema,
            name: named.name,
            kind: named.kind,
        };
        let alone = is_parent.then(|| Box::new(alone(&relation, named.oid, &members)));
        Relation { alone, ..relation }
    }

    /// Whether other tables inherit from it. Partitions do not count.
    fn is_parent(&self) -> bool {
        self.named.kind == RelationKind::Table && self.members.len() > 1
    }

    /// The tables that inherit from it.
    fn contains(&self) -> Vec<String> {
        if !self.is_parent() {
            return Vec::new();
        }
        let children = self.members.iter().filter(|m| m.oid != self.named.oid);
        children.map(|m| qualified(&m.leaf.schema, &m.leaf.name)).collect()
    }

    /// Why a query must read it as a whole; none if its leaves can be read.
    fn whole(&self) -> Option<Whole> {
        let external = self.members.iter().find(|m| m.is_external);
        let unreadable = self.members.iter().find(|m| !m.readable && m.oid != self.named.oid);
        match (self.named.kind, external, unreadable) {
            (RelationKind::View, ..) => Some(Whole::View),
            // It can neither be locked nor be read by COPY.
            (RelationKind::MaterializedView, ..) => Some(Whole::MaterializedView),
            (_, Some(_), _) if self.members.len() == 1 => Some(Whole::External),
            (_, Some(member), _) => Some(Whole::HasExternal(member.leaf.clone())),
            // The right to the root is enough for a query of the root.
            (_, None, Some(member)) if self.root.select => Some(Whole::HasUnreadable(member.leaf.clone())),
            _ => None,
        }
    }

    fn layout(&self, cluster: &Cluster, no_retrieve: Option<&str>) -> Layout {
        let own = Leaf { schema: self.named.schema.clone(), name: self.named.name.clone() };
        let whole = self.whole();
        let leaf =
            |m: &Member| SizedLeaf { leaf: m.leaf.clone(), rows: m.rows.max(0.0) as u64, bytes: m.bytes };
        let leaves = match whole {
            Some(_) => vec![SizedLeaf { leaf: own.clone(), rows: 0, bytes: 0 }],
            None => self.members.iter().map(leaf).collect(),
        };
        Layout {
            leaves,
            own,
            whole,
            no_copy: match self.root.has_generated {
                true => Some("a generated column"),
                // The segments would send texts as they are stored.
                false if !cluster.is_utf8 => Some("texts in another encoding than UTF-8"),
                false => None,
            },
            is_replicated: self.root.is_replicated,
            distribution: self.root.distribution.clone().unwrap_or_default(),
            segments: cluster.segments.iter().map(|s| s.id).collect(),
            no_retrieve: no_retrieve.map(str::to_owned),
        }
    }
}

/// A parent without the tables that inherit from it.
fn alone(relation: &Relation, oid: u32, members: &[Member]) -> Relation {
    let own = members.iter().find(|m| m.oid == oid);
    let (rows, bytes) = own.map_or((0.0, 0), |m| (m.rows, m.bytes));
    let estimated_rows = Some(rows.max(0.0) as u64);
    Relation { estimated_rows, bytes, heap_bytes: bytes, ..relation.clone() }
}

fn unreadable(named: &Named, root: &Root, columns: usize) -> Option<Unreadable> {
    let name = table(&named.schema, &named.name);
    let (why, remedy) = if !root.schema_usage {
        let grant = format!("grant it to the role: GRANT USAGE ON SCHEMA {} TO <role>", ident(&named.schema));
        (format!("no USAGE right on schema {}", named.schema), grant)
    } else if root.is_writable_external {
        ("it is a writable external table, which nobody can read".into(), "leave it out".into())
    } else if !root.select && !root.any_column && columns > 0 {
        ("no SELECT right".into(), format!("grant it to the role: GRANT SELECT ON {name} TO <role>"))
    } else if !root.populated {
        let why = "the materialized view is not populated";
        (why.into(), format!("fill it: REFRESH MATERIALIZED VIEW {name}"))
    } else {
        return None;
    };
    Some(Unreadable { why, remedy })
}

/// How SQL says whether `c` is a partition.
fn is_partition(server: Greenplum) -> &'static str {
    if server.has_partition_rules {
        "EXISTS (SELECT 1 FROM pg_catalog.pg_partition_rule p WHERE p.parchildrelid = c.oid)"
    } else {
        "c.relispartition"
    }
}

/// How SQL says whether `c` is the root of partitions.
fn is_root(server: Greenplum) -> &'static str {
    if server.has_partition_rules {
        "EXISTS (SELECT 1 FROM pg_catalog.pg_partition p WHERE p.parrelid = c.oid)"
    } else {
        "c.relkind = 'p'"
    }
}

/// How SQL says what `c` is: a `t`able with files of its own, e`x`ternal or foreign, a `v`iew, or `p`artitioned
/// without files of its own.
fn sort(server: Greenplum) -> &'static str {
    if server.has_relstorage {
        "CASE WHEN c.relkind = 'v' THEN 'v' WHEN c.relkind = 'f' OR c.relstorage = 'x' THEN 'x' ELSE 't' END"
    } else {
        "CASE WHEN c.relkind = 'v' THEN 'v' WHEN c.relkind = 'f' THEN 'x' WHEN c.relkind = 'p' THEN 'p' ELSE 't' END"
    }
}

async fn named(
    session: &Session,
    server: Greenplum,
    request: &SurveyRequest,
) -> Result<Vec<Named>, SourceError> {
    let exact: std::collections::HashSet<(String, String)> =
        request.tables.iter().filter_map(TablePattern::literal).collect();
    let patterns: Vec<&TablePattern> = request.tables.iter().filter(|p| p.literal().is_none()).collect();
    let partition = is_partition(server);
    let sql = format!(
        "SELECT c.oid, n.nspname, c.relname, {sort}, {partition}, {root}, c.relkind \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE {wanted} AND n.nspname <> 'gp_toolkit' ORDER BY n.nspname, c.relname",
        sort = sort(server),
        root = is_root(server),
        wanted = named_where(request, &format!("c.relkind IN ('r', 'p', 'm') AND NOT {partition}")),
    );
    let mut found = Vec::new();
    let take = |named: Named| {
        let by_name = exact.contains(&(named.schema.clone(), named.name.clone()));
        let may_match = matches!(
            named.kind,
            RelationKind::Table | RelationKind::Partitioned | RelationKind::MaterializedView
        );
        if by_name || may_match && patterns.iter().any(|p| p.matches(&named.schema, &named.name)) {
            found.push(named);
        }
    };
    answer::each(session, &sql, "relations", parse_named, take).await?;
    Ok(found)
}

fn parse_named(row: &SimpleQueryRow) -> Option<Named> {
    let kind = match (row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?) {
        ("v", ..) => RelationKind::View,
        (_, "t", ..) => RelationKind::Partition,
        (_, _, "t", _) => RelationKind::Partitioned,
        ("x", ..) => RelationKind::Foreign,
        (.., "m") => RelationKind::MaterializedView,
        _ => RelationKind::Table,
    };
    Some(Named { oid: row.get(0)?.parse().ok()?, schema: row.get(1)?.into(), name: row.get(2)?.into(), kind })
}

/// The members of each tree, in the order of their names: relations without children, and parents by plain
/// inheritance. Sizes are those of the last VACUUM or ANALYZE, because asking a file's size costs a message to
/// every segment; they are asked where nobody has counted yet. The size that the coordinator reports for a
/// replicated table is the sum of its copies.
async fn members(
    session: &Session,
    server: Greenplum,
    oids: &str,
    sizes: Sizes,
) -> Result<HashMap<u32, Vec<Member>>, SourceError> {
    let sql = format!(
        "WITH RECURSIVE tree(root, oid) AS ( \
           SELECT o, o FROM pg_catalog.unnest({oids}) o \
           UNION ALL \
           SELECT t.root, i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid) \
         SELECT DISTINCT t.root, c.oid, n.nspname, c.relname, {sort}, c.reltuples, \
                CASE WHEN c.relkind NOT IN ('r', 'm') THEN 0 \
                     WHEN c.relpages > 0 THEN c.relpages * pg_catalog.current_setting('block_size')::pg_catalog.int8 \
                     ELSE {size} / CASE WHEN p.policytype = 'r' THEN p.numsegments ELSE 1 END \
                END, \
                pg_catalog.has_table_privilege(c.oid, 'SELECT') \
                  AND pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE') \
         FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.oid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_catalog.gp_distribution_policy p ON p.localoid = c.oid \
         WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid) \
            OR NOT ({root}) AND NOT ({partition}) \
         ORDER BY t.root, n.nspname, c.relname",
        sort = sort(server),
        size = match sizes {
            Sizes::Now => "pg_catalog.pg_relation_size(c.oid)",
            Sizes::LastVacuum => "0",
        },
        root = is_root(server),
        partition = is_partition(server),
    );
    let mut members: HashMap<u32, Vec<Member>> = HashMap::new();
    let take = |(root, member): (u32, Option<Member>)| members.entry(root).or_default().extend(member);
    answer::each(session, &sql, "leaves", parse_member, take).await?;
    Ok(members)
}

/// The root of a tree, and a member with rows of its own if this is one.
fn parse_member(row: &SimpleQueryRow) -> Option<(u32, Option<Member>)> {
    let root = row.get(0)?.parse().ok()?;
    let sort = row.get(4)?;
    if sort == "p" {
        return Some((root, None));
    }
    let member = Member {
        oid: row.get(1)?.parse().ok()?,
        leaf: Leaf { schema: row.get(2)?.to_owned(), name: row.get(3)?.to_owned() },
        is_external: sort == "x",
        rows: row.get(5)?.parse().ok()?,
        // A table that was dropped since the snapshot has neither a size nor rights. It stays a member: its chunk
        // notices, and the table is planned again.
        bytes: row.get(6).map_or(Some(0), |bytes| bytes.parse().ok())?,
        readable: row.get(7) != Some("f"),
    };
    Some((root, Some(member)))
}

async fn roots(session: &Session, server: Greenplum, oids: &str) -> Result<HashMap<u32, Root>, SourceError> {
    let (writable, generated) = if server.has_relstorage {
        ("COALESCE((SELECT x.writable FROM pg_catalog.pg_exttable x WHERE x.reloid = c.oid), false)", "false")
    } else {
        (
            "EXISTS (SELECT 1 FROM pg_catalog.pg_foreign_table f \
                     WHERE f.ftrelid = c.oid AND 'is_writable=true' = ANY (f.ftoptions))",
            "EXISTS (SELECT 1 FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated <> '')",
        )
    };
    let sql = format!(
        "SELECT c.oid, pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE'), \
                pg_catalog.has_table_privilege(c.oid, 'SELECT'), \
                pg_catalog.has_any_column_privilege(c.oid, 'SELECT'), c.relispopulated, \
                pg_catalog.pg_get_table_distributedby(c.oid), p.policytype = 'r', \
                {writable}, {generated} \
         FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.gp_distribution_policy p ON p.localoid = c.oid \
         WHERE c.oid = ANY ({oids}) AND pg_catalog.has_table_privilege(c.oid, 'SELECT') IS NOT NULL"
    );
    let mut roots = HashMap::new();
    answer::each(session, &sql, "tables", parse_root, |(oid, root)| _ = roots.insert(oid, root)).await?;
    Ok(roots)
}

fn parse_root(row: &SimpleQueryRow) -> Option<(u32, Root)> {
    let yes = |i: usize| row.get(i) == Some("t");
    let root = Root {
        schema_usage: yes(1),
        select: yes(2),
        any_column: yes(3),
        populated: yes(4),
        distribution: row.get(5).filter(|text| !text.is_empty()).map(str::to_owned),
        is_replicated: yes(6),
        is_writable_external: yes(7),
        has_generated: yes(8),
    };
    Some((row.get(0)?.parse().ok()?, root))
}
